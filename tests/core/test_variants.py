"""What the method may be varied in: a whole tiny training with each, and what is refused."""

import json

import pytest
from run_files import (
    broken_off_at_step,
    differing,
    leave_out_training,
    rows,
    short,
    SUPERVISED,
)
from safetensors.torch import load_file
from tiny_worlds import INDOOR, OUTDOOR, small_network, TRAINED
import torch
from univseg_core.batches.dataset import load_data
from univseg_core.datasets.folders import DataError
from univseg_core.domains import Domain
from univseg_core.method.collapse import WINDOW
from univseg_core.models.model_file import load_model, ModelCard, save_model
from univseg_core.models.tensor_files import save_tensors
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.settings.config import load_config
from univseg_core.training import run as training_run
from univseg_core.training import run_label_embeddings, trainer
from univseg_core.training.networks import new_network, start_from
from univseg_core.training.run import train
from univseg_core.training.safety import TrainingError

pytestmark = pytest.mark.usefixtures('bare_training')


@pytest.fixture
def networks(finished_run):
    """Return the settings that take label embeddings from the networks of a finished run."""
    return [f'label_embeddings.networks.{name}={finished_run[0]}/supervised/{name}/model.univseg'
            for name in ('outdoor', 'indoor')]


@pytest.fixture
def warned(monkeypatch):
    """Return the warnings that a training logs."""
    texts = []
    # Not caplog: where launch is installed, its loggers do not propagate.
    for module in (training_run, run_label_embeddings, trainer):
        monkeypatch.setattr(module.log, 'warning', lambda text, *args: texts.append(text % args))
    return texts


def learned_with(run):
    """Return the label embeddings that a run learned with last."""
    return {key.removeprefix('model.label_embeddings_'): value
            for key, value in load_file(run / 'checkpoint.safetensors').items()
            if key.startswith('model.label_embeddings_')}


def test_several_label_embeddings_a_class(values, write_config, tmp_path, networks, warned):
    run = tmp_path / 'run'
    train(short(values, write_config, 'label_embeddings.centroids=3', *networks), run)
    vectors = load_file(run / 'label_embeddings.safetensors')
    assert {name: tuple(rows.shape) for name, rows in vectors.items()} == {
        'outdoor': (9, 8), 'indoor': (6, 8)}
    for of_domain in vectors.values():
        torch.testing.assert_close(of_domain.norm(dim=1), torch.ones(len(of_domain)))
        assert len(of_domain.unique(dim=0)) == len(of_domain)
    assert not warned
    network, _ = load_model(run / 'model.univseg')
    assert len(network.label_embeddings('outdoor')) == 9
    (row,) = rows(run / 'log.csv')
    assert 1 <= float(row['perplexity/outdoor/indoor']) <= 6
    assert 0 <= float(row['prototype_accuracy/indoor']) <= 1


def test_more_label_embeddings_than_a_class_has_cells_are_told(values, write_config, tmp_path,
                                                               networks, warned):
    train(short(values, write_config, 'label_embeddings.centroids=500', 'training.steps=1',
                *networks), tmp_path / 'run')
    assert [text for text in warned if text.startswith('indoor:')] == [
        f'indoor: the labelled images show too little of {name} for K-means: its mean is repeated'
        for name in INDOOR.classes]


@pytest.mark.parametrize('theta', [0.5, 1])
def test_label_embeddings_move_unless_theta_is_one(values, write_config, tmp_path, networks,
                                                   theta):
    run = tmp_path / 'run'
    train(short(values, write_config, f'label_embeddings.theta={theta}',
                'label_embeddings.update_every=4', *networks), run)
    before, after = load_file(run / 'label_embeddings.safetensors'), learned_with(run)
    for name, vectors in before.items():
        assert torch.equal(vectors, after[name]) == (theta == 1)
        torch.testing.assert_close(after[name].norm(dim=1), torch.ones(len(vectors)))


def test_they_are_updated_once_an_epoch(values, write_config, tmp_path, networks, monkeypatch):
    """Of 8 unlabelled images, one a step, every one has been seen after step 8, and after 16."""
    seen = []
    monkeypatch.setattr(trainer, 'update_label_embeddings', lambda *_: seen.append(1))
    run = tmp_path / 'run'
    train(short(values, write_config, 'label_embeddings.theta=0.5', 'training.steps=17',
                'training.validate_every=100', *networks), run)
    assert len(seen) == 2


def test_an_interrupted_run_goes_on_with_the_label_embeddings_it_had(values, write_config,
                                                                     tmp_path, networks):
    config = short(values, write_config, 'label_embeddings.theta=0.5',
                   'label_embeddings.update_every=2', *networks)
    train(config, tmp_path / 'whole')
    broken = tmp_path / 'broken'
    with broken_off_at_step(8):
        train(config, broken)
    train(config, broken)
    for file in ('checkpoint.safetensors', 'model.univseg'):
        assert differing(tmp_path / 'whole' / file, broken / file) == []


def test_one_basis_of_a_joint_network(values, write_config, tmp_path):
    """The run starts from the joint network, with E as its principal components."""
    run = tmp_path / 'run'
    train(short(values, write_config, 'label_embeddings.basis=joint'), run)
    assert not (run / 'supervised').exists()
    joint, _ = load_model(run / 'joint' / 'model.univseg')
    start, _ = load_model(run / 'start.univseg')
    assert list(start.domains) == ['outdoor', 'indoor']
    for name in ('encoder', 'head_outdoor', 'head_indoor'):
        found, expected = (net.get_submodule(name).state_dict() for net in (start, joint))
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    rows_of_e = start.embedding.weight.flatten(1)
    torch.testing.assert_close(rows_of_e @ rows_of_e.T, torch.eye(8), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('weights', [('objective.alpha=0', 'objective.beta=0'), ()])
def test_an_anchor_alone_or_with_the_entropies(values, write_config, tmp_path, networks, weights):
    run = tmp_path / 'run'
    train(short(values, write_config, 'objective.anchor=1', 'objective.similarity=cosine',
                'objective.temperature=0.1', 'training.steps=30', *weights, *networks), run)
    written = rows(run / 'log.csv')
    assert float(written[-1]['anchor']) < 0.9 * float(written[0]['anchor'])


def test_networks_that_do_not_fit_are_refused(values, write_config, tmp_path, networks):
    def refused(*settings):
        with pytest.raises(TrainingError) as error:
            train(short(values, write_config, *settings), tmp_path / 'run')
        assert not (tmp_path / 'run').exists()
        return str(error.value)

    assert 'expected a model file for each of outdoor, indoor, got outdoor' in refused(networks[0])
    swapped = [networks[0].replace('networks.outdoor', 'networks.indoor'),
               networks[0]]
    assert 'expected a model of indoor with the classes wall, lamp, got outdoor: ground' in (
        refused(*swapped))
    values['domains']['indoor']['classes'] = ['wall', 'light']
    assert 'wall, light, got indoor: wall, lamp' in refused(*networks)


def test_a_training_starts_from_the_network_of_another_domain(finished_run, values, write_config,
                                                              tmp_path):
    """The encoder is taken over, and the head of a domain that both have."""
    other = finished_run[0] / 'supervised' / 'outdoor' / 'model.univseg'
    del values['domains']['outdoor']
    config = short(values, write_config, *SUPERVISED, f'model.start={other}')
    network = new_network(config, load_data(config))
    own_head = network.head('indoor').weight.clone()
    start_from(other, network)
    found, _ = load_model(other)
    for key, value in found.encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[key], value)
    assert torch.equal(network.head('indoor').weight, own_head)
    train(config, tmp_path / 'run')
    assert list(load_model(tmp_path / 'run' / 'model.univseg')[0].domains) == ['indoor']

    universal = UniversalSegmenter(network.spec, [INDOOR, OUTDOOR])
    start_from(other, universal)
    assert torch.equal(universal.head('outdoor').weight, found.head('outdoor').weight)


@pytest.mark.parametrize(('spec', 'domain', 'reason'), [
    (ModelSpec('drn_d_22', 1 / 16, 8), OUTDOOR,
     'its encoder is drn_d_22, but model.encoder light, its width is 0.0625, but model.width'),
    (ModelSpec(**TRAINED | {'embedding_dim': 4}), OUTDOOR,
     'embedding_dim is 4, but model.embedding_dim 8'),
    (ModelSpec(**TRAINED), Domain.create('outdoor', ['a', 'b', 'c']),
     'outdoor: expected the classes ground, box, ball, got a, b, c')])
def test_a_start_of_another_shape_is_refused(tmp_path, spec, domain, reason):
    save_model(tmp_path / 'a.univseg', UniversalSegmenter(spec, [domain]), ModelCard())
    with pytest.raises(TrainingError, match=reason) as error:
        start_from(tmp_path / 'a.univseg', small_network(**TRAINED))
    assert str(error.value).startswith(f'model.start: {tmp_path / "a.univseg"}: ')


@pytest.fixture
def untrained(monkeypatch):
    """Leave out the training itself, where what a run says before it matters."""
    leave_out_training(monkeypatch)


@pytest.mark.usefixtures('untrained')
def test_a_domain_without_unlabelled_images_is_told_what_it_lacks(values, write_config, tmp_path,
                                                                  networks, warned):
    values['domains']['indoor'] |= {'labelled': None, 'labelled_also_unlabelled': False}
    train(short(values, write_config, *networks), tmp_path / 'run')
    (text,) = [text for text in warned if 'other labelled images' not in text]
    assert text.startswith('indoor: no unlabelled images: it learns from its labels alone')


@pytest.mark.usefixtures('untrained')
def test_settings_that_have_no_effect_without_label_embeddings_are_named(
        values, write_config, tmp_path, networks, warned):
    settings = ('objective.similarity=cosine', 'objective.temperature=0.1',
                'label_embeddings.theta=0.5', 'label_embeddings.update_every=1', *networks)
    for weight in (0, 1):
        values['objective'] |= {'alpha': 0, 'beta': 0, 'anchor': weight}
        train(short(values, write_config, *settings), tmp_path / f'anchor{weight}')
        told = [text for text in warned if 'without effect' in text]
        if weight:
            assert not told
        else:
            assert len(told) == 1
            assert told[0].partition(': nothing')[0] == 'without effect: ' + ', '.join((
                'objective.similarity', 'objective.temperature',
                *(f'label_embeddings.{name}'
                  for name in ('pretrain_steps', 'theta', 'update_every', 'networks'))))
            warned.clear()


def test_a_collapse_is_said_within_a_hundred_steps(values, write_config, tmp_path, networks,
                                                   warned):
    """Weights that leave the labels no say drive all pixels to one label embedding."""
    values['training'] |= {'steps': 150, 'validate_every': 1000, 'checkpoint_every': 1000}
    config = load_config(write_config(values), [
        'objective.alpha=30', 'objective.beta=30', 'objective.warmup_steps=0', *networks])
    train(config, tmp_path / 'run')
    logged = list(rows(tmp_path / 'run' / 'log.csv'))
    # Which of them does is chance.
    collapsed = {name: steps for name in ('outdoor', 'indoor') if (steps := [
        int(row['step']) for row in logged if float(row[f'perplexity/{name}/{name}']) < 1.3])}
    assert collapsed
    for name, steps in collapsed.items():
        (line,) = [text for text in warned
                   if text.startswith(f'{name}: ') and 'the embedding has collapsed' in text]
        step = int(line.split('by step ')[1].split(',')[0])
        assert step <= min(steps) + 2 * WINDOW


def label_embeddings_file(path, rows, classes=None):
    metadata = {} if classes is None else {'classes': json.dumps(classes)}
    save_tensors(path, rows, metadata)
    return f'label_embeddings.file={path}'


@pytest.mark.parametrize(('per_class', 'settings'), [
    (2, ('label_embeddings.theta=0.5', 'label_embeddings.update_every=2')),
    (1, ('objective.anchor=1',))])
def test_a_class_that_a_file_lacks_is_left_out_throughout(values, write_config, tmp_path,
                                                          per_class, settings):
    rows_of = {'outdoor': torch.eye(8)[:3 * per_class], 'indoor': torch.eye(8)[:2 * per_class]}
    rows_of['outdoor'][per_class:2 * per_class] = 0
    file = label_embeddings_file(tmp_path / 'file.safetensors', rows_of)
    train(short(values, write_config, file, f'label_embeddings.centroids={per_class}', *settings),
          tmp_path / 'run')
    after = learned_with(tmp_path / 'run')['outdoor']
    assert after.any(1).tolist() == rows_of['outdoor'].any(1).tolist()


@pytest.mark.parametrize(('spoil', 'reason'), [
    (lambda rows: rows * 5, 'norms from 5 to 5'), (lambda rows: rows * 0, 'not all 0'),
    (lambda rows: rows * torch.nan, 'norms from nan')])
def test_label_embeddings_of_other_norms_are_refused(values, write_config, tmp_path, spoil,
                                                     reason):
    file = label_embeddings_file(tmp_path / 'file.safetensors', {
        'outdoor': spoil(torch.eye(8)[:3]), 'indoor': torch.eye(8)[:2]})
    with pytest.raises(TrainingError, match=reason):
        train(short(values, write_config, file), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_label_embeddings_of_another_label_space_are_refused(finished_run, values, write_config,
                                                             tmp_path):
    values['domains']['outdoor']['classes'].reverse()
    file = finished_run[0] / 'label_embeddings.safetensors'
    with pytest.raises(TrainingError, match='classes ball, box, ground, got those of ground, box'):
        train(short(values, write_config, f'label_embeddings.file={file}'), tmp_path / 'run')


@pytest.mark.usefixtures('untrained')
def test_networks_of_other_labels_are_told(values, write_config, tmp_path, networks, warned):
    values['domains']['indoor']['labelled'] = 2
    train(short(values, write_config, *networks), tmp_path / 'run')
    assert {text.split(':')[0] for text in warned if 'other labelled images' in text} == {
        'label_embeddings.networks.indoor'}


def test_updates_that_never_come_are_told(values, write_config, tmp_path, networks, warned):
    train(short(values, write_config, 'training.steps=2', 'label_embeddings.theta=0', *networks),
          tmp_path / 'run')
    (text,) = warned
    assert 'label_embeddings.theta has no effect: they are updated every 8 steps' in text


def test_one_domain_has_no_cross_domain_entropy(values, write_config, tmp_path):
    del values['domains']['indoor']
    with pytest.raises(DataError, match=r'objective\.alpha \(0\.1\) weighs the cross-domain'):
        train(short(values, write_config, 'objective.beta=0'), tmp_path / 'run')
