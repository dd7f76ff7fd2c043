"""The model file: all comes back equal, and a file that is not one says what is wrong."""

import errno
import hashlib
import json
import re

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_worlds import INDOOR, OUTDOOR, small_network
import torch
from univseg_core.errors import UnivsegError
from univseg_core.models import model_file, tensor_files
from univseg_core.models.model_file import (
    load_model,
    ModelCard,
    ModelFileError,
    save_model,
)
from univseg_core.models.normalisation import IMAGENET, Normalisation

CARD = ModelCard(image_size=240, miou={'outdoor': 0.123456789, 'indoor': 0.5},
                 training={'config': {'training': {'steps': 3}}, 'note': 'α'})


def network_with_label_embeddings():
    network = small_network()
    generator = torch.manual_seed(3)
    network.set_label_embeddings('outdoor', torch.randn(9, 8, generator=generator))  # K = 3
    network.set_label_embeddings('indoor', torch.randn(2, 8, generator=generator))
    return network


@pytest.fixture
def saved(tmp_path):
    """Return a sound model file."""
    save_model(tmp_path / 'sound.univseg', network_with_label_embeddings(), CARD)
    return tmp_path / 'sound.univseg'


@pytest.fixture
def rewrite(saved, tmp_path):
    """Return a function that changes a sound file's tensors and metadata."""
    def write(change):
        with safe_open(saved, framework='pt') as file:
            metadata = json.loads(file.metadata()['univseg'])
            del metadata['sha256']
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        change(tensors, metadata)
        path = tmp_path / 'changed.univseg'
        save_file(tensors, path, metadata={'univseg': json.dumps(metadata)})
        return path
    return write


def assert_refused(path, *messages):
    with pytest.raises(ModelFileError) as error:
        load_model(path)
    for message in (path.name, *messages):
        assert message in str(error.value)


def test_everything_comes_back_equal(saved):
    network = network_with_label_embeddings().train()
    loaded, card = load_model(saved)
    assert card == CARD
    assert loaded.spec == network.spec
    assert loaded.domains == {'outdoor': OUTDOOR, 'indoor': INDOOR}
    assert list(loaded.domains) == ['outdoor', 'indoor']
    assert not loaded.training
    assert loaded.label_embeddings('outdoor').shape == (9, 8)
    expected = network.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for key, value in loaded.state_dict().items():
        assert value.dtype == expected[key].dtype, key
        assert torch.equal(value, expected[key]), key


def test_the_same_model_gives_the_same_file(saved, tmp_path):
    save_model(tmp_path / 'again.univseg', network_with_label_embeddings(), CARD)
    assert (tmp_path / 'again.univseg').read_bytes() == saved.read_bytes()


def test_a_card_without_figures_comes_back(tmp_path):
    save_model(tmp_path / 'a.univseg', small_network(), ModelCard())
    assert load_model(tmp_path / 'a.univseg')[1] == ModelCard()


def test_in_half_a_file_has_half_the_bytes_and_rounded_values(saved, tmp_path):
    path, network = tmp_path / 'half.univseg', network_with_label_embeddings()
    save_model(path, network, CARD, in_half=True)
    with safe_open(path, framework='pt') as file:
        assert json.loads(file.metadata()['univseg'])['format_version'] == 5
        assert file.get_tensor('embedding.weight').dtype == torch.float16
    loaded, card = load_model(path)
    assert card == CARD
    for key, value in network.state_dict().items():
        found = loaded.state_dict()[key]
        assert found.dtype == value.dtype, key
        assert torch.equal(found, value.half().float() if value.is_floating_point() else value)
    network.embedding.bias.data[0] = 1e5
    with pytest.raises(ValueError, match=r'embedding\.bias has values that float16 cannot hold'):
        save_model(path, network, CARD, in_half=True)
    assert load_model(path)[1] == CARD


def test_halves_are_those_of_a_newer_format_alone(rewrite):
    key = 'head_indoor.bias'
    path = rewrite(lambda tensors, _: tensors.update({key: tensors[key].half()}))
    assert_refused(path, f'tensor {key}: expected (2,) of torch.float32, got (2,) of '
                         'torch.float16')


def test_a_missing_file_is_named(tmp_path):
    assert_refused(tmp_path / 'none.univseg', 'no such model file')
    assert_refused(tmp_path, 'a folder; expected a model file')


@pytest.mark.parametrize('keep', [1, 7, 8, 100, 0.3, 0.7, -1])
def test_a_truncated_file_is_refused(saved, tmp_path, keep):
    data = saved.read_bytes()
    keep = int(keep * len(data)) if isinstance(keep, float) else keep
    path = tmp_path / 'cut.univseg'
    path.write_bytes(data[:keep])
    assert_refused(path, 'truncated, damaged or not a model file')


@pytest.mark.parametrize('data', [
    b'',
    bytes(5000),
    np.random.default_rng(0).bytes(5000),
    b'PK\x03\x04 a pickle in a zip' * 100,
])
def test_a_file_of_something_else_is_refused(tmp_path, data):
    path = tmp_path / 'other.univseg'
    path.write_bytes(data)
    assert_refused(path, 'truncated, damaged or not a model file')


@pytest.mark.parametrize('metadata', [None, {'format': 'pt'}])
def test_another_safetensors_file_is_refused(tmp_path, metadata):
    path = tmp_path / 'other.univseg'
    save_file({'a': torch.zeros(2)}, path, metadata=metadata)
    assert_refused(path, 'a safetensors file, but not a univseg model')


@pytest.mark.parametrize('text', ['', '{"format_version": 1', '[]', '3', 'null', '{}'])
def test_a_broken_description_is_refused(tmp_path, text):
    path = tmp_path / 'broken.univseg'
    save_file({'a': torch.zeros(2)}, path, metadata={'univseg': text})
    assert_refused(path, 'its description is damaged')


@pytest.mark.parametrize(('version', 'message'), [
    (6, 'format version 6 is newer than 5'),
    (99, 'update univseg'),
    (0, 'format version 0: expected an integer'),
    ('1', "format version '1': expected an integer"),
])
def test_another_format_version_is_refused(rewrite, version, message):
    path = rewrite(lambda _, metadata: metadata.update(format_version=version))
    assert_refused(path, message)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda t, m: t.pop('head_indoor.bias'), "missing ['head_indoor.bias']"),
    (lambda t, m: t.pop('label_embeddings_indoor'), "missing ['label_embeddings_indoor']"),
    (lambda t, m: t.update(extra=torch.zeros(1)), "unexpected ['extra']"),
    (lambda t, m: t.update({'head_indoor.bias': torch.zeros(3)}),
     'tensor head_indoor.bias: expected (2,) of torch.float32, got (3,)'),
    (lambda t, m: t.update({'head_indoor.bias': torch.zeros(2, dtype=torch.float64)}),
     'got (2,) of torch.float64'),
    (lambda t, m: t.update(label_embeddings_indoor=torch.zeros(3, 8)),
     'label embeddings of indoor: expected (2·K, 8), got (3, 8)'),
    (lambda t, m: t.update(label_embeddings_indoor=torch.zeros(0, 8)),
     'label embeddings of indoor: expected (2·K, 8), got (0, 8)'),
    (lambda t, m: t['embedding.weight'].view(-1)[5:6].fill_(float('nan')),
     'tensor embedding.weight holds values that are not finite'),
    (lambda t, m: t['encoder.layer8.1.running_var'][:1].fill_(float('inf')),
     'tensor encoder.layer8.1.running_var holds values that are not finite'),
    (lambda t, m: t['label_embeddings_outdoor'][:1].fill_(float('nan')),
     'tensor label_embeddings_outdoor holds values that are not finite'),
])
def test_tensors_that_do_not_fit_are_named(rewrite, change, message):
    assert_refused(rewrite(change), message)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda m: m.pop('domains'), 'domains'),
    (lambda m: m.update(domains=[]), 'expected one or more domains'),
    (lambda m: m['domains'][0].update(name='Out Door'), 'Out Door'),
    (lambda m: m['domains'][0].update(classes=['a']), 'palette'),
    (lambda m: m['domains'][0].update(palette=7), 'int'),
    (lambda m: m['model'].update(encoder='resnet'), 'resnet'),
    (lambda m: m['model'].update(depth=3), 'depth'),
    (lambda m: m['model'].update(width='wide'), 'wide'),
    (lambda m: m['model'].update(width=float('inf')), 'infinity'),
    (lambda m: m['model'].update(embedding_dim=0), 'embedding dimension 0'),
    (lambda m: m.pop('image_size'), 'image_size'),
    (lambda m: m.update(image_size=10**12), 'image_size 1000000000000: expected pixels, 1 to 81'),
    (lambda m: m.update(miou={'outdoor': 'good'}), 'miou: expected numbers'),
    (lambda m: m['model'].update(encoder=['light']), 'unhashable'),
    (lambda m: m['domains'][0].update(palette=[[float('inf')] * 3] * 3), 'infinity'),
    (lambda m: m['domains'][0].update(classes=[{'x' * 10**6: 1}] * 3), 'expected class names'),
])
def test_a_description_that_cannot_be_is_refused(rewrite, change, message):
    path = rewrite(lambda _, metadata: change(metadata))
    assert_refused(path, 'its description is damaged', message)


def test_the_normalisation_is_the_files(rewrite):
    path = rewrite(lambda _, m: m['normalisation'].update(mean=[0.5, 0.4, 0.3]))
    model, _ = load_model(path)
    assert model.normalisation == Normalisation((0.5, 0.4, 0.3), IMAGENET.std)
    assert model.mean.flatten().tolist() == pytest.approx([127.5, 102, 76.5])


@pytest.mark.parametrize('mean', [[0, 0], [0, 0, 'x'], [0, 0, 2], [0, 0, float('nan')], 3, None])
def test_a_normalisation_that_is_none_is_refused(rewrite, mean):
    path = rewrite(lambda _, m: m['normalisation'].update(mean=mean))
    assert_refused(path, 'its description is damaged')


def test_files_of_the_first_format_are_read(rewrite):
    """They know of no stride and of no weights that a model began with."""
    def as_it_was(_, metadata):
        metadata.update(format_version=1)
        del metadata['model']['stride'], metadata['began_with']

    model, _ = load_model(rewrite(as_it_was))
    assert (model.stride, model.began_with) == (8, None)


def test_files_of_the_second_format_are_read(rewrite):
    model, _ = load_model(rewrite(lambda _, metadata: metadata.update(format_version=2)))
    assert model.stride == 8


@pytest.mark.parametrize(('version', 'encoder'), [
    (1, 'resnet18'), (2, 'efficientnet_lite0'), (2, 'timm/resnet18')])
def test_a_file_whose_encoder_was_another_network_by_that_name_is_refused(
        rewrite, version, encoder):
    def as_it_was(_, metadata):
        metadata.update(format_version=version)
        metadata['model'] = {'encoder': encoder, 'width': 1, 'embedding_dim': 8}

    assert_refused(rewrite(as_it_was), f'in which {encoder} was another network')


@pytest.mark.parametrize('error', [OSError(errno.ENOSPC, 'No space left on device'),
                                   KeyboardInterrupt()])
@pytest.mark.parametrize('moment', ['before', 'after'])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch, error, moment):
    before = saved.read_bytes()

    def fail(tensors, path, **options):
        if moment == 'after':
            save_file(tensors, path, **options)
            path.write_bytes(path.read_bytes()[:1000])
        raise error

    monkeypatch.setattr(tensor_files, 'save_file', fail)
    with pytest.raises(type(error)):
        save_model(saved, small_network(seed=1), ModelCard())
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_is_told_without_a_traceback(saved, full_disk):
    """Its error is one of those that the commands show as a line."""
    before = saved.read_bytes()
    with full_disk(), pytest.raises((UnivsegError, OSError)):
        save_model(saved, small_network(seed=1), ModelCard())
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize('error', [
    MemoryError(), torch.OutOfMemoryError('CUDA out of memory'),
    RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_file_that_there_is_no_memory_for_is_not_called_damaged(saved, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(model_file, '_built', fail)
    assert_refused(saved, 'no memory is left to read it', 'the file may be good')


def test_a_file_whose_disk_is_away_is_not_called_damaged(saved, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(model_file, 'read_tensors', fail)
    assert_refused(saved, 'cannot be read: Input/output error')


def test_a_save_takes_the_place_of_an_older_file(saved):
    network = small_network(seed=1)
    save_model(saved, network, ModelCard())
    loaded, _ = load_model(saved)
    assert torch.equal(loaded.head_indoor.weight, network.head_indoor.weight)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_damaged_tensor_or_description_is_refused(saved):
    whole = saved.read_bytes()
    with safe_open(saved, framework='pt') as file:
        first = file.get_tensor('encoder.layer0.0.weight').numpy().tobytes()
    for at, lost in ((whole.index(first[:64]), 4), (len(whole) - 4, 1), (whole.index(b'0.485'), 3),
                     (whole.index(b'240'), 1)):
        data = bytearray(whole)
        data[at:at + lost] = b'7' * lost
        saved.write_bytes(data)
        assert_refused(saved, 'damaged: its content is not what was written')


def test_the_checksum_is_of_the_description_and_of_all_tensors(saved):
    digest = hashlib.sha256()
    with safe_open(saved, framework='np') as file:
        text, told = re.fullmatch(r'(.*), "sha256": "(\w+)"}', file.metadata()['univseg']).groups()
        digest.update(f'{text}}}'.encode())
        for key in sorted(file.keys()):
            value = file.get_tensor(key)
            digest.update(f'\0{key}\0torch.{value.dtype}\0{value.shape}\0'.encode())
            digest.update(value.tobytes())
        assert told == digest.hexdigest()


def test_a_file_of_before_there_were_checksums_loads_with_a_word(saved, rewrite, caplog):
    load_model(saved)
    assert not caplog.messages
    path = rewrite(lambda _, __: None)
    load_model(path)
    assert caplog.messages == [f'{path}: made before model files had a checksum: whether it is '
                               'damaged cannot be told']


@pytest.mark.parametrize('change', [
    {'width': 64}, {'width': 1000.0}, {'width': 1e6},
    {'encoder': 'resnet101', 'width': 1}])
def test_no_network_is_built_that_is_larger_than_the_file(rewrite, change, monkeypatch):
    path = rewrite(lambda _, metadata: metadata['model'].update(change))
    filled = []
    monkeypatch.setattr(torch.Tensor, 'normal_', lambda tensor, *_, **__: filled.append(tensor))
    monkeypatch.setattr(torch.Tensor, 'uniform_', lambda tensor, *_, **__: filled.append(tensor))
    assert_refused(path, 'description')
    assert sum(tensor.numel() for tensor in filled if not tensor.is_meta) < 2**25


def test_a_file_that_names_more_domains_than_it_has_tensors_of_is_refused(rewrite):
    def name_many(_, metadata):
        metadata['domains'] += [dict(OUTDOOR.to_dict(), name=f'd{i}') for i in range(2000)]

    assert_refused(rewrite(name_many), 'it has none of d0, d1, d2, d3, d4')
