"""A large model that teaches a small one: the loss, its answers, and trainings with one."""

from dataclasses import replace
import json
import math

from lightning_fabric import Fabric
import numpy as np
import pytest
from run_files import broken_off_at_step, differing, rows, short, SUPERVISED
from tiny_worlds import INDOOR, OUTDOOR, small_network
import torch
from torch import nn
from univseg_core.batches.cut_mix import CutMix
from univseg_core.batches.dataset import load_data
from univseg_core.batches.mixture import Batch
from univseg_core.cli import main
from univseg_core.commands import training
from univseg_core.domains import Domain
from univseg_core.method.losses import LARGE
from univseg_core.method.objectives import (
    consistency_loss,
    distillation_loss,
    valid_cells,
)
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.normalisation import Normalisation
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError
from univseg_core.settings.objective import ObjectiveSection
from univseg_core.training import run as training_run
from univseg_core.training.large_model import check_answers, check_large_model, large_teacher
from univseg_core.training.run import train, warn_of_unused_settings
from univseg_core.training.run_settings import differing_settings
from univseg_core.training.safety import TrainingError
from univseg_core.training.step import forward_and_backward, Supervision
from univseg_core.training.teacher import Teacher

pytestmark = pytest.mark.usefixtures('bare_training')

FABRIC = Fabric(accelerator='cpu', devices=1)
LABELLED = {'outdoor': slice(0, 2), 'indoor': slice(2, 3)}
UNLABELLED = {'outdoor': slice(3, 5), 'indoor': slice(5, 7)}
KEY = 'objective.distillation.teacher'


@pytest.fixture
def batch():
    generator = torch.manual_seed(0)
    images = torch.randint(0, 256, (7, 3, 24, 40), generator=generator).to(torch.uint8)
    targets = torch.randint(0, 2, (7, 24, 40), generator=generator).to(torch.uint8)
    targets[3:] = 0
    targets[1, :8], targets[4, 16:], targets[6] = 255, 255, 255
    return Batch(images, targets, LABELLED, UNLABELLED)


@pytest.fixture
def large(tmp_path):
    """Return the file of a model that could teach the tiny worlds."""
    path = tmp_path / 'large: 1.univseg'  # what YAML would take for a key
    save_model(path, small_network(seed=1), ModelCard(64))
    return path


def test_the_divergence_by_hand():
    """At T = 2, logits of (2 ln 3, 0) are (3/4, 1/4); the second cell is padding."""
    logits = torch.tensor([[[[2 * math.log(3), 9.0]], [[0.0, 9.0]]]])
    probabilities = torch.tensor([[[[0.5, 1.0]], [[0.5, 0.0]]]])
    valid = torch.tensor([[[True, False]]])
    divergence = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert distillation_loss(logits, probabilities, valid, 2).item() == pytest.approx(
        4 * divergence)
    assert distillation_loss(logits, probabilities, valid, 2,
                             torch.tensor(8)).item() == pytest.approx(4 * divergence / 8)
    certain = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])  # no 0 · log 0
    assert distillation_loss(logits, certain, valid, 2).item() == pytest.approx(
        -4 * math.log(0.75))


@pytest.mark.parametrize('temperature', [1, 3])
def test_it_is_the_cross_entropy_less_the_teachers_entropy(temperature):
    generator = torch.manual_seed(0)
    logits, its = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    probabilities = (its / temperature).softmax(1)
    valid = torch.rand(2, 4, 5, generator=generator) < 0.7
    entropy = torch.special.entr(probabilities).sum(1)[valid].mean()
    expected = consistency_loss(logits / temperature, probabilities, valid) - entropy
    torch.testing.assert_close(
        distillation_loss(logits, probabilities, valid, temperature), temperature ** 2 * expected)
    assert distillation_loss(its, probabilities, valid, temperature).abs() < 1e-6


class Painted(nn.Module):
    """What answers by the brightness of the first pixel of each of its cells, times `scale`."""

    def __init__(self, stride, scale=1.0):
        super().__init__()
        self.stride, self.scale = stride, scale

    def features(self, images):
        return images[:, :1, ::self.stride, ::self.stride].float() * self.scale

    def logits(self, features, domain):
        return torch.cat([features, torch.zeros_like(features)], 1)


def crops_of(rows):
    """Return a batch of one unlabelled crop, grey as the rows say."""
    image = torch.tensor(rows, dtype=torch.uint8).expand(1, 3, -1, -1)
    return Batch(image, torch.zeros_like(image[:, 0]), {}, {'yard': slice(0, 1)})


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def test_a_finer_teachers_probabilities_are_those_of_a_cell_on_average():
    """Also at an edge where a cell has fewer of them."""
    teacher = Teacher(Painted(1), stride=2, temperature=2)
    answers = teacher.answers(crops_of([[0, 1, 8], [2, 3, 9], [4, 5, 6]])).unlabelled['yard']
    expected = [[(0, 1, 2, 3), (8, 9)], [(4, 5), (6,)]]
    for y, x in np.ndindex(2, 2):
        shares = [sigmoid(value / 2) for value in expected[y][x]]
        assert answers[0, 0, y, x].item() == pytest.approx(sum(shares) / len(shares))
    torch.testing.assert_close(answers.sum(1), torch.ones(1, 2, 2))


def test_a_coarser_teachers_logits_are_upsampled_as_those_of_masks():
    teacher = Teacher(Painted(2), stride=1)
    image = [[0, 0, 4, 4, 8], [0, 0, 4, 4, 8], [0, 0, 4, 4, 8]]
    answers = teacher.answers(crops_of(image)).unlabelled['yard']
    assert answers.shape == (1, 2, 3, 5)
    for x, value in enumerate((0, 1, 3, 5, 7)):
        assert answers[0, 0, 1, x].item() == pytest.approx(sigmoid(value))


def test_it_sees_crops_unmixed_and_its_answers_are_mixed(batch):
    """As beside a mean teacher, for which crops are mixed."""
    network = small_network()
    plain = Teacher(network, 8).answers(batch).unlabelled
    inside = torch.zeros(2, 3, 5, dtype=torch.bool)
    inside[:, 1:] = True
    mixes = {name: CutMix(batch.images[rows], inside, torch.tensor([1, 0]))
             for name, rows in UNLABELLED.items()}
    mixed = replace(batch, images=torch.zeros_like(batch.images), mixes=mixes)
    answers = Teacher(network, 8).answers(mixed)
    assert answers.labelled == {}
    for name, its in answers.unlabelled.items():
        torch.testing.assert_close(its[:, :, :1], plain[name][:, :, :1])
        torch.testing.assert_close(its[:, :, 1:], plain[name].flip(0)[:, :, 1:])


def step_with(teacher, pieces, **settings):
    """Return a step's values, and the network with its gradients."""
    network = small_network()
    model, _ = FABRIC.setup(network, torch.optim.SGD(network.parameters()))
    objective = ObjectiveSection(consistency=0, distillation={'teacher': __file__, **settings})
    values = forward_and_backward(FABRIC, model, pieces, objective, 1,
                                  Supervision(teachers={LARGE: teacher} if teacher else {}))
    return values, network


@pytest.mark.parametrize('labelled', [False, True])
def test_the_term_is_that_of_all_crops_that_it_answers_for(batch, labelled):
    """Its normalisation is its own; void cells of labelled crops do not count."""
    other = small_network(seed=1)
    other.normalise_as(Normalisation((0.5, 0.5, 0.5), (0.1, 0.2, 0.3)))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    values, network = step_with(Teacher(other, 8, temperature=2, labelled=labelled), [batch],
                                temperature=2, weight=0.3)
    features, its = network.features(batch.images), other.features(batch.images)
    expected = 0
    for name in UNLABELLED:
        rows = [*range(7)[UNLABELLED[name]], *(range(7)[LABELLED[name]] if labelled else ())]
        expected += distillation_loss(
            network.logits(features[rows], name), (other.logits(its[rows], name) / 2).softmax(1),
            valid_cells(batch.targets[rows], 8), 2)
    torch.testing.assert_close(values['distillation'], expected.detach())
    torch.testing.assert_close(values['loss'],
                               values['supervised'] + 0.3 * values['distillation'])
    assert 'taught/outdoor' not in values
    # The network alone learns from it.
    assert all(parameter.grad is None for parameter in other.parameters())
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
    bias = network.head('indoor').bias
    (of_term,) = torch.autograd.grad(0.3 * expected, bias)
    _, untaught = step_with(None, [batch])
    torch.testing.assert_close(bias.grad, untaught.head('indoor').bias.grad + of_term)


def test_pieces_add_up(batch):
    teacher = Teacher(small_network(seed=1), 8, labelled=True)
    whole, network = step_with(teacher, [batch])
    none = slice(0, 0)
    pieces = [Batch(batch.images[:3], batch.targets[:3], LABELLED,
                    dict.fromkeys(UNLABELLED, none)),
              Batch(batch.images[3:], batch.targets[3:], dict.fromkeys(LABELLED, none),
                    {'outdoor': slice(0, 2), 'indoor': slice(2, 4)})]
    values, cut = step_with(teacher, pieces)
    assert values.keys() == whole.keys()
    torch.testing.assert_close(values['distillation'], whole['distillation'])
    torch.testing.assert_close(cut.head('outdoor').weight.grad,
                               network.head('outdoor').weight.grad, rtol=1e-4, atol=1e-6)


def test_its_batch_norm_is_folded(large, values, write_config):
    data = load_data(load_config(write_config(values)))
    section = ObjectiveSection(distillation={'teacher': str(large), 'temperature': 2})
    network, crops = small_network(seed=1), torch.rand(1, 3, 24, 40) * 255
    teacher = large_teacher(large, section.distillation, data, 8, torch.device('cpu'))
    assert not any(isinstance(each, nn.BatchNorm2d) for each in teacher.network.modules())
    assert not teacher.network.training
    with torch.no_grad():
        torch.testing.assert_close(teacher.network.features(crops), network.features(crops),
                                   rtol=1e-4, atol=1e-4)


def test_a_run_is_taught_and_goes_on_exactly(large, values, write_config, tmp_path):
    """It needs the large model, as it was, to its end."""
    config = short(values, write_config, *SUPERVISED, f'{KEY}={json.dumps(str(large))}',
                   'objective.distillation.labelled=true')
    train(config, tmp_path / 'undisturbed')
    (row,) = rows(tmp_path / 'undisturbed' / 'log.csv')
    assert float(row['loss']) == pytest.approx(
        float(row['supervised']) + float(row['distillation']), rel=1e-4)
    assert float(row['distillation']) > 0
    run = tmp_path / 'run'
    with broken_off_at_step(8):
        train(config, run)
    content = large.read_bytes()
    save_model(large, small_network(seed=2), ModelCard(64))
    with pytest.raises(TrainingError, match=f'{KEY}: .* is not what it was when the run'):
        train(config, run)
    large.unlink()
    with pytest.raises(TrainingError, match=f'{KEY}: .*large: 1.univseg: no such file'):
        train(config, run)
    large.write_bytes(content)
    train(config, run)
    for name in ('model.univseg', 'checkpoint.safetensors'):
        assert differing(run / name, tmp_path / 'undisturbed' / name) == []


def test_the_command_is_a_training_with_the_setting(monkeypatch, large, values, write_config):
    seen = []
    monkeypatch.setattr(training, '_train', seen.append)
    config = str(write_config(values))
    assert main(['distill', str(large), config, '--run', 'runs/b', 'model.width=0.25']) == 0
    found = load_config(config, seen[0].overrides)
    assert found.objective.distillation.teacher == large
    assert found.model.width == 0.25
    assert str(seen[0].folder) == 'runs/b'


def check(values, write_config, path, run, *overrides):
    config = load_config(write_config(values),
                         [*SUPERVISED, f'{KEY}={json.dumps(str(path))}', *overrides])
    return check_large_model(config, load_data(config), run)


def test_a_teacher_of_the_same_domains_fits(large, values, write_config, tmp_path, caplog):
    del values['domains']['indoor']  # it may know more
    assert check(values, write_config, large, tmp_path / 'run').spec.encoder == 'drn_d_22'
    assert not caplog.records
    check(values, write_config, large, tmp_path / 'run', 'data.image_size=32')
    assert 'has learned from images of data.image_size 64; here it is 32' in caplog.text
    config = load_config(write_config(values), [f'{KEY}={json.dumps(str(large))}',
                                                'objective.distillation.weight=0'])
    assert check_large_model(config, load_data(config), tmp_path) is None


@pytest.mark.parametrize(('domains', 'message'), [
    ([OUTDOOR], 'has no domain indoor, but outdoor: expected a model of all domains'),
    ([OUTDOOR, Domain.create('indoor', ['lamp', 'wall'])],
     'indoor: expected the classes wall, lamp, in this order, got lamp, wall'),
    ([Domain.create('outdoor', ['ground', 'box']), INDOOR],
     'outdoor: expected the classes ground, box, ball, in this order, got ground, box')])
def test_a_teacher_of_other_classes_is_refused(values, write_config, tmp_path, domains, message):
    path = tmp_path / 'large.univseg'
    save_model(path, small_network(*domains), ModelCard(64))
    with pytest.raises(TrainingError, match=f'{KEY}: {path}.* {message}'):
        check(values, write_config, path, tmp_path / 'run')


def test_a_file_that_cannot_teach_is_named(large, values, write_config, tmp_path):
    with pytest.raises(ConfigError, match=f'{KEY}: no such file: .*/none.univseg'):
        check(values, write_config, tmp_path / 'none.univseg', tmp_path / 'run')
    damaged = tmp_path / 'damaged.univseg'
    damaged.write_bytes(large.read_bytes()[:-9])
    with pytest.raises(TrainingError, match=f'{KEY}: {damaged}: truncated, damaged or not'):
        check(values, write_config, damaged, tmp_path / 'run')
    own = tmp_path / 'run' / 'model.univseg'
    own.parent.mkdir()
    own.write_bytes(large.read_bytes())
    with pytest.raises(TrainingError, match='lies in the folder of this run'):
        check(values, write_config, own, tmp_path / 'run')


def test_an_exported_teacher_is_refused_with_what_to_name(values, write_config, tmp_path):
    path = tmp_path / 'large.onnx'
    path.write_bytes(b'\x08\x07' + bytes(20))
    with pytest.raises(TrainingError, match=rf'{KEY}: {path}: an exported model, .*NAME\.univseg'):
        check(values, write_config, path, tmp_path / 'run')


def test_answers_that_are_not_finite_are_the_teachers_fault(large):
    where = 'runs/b, step 7'
    check_answers({'supervised': 1.0, 'distillation': 2.0}, large, where)
    check_answers({'supervised': math.nan, 'distillation': math.nan}, large, where)
    check_answers({'supervised': 1.0}, None, where)
    with pytest.raises(TrainingError, match=rf'{where}: what {large} answers is not finite'):
        check_answers({'supervised': 1.0, 'distillation': math.nan}, large, where)


def test_a_run_ends_by_them_before_the_step_is_taken(monkeypatch, large, values, write_config,
                                                     tmp_path):
    def spoiled(*arguments):
        teacher = large_teacher(*arguments)
        teacher.network.head('indoor').bias.data[0] = math.inf
        return teacher

    monkeypatch.setattr('univseg_core.training.trainer.large_teacher', spoiled)
    with pytest.raises(TrainingError, match=r'step 1: what .* answers is not finite'):
        train(short(values, write_config, *SUPERVISED, f'{KEY}={json.dumps(str(large))}'),
              tmp_path / 'run')


def test_settings_of_no_teacher_decide_nothing_and_are_told(values, write_config, monkeypatch):
    config = load_config(write_config(values), ['objective.distillation.temperature=3'])
    texts = []
    monkeypatch.setattr(training_run.log, 'warning',
                        lambda text, *args: texts.append(text % args))
    warn_of_unused_settings(config)
    assert 'without effect: objective.distillation.temperature: ' in texts[0]
    new = config.model_dump(mode='json')
    old = {**new, 'objective': {key: value for key, value in new['objective'].items()
                                if key != 'distillation'}}
    assert differing_settings(old, new) == []  # of an earlier version
    new['objective']['distillation'] |= {'teacher': 'a'}
    assert f'{KEY}: nothing there, a now' in differing_settings(old, new)
