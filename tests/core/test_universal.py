"""The universal model: rows go to their domain's head, pixels stay aligned, names are free."""

import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR, small_network
import torch
import torch.nn.functional as F
from univseg_core.domains import Domain
from univseg_core.models.normalisation import IMAGENET, Normalisation
from univseg_core.models.universal import (
    ModelSpec,
    UniversalSegmenter,
    upsample,
)

LABELLED = {'outdoor': slice(0, 2), 'indoor': slice(2, 3)}
UNLABELLED = {'outdoor': slice(3, 4), 'indoor': slice(4, 6)}


def images(count=6, height=37, width=50, seed=0):
    generator = torch.manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).to(torch.uint8)


def bilinear_x8(logits, height, width):
    """Bilinear upsampling of (C, h, w) by 8 with pixel centres aligned, one pixel at a time."""
    def position(i, count):
        source = min(max((i + 0.5) / 8 - 0.5, 0), count - 1)
        low = int(source)
        return low, min(low + 1, count - 1), source - low

    full = np.empty((len(logits), height, width))
    for y in range(height):
        top, bottom, down = position(y, logits.shape[1])
        for x in range(width):
            left, right, across = position(x, logits.shape[2])
            upper = (1 - across) * logits[:, top, left] + across * logits[:, top, right]
            lower = (1 - across) * logits[:, bottom, left] + across * logits[:, bottom, right]
            full[:, y, x] = (1 - down) * upper + down * lower
    return full


def test_each_domain_gets_exactly_its_rows():
    network, batch = small_network(), images()
    with torch.no_grad():
        logits, embeddings, of_labelled, _, of_unlabelled, at_cells = network(
            batch, LABELLED, UNLABELLED)
        for name, rows in LABELLED.items():
            head = network.get_submodule(f'head_{name}')
            expected = head(network.features(batch[rows]))
            torch.testing.assert_close(at_cells[name], expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(logits[name], upsample(expected, (37, 50), 8), rtol=1e-5,
                                       atol=1e-5)
        for found, part in ((embeddings, UNLABELLED), (of_labelled, LABELLED)):
            for name, rows in part.items():
                expected = network.embedding(network.features(batch[rows]))
                torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)
        for name, rows in UNLABELLED.items():
            expected = network.head(name)(network.features(batch[rows]))
            torch.testing.assert_close(of_unlabelled[name], expected, rtol=1e-5, atol=1e-5)
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        'outdoor': (2, 3, 37, 50), 'indoor': (1, 2, 37, 50)}
    assert {name: tuple(value.shape) for name, value in embeddings.items()} == {
        'outdoor': (1, 8, 5, 7), 'indoor': (2, 8, 5, 7)}


def test_the_encoder_runs_once_for_all_domains():
    network, calls = small_network(), []
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    network(images(), LABELLED, UNLABELLED)
    assert len(calls) == 1


@pytest.mark.parametrize('size', [(8, 16), (37, 50), (9, 8), (3, 5)])
def test_logits_are_upsampled_and_cropped_never_resized(size):
    small = torch.randn(1, 2, -(-size[0] // 8), -(-size[1] // 8),
                        generator=torch.manual_seed(0))
    expected = bilinear_x8(small[0].double().numpy(), *size)
    np.testing.assert_allclose(upsample(small, size, 8)[0].numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(('dtype', 'tolerance'), [
    (torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize('stride', [4, 7, 8])
def test_logits_and_their_gradient_are_those_of_interpolation(stride, dtype, tolerance, layout):
    """On CPUs they come from products of matrices; a stride of 7 has weights that round."""
    small = torch.randn(2, 3, 5, 6, generator=torch.manual_seed(0))
    small = small.to(dtype, memory_format=layout).requires_grad_()
    size = (5 * stride - 1, 6 * stride - 2)
    weights = torch.randn(2, 3, *size, generator=torch.manual_seed(1), dtype=torch.float64)
    found = upsample(small, size, stride)
    assert found.dtype == dtype
    full = F.interpolate(small.double(), scale_factor=stride, mode='bilinear', align_corners=False)
    expected = full[..., :size[0], :size[1]]
    [gradient], [expected_gradient] = (
        torch.autograd.grad((values.double() * weights).sum(), small)
        for values in (found, expected))
    for got, right in ((found, expected), (gradient, expected_gradient)):
        assert (got.double() - right.double()).norm() <= tolerance * right.double().norm()


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_images_are_normalised_inside(dtype):
    network, batch = small_network(), images(1)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
    with torch.no_grad():
        expected = network.encoder((batch / 255 - mean) / std)
        torch.testing.assert_close(network.features(batch.to(dtype)), expected,
                                   rtol=1e-4, atol=1e-5)


def test_another_normalisation_is_the_models_own():
    network, batch = small_network(), images(1)
    with torch.no_grad():
        expected = network.encoder(batch / 127.5 - 1)
        network.normalise_as(Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
        torch.testing.assert_close(network.features(batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['train', 'forward', 'items', 'encoder', 'embedding', 'domains',
                                  'label_embeddings', 'mean', 'x'])
def test_a_domain_may_be_named_like_an_attribute(name):
    network = small_network(Domain.create(name, ['a', 'b']), INDOOR)
    network.set_label_embeddings(name, torch.ones(2, 8))
    logits, embeddings, *_ = network.train()(images(4), {name: slice(0, 2)}, {name: slice(2, 4)})
    assert logits[name].shape == (2, 2, 37, 50)
    assert embeddings[name].shape == (2, 8, 5, 7)
    assert network.label_embeddings(name).eq(1).all()
    assert network.state_dict()[f'head_{name}.weight'].shape[0] == 2


@pytest.mark.parametrize('domains', [[], [OUTDOOR, INDOOR, OUTDOOR]])
def test_domains_that_are_none_or_share_a_name_are_refused(domains):
    with pytest.raises(ValueError, match='different names'):
        UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8), domains)


@pytest.mark.parametrize('dim', [0, 33])
def test_an_embedding_dimension_outside_the_encoders_channels_is_refused(dim):
    with pytest.raises(ValueError, match=rf'embedding dimension {dim}: expected 1\.\.32'):
        UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=dim), [OUTDOOR])


def test_label_embeddings_are_zero_until_set():
    network = small_network()
    assert network.label_embeddings('outdoor').shape == (3, 8)
    assert not network.label_embeddings('outdoor').any()


@pytest.mark.parametrize('k', [1, 3])
def test_label_embeddings_are_set_and_saved_with_the_weights(k):
    network = small_network()
    vectors = torch.randn(3 * k, 8, generator=torch.manual_seed(0), dtype=torch.float64)
    network.set_label_embeddings('outdoor', vectors)
    saved = network.state_dict()['label_embeddings_outdoor']
    assert saved.dtype == torch.float32
    assert torch.equal(saved, vectors.float())
    assert torch.equal(network.label_embeddings('outdoor'), saved)
    assert not network.label_embeddings('indoor').any()


@pytest.mark.parametrize('shape', [(3,), (3, 7), (4, 8), (3, 1, 8), (0, 8)])
def test_label_embeddings_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r'outdoor: expected \(3·K, 8\), got'):
        small_network().set_label_embeddings('outdoor', torch.zeros(shape))


def test_label_embeddings_get_no_gradient():
    names = [name for name, _ in small_network().named_parameters()]
    assert not [name for name in names if name.startswith('label_embeddings')]


def test_one_domains_supervised_loss_leaves_other_heads_and_unlabelled_rows_alone():
    network = small_network()
    batch = images().float().requires_grad_()
    logits, *_ = network(batch, LABELLED, UNLABELLED)
    logits['outdoor'].square().mean().backward()
    assert network.head_outdoor.weight.grad.any()
    assert network.head_indoor.weight.grad is None
    assert network.embedding.weight.grad is None
    # In evaluation mode nothing else couples the rows (in training, batch statistics do).
    touched = [row for row, gradient in enumerate(batch.grad) if gradient.any()]
    assert touched == [0, 1]
