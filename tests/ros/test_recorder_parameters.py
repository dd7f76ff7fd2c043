"""The recorder's table of parameters, and what is said of values that cannot be."""

import pytest
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, ReliabilityPolicy
from univseg_core.bags.distributions import qos_text, this_distribution
from univseg_core.recording.policies import POLICIES
from univseg_ros.parameter_table import CHANGES
from univseg_ros.recorder_parameters import objection, PARAMETERS


@pytest.mark.parametrize('name', PARAMETERS)
def test_every_parameter_is_described_and_its_default_acceptable(name):
    spec = PARAMETERS[name]
    assert len(spec.description) > 10
    assert spec.changes in CHANGES
    assert objection(name, spec.default) == ''
    if type(spec.default) in (int, float):
        lowest, highest = spec.bounds
        assert {type(lowest), type(highest)} == {type(spec.default)}
        assert lowest <= spec.default <= highest


def test_the_policies_and_their_parameters_are_those_of_the_core():
    assert PARAMETERS['policy'].choices == tuple(POLICIES)
    for policy, entry in POLICIES.items():
        assert f'{entry.keeps} ({policy})' in PARAMETERS['policy'].description or policy == 'all'
        for name, each in entry.parameters.items():
            spec = PARAMETERS[name]
            assert (spec.default, spec.bounds) == (each.default, each.bounds)
            who, _, what = spec.description.partition(': ')
            assert what == each.description
            assert who.startswith('With policy ')
            assert policy in who.removeprefix('With policy ').split(' or ')
    assert PARAMETERS['rate'].description.startswith('With policy rate or unfamiliar: ')


@pytest.mark.parametrize(('name', 'value', 'complaint'), [
    ('storage', 'sqlite3', "storage: 'sqlite3': bags are MCAP files, and no others any more"),
    ('compression', 'lz4', "compression: 'lz4' is not one of none, zstd"),
    ('policy', 'some', "policy: 'some' is not one of all, rate, novel, uncertain"),
    ('when_full', 'burst', "when_full: 'burst' is not one of stop, drop_oldest"),
    ('rate', 0.0, 'rate: 0.0 is not from 0.001 to 1000'),
    ('uncertain_below', 1.5, 'uncertain_below: 1.5 is not from 0 to 1'),
    ('topics', ['1st/image'], "topics: '1st/image' cannot be a topic: "),
    ('topics', ['a', 'a'], "topics: a topic is named twice in ['a', 'a']"),
    ('topics', None, 'topics: no value was given'),
    ('flight_on', ['domain', 'battery'],
     "flight_on: 'battery' is not one of confidence, domain, diagnostics"),
    ('flight_domains', ['a b'], "flight_domains: 'a b' cannot be a topic: "),
    ('recognition_topics', ['a', 'a'], 'recognition_topics: a topic is named twice'),
    ('confidence_topics', ['a b'], "confidence_topics: 'a b' cannot be a topic: "),
    ('directory', '', 'directory: expected the path of a folder'),
    ('name', 'a/b', "name: 'a/b': expected letters, digits, _ and -")])
def test_what_cannot_be_is_told(name, value, complaint):
    assert objection(name, value).startswith(complaint)
    assert '\n' not in objection(name, value)


@pytest.mark.parametrize(('name', 'value'), [
    ('topics', ['']), ('topics', []), ('topics', ['/front/image', 'back']), ('name', 'yard-1_a'),
    ('flight_on', ['']), ('flight_on', []), ('flight_on', ['confidence']),
    ('flight_diagnostics', ['camera: driver']), ('storage', 'mcap'), ('use_sim_time', True)])
def test_what_can_be_is_not_objected_to(name, value):
    assert objection(name, value) == ''


def test_what_is_in_use_stays():
    assert objection('directory', '/a', configured=True).startswith(
        'directory can only be set while the node is unconfigured')
    assert objection('policy', 'rate', configured=True) == ''
    assert objection('policy', 'rate', configured=True, active=True).startswith(
        'policy can only be set while the node is not active')
    assert objection('image_timeout', 1.0, configured=True, active=True) == ''


def test_the_numbers_of_qos_policies_are_those_of_rmw():
    policies = {'history': HistoryPolicy, 'reliability': ReliabilityPolicy,
                'durability': DurabilityPolicy, 'liveliness': LivelinessPolicy}
    for name, enumeration in policies.items():
        for policy in enumeration:
            text = qos_text([{name: policy.name.lower()}], 'humble')
            assert text == f'- {name}: {policy.value}'


@pytest.mark.parametrize(('environment', 'distribution'), [
    ('humble', 'humble'), ('kilted', 'kilted'), ('noetic', 'jazzy'), ('', 'jazzy')])
def test_auto_is_the_distribution_of_the_environment(monkeypatch, environment, distribution):
    monkeypatch.setenv('ROS_DISTRO', environment)
    assert this_distribution() == distribution
