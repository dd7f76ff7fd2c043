"""The documentation: tables, links and commands are what the code says, and the site is built."""

import ast
import builtins
from copy import deepcopy
import importlib
from itertools import pairwise
import json
from pathlib import Path
import re

from documented import all_commands, blocks, PAGES, ROOT
import pytest
from univseg_core.cli import parse
from univseg_core.research.settings import ExperimentSection
from univseg_core.settings.config import RunConfig
from univseg_core.settings.file import checked, ConfigError, override_setting, read_settings
from univseg_core.settings.kinds import FILES_NEEDED, FOLDERS_NEEDED
import yaml

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


PROGRAMS = ('univseg', 'ros2', 'make', 'pip', 'python', 'python3', 'segmentation_node',
            'bag_recorder', 'image_player', 'mask_viewer')
"""Whose commands are looked at, here or in tests/ros/test_docs.py."""

OTHERS = {
    '.', '[', 'cat', 'cd', 'docker', 'eval', 'export', 'git', 'jq', 'kill', 'label-studio',
    'labelme', 'mkdir',
    'of_labelme/bin/pip', 'of_labelme/bin/python', 'pre-commit', 'rosdep', 'rviz2', 'scp',
    'ssh', 'sudo', 'taskset', 'tensorboard', 'torchrun', 'touch', 'wait'}
"""What is no part of this package."""


def test_every_command_is_looked_at_or_of_another_program():
    assert {command.words[0] for command in all_commands()} <= {*PROGRAMS, *OTHERS}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_no_command_stands_in_a_block_that_is_not_of_commands(page):
    for text in blocks(page, ''):
        for line in text.splitlines():
            assert line.split(' ')[0] not in ('$', *PROGRAMS), f'{line}: write ```sh'


PLACE = {'classes': ['ground', 'person'], 'train': {'images': 'a', 'labels': 'b'},
         'validation': {'images': 'c', 'labels': 'd'}}
"""A domain, as a configuration has it."""


def check_settings(settings, recipe=''):
    """Raise ConfigError unless a configuration takes all of these (KEY=VALUE) at once."""
    values = {'domains': {'yard': {}}}
    if recipe.startswith('train/'):  # one that ships
        values = read_settings(recipe, 'train')[1]
    values['domains'] = {name: deepcopy(PLACE) for name in values['domains']}
    for setting in settings:
        if named := re.match(r'domains\.(\w+)', setting):
            values['domains'].setdefault(named[1], deepcopy(PLACE))
        override_setting(values, setting)
    check_configuration(values)


def check_configuration(values):
    """Raise ConfigError unless this is a configuration, whose files need not be there."""
    checked(RunConfig, values, Path('my.yaml'), {FILES_NEEDED: False, FOLDERS_NEEDED: False})


@pytest.mark.parametrize('command', all_commands('univseg'), ids=str)
def test_every_command_line_is_one_and_has_settings_that_there_are(command):
    options = parse([word for word in command.words[1:] if not word.startswith('$')
                     and word != '…'])  # variables stand for settings
    settings = getattr(options, 'overrides', [])
    if options.command == 'experiment':
        own = [setting for setting in settings if '.' not in setting.partition('=')[0]]
        for setting in own:
            assert setting.partition('=')[0] in ExperimentSection.model_fields
        settings = [setting for setting in settings if setting not in own]
    check_settings(settings, getattr(options, 'config', None) or '')


def test_what_is_wrong_with_a_setting_is_seen():
    for setting in ('training.step=5', 'training.steps=many', 'domains.hall.label=5'):
        with pytest.raises(ConfigError):
            check_settings([setting])


@pytest.mark.parametrize('command', all_commands('make', 'pip', 'python', 'python3'), ids=str)
def test_what_other_commands_name_is_there(command):
    program, *words = command.words
    if program == 'make':
        targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
        assert set(words) <= set(targets)
    elif program == 'pip':
        assert words[0] == 'install'
        known = re.findall(r"^        '(\w+)': ", (ROOT / 'setup.py').read_text(), re.MULTILINE)
        for extras in re.findall(r'\.\[([\w,]+)\]', ' '.join(words)):
            assert set(extras.split(',')) <= set(known)
        for file in re.findall(r'src/univseg/(\S+)', ' '.join(words)):
            assert (ROOT / file).is_file()
    elif words[0] == '-c':
        compile(words[1], str(command), 'exec')
    elif words[:2] == ['-m', 'pytest']:
        assert all((ROOT / word).exists() for word in words if word.startswith('tests'))
    elif words[0] == '-m' and words[1].startswith('univseg_core.'):
        importlib.import_module(words[1])
    elif words[0].endswith('.py'):
        text = (ROOT / words[0]).read_text(encoding='utf-8')
        for option in filter(re.compile('--[a-z]').match, words):
            assert f"'{option}'" in text, option
        if settings := [word for word in words if re.match(r'[a-z]\w*\.\w+=', word)]:
            check_settings(settings)
    else:
        assert words == ['-'] or words[:2] in (['-m', 'venv'], ['-m', 'colcon'])


@pytest.mark.parametrize('command', all_commands('ros2', 'segmentation_node', 'bag_recorder'),
                         ids=str)
def test_what_commands_of_ros_name_is_there(command):
    words = [word for word in command.words if word != '…']
    if words[:2] == ['ros2', 'run']:
        assert words[2] != 'univseg_ros' or words[3] in EXECUTABLES
        words = words[3:]
    if words[:3] == ['ros2', 'launch', 'univseg_ros']:
        text = (ROOT / 'launch' / words[3]).read_text(encoding='utf-8')
        if 'segmentation.launch.py' in text:
            text += (ROOT / 'launch' / 'segmentation.launch.py').read_text(encoding='utf-8')
        for name in (word.partition(':=')[0] for word in words[4:]):
            assert f"'{name}'" in text, name
    elif words[:3] == ['ros2', 'param', 'set']:
        assert f"'{words[4]}': " in parameters(words[3])
    elif words[0] in NODES:
        for before, word in pairwise(words):
            name, given, _ = word.partition(':=')
            if before == '-p' and not name.startswith('qos_overrides.'):
                name = name.rpartition('.')[2]  # behind a camera
                assert given and f"'{name}': " in parameters(words[0]), name
    elif words[0] == 'ros2':
        assert words[1] in ('bag', 'launch', 'lifecycle', 'service', 'topic')


NODES = {'segmentation_node': 'parameters', 'univseg': 'parameters',
         'bag_recorder': 'recorder_parameters'}
"""The modules of the parameters, by what is called so: an executable, a node."""

EXECUTABLES = ('segmentation_node', 'bag_recorder', 'image_player', 'mask_viewer')


def parameters(node):
    """Return the text of the module that has the parameters of a node."""
    return (ROOT / 'univseg_ros' / f'{NODES[node.strip("/")]}.py').read_text(encoding='utf-8')


@pytest.mark.parametrize('page', [page for page in PAGES if blocks(page, 'yaml')],
                         ids=lambda page: page.name)
def test_every_configuration_of_a_page_is_one(page, monkeypatch):
    for text in blocks(page, 'yaml'):
        values = yaml.safe_load(text)
        if 'domains' in values:
            for name, section in values['domains'].items():
                if isinstance(section.get('classes'), str):  # a file, which is not there
                    del section['classes']
                if 'dataset' not in section:  # what the page leaves out
                    values['domains'][name] = deepcopy(PLACE) | section
            for variable in re.findall(r'\$\{(\w+)\}', text):
                monkeypatch.setenv(variable, '/nowhere')
            check_configuration(values)


FRAGMENTS = {'IncludeLaunchDescription', 'PathJoinSubstitution', 'FindPackageShare', 'os',
             'PythonLaunchDescriptionSource', 'get_package_share_directory'}
"""What examples leave to the launch file that they are put into."""


@pytest.mark.parametrize('page', [page for page in PAGES if blocks(page, 'python')],
                         ids=lambda page: page.name)
def test_every_name_in_a_python_block_is_one(page):
    known = {*dir(builtins), *FRAGMENTS, '__file__'}
    for text in blocks(page, 'python'):
        nodes = list(ast.walk(ast.parse(text)))
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module.startswith('univseg_core'):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), node.module
            if isinstance(node, ast.Import | ast.ImportFrom):
                known |= {(alias.asname or alias.name).partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                known |= {node.name}
            elif isinstance(node, ast.arg):
                known |= {node.arg}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known |= {node.id}
        assert {node.id for node in nodes if isinstance(node, ast.Name)} <= known


def test_every_error_that_troubleshooting_quotes_is_one():
    page = (ROOT / 'docs' / 'troubleshooting.md').read_text(encoding='utf-8')
    sources = [path.read_text(encoding='utf-8') for folder in ('univseg_core', 'univseg_ros')
               for path in sorted((ROOT / folder).rglob('*.py'))]
    sources.append((ROOT / 'Makefile').read_text(encoding='utf-8'))
    text = re.sub(r'(?:\\n)?[\'"]\n\s*f?[\'"]', '', '\n'.join(sources))  # strings that go on
    quoted = [quote for row in re.findall(r'^\| (?!what |--)(.*?) \|', page, re.MULTILINE)
              for quote in re.findall('`(.*?)`', row) if ' ' in quote]
    assert len(quoted) > 40
    for quote in quoted:
        for part in re.split('…|/usr/bin/python3|5 s', quote):
            assert part.strip(' ():') in text, quote


def test_every_page_is_in_the_site_and_in_its_index():
    site = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')
    index = (ROOT / 'docs' / 'index.md').read_text(encoding='utf-8')
    for page in PAGES:
        if page.parent != ROOT:
            name = str(page.relative_to(ROOT / 'docs'))
            assert f': {name}\n' in site, name
            assert f'({name})' in index or '/' in name or name == 'index.md', name


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip('material', reason="needs mkdocs-material: pip install '.[docs]'")
    config = importlib.import_module('mkdocs.config').load_config(
        str(ROOT / 'mkdocs.yml'), site_dir=str(tmp_path), strict=True)
    importlib.import_module('mkdocs.commands.build').build(config)  # raises Abort
    for page in tmp_path.rglob('*.html'):
        text = page.read_text(encoding='utf-8')
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="?(\w+://[^" >]+)', text)
        loaded += re.findall(r'<link[^>]* href="?(\w+://[^" >]+)', text)
        assert not loaded, f'{page.name} asks {loaded}'
    index = json.loads((tmp_path / 'search' / 'search_index.json').read_text(encoding='utf-8'))
    assert {'tutorial.html', 'commands.html'} <= {each['location'] for each in index['docs']}


def test_every_page_that_the_code_names_is_there():
    for folder in ('univseg_core', 'univseg_ros', 'config', 'launch', 'benchmarks', 'tests'):
        for file in sorted((ROOT / folder).rglob('*.*')):
            if file.suffix in ('.py', '.yaml', '.xml'):
                for name in re.findall(r'\bdocs/[\w/]+\.md', file.read_text(encoding='utf-8')):
                    assert (ROOT / name).exists(), f'{file}: {name}'


ARCHITECTURE = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')


def test_the_rooms_stand_in_the_order_in_which_they_may_import_one_another():
    of_core = ARCHITECTURE.partition('\nunivseg_core/')[2].partition('\nunivseg_ros/')[0]
    rooms = dict.fromkeys(re.findall(r'^  (\w+)(?:/|\.py)', of_core, re.MULTILINE))
    settings = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    layers = settings.partition('\nlayers = [')[2].partition(']')[0]
    assert [*rooms] == re.findall(r'"(\w+)"', layers)[::-1]


def test_every_module_is_in_the_list():
    a_module_each = {'commands', 'layouts', 'plots'}
    modules = {path.name for package in ('univseg_core', 'univseg_ros')
               for path in (ROOT / package).rglob('[!_]*.py')
               if path.parent.name not in a_module_each}
    assert modules <= set(re.findall(r'\w+\.py', ARCHITECTURE))
