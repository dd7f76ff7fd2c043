"""A model runs where there is neither ROS nor what a training needs."""

import subprocess
import sys

from univseg_core.domains import Domain
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter

ROS = ('rclpy', 'cv_bridge', 'rosbag2_py', 'launch', 'launch_ros', 'ament_index_python',
       'message_filters', 'univseg_ros')
ROS_INTERFACES = ('_msgs', '_srvs', '_interfaces')
TRAINING = ('lightning', 'pydantic', 'sklearn', 'timm', 'matplotlib', 'tensorboard',
            'tqdm')

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
    path = tmp_path / 'tiny.univseg'
    model = UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8),
                               [Domain.create('yard', ['grass', 'wall'])])
    save_model(path, model, ModelCard())
    code = SEGMENT_WITHOUT.format(blocked=ROS + TRAINING, interfaces=ROS_INTERFACES)
    result = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[('yard', (9, 12))]"
