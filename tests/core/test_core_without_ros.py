"""
A model runs, and its masks go out and come back, where there is neither ROS nor a training.

One process does all of it, step by step, as it takes a while to begin; the tests look at what it
left.
"""

import json
import subprocess
import sys

import pytest
from tiny_worlds import INDOOR, OUTDOOR, random_image
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.pictures.images import read_label, write_png

ROS = ('rclpy', 'cv_bridge', 'rosbag2_py', 'launch', 'launch_ros', 'ament_index_python',
       'message_filters', 'univseg_ros')
ROS_INTERFACES = ('_msgs', '_srvs', '_interfaces')
TRAINING = ('lightning_fabric', 'pydantic', 'sklearn', 'matplotlib', 'tensorboard')
OF_TIMM = ('timm', 'torchvision')

PROGRAM = """
import json
import sys

steps = json.load(sys.stdin)

class NoInterfaces:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0].endswith(tuple(steps['interfaces'])):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, NoInterfaces())
sys.modules.update(dict.fromkeys([*steps['absent'], *steps['of_timm'], 'tqdm']))

import numpy as np
from univseg_core.inference.segmenter import Segmenter
masks = Segmenter.load(steps['model'])(np.zeros((9, 12, 3), np.uint8))
print([(name, segmentation.mask.shape) for name, segmentation in masks.items()])

del sys.modules['tqdm']
from univseg_core.cli import main
for command in steps['commands']:
    assert main(command) == 0, command

for name in steps['of_timm']:
    del sys.modules[name]
assert main(steps['with_timm']) == 0
"""


@pytest.fixture(scope='module')
def left(finished_run, tmp_path_factory):
    """Return the folder with what the process made, and what it printed."""
    folder = tmp_path_factory.mktemp('robot')
    for i in range(3):
        write_png(folder / 'frames' / f'{i}.png', random_image(24, 32, i))
    run, _ = finished_run
    model, of_timm = run / 'model.univseg', folder / 'lite.univseg'
    save_model(of_timm, UniversalSegmenter(ModelSpec('efficientnet_lite0', stride=4),
                                           [OUTDOOR, INDOOR]), ModelCard())

    def arguments(*words):
        return [str(word) for word in words]

    steps = {
        'absent': ROS + TRAINING, 'interfaces': ROS_INTERFACES, 'of_timm': OF_TIMM,
        'model': str(model),
        'commands': [
            arguments('predict', folder / 'frames', '--model', model, '--domain', 'indoor',
                      '--out', folder / 'masks'),
            arguments('info', model), arguments('info', run),
            arguments('rank', model, folder / 'frames', '--domain', 'outdoor', '--out',
                      folder / 'ranking'),
            arguments('prelabel', model, folder / 'frames', '--domain', 'outdoor', '--ranked',
                      folder / 'ranking' / 'rank.csv', '--out', folder / 'to_correct'),
            arguments('import-labels', folder / 'to_correct' / 'labels', '--frames',
                      folder / 'to_correct' / 'images', '--model', model, '--domain', 'outdoor',
                      '--out', folder / 'corrected'),
            arguments('labels', 'check', model, 'outdoor', '--images',
                      folder / 'corrected' / 'image', '--labels', folder / 'corrected' / 'label',
                      '--out', folder / 'label_check')],
        'with_timm': arguments('predict', folder / 'frames' / '0.png', '--model', of_timm,
                               '--domain', 'indoor', '--out', folder / 'of_timm')}
    result = subprocess.run([sys.executable, '-c', PROGRAM], input=json.dumps(steps), text=True,
                            capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_a_model_runs_with_what_a_robot_has(left):
    _, printed = left
    assert printed.startswith("[('outdoor', (9, 12)), ('indoor', (9, 12))]\n")


def test_predict_and_info_need_none_of_the_trainings_packages(left):
    folder, printed = left
    assert len(list((folder / 'masks').glob('*_mask.png'))) == 3
    assert 'light' in printed


def test_the_loop_of_labelling_needs_none_of_the_trainings_packages(left):
    folder, printed = left
    assert len(list((folder / 'corrected' / 'label').iterdir())) == 3
    assert '3 label maps of outdoor checked' in printed


def test_a_network_of_timm_needs_timm_alone(left):
    folder, _ = left
    assert read_label(folder / 'of_timm' / '0_mask.png', INDOOR).shape == (24, 32)
