"""The bond that Nav2's lifecycle manager wants with each node it has activated."""

from importlib import import_module
from typing import Any

from rclpy.node import Node

TOPIC = 'bond'
"""Where the manager expects it, in the node's namespace."""


def make_bond(node: Node) -> Any:
    """
    Return a bond of bondpy's with whoever has activated a node, which `shutdown` ends.

    None where bondpy is not installed; the manager then needs bond_timeout 0.0.
    """
    try:
        bondpy = import_module('bondpy.bondpy')
    except ImportError:
        return None
    bond = bondpy.Bond(node, TOPIC, node.get_name())
    bond.start()
    return bond
