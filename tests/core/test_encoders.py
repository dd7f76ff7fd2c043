"""One contract for every encoder, and ImageNet weights from files that are right or wrong."""

import copy
import pickle

import pytest
from safetensors.torch import save_file
from tiny_worlds import INDOOR, OUTDOOR
import torch
from torch import nn
from univseg_core.config import load_config
from univseg_core.errors import UnivsegError
from univseg_core.inference import fold_batch_norm
from univseg_core.models.encoders import (
    build_encoder,
    encoder_channels,
    EncoderError,
    ENCODERS,
    load_pretrained,
    replace_strides_with_dilation,
)
from univseg_core.models.light import upsample_centred
from univseg_core.models.model_file import load_model, ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.settings_file import ConfigError

# The published checkpoints hold them, but the level has no shortcut.
UNUSED = {('drn_c_58', 'layer7.0.downsample.0'), ('drn_c_58', 'layer7.0.downsample.1')}


def narrow(name):
    """Return a small width that an encoder can have."""
    if name.startswith('resnet'):
        return 1
    return 1 / 16 if name.startswith('drn') else 0.25


def randomise(network, images):
    """Give batch norms random affine maps and the statistics of some images."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = None  # the average over all batches, that is this one
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def noise(*size, seed=0):
    return torch.randn(*size, generator=torch.manual_seed(seed))


@pytest.fixture(scope='module', params=ENCODERS)
def model(request):
    """Return a model with each of the encoders, as after training; not to be changed."""
    torch.manual_seed(0)
    spec = ModelSpec(request.param, narrow(request.param), embedding_dim=8)
    network = UniversalSegmenter(spec, [OUTDOOR, INDOOR])
    randomise(network.encoder, noise(4, 3, 33, 65))
    return network.eval()


@pytest.mark.parametrize('size', [(37, 53), (1, 1), (8, 16)])
def test_features_are_an_eighth_rounded_up(model, size):
    with torch.no_grad():
        features = model.encoder(noise(1, 3, *size))
    channels = encoder_channels(model.spec.encoder, model.spec.width)
    assert features.shape == (1, channels, -(-size[0] // 8), -(-size[1] // 8))
    assert model.encoder.out_channels == channels
    assert features.isfinite().all()
    assert features.any()


def test_every_parameter_gets_a_gradient(model):
    encoder = copy.deepcopy(model.encoder).train()
    features = encoder(noise(2, 3, 33, 65))
    (features * noise(*features.shape, seed=1)).mean().backward()
    for key, parameter in encoder.named_parameters():
        if (model.spec.encoder, key.rpartition('.')[0]) in UNUSED:
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


def test_a_saved_model_gives_the_same_bits(model, tmp_path):
    save_model(tmp_path / 'a.univseg', model, ModelCard())
    loaded, _ = load_model(tmp_path / 'a.univseg')
    assert loaded.spec == model.spec
    images = 255 * torch.rand(1, 3, 37, 53, generator=torch.manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.features(images), model.features(images))


def test_folded_batch_norms_change_features_by_rounding_alone(model):
    encoder = copy.deepcopy(model.encoder).double()
    folded = fold_batch_norm(copy.deepcopy(encoder))
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    images = noise(1, 3, 9, 17).double()
    with torch.no_grad():
        expected = encoder(images)
        assert (folded(images) - expected).norm() <= 1e-10 * expected.norm()


@pytest.mark.parametrize('axis', [-1, -2])
def test_cells_are_centred_at_every_eighth_pixel(model, axis):
    """
    With symmetric kernels, a mirrored image has mirrored features.

    For cells at 0, 8, ..., W - 1 only, of which each has its mirror image: a cell that were
    centred half a pixel beside would see something else.
    """
    encoder = copy.deepcopy(model.encoder).double()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = (module.weight.data + module.weight.data.flip(axis)) / 2
    images = noise(1, 3, 33, 65).double()
    with torch.no_grad():
        features = encoder(images)
        mirrored = encoder(images.flip(axis))
    assert (mirrored.flip(axis) - features).norm() <= 1e-10 * features.norm()
    assert (mirrored - features).norm() > 1e-4 * features.norm()


@pytest.mark.parametrize('width', [1 / 16, 0.25, 0.3, 0.85, 1, 1.5])
@pytest.mark.parametrize('name', ['drn_c_26', 'mobilenet_v3_large', 'light'])
def test_width_multiplies_the_channels(name, width):
    encoder = build_encoder(name, width).eval()
    with torch.no_grad():
        channels = encoder(torch.zeros(1, 3, 8, 8)).shape[1]
    assert channels == encoder.out_channels == encoder_channels(name, width)
    assert encoder_channels(name, 2 * width) > channels


def test_resnet50_equals_torchvisions_own_dilated_one():
    from torchvision import models
    reference = models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    reference.avgpool = reference.fc = nn.Identity()
    torch.manual_seed(0)
    randomise(reference, noise(2, 3, 37, 53))
    encoder = build_encoder('resnet50').eval()
    encoder.load_state_dict(reference.state_dict())
    images = noise(1, 3, 37, 53)
    with torch.no_grad():
        assert torch.equal(encoder(images).flatten(1), reference(images))


@pytest.mark.parametrize('name', ['resnet18', 'resnet34', 'resnet50', 'mobilenet_v3_large'])
def test_every_fourth_cell_is_one_of_the_published_network(name):
    """Which has stride 32: dilation puts cells between its own and changes none."""
    from torchvision import models, ops
    torch.manual_seed(0)
    reference = models.get_model(name, weights=None)
    reference.avgpool = reference.fc = reference.classifier = nn.Identity()
    encoder = build_encoder(name)
    for module in (*reference.modules(), *encoder.modules()):
        if isinstance(module, ops.SqueezeExcitation):
            module.avgpool = nn.Identity()  # the mean of all cells is not that of every fourth
    randomise(reference, noise(2, 3, 101, 149))
    encoder.load_state_dict(reference.state_dict())
    images = noise(1, 3, 101, 149)
    with torch.no_grad():
        expected = reference(images)
        features = encoder.eval()(images)[..., ::4, ::4]
    assert features.shape[-2:] == (4, 5)
    assert (features.flatten(1) - expected).norm() <= 1e-5 * expected.norm()


def test_strides_become_dilation_of_what_follows():
    layers = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.Conv2d(1, 1, 1, stride=2),
                           nn.Conv2d(1, 1, 5, stride=2, padding=2), nn.Conv2d(1, 1, 3, padding=1))
    replace_strides_with_dilation(layers)
    assert [layer.stride for layer in layers] == [(1, 1)] * 4
    assert [layer.dilation[0] for layer in layers] == [1, 1, 2, 4]
    assert layers(torch.zeros(1, 1, 9, 7)).shape == (1, 1, 9, 7)


def test_context_is_upsampled_to_where_its_cells_were_centred():
    context = torch.tensor([[0., 4., 8.], [40., 44., 48.]])[None, None]
    across = torch.tensor([0., 1., 2., 3., 4., 5., 6., 7., 8., 8., 8.])
    down = torch.tensor([0., 10., 20., 30., 40., 40.])
    expected = down[:, None] + across
    assert torch.equal(upsample_centred(context, 4, (6, 11))[0, 0], expected)
    assert torch.equal(upsample_centred(context[..., :1], 4, (5, 1))[0, 0], expected[:5, :1])


def test_an_unknown_name_is_refused_with_the_known_ones():
    for function in (build_encoder, encoder_channels):
        with pytest.raises(ValueError, match=r"'resnet_50'.*drn_d_22.*resnet50.*light"):
            function('resnet_50', 1)


def test_a_resnet_of_another_width_is_refused(values, write_config):
    with pytest.raises(ValueError, match=r'resnet34 has no other width than 1, got 0\.5'):
        build_encoder('resnet34', 0.5)
    values['model'] = {'encoder': 'resnet34', 'width': 0.5}
    with pytest.raises(ConfigError, match=r'model\.width: resnet34 has no other width than 1'):
        load_config(write_config(values))


# Files of weights


def published(encoder, classifier='fc', prefix=''):
    """Return an encoder's state as in an old checkpoint."""
    state = {key: value for key, value in encoder.state_dict().items()
             if not key.endswith('num_batches_tracked')}
    state |= {f'{classifier}.weight': torch.zeros(5, 32), f'{classifier}.bias': torch.zeros(5)}
    return {prefix + key: value for key, value in state.items()}


def small_encoder(seed, name='drn_d_22'):
    torch.manual_seed(seed)
    return build_encoder(name, narrow(name))


def assert_refused(encoder, path, *messages):
    """Check that a file is refused with all of these in the message, and nothing is loaded."""
    before = copy.deepcopy(encoder.state_dict())
    with pytest.raises(EncoderError) as error:
        load_pretrained(encoder, path)
    assert isinstance(error.value, UnivsegError)
    for message in (str(path), *messages):
        assert message in str(error.value)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key]), key


def save_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize(('file', 'save'), [
    ('a.pth', torch.save), ('a.pt', save_legacy), ('a.safetensors', save_file)])
@pytest.mark.parametrize('name', ['drn_d_22', 'drn_c_26'])
def test_a_published_checkpoint_is_loaded(tmp_path, name, file, save, prefix):
    source, encoder = small_encoder(1, name), small_encoder(2, name)
    save(published(source, prefix=prefix), tmp_path / file)
    load_pretrained(encoder, tmp_path / file)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


@pytest.mark.parametrize(('name', 'options'), [
    ('resnet18', {}), ('mobilenet_v3_large', {'width_mult': 0.25})])
def test_a_checkpoint_of_torchvision_is_loaded(tmp_path, name, options):
    from torchvision import models
    source = models.get_model(name, weights=None, **options).state_dict()
    torch.save(source, tmp_path / 'a.pth')
    encoder = small_encoder(2, name)
    load_pretrained(encoder, str(tmp_path / 'a.pth'))
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, source[key]), key
    left = source.keys() - encoder.state_dict().keys()
    assert {key.split('.')[0] for key in left} <= {'fc', 'classifier'}


def test_each_kind_of_misfit_is_told_with_its_keys(tmp_path):
    state = published(small_encoder(1))
    for key in [key for key in state if key.startswith('layer4.')][:7]:
        del state[key]
    state['head.weight'] = torch.zeros(1)
    state['layer8.0.weight'] = torch.zeros(7, 32, 3, 3)
    save_file(state, tmp_path / 'a.safetensors')
    assert_refused(
        small_encoder(2), tmp_path / 'a.safetensors', '7 missing: layer4.0.conv1.weight, ', ', …',
        '1 unexpected: head.weight\n',
        '1 of another shape: layer8.0.weight (expected (32, 32, 3, 3), got (7, 32, 3, 3))')


def test_weights_of_another_encoder_are_told_by_its_name(tmp_path):
    torch.save(published(build_encoder('mobilenet_v3_large'), 'classifier'), tmp_path / 'a.pth')
    assert_refused(small_encoder(2), tmp_path / 'a.pth',
                   'It fits mobilenet_v3_large of width 1.')


def test_weights_of_another_width_are_refused(tmp_path):
    torch.save(published(build_encoder('drn_d_22', 1 / 8)), tmp_path / 'a.pth')
    assert_refused(small_encoder(2), tmp_path / 'a.pth', ' of another shape: layer0.0.weight '
                   '(expected (1, 3, 7, 7), got (2, 3, 7, 7)), ')


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def dump(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize('save', [torch.save, save_legacy, dump])
def test_code_in_a_file_is_not_run(tmp_path, save):
    trace, path = tmp_path / 'trace', tmp_path / 'a.pth'
    save({**published(small_encoder(1)), 'layer0.0.weight': Malicious(trace)}, path)
    assert_refused(small_encoder(2), path, 'code in it, which is never run')
    assert not trace.exists()
    if save is dump:
        pickle.loads(path.read_bytes())
        assert trace.exists()  # it would have


@pytest.mark.parametrize('content', [
    [1, 2], {'state_dict': {'a': torch.zeros(1)}}, {'a': 1}, {1: torch.zeros(1)},
    torch.zeros(1)])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    assert_refused(small_encoder(2), tmp_path / 'a.pth', 'expected a state dict')


@pytest.mark.parametrize('file', ['a.pth', 'a.pt', 'a.safetensors'])
@pytest.mark.parametrize('data', [b'', b'PK\x03\x04' * 9, b'\x80\x02}', bytes(500)])
def test_a_damaged_file_is_refused(tmp_path, file, data):
    (tmp_path / file).write_bytes(data)
    assert_refused(small_encoder(2), tmp_path / file, 'damaged, not a file of weights')


@pytest.mark.parametrize('file', ['a.pth', 'a.safetensors'])
def test_a_file_that_is_not_there_is_refused(tmp_path, file):
    assert_refused(small_encoder(2), tmp_path / file, 'cannot be read: No such file')


def test_a_file_of_another_ending_is_refused(tmp_path):
    torch.save(published(small_encoder(1)), tmp_path / 'a.bin')
    assert_refused(small_encoder(2), tmp_path / 'a.bin',
                   'expected a file of weights: .pth, .pt or .safetensors')


def test_a_configuration_names_an_existing_file(values, write_config, tmp_path, monkeypatch):
    (tmp_path / 'a.pth').touch()
    monkeypatch.setenv('WEIGHTS', str(tmp_path))
    values['model']['pretrained'] = '${WEIGHTS}/a.pth'
    assert load_config(write_config(values)).model.pretrained == tmp_path / 'a.pth'
    values['model']['pretrained'] = '${WEIGHTS}/b.pth'
    with pytest.raises(ConfigError, match=rf'model\.pretrained: no such file: {tmp_path}/b.pth'):
        load_config(write_config(values))
