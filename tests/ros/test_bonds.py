"""The bond that Nav2's lifecycle manager wants, by what stands for bondpy."""

import sys
import threading
from types import SimpleNamespace
from typing import ClassVar

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String
from univseg_ros.bag_recorder import BagRecorder
from univseg_ros.bonds import Bond, TOPIC


class BondOfBondpy:
    """Does with a node what bondpy's does, when a test says so."""

    on_broken = None
    made: ClassVar = []

    def __init__(self, node, topic, bond_id):
        self.node = node
        self.events = [node.get_fully_qualified_name(), topic, bond_id]
        self.publisher = node.create_publisher(String, topic, 1)
        self.made.append(self)

    def start(self):
        self.subscription = self.node.create_subscription(String, 'bond', print, 1)
        self.events.append('started')

    def shutdown(self):
        if self.events[-1] == 'ended':
            return
        self.subscription.destroy()
        self.publisher.publish(String(data='ended'))
        self.publisher.destroy()
        self.events.append('ended')

    def lose_heartbeats(self):
        self.node.declare_parameter('/bond_disable_heartbeat_timeout', False)
        assert self.node.get_parameter('/bond_disable_heartbeat_timeout').value is False
        if self.on_broken:
            self.on_broken()


@pytest.fixture
def bondpy(ros_domain, monkeypatch):
    """Put a stand-in in the place of bondpy; return the list of bonds that it has made."""
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', SimpleNamespace(Bond=BondOfBondpy))
    monkeypatch.setattr(BondOfBondpy, 'made', [])
    return BondOfBondpy.made


@pytest.fixture
def make_node(tmp_path):
    """Return a function that makes a recorder with some parameters, destroyed at the end."""
    nodes = []

    def make(**parameters):
        nodes.append(BagRecorder('bound', namespace='/nav', parameter_overrides=[
            Parameter(name, value=value)
            for name, value in {'directory': str(tmp_path), **parameters}.items()]))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def ends_of(node):
    """Return how many publishers and subscriptions of a bond a node knows itself to have."""
    return [sum(each.topic_name == f'/nav/{TOPIC}' for each in there)
            for there in (node.publishers, node.subscriptions)]


@pytest.mark.parametrize('wanted', [True, False])
def test_a_bond_lasts_as_long_as_the_node_is_active(bondpy, make_node, wanted):
    node = make_node(bond=wanted)
    node.autostart()
    bond = ['/nav/bound', 'bond', 'bound', 'started']
    assert [each.events for each in bondpy] == [bond] * wanted
    assert ends_of(node) == [wanted, wanted]
    node.trigger_deactivate()
    assert [each.events for each in bondpy] == [[*bond, 'ended']] * wanted
    assert ends_of(node) == [0, 0]
    node.trigger_activate()
    node.trigger_shutdown()
    assert [each.events for each in bondpy] == [[*bond, 'ended']] * 2 * wanted
    assert ends_of(node) == [0, 0]


def test_an_executor_goes_on_when_a_bond_has_ended(bondpy, make_node):
    node, executor = make_node(), SingleThreadedExecutor()
    node.autostart()
    executor.add_node(node)
    executor.spin_once(0)
    node.trigger_deactivate()
    for _ in range(3):
        executor.spin_once(0)  # which bondpy's own way of ending would break
    executor.remove_node(node)


def test_a_broken_bond_is_told_and_given_up(bondpy, make_node, capfd):
    node, executor = make_node(), SingleThreadedExecutor()
    executor.add_node(node)
    node.trigger_configure()
    for _ in range(2):  # bondpy declares its parameter each time
        node.trigger_activate()
        bondpy[-1].on_formed()
        thread = threading.Thread(target=bondpy[-1].lose_heartbeats)
        thread.start()
        thread.join()
        assert bondpy[-1].events[-1] == 'started'
        while ends_of(node) != [0, 0]:
            executor.spin_once(1)
        assert bondpy[-1].events[-1] == 'ended'
        assert capfd.readouterr().err.count('the bond with the lifecycle manager is broken') == 1
        node.trigger_deactivate()
    executor.remove_node(node)


def test_of_a_manager_that_wants_no_bond_nothing_is_said(bondpy, make_node, capfd):
    make_node().autostart()
    bondpy[0].lose_heartbeats()
    assert 'bond' not in capfd.readouterr().err


def test_a_bond_outlives_ros_without_a_word(bondpy):
    context = Context()
    rclpy.init(context=context)
    node = Node('late', context=context)
    bond = Bond(node)
    rclpy.shutdown(context=context)
    bondpy[0].publisher.publish(String(data='alive'))
    bond.end()
    Bond(node).end()  # as of a node that is interrupted while it is activated
    node.destroy_node()


def test_without_bondpy_a_node_is_activated_all_the_same(
        ros_domain, make_node, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', None)
    node = make_node(autostart=False)
    node.trigger_configure()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    told = capfd.readouterr().err
    assert 'bondpy is not installed' in told
    assert "Nav2's lifecycle manager needs bond_timeout: 0.0" in told
