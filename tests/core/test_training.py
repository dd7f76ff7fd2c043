"""A whole training on two tiny worlds: what it leaves, and what it refuses."""

from dataclasses import replace
import json

import numpy as np
import pytest
from run_files import differing, rows, short, SUPERVISED
from safetensors.torch import load_file, save_file
from tiny_worlds import INDOOR, LABELLED, OUTDOOR, small_network, TRAINED
import torch
from univseg_core.batches.dataset import load_data, load_validation
from univseg_core.batches.splits import split_hash
from univseg_core.batches.stores import prepare_stores
from univseg_core.datasets.folders import DataError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.evaluation import DomainResult, evaluate
from univseg_core.method.label_embeddings import embedded_label_embeddings
from univseg_core.models.model_file import load_model
from univseg_core.settings.config import load_config
from univseg_core.training import run_label_embeddings
from univseg_core.training.run import train
from univseg_core.training.safety import TrainingError
from univseg_core.training.validation import summary

pytestmark = pytest.mark.usefixtures('bare_training')


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
        assert splits[name]['validation']['images'] == [s.image.name for s in d.validation]
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
    results = evaluate(segmenter, load_validation(config, segmenter.domains),
                       label_embeddings=True, progress=False)
    assert {name: result.to_dict() for name, result in results.items()} == figures

    last = {row['domain']: float(row['miou']) for row in rows(folder / 'validation.csv')
            if row['step'] == '30'}
    assert last == card.miou


def test_it_learns_with_the_label_embeddings_of_the_file(finished_run):
    folder, _ = finished_run
    vectors = load_file(folder / 'label_embeddings.safetensors')
    assert vectors.keys() == {'outdoor', 'indoor'}
    learned_with = load_file(folder / 'checkpoint.safetensors')
    for name, value in vectors.items():
        assert torch.equal(learned_with[f'model.label_embeddings_{name}'], value)
        torch.testing.assert_close(value.norm(dim=1), torch.ones(len(value)))


@pytest.mark.parametrize('file', ['model.univseg', 'supervised/indoor/model.univseg'])
def test_a_model_carries_the_label_embeddings_of_its_own_embedding(finished_run, file):
    """Whatever its training held on to: those that fit what its embedding has come to."""
    folder, config = finished_run
    network, _ = load_model(folder / file)
    images = prepare_stores(load_data(config), config.data.image_size).labelled
    images = {name: images[name] for name in network.domains}
    for name, vectors in embedded_label_embeddings(network, images).items():
        torch.testing.assert_close(network.label_embeddings(name), vectors)


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


def test_label_embeddings_of_another_run_are_used(finished_run, values, write_config, tmp_path):
    file = finished_run[0] / 'label_embeddings.safetensors'
    train(short(values, write_config, f'label_embeddings.file={file}'), tmp_path / 'run')
    assert not (tmp_path / 'run' / 'supervised').exists()
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
    assert message.startswith(f'label_embeddings.file: {file}: expected (classes × '
                              f'label_embeddings.centroids, dimensions) {expected}, got ')
    for name, shape in found.items():
        assert f"'{name}': {shape}" in message.partition(', got ')[2]
    assert not (tmp_path / 'run' / 'label_embeddings.safetensors').exists()


def test_a_file_of_the_users_own_is_never_to_be_removed(values, write_config, tmp_path):
    file = tmp_path / 'mine.safetensors'
    file.write_bytes(b'damaged')
    with pytest.raises(TrainingError, match=r'mine\.safetensors: cannot be read .*it is damaged: '
                                            r'name another in label_embeddings\.file, or none$'):
        train(short(values, write_config, f'label_embeddings.file={file}'), tmp_path / 'run')
    tensors = {'outdoor': torch.eye(8, dtype=torch.int64)[:3], 'indoor': torch.eye(8)[:2]}
    for classes in ('[', '[1]', '{"outdoor": 1}'):
        save_file(tensors, file, {'classes': classes})
        with pytest.raises(TrainingError, match=r'mine\.safetensors: expected class names of each '
                                                'domain, got'):
            train(short(values, write_config, f'label_embeddings.file={file}'), tmp_path / 'run')


def test_a_training_starts_from_pretrained_weights(values, write_config, tmp_path):
    encoder = small_network(seed=5, **TRAINED).encoder
    torch.save(encoder.state_dict() | {'fc.weight': torch.zeros(3)}, tmp_path / 'encoder.pth')
    train(short(values, write_config, *SUPERVISED, f'model.pretrained={tmp_path / "encoder.pth"}',
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
    (row,) = rows(tmp_path / 'run' / 'log.csv')
    assert float(row['loss']) == float(row['supervised'])


def test_a_class_that_no_label_shows_is_told_and_left_out(values, write_config, tmp_path,
                                                          monkeypatch):
    values['domains']['indoor']['classes'].append('sofa')
    warnings = []
    # Not caplog: where launch is installed, its loggers do not propagate.
    monkeypatch.setattr(run_label_embeddings.log, 'warning', lambda text, *values: warnings.append(
        text % values))
    train(short(values, write_config), tmp_path / 'run')
    assert [text.split(':')[:2] for text in warnings] == [
        ['indoor', ' no labelled image shows sofa']]
    vectors = load_file(tmp_path / 'run' / 'label_embeddings.safetensors')['indoor']
    assert vectors.any(dim=1).tolist() == [True, True, False]


def test_a_summary_has_every_domain_its_change_and_the_sum():
    half = DomainResult(OUTDOOR, np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 2, 0, 0]]))
    whole = DomainResult(INDOOR, np.array([[3, 0, 0], [0, 4, 0]]))
    results = {'outdoor': half, 'indoor': replace(whole, before=replace(
        whole, confusion=np.array([[2, 1, 0], [0, 4, 0]])))}
    # IoUs of 1, 1/4 and 0; of 1 and 1, and before of 2/3 and 4/5.
    assert summary(results) == 'mIoU % outdoor 41.7, indoor 100.0 (+26.7); sum 141.7'


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
