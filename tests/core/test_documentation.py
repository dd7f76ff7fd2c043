"""The documentation: its tables are what the code says, and its links lead somewhere."""

from pathlib import Path
import re
import shlex

import pytest
from univseg_core.cli import parse

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')])
FENCED = re.compile(r'^```.*?^```', re.DOTALL | re.MULTILINE)


def test_no_table_is_stale(tables):
    assert tables.stale(tables.CORE) == []


def test_a_table_that_the_code_has_left_behind_is_named_and_written(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, 'ROOT', tmp_path)
    page = tmp_path / 'page.md'
    page.write_text('one\n<!-- generated: reasons -->\nold\n<!-- end -->\n'
                    '<!-- generated: recipes -->\nkept\n<!-- end -->\nlast\n', encoding='utf-8')
    some = {'reasons': lambda: 'new\n', 'variants': lambda: 'other\n'}
    expected = ['page.md: reasons', 'variants: stands in no page']
    assert tables.stale(some) == expected
    assert 'old' in page.read_text(encoding='utf-8')
    assert tables.stale(some, write=True) == expected
    assert page.read_text(encoding='utf-8') == (
        'one\n<!-- generated: reasons -->\nnew\n<!-- end -->\n'
        '<!-- generated: recipes -->\nkept\n<!-- end -->\nlast\n')
    assert tables.stale(some) == expected[1:]


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = FENCED.sub('', page.read_text(encoding='utf-8'))
    headings = re.findall(r'^#+ (.*)', text, re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_and_a_heading_leads_there(page):
    links = re.findall(r'\]\(([^()\s]+)\)', FENCED.sub('', page.read_text(encoding='utf-8')))
    for link in links:
        if not link.startswith(('http:', 'https:')):
            path, _, anchor = link.partition('#')
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def commands(page):
    """Return the command lines of univseg in a page's code blocks, as lists of arguments."""
    text = page.read_text(encoding='utf-8')
    lines = '\n'.join(FENCED.findall(text)).replace('\\\n', ' ').splitlines()
    words = [shlex.split(line.strip().removeprefix('$ '), comments=True) for line in lines
             if re.match(r'(\$ )?(\w+=\S+ )*univseg ', line)]
    return [[word for word in line[line.index('univseg') + 1:] if not word.startswith('$')]
            for line in words]  # without variables, which stand for settings


@pytest.mark.parametrize('page', [page for page in PAGES if commands(page)],
                         ids=lambda page: page.name)
def test_every_command_line_is_one(page):
    for arguments in commands(page):
        parse(arguments)


def test_every_page_that_the_code_names_is_there():
    for folder in ('univseg_core', 'univseg_ros', 'config', 'launch', 'benchmarks', 'tests'):
        for file in sorted((ROOT / folder).rglob('*.*')):
            if file.suffix in ('.py', '.yaml', '.xml'):
                for name in re.findall(r'\bdocs/[\w/]+\.md', file.read_text(encoding='utf-8')):
                    assert (ROOT / name).exists(), f'{file}: {name}'
