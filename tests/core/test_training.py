"""A whole training on two tiny worlds: what it leaves, and what may happen to it on the way."""

import csv
from dataclasses import replace
import errno
import fcntl
import json
import multiprocessing
import os
from pathlib import Path
import shutil
import signal

from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_worlds import LABELLED, small_network
import torch
from univseg_core import training, training_step
from univseg_core.checkpoint import CheckpointError
from univseg_core.config import load_config
from univseg_core.data.dataset import load_data, load_validation
from univseg_core.data.folders import DataError
from univseg_core.data.splits import split_hash
from univseg_core.evaluation import evaluate
from univseg_core.inference import Segmenter
from univseg_core.models.model_file import load_model
from univseg_core.run_log import best_validation, read_validation
from univseg_core.safety import TrainingError
from univseg_core.training import summary, train
from univseg_core.training_step import batch_losses


def rows(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def checkpoint(folder):
    """Return what a checkpoint holds besides its tensors."""
    with safe_open(folder / 'checkpoint.safetensors', framework='pt') as file:
        return json.loads(file.metadata()['checkpoint'])


def checkpoint_step(folder):
    return checkpoint(folder)['step']


def differing(file, other):
    """Return the names of the tensors that are not bit-equal in two files."""
    tensors, others = load_file(file), load_file(other)
    return sorted(tensors.keys() ^ others.keys()) + [
        key for key, tensor in tensors.items()
        if key in others and not torch.equal(tensor, others[key])]


@pytest.fixture
def started(finished_run, tmp_path):
    """Return a run folder of the finished run's settings that has its label embeddings only."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('config.yaml', 'label_embeddings.safetensors'):
        shutil.copy(finished_run[0] / name, folder / name)
    return folder


def at_call(monkeypatch, number, before=lambda: None, after=lambda losses: losses):
    """Do something around the so-manieth call of batch_losses from now on."""
    calls = []

    def counted(*arguments):
        calls.append(1)
        if len(calls) == number:
            before()
        losses, values = batch_losses(*arguments)
        if len(calls) == number:
            losses = after(losses)
            values['loss'] = losses.total.detach()
        return losses, values

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


def test_a_finished_run_has_every_documented_file(finished_run):
    folder, _ = finished_run
    files = {path.name for path in folder.iterdir()}
    assert files >= {
        'config.yaml', 'splits.json', 'label_embeddings.safetensors', 'supervised', 'log.csv',
        'validation.csv', 'checkpoint.safetensors', 'model.univseg', 'best.univseg',
        'evaluation.json', 'curves.png', 'tensorboard', 'outdoor.png', 'indoor.png'}
    for name in ('outdoor', 'indoor'):
        network, _ = load_model(folder / 'supervised' / name / 'model.univseg')
        assert list(network.domains) == [name]
    assert not list(folder.rglob('.*'))


def test_a_run_says_what_it_was_made_from(finished_run):
    folder, config = finished_run
    assert load_config(folder / 'config.yaml') == config
    data = load_data(config)
    splits = json.loads((folder / 'splits.json').read_text())
    _, card = load_model(folder / 'model.univseg')
    assert card.training['config'] == config.model_dump(mode='json')
    assert card.image_size == 64
    for name, d in data.items():
        assert splits[name]['labelled']['images'] == [s.image.name for s in d.labelled]
        assert len(splits[name]['labelled']['images']) == LABELLED
        assert splits[name]['unlabelled']['images'] == [s.image.name for s in d.unlabelled]
        assert card.training['labelled'][name] == split_hash(d.labelled)
        assert card.training['labelled'][name] == splits[name]['labelled']['hash']


def test_the_loss_falls(finished_run):
    written = rows(finished_run[0] / 'log.csv')
    assert [row['step'] for row in written] == ['10', '20', '30']
    assert float(written[-1]['supervised']) < 0.85 * float(written[0]['supervised'])
    assert all(float(row['cross_entropy']) > 0 for row in written)
    assert all(float(row['within_entropy']) > 0 for row in written)


def test_the_model_files_figures_are_those_of_the_evaluation(finished_run):
    folder, config = finished_run
    _, card = load_model(folder / 'model.univseg')
    figures = json.loads((folder / 'evaluation.json').read_text())
    assert card.miou == {name: result['miou'] for name, result in figures.items()}

    segmenter = Segmenter.load(folder / 'model.univseg', device='cpu', precision='fp32')
    results = evaluate(segmenter, load_validation(config, segmenter.domains), progress=False)
    assert {name: result.to_dict() for name, result in results.items()} == figures

    last = {row['domain']: float(row['miou']) for row in rows(folder / 'validation.csv')
            if row['step'] == '30'}
    assert last == card.miou


def test_the_model_carries_the_label_embeddings(finished_run):
    folder, _ = finished_run
    network, _ = load_model(folder / 'model.univseg')
    vectors = load_file(folder / 'label_embeddings.safetensors')
    assert vectors.keys() == {'outdoor', 'indoor'}
    for name, value in vectors.items():
        assert torch.equal(network.label_embeddings(name), value)
        torch.testing.assert_close(value.norm(dim=1), torch.ones(len(value)))


def interrupt_after_updates(monkeypatch, count):
    """Interrupt after so many of AdamW's steps, when the weights are new already."""
    step, calls = torch.optim.AdamW.step, []

    def counted(*arguments, **options):
        result = step(*arguments, **options)
        calls.append(1)
        return interrupt(result) if len(calls) == count else result

    monkeypatch.setattr(torch.optim.AdamW, 'step', counted)


@pytest.mark.parametrize('disturb', [
    lambda patch: at_call(patch, 1, before=interrupt),
    lambda patch: at_call(patch, 13, before=interrupt),
    lambda patch: at_call(patch, 13, after=interrupt),
    lambda patch: at_call(patch, 13, after=interrupt_twice),
    lambda patch: at_call(patch, 13, before=terminate),
    lambda patch: interrupt_after_updates(patch, 13),
], ids=['step 1', 'step 13', 'after the forward', 'twice', 'SIGTERM', 'after the update'])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(finished_run, started, monkeypatch,
                                                               disturb):
    undisturbed, config = finished_run
    with monkeypatch.context() as patch:
        disturb(patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, started)
    assert not (started / 'model.univseg').exists()
    train(config, started)
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []
    assert (started / 'evaluation.json').read_text() == (
        undisturbed / 'evaluation.json').read_text()
    assert rows(started / 'validation.csv') == rows(undisturbed / 'validation.csv')


def test_an_interrupt_saves_the_steps_made(finished_run, started, monkeypatch):
    at_call(monkeypatch, 13, before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(finished_run[1], started)
    assert checkpoint_step(started) >= 12


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


def test_a_run_that_runs_out_of_memory_says_what_to_do_and_can_go_on(finished_run, started,
                                                                     monkeypatch):
    undisturbed, config = finished_run
    with monkeypatch.context() as patch:
        at_call(patch, 13, before=lambda: torch.empty(2**60, dtype=torch.uint8))
        with pytest.raises(TrainingError, match=r'run: out of memory \(.*data\.crop_size \(48\)'):
            train(config, started)
    assert checkpoint_step(started) == 10
    train(config, started)
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []


def forkserver():
    """Return what starts processes at once: its server has imported what they need."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['univseg_core.training'])
    return context


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
        process.join(120)
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
    monkeypatch.setattr(training, 'fit', lambda *arguments: 'trained')
    ours, others = forkserver().Pipe()
    process = forkserver().Process(target=hold, args=(started / 'config.yaml', others))
    process.start()
    try:
        assert ours.poll(120)
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
    monkeypatch.setattr(training, 'fit', lambda *arguments: 'trained')
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
    assert [line.split() for line in lines if line[:2] in ('- ', '+ ')] == [
        ['-', 'steps:', '30'], ['+', 'steps:', '31'], ['-', 'seed:', '0'], ['+', 'seed:', '7']]
    assert (folder / 'config.yaml').read_bytes() == before


def test_settings_that_failed_before_anything_was_made_can_be_corrected(values, write_config,
                                                                        tmp_path):
    config = load_config(write_config(values), ['objective.alpha=0', 'objective.beta=0',
                                                'training.steps=1'])
    section = config.domains['indoor'].model_copy(update={'labelled': 99})
    wrong = config.model_copy(update={'domains': {**config.domains, 'indoor': section}})
    with pytest.raises(DataError, match=r'domains\.indoor\.labelled'):
        train(wrong, tmp_path / 'run')
    train(config, tmp_path / 'run')
    assert (tmp_path / 'run' / 'model.univseg').exists()


@pytest.mark.parametrize('what', ['loss', 'size', 'gradient'])
def test_a_loss_that_is_not_finite_ends_the_run_and_a_sound_checkpoint_stays(
        finished_run, started, monkeypatch, what):
    """A loss may be finite while its gradient is not: that must not get into a checkpoint."""
    undisturbed, config = finished_run

    def spoil(losses):
        if what == 'loss':
            return replace(losses, total=losses.total * float('nan'))
        if what == 'size':
            return replace(losses, total=losses.total + 1e4)
        return replace(losses, total=losses.total + (losses.total * 0).sqrt())

    with monkeypatch.context() as patch:
        at_call(patch, 10, after=spoil)
        with pytest.raises(TrainingError, match=r'run, step 10: the (loss|norm of the gradient) '
                                                r'is .*learning_rate') as error:
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


def short(values, write_config, *overrides):
    """Return the tiny configuration with as few steps as give one row of the log."""
    return load_config(write_config(values), ['training.steps=10', *overrides])


SUPERVISED = ('objective.alpha=0', 'objective.beta=0')


@pytest.mark.parametrize('settings', [
    ('training.optimizer=sgd', 'training.schedule=polynomial'),
    ('training.precision=16-mixed', 'training.learning_rate=0.001'),
    ('training.precision=bf16-mixed',),
    ('training.accumulate=3', 'training.workers=1')], ids=lambda settings: settings[0][9:])
def test_going_on_is_exact_with_other_settings_too(values, write_config, tmp_path, monkeypatch,
                                                   settings):
    config = short(values, write_config, *SUPERVISED, *settings)
    if config.training.precision == '16-mixed':
        # On CPUs, Fabric takes bf16 instead, unless it is given the precision itself.
        monkeypatch.setattr(training, 'new_fabric', lambda *arguments: Fabric(
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
    validate, calls = training.validate, []

    def worse_later(*arguments):
        calls.append(1)
        return {name: result if len(calls) == 1
                else replace(result, confusion=result.confusion * 0 + 1)
                for name, result in validate(*arguments).items()}

    monkeypatch.setattr(training, 'validate', worse_later)
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
    assert 'encoder.layer0.0.weight' in differing(started / 'best.univseg',
                                                  started / 'model.univseg')


def test_label_embeddings_of_another_run_are_used(finished_run, values, write_config, tmp_path):
    file = finished_run[0] / 'label_embeddings.safetensors'
    train(short(values, write_config, f'label_embeddings.file={file}'), tmp_path / 'run')
    assert not (tmp_path / 'run' / 'supervised').exists()
    network, _ = load_model(tmp_path / 'run' / 'model.univseg')
    for name, vectors in load_file(file).items():
        assert torch.equal(network.label_embeddings(name), vectors)
    assert differing(file, tmp_path / 'run' / file.name) == []
    assert rows(tmp_path / 'run' / 'log.csv')


@pytest.mark.parametrize('found', [
    {'outdoor': (3, 8)}, {'outdoor': (3, 8), 'indoor': (3, 8)},
    {'outdoor': (3, 7), 'indoor': (2, 7)}, {'outdoor': (3, 8), 'attic': (2, 8)},
    {'outdoor': (3, 8), 'indoor': (2, 8), 'attic': (2, 8)}])
def test_label_embeddings_of_something_else_are_refused(values, write_config, tmp_path, found):
    file = tmp_path / 'other.safetensors'
    save_file({name: torch.ones(shape) for name, shape in found.items()}, file)
    with pytest.raises(TrainingError) as error:
        train(short(values, write_config, f'label_embeddings.file={file}'), tmp_path / 'run')
    expected = {'outdoor': (3, 8), 'indoor': (2, 8)}
    message = str(error.value)
    assert message.startswith(f'label_embeddings.file: {file}: expected (classes, dimensions) '
                              f'{expected}, got ')
    for name, shape in found.items():
        assert f"'{name}': {shape}" in message.partition(', got ')[2]
    assert not (tmp_path / 'run' / 'label_embeddings.safetensors').exists()


def test_a_training_starts_from_pretrained_weights(values, write_config, tmp_path):
    encoder = small_network(seed=5).encoder
    torch.save(encoder.state_dict() | {'fc.weight': torch.zeros(3)}, tmp_path / 'drn.pth')
    train(short(values, write_config, *SUPERVISED, f'model.pretrained={tmp_path / "drn.pth"}',
                'training.learning_rate=1e-9', 'training.steps=1'), tmp_path / 'run')
    network, _ = load_model(tmp_path / 'run' / 'model.univseg')
    for (name, value), start in zip(network.encoder.named_parameters(), encoder.parameters(),
                                    strict=True):
        torch.testing.assert_close(value, start, rtol=0, atol=1e-6,
                                   msg=lambda text, name=name: f'{name}: {text}')


def test_one_domain_alone_has_the_within_term_only(values, write_config, tmp_path):
    del values['domains']['indoor']
    results = train(short(values, write_config), tmp_path / 'run')
    assert list(results) == ['outdoor']
    (row,) = rows(tmp_path / 'run' / 'log.csv')
    assert float(row['cross_entropy']) == 0
    assert float(row['within_entropy']) > 0


def test_a_domain_without_unlabelled_images_trains(values, write_config, tmp_path):
    values['domains']['indoor'].update(labelled=None, labelled_also_unlabelled=False)
    results = train(short(values, write_config), tmp_path / 'run')
    assert list(results) == ['outdoor', 'indoor']
    splits = json.loads((tmp_path / 'run' / 'splits.json').read_text())
    assert splits['indoor']['unlabelled']['images'] == []
    (row,) = rows(tmp_path / 'run' / 'log.csv')
    # The other domain's images still have this one's labels to be compared with.
    assert float(row['cross_entropy']) > 0


def test_without_unsupervised_terms_nothing_is_prepared(values, write_config, tmp_path):
    train(short(values, write_config, 'objective.alpha=0', 'objective.beta=0'), tmp_path / 'run')
    files = {path.name for path in (tmp_path / 'run').iterdir()}
    assert files.isdisjoint({'supervised', 'label_embeddings.safetensors'})
    network, _ = load_model(tmp_path / 'run' / 'model.univseg')
    assert not network.label_embeddings('outdoor').any()
    (row,) = rows(tmp_path / 'run' / 'log.csv')
    assert float(row['loss']) == float(row['supervised'])


def test_a_class_that_no_label_shows_is_told_and_left_out(values, write_config, tmp_path,
                                                          monkeypatch):
    values['domains']['indoor']['classes'].append('sofa')
    warnings = []
    # Not caplog: where launch is installed, its loggers do not propagate.
    monkeypatch.setattr(training.log, 'warning', lambda text, *values: warnings.append(
        text % values))
    train(short(values, write_config), tmp_path / 'run')
    assert [text.split(':')[:2] for text in warnings] == [
        ['indoor', ' no labelled image shows sofa']]
    vectors = load_file(tmp_path / 'run' / 'label_embeddings.safetensors')['indoor']
    assert vectors.any(dim=1).tolist() == [True, True, False]


def test_a_summary_has_every_domain_and_the_sum(finished_run):
    folder, config = finished_run
    segmenter = Segmenter.load(folder / 'model.univseg', device='cpu', precision='fp32')
    results = evaluate(segmenter, load_validation(config, segmenter.domains), progress=False)
    outdoor, indoor = (100 * results[name].miou for name in ('outdoor', 'indoor'))
    line = summary({name: results[name] for name in ('outdoor', 'indoor')})
    assert line == (f'mIoU % outdoor {outdoor:.1f}, indoor {indoor:.1f}; '
                    f'sum {outdoor + indoor:.1f}')


def test_settings_that_decide_nothing_may_change_while_a_run_goes_on(finished_run, started):
    undisturbed, config = finished_run
    other = config.model_copy(update={'training': config.training.model_copy(
        update={'workers': 1, 'checkpoint_every': 7})})
    train(other, started)
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []


@pytest.mark.parametrize(('overrides', 'crops'), [
    (['training.accumulate=5'], 4),  # of one domain: the networks of the label embeddings
    (['training.accumulate=9', 'objective.alpha=0', 'objective.beta=0'], 8)])
def test_more_pieces_than_crops_are_refused_before_anything_is_made(
        values, write_config, tmp_path, overrides, crops):
    config = load_config(write_config(values), overrides)
    with pytest.raises(TrainingError, match=rf'a batch has {crops} labelled crops: raise '
                                            r'data\.labelled_per_domain \(4\)'):
        train(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_unsupervised_terms_without_any_unlabelled_image_are_refused(values, write_config,
                                                                     tmp_path):
    for section in values['domains'].values():
        section.update(labelled=None, labelled_also_unlabelled=False)
    config = load_config(write_config(values))
    with pytest.raises(DataError, match=r'objective\.alpha \(0\.1\).*no domain has any'):
        train(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_log_that_a_power_cut_has_torn_is_written_anew(finished_run, started, monkeypatch):
    undisturbed, config = finished_run
    with monkeypatch.context() as patch:
        at_call(patch, 13, before=interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, started)
    with (started / 'log.csv').open('ab') as file:
        file.write(bytes(100) + b'\n')
    train(config, started)
    assert [row['step'] for row in rows(started / 'log.csv')] == ['10', '20', '30']
    assert differing(started / 'model.univseg', undisturbed / 'model.univseg') == []
