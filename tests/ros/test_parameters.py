"""The table of parameters, held by a real node, and what is said of values that cannot be."""

import math
import sys

import pytest
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from univseg_core.domains import Domain
from univseg_ros.camera_stream import FrameSettings
from univseg_ros.parameter_table import CHANGES, declare_all
from univseg_ros.parameters import objection, PARAMETERS
from univseg_ros.segmentation_node import main, SegmentationNode

DOMAINS = {'outdoor': Domain.create('outdoor', ['road', 'sky', 'tree']),
           'indoor': Domain.create('indoor', ['floor', 'wall'])}
FLOATS = [name for name, spec in PARAMETERS.items() if isinstance(spec.default, float)]
INTEGERS = [name for name, spec in PARAMETERS.items() if type(spec.default) is int]


@pytest.fixture
def make_node(ros_domain):
    """Return a function that makes a node of the table's parameters, with values at its start."""
    nodes = []

    def make(**start):
        node = Node('parameters', parameter_overrides=[
            Parameter(name, value=value) for name, value in start.items()])
        nodes.append(node)

        def judge(parameters):
            for parameter in parameters:
                if reason := objection(parameter.name, parameter.value, None):
                    return SetParametersResult(successful=False, reason=reason)
            return SetParametersResult(successful=True)

        node.add_on_set_parameters_callback(judge)
        declare_all(node, PARAMETERS)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.fixture
def node(make_node):
    """Return a node with the defaults."""
    return make_node()


def values(node, *names):
    return [node.get_parameter(name).value for name in names or PARAMETERS]


def test_defaults_are_those_of_the_table_and_acceptable(node):
    assert values(node) == [spec.default for spec in PARAMETERS.values()]
    for name, spec in PARAMETERS.items():
        assert objection(name, spec.default, None) == ''
        if spec.bounds:
            assert spec.bounds[0] <= spec.default <= spec.bounds[1]
            assert {type(bound) for bound in spec.bounds} == {type(spec.default)}


def test_every_float_has_bounds_and_every_integer():
    assert all(PARAMETERS[name].bounds for name in FLOATS + INTEGERS)


def test_help_tells_each_parameter_with_what_it_takes_and_its_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['segmentation_node', '--help'])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for line in ('  precision: auto, fp32, bf16, fp16, int8 (default: "auto")',
                 '  inference_size: 0…8192 (default: 0)',
                 '  autostart: true, false (default: true)',
                 '  active_domains: list of texts (default: [""])'):
        assert line in lines
    told = {line.split(':')[0].strip(): lines[i + 1].strip() for i, line in enumerate(lines)
            if line.startswith('  ') and '(default: ' in line}
    assert told.keys() == PARAMETERS.keys()
    assert all(PARAMETERS[name].description.startswith(text) for name, text in told.items())
    assert max(map(len, lines)) < 100


def test_descriptors_say_what_a_parameter_takes_and_when(node):
    for name, spec in PARAMETERS.items():
        descriptor = node.describe_parameter(name)
        assert descriptor.description.endswith('.')
        assert CHANGES[spec.changes] in descriptor.additional_constraints
        for choice in spec.choices:
            assert choice in descriptor.additional_constraints
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        assert [(each.from_value, each.to_value) for each in ranges] == (
            [spec.bounds] if spec.bounds else [])
        assert descriptor.read_only == (spec.changes == 'start')
        assert not descriptor.dynamic_typing


BAD = [
    *((name, value) for name in FLOATS for value in (
        math.nan, math.inf, -math.inf, -1e-9, PARAMETERS[name].bounds[1] * 1.001,
        PARAMETERS[name].bounds[1] * 1.0000001, 1, '0.5', True)),
    *((name, value) for name in INTEGERS for value in (
        PARAMETERS[name].bounds[0] - 1, PARAMETERS[name].bounds[1] + 1, 1.0, '1', True)),
    *((name, value) for name, spec in PARAMETERS.items() if spec.choices
      for value in ('', 'AUTO', 'auto ', 'none', ['auto'], 0)),
    ('model', 7), ('model', ['a']), ('device', 0), ('active_domains', 'outdoor'),
    ('active_domains', [1]), ('active_domains', ['outdoor', '']), ('active_domains', ['', '']),
    ('active_domains', ['Outdoor']), ('active_domains', ['out door']),
    ('active_domains', ['outdoor/mask']), ('active_domains', ['1st']),
    ('active_domains', ['indoor', 'outdoor', 'indoor']),
    ('traversable', 'road'), ('traversable', ['road', '']), ('traversable', ['', '']),
    ('traversable', ['road', 'floor', 'road']),
]


@pytest.mark.parametrize(('name', 'value'), BAD)
def test_a_bad_value_is_rejected_later_and_at_the_start(make_node, name, value):
    node = make_node()
    result = node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful
    # Of types, rclpy judges and gives no name.
    assert name in result.reason or 'Wrong parameter type' in result.reason
    assert values(node, name) == [PARAMETERS[name].default]
    with pytest.raises(ParameterException, match=name):
        make_node(**{name: value})


@pytest.mark.parametrize(('name', 'value'), [
    *((name, bound) for name in FLOATS + INTEGERS for bound in PARAMETERS[name].bounds),
    *((name, choice) for name, spec in PARAMETERS.items() for choice in spec.choices),
    ('max_rate', 0.001), ('model', '/a b/ü.univseg'), ('device', 'cuda:1'),
    ('active_domains', ['']), ('active_domains', ['b_2', 'a']),
    ('traversable', ['']), ('traversable', ['road', 'indoor/a class', 'a/b']),
    ('confidence_threshold', -0.0)])
def test_a_good_value_is_taken_later_and_at_the_start(make_node, name, value):
    node = make_node()
    assert node.set_parameters([Parameter(name, value=value)])[0].successful
    assert values(node, name) == [value]
    assert values(make_node(**{name: value}), name) == [value]


def test_autostart_is_for_the_start_alone(make_node):
    node = make_node(autostart=False)
    assert values(node, 'autostart') == [False]
    assert not node.set_parameters([Parameter('autostart', value=True)])[0].successful


@pytest.mark.parametrize('name', list(PARAMETERS))
def test_no_parameter_can_be_taken_away(node, name):
    assert not node.set_parameters([Parameter(name, Parameter.Type.NOT_SET)])[0].successful
    assert values(node, name) == [PARAMETERS[name].default]


@pytest.mark.parametrize(('loaded', 'active', 'settable'), [
    (False, False, {'unconfigured', 'inactive', 'always', 'start'}),
    (True, False, {'inactive', 'always', 'start'}),
    (True, True, {'always', 'start'})])
def test_when_a_parameter_can_be_set(loaded, active, settable):
    for name, spec in PARAMETERS.items():
        value = ['indoor'] if name == 'active_domains' else spec.default
        reason = objection(name, value, DOMAINS if loaded else None, active=active)
        assert (reason == '') == (spec.changes in settable), name
        if reason:
            assert reason.startswith(f'{name} can only be set while the node is ')


@pytest.mark.parametrize('domains', [['indoor'], ['indoor', 'outdoor'], ['outdoor', 'indoor']])
def test_domains_of_the_model_are_taken_in_any_order(domains):
    assert objection('active_domains', domains, DOMAINS, active=True) == ''


@pytest.mark.parametrize(('domains', 'reasons'), [
    ([], ['at least one', 'outdoor, indoor']),
    ([''], ["unknown domain ''", 'outdoor, indoor']),
    (['indoor', 'cellar'], ["unknown domain 'cellar'", 'outdoor, indoor']),
    (['indoor', 'indoor'], ['twice']),
    (['Indoor'], ["unknown domain 'Indoor'"])])
def test_domains_that_the_model_has_not_are_named(domains, reasons):
    text = objection('active_domains', domains, DOMAINS)
    assert all(reason in text for reason in ['active_domains', *reasons])


@pytest.mark.parametrize('names', [[], [''], ['road'], ['floor', 'outdoor/road', 'road']])
def test_classes_of_the_model_are_taken(names):
    assert objection('traversable', names, DOMAINS, active=True) == ''


@pytest.mark.parametrize(('names', 'reason'), [
    (['road', 'flor'], "no domain of this model has a class 'flor'; did you mean floor?; "
     'outdoor has road, sky, tree; indoor has floor, wall'),
    (['indoor/road'], "indoor has no class 'road'; it has floor, wall"),
    (['indoor/wal'], "indoor has no class 'wal'; did you mean wall?; it has floor, wall"),
    (['outdor/road'], "'outdor/road' is no class of this model, which has no domain 'outdor'; "
     'did you mean outdoor?; it has outdoor, indoor'),
    (['outdoor/'], "no domain of this model has a class 'outdoor/'; outdoor has"),
    (['Road'], "no domain of this model has a class 'Road'; did you mean road?")])
def test_classes_that_the_model_has_not_are_named(names, reason):
    assert objection('traversable', names, DOMAINS).startswith(f'traversable: {reason}')
    assert objection('traversable', names, None) == ''


def test_other_nodes_parameters_are_none_of_its_business():
    assert objection('use_sim_time', True, DOMAINS, active=True) == ''
    assert objection('qos_overrides./image.subscription.depth', None, None) == ''


@pytest.fixture
def segmentation_node(ros_domain, model_file):
    """Return the node itself, unconfigured."""
    node = SegmentationNode()
    node.set_parameters([Parameter('model', value=model_file),
                         Parameter('precision', value='fp32')])
    yield node
    node.destroy_node()


def together(node, **new):
    return node.set_parameters_atomically(
        [Parameter(name, value=value) for name, value in new.items()])


@pytest.mark.parametrize(('bad', 'reason'), [
    ({'max_rate': -1.0}, 'max_rate'), ({'precision': 'fp8'}, 'fp8'),
    ({'confidence_threshold': math.nan}, 'nan'), ({'depth': 0}, 'depth'),
    ({'model': 3}, 'Wrong parameter type'), ({'active_domains': ['a', 'a']}, 'twice'),
    ({'autostart': False}, 'autostart')])
@pytest.mark.parametrize('bad_is_last', [True, False])
def test_a_bad_set_is_rejected_as_a_whole(segmentation_node, bad, reason, bad_is_last):
    before = values(segmentation_node)
    good = {'max_age': 2.0, 'inference_size': 128, 'reliability': 'reliable'}
    result = together(segmentation_node, **({**good, **bad} if bad_is_last else {**bad, **good}))
    assert not result.successful
    assert reason in result.reason
    assert values(segmentation_node) == before
    assert segmentation_node._cameras['']._settings.max_age == 0
    assert together(segmentation_node, **good).successful
    assert values(segmentation_node, *good) == list(good.values())
    assert segmentation_node._cameras['']._settings.max_age == 2


def test_a_rejected_set_changes_nothing_of_a_model_that_runs(segmentation_node):
    node = segmentation_node
    node.trigger_configure()
    node.trigger_activate()
    assert values(node, 'active_domains') == [['outdoor']]
    settings = node._cameras['']._settings
    result = together(node, inference_size=64, active_domains=['indoor'], max_rate=5.0,
                      confidence_threshold=0.5, device='cpu')
    assert 'device can only be set while the node is unconfigured' in result.reason
    assert node._cameras['']._settings == settings
    assert together(node, inference_size=64, active_domains=['indoor'], max_rate=5.0,
                    confidence_threshold=0.5).successful
    assert node._cameras['']._settings == FrameSettings(
        ['indoor'], max_rate=5.0, confidence_threshold=0.5, max_age=0.0, inference_size=64,
        traversable=[''])
