"""One addition of each kind: a file of its own, and its entry in one table, are all it takes."""

import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
import run_files
from univseg_core.bags.reading import Bag
import yaml

ADDITIONS = {
    'encoder': """
import torch
from torch import nn
import torch.nn.functional as F
from univseg_core.models.dense_encoder import DenseEncoder
from univseg_core.models.encoders import Encoder, ENCODERS


class Patches(DenseEncoder):
    def __init__(self, width: float):
        super().__init__()
        self.out_channels, self.stride = int(16 * width), 8
        self.patches = nn.Conv2d(3, self.out_channels, 8, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        return self.patches(F.pad(images, (0, -width % 8, 0, -height % 8))).relu()


ENCODERS['patches'] = Encoder(lambda width: int(16 * width), lambda width, _: Patches(width))
""",
    'layout': """
from univseg_core.datasets.folders import labelled_samples
from univseg_core.datasets.layouts import LAYOUTS
from univseg_core.datasets.layouts.layout import Layout

LAYOUTS['tiny'] = Layout(
    classes=('ground', 'box', 'ball'), palette=((90, 140, 60), (200, 50, 40), (40, 70, 210)),
    samples=lambda root, part: labelled_samples(root / part / 'image', root / part / 'label'),
    held_out=('validation',), counts={'train': (8,), 'validation': (4,)})
""",
    'loss': """
from univseg_core.method import losses


def doubt(step):
    return sum((1 - logits.softmax(1).amax(1).mean() for logits in step.logits.values()),
               step.zero)


losses.LOSSES += (losses.Loss(doubt, 'doubt', 'Doubt', 'doubt', 'decidedness',
                              meaning='weight of the doubt about labelled pixels'),)
""",
    'backend': """
import numpy as np
from univseg_core.inference.backends import BackendEntry, BACKENDS
from univseg_core.inference.on_cpu import OnCpu


class PatchesInNumpy(OnCpu):
    precision = 'fp32'

    def __init__(self, model, device, precision):
        patches = model.encoder.patches
        self._weight = patches.weight.detach().numpy()
        self._bias = patches.bias.detach().numpy()
        self._mean, self._std = (each.numpy().ravel() for each in (model.mean, model.std))

    def features(self, image):
        pixels = (image - self._mean) / self._std
        height, width = image.shape[:2]
        pixels = np.pad(pixels, ((0, -height % 8), (0, -width % 8), (0, 0)))
        squares = pixels.reshape(len(pixels) // 8, 8, -1, 8, 3)
        found = np.einsum('hiwjc,kcij->khw', squares, self._weight, optimize=True)
        return (found + self._bias[:, None, None]).clip(0).astype(np.float32)


BACKENDS['numpy'] = BackendEntry('backend', 'PatchesInNumpy', False, 'numpy', 'numpy')
""",
    'policy': """
from univseg_core.recording.policies import KEPT, POLICIES, Policy, PolicyEntry, PolicyParameter


class EveryNth(Policy):
    def __init__(self, n):
        self._n, self._seen = n, 0

    def judge(self, frame):
        yield frame, 'in between' if self._seen % self._n else KEPT
        self._seen += 1


POLICIES['nth'] = PolicyEntry(
    'one in some', lambda values, most_bytes: EveryNth(values['nth']),
    {'nth': PolicyParameter(2, 'images of which one is kept.', (1, 1000))},
    {'in between': 'it was not its turn'})
""",
}

USE = """
import sys
import encoder, layout, loss, backend, policy
from pathlib import Path
import numpy as np
import pytest
from run_files import leave_out_pictures
import torch
from univseg_core.cli import main
from univseg_core.inference import Segmenter
from univseg_core.recording.budget import Budget
from univseg_core.recording.policies import POLICIES
from univseg_core.recording.recorder import REASONS, Recorder, RecorderSettings
from recorded import front
from tiny_worlds import random_image

torch.set_num_threads(1)
with pytest.MonkeyPatch.context() as patch:
    leave_out_pictures(patch)
    assert main(['train', 'tiny.yaml', '--run', 'run']) == 0

image = random_image(101, 77)
for name in ('torch', 'numpy'):
    segmenter = Segmenter.load('run/model.univseg', device='cpu', precision='fp32', backend=name)
    (segmentation,) = segmenter(image, confidence=True).values()
    np.savez(name, mask=segmentation.mask, confidence=segmentation.confidence)

directory = Path('bags')
directory.mkdir()
entry = POLICIES['nth']
recorder = Recorder(RecorderSettings(directory), entry.build({'nth': 3}, 10**6), Budget(directory),
                    print)
for number in range(7):
    recorder.put(front(number))
recorder.stop()
assert recorder.status().counts['/front'] == {'kept': 3, 'in between': 4}
assert REASONS['in between'] == 'it was not its turn'
"""


@pytest.fixture(scope='module')
def used(worlds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which all additions were used, by a process that imports them first."""
    folder = tmp_path_factory.mktemp('additions')
    for name, text in {**ADDITIONS, 'use': USE}.items():
        (folder / f'{name}.py').write_text(text)
    (folder / 'tiny.yaml').write_text(yaml.safe_dump({
        'domains': {'yard': {'dataset': 'tiny', 'root': str(worlds / 'outdoor'), 'labelled': 6}},
        'model': {'encoder': 'patches', 'width': 0.5, 'embedding_dim': 4},
        'data': {'image_size': 64, 'crop_size': 48},
        'objective': {'consistency': 0, 'class_balance': 0, 'decidedness': 0.5},
        'training': {'steps': 10, 'accelerator': 'cpu'}}))
    tests = Path(__file__).parent
    path = [str(folder), str(tests), str(tests / 'recording'), os.environ.get('PYTHONPATH', '')]
    done = subprocess.run([sys.executable, 'use.py'], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)})
    assert done.returncode == 0, done.stderr
    return folder


def test_a_data_set_and_an_encoder_are_trained_on_and_with(used):
    config = yaml.safe_load((used / 'run' / 'config.yaml').read_text())
    assert config['domains']['yard']['dataset'] == 'tiny'
    assert config['model']['encoder'] == 'patches'
    assert (used / 'run' / 'evaluation.json').is_file()


def test_a_loss_has_its_weight_and_its_column(used):
    (row,) = run_files.rows(used / 'run' / 'log.csv')
    assert 0 < float(row['doubt']) < 1
    assert float(row['loss']) == pytest.approx(
        float(row['supervised']) + 0.5 * float(row['doubt']), rel=1e-4)


def test_a_backend_gives_the_masks_of_another(used):
    by_torch, by_numpy = (np.load(used / f'{name}.npz') for name in ('torch', 'numpy'))
    assert len(np.unique(by_torch['mask'])) > 1
    assert by_torch['mask'].shape == by_numpy['mask'].shape == (101, 77)
    assert np.mean(by_torch['mask'] == by_numpy['mask']) > 0.999
    assert np.abs(by_torch['confidence'].astype(int) - by_numpy['confidence']).max() <= 1


def test_a_policy_keeps_what_it_is_to(used):
    (bag,) = (used / 'bags').iterdir()
    with Bag(bag) as recorded:
        times = [message.time for message in recorded.messages(['/front'])]
    assert np.diff(times).tolist() == [3 * 10**8, 3 * 10**8]
