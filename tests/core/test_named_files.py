"""The model and weight files that a configuration names: noted, compared, no longer needed."""

import hashlib
import json
import logging
import shutil

from lightning_fabric.plugins import Precision
import pytest
from run_files import SUPERVISED
from tiny_worlds import small_network
import torch
from univseg_core.batches.dataset import load_data
from univseg_core.batches.labelled_images import labelled_images
from univseg_core.errors import UnivsegError
from univseg_core.measuring.finished_runs import load_runs
from univseg_core.models.normalisation import Normalisation
from univseg_core.models.weights import Weights
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError
from univseg_core.training.checkpoint import Beginning, save_checkpoint
from univseg_core.training.named_files import (
    check_named_files,
    has_begun,
    named_files,
    note_named_files,
)
from univseg_core.training.networks import prepared_network
from univseg_core.training.processes import new_fabric
from univseg_core.training.safety import TrainingError

SETTINGS = ('model.start', 'model.pretrained', 'label_embeddings.file',
            'label_embeddings.networks.outdoor')


@pytest.fixture
def file(tmp_path):
    """Return a file that settings name; what is in it, nothing here reads."""
    path = tmp_path / 'named.safetensors'
    path.write_bytes(b'the first')
    return path


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run, with what is there from the first start on."""
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'config.yaml').touch()
    return folder


@pytest.fixture
def named(values, write_config, file):
    """Return a function that gives the configuration with the file under some settings."""
    def configuration(*settings, overrides=()):
        return load_config(write_config(values),
                           [*(f'{setting}={file}' for setting in settings), *overrides])
    return configuration


@pytest.mark.parametrize('setting', SETTINGS)
def test_a_file_of_other_content_is_refused_while_it_is_needed(named, file, run, setting):
    config = named(setting)
    note_named_files(config, run)
    check_named_files(config, run, begun=False)
    file.write_bytes(b'the other')  # as long
    with pytest.raises(TrainingError, match=rf'{setting}: {file} is not what it was when the run '
                                            rf'in {run} first .*bring .*another --run folder'):
        check_named_files(config, run, begun=False)
    note_named_files(config, run)  # what is noted stays
    file.write_bytes(b'the first')
    check_named_files(config, run, begun=False)


@pytest.mark.parametrize('setting', SETTINGS)
def test_a_run_that_has_begun_goes_on_with_what_it_took(named, file, run, setting, caplog):
    config = named(setting)
    note_named_files(config, run)
    noted = (run / 'files.json').read_bytes()
    check_named_files(config, run, begun=True)
    assert not caplog.records
    file.write_bytes(b'the other')
    check_named_files(config, run, begun=True)
    assert f'{setting}: {file} is not what it was' in caplog.text
    file.unlink()
    check_named_files(config, run, begun=True)
    assert f'{setting}: {file}: no such file; the run goes on' in caplog.text
    note_named_files(config, run)
    assert (run / 'files.json').read_bytes() == noted
    with pytest.raises(TrainingError, match=f'{setting}: {file}: no such file'):
        check_named_files(config, run, begun=False)


def test_the_large_model_that_teaches_is_needed_to_the_end(named, file, run):
    config = named('objective.distillation.teacher')
    note_named_files(config, run)
    check_named_files(config, run, begun=True)
    file.write_bytes(b'the other')
    with pytest.raises(TrainingError, match=f'teacher: {file} is not what it was'):
        check_named_files(config, run, begun=True)
    file.unlink()
    with pytest.raises(TrainingError, match=f'teacher: {file}: no such file'):
        check_named_files(config, run, begun=True)


def test_what_is_noted_is_the_path_the_size_and_the_hash(named, file, run):
    note_named_files(named('model.start'), run)
    assert json.loads((run / 'files.json').read_text()) == {'model.start': {
        'path': str(file), 'bytes': 9, 'sha256': hashlib.sha256(b'the first').hexdigest()}}


def test_without_named_files_nothing_is_written(named, run):
    note_named_files(named(), run)
    assert not (run / 'files.json').exists()


def test_files_that_nothing_learns_from_are_not_compared(named, file):
    every = named('model.start', 'model.pretrained', 'label_embeddings.file')
    # The label embeddings are there, so that no network begins with the weights.
    assert named_files(every) == {'model.start': file, 'label_embeddings.file': file}
    assert named_files(named('model.pretrained', 'label_embeddings.file',
                             overrides=SUPERVISED)) == {'model.pretrained': file}
    assert named_files(named(overrides=['model.pretrained=none'])) == {}


def test_a_run_of_an_earlier_version_goes_on_with_a_word(named, file, run, caplog):
    config = named('model.start')
    check_named_files(config, run, begun=False)
    assert f'model.start: {file}: what it was' in caplog.text
    note_named_files(config, run)
    file.write_bytes(b'the other')
    with pytest.raises(TrainingError, match='is not what it was'):
        check_named_files(config, run, begun=False)


def test_a_new_run_has_nothing_to_be_told(named, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    check_named_files(named('model.start'), tmp_path / 'new', begun=False)
    assert not caplog.records


@pytest.mark.parametrize('text', ['{"model.start": {"path": "a"}}', '[]', '{"model.start": 1',
                                  '{"model.start": []}'])
def test_a_damaged_note_is_named(named, run, text):
    (run / 'files.json').write_text(text)
    with pytest.raises(TrainingError, match=r'run/files\.json: damaged .*remove it'):
        check_named_files(named('model.start'), run, begun=False)


def checkpoint_with(beginning, run):
    network = small_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    save_checkpoint(run / 'checkpoint.safetensors', 3, network, optimizer,
                    torch.optim.lr_scheduler.ConstantLR(optimizer), Precision(),
                    beginning=beginning and Beginning(None, network.normalisation))


def test_a_run_has_begun_when_all_is_in_its_folder(named, run):
    config, supervised = named('model.start'), named(overrides=SUPERVISED)
    assert not has_begun(supervised, run)
    checkpoint_with(False, run)  # of an earlier version
    assert not has_begun(supervised, run)
    checkpoint_with(True, run)
    assert has_begun(supervised, run)
    assert not has_begun(config, run)
    (run / 'before.json').touch()
    assert not has_begun(config, run)
    assert has_begun(named('model.start', overrides=SUPERVISED), run)
    (run / 'label_embeddings.safetensors').touch()
    assert has_begun(config, run)
    (run / 'before.json').unlink()  # as a damaged one is to be removed: it is measured again
    assert not has_begun(config, run)


@pytest.mark.parametrize('setting', ['model.start', 'model.pretrained'])
def test_a_network_that_goes_on_reads_none_of_them(named, file, setting):
    config = named(setting)
    data, fabric = load_data(config), new_fabric(config.training, 1, 1)
    with pytest.raises(UnivsegError, match=str(file)):
        prepared_network(config, data, {}, config.model.start, fabric)
    beginning = Beginning(Weights('a package', 'abc'), Normalisation((0, 0.5, 1), (1, 0.5, 1)))
    network = prepared_network(config, data, {}, config.model.start, fabric, beginning)
    assert (network.began_with, network.normalisation) == (
        beginning.began_with, beginning.normalisation)
    assert network.std.flatten().tolist() == [255, 127.5, 255]


@pytest.mark.parametrize('setting', SETTINGS)
def test_a_file_that_is_not_there_is_refused_where_it_is_needed(values, write_config, tmp_path,
                                                                setting):
    path, override = write_config(values), f'{setting}={tmp_path / "gone"}'
    with pytest.raises(ConfigError, match=f'{setting}: no such file: {tmp_path}/gone'):
        load_config(path, [override])
    config = load_config(path, [override], files_needed=False)
    assert named_files(config) == {setting: tmp_path / 'gone'}


def test_a_finished_run_is_of_use_without_the_files_that_it_began_with(finished_run, values,
                                                                       write_config, tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    values['model']['start'] = str(tmp_path / 'gone.univseg')
    write_config(values).rename(run / 'config.yaml')
    for name in ('model.univseg', 'splits.json'):
        shutil.copy(finished_run[0] / name, run / name)
    (finished,) = load_runs([run])
    assert list(finished.samples) == ['outdoor', 'indoor']
    assert labelled_images(run, 'indoor') == labelled_images(finished_run[0], 'indoor')
