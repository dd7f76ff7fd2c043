"""One contract for every encoder: its own stride, sizes of any kind, deployed = trained."""

import copy
import sys

import pytest
from tiny_worlds import INDOOR, OUTDOOR
import torch
from torch import nn
import torch.nn.functional as F
from univseg_core.models import timm_encoder
from univseg_core.models.batch_norm import fold_batch_norm
from univseg_core.models.encoders import build_encoder, encoder_channels, ENCODERS
from univseg_core.models.light import parts_by_matrices, upsample_centred
from univseg_core.models.model_file import load_model, ModelCard, save_model
from univseg_core.models.timm_encoder import EncoderError, is_of_timm
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError

# The published checkpoints hold them, but the level has no shortcut.
UNUSED = {('drn_c_58', 'layer7.0.downsample.0'), ('drn_c_58', 'layer7.0.downsample.1')}


def narrow(name):
    """Return a small width that an encoder can have."""
    return 1 if is_of_timm(name) else 1 / 16 if name.startswith('drn') else 0.25


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


# Further networks of timm: patches that do not overlap, windows, a vision transformer of one map.
FURTHER = ('timm/test_convnext', 'timm/swin_tiny_patch4_window7_224',
           'timm/test_vit', 'timm/vit_small_patch14_dinov2')
# Of blocks that smaller networks have, or that are timm's own alone.
LARGER = ('resnet34', 'resnet50', 'resnet101', 'efficientnet_lite1', 'efficientnet_lite2')
# Whose convolutions are those of smaller networks.
LARGEST = ('timm/swin_tiny_patch4_window7_224', 'timm/vit_small_patch14_dinov2')
STRIDE_4 = ('efficientnet_lite0', 'timm/test_vit')
CASES = [*((name, 8) for name in (*ENCODERS, *FURTHER) if name not in LARGER),
         *((name, 4) for name in STRIDE_4)]


@pytest.fixture(scope='module', params=CASES, ids=lambda case: f'{case[0]} at {case[1]}')
def model(request):
    """Return a model with each of the encoders, as after training; not to be changed."""
    torch.manual_seed(0)
    name, stride = request.param
    spec = ModelSpec(name, narrow(name), embedding_dim=8, stride=stride)
    network = UniversalSegmenter(spec, [OUTDOOR, INDOOR])
    randomise(network.encoder, noise(4, 3, 33, 65))
    return network.eval()


@pytest.mark.parametrize('size', [(37, 53), (1, 1), (8, 16)])
def test_features_are_those_of_the_stride_rounded_up(model, size):
    with torch.no_grad():
        features = model.encoder(noise(1, 3, *size))
    channels = encoder_channels(model.spec.encoder, model.spec.width)
    stride = model.spec.stride
    assert features.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))
    assert (model.encoder.out_channels, model.encoder.stride) == (channels, stride)
    assert features.isfinite().all()
    assert features.any()


@pytest.mark.parametrize('name', LARGER)
def test_networks_of_more_or_wider_blocks_have_features_of_the_same_size(name):
    with torch.device('meta'):  # what is in them, smaller networks show
        encoder = build_encoder(name).eval()
        assert encoder(torch.zeros(1, 3, 37, 53)).shape == (1, encoder.out_channels, 5, 7)
    assert (encoder.out_channels, encoder.stride) == (encoder_channels(name, 1), 8)


def test_every_parameter_gets_a_gradient(model):
    encoder = copy.deepcopy(model.encoder).train()
    # Of a single crop, the coarsest maps need more than one cell.
    features = encoder(noise(1, 3, 65, 97))
    (features * noise(*features.shape, seed=1)).mean().backward()
    for key, parameter in encoder.named_parameters():
        if (model.spec.encoder, key.rpartition('.')[0]) in UNUSED:
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # With random weights, Swin's windows look everywhere alike: some norms do not matter.
        assert parameter.grad.any() or 'swin' in model.spec.encoder, key


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
    for size in ((9, 17), (40, 64)):
        images = noise(1, 3, *size).double()
        with torch.no_grad():
            expected = encoder(images)
            assert (folded(images) - expected).norm() <= 1e-10 * expected.norm()


def test_channels_last_changes_features_and_gradients_by_rounding_alone(model):
    """As networks of timm are trained so on CPUs."""
    if not is_of_timm(model.spec.encoder):
        pytest.skip('trained in planes')
    if model.spec.encoder in LARGEST:
        pytest.skip('its convolutions are those of smaller networks')
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        encoder = copy.deepcopy(model.encoder).double().to(memory_format=memory_format)
        images = noise(2, 3, 33, 65).double().requires_grad_()
        features = encoder(images)
        (features * noise(*features.shape, seed=1)).sum().backward()
        results.append([features.detach(), images.grad, *(p.grad for p in encoder.parameters())])
    for planes, last in zip(*results, strict=True):
        assert (planes - last).norm() <= 1e-9 * planes.norm()


@pytest.mark.parametrize('axis', [-1, -2])
def test_cells_are_centred_at_every_pixel_of_the_stride(model, axis):
    """
    With symmetric kernels, a mirrored image has mirrored features.

    For cells at 0, 8 (or 4), ..., W - 1 only, of which each has its mirror image: a cell that were
    centred half a pixel beside would see something else.
    """
    if model.spec.encoder in FURTHER:
        pytest.skip('its cells are patches, which are centred between pixels')
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
@pytest.mark.parametrize('name', ['drn_c_26', 'light'])
def test_width_multiplies_the_channels(name, width):
    encoder = build_encoder(name, width).eval()
    with torch.no_grad():
        channels = encoder(torch.zeros(1, 3, 8, 8)).shape[1]
    assert channels == encoder.out_channels == encoder_channels(name, width)
    assert encoder_channels(name, 2 * width) > channels


def test_context_is_upsampled_to_where_its_cells_were_centred():
    context = torch.tensor([[0., 4., 8.], [40., 44., 48.]])[None, None]
    across = torch.tensor([0., 1., 2., 3., 4., 5., 6., 7., 8., 8., 8.])
    down = torch.tensor([0., 10., 20., 30., 40., 40.])
    expected = down[:, None] + across
    assert torch.equal(upsample_centred(context, 4, (6, 11))[0, 0], expected)
    assert torch.equal(upsample_centred(context[..., :1], 4, (5, 1))[0, 0], expected[:5, :1])


def test_an_unknown_name_is_refused_with_the_known_ones():
    for function in (build_encoder, encoder_channels):
        with pytest.raises(ValueError, match=r"'resnet_50'.*drn_d_22.*light.*resnet50.*timm/NAME"):
            function('resnet_50', 1)


def test_a_network_of_timm_of_another_width_is_refused(values, write_config):
    with pytest.raises(ValueError, match=r'resnet34 has no other width than 1, got 0\.5'):
        build_encoder('resnet34', 0.5)
    values['model'] = {'encoder': 'resnet34', 'width': 0.5}
    with pytest.raises(ConfigError, match=r'model\.width: resnet34 has no other width than 1'):
        load_config(write_config(values))


@pytest.mark.parametrize(('setting', 'value', 'message'), [
    ('encoder', 'timm/resnet19', r'has no network of that name; did you mean timm/resnet18'),
    ('encoder', 'resnet_50', r"'resnet_50': expected one of"),
    ('encoder', 'timm/efficientvit_m0', r'gives them at 16, 32, 64: none at 8'),
    ('encoder', 'timm/resnet18.not_a_tag', r'resnet18\.not_a_tag'),
    ('stride', 4, r'drn_d_22 has features at stride 8 alone, got 4: set one'),
    ('pretrained', 'imagenet', r'drn_d_22 has no ImageNet weights that could be found')])
def test_a_setting_that_no_encoder_has_is_told(values, write_config, setting, value, message):
    values['model'] = {'encoder': 'drn_d_22', 'embedding_dim': 8, setting: value}
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(values))


def test_a_network_without_the_strides_needed_is_refused_with_those_that_it_has():
    with pytest.raises(ValueError, match=r'model.stride 8 needs features at the strides 8, 16, 32,'
                                         r' but its network gives them at 16, 32, 64: none at 8'):
        build_encoder('timm/efficientvit_m0')


def test_with_symmetric_padding_weights_see_the_same_a_few_pixels_beside():
    """EfficientNet-Lite was trained with TensorFlow's padding: the same cells, but shifted."""
    import timm
    torch.manual_seed(0)
    original = timm.create_model('tf_efficientnet_lite0', features_only=True, out_indices=(2,))
    encoder = build_encoder('efficientnet_lite0', stride=8).backbone
    randomise(original, noise(2, 3, 64, 64))
    encoder.load_state_dict({**encoder.state_dict(), **{
        key: value for key, value in original.state_dict().items()
        if key in encoder.state_dict()}})
    images = noise(1, 3, 256, 256)
    with torch.no_grad():
        # In images of even sides its windows begin where the image does, not before it: 1 pixel
        # at strides 2 and 4 and, of a window of 5, 1 at stride 8 are 1 + 2 + 4 pixels.
        [expected] = original(images)
        shifted = encoder.eval()(F.pad(images, (0, 7, 0, 7))[..., 7:, 7:])[0]
    middle = (..., slice(8, 22), slice(8, 22))
    assert (shifted[middle] - expected[middle]).norm() <= 1e-4 * expected[middle].norm()


def test_frozen_statistics_stay_in_training():
    encoder = build_encoder('efficientnet_lite0')
    before = copy.deepcopy(encoder.state_dict())
    encoder.frozen_statistics = True
    encoder.train()(noise(2, 3, 64, 64))
    changed = {key for key, value in encoder.state_dict().items()
               if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith('neck.') for key in changed)


def test_without_timm_its_networks_are_asked_for_and_the_others_serve(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    timm_encoder.plan_of.cache_clear()
    with pytest.raises(EncoderError, match=r"'resnet18' is a network of timm.*pip install timm"):
        build_encoder('resnet18')
    build_encoder('light', 0.25)


@pytest.mark.parametrize('size', [(12, 15), (1, 1), (2, 7), (23, 40)])
@pytest.mark.parametrize('count', [1, 2, 3, 6])
def test_parts_by_matrices_are_those_of_adaptive_pooling(size, count):
    """They overlap, and repeat cells, where the size does not divide by the count."""
    x = noise(2, 3, *size).double()
    expected = F.adaptive_avg_pool2d(x, count)
    torch.testing.assert_close(parts_by_matrices(x, count), expected, rtol=1e-12, atol=1e-12)
