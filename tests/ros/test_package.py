"""What the package declares and ships, against what it uses and does."""

import ast
import itertools
from pathlib import Path
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from univseg_core.demo.scenes.worlds import WORLDS
import yaml

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / 'config' / 'ros'
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()

KEYS = {'PIL': 'python3-pil', 'cv2': 'python3-opencv', 'numpy': 'python3-numpy',
        'pytest': 'python3-pytest', 'tqdm': 'python3-tqdm', 'yaml': 'python3-yaml'}
"""The rosdep keys of modules that are no ROS packages."""

FROM_PIP = {'torch', 'torchvision', 'timm', 'safetensors', 'rosbags', 'onnx'}
"""What rosdep has no key for, or only an old version; docs/ros.md says how to install it."""


@pytest.fixture
def setup_arguments(monkeypatch):
    """Return what setup.py gives to setuptools."""
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr('setuptools.setup', lambda **arguments: given.update(arguments))
    runpy.run_path('setup.py')
    return given


def test_setup_py_and_package_xml_agree(setup_arguments):
    maintainer = MANIFEST.find('maintainer')
    assert {name: setup_arguments[name] for name in
            ('name', 'version', 'license', 'maintainer', 'maintainer_email')} == {
        'name': MANIFEST.findtext('name'), 'version': MANIFEST.findtext('version'),
        'license': MANIFEST.findtext('license'), 'maintainer': maintainer.text,
        'maintainer_email': maintainer.get('email')}


def imports(*folders):
    """Return the names of the packages that Python files import, less Python's and our own."""
    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob('*.py')):
        own = {'measured_node', *(module.stem for folder in (path.parent, ROOT / 'tests')
                                  for module in folder.glob('*.py'))}
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                found = {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found = {node.module.split('.')[0]}
            else:
                continue
            names |= found - own
    return names - sys.stdlib_module_names - {'univseg_core', 'univseg_ros'}


@pytest.mark.parametrize(('folders', 'kinds'), [
    (('univseg_ros', 'launch'), ['exec_depend']),
    (('tests/ros',), ['exec_depend', 'test_depend']),
])
def test_what_is_imported_is_a_dependency_in_package_xml(folders, kinds):
    declared = {element.text for kind in kinds for element in MANIFEST.findall(kind)}
    used = {KEYS.get(name, name) for name in imports(*folders) - FROM_PIP}
    assert {'rclpy', 'python3-numpy'} <= used
    assert used <= declared


def test_all_launch_and_configuration_files_are_installed(setup_arguments):
    installed = dict(setup_arguments['data_files'])
    for folder in ('launch', 'config/ros'):
        files = [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).iterdir())
                 if path.is_file()]
        assert len(files) >= 3
        assert installed[f'share/univseg_ros/{folder}'] == files
    assert installed['share/ament_index/resource_index/packages'] == ['resource/univseg_ros']
    assert (ROOT / 'resource' / 'univseg_ros').is_file()


def test_the_changelog_has_the_form_that_release_tools_read():
    text = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    bar, title, _, blank, *lines = text.splitlines()
    assert (bar, title, blank) == ('^' * len(title), 'Changelog for package univseg_ros', '')
    headings = [(heading, line) for heading, line in itertools.pairwise(lines)
                if set(line) == {'-'}]
    assert headings
    for heading, line in headings:
        assert re.fullmatch(r'Forthcoming|\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)', heading)
        assert len(line) == len(heading)


def test_the_dds_profile_holds_many_large_images_in_shared_memory():
    namespace = '{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}'
    profile = ElementTree.parse(SHIPPED / 'fastdds_large_images.xml').getroot()
    transports = {transport.findtext(f'{namespace}transport_id'): transport
                  for transport in profile.iter(f'{namespace}transport_descriptor')}
    participant = next(profile.iter(f'{namespace}participant'))
    used = participant.find(f'{namespace}rtps/{namespace}userTransports')
    assert participant.get('is_default_profile') == 'true'
    assert participant.findtext(f'{namespace}rtps/{namespace}useBuiltinTransports') == 'false'
    assert [element.text for element in used] == list(transports)
    kinds = {transport.findtext(f'{namespace}type'): transport
             for transport in transports.values()}
    assert set(kinds) == {'SHM', 'UDPv4'}
    assert int(kinds['SHM'].findtext(f'{namespace}segment_size')) >= 8 * 1280 * 720 * 3
    period = next(participant.iter(f'{namespace}leaseAnnouncement'))
    assert [(part.tag.removeprefix(namespace), part.text) for part in period] == [
        ('sec', '1'), ('nanosec', '0')]


@pytest.mark.parametrize('name', WORLDS)
def test_the_nav2_example_feeds_what_the_node_publishes(name):
    document = yaml.safe_load((SHIPPED / 'nav2_semantic_segmentation.yaml').read_text())
    costmap = document['local_costmap']['local_costmap']['ros__parameters']
    assert set(costmap['plugins']) <= costmap.keys()
    layer = costmap['semantic_segmentation_layer']
    assert name in layer['observation_sources'].split()
    source = layer[name]
    topics = {kind: source[f'{kind}_topic'] for kind in ('segmentation', 'confidence', 'labels')}
    assert topics == {'segmentation': f'/univseg/{name}/mask',
                      'confidence': f'/univseg/{name}/confidence',
                      'labels': f'/univseg/{name}/label_info'}
    # The layer complains of a class that label_info names and that it does not know.
    named = [class_ for kind in source['class_types'] for class_ in source[kind]['classes']]
    assert sorted(named) == sorted(WORLDS[name].classes)
    for kind in source['class_types']:
        assert 0 <= source[kind]['base_cost'] <= source[kind]['max_cost'] <= 254


@pytest.mark.parametrize('linter', ['flake8', 'pep257', 'xmllint'])
def test_ros_own_lints_find_nothing(linter, capfd):
    lint = pytest.importorskip(f'ament_{linter}.main', reason='needs a ROS 2 distribution')
    paths = [str(ROOT / name) for name in
             ('univseg_core', 'univseg_ros', 'launch', 'tests', 'setup.py')]
    if linter == 'xmllint':
        paths = [str(ROOT / 'package.xml'), str(SHIPPED)]
    assert lint.main(argv=paths) == 0, capfd.readouterr().out


def test_without_ros_the_package_says_what_is_missing():
    code = ('from importlib import util\n'
            'find = util.find_spec\n'
            'util.find_spec = lambda name: None if name == "rclpy" else find(name)\n'
            'import univseg_ros.segmentation_node')
    process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                             check=False)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(
        'ModuleNotFoundError: univseg_ros needs ROS 2 (rclpy): source')


def test_the_installation_beside_a_distribution_has_the_constraints():
    text = (ROOT / 'docs' / 'ros.md').read_text(encoding='utf-8').replace('\\\n', '')
    lines = re.findall(r'^pip install .*(?:torch|onnxruntime)>=.*$', text, re.MULTILINE)
    assert len(lines) == 2
    assert all('-c src/univseg/constraints-ros.txt' in line for line in lines)
