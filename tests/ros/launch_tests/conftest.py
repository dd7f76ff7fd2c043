"""Tests of launch_testing: `launch_test FILE`, or pytest."""

import importlib.util

import pytest


class SkippedModule(pytest.Module):
    """A module of tests that cannot even be imported here."""

    reason = ''

    def collect(self):
        """Skip the module."""
        pytest.skip(self.reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    """Run the modules here as launch tests; skip them, saying so, where something is missing."""
    if reason := missing():
        module = SkippedModule.from_parent(parent, path=module_path)
        module.reason = reason
        return module
    from launch_testing.pytest.hooks import LaunchTestModule
    return LaunchTestModule.from_parent(parent=parent, path=module_path)


def missing() -> str:
    """Say what these tests lack; an empty text means nothing."""
    if any(importlib.util.find_spec(name) is None for name in ('launch_testing', 'launch_ros')):
        return 'needs a ROS 2 distribution (launch_testing, launch_ros)'
    from ament_index_python import get_package_prefix
    try:
        get_package_prefix('univseg_ros')
    except (LookupError, OSError):
        return 'needs univseg_ros built with colcon and its workspace sourced'
    return ''
