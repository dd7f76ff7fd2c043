"""Trainings that are interrupted, killed, or go on in other ways."""

from dataclasses import replace
import errno
import fcntl
import os
from pathlib import Path
import shutil
import signal

from forked import forkserver
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
import numpy as np
import pytest
from run_files import checkpoint, checkpoint_step, differing, rows, short, SUPERVISED
from safetensors.torch import load_file
import torch
from univseg_core.batches.dataset import load_data, load_validation
from univseg_core.datasets.folders import DataError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.evaluation import evaluate
from univseg_core.models.model_file import load_model
from univseg_core.pictures.images import read_codes, write_png
from univseg_core.reporting.run_tables import best_validation, read_validation
from univseg_core.training import run as training_run
from univseg_core.training import step as training_step
from univseg_core.training import trainer
from univseg_core.training.checkpoint import CheckpointError
from univseg_core.training.interrupts import Interrupted
from univseg_core.training.run import train
from univseg_core.training.safety import TrainingError
from univseg_core.training.step import batch_losses

pytestmark = pytest.mark.usefixtures('bare_training')

HANGS = 600
"""Seconds after which a process counts as hanging."""


@pytest.fixture
def started(finished_run, tmp_path):
    """Return a run folder of the finished run's settings that has its label embeddings only."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('config.yaml', 'label_embeddings.safetensors'):
        shutil.copy(finished_run[0] / name, folder / name)
    return folder


def at_call(monkeypatch, number, before=lambda: None, after=lambda loss: loss):
    """Do something around the so-manieth call of batch_losses from now on."""
    calls = []

    def counted(*arguments):
        calls.append(1)
        if len(calls) == number:
            before()
        loss, values = batch_losses(*arguments)
        if len(calls) == number:
            loss = after(loss)
            values['loss'] = loss.detach()
        return loss, values

    monkeypatch.setattr(training_step, 'batch_losses', counted)


def interrupt(result=None):
    """Do what Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)
    return result


def interrupt_twice(result=None):
    """Do what an impatient Ctrl-C does."""
    return interrupt(interrupt(result))


def terminate():
    """Do what a service manager does."""
    signal.raise_signal(signal.SIGTERM)


def interrupt_after_updates(monkeypatch, count):
    """Interrupt after so many of AdamW's steps, when the weights are new already."""
    step, calls = torch.optim.AdamW.step, []

    def counted(*arguments, **options):
        result = step(*arguments, **options)
        calls.append(1)
        return interrupt(result) if len(calls) == count else result

    monkeypatch.setattr(torch.optim.AdamW, 'step', counted)


def test_a_run_that_is_interrupted_in_any_way_goes_on_as_if_nothing_had_happened(
        finished_run, started, monkeypatch):
    (undisturbed, config), step = finished_run, 0
    for disturb in (lambda patch: at_call(patch, 1, before=interrupt),
                    lambda patch: at_call(patch, 7, after=interrupt_twice),
                    lambda patch: at_call(patch, 7, before=terminate),
                    lambda patch: interrupt_after_updates(patch, 7)):
        with monkeypatch.context() as patch:
            disturb(patch)
            with pytest.raises(KeyboardInterrupt):
                train(config, started)
        assert step < checkpoint_step(started) < 30
        step = checkpoint_step(started)
        assert not (started / 'model.univseg').exists()
    train(config, started)
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []
    assert (started / 'evaluation.json').read_text() == (
        undisturbed / 'evaluation.json').read_text()
    assert rows(started / 'validation.csv') == rows(undisturbed / 'validation.csv')


def test_a_validation_that_is_cut_short_is_made_up_for(finished_run, started, monkeypatch):
    """The steps before it are saved at once: it may take long."""
    undisturbed, config = finished_run

    def cut_short(*arguments, **options):
        terminate()
        raise AssertionError('a validation goes on after a signal')

    with monkeypatch.context() as patch:
        patch.setattr(trainer, 'validate', cut_short)
        with pytest.raises(Interrupted, match='SIGTERM') as error:
            train(config, started)
    assert error.value.status == 143
    assert checkpoint_step(started) == 10
    assert not (started / 'validation.csv').exists()
    train(config, started)
    for name in ('model.univseg', 'best.univseg'):
        assert differing(started / name, undisturbed / name) == []
    assert rows(started / 'validation.csv') == rows(undisturbed / 'validation.csv')


def test_a_run_goes_on_without_an_unreadable_image_that_has_been_removed(values, write_config,
                                                                         worlds, tmp_path,
                                                                         monkeypatch):
    """And ends as if it had stayed."""
    folder = shutil.copytree(worlds / 'outdoor' / 'train' / 'image', tmp_path / 'unlabelled')
    (folder / '03.png').write_bytes((folder / '03.png').read_bytes()[:-9])
    values['objective'] = {'consistency': 1, 'warmup_steps': 0}
    values['data']['unlabelled_per_domain'] = 2
    values['domains']['outdoor']['unlabelled'] = [str(folder)]
    config = short(values, write_config)
    train(config, tmp_path / 'undisturbed')
    with monkeypatch.context() as patch:
        at_call(patch, 5, before=interrupt)
        with pytest.raises(Interrupted):
            train(config, tmp_path / 'run')
    splits = (tmp_path / 'run' / 'splits.json').read_bytes()
    (folder / '03.png').unlink()
    train(config, tmp_path / 'run')
    assert (tmp_path / 'run' / 'splits.json').read_bytes() == splits
    assert differing(tmp_path / 'run' / 'model.univseg',
                     tmp_path / 'undisturbed' / 'model.univseg') == []


def test_other_content_under_the_name_of_an_image_is_refused(values, write_config, worlds,
                                                             tmp_path, monkeypatch):
    for kind, path in values['domains']['outdoor']['train'].items():
        values['domains']['outdoor']['train'][kind] = str(shutil.copytree(path, tmp_path / kind))
    config = short(values, write_config, *SUPERVISED)
    monkeypatch.setattr(training_run, 'fit', lambda *arguments: 'trained')
    assert train(config, tmp_path / 'run') == 'trained'
    chosen = load_data(config)['outdoor'].labelled[0]
    write_png(chosen.label, np.uint8(1) - (read_codes(chosen.label) > 0))
    with pytest.raises(DataError, match=rf'outdoor, labelled: 1 of other content '
                                        rf'\({chosen.name}\)'):
        train(config, tmp_path / 'run')


def test_a_run_interrupted_in_its_preparation_goes_on(finished_run, tmp_path, monkeypatch):
    undisturbed, config = finished_run
    with monkeypatch.context() as patch:
        at_call(patch, 5, before=interrupt)  # the second step of the second domain's network
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / 'run')
    assert (tmp_path / 'run' / 'supervised' / 'outdoor' / 'model.univseg').exists()
    assert not (tmp_path / 'run' / 'label_embeddings.safetensors').exists()
    train(config, tmp_path / 'run')
    for name in ('label_embeddings.safetensors', 'model.univseg'):
        assert differing(tmp_path / 'run' / name, undisturbed / name) == []


def test_a_crash_costs_only_the_steps_since_the_last_checkpoint(finished_run, started,
                                                                monkeypatch):
    undisturbed, config = finished_run

    def crash():
        raise OSError('the network file system is away')

    with monkeypatch.context() as patch:
        at_call(patch, 18, before=crash)
        with pytest.raises(OSError, match='away'):
            train(config, started)
    assert checkpoint_step(started) == 15
    train(config, started)
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []
    assert rows(started / 'validation.csv') == rows(undisturbed / 'validation.csv')
    assert [row['step'] for row in rows(started / 'log.csv')] == ['10', '20', '30']


def test_a_run_that_runs_out_of_memory_says_what_to_do_and_keeps_its_checkpoint(
        finished_run, started, monkeypatch):
    at_call(monkeypatch, 13, before=lambda: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(TrainingError, match=r'run: out of memory \(.*data\.crop_size \(48\)'):
        train(finished_run[1], started)
    assert checkpoint_step(started) == 10


def train_until_killed(config, folder, name, number):
    """Train in this process; SIGKILL it amid the so-manieth writing of a file of a name."""
    calls, fsync = [], os.fsync

    def kill(handle):
        if Path(f'/proc/self/fd/{handle}').readlink().name.startswith(f'.{name}.'):
            calls.append(1)
            if len(calls) == number:
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = kill
    torch.set_num_threads(1)  # as in the other process: more would add in another order
    train(config, folder)


@pytest.mark.skipif(not Path('/proc/self/fd').exists(), reason='names open files by /proc')
@pytest.mark.parametrize(('name', 'number', 'workers'), [
    ('label_embeddings', 1, None), ('checkpoint', 4, 1), ('model', 1, None)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(finished_run, tmp_path, name, number,
                                                         workers):
    """Amid its preparation, amid the writing of a checkpoint, and with all but its results."""
    undisturbed, config = finished_run
    # The batches of worker processes are the same; they must not keep the folder claimed.
    config = config.model_copy(update={'training': config.training.model_copy(
        update={'workers': workers})})
    folder = tmp_path / 'run'
    folder.mkdir()
    if name != 'label_embeddings':
        shutil.copy(undisturbed / 'label_embeddings.safetensors', folder)
    process = forkserver().Process(target=train_until_killed,
                                   args=(config, folder, name, number))
    process.start()
    try:
        process.join(HANGS)
        assert process.exitcode == -signal.SIGKILL
    finally:
        process.kill()
    assert len(list(folder.rglob(f'.{name}.unfinished-*'))) == 1
    if name == 'checkpoint':
        assert checkpoint_step(folder) == 15
    train(config, folder)
    assert not list(folder.rglob('.*'))
    for file in ('label_embeddings.safetensors', 'model.univseg', 'best.univseg'):
        assert differing(folder / file, undisturbed / file) == []
    assert rows(folder / 'validation.csv') == rows(undisturbed / 'validation.csv')
    assert [row['step'] for row in rows(folder / 'log.csv')] == ['10', '20', '30']


def hold(path, connection):
    """Lock a run's configuration as a training does, until told to end."""
    with path.open('r+') as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        connection.send('held')
        connection.recv()


def test_a_folder_in_which_a_process_is_training_is_refused(finished_run, started, monkeypatch):
    unfinished = started / '.checkpoint.unfinished-abc.safetensors'
    unfinished.touch()
    monkeypatch.setattr(training_run, 'fit', lambda *arguments: 'trained')
    ours, others = forkserver().Pipe()
    process = forkserver().Process(target=hold, args=(started / 'config.yaml', others))
    process.start()
    try:
        assert ours.poll(HANGS)
        with pytest.raises(TrainingError,
                           match=f'{started}: another process is training in this folder'):
            train(finished_run[1], started)
        assert unfinished.exists()  # it is that process's own
    finally:
        process.kill()
        process.join()
    assert train(finished_run[1], started) == 'trained'
    assert not unfinished.exists()


def test_a_disk_without_locks_is_trained_on_all_the_same(finished_run, started, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', refuse)
    monkeypatch.setattr(training_run, 'fit', lambda *arguments: 'trained')
    assert train(finished_run[1], started) == 'trained'


def test_a_finished_run_started_again_stays_as_it_is(finished_run, tmp_path):
    shutil.copytree(finished_run[0], tmp_path / 'run')
    train(finished_run[1], tmp_path / 'run')
    for name in ('model.univseg', 'evaluation.json', 'log.csv', 'validation.csv', 'splits.json'):
        assert (tmp_path / 'run' / name).read_bytes() == (finished_run[0] / name).read_bytes()


def test_other_settings_in_the_same_folder_are_refused_and_shown(finished_run):
    folder, config = finished_run
    before = (folder / 'config.yaml').read_bytes()
    other = config.model_copy(update={
        'training': config.training.model_copy(update={'steps': 31, 'seed': 7})})
    with pytest.raises(TrainingError) as error:
        train(other, folder)
    message = str(error.value)
    assert str(folder) in message
    lines = [line.strip() for line in message.splitlines()]
    assert lines[1:3] == ['training.steps: 30 there, 31 now', 'training.seed: 0 there, 7 now']
    assert (folder / 'config.yaml').read_bytes() == before


def test_a_loss_that_is_not_finite_ends_the_run_and_a_sound_checkpoint_stays(
        finished_run, started, monkeypatch):
    """A loss may be finite while its gradient is not: that must not get into a checkpoint."""
    undisturbed, config = finished_run
    for spoil, calls in ((lambda loss: loss * float('nan'), 10), (lambda loss: loss + 1e4, 5),
                         (lambda loss: loss + (loss * 0).sqrt(), 5)):
        with monkeypatch.context() as patch:
            at_call(patch, calls, after=spoil)
            with pytest.raises(TrainingError, match=r'run, step 10: the (loss|norm of the '
                                                    r'gradient) is .*learning_rate') as error:
                train(config, started)
        # The images of that step's 10 crops: 4 labelled and 1 unlabelled of each domain.
        named = [Path(line.strip()) for line in str(error.value).splitlines()[1:]]
        assert [path.parts[-4] for path in named] == [*4 * ['outdoor'], *4 * ['indoor'],
                                                      'outdoor', 'indoor']
        assert all(path.is_file() for path in named)
        assert checkpoint_step(started) == 5
        weights = load_file(started / 'checkpoint.safetensors')
        assert all(value.isfinite().all() for value in weights.values())
    train(config, started)
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []


@pytest.mark.parametrize(('name', 'error'), [
    ('label_embeddings.safetensors', TrainingError), ('checkpoint.safetensors', CheckpointError)])
def test_a_damaged_file_of_the_run_is_named(finished_run, started, name, error):
    shutil.copy(finished_run[0] / 'checkpoint.safetensors', started)
    (started / name).write_bytes((started / name).read_bytes()[:100])
    with pytest.raises(error, match=f'{name}: .*remove it'):
        train(finished_run[1], started)


@pytest.mark.parametrize('settings', [
    ('training.optimizer=sgd', 'training.schedule=polynomial', 'training.precision=bf16-mixed'),
    ('training.precision=16-mixed', 'training.learning_rate=0.001'),
    ('objective.consistency=1', 'objective.class_balance=0.5', 'objective.warmup_steps=8',
     'data.unlabelled_per_domain=3', 'training.accumulate=3', 'training.workers=1')],
    ids=lambda settings: settings[0].partition('.')[2])
def test_going_on_is_exact_with_other_settings_too(values, write_config, tmp_path, monkeypatch,
                                                   settings):
    config = short(values, write_config, *SUPERVISED, *settings)
    if config.training.precision == '16-mixed':
        # On CPUs, Fabric takes bf16 instead, unless it is given the precision itself.
        monkeypatch.setattr(training_run, 'new_fabric', lambda *arguments: Fabric(
            accelerator='cpu', devices=1, plugins=[MixedPrecision('16-mixed', 'cpu')]))
    train(config, tmp_path / 'undisturbed')
    # A piece is a call; after the interrupt, the run goes on in the midst of its schedule.
    with monkeypatch.context() as patch:
        at_call(patch, 1 + 6 * config.training.accumulate, before=interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / 'run')
    assert 0 < checkpoint_step(tmp_path / 'run') < 10
    train(config, tmp_path / 'run')
    for name in ('checkpoint.safetensors', 'model.univseg', 'best.univseg'):
        assert differing(tmp_path / 'run' / name, tmp_path / 'undisturbed' / name) == []
    state, undisturbed = map(checkpoint, (tmp_path / 'run', tmp_path / 'undisturbed'))
    assert state == undisturbed
    if config.training.precision == '16-mixed':
        assert state['precision']['scale'] > 1
        assert state['precision']['_growth_tracker'] > 0
    assert all(value.isfinite().all()
               for value in load_file(tmp_path / 'run' / 'model.univseg').values())


def test_the_best_model_is_that_of_the_best_validation_and_outlives_an_interrupt(
        finished_run, started, monkeypatch):
    """Of three validations, at steps 10, 20 and 30, the first is made the best."""
    validate, calls = trainer.validate, []

    def worse_later(*arguments, **options):
        calls.append(1)
        measured = validate(*arguments, **options)
        return replace(measured, results={
            name: result if len(calls) == 1
            else replace(result, confusion=result.confusion * 0 + 1)
            for name, result in measured.results.items()})

    monkeypatch.setattr(trainer, 'validate', worse_later)
    config = finished_run[1]
    with monkeypatch.context() as patch:
        at_call(patch, 13, before=interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, started)
    best = (started / 'best.univseg').read_bytes()
    train(config, started)
    assert len(calls) == 3
    assert (started / 'best.univseg').read_bytes() == best

    written = read_validation(started)
    assert [row.step for row in written] == [10, 20, 30]
    assert best_validation(written).step == 10
    segmenter = Segmenter.load(started / 'best.univseg', device='cpu', precision='fp32')
    results = evaluate(segmenter, load_validation(config, segmenter.domains), progress=False)
    assert {name: result.miou for name, result in results.items()} == written[0].miou
    assert load_model(started / 'best.univseg')[1].miou == written[0].miou
    assert 'encoder.detail.0.weight' in differing(started / 'best.univseg',
                                                  started / 'model.univseg')


def test_settings_that_decide_nothing_may_change_while_a_run_goes_on(finished_run, started):
    undisturbed, config = finished_run
    other = config.model_copy(update={'training': config.training.model_copy(
        update={'workers': 1, 'checkpoint_every': 7})})
    train(other, started)
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []


def test_a_log_that_a_power_cut_has_torn_is_written_anew(finished_run, started, monkeypatch):
    undisturbed, config = finished_run
    with monkeypatch.context() as patch:
        at_call(patch, 13, before=interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, started)
    assert checkpoint_step(started) >= 12  # the steps that were made
    with (started / 'log.csv').open('ab') as file:
        file.write(bytes(100) + b'\n')
    train(config, started)
    assert [row['step'] for row in rows(started / 'log.csv')] == ['10', '20', '30']
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []
