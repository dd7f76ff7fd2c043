"""What runs an exported network: as PyTorch runs it, or an error that says why not."""

import copy
from dataclasses import replace
import importlib
from importlib import metadata
import os
from pathlib import Path
import subprocess
import sys

from exported_models import BACKENDS, CARD
import numpy as np
import onnx
import pytest
from tiny_worlds import random_image, small_network
import torch
import torch.nn.functional as F
from univseg_core.domains import DomainError
from univseg_core.errors import UnivsegError
from univseg_core.exporting.network import encoder_to_onnx
from univseg_core.inference import backends
from univseg_core.inference.exported_network import BackendError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.exported_file import Export, save_exported

SIZES = [(8, 8), (1, 64), (64, 1), (37, 50), (33, 65), (97, 131), (48, 64), (5, 90), (17, 8),
         (1, 1), (360, 480)]
NEAR = 1e-4
"""By how much features and logits may differ, relative to the largest."""


def loaded(exported, backend, **options):
    return Segmenter(exported.model, CARD, backend=backend, precision='fp32', **options)


def reference(network, image, dtype=torch.float64):
    """Return the features that a network of PyTorch has of an image, batch norms not folded."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(dtype)
    with torch.no_grad():
        return copy.deepcopy(network).to(dtype).features(pixels)[0].numpy()


def assert_near(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= NEAR * np.abs(expected).max()


def assert_equal_but_for_ties(masks, logits, network_size, stride):
    """See that two masks (H, W) differ only where the two largest logits are nearly equal."""
    one, other = masks
    differing = one != other
    assert differing.mean() <= 0.001
    if not differing.any():
        return
    full = F.interpolate(torch.from_numpy(logits)[None], scale_factor=stride, mode='bilinear',
                         align_corners=False)[..., :network_size[0], :network_size[1]]
    full = F.interpolate(full, one.shape, mode='bilinear', align_corners=False)[0].numpy()
    rows, columns = np.nonzero(differing)
    apart = np.abs(full[one[differing], rows, columns] - full[other[differing], rows, columns])
    assert apart.max() <= NEAR * np.abs(full).max()


@pytest.fixture(scope='module')
def drn():
    """Return a network of another family, and its encoder as an ONNX model for one size."""
    network = small_network()
    return network, encoder_to_onnx(network, (37, 50))


def test_features_and_masks_are_those_of_pytorch_at_all_sizes(exported, backend):
    original = exported.original(inference_size=4096)
    for size in SIZES:
        image = random_image(*size, seed=size[0])
        original.inference_size = max(size)
        segmenter = loaded(exported, backend, inference_size=max(size))
        encoded = segmenter.encode(image)
        features = segmenter.features(encoded).copy()
        assert_near(features, reference(exported.network, image))
        assert_near(features, reference(exported.network, image, torch.float32))
        for name in segmenter.domains:
            assert_equal_but_for_ties(
                [each.head_mask(each.encode(image), name) for each in (segmenter, original)],
                original.logits(original.encode(image), name), size, 8)


def test_a_network_for_one_size_is_that_of_pytorch(drn, exported, backend):
    network, encoder = drn
    model = replace(exported.model, network=encoder, channels=network.encoder.out_channels,
                    heads=network.as_arrays(), export=Export(size=(37, 50)))
    segmenter = Segmenter(model, CARD, backend=backend, precision='fp32')
    image = random_image(37, 50)
    assert_near(segmenter.features(segmenter.encode(image)), reference(network, image))


def test_masks_of_4k_are_those_of_pytorch(exported, backend):
    image = np.kron(random_image(54, 96), np.ones((40, 40, 1), np.uint8))
    segmenter, original = loaded(exported, backend), exported.original()
    for each in (segmenter, original):
        assert each.network_size(2160, 3840) == (36, 64)
    assert_equal_but_for_ties(
        [each.head_mask(each.encode(image), 'outdoor') for each in (segmenter, original)],
        original.logits(original.encode(image), 'outdoor'), (36, 64), 8)


def test_all_that_follows_the_encoder_is_as_with_pytorch(exported, backend):
    """Several domains in any order, confidence, threshold, label embeddings."""
    segmenter, original, image = loaded(exported, backend), exported.original(), random_image(
        60, 44)
    found, expected = (each(image, ['indoor', 'outdoor'], confidence=True, threshold=0.45)
                       for each in (segmenter, original))
    assert list(found) == ['indoor', 'outdoor']
    assert {255} < {*np.unique(expected['outdoor'].mask)}
    for name in found:
        assert np.mean(found[name].mask != expected[name].mask) <= 0.001
        apart = found[name].confidence.astype(int) - expected[name].confidence
        assert np.abs(apart).max() <= 1
        assert np.array_equal(segmenter(image, [name], threshold=0.45)[name].mask,
                              found[name].mask)
    encoded, its = segmenter.encode(image), original.encode(image)
    assert np.abs(segmenter.embed(encoded) - original.embed(its)).max() <= 1e-4
    assert np.array_equal(segmenter.label_embeddings('outdoor'),
                          original.label_embeddings('outdoor'))
    for name in segmenter.domains:
        for among in (None, ['indoor', 'outdoor']):
            masks = [each.label_embedding_mask(seen, name, among)
                     for each, seen in ((segmenter, encoded), (original, its))]
            assert np.mean(masks[0] != masks[1]) <= 0.001
    assert (segmenter.backend, segmenter.device, segmenter.precision, segmenter.stride) == (
        backend, 'cpu', 'fp32', 8)
    with pytest.raises(DomainError, match="'yard'; this model has outdoor, indoor"):
        segmenter(image, ['yard'])


def test_the_inference_size_may_change_between_calls(exported, backend):
    segmenter, image = loaded(exported, backend), random_image(48, 64)
    assert segmenter.inference_size == 64
    for size in (40, None, 96):
        segmenter.inference_size = size
        fresh = loaded(exported, backend, inference_size=size)
        assert segmenter.encode(image).network_size == fresh.network_size(48, 64)
        assert np.array_equal(segmenter(image)['outdoor'].mask, fresh(image)['outdoor'].mask)


def test_the_image_is_not_changed_and_may_be_a_view(exported, backend):
    segmenter, image = loaded(exported, backend), random_image(96, 128)
    view = image[::2, ::-2]
    expected = segmenter(np.ascontiguousarray(view))['outdoor'].mask
    view.setflags(write=False)
    assert np.array_equal(segmenter(view)['outdoor'].mask, expected)
    assert np.array_equal(image, random_image(96, 128))


def test_onnx_runtime_does_not_keep_the_files_bytes(exported):
    # New bytes, of which nobody else may hold a part.
    model = replace(exported.model, network=bytes(bytearray(exported.model.network)))
    held = sys.getrefcount(model.network)
    segmenter = Segmenter(model, CARD, backend='onnxruntime', device='cpu', precision='fp32')
    holding = sys.getrefcount(model.network)
    assert holding == held
    assert segmenter(random_image(5, 7))  # which it is well without


def test_a_file_for_one_size_takes_no_other(exported):
    one_size = replace(exported.model, export=Export(size=(48, 64)))
    segmenter = Segmenter(one_size, CARD, backend='onnxruntime')
    assert (segmenter.only_size, segmenter.inference_size) == ((48, 64), 64)
    assert segmenter(random_image(96, 128))['outdoor'].mask.shape == (96, 128)
    with pytest.raises(UnivsegError, match='an image of 64×64: this model was exported for images '
                       'that are seen at 64×48 alone; export it with another --size'):
        segmenter(random_image(64, 64))
    for size in (32, 65):
        with pytest.raises(UnivsegError, match=f'inference size {size}: this model was exported'):
            segmenter.inference_size = size
        with pytest.raises(UnivsegError, match=f'inference size {size}: this model was exported'):
            Segmenter(one_size, CARD, backend='onnxruntime', inference_size=size)
    assert segmenter.inference_size == 64
    segmenter.inference_size = None
    segmenter.inference_size = 64
    wide = Segmenter(one_size, replace(CARD, image_size=480), backend='onnxruntime')
    assert wide.inference_size == wide.own_size == 64


@pytest.mark.parametrize(('backend', 'of', 'messages'), [
    ('torch', 'path', ["'torch' does not run what `univseg export` made",
                       'for onnxruntime or openvino']),
    ('openvino', 'source', ["'openvino' does not run a model of PyTorch", 'for torch',
                            '`univseg export MODEL` makes one']),
    ('onnxruntime', 'source', ["'onnxruntime' does not run a model of PyTorch"]),
    ('opnvino', 'path', ["backend 'opnvino': expected one of torch, onnxruntime, openvino",
                         'did you mean openvino?'])])
def test_a_file_for_other_backends_is_refused(exported, backend, of, messages):
    with pytest.raises(UnivsegError) as error:
        Segmenter.load(getattr(exported, of), backend=backend)
    for message in messages:
        assert message in str(error.value)


@pytest.mark.parametrize('backend', [*BACKENDS, 'torch'])
def test_a_backend_that_is_not_installed_is_named_with_what_brings_it(exported, backend,
                                                                      monkeypatch):
    monkeypatch.setitem(sys.modules, backend, None)
    network = exported.network if backend == 'torch' else exported.model
    with pytest.raises(UnivsegError, match=f"backend '{backend}' needs the package {backend}, "
                       rf'which cannot be imported \(.*\): pip install {backend}'):
        backends.build_backend(backend, network, 'cpu', 'fp32')


def test_where_no_backend_is_installed_all_are_named(exported, monkeypatch):
    for name in BACKENDS:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnivsegError, match='none of what runs this model is installed: pip install'
                       ' onnxruntime or pip install openvino'):
        Segmenter(exported.model, CARD)
    monkeypatch.delitem(sys.modules, 'openvino')
    assert backends.installed(True) == ['openvino']


def test_the_version_of_a_package_is_found_whatever_brought_it(monkeypatch):
    for name in BACKENDS:
        assert importlib.import_module(name).__version__.startswith(
            backends.version_of(name).split('-')[0])

    def of_another(package):
        if package == 'onnxruntime':
            raise metadata.PackageNotFoundError(package)
        return '1.2'

    monkeypatch.setattr(metadata, 'version', of_another)
    monkeypatch.setattr(metadata, 'packages_distributions',
                        lambda: {'onnxruntime': ['onnxruntime-gpu']})
    assert backends.version_of('onnxruntime') == 'onnxruntime-gpu 1.2'


@pytest.mark.parametrize(('options', 'messages'), [
    ({'precision': 'fp16'}, ["precision 'fp16'", 'tiny.onnx was exported in fp32', 'take auto']),
    ({'precision': 'int8'}, ["precision 'int8'", 'export it again']),
    ({'device': 'cuda:7'}, ["'cuda:7'"]), ({'device': 'nonsense'}, ["'nonsense'"])])
def test_a_precision_or_device_that_is_not_there_is_refused(exported, backend, options, messages):
    with pytest.raises(UnivsegError) as error:
        Segmenter(exported.model, CARD, backend=backend, **options)
    for message in messages:
        assert message in str(error.value)


@pytest.fixture
def with_unknown_operator(exported, tmp_path):
    """Return an exported file whose network has an operator that nobody knows."""
    model = onnx.load_model_from_string(exported.encoder)
    last = next(node for node in model.graph.node if 'features' in node.output)
    last.output[list(last.output).index('features')] = 'unknown_input'
    model.graph.node.add(op_type='Sharpen', domain='acme', name='sharpen',
                         input=['unknown_input'], output=['features'])
    model.opset_import.add(domain='acme', version=1)
    path = tmp_path / 'acme.onnx'
    save_exported(path, replace(exported.model, network=model.SerializeToString()), CARD)
    return path


def test_an_operator_that_a_backend_lacks_is_named_with_the_file(with_unknown_operator, backend):
    with pytest.raises(BackendError, match=r'acme\.onnx: \w+ ?\w* cannot run it.*Sharpen'):
        Segmenter.load(with_unknown_operator, backend=backend)
    with pytest.raises(UnivsegError, match=r'acme\.onnx.*Sharpen'):
        Segmenter.load(with_unknown_operator)


def test_what_fails_at_an_image_is_an_error_of_the_backend(exported, backend):
    """As running out of memory does: the node tells it by what it says."""
    segmenter = loaded(exported, backend)
    with pytest.raises(BackendError) as error:
        segmenter._backend.features(np.zeros((8, 8, 4), np.uint8))
    assert isinstance(error.value, RuntimeError)
    assert isinstance(error.value, UnivsegError)


WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'timm', 'onnx', 'onnxscript', 'nncf']))
from pathlib import Path
import numpy as np
from univseg_core.cli import main
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Segmenter

model, source, frames = sys.argv[1:4]
image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
masks = {}
for backend in ('onnxruntime', 'openvino'):
    segmenter = Segmenter.load(model, backend=backend, precision='fp32')
    for name, found in segmenter(image, confidence=True).items():
        masks[f'{backend}_{name}'] = found.mask
    masks[f'{backend}_nearest'] = segmenter.label_embedding_mask(segmenter.encode(image), 'indoor')
np.savez('masks.npz', **masks)
assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]
for command in (
        ['predict', frames, '--model', model, '--domain', 'indoor', '--out', 'masks'],
        ['predict', frames, '--model', model, '--label-space', 'indoor', '--out', 'nearest'],
        ['rank', model, frames, '--domain', 'outdoor', '--out', 'ranking'],
        ['prelabel', model, frames, '--domain', 'outdoor', '--out', 'to_correct'],
        ['info', model],
        ['import-labels', 'to_correct/labels', '--frames', 'to_correct/images', '--model', model,
         '--domain', 'outdoor', '--out', 'corrected']):
    assert main(command) == 0, command
try:
    Segmenter.load(source)
except UnivsegError as error:
    print(error)
"""


def test_nothing_of_pytorch_is_needed(exported, copied, tmp_path):
    """Each command but those that train, evaluate, draw or export runs where it is missing."""
    from univseg_core.pictures.images import write_png
    for i in range(3):
        write_png(tmp_path / 'frames' / f'{i}.png', random_image(24, 32, i))
    (temporary := tmp_path / 'temporary').mkdir()
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_TORCH, copied, exported.source, tmp_path / 'frames'],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={name: value for name, value in os.environ.items() if name != 'CI'}
        | {'PYTHONPATH': str(Path(backends.__file__).parents[2]), 'TMPDIR': str(temporary)})
    assert done.returncode == 0, done.stderr
    assert not list(temporary.iterdir())  # ONNX Runtime's telemetry keeps a file there
    assert done.stdout.splitlines()[-1].startswith(
        f'{exported.source}: a model file is run by PyTorch, which cannot be imported')
    assert 'pip install torch torchvision timm; or export it' in done.stdout
    image = random_image(48, 64)
    original = exported.original()
    nearest = original.label_embedding_mask(original.encode(image), 'indoor')
    with np.load(tmp_path / 'masks.npz') as masks:
        for backend in BACKENDS:
            for name, expected in original(image).items():
                assert np.mean(masks[f'{backend}_{name}'] != expected.mask) <= 0.001
            assert np.mean(masks[f'{backend}_nearest'] != nearest) <= 0.001
    assert len(list((tmp_path / 'masks').glob('*_mask.png'))) == 3
    assert len(list((tmp_path / 'corrected' / 'label').iterdir())) == 3
