"""`univseg doctor`: what it finds of machines that are made up here, and what it says."""

import ast
from importlib import metadata
import json
from pathlib import Path
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from univseg_core.cli import main
from univseg_core.doctor import examination, of_machine, of_packages, of_ros, probes
from univseg_core.doctor.examination import CHECKS, Examination, examine, STATUS
from univseg_core.doctor.finding import BOTH, Check, Facts, Finding
from univseg_core.doctor.probes import Imported, MARK
from univseg_core.inference.backends import BACKENDS
from univseg_core.machine import gpus
from univseg_core.machine.gpus import Gpu

ROOT = Path(__file__).parents[2]

GOOD = {
    'torch': {'version': '2.9.0', 'cuda': None, 'cuda_usable': False, 'gpus': [], 'mps': False,
              'weights': {'efficientnet_lite0': '/w.pth'}},
    'onnxruntime': {'version': '1.20.0', 'providers': ['CPUExecutionProvider'], 'tensorrt': None},
    'openvino': {'version': '2025.1', 'devices': ['CPU']},
    'cv2': {'version': '4.10.0', 'gui': 'QT5'}, 'rclpy': {'middleware': 'rmw_fastrtps_cpp'}}


OF_THE_COMMAND = ('univseg_core.doctor', 'univseg_core.cli', 'univseg_core.commands')


def facts(environ=(), **imports):
    """Return facts of a machine with everything, but for what is given: facts, error or None."""
    said = {name: Imported(True, '', values) for name, values in GOOD.items()}
    for name, value in imports.items():
        said[name] = (Imported() if value is None else Imported(True, value)
                      if isinstance(value, str) else Imported(True, '', GOOD[name] | value))
    return Facts(dict(environ), said)


@pytest.fixture
def no_driver(monkeypatch):
    monkeypatch.setattr(gpus, 'cuda_gpus', list)


@pytest.fixture
def imports(monkeypatch):
    """Return what is said of imports, to be changed; no process is started."""
    said = dict(facts().imports)
    monkeypatch.setattr(examination, 'import_all', lambda: said)
    return said


def test_every_check_finds_something_here(imports):
    found = examine(environ={}).findings
    assert [check for check, _ in found] == list(CHECKS)
    for check, finding in found:
        assert finding.level in ('ok', 'warn', 'bad')
        assert finding.says, check.name
        assert 'could not be looked at' not in finding.says
        assert finding.level == 'ok' or finding.fix, f'{check.name}: no fix'


def test_names_of_checks_do_not_repeat_and_what_stops_something_can_be_bad():
    assert set(BACKENDS) <= set(probes.PROBES)
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for purpose in BOTH:
        assert any(purpose in check.needed_for for check in CHECKS)


@pytest.mark.parametrize(('bad_for', 'status'), [
    ((), 0), (('training',), 3), (('node',), 4), (BOTH, 5)])
def test_the_exit_status_says_what_will_run(bad_for, status):
    found = Examination([(Check('a', '', None, bad_for), Finding('bad', 'x', 'y')),
                         (Check('b', '', None, BOTH), Finding('warn', 'x', 'y'))])
    assert found.status == status
    assert found.obstacles('training') == (['a'] if 'training' in bad_for else [])
    assert len(set(STATUS.values())) == 4


def test_what_is_missing_or_breaks_a_check_is_a_finding(imports):
    def broken(_):
        raise RuntimeError('a strange machine')

    def lacking(_):
        raise ModuleNotFoundError('no numpy', name='numpy')

    found = examine([Check('one', '', broken, BOTH), Check('two', '', lacking, ('node',))], {})
    (_, one), (_, two) = found.findings
    assert (one.level, two.level) == ('warn', 'bad')
    assert 'a strange machine' in one.says
    assert two.says == 'cannot be looked at without the package numpy'
    assert found.status == 4


def test_it_runs_with_nothing_installed(monkeypatch, capsys, no_driver):
    """With Python alone: what univseg imports of others is not there."""
    nothing = {name: Imported() for name in probes.PROBES}
    monkeypatch.setattr(examination, 'import_all', lambda: nothing)
    monkeypatch.setattr(of_packages, 'version_of', lambda package: None)
    for module in ('numpy', 'cv2', 'torch', 'tqdm', 'threadpoolctl', 'yaml', 'PIL'):
        monkeypatch.setitem(sys.modules, module, None)
    for module in list(sys.modules):
        if module.startswith('univseg_core.'):
            parent, _, leaf = module.rpartition('.')
            monkeypatch.setattr(sys.modules[parent], leaf, sys.modules[module])  # back in the end
    for module in [name for name in sys.modules if name.startswith('univseg_core.')
                   and not name.startswith(OF_THE_COMMAND)]:
        monkeypatch.delitem(sys.modules, module)
    assert main(['doctor', '--json']) == 5
    said = json.loads(capsys.readouterr().out)
    assert (said['training'], said['node']) == (False, False)
    level = {each['name']: each['level'] for each in said['findings']}
    assert level['torch'] == level['ros'] == level['opencv'] == level['backends'] == 'bad'
    assert level['python'] == 'bad'


def test_the_command_tells_fixes_and_ends_with_the_status(imports, capsys, monkeypatch):
    monkeypatch.setattr(of_packages, 'unmet', lambda extra: [])
    monkeypatch.delenv('ROS_DOMAIN_ID', raising=False)
    imports['rclpy'] = Imported()
    assert main(['doctor']) == 4
    printed = capsys.readouterr().out
    assert 'a training will run here' in printed
    assert 'the node will not run here: ros' in printed
    assert '\033' not in printed
    assert re.search(r'^bad +ros +.*\n +→ (pip install|source)', printed, re.MULTILINE)
    assert main(['doctor', '--json']) == 4
    said = json.loads(capsys.readouterr().out)
    assert said['node'] is False
    assert {'name', 'looks_at', 'level', 'says', 'fix', 'needed_for', 'facts'} == set(
        said['findings'][0])


@pytest.mark.parametrize(('terminal', 'environ', 'coloured'), [
    (True, {'TERM': 'xterm'}, True), (False, {'TERM': 'xterm'}, False),
    (True, {'TERM': 'dumb'}, False), (True, {'TERM': 'xterm', 'NO_COLOR': '1'}, False)])
def test_colours_are_for_terminals_alone(imports, monkeypatch, capsys, terminal, environ,
                                         coloured):
    for name in ('TERM', 'NO_COLOR'):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: terminal)
    main(['doctor'])
    assert ('\033[32mok  \033[0m' in capsys.readouterr().out) is coloured


# --- packages ---

def test_requirements_are_read_with_their_extras_and_lowest_versions(monkeypatch):
    lines = ['numpy>=1.26', 'torch>=2.6; extra == "train"', 'x; python_version < "3.0"',
             "a.b_c<2.7,>=2.6.6; extra == 'ros'", 'ros-rclpy[fastrtps]==7.1.*; extra == "ros"']
    monkeypatch.setattr(metadata, 'requires', lambda name: lines)
    assert of_packages.needs() == [
        ('', 'numpy', (1, 26)), ('train', 'torch', (2, 6)), ('ros', 'a.b_c', (2, 6, 6)),
        ('ros', 'ros-rclpy', (7, 1))]
    versions = {'numpy': '1.25.9', 'torch': '2.10.0+cu130', 'a.b_c': '2.6.5', 'ros-rclpy': '7.1.6'}
    monkeypatch.setattr(of_packages, 'version_of', versions.get)
    assert of_packages.unmet('') == ['numpy 1.25.9 (≥ 1.26)']
    assert of_packages.unmet('train') == []
    assert of_packages.unmet('ros') == ['a.b_c 2.6.5 (≥ 2.6.6)']
    del versions['torch']
    finding = of_packages.training(facts())
    assert (finding.level, finding.says, finding.fix) == (
        'bad', 'missing: torch', "pip install '.[train]'")
    finding = of_packages.extras(facts())
    assert finding.says == 'train (train, measure, draw figures) lacks torch'
    assert finding.fix == "pip install '.[train]'"
    assert of_packages.python(facts()).level == 'bad'


def test_every_extra_for_users_has_a_meaning():
    (call,) = (node for node in ast.walk(ast.parse((ROOT / 'setup.py').read_text()))
               if isinstance(node, ast.keyword) and node.arg == 'extras_require')
    extras = {key.value for key in call.value.keys}
    assert extras - {'test', 'dev', 'docs'} == set(of_packages.EXTRAS)


def test_univseg_that_pip_does_not_know_is_no_obstacle(monkeypatch):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'requires', unknown)
    for check in (of_packages.python, of_packages.training, of_packages.extras):
        assert check(facts()).level == 'warn'


def test_a_distributions_opencv_counts_though_pip_does_not_know_it(monkeypatch):
    monkeypatch.setattr(metadata, 'requires', lambda name: ['opencv-python>=4.8', 'numpy>=1.26'])
    monkeypatch.setattr(of_packages, 'version_of', lambda package: None)
    monkeypatch.setattr(of_packages, 'is_installed', lambda module: module == 'cv2')
    assert of_packages.unmet('') == ['numpy']


@pytest.mark.parametrize(('given', 'level', 'says', 'fix'), [
    ({}, 'ok', 'torch 2.9.0, onnxruntime 1.20.0, openvino 2025.1, no TensorRT', ''),
    ({'onnxruntime': {'tensorrt': '10.1'}}, 'ok', 'TensorRT 10.1', ''),
    ({'openvino': None}, 'ok', 'no openvino', ''),
    ({'openvino': 'libtbb is missing'}, 'warn', 'openvino: libtbb is missing',
     'pip install --force-reinstall openvino'),
    ({'openvino': None, 'torch': None, 'onnxruntime': 'x'}, 'bad', 'nothing can run a model',
     "pip install '.[onnx]'")])
def test_one_backend_is_enough_and_a_broken_one_is_told(given, level, says, fix):
    finding = of_packages.backends(facts(**given))
    assert (finding.level, finding.fix) == (level, fix)
    assert says in finding.says


@pytest.mark.parametrize(('given', 'packages', 'level', 'says', 'fix'), [
    ({}, ['opencv-python'], 'ok', '4.10.0 (opencv-python, with windows)', ''),
    ({'cv2': {'gui': 'NONE'}}, ['opencv-python-headless'], 'ok', 'headless)', ''),
    ({'cv2': {'gui': ''}}, [], 'ok', '4.10.0 (headless)', ''),
    ({}, ['opencv-python', 'opencv-python-headless'], 'warn', 'one module, cv2',
     'pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python'),
    ({'cv2': 'libGL.so.1: cannot open'}, ['opencv-python'], 'bad', 'libGL.so.1',
     'pip uninstall -y opencv-python && pip install opencv-python-headless'),
    ({'cv2': None}, [], 'bad', 'not installed', 'pip install opencv-python')])
def test_one_opencv_is_wanted(monkeypatch, given, packages, level, says, fix):
    monkeypatch.setattr(of_packages, '_exact', lambda name: '1' if name in packages else None)
    finding = of_packages.opencv(facts(**given))
    assert (finding.level, finding.fix) == (level, fix)
    assert says in finding.says


def test_weights_are_named_by_their_encoders():
    assert of_packages.weights(facts()).says == 'of efficientnet_lite0'
    assert of_packages.weights(facts(torch={'weights': {}})).level == 'warn'
    assert of_packages.weights(facts(torch=None)).level == 'warn'


@pytest.mark.parametrize(('given', 'level', 'says'), [
    ({}, 'ok', '2.9.0, built without CUDA'), (None, 'bad', 'PyTorch is not installed'),
    ('undefined symbol', 'bad', 'PyTorch cannot be imported: undefined symbol')])
def test_pytorch_is_needed_by_a_training(given, level, says):
    finding = of_packages.torch(facts(torch=given))
    assert (finding.level, finding.says) == (level, says)


# --- the machine ---

ORIN = Gpu('Orin', '8.7', '12.6')


@pytest.mark.parametrize(('there', 'torch', 'level', 'says'), [
    ([], {}, 'ok', 'everything runs on the CPU'),
    ([], {'mps': True}, 'ok', 'MPS is there, which univseg does not use'),
    ([ORIN], {'cuda': '12.6', 'cuda_usable': True}, 'ok', 'Orin (compute capability 8.7)'),
    ([ORIN], {}, 'warn', 'it is built without CUDA'),
    ([ORIN], {'cuda': '13.0'}, 'warn', 'built for CUDA 13.0, the driver runs CUDA up to 12.6')])
def test_a_gpu_that_pytorch_cannot_use_is_told(monkeypatch, there, torch, level, says):
    monkeypatch.setattr(gpus, 'cuda_gpus', lambda: there)
    finding = of_machine.gpu(facts(torch=torch))
    assert finding.level == level
    assert says in finding.says
    if level == 'warn':
        assert finding.fix.endswith('download.pytorch.org/whl/cu126')


@pytest.mark.parametrize(('driver', 'fix'), [
    ('12.7', '/cu126'), ('13.2', '/cu130'), ('11.8', '/cu118'), ('11.4', "NVIDIA's driver")])
def test_the_wheels_are_the_latest_that_a_driver_runs(monkeypatch, driver, fix):
    monkeypatch.setattr(gpus, 'cuda_gpus', lambda: [Gpu('A', '8.6', driver)])
    assert of_machine.gpu(facts(torch={})).fix.endswith(fix)


def usage(free, total=64e6):
    return lambda path: SimpleNamespace(total=total, free=free)


@pytest.mark.parametrize(('free', 'level'), [(60e6, 'warn'), (1e9, 'ok')])
def test_little_shared_memory_is_told(monkeypatch, free, level):
    monkeypatch.setattr(of_machine.shutil, 'disk_usage', usage(free, 2e9))
    finding = of_machine.shared_memory(facts())
    assert finding.level == level
    assert ('size=1g' in finding.fix) is (level == 'warn')


def test_no_shared_memory_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(of_machine, 'SHARED_MEMORY', tmp_path / 'none')
    assert 'cannot be used (No such file' in of_machine.shared_memory(facts()).says


@pytest.mark.parametrize(('free', 'level'), [(1e8, 'bad'), (1e9, 'warn'), (9e9, 'ok')])
def test_a_full_disk_keeps_from_training(monkeypatch, tmp_path, free, level):
    monkeypatch.setenv('UNIVSEG_CACHE', str(tmp_path / 'not' / 'yet'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(of_machine.shutil, 'disk_usage', usage(free))
    finding = of_machine.disk(facts())
    assert finding.level == level
    assert finding.facts['cache']['folder'] == str(tmp_path / 'not' / 'yet')
    assert not (tmp_path / 'not').exists()


# --- ROS ---

@pytest.fixture
def wheels(monkeypatch):
    monkeypatch.setattr(of_ros, 'version_of', {'ros-rclpy': '7.1.6', 'numpy': '2.3.0'}.get)


@pytest.fixture
def distribution(monkeypatch):
    monkeypatch.setattr(of_ros, 'version_of', {'numpy': '2.3.0'}.get)
    return {'ROS_DISTRO': 'kilted', 'AMENT_PREFIX_PATH': '/ws/install/a:/opt/ros/kilted'}


def test_ros_of_wheels_and_of_a_distribution(wheels, monkeypatch):
    assert of_ros.ros(facts()).says.startswith('wheels (rclpy 7.1.6, jazzy)')
    monkeypatch.setattr(of_ros, 'version_of', lambda name: None)
    environ = {'ROS_DISTRO': 'kilted', 'AMENT_PREFIX_PATH': '/ws/install/a:/opt/ros/kilted'}
    assert of_ros.ros(facts(environ)).says.startswith('kilted, 2 prefixes sourced')


@pytest.mark.parametrize(('environ', 'installed', 'says', 'fix'), [
    ({}, [], 'rclpy is not installed', "pip install '.[ros]'"),
    ({}, ['jazzy'], 'jazzy is installed, and not sourced', 'source {}/jazzy/setup.bash'),
    ({'ROS_DISTRO': 'jazzy'}, ['jazzy'], 'is not for this Python',
     '/usr/bin/python3 -m venv --system-site-packages .venv')])
def test_why_there_is_no_ros(monkeypatch, tmp_path, environ, installed, says, fix):
    for name in installed:
        (tmp_path / name).mkdir()
        (tmp_path / name / 'setup.bash').touch()
    monkeypatch.setattr(of_ros, 'DISTRIBUTIONS', tmp_path)
    finding = of_ros.ros(facts(environ, rclpy=None))
    assert (finding.level, finding.fix) == ('bad', fix.format(tmp_path))
    assert says in finding.says


@pytest.mark.parametrize(('error', 'fix'), [
    ('numpy.core.multiarray failed to import', '-c constraints-ros.txt'),
    ('failed to load rmw_cyclonedds_cpp', 'unset RMW_IMPLEMENTATION'),
    ('undefined symbol', "pip install --force-reinstall '.[ros]'")])
def test_ros_that_cannot_be_imported(wheels, error, fix):
    finding = of_ros.ros(facts({'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, rclpy=error))
    assert finding.level == 'bad'
    assert error in finding.says
    assert fix in finding.fix


def test_messages_that_are_missing_are_named(monkeypatch, distribution):
    monkeypatch.setattr(probes, 'find_spec', lambda name: None if name == 'std_srvs' else name)
    finding = of_ros.ros(facts(distribution))
    assert (finding.level, finding.fix) == ('bad', 'sudo apt install ros-kilted-std-srvs')


def test_what_adds_outputs_is_never_an_obstacle(monkeypatch, distribution):
    monkeypatch.setattr(probes, 'find_spec', lambda name: None)
    finding = of_ros.optional_messages(facts(distribution))
    assert (finding.level, finding.fix) == (
        'ok', 'sudo apt install ros-kilted-vision-msgs ros-kilted-bondpy')


def test_numpy_is_to_be_that_of_the_distribution(distribution, monkeypatch):
    monkeypatch.setattr(sys, 'version_info', (3, 12, 0))
    assert of_ros.numpy(facts(distribution)).level == 'warn'
    assert of_ros.numpy(facts(rclpy=None)).level == 'ok'
    monkeypatch.setattr(of_ros, 'version_of', {'numpy': '1.26.4'}.get)
    assert of_ros.numpy(facts(distribution)).level == 'ok'
    monkeypatch.setattr(sys, 'version_info', (3, 14, 0))
    assert of_ros.numpy(facts(distribution)).level == 'warn'


def test_numpy_of_wheels_is_any(wheels):
    assert of_ros.numpy(facts()).level == 'ok'


@pytest.mark.parametrize(('domain', 'level'), [
    ('', 'ok'), ('0', 'ok'), ('101', 'ok'), ('102', 'warn'), ('233', 'bad'), ('-1', 'bad'),
    ('home', 'bad'), ('²', 'bad')])
def test_domain_ids_that_ros_would_not_take(domain, level):
    assert of_ros.middleware(facts({'ROS_DOMAIN_ID': domain})).level == level


def test_the_profile_is_found_and_named(wheels, tmp_path):
    good, variable = tmp_path / 'p.xml', 'FASTRTPS_DEFAULT_PROFILES_FILE'
    good.touch()
    unset = of_ros.dds_profile(facts())
    assert (unset.level, unset.fix) == (
        'warn', f'export {variable}={ROOT}/univseg_core/config_files/ros/'
                'fastdds_large_images.xml')
    assert of_ros.dds_profile(facts({variable: str(good)})).level == 'ok'
    assert 'no such file' in of_ros.dds_profile(facts({variable: '/none.xml'})).says
    other = of_ros.dds_profile(facts({'FASTDDS_DEFAULT_PROFILES_FILE': str(good)}))
    assert f'jazzy reads {variable}' in other.says
    for environ in ({'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, {}):
        there = {'rclpy': None} if not environ else {}
        assert of_ros.dds_profile(facts(environ, **there)).level == 'ok'


def test_newer_distributions_read_another_variable(distribution, tmp_path):
    share = tmp_path / 'share' / 'univseg_ros' / 'config' / 'ros'
    share.mkdir(parents=True)
    (share / 'fastdds_large_images.xml').touch()
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' in of_ros.dds_profile(facts(distribution)).fix
    assert of_ros.shipped_profile({'AMENT_PREFIX_PATH': str(tmp_path)}) is not None


# --- imports, in processes of their own ---

def test_an_import_that_crashes_is_told(monkeypatch):
    """Two processes, in place of those that would import real packages."""
    programs = {
        'good': f'print("noise"); print({MARK!r} + \'{{"version": "1"}}\')',
        'crash': 'import os, sys; print("bad", file=sys.stderr, flush=True); os.abort()'}
    real = subprocess.Popen
    monkeypatch.setattr(probes, 'PROBES', dict.fromkeys([*programs, 'none']))
    monkeypatch.setattr(probes, 'is_installed', lambda name: name != 'none')
    monkeypatch.setattr(probes.subprocess, 'Popen', lambda command, **options: real(
        [sys.executable, '-S', '-c', programs[command[3]]], **options))
    said = probes.import_all()
    assert said['good'] == Imported(True, '', {'version': '1'})
    assert said['crash'].error == 'its import ended the process (killed by SIGABRT) bad'
    assert said['none'] == Imported()
    assert [each.usable for each in said.values()] == [True, False, False]


def test_an_import_that_does_not_end_is_given_up():
    def communicate(timeout):
        assert 0 < timeout < 1
        raise subprocess.TimeoutExpired('python', timeout)

    found = probes._result(SimpleNamespace(communicate=communicate), ends=0)
    assert found.error == 'its import has not ended after 60 s'
    assert not found.usable


def answered(capsys, name):
    probes.answer(name)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(MARK))
    return json.loads(line.removeprefix(MARK))


def test_the_packages_here_answer(capsys):
    torch = answered(capsys, 'torch')
    assert set(GOOD['torch']) == set(torch)
    assert Path(torch['weights']['efficientnet_lite0']).suffix == '.pth'
    assert set(GOOD['cv2']) == set(answered(capsys, 'cv2'))


def test_a_package_that_raises_answers_why(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    assert 'cv2' in answered(capsys, 'cv2')['error']


def test_ros_is_asked_for_its_middleware(capsys, monkeypatch):
    fake = SimpleNamespace(get_rmw_implementation_identifier=lambda: 'rmw_x')
    image = type('Image', (), {'__import_type_support__': classmethod(lambda cls: None)})
    modules = dict.fromkeys(probes.MESSAGES, SimpleNamespace())
    modules |= {'rclpy.utilities': fake, 'sensor_msgs.msg': SimpleNamespace(Image=image())}
    monkeypatch.setattr(probes, 'import_module', modules.__getitem__)
    assert answered(capsys, 'rclpy') == {'middleware': 'rmw_x'}


def test_the_pages_name_every_exit_status():
    pages = [(ROOT / 'docs' / name).read_text() for name in ('doctor.md', 'command_line.md')]
    told = re.findall(r'^\| (\d) \|', pages[0], re.MULTILINE)
    assert told == [*map(str, STATUS.values())]
    (row,) = re.findall(r'^\| ([\d, ]+) \| of `doctor` alone', pages[1], re.MULTILINE)
    assert row == ', '.join(str(status) for status in STATUS.values() if status)
    printed = main.__globals__['doctor'].STATUSES
    assert re.findall(r'^  (\d)', printed, re.MULTILINE) == [*map(str, STATUS.values())]
