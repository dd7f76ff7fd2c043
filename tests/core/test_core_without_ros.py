"""The core runs where there is no ROS, and a robot needs no training packages."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest
import univseg_core

CORE = Path(univseg_core.__file__).parent
MODULES = sorted(CORE.rglob('*.py'))

ROS = ('rclpy', 'cv_bridge', 'rosbag2_py', 'launch', 'launch_ros', 'ament_index_python',
       'message_filters', 'univseg_ros')
ROS_INTERFACES = ('_msgs', '_srvs', '_interfaces')
TRAINING = ('lightning', 'pydantic', 'sklearn', 'timm', 'matplotlib', 'tensorboard',
            'tqdm')


def is_ros(module: str) -> bool:
    top = module.split('.')[0]
    return top in ROS or top.endswith(ROS_INTERFACES)


def imported(tree: ast.AST) -> set[str]:
    """Return the names of all modules that a source imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_no_module_of_the_core_imports_ros(path):
    assert not [name for name in imported(ast.parse(path.read_text())) if is_ros(name)]


def test_ros_imports_would_be_seen():
    source = 'import numpy\ndef f():\n    import rclpy.node\n    from sensor_msgs.msg import Image'
    assert sorted(filter(is_ros, imported(ast.parse(source)))) == ['rclpy.node', 'sensor_msgs.msg']


SEGMENT_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        top = name.split('.')[0]
        if top in {blocked} or top.endswith({interfaces}):
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Absent())
import numpy as np
from univseg_core.inference.segmenter import Segmenter
segmenter = Segmenter.load(sys.argv[1])
masks = segmenter(np.zeros((9, 12, 3), np.uint8))
print([(name, segmentation.mask.shape) for name, segmentation in masks.items()])
"""


def test_a_model_runs_with_what_a_robot_has(tmp_path):
    from univseg_core.domains import Domain
    from univseg_core.models.model_file import ModelCard, save_model
    from univseg_core.models.universal import ModelSpec, UniversalSegmenter
    path = tmp_path / 'tiny.univseg'
    model = UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8),
                               [Domain.create('yard', ['grass', 'wall'])])
    save_model(path, model, ModelCard())
    code = SEGMENT_WITHOUT.format(blocked=ROS + TRAINING, interfaces=ROS_INTERFACES)
    result = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[('yard', (9, 12))]"
