"""NAME.onnx: all comes back equal, other tools read it, and what is not one says what is wrong."""

from dataclasses import replace
import resource

from exported_models import CARD, parts_of, write_parts
import numpy as np
import onnx
import onnxruntime
import pytest
from tiny_worlds import INDOOR, OUTDOOR, random_image, small_network
from univseg_core.inference.segmenter import load_network
from univseg_core.models.exported_file import (
    Export,
    ExportedModel,
    is_exported,
    load_exported,
    save_exported,
)
from univseg_core.models.heads import LinearMap
from univseg_core.models.model_card import ModelCard, ModelFileError
from univseg_core.models.model_file import load_model, save_model
from univseg_core.models.normalisation import Normalisation


@pytest.fixture
def changed(exported, tmp_path):
    """Return a function that changes heads and description of a sound file, and its checksum."""
    def write(change):
        network, heads, description = parts_of(exported.path)
        change(heads, description)
        return write_parts(tmp_path / 'changed.onnx', network, heads, description)
    return write


def assert_refused(path, *messages):
    with pytest.raises(ModelFileError) as error:
        load_exported(path)
    for message in (path.name, *messages):
        assert message in str(error.value)


def test_everything_comes_back_equal(exported, tmp_path):
    export = Export('openvino', 'int8', (48, 64), {'runtime': 'x 1', 'domains': {}},
                    {'frames': 20}, 'ab' * 32)
    normalisation = Normalisation((0.1, 0.2, 0.3), (1.0, 0.2, 0.5))
    given = replace(exported.model, export=export, normalisation=normalisation)
    save_exported(tmp_path / 'new' / 'a.onnx', given, CARD)
    loaded, card = load_exported(tmp_path / 'new' / 'a.onnx')
    assert card == CARD
    assert loaded.network == given.network
    assert (loaded.export, loaded.spec, loaded.normalisation, loaded.channels, loaded.stride) == (
        export, given.spec, normalisation, 8, 8)
    assert list(loaded.domains.items()) == [('outdoor', OUTDOOR), ('indoor', INDOOR)]
    expected, found = given.heads.tensors(), loaded.heads.tensors()
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key].dtype == np.float32
        assert np.array_equal(found[key], values), key
    assert found['label_embeddings_outdoor'].shape == (9, 8)


def test_arrays_come_back_equal_however_they_lie_in_memory(exported, tmp_path):
    model = exported.model
    transposed = {name: LinearMap(np.asfortranarray(head.weight), head.bias)
                  for name, head in model.heads.heads.items()}
    path = tmp_path / 'transposed.onnx'
    save_exported(path, replace(model, heads=replace(model.heads, heads=transposed)), CARD)
    save_exported(tmp_path / 'as_it_is.onnx', model, CARD)
    assert path.read_bytes() == (tmp_path / 'as_it_is.onnx').read_bytes()


def test_the_same_model_gives_the_same_file(exported, tmp_path):
    save_exported(tmp_path / 'again.onnx', exported.model, CARD)
    assert (tmp_path / 'again.onnx').read_bytes() == exported.path.read_bytes()


def test_the_file_is_as_protobuf_and_the_checksum_say(exported, tmp_path):
    """Written by the package onnx, it has the same bytes."""
    path = write_parts(tmp_path / 'by_onnx.onnx', *parts_of(exported.path))
    assert path.read_bytes() == exported.path.read_bytes()


def test_other_tools_read_all_of_the_model(exported):
    onnx.checker.check_model(onnx.load(exported.path), full_check=True)
    session = onnxruntime.InferenceSession(exported.path)
    assert [(each.name, each.type) for each in session.get_inputs()] == [
        ('image', 'tensor(uint8)')]
    assert [each.name for each in session.get_outputs()] == [
        'features', 'logits_outdoor', 'logits_indoor']
    features, *logits = session.run(None, {'image': random_image(37, 50)})
    assert features.shape == (1, 5, 7, 8)
    for found, head in zip(logits, exported.model.heads.heads.values(), strict=True):
        expected = head(features[0].transpose(2, 0, 1)).transpose(1, 2, 0)
        assert found.shape == (1, *expected.shape)
        assert np.abs(found[0] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_nothing_is_told_of_the_machine_that_exported_it(exported):
    for note in (b'.py', b'pkg.torch', b'aten.'):
        assert note not in exported.encoder


def test_a_model_file_is_no_exported_one_whatever_its_first_byte(exported, tmp_path):
    """The header of a safetensors file may be of 8, 264, 520 … bytes."""
    path = tmp_path / 'model.univseg'
    for length in range(0, 256, 8):
        save_model(path, small_network(encoder='light'), ModelCard(training={'a': 'x' * length}))
        if path.read_bytes()[0] == 8:
            break
    assert path.read_bytes()[0] == 8
    assert not is_exported(path)
    assert load_network(path)[0].domains.keys() == {'outdoor', 'indoor'}
    path.rename(tmp_path / 'model.onnx')
    assert not is_exported(tmp_path / 'model.onnx')
    (tmp_path / 'exported.univseg').write_bytes(exported.path.read_bytes())
    assert isinstance(load_network(tmp_path / 'exported.univseg')[0], ExportedModel)


def test_an_exported_file_is_no_model_file(exported):
    with pytest.raises(ModelFileError, match='an exported model, which has no weights to go on'):
        load_model(exported.path)


@pytest.mark.parametrize('name', ['none.onnx', 'folder.onnx'])
def test_what_is_no_file_is_refused(tmp_path, name):
    (tmp_path / 'folder.onnx').mkdir()
    assert_refused(tmp_path / name, 'cannot be read')
    with pytest.raises(ModelFileError, match=name):
        load_network(tmp_path / name)


@pytest.mark.parametrize(('data', 'message'), [
    (b'', 'an ONNX model, but not one that `univseg export` has made'),
    (bytes(5001), 'it ends in the midst'),
    (b'\x08' * 5001, 'it ends in the midst of a number'),
    (b'\x08' * 2_000_000, 'more than 10000 fields'),
    (b'\x08' + b'\xff' * 5000, 'a number of more than ten bytes'),
    (b'\x08\x0a\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f', 'ends beyond it'),
    (np.random.default_rng(0).bytes(5000), 'truncated, damaged or not an ONNX model')])
def test_a_file_of_something_else_is_refused(tmp_path, data, message):
    path = tmp_path / 'other.onnx'
    path.write_bytes(data)
    assert_refused(path, message)
    with pytest.raises(ModelFileError, match='ONNX'):
        load_network(path)


def test_an_onnx_model_of_another_tool_is_refused(exported, tmp_path):
    other = tmp_path / 'other.onnx'
    other.write_bytes(exported.encoder)
    assert_refused(other, 'not one that `univseg export` has made', "no 'univseg' entry")
    model = onnx.load(exported.path)
    del model.metadata_props[:]
    model.metadata_props.add(key='univseg', value='{}')
    onnx.save(model, other)
    assert_refused(other, 'not one that `univseg export` has made', "no 'univseg_heads' entry")


@pytest.mark.parametrize('part', [1, 2, 100, 0.3, 0.8, 0.97, -200, -1])
def test_a_truncated_file_is_refused(exported, tmp_path, part):
    data = exported.path.read_bytes()
    path = tmp_path / 'cut.onnx'
    path.write_bytes(data[:int(part * len(data)) if isinstance(part, float) else part])
    assert_refused(path, 'not ')  # an ONNX model, or one that univseg has made


def test_a_byte_that_is_flipped_anywhere_is_noticed_or_harmless(exported, tmp_path):
    data, generator = exported.path.read_bytes(), np.random.default_rng(0)
    expected, card = load_exported(exported.path)
    start = len(exported.model.network)  # behind it, what decides about the rest
    places = [*range(30), *generator.integers(0, start, 50),
              *range(start, start + 40), *generator.integers(start, len(data), 100),
              *range(len(data) - 700, len(data), 7)]
    path, refused = tmp_path / 'flipped.onnx', 0
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << generator.integers(8)
        path.write_bytes(changed)
        try:
            found, its_card = load_exported(path)
        except ModelFileError as error:
            assert str(path) in str(error)
            refused += 1
            continue
        # A space of the JSON that became another one, at most.
        assert its_card == card
        assert replace(found, path=expected.path, heads=expected.heads) == expected
        assert all(np.array_equal(values, found.heads.tensors()[key])
                   for key, values in expected.heads.tensors().items())
    assert refused > 0.95 * len(places)


def test_two_files_whose_parts_are_mixed_are_refused(exported, tmp_path):
    network, heads, description = parts_of(exported.path)
    mixed = tmp_path / 'mixed.onnx'
    data = write_parts(mixed, network, heads, {**description, 'image_size': 80}).read_bytes()
    mixed.write_bytes(exported.encoder + data[len(network):])
    assert_refused(mixed, 'damaged', 'checksum differs')


@pytest.mark.parametrize(('version', 'message'), [
    (2, 'format version 2 is newer than 1'), ('1', "format version '1'"), (0, 'version 0')])
def test_another_version_is_refused(changed, version, message):
    assert_refused(changed(lambda heads, description: description.update(export_version=version)),
                   message)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda heads, d: d.pop('domains'), "KeyError('domains')"),
    (lambda heads, d: d.update(domains=[]), '0 domains'),
    (lambda heads, d: d['domains'][0].update(classes=['a']), '1 classes but 3 palette colours'),
    (lambda heads, d: d['domains'][0].update(name='yard'), 'head_yard'),
    (lambda heads, d: d['model'].update(stride=0), 'stride 0'),
    (lambda heads, d: d['model'].update(encoder=['light']), 'expected a name'),
    (lambda heads, d: d['model'].update(colour=1), 'colour'),
    (lambda heads, d: d['model'].update(channels=9), 'embedding.weight: expected (8, 9)'),
    (lambda heads, d: d['export'].update(target='coreml'), "'coreml'"),
    (lambda heads, d: d['export'].update(precision='fp8'), "'fp8'"),
    (lambda heads, d: d['export'].update(size=[48]), 'expected height and width'),
    (lambda heads, d: d['export'].update(size=[48, 10**9]), '1 to 8192'),
    (lambda heads, d: d['export'].update(compared=[]), 'expected keys and values'),
    (lambda heads, d: d.update(image_size=-1), 'image_size -1'),
    (lambda heads, d: d.update(normalisation={'mean': [0, 0, 0], 'std': [0, 1, 1]}), 'std'),
    (lambda heads, d: heads.pop('embedding.bias'), 'embedding.bias'),
    (lambda heads, d: heads.pop('head_indoor.bias'), 'head_indoor.bias'),
    (lambda heads, d: heads.update({'head_indoor.bias': np.zeros(3, np.float32)}),
     'head_indoor.bias: expected (2,) finite float32 values, got (3,)'),
    (lambda heads, d: heads['head_indoor.bias'].fill(np.nan), 'finite float32'),
    (lambda heads, d: heads.update({'head_indoor.bias': np.zeros(2)}), 'got (2,) of float64'),
    (lambda heads, d: heads.update(
        {'label_embeddings_outdoor': np.zeros((4, 8), np.float32)}), '4 rows for 3 classes')])
def test_a_description_that_does_not_fit_is_refused(changed, change, message):
    def on_copies(heads, description):
        heads.update({key: values.copy() for key, values in heads.items()})
        change(heads, description)

    assert_refused(changed(on_copies), 'its description is damaged', message)


def test_a_file_that_is_too_large_is_not_read(exported, monkeypatch):
    monkeypatch.setenv('UNIVSEG_MAX_MODEL', '1000')
    assert_refused(exported.path, 'more than 1000 bytes, which UNIVSEG_MAX_MODEL changes')


def test_a_full_disk_leaves_the_old_file_whole(exported, copied, full_disk):
    before = copied.read_bytes()
    with full_disk(), pytest.raises(OSError, match=r'tiny\.onnx: cannot be written: File too'):
        save_exported(copied, exported.model, ModelCard())
    assert copied.read_bytes() == before
    assert list(copied.parent.iterdir()) == [copied]


def test_nothing_more_than_the_file_is_held(exported, tmp_path):
    """What a description claims takes no memory: 2 GB of channels."""
    network, heads, description = parts_of(exported.path)
    description['model']['channels'] = 2**29
    path = write_parts(tmp_path / 'claims.onnx', network, heads, description)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(path, f'expected (8, {2**29})')
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
