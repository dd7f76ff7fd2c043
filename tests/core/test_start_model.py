"""Trainings that start from a model file: what they take, measure, warn of and refuse."""

import json
import shutil

import pytest
from run_files import broken_off_at_step, differing, leave_out_training, short, SUPERVISED
from safetensors.torch import load_file
from tiny_worlds import small_network, TRAINED
import torch
from univseg_core.batches.dataset import load_data
from univseg_core.cli import main
from univseg_core.models.model_file import load_model, ModelCard, save_model
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError
from univseg_core.training import start_model
from univseg_core.training.run import train
from univseg_core.training.safety import TrainingError

pytestmark = pytest.mark.usefixtures('bare_training')


@pytest.fixture
def told(monkeypatch):
    """Return what is logged of the start model."""
    texts = []
    for level in ('info', 'warning'):  # not caplog: see test_variants.py
        monkeypatch.setattr(start_model.log, level, lambda text, *args: texts.append(text % args))
    return texts


def figures(run):
    return json.loads((run / 'evaluation.json').read_text())


def test_old_domains_are_measured_before_and_after(finished_run, values, write_config, tmp_path,
                                                   told):
    start, run = finished_run[0] / 'model.univseg', tmp_path / 'run'
    results = train(short(values, write_config, *SUPERVISED, f'model.start={start}'), run)
    before = figures(finished_run[0])
    for name, found in figures(run).items():
        assert found['before'] == {key: before[name][key] for key in ('miou', 'iou')}
        assert found['change'] == pytest.approx(found['miou'] - before[name]['miou'])
        assert results[name].before.miou == before[name]['miou']
    assert (run / 'evaluation.md').read_text().count('before %') == 2
    mious = [f'{name} {100 * result["miou"]:.1f}' for name, result in before.items()]
    assert f'{start}: outdoor with its head, indoor with its head' in told[0]
    assert told[1].startswith(f'{start}, before: mIoU % {", ".join(mious)}; sum ')


def test_a_further_domain_has_no_before(finished_run, values, write_config, tmp_path, told):
    start = finished_run[0] / 'supervised' / 'outdoor' / 'model.univseg'
    run = tmp_path / 'run'
    train(short(values, write_config, *SUPERVISED, f'model.start={start}'), run)
    found = figures(run)
    assert 'before' in found['outdoor']
    assert 'before' not in found['indoor'] and 'change' not in found['indoor']
    assert 'outdoor with its head, indoor is new' in told[0]
    assert list(load_model(run / 'model.univseg')[0].domains) == ['outdoor', 'indoor']


def test_a_run_that_has_begun_needs_no_start_model(finished_run, values, write_config, tmp_path):
    """It goes on to the same figures, whatever has become of the file; before, it is refused."""
    start, run = tmp_path / 'start.univseg', tmp_path / 'run'
    start.write_bytes((finished_run[0] / 'model.univseg').read_bytes())
    overrides = (*SUPERVISED, f'model.start={start}')
    config = short(values, write_config, *overrides)
    with broken_off_at_step(2):  # there is a checkpoint at every fifth
        train(config, run)
    save_model(start, small_network(seed=1, **TRAINED), ModelCard(64))
    with pytest.raises(TrainingError, match=f'model.start: {start} is not what it was'):
        train(config, run)
    start.write_bytes((finished_run[0] / 'model.univseg').read_bytes())
    with broken_off_at_step(8):
        train(config, run)
    undisturbed = tmp_path / 'undisturbed'
    shutil.copytree(run, undisturbed)
    train(config, undisturbed)
    start.unlink()
    assert main(['train', str(write_config(values)), 'training.steps=10', *overrides,
                 '--run', str(run)]) == 0
    assert figures(run)['outdoor']['before']['miou'] == figures(
        finished_run[0])['outdoor']['miou']
    assert differing(run / 'model.univseg', undisturbed / 'model.univseg') == []


def test_the_folder_of_a_finished_run_stands_for_its_model(finished_run, values, write_config,
                                                           tmp_path):
    def start_of(folder):
        return load_config(str(write_config(values)), [f'model.start={folder}']).model.start

    assert start_of(finished_run[0]) == (finished_run[0] / 'model.univseg').resolve()
    with pytest.raises(ConfigError, match=r'model\.start.*no such file: .*/model\.univseg'):
        start_of(tmp_path)


@pytest.mark.parametrize('text', ['{"outdoor": [[1, 2', '{"outdoor": [[1, 2]]}', '[]',
                                  '{"elsewhere": [[1, 2, 0], [3, 4, 0]]}'])
def test_a_damaged_file_of_what_was_before_is_named(finished_run, values, write_config, tmp_path,
                                                    text):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'before.json').write_text(text)
    with pytest.raises(TrainingError, match=r'run/before\.json: damaged .*; remove it'):
        train(short(values, write_config, *SUPERVISED,
                    f'model.start={finished_run[0]}/model.univseg'), run)


def test_heads_that_get_lost_and_other_image_sizes_are_told(finished_run, values, write_config,
                                                            tmp_path, told, monkeypatch):
    leave_out_training(monkeypatch)
    start = finished_run[0] / 'model.univseg'
    del values['domains']['outdoor']
    train(short(values, write_config, *SUPERVISED, f'model.start={start}',
                'data.image_size=48'), tmp_path / 'run')
    assert f'model.start: {start} has heads of domains that the configuration does not name, ' \
        'and that the new model will lack: outdoor' in told
    assert f'model.start: {start} has learned from images of data.image_size 64; here it is 48' \
        in told


def test_a_start_in_the_runs_own_folder_is_refused(finished_run, values, write_config, tmp_path):
    start = tmp_path / 'run' / 'model.univseg'
    start.parent.mkdir()
    start.write_bytes((finished_run[0] / 'model.univseg').read_bytes())
    with pytest.raises(TrainingError, match='lies in the folder of this run'):
        train(short(values, write_config, *SUPERVISED, f'model.start={start}'), start.parent)
    assert list(start.parent.iterdir()) == [start]


def test_label_embeddings_of_the_start_model(finished_run, values, write_config, tmp_path):
    """Its file has those of E(F(x)) on the same labelled images; no network is trained."""
    start, run = finished_run[0] / 'model.univseg', tmp_path / 'run'
    train(short(values, write_config, f'model.start={start}', 'label_embeddings.basis=start'),
          run)
    assert not (run / 'supervised').exists()
    network, _ = load_model(start)
    made = load_file(run / 'label_embeddings.safetensors')
    for name in ('outdoor', 'indoor'):
        torch.testing.assert_close(made[name], network.label_embeddings(name))


def test_label_embeddings_of_the_start_model_for_a_further_domain(finished_run, values,
                                                                  write_config, tmp_path):
    start = finished_run[0] / 'supervised' / 'outdoor' / 'model.univseg'
    run = tmp_path / 'run'
    train(short(values, write_config, f'model.start={start}', 'label_embeddings.basis=start',
                'label_embeddings.centroids=2', 'training.steps=1'), run)
    made = load_file(run / 'label_embeddings.safetensors')
    assert {name: len(rows) for name, rows in made.items()} == {'outdoor': 6, 'indoor': 4}
    torch.testing.assert_close(made['indoor'].norm(dim=1), torch.ones(4))


@pytest.mark.parametrize('anchor', [0, 1])
def test_an_embedding_that_nothing_has_taught_is_told(values, write_config, tmp_path, told,
                                                      anchor):
    start = tmp_path / 'start.univseg'
    objective = {'alpha': 0.0, 'beta': 0.0, 'anchor': float(anchor)}
    save_model(start, small_network(**TRAINED), ModelCard(64, training={
        'config': {'objective': objective}}))
    config = short(values, write_config, f'model.start={start}', 'label_embeddings.basis=start')
    start_model.check_start(config, load_data(config), tmp_path / 'run')
    assert any('nothing taught the embedding' in text for text in told) == (not anchor)


def test_label_embeddings_of_a_start_model_need_one(values, write_config, finished_run):
    path = write_config(values)
    with pytest.raises(ConfigError, match=r'label_embeddings\.basis: .*name it in model\.start'):
        load_config(path, ['label_embeddings.basis=start'])
    file = finished_run[0] / 'label_embeddings.safetensors'
    with pytest.raises(ConfigError, match='file: cannot be used together with basis: start'):
        load_config(path, ['label_embeddings.basis=start', f'label_embeddings.file={file}'])
