"""The deployed model: exact masks, at the image's own size, in every way that it may run."""

import copy
from dataclasses import replace
import tracemalloc
import warnings

import numpy as np
import pytest
from tiny_worlds import random_image, small_network
import torch
from torch import nn
import torch.nn.functional as F
from univseg_core.domains import DomainError
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.inference.torch_backend import resolve_device
from univseg_core.models.batch_norm import fold_batch_norm
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.pictures.images import fit_size, resize_image

SIZES = [(48, 64), (37, 50), (1, 1), (5, 90), (17, 8)]


def segmenter(network=None, card=None, **options):
    options = {'device': 'cpu', 'precision': 'fp32', **options}
    return Segmenter(network or small_network(), card or ModelCard(), **options)


def full_logits(model, image, name):
    """Upsample the model's own coarse logits: ×8, cropped, and resized if it was scaled."""
    encoded = model.encode(image)
    logits = torch.from_numpy(model.logits(encoded, name))[None]
    network_size = encoded.network_size
    full = F.interpolate(logits, scale_factor=8, mode='bilinear', align_corners=False)
    full = full[:, :, :network_size[0], :network_size[1]]
    if network_size != image.shape[:2]:
        full = F.interpolate(full, image.shape[:2], mode='bilinear', align_corners=False)
    return full[0]


@pytest.mark.parametrize('inference_size', [None, 40, 96])
@pytest.mark.parametrize('size', SIZES)
def test_masks_are_exactly_the_largest_upsampled_logits(size, inference_size):
    model, image = segmenter(inference_size=inference_size), random_image(*size)
    for name, segmentation in model(image).items():
        expected = full_logits(model, image, name).argmax(0).numpy()
        assert segmentation.mask.shape == size
        assert segmentation.mask.dtype == np.uint8
        assert segmentation.confidence is None
        assert np.array_equal(segmentation.mask, expected)


@pytest.mark.parametrize('inference_size', [None, 40])
@pytest.mark.parametrize('size', [(37, 50), (60, 44)])
def test_coarse_logits_are_those_of_the_trained_network(size, inference_size):
    """Folded batch norms and the deployed memory layout change them by rounding alone."""
    network, image = small_network(width=0.25), random_image(*size)
    model = segmenter(network, inference_size=inference_size)
    network_size = fit_size(*size, inference_size)
    resized = torch.from_numpy(resize_image(image, *network_size)).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = network.features(resized)
        for name in network.domains:
            encoded = model.encode(image)
            logits = model.logits(encoded, name)
            expected = network.logits(features, name)[0].numpy()
            assert encoded.network_size == network_size
            assert encoded.size == size
            assert logits.dtype == np.float32
            assert np.linalg.norm(logits - expected) <= 1e-4 * np.linalg.norm(expected)


def test_a_batch_norm_that_follows_no_convolution_is_left():
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.ReLU(), nn.BatchNorm2d(2))
    module.eval()
    for norm in (module[0], module[3]):
        norm.running_mean.fill_(0.5)
    images = torch.rand(1, 3, 4, 4, generator=torch.manual_seed(0))
    folded = fold_batch_norm(copy.deepcopy(module))
    assert [type(m) for m in folded] == [type(m) for m in module]
    assert torch.equal(folded(images), module(images))


def test_the_given_model_is_not_changed():
    network = small_network()
    segmenter(network, precision='bf16')(random_image(20, 30))
    untouched = small_network().state_dict()
    assert network.state_dict().keys() == untouched.keys()
    assert all(torch.equal(value, untouched[key]) for key, value in network.state_dict().items())


def test_several_domains_of_one_pass_equal_single_ones():
    model, image = segmenter(), random_image(37, 50)
    both = model(image, ['indoor', 'outdoor'], confidence=True)
    assert list(both) == ['indoor', 'outdoor']
    assert list(model(image)) == ['outdoor', 'indoor']
    for name in both:
        single = model(image, [name], confidence=True)
        assert list(single) == [name]
        assert np.array_equal(single[name].mask, both[name].mask)
        assert np.array_equal(single[name].confidence, both[name].confidence)
        assert len(np.unique(both[name].mask)) > 1


def test_no_domains_give_nothing():
    assert segmenter()(random_image(8, 8), []) == {}


@pytest.mark.parametrize('size', [(37, 50), (64, 48)])
@pytest.mark.parametrize('inference_size', [None, 32])
def test_confidence_is_the_softmax_probability_of_the_top_class(size, inference_size):
    model, image = segmenter(inference_size=inference_size), random_image(*size)
    for name, segmentation in model(image, confidence=True).items():
        probability = full_logits(model, image, name).double().softmax(0).max(0).values.numpy()
        assert segmentation.confidence.dtype == np.uint8
        assert segmentation.confidence.shape == size
        assert np.abs(segmentation.confidence - 255 * probability).max() <= 0.501


@pytest.mark.parametrize(('given', 'learned', 'expected'), [
    (None, None, (48, 64)), (None, 32, (24, 32)), (96, 32, (72, 96)), (40, None, (30, 40))])
def test_images_are_scaled_to_the_size_given_or_learned_from(given, learned, expected):
    model = segmenter(card=ModelCard(image_size=learned), inference_size=given)
    assert model.encode(random_image(48, 64)).network_size == expected
    assert model(random_image(48, 64))['indoor'].mask.shape == (48, 64)


@pytest.mark.parametrize('size', [None, 0, 24, np.int64(96)])
def test_the_inference_size_may_change_between_calls(size):
    image, card = random_image(48, 64), ModelCard(image_size=40)
    model = segmenter(card=card, inference_size=80)
    fresh = segmenter(card=card, inference_size=size)
    before = model(image)
    model.inference_size = size
    assert model.inference_size == fresh.inference_size == (size or 40)
    assert model.network_size(48, 64) == fit_size(48, 64, size or 40)
    assert model.encode(image).network_size == model.network_size(48, 64)
    for name, expected in fresh(image).items():
        assert np.array_equal(model(image)[name].mask, expected.mask)
    model.inference_size = 80
    for name, expected in before.items():
        assert np.array_equal(model(image)[name].mask, expected.mask)


def test_a_model_that_was_made_for_no_size_scales_nothing():
    model = segmenter(inference_size=40)
    model.inference_size = None
    assert model.inference_size is None
    assert model.network_size(123, 77) == (123, 77)


@pytest.mark.parametrize('size', [-5, 2.5, 480.0, '480', float('nan')])
def test_a_size_that_no_image_has_is_refused(size):
    with pytest.raises(UnivsegError, match=f'inference size {size!r}: expected a number of pix'):
        segmenter(inference_size=size)
    model = segmenter(inference_size=40)
    with pytest.raises(UnivsegError, match=f'inference size {size!r}: expected a number of pix'):
        model.inference_size = size
    assert model.inference_size == 40


@pytest.mark.parametrize('inference_size', [None, 40])
def test_where_the_top_class_is_not_sure_enough_the_mask_is_255(inference_size):
    model, image = segmenter(inference_size=inference_size), random_image(37, 50)
    plain = model(image)
    for name in model.domains:
        probability = full_logits(model, image, name).softmax(0).max(0).values.numpy()
        threshold = float(np.median(probability)) + 1e-7
        found = model(image, [name], threshold=threshold)[name]
        sure = probability >= threshold
        decided = abs(probability - threshold) > 1e-6
        assert found.confidence is None
        assert (found.mask[decided & ~sure] == 255).all()
        assert np.array_equal(found.mask[decided & sure], plain[name].mask[decided & sure])
        assert (found.mask == 255).any()
        assert (found.mask != 255).any()


@pytest.mark.parametrize('threshold', [-0.1, 1.1, 50, float('nan')])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ValueError, match=rf'threshold {threshold}: expected a probability, 0'):
        segmenter()(random_image(8, 8), threshold=threshold)


def test_a_read_only_image_is_read_without_a_warning():
    """A frame from another process is."""
    model, image = segmenter(), random_image(20, 30)
    expected = model(image)
    image.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = model(image)
    for name in found:
        assert np.array_equal(found[name].mask, expected[name].mask)


def test_an_image_is_made_smaller_before_anything_else_is_made_of_it():
    model, image = segmenter(inference_size=32), random_image(900, 1200)
    model(image)
    tracemalloc.start()
    try:
        model.encode(image)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 24 * 32 * 3 <= peak < image.nbytes / 4


def test_an_unknown_domain_is_refused_with_the_known_ones():
    with pytest.raises(DomainError, match=r"'garden'.*outdoor, indoor"):
        segmenter()(random_image(8, 8), ['outdoor', 'garden'])


@pytest.mark.parametrize('image', [
    np.zeros((8, 8), np.uint8),
    np.zeros((8, 8, 1), np.uint8),
    np.zeros((8, 8, 4), np.uint8),
    np.zeros((1, 8, 8, 3), np.uint8),
    np.zeros((8, 8, 3), np.float32),
    np.zeros((8, 8, 3), np.int64),
    np.zeros((0, 8, 3), np.uint8),
])
def test_an_array_that_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match=r'expected an image of shape \(H, W, 3\) and dtype uint8'
                       rf', got .*{image.dtype}'):
        segmenter()(image)


@pytest.mark.parametrize('inference_size', [None, 32])
def test_views_of_an_image_are_read_as_what_they_show(inference_size):
    model, image = segmenter(inference_size=inference_size), random_image(40, 60)
    for view in (image[:, ::-1], image[::2, 1::2], image[..., ::-1], image.transpose(1, 0, 2)):
        masks, expected = model(view), model(view.copy())
        for name in masks:
            assert np.array_equal(masks[name].mask, expected[name].mask)


@pytest.mark.parametrize('device', ['gpu', 'cuda:99', 'cpu:x', ''])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(UnivsegError, match=f'device {device!r} is not available: '):
        segmenter(device=device)


@pytest.mark.parametrize('precision', ['int8', 'half', '', 'FP32'])
def test_an_unknown_precision_is_refused(precision):
    with pytest.raises(UnivsegError, match=f'precision {precision!r}: expected one of auto, fp32'):
        segmenter(precision=precision)


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(UnivsegError, match="backend 'tensors': expected one of torch, "):
        segmenter(backend='tensors')


@pytest.mark.parametrize(('has_cuda', 'found'), [(True, 'cuda'), (False, 'cpu')])
def test_auto_takes_cuda_where_there_is_one(has_cuda, found, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_cuda)
    assert resolve_device('auto').type == found


@pytest.mark.parametrize('size', [(96, 128), (75, 50)])
def test_bf16_masks_are_nearly_those_of_fp32(size):
    network, image = small_network(width=0.25), random_image(*size)
    exact = segmenter(network, inference_size=200)(image)
    rough = segmenter(network, inference_size=200, precision='bf16')(image)
    for name in exact:
        assert (exact[name].mask == rough[name].mask).mean() > 0.95
        assert len(np.unique(exact[name].mask)) > 1


def test_a_model_file_gives_the_same_masks(tmp_path):
    network, image = small_network(), random_image(37, 50)
    card = ModelCard(image_size=40)
    save_model(tmp_path / 'a.univseg', network, card)
    loaded = Segmenter.load(tmp_path / 'a.univseg', device='cpu', precision='fp32')
    assert loaded.card == card
    assert loaded.domains == network.domains
    for name, segmentation in segmenter(network, card)(image).items():
        assert np.array_equal(loaded(image)[name].mask, segmentation.mask)


def with_label_embeddings(per_class=1, absent=()):
    """Return a network with random label embeddings, of some classes of outdoor none."""
    network = small_network()
    for seed, (name, domain) in enumerate(network.domains.items()):
        vectors = torch.randn(len(domain.classes), per_class, 8,
                              generator=torch.manual_seed(seed))
        if name == 'outdoor':
            vectors[list(absent)] = 0
        network.set_label_embeddings(name, F.normalize(vectors.flatten(0, 1), dim=1))
    return network


@pytest.mark.parametrize('inference_size', [None, 40])
@pytest.mark.parametrize(('per_class', 'absent'), [(1, ()), (3, ()), (2, (1,))])
def test_label_embedding_masks_are_those_of_the_nearest_label_embedding(per_class, absent,
                                                                        inference_size):
    """The dot products with every cell, then the largest of a class, upsampled as logits are."""
    network, image = with_label_embeddings(per_class, absent), random_image(37, 50)
    model = segmenter(network, inference_size=inference_size)
    encoded = model.encode(image)
    cells = torch.from_numpy(model.embed(encoded))
    expected, classes = {}, []
    for name, domain in network.domains.items():
        rows = network.label_embeddings(name).view(len(domain.classes), per_class, 8)
        scores = {c: torch.einsum('kd,dhw->khw', rows[c], cells).amax(0)
                  for c in range(len(domain.classes)) if name != 'outdoor' or c not in absent}
        full = F.interpolate(torch.stack(list(scores.values()))[None], scale_factor=8,
                             mode='bilinear', align_corners=False)
        full = full[:, :, :encoded.network_size[0], :encoded.network_size[1]]
        expected[name] = F.interpolate(full, (37, 50), mode='bilinear', align_corners=False)[0]
        classes += [(name, c) for c in scores]
        mask = np.array(list(scores))[expected[name].argmax(0).numpy()]
        assert np.mean(model.label_embedding_mask(encoded, name) == mask) > 0.999

    nearest = torch.cat(list(expected.values())).argmax(0).numpy()
    for name in network.domains:
        of_class = np.array([c if owner == name else 255 for owner, c in classes])
        found = model.label_embedding_mask(encoded, name, ['outdoor', 'indoor'])
        assert found.dtype == np.uint8
        assert np.mean(found == of_class[nearest]) > 0.999


def test_a_model_without_label_embeddings_says_so():
    network = with_label_embeddings()
    assert segmenter(network).has_label_embeddings
    network.set_label_embeddings('indoor', torch.zeros(2, 8))
    model = segmenter(network)
    assert not model.has_label_embeddings
    encoded = model.encode(random_image(8, 8))
    assert model.label_embedding_mask(encoded, 'outdoor').shape == (8, 8)
    with pytest.raises(UnivsegError, match='no label embeddings of indoor'):
        model.label_embedding_mask(encoded, 'indoor')
    with pytest.raises(DomainError, match='unknown domain'):
        model.label_embedding_mask(encoded, 'attic')


class Reordered(nn.Module):
    """Calls its layers in another order than they are registered in."""

    def __init__(self):
        super().__init__()
        self.out_channels = self.stride = 8
        self.first = nn.Conv2d(3, 8, 3, stride=8, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 1)
        nn.init.uniform_(self.norm.running_mean)

    def forward(self, x):
        """Map (B, 3, H, W) to (B, 8, H/8, W/8)."""
        return self.norm(self.second(self.first(x)))


def test_an_encoder_that_cannot_be_folded_runs_as_it_is(caplog):
    """Of networks of timm that no test has seen, folding is compared at load."""
    model = small_network()
    model.encoder, model.spec = Reordered().eval(), replace(model.spec, encoder='timm/unseen')
    model.head_outdoor = nn.Conv2d(8, 3, 1)
    image = random_image(64, 64)
    expected = model.logits(model.features(
        torch.from_numpy(image).permute(2, 0, 1)[None].float()), 'outdoor')
    segmenter = Segmenter(model, ModelCard(), device='cpu', precision='fp32')
    assert 'cannot be folded' in caplog.text
    np.testing.assert_allclose(segmenter.logits(segmenter.encode(image), 'outdoor'),
                               expected[0].detach().numpy(), rtol=1e-4, atol=1e-5)
