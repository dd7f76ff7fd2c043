"""Files of the project that others read: how to cite it, and what a bug report is asked for."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / '.github' / 'ISSUE_TEMPLATE'


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert {'cff-version', 'message', 'title', 'authors', 'version', 'license'} <= set(citation)
    (setup,) = (node for node in ast.walk(ast.parse((ROOT / 'setup.py').read_text()))
                if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'setup')
    given = {each.arg: each.value for each in setup.keywords}
    assert citation['version'] == given['version'].value
    assert citation['license'] == given['license'].value
    paper = citation['preferred-citation']
    assert paper['year'] == 2019
    assert [author['family-names'] for author in paper['authors']] == [
        'Kalluri', 'Varma', 'Chandraker', 'Jawahar']


@pytest.mark.parametrize('path', sorted(TEMPLATES.glob('*.yml')), ids=lambda path: path.name)
def test_templates_are_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding='utf-8')), dict)


def test_a_bug_report_asks_for_what_the_doctor_says():
    form = yaml.safe_load((TEMPLATES / 'bug.yml').read_text(encoding='utf-8'))
    assert {'name', 'description', 'body'} <= set(form)
    fields = {each['id']: each for each in form['body'] if each['type'] != 'markdown'}
    assert len(fields) == len(form['body']) - 1
    assert 'univseg doctor --json' in fields['doctor']['attributes']['label']
    assert fields['doctor']['validations']['required'] is True
    assert all(each['attributes']['label'] for each in fields.values())
