"""What all tests share."""

import pytest


def pytest_pycollect_makemodule(module_path, parent):
    """
    Make a module as pytest itself does.

    The plugin of launch_testing, which every ROS distribution installs, would import the module
    while it looks for it; a module that skips itself when it is imported would then take its whole
    folder along.
    """
    return pytest.Module.from_parent(parent, path=module_path)
