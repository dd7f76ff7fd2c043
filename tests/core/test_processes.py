"""
Trainings by two real processes learn what one learns, and end together, however they end.

The second process is the same program with the same arguments: the first is one of its own, never
pytest. One test starts both as a user does; the others fork them, as most of a start are imports.
"""

from contextlib import nullcontext
from functools import partial
import json
import logging
import os
from pathlib import Path
import queue
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

from forked import forked
import pytest
from run_files import leave_out_pictures
from safetensors.torch import load_file
import tiny_worlds
import torch
from torch import distributed
import torch.nn.functional as F
from univseg_core import cli
from univseg_core.batches import faults, stores
from univseg_core.batches.curriculum import Curriculum
from univseg_core.batches.dataset import check_files, load_data
from univseg_core.batches.mixture import MixtureDataset
from univseg_core.batches.stores import prepare_stores
from univseg_core.batches.transforms import Augmentation
from univseg_core.datasets.folders import DataError
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.reporting.run_tables import read_losses
from univseg_core.settings import config
from univseg_core.settings.config import load_config
from univseg_core.settings.learning import TrainingSection
from univseg_core.training import launching, trainer
from univseg_core.training import run as training_run
from univseg_core.training import step as training_step
from univseg_core.training.launching import launched
from univseg_core.training.processes import EngineError, new_fabric
from univseg_core.training.run import train
from univseg_core.training.safety import check_loss
from univseg_core.training.step import batch_losses
import yaml

pytestmark = pytest.mark.usefixtures('bare_training')

HANGS = 600
"""Seconds after which a program counts as hanging."""

STEPS = 30
TERMS = ('loss', 'supervised', 'cross_entropy', 'within_entropy', 'feature_norm',
         'embedding_norm', 'entropy/outdoor/indoor', 'entropy/indoor/indoor',
         'perplexity/outdoor/indoor', 'prototype_accuracy/outdoor', 'consistency',
         'taught_classes/outdoor')


@pytest.fixture(scope='module')
def tiny(worlds, finished_run, tmp_path_factory):
    """Return a configuration's file: the tiny one with label embeddings, and with a teacher."""
    values = tiny_worlds.configuration(worlds)
    values['data']['unlabelled_per_domain'] = 5
    values['objective'] |= {'consistency': 1, 'class_balance': 0.5}
    values['training'] |= {'steps': STEPS, 'validate_every': STEPS, 'checkpoint_every': 5}
    values['label_embeddings'] = {'file': str(finished_run[0] / 'label_embeddings.safetensors'),
                                  'theta': 0.5, 'update_every': 10}
    path = tmp_path_factory.mktemp('configuration') / 'tiny.yaml'
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def main_in_float64(path, run, devices):
    """Run the command in float64, in which rounding is small also when it is amplified."""
    def load(*arguments):
        loaded = load_config(*arguments)
        section = loaded.training.model_copy(update={'precision': '64-true'})
        return loaded.model_copy(update={'training': section})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, 'load_config', load)
        leave_out_pictures(patch)
        # Entropies are computed in float32 at least: here in float64.
        patch.setattr(torch.Tensor, 'float', torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            return cli.main(['train', str(path), '--run', str(run), '--devices', str(devices)])
        finally:
            torch.set_default_dtype(torch.float32)


@pytest.fixture(scope='module')
def alone(tiny, tmp_path_factory):
    """Return the folder of what one process learns in float64, undisturbed."""
    folder = tmp_path_factory.mktemp('runs') / 'alone'
    assert main_in_float64(tiny, folder, 1) == 0
    return folder


def is_empty(group):
    """Return whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def step_of(folder):
    """Return the step of a checkpoint, which may be replaced meanwhile: it is opened once."""
    with (folder / 'checkpoint.safetensors').open('rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
    return json.loads(header['__metadata__']['checkpoint'])['step']


def assert_same_training(folder, other, tolerance, interrupted=0):
    """
    Compare the losses of all rows, the weights and the results of two runs.

    A row is a mean over ten steps; that in whose midst a run was interrupted lacks some.
    """
    losses, others = read_losses(folder), read_losses(other)
    assert list(losses['step']) == list(others['step']) == list(range(10, STEPS + 1, 10))
    assert losses.keys() == others.keys() >= set(TERMS)
    whole = [step for step in range(STEPS // 10) if not 10 * step < interrupted < 10 * (step + 1)]
    for term in TERMS:
        assert losses[term][whole] == pytest.approx(others[term][whole], abs=tolerance), term
    weights, others = (load_file(each / 'model.univseg') for each in (folder, other))
    assert weights.keys() == others.keys()
    for key, value in weights.items():
        torch.testing.assert_close(value, others[key], rtol=tolerance, atol=tolerance)
    results, others = (json.loads((each / 'evaluation.json').read_text())
                       for each in (folder, other))
    for name, result in results.items():
        assert result['miou'] == pytest.approx(others[name]['miou'], abs=1e-3)


def test_two_processes_learn_what_one_learns_and_report_once(tiny, alone, tmp_path):
    program, two = tmp_path / 'program.py', tmp_path / 'two'
    program.write_text('import sys\nimport test_processes\nif __name__ == "__main__":\n'
                       '    sys.exit(test_processes.main_in_float64(*sys.argv[1:]))\n')
    path = os.pathsep.join(map(str, [Path(__file__).parent, Path(__file__).parents[2]]))
    done = subprocess.run([sys.executable, program, tiny, two, '2'], capture_output=True,
                          text=True, check=False, timeout=HANGS,
                          env=os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': path})
    output, errors = done.stdout, done.stderr
    assert done.returncode == 0, errors
    assert 'Traceback' not in errors
    weights = load_file(two / 'model.univseg')
    assert weights['embedding.weight'].dtype == torch.float64
    assert_same_training(two, alone, 1e-8)
    losses = read_losses(alone)['supervised']
    assert losses[-1] < 0.95 * losses[0]  # there was something to learn

    for text in ('### outdoor', '### indoor', 'Sum of mIoUs', 'model of the last step'):
        assert output.count(text) == 1
    files, others = ({str(path.relative_to(folder)) for path in folder.rglob('*')
                      if 'tfevents' not in path.name} for folder in (two, alone))
    assert files == others
    assert len(list(two.rglob('*tfevents*'))) == 1
    for name in ('log.csv', 'validation.csv'):
        lines = (two / name).read_text().splitlines()
        assert len(lines) == len(set(lines))
        assert len(lines) == len((alone / name).read_text().splitlines())


def test_two_processes_learn_by_the_default_terms_what_one_learns(tiny, tmp_path):
    """
    Nothing trains the embedding then, and a process has crops of one domain's pair alone.

    The network is one of timm, whose batch norms hold activations and run in channels_last.
    """
    values = yaml.safe_load(tiny.read_text())
    values['model'] |= {'encoder': 'timm/test_efficientnet', 'width': 1, 'pretrained': 'none'}
    del values['objective'], values['label_embeddings']
    values['data']['unlabelled_per_domain'] = 2
    values['training'] |= {'steps': 10, 'validate_every': 10}
    path = tmp_path / 'default.yaml'
    path.write_text(yaml.safe_dump(values))
    assert main_in_float64(path, tmp_path / 'one', 1) == 0
    with forked(tmp_path, main_in_float64, path, tmp_path / 'two', 2) as process:
        process.join(HANGS)
        assert process.exitcode == 0, (tmp_path / 'stderr').read_text()
    losses, others = (read_losses(tmp_path / name) for name in ('one', 'two'))
    assert losses['consistency'][0] > 0
    assert others['loss'] == pytest.approx(losses['loss'], abs=1e-8)
    weights, others = (load_file(tmp_path / name / 'model.univseg') for name in ('one', 'two'))
    for key, value in weights.items():
        torch.testing.assert_close(value, others[key], rtol=1e-8, atol=1e-8)


def test_two_processes_go_on_where_one_was_interrupted_and_one_where_two_were(
        tiny, alone, tmp_path, monkeypatch):
    def save_and_interrupt(path, step, *state):
        save(path, step, *state)
        if step == 10:
            raise KeyboardInterrupt

    run, save = tmp_path / 'run', trainer.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(trainer, 'save_checkpoint', save_and_interrupt)
        assert main_in_float64(tiny, run, 1) == 130
    assert step_of(run) == 10
    with forked(tmp_path, main_in_float64, tiny, run, 2) as process:
        deadline = time.monotonic() + HANGS
        while step_of(run) == 10:
            assert process.exitcode is None, (tmp_path / 'stderr').read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does: all of a terminal's processes
        process.join(HANGS)
        assert is_empty(process.pid)
    errors = (tmp_path / 'stderr').read_text()
    assert process.exitcode == 130, errors
    assert 'Traceback' not in errors
    step = step_of(run)
    assert 15 <= step < STEPS
    assert errors.count(f'Interrupted; step {step} is saved') == 1
    assert not (run / 'model.univseg').exists()
    assert main_in_float64(tiny, run, 1) == 0
    assert_same_training(run, alone, 1e-8, interrupted=step)


def files_of_step(settings, step):
    """Return the image files of a step's batch, a row each."""
    held = prepare_stores(load_data(settings), settings.data.image_size, progress=False)
    return MixtureDataset(held.labelled, held.unlabelled, None,
                          settings.data.labelled_per_domain,
                          settings.data.unlabelled_per_domain, settings.training.seed).files(step)


def train_by_two(path, run):
    """Train by the command."""
    return cli.main(['train', str(path), '--run', str(run), '--devices', '2'])


def train_with_a_damaged_file(damaged, path, run):
    """Train by the command from images on disk, one damaged after the check: one too many."""
    def check_and_damage(data):
        check_files(data)
        Path(damaged).write_bytes(b'no image any more')

    training_run.check_files = check_and_damage
    stores.available_memory = lambda: 0
    faults.FAULTY_SHARE = faults.FAULTY_FILES = 0
    return train_by_two(path, run)


def test_an_image_that_one_process_cannot_read_ends_both(tiny, tmp_path):
    values = yaml.safe_load(tiny.read_text())
    worlds = Path(values['domains']['outdoor']['train']['images']).parents[2]
    shutil.copytree(worlds, tmp_path / 'worlds')
    path = tmp_path / 'tiny.yaml'
    path.write_text(tiny.read_text().replace(str(worlds), str(tmp_path / 'worlds')))
    damaged = files_of_step(load_config(path), 0)[1]  # odd labelled rows are the second process's
    with forked(tmp_path, train_with_a_damaged_file, damaged, path, tmp_path / 'run') as process:
        process.join(HANGS)
        assert process.exitcode == 1
        assert is_empty(process.pid)
    errors = (tmp_path / 'stderr').read_text()
    assert errors.count('univseg train: 1 of 16 images could not be read') == 2
    assert errors.count(str(damaged)) >= 2
    assert 'Traceback' not in errors
    assert errors.count('another image takes its place') == 1


def train_with_a_fault(path, run):
    """Train by the command; the second process dies in its third step."""
    calls = []

    def counted(*values):
        calls.append(1)
        if len(calls) == 3 and os.environ['LOCAL_RANK'] == '1':
            os._exit(3)
        return batch_losses(*values)

    training_step.batch_losses = counted
    return train_by_two(path, run)


def test_a_process_that_dies_ends_the_other(tiny, tmp_path):
    with forked(tmp_path, train_with_a_fault, tiny, tmp_path / 'run') as process:
        process.join(HANGS)
        assert is_empty(process.pid)
    errors = (tmp_path / 'stderr').read_text()
    assert process.exitcode == 1, errors
    assert ('univseg train: another process of this training has failed (exit status 3); what it '
            'wrote above says why') in errors
    assert 'Traceback' not in errors


def of_two():
    """Return what stands for the engine of the first of two processes."""
    return SimpleNamespace(launch=lambda: None, world_size=2, local_rank=0, strategy=None)


@pytest.fixture
def further(monkeypatch):
    """Return a function that has a command of a shell stand for the second process."""
    def start(command):
        process = subprocess.Popen(['sh', '-c', command.replace('sleep', 'exec sleep')])
        monkeypatch.setattr(launching, '_further_processes', lambda fabric: nullcontext([process]))
        monkeypatch.setattr(launching, 'further', [process])
        monkeypatch.setattr(launching, 'PATIENCE', 0.2 if 'sleep' in command else 60)
        monkeypatch.setattr(launching, 'HASTE', launching.PATIENCE)
        return process
    return start


LOST = 'gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:5'


@pytest.mark.parametrize(('command', 'error', 'expected'), [
    ('sleep 600', MemoryError('mine'), 'mine'),
    ('sleep 600', RuntimeError('mine'), 'mine'),  # killed: the fault is not its own
    ('exit 3', RuntimeError(LOST), r'failed \(exit status 3\); what it wrote above says why'),
    ('kill -9 $$', RuntimeError(LOST), r'failed \(killed by SIGKILL\)'),
    ('sleep 600', RuntimeError(LOST), 'connection to another process of this training is lost'),
    ('exit 3', RuntimeError('mine'), '^mine'),
    ('exit 3', DataError('of both'), 'of both'),
    ('exit 0', RuntimeError('mine'), 'mine'),
    ('exit 130', KeyboardInterrupt('of both'), 'of both')])
def test_no_process_outlives_a_training_that_fails(further, command, error, expected):
    process = further(command)
    with pytest.raises((type(error), EngineError), match=expected), launched(of_two()):
        raise error
    assert process.returncode is not None


def test_a_port_of_another_program_is_no_lost_connection(further, monkeypatch):
    further('sleep 600')
    monkeypatch.setenv('MASTER_PORT', '29500')
    with pytest.raises(EngineError, match=r'cannot meet at port 29500 \(MASTER_PORT\), which '
                                          'another program has'), launched(of_two()):
        raise distributed.DistNetworkError('The server socket has failed to listen on any local '
                                           'network address. port: 29500, name: EADDRINUSE')


def test_a_process_that_waits_for_one_that_has_failed_is_ended_by_force(further, monkeypatch):
    """It may wait in a library, which never hears of it."""
    ends = queue.Queue()
    monkeypatch.setattr(launching, 'POLL', 0.01)
    monkeypatch.setattr(launching, 'end_by_force', lambda *end: ends.put(end))
    process = further('exit 3')
    monkeypatch.setattr(launching, 'PATIENCE', 0.01)
    with launched(of_two()):
        status, reason = ends.get(timeout=HANGS)
    assert status == 1
    assert reason == ('univseg train: another process of this training has failed (exit status '
                      '3); what it wrote above says why')
    assert process.returncode == 3


def test_further_processes_are_told_their_place(tmp_path, monkeypatch):
    fabric, before = new_fabric(TrainingSection(accelerator='cpu'), 3), dict(os.environ)
    monkeypatch.setattr(launching, 'this_program', lambda: [
        'sh', '-c', f'echo $LOCAL_RANK $NODE_RANK $WORLD_SIZE ${launching.STARTED_BY} '
                    f'$MASTER_PORT > {tmp_path}/$LOCAL_RANK'])
    with launching._environment_restored(), launching._further_processes(fabric) as further:
        assert len(further) == 2
        assert [process.wait(HANGS) for process in further] == [0, 0]
        environment = fabric.strategy.cluster_environment
        assert environment.creates_processes_externally  # Fabric starts no others
        assert environment.local_rank() == 0
        place = f'0 3 {os.getpid()} {environment.main_port}'
    assert [(tmp_path / str(rank)).read_text().strip() for rank in (1, 2)] == [
        f'1 {place}', f'2 {place}']
    assert launching.further == []
    assert dict(os.environ) == before


def test_the_same_program_is_started_anew(monkeypatch):
    main = SimpleNamespace(__spec__=SimpleNamespace(name='univseg_core.__main__'))
    monkeypatch.setitem(sys.modules, '__main__', main)
    monkeypatch.setattr(sys, 'argv', ['/usr/bin/univseg', 'train', 'my.yaml'])
    assert launching.this_program() == [sys.executable, '-m', 'univseg_core.__main__', 'train',
                                        'my.yaml']
    main.__spec__ = None
    assert launching.this_program() == [sys.executable, '/usr/bin/univseg', 'train', 'my.yaml']


def test_a_further_process_ends_with_the_first(monkeypatch):
    fault = launching._fault_of_others(SimpleNamespace(local_rank=1))
    assert fault() is None
    monkeypatch.setattr(os, 'getppid', lambda: 10 ** 9)  # of another one than before
    assert fault() == 'the first process of this training has ended, and so does this one'


@pytest.mark.parametrize(('rank', 'number'), [(0, signal.SIGTERM), (1, signal.SIGKILL)])
def test_a_process_ends_with_its_starter_also_while_it_lists_its_files(
        values, write_config, tmp_path, monkeypatch, rank, number):
    """That may take minutes on a network disk."""
    order = []

    def listed(*arguments):
        raise DataError('listed')

    monkeypatch.setattr(training_run, 'new_fabric', lambda *arguments: SimpleNamespace(
        node_rank=0, local_rank=rank))
    monkeypatch.setattr(training_run, 'end_with_starter', order.append)
    monkeypatch.setattr(training_run, 'load_data', listed)
    level = logging.getLogger('univseg_core').level
    with pytest.raises(DataError, match='listed'):
        train(load_config(write_config(values)), tmp_path / 'run')
    logging.getLogger('univseg_core').setLevel(level)
    assert order == [number]


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_a_device_that_is_not_there_is_told(tiny):
    section = load_config(tiny, ['training.accelerator=cuda']).training
    with pytest.raises(EngineError, match=r"training\.accelerator 'cuda'.* 2 devices"):
        new_fabric(section, devices=2)


def test_pieces_of_a_batch_have_their_own_batch_norm(tiny, tmp_path, monkeypatch):
    """The first step's loss is the sum of what the network gives for each half alone."""
    settings = load_config(tiny, ['training.accumulate=2', 'training.steps=2',
                                  'objective.alpha=0', 'objective.beta=0',
                                  'objective.consistency=0', 'objective.class_balance=0'])
    losses = []

    def noted(loss, *arguments):
        losses.append(loss)
        check_loss(loss, *arguments)

    monkeypatch.setattr(trainer, 'check_loss', noted)
    train(settings, tmp_path / 'run')

    data = load_data(settings)
    torch.manual_seed(settings.training.seed)
    network = UniversalSegmenter(ModelSpec(**tiny_worlds.TRAINED),
                                 [d.domain for d in data.values()]).train()
    options = settings.data
    mixture = partial(
        MixtureDataset, prepare_stores(data, 64, progress=False).labelled, {},
        Curriculum((Augmentation(options.crop_size, options.scale, options.flip,
                                 options.colour),)),
        options.labelled_per_domain, 0, settings.training.seed)

    def supervised(batch):
        """Return the sum over a batch's images of their mean cross-entropy."""
        logits, *_ = network(batch.images, batch.labelled, {})
        return sum(F.cross_entropy(scores, target.long(), ignore_index=255)
                   for name, rows in batch.labelled.items()
                   for scores, target in zip(logits[name].unsqueeze(1),
                                             batch.targets[rows].unsqueeze(1), strict=True))

    with torch.no_grad():
        halves, (whole,) = mixture([0, 1], 2)[0], mixture([0], 1)[0]
        assert [len(half.images) for half in halves] == [4, 4]
        assert losses[0] == pytest.approx(sum(map(supervised, halves)).item() / 4, abs=1e-5)
        assert losses[0] != pytest.approx(supervised(whole).item() / 4, abs=1e-3)
