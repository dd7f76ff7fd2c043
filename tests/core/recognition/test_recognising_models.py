"""Models that know their domains: what they recognise, and the files that hold it."""

import json
import math
import weakref

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_worlds import COLOURS, OUTDOOR, small_network
import torch
from univseg_core.domains import DomainError
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import on_cpu, Segmenter
from univseg_core.method.domain_evidence_fit import EvidenceError, make_evidence
from univseg_core.models.domain_evidence import at_cells, DomainEvidence
from univseg_core.models.exported_file import Export, ExportedModel, load_exported, save_exported
from univseg_core.models.heads import LinearMap
from univseg_core.models.model_card import ModelCard, ModelFileError
from univseg_core.models.model_file import load_model, save_model
from univseg_core.pictures.images import read_image, write_png

CARD = ModelCard(image_size=64)


def test_images_are_of_their_domain_and_noise_is_of_none(recognising, images):
    segmenter = Segmenter.load(recognising)
    for name in COLOURS:
        found = [segmenter.recognise(segmenter.encode(read_image(path)))
                 for path in (images / name).iterdir()]
        assert {each.domain for each in found} == {name}
        assert sum(each.is_familiar for each in found) >= 28
        assert sum(found[0].probabilities.values()) == pytest.approx(1)
    for path in (images / 'noise').iterdir():
        assert segmenter.recognise(segmenter.encode(read_image(path))).unfamiliarity > 1


def test_the_same_images_and_seed_make_the_same_evidence(recognising, images):
    segmenter = Segmenter.load(recognising)
    first, again, other = (make_evidence(segmenter, {
        name: sorted((images / name).iterdir()) for name in COLOURS}, seed=seed,
        progress=False).evidence for seed in (0, 0, 1))
    differences = []
    for path in sorted(images.glob('*/0?.png')):
        encoded = segmenter.encode(read_image(path))
        expected = first(encoded.features).unfamiliarity
        assert again(encoded.features).unfamiliarity == pytest.approx(expected, abs=.01)
        differences.append(other(encoded.features).unfamiliarity - expected)
    assert np.abs(differences).max() > .1


def test_one_domain_alone_is_certain_and_noise_is_still_of_none(images):
    segmenter = Segmenter(small_network(OUTDOOR, encoder='light'), CARD, device='cpu')
    files = sorted((images / 'outdoor').iterdir())
    fitted = make_evidence(segmenter, {'outdoor': files}, progress=False)
    own = fitted.evidence(segmenter.encode(read_image(files[0])).features)
    noise = fitted.evidence(segmenter.encode(read_image(images / 'noise' / '00.png')).features)
    assert own.probabilities == noise.probabilities == {'outdoor': 1.0}
    assert own.unfamiliarity < 1 < noise.unfamiliarity


def test_images_that_cannot_be_read_are_left_out_and_too_few_are_refused(images, tmp_path,
                                                                         caplog):
    segmenter = Segmenter(small_network(OUTDOOR, encoder='light'), CARD, device='cpu')
    (tmp_path / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\n')
    files = [tmp_path / 'broken.png', *sorted((images / 'outdoor').iterdir())]
    assert make_evidence(segmenter, {'outdoor': files}, progress=False).images == {'outdoor': 30}
    assert caplog.text.count('broken.png') == 1
    assert 'outdoor: 30 images to recognise it by' in caplog.text
    for few in (files[:20], files[1:20], []):
        with pytest.raises(EvidenceError, match=r'outdoor: .* expected 20 or more'):
            make_evidence(segmenter, {'outdoor': few}, progress=False)


@pytest.fixture
def watched(monkeypatch):
    """Return a segmenter, the sizes of what it encodes, and how many arrays of cells there are."""
    segmenter = Segmenter(small_network(OUTDOOR, encoder='light'), CARD, device='cpu')
    encode, cells, sizes, counts = segmenter.encode, [], [], []

    def encoded(image, *size):
        found = encode(image, *size)
        sizes.append(found.network_size)
        return found

    def at_their_places(features):
        cells.append(weakref.ref(found := at_cells(on_cpu(features))))
        counts.append(sum(each() is not None for each in cells))
        return found
    monkeypatch.setattr(segmenter, 'encode', encoded)
    monkeypatch.setattr('univseg_core.method.domain_evidence_fit.at_cells', at_their_places)
    return segmenter, sizes, counts


def test_images_are_looked_at_in_half_to_twice_the_models_own_size(watched, images):
    segmenter, sizes, counts = watched
    make_evidence(segmenter, {'outdoor': sorted((images / 'outdoor').iterdir())}, progress=False)
    expected = {(24, 32), (34, 45), (48, 64), (68, 90), (96, 128)}
    # Thirty images, of which the components are made first.
    assert {size: sizes[:30].count(size) for size in expected} == dict.fromkeys(expected, 6)
    assert sorted(sizes[30:60]) == sorted(sizes[:30])
    assert {*sizes[60:]} == expected  # what is of none, too
    assert max(counts) <= 2  # arrays of cells are kept of no image


def test_a_network_for_one_size_sees_that_one_and_other_shapes_are_told(watched, images, tmp_path):
    segmenter, sizes, _ = watched
    segmenter.only_size = (48, 64)
    files = sorted((images / 'outdoor').iterdir())
    make_evidence(segmenter, {'outdoor': files}, progress=False)
    assert {*sizes} == {(48, 64)}
    write_png(tmp_path / 'wide.png', np.zeros((40, 64, 3), np.uint8))
    with pytest.raises(UnivsegError, match=r'wide.png: an image of 64×40: .* 64×48 alone'):
        make_evidence(segmenter, {'outdoor': [*files, tmp_path / 'wide.png']}, progress=False)


def exported(evidence, path):
    """Write an exported file, whose network is never run."""
    network = small_network()
    model = ExportedModel(path, b'\x08\x08', Export(), network.spec, network.normalisation,
                          network.encoder.out_channels, network.as_arrays(),
                          dict(network.domains), evidence=evidence)
    save_exported(path, model, CARD)
    return path


@pytest.fixture
def evidence():
    """Return evidence of random numbers, for the networks of this file."""
    generator, channels = np.random.default_rng(6), small_network().encoder.out_channels

    def some(*shape):
        return generator.normal(size=shape).astype(np.float32)
    return DomainEvidence(
        ('outdoor', 'indoor'), LinearMap(some(3, channels), some(3)),
        LinearMap(some(2, 12, 12), some(2, 12)), LinearMap(some(3, 12), some(3)), some(3))


def assert_equal(found, evidence):
    assert found.names == evidence.names
    for key, values in evidence.tensors().items():
        assert np.array_equal(found.tensors()[key], values), key


def test_both_files_hold_the_evidence(evidence, tmp_path):
    network = small_network()
    network.evidence = evidence
    save_model(tmp_path / 'a.univseg', network, CARD)
    loaded, _ = load_model(tmp_path / 'a.univseg')
    assert_equal(loaded.evidence, evidence)
    assert_equal(load_exported(exported(evidence, tmp_path / 'a.onnx'))[0].evidence, evidence)


def test_a_file_without_evidence_is_one_of_before_and_says_what_adds_it(evidence, tmp_path):
    network = small_network()
    for path, version in (('old.univseg', 3), ('new.univseg', 4)):
        save_model(tmp_path / path, network, CARD)
        with safe_open(tmp_path / path, framework='pt') as file:
            assert json.loads(file.metadata()['univseg'])['format_version'] == version
        network.evidence = evidence
    assert load_exported(exported(None, tmp_path / 'old.onnx'))[0].evidence is None
    segmenter = Segmenter.load(tmp_path / 'old.univseg')
    assert segmenter.evidence is None
    image = np.zeros((48, 64, 3), np.uint8)
    with pytest.raises(UnivsegError, match='univseg recognise'):
        segmenter.recognise(segmenter.encode(image))
    with pytest.raises(UnivsegError, match='univseg recognise'):
        segmenter(image, lambda found: [])


@pytest.mark.parametrize(('damage', 'message'), [
    (lambda tensors: tensors.pop('evidence.logits.bias'), 'no tensor evidence.logits.bias'),
    (lambda tensors: tensors.pop('evidence.projection.bias'), 'no tensor'),
    (lambda tensors: tensors.update({'evidence.unfamiliarity': torch.zeros(4)}),
     'evidence.unfamiliarity: expected (3,)'),
    (lambda tensors: tensors.update({'evidence.distances.weight': torch.zeros(3, 12, 12)}),
     'evidence.distances.weight'),
    (lambda tensors: tensors['evidence.logits.weight'].fill_(math.nan), 'finite'),
    (lambda tensors: tensors.update({'evidence.unfamiliarity': torch.zeros(3).double()}),
     'float64'),
])
def test_evidence_that_is_damaged_is_refused(evidence, tmp_path, monkeypatch, damage, message):
    network = small_network()
    network.evidence = evidence
    save_model(tmp_path / 'a.univseg', network, CARD)
    with safe_open(tmp_path / 'a.univseg', framework='pt') as file:
        metadata = json.loads(file.metadata()['univseg'])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del metadata['sha256']
    damage(tensors)
    save_file(tensors, tmp_path / 'a.univseg', metadata={'univseg': json.dumps(metadata)})
    damaged = {key: values.numpy() for key, values in tensors.items()
               if key.startswith('evidence')}
    monkeypatch.setattr(DomainEvidence, 'tensors', lambda _: damaged)
    exported(evidence, tmp_path / 'a.onnx')
    for path, load in (('a.univseg', load_model), ('a.onnx', load_exported)):
        with pytest.raises(ModelFileError) as error:
            load(tmp_path / path)
        assert path in str(error.value)
        assert message in str(error.value)


def test_a_function_chooses_the_domains_by_what_is_recognised(recognising, images):
    segmenter = Segmenter.load(recognising)
    image, asked = read_image(images / 'indoor' / '00.png'), []

    def choose(found):
        asked.append(found)
        return [found.domain]
    masks = segmenter(image, choose, confidence=True)
    assert list(masks) == ['indoor']
    expected = segmenter(image, ['indoor'], confidence=True)['indoor']
    assert np.array_equal(masks['indoor'].mask, expected.mask)
    assert np.array_equal(masks['indoor'].confidence, expected.confidence)
    assert asked == [segmenter.recognise(segmenter.encode(image))]
    assert segmenter(image, lambda found: []) == {}
    with pytest.raises(DomainError, match='attic'):
        segmenter(image, lambda found: ['attic'])
