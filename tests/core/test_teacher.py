"""The mean teacher, the mixed crops that its pupil sees, and class weights."""

from dataclasses import replace

from lightning_fabric import Fabric
from lightning_fabric.plugins import Precision
import numpy as np
import pytest
from run_files import short, SUPERVISED
from tiny_worlds import INDOOR, OUTDOOR, small_network
import torch
from univseg_core.batches.cut_mix import cut_mix, CutMix, random_box
from univseg_core.batches.dataset import load_data
from univseg_core.batches.mixture import Batch
from univseg_core.batches.stores import prepare_stores
from univseg_core.method.losses import MEAN
from univseg_core.method.objectives import consistency_loss, masked_cross_entropy, valid_cells
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.pictures.images import read_label
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError
from univseg_core.settings.objective import ObjectiveSection
from univseg_core.training import trainer
from univseg_core.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from univseg_core.training.class_balance import balanced, class_weights
from univseg_core.training.run import train
from univseg_core.training.run_context import RunContext
from univseg_core.training.safety import TrainingError
from univseg_core.training.step import (
    batch_losses,
    forward_and_backward,
    step_counts,
    Supervision,
)
from univseg_core.training.teacher import MeanTeacher, MOMENTUM

pytestmark = pytest.mark.usefixtures('bare_training')

FABRIC = Fabric(accelerator='cpu', devices=1)
LABELLED = {'outdoor': slice(0, 1), 'indoor': slice(1, 2)}
UNLABELLED = {'outdoor': slice(2, 5), 'indoor': slice(5, 7)}


@pytest.fixture
def unmixed():
    generator = torch.manual_seed(0)
    images = torch.randint(0, 256, (7, 3, 24, 40), generator=generator).to(torch.uint8)
    targets = torch.randint(0, 2, (7, 24, 40), generator=generator).to(torch.uint8)
    targets[2:] = 0
    for crop, padding in enumerate((8, 0, 8, 16, 0, 8, 0)):  # each has its own
        targets[crop, 24 - padding:] = 255
    return Batch(images, targets, LABELLED, UNLABELLED)


@pytest.fixture
def batch(unmixed):
    """Return the batch with its unlabelled crops mixed."""
    images, targets, mixes = unmixed.images.clone(), unmixed.targets.clone(), {}
    generator = np.random.default_rng(7)
    for name, rows in UNLABELLED.items():
        count = rows.stop - rows.start
        crops, its, mixes[name] = cut_mix(
            images[rows].permute(0, 2, 3, 1).numpy(), targets[rows].numpy(),
            [random_box((3, 5), generator) for _ in range(count)], [0] * count, 8)
        images[rows], targets[rows] = (torch.from_numpy(crops).permute(0, 3, 1, 2),
                                       torch.from_numpy(its))
    return Batch(images, targets, LABELLED, UNLABELLED, mixes=mixes)


def test_the_teacher_is_the_running_mean_of_the_network():
    network, other = small_network(seed=0), small_network(seed=1)
    teacher = MeanTeacher(network)
    key = 'head_outdoor.weight'
    old, new = network.state_dict()[key].clone(), other.state_dict()[key]
    teacher.update(other, step=10_000)
    torch.testing.assert_close(teacher.network.state_dict()[key],
                               MOMENTUM * old + (1 - MOMENTUM) * new)
    # At first, the mean of as many steps as there were.
    teacher = MeanTeacher(network)
    teacher.update(other, step=1)
    torch.testing.assert_close(teacher.network.state_dict()[key], (old + new) / 2)
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert not teacher.network.training


def test_it_answers_for_the_unmixed_as_the_heads_do_and_mixes_the_answers(batch, unmixed):
    network = small_network()
    answers = MeanTeacher(network).answers(batch).unlabelled
    with torch.no_grad():
        features = network.features(unmixed.images)
    assert {name: tuple(each.shape) for name, each in answers.items()} == {
        'outdoor': (3, 3, 3, 5), 'indoor': (2, 2, 3, 5)}
    for name, rows in UNLABELLED.items():
        expected = network.logits(features[rows], name).softmax(1).detach()
        inside = batch.mixes[name].inside[:, None]
        assert inside.any()
        torch.testing.assert_close(answers[name], torch.where(inside, expected.roll(1, 0),
                                                              expected))


@pytest.mark.parametrize(('encoder', 'width'), [
    ('drn_d_22', 1 / 4), ('light', 1 / 4), ('resnet18', 1), ('efficientnet_lite0', 1)])
def test_a_process_without_crops_of_a_domain_gets_no_answers_of_it(batch, encoder, width):
    """Of 2 processes, one has none where each domain has one pair."""
    network = UniversalSegmenter(ModelSpec(encoder, width, 8), [OUTDOOR, INDOOR])
    for counts in ({'outdoor': 3, 'indoor': 0}, {'outdoor': 0, 'indoor': 0}):
        answers = MeanTeacher(network).answers(replace(batch, mixes={
            name: first(batch.mixes[name], count) for name, count in counts.items()}))
        assert {name: len(answers.unlabelled[name]) for name in counts} == counts


def first(mix, count):
    return CutMix(mix.unmixed[:count], mix.inside[:count], mix.partners[:count])


def test_the_consistency_is_the_cross_entropy_of_what_is_there():
    generator = torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 2, generator=generator)
    probabilities = torch.rand(2, 3, 2, 2, generator=generator).softmax(1)
    valid = torch.tensor([[[1, 0], [1, 1]], [[0, 1], [0, 0]]]).bool()
    expected = 0.0
    for b, y, x in valid.nonzero().tolist():
        scores = logits[b, :, y, x].double()
        shares = probabilities[b, :, y, x].double()
        expected -= (shares * (scores - scores.exp().sum().log())).sum().item()
    assert consistency_loss(logits, probabilities, valid).item() == pytest.approx(expected / 4)
    assert consistency_loss(logits, probabilities, valid,
                            torch.tensor(20)).item() == pytest.approx(expected / 20)


@pytest.mark.parametrize('full_resolution', [False, True])
@pytest.mark.parametrize(('warmup', 'rise'), [(0, 1), (10, 0.5)])
def test_the_losses_of_mixed_crops(batch, warmup, rise, full_resolution):
    """Padding is that of the mixed crops, also where the entropies are those of pixels."""
    network = small_network()
    for name in ('outdoor', 'indoor'):
        vectors = network.label_embeddings(name)
        network.set_label_embeddings(name, torch.eye(*vectors.shape))
    objective = ObjectiveSection(alpha=0, beta=0.1, consistency=0.8, warmup_steps=warmup,
                                 full_resolution=full_resolution)
    its = MeanTeacher(network).answers(batch)
    answers = its.unlabelled
    counts = step_counts(FABRIC, [batch], objective, 8)
    loss, values = batch_losses(network, batch, counts, objective, 5, {}, {MEAN: its})
    features, expected = network.features(batch.images), 0
    for name, rows in UNLABELLED.items():
        valid = valid_cells(batch.targets[rows], 8)
        expected += consistency_loss(network.logits(features[rows], name), answers[name], valid)
        mean = answers[name].permute(0, 2, 3, 1)[valid].mean(0)
        torch.testing.assert_close(values[f'taught/{name}'], mean)
    torch.testing.assert_close(loss.detach(), values['supervised'] + rise * (
        0.8 * expected.detach() + 0.1 * values['within_entropy']))
    torch.testing.assert_close(values['consistency'], expected.detach())


def step_with_a_teacher(pieces):
    """Return a step's values, and the gradient of a head."""
    network = small_network()
    optimizer = torch.optim.SGD(network.parameters())
    model, _ = FABRIC.setup(network, optimizer)
    values = forward_and_backward(
        FABRIC, model, pieces, ObjectiveSection(consistency=1, warmup_steps=0), 3,
        Supervision(teachers={MEAN: MeanTeacher(network)}))
    return values, network.head('outdoor').weight.grad


def test_a_step_holds_mixed_crops_to_the_answers_for_the_unmixed(batch, unmixed):
    network = small_network()
    values, _ = step_with_a_teacher([batch])
    features, expected = network.features(batch.images), 0
    for name, rows in UNLABELLED.items():
        answers = network.logits(network.features(unmixed.images[rows]), name).softmax(1)
        expected += consistency_loss(
            network.logits(features[rows], name), batch.mixes[name].of_cells(answers),
            valid_cells(batch.targets[rows], 8))
    torch.testing.assert_close(values['consistency'], expected.detach())


def test_pieces_have_the_same_kinds_of_values(batch):
    """One piece has no labels, the other no unlabelled crops of indoor: processes can add up."""
    none = slice(2, 2)
    nothing = {name: first(mix, 0) for name, mix in batch.mixes.items()}
    pieces = [
        Batch(batch.images[:2], batch.targets[:2], LABELLED,
              {'outdoor': none, 'indoor': none}, mixes=nothing),
        Batch(batch.images[2:], batch.targets[2:], {name: slice(0, 0) for name in LABELLED},
              {'outdoor': slice(0, 3), 'indoor': slice(3, 5)}, mixes=batch.mixes)]
    values, gradient = step_with_a_teacher(pieces)
    whole, _ = step_with_a_teacher([batch])
    assert values.keys() == whole.keys()
    assert gradient.isfinite().all()
    for key in ('supervised', 'consistency'):
        torch.testing.assert_close(values[key], whole[key])
    labelled, _ = step_with_a_teacher(pieces[:1])
    assert labelled.keys() == whole.keys()
    assert labelled['consistency'] == 0


def test_class_weights_balance():
    pixels = np.array([900, 90, 10, 0])
    assert balanced(pixels, 1).tolist() == pytest.approx([1 / 2.7, 1 / 0.27, 1 / 0.03, 0])
    weights = balanced(pixels, 0.5).numpy()
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(10 ** 0.5)
    assert weights[3] == 0


def test_class_weights_multiply_each_pixels_loss():
    logits = torch.zeros(1, 3, 1, 4)
    target = torch.tensor([[[0, 1, 1, 255]]], dtype=torch.uint8)
    loss = masked_cross_entropy(logits, target, class_weights=torch.tensor([3.0, 0.5, 9.0]))
    assert loss.item() == pytest.approx((3 + 0.5 + 0.5) / 3 * np.log(3))


def test_class_weights_are_counted_in_the_labelled_images(values, write_config, caplog):
    config = load_config(write_config(values))
    data = load_data(config)
    context = RunContext(config, FABRIC, prepare_stores(data, 64, progress=False), 0)
    with caplog.at_level('INFO'):
        weights = class_weights(context, list(data), 0.5)
    for name, d in data.items():
        pixels = np.zeros(256)
        for sample in d.labelled:
            pixels += np.bincount(read_label(sample.label, d.domain).ravel(), minlength=256)
        shares = pixels[:len(d.domain.classes)] / pixels[:len(d.domain.classes)].sum()
        expected = shares ** -0.5
        np.testing.assert_allclose(weights[name], expected / (expected * shares).sum(), rtol=1e-5)
        assert f'{name}: labelled pixels weigh by class: {d.domain.classes[0]} ' in caplog.text
    assert class_weights(context, list(data), 0) == {}


def test_the_weights_reach_the_loss(values, write_config, tmp_path, monkeypatch):
    """Of equal networks on equal batches, the first loss is another with weights."""
    losses = []

    def note(loss, *unused):
        losses.append(loss)
        raise TrainingError('enough')

    monkeypatch.setattr(trainer, 'check_loss', note)
    for power in (0, 1):
        with pytest.raises(TrainingError, match='enough'):
            train(short(values, write_config, *SUPERVISED, f'objective.class_balance={power}'),
                  tmp_path / str(power))
    assert losses[0] != losses[1]


def test_one_crop_cannot_be_mixed(values, write_config):
    with pytest.raises(ConfigError, match=r'data\.unlabelled_per_domain: expected at least 2, '
                                          r'which objective\.consistency \(0\.5\) .*, got 1; or'):
        load_config(write_config(values), ['objective.consistency=0.5'])


def test_a_checkpoint_of_a_run_without_a_teacher_is_refused(values, write_config, tmp_path):
    path = tmp_path / 'checkpoint.safetensors'
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1)
    save_checkpoint(path, 3, network, optimizer, scheduler, Precision())
    with pytest.raises(CheckpointError, match=r'checkpoint\.safetensors: cannot be continued'):
        load_checkpoint(path, network, optimizer, scheduler, Precision(),
                        MeanTeacher(network).network)
