"""Label embeddings: class shares, principal components and class means, each done twice."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from tiny_worlds import COLOURS, draw, INDOOR, OUTDOOR, small_network
import torch
from univseg_core.label_embeddings import (
    absent_classes,
    class_shares,
    compute_label_embeddings,
    FeatureStatistics,
)

CHANNELS, CLASSES, DIM = 12, 4, 5
SIZES = [(5, 7), (3, 4), (6, 6), (1, 9)]


def random_maps(seed=0, present=range(CLASSES)):
    """Return features (C_F, h, w) float32 and labels (8·h, 8·w) of some images, some void."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(CHANNELS, CHANNELS)) * np.logspace(0, -1.5, CHANNELS)
    maps = []
    for height, width in SIZES:
        label = generator.choice([*present, 255], (8 * height, 8 * width)).astype(np.uint8)
        noise = generator.normal(size=(height, width, CHANNELS))
        noise[..., :CLASSES] += 4 * (label[::8, ::8, None] == np.arange(CLASSES))
        features = (noise @ mixing.T + generator.normal(size=CHANNELS)).astype(np.float32)
        maps.append((torch.from_numpy(features).permute(2, 0, 1).contiguous(), label))
    return maps


def statistics_of(maps):
    statistics = FeatureStatistics(CHANNELS, CLASSES)
    for features, label in maps:
        statistics.update(features, class_shares(torch.from_numpy(label), CLASSES))
    return statistics


def label_embeddings_loop(maps, classes, dim):
    """Project every cell, give every pixel its cell's vector, and average by class."""
    cells = np.concatenate([features.flatten(1).T.double().numpy() for features, _ in maps])
    pca = PCA(dim, svd_solver='full').fit(cells)
    # The sign of a direction is free; here its largest component is positive.
    signs = np.sign([row[np.abs(row).argmax()] for row in pca.components_])
    means = np.zeros((classes, dim))
    for c in range(classes):
        vectors = []
        for features, label in maps:
            for y, x in np.argwhere(label == c):
                cell = features[:, y // 8, x // 8].double().numpy()
                vectors.append((pca.components_ @ (cell - pca.mean_)) * signs)
        if vectors:
            mean = np.mean(vectors, axis=0)
            means[c] = mean / np.linalg.norm(mean)
    return means


def test_shares_worked_by_hand():
    """
    A map of 8×12 pixels has two cells; the right one is half beyond the border.

    Left: 32 pixels of class 0, 16 of class 1, 16 void. Right: 32 of class 1, 32 of no class.
    """
    label = np.full((8, 12), 255, np.uint8)
    label[:4, :8] = 0
    label[4:6, :8] = 1
    label[:, 8:] = 1
    shares = class_shares(torch.from_numpy(label), 3)
    assert shares.dtype == torch.float64
    assert shares.tolist() == [[[0.5, 0]], [[0.25, 0.5]], [[0, 0]]]


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (9, 15), (23, 40)])
def test_shares_count_every_pixel_once(size):
    label = np.random.default_rng(0).choice([0, 1, 2, 255], size).astype(np.uint8)
    shares = class_shares(torch.from_numpy(label), 3)
    assert shares.shape == (3, -(-size[0] // 8), -(-size[1] // 8))
    assert (64 * shares.sum((1, 2))).tolist() == [(label == c).sum() for c in range(3)]
    top, left = (side - 1 - (side - 1) % 8 for side in size)
    assert 64 * shares[1, -1, -1] == (label[top:, left:] == 1).sum()


@pytest.mark.parametrize('seed', range(3))
def test_principal_components_are_those_of_scikit_learn(seed):
    maps = random_maps(seed)
    mean, directions = statistics_of(maps).principal_components(DIM)
    cells = np.concatenate([features.flatten(1).T.double().numpy() for features, _ in maps])
    pca = PCA(DIM, svd_solver='full').fit(cells)
    np.testing.assert_allclose(mean, pca.mean_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.abs(np.diag(pca.components_ @ directions.numpy())), 1,
                               rtol=1e-9)
    projection = directions.numpy() @ directions.numpy().T
    np.testing.assert_allclose(projection, pca.components_.T @ pca.components_, atol=1e-9)


def test_the_sign_of_a_direction_is_fixed():
    _, directions = statistics_of(random_maps()).principal_components(CHANNELS)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()


@pytest.mark.parametrize('seed', range(3))
def test_label_embeddings_are_the_normalised_class_means(seed):
    maps = random_maps(seed)
    vectors = statistics_of(maps).label_embeddings(DIM)
    assert vectors.dtype == torch.float32
    np.testing.assert_allclose(vectors, label_embeddings_loop(maps, CLASSES, DIM), atol=1e-6)
    np.testing.assert_allclose(vectors.norm(dim=1), 1, rtol=1e-6)


def test_a_class_never_seen_has_a_row_of_zeros():
    maps = random_maps(present=[0, 1, 3])
    vectors = statistics_of(maps).label_embeddings(DIM)
    assert not vectors[2].any()
    np.testing.assert_allclose(vectors.norm(dim=1), [1, 1, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(vectors, label_embeddings_loop(maps, CLASSES, DIM), atol=1e-6)


def test_the_order_of_images_does_not_matter():
    maps = random_maps()
    vectors = statistics_of(maps).label_embeddings(DIM)
    np.testing.assert_allclose(statistics_of(maps[::-1]).label_embeddings(DIM), vectors,
                               atol=1e-6)


@pytest.mark.parametrize('k', [1, 3])
def test_absent_classes_are_listed(k):
    vectors = torch.ones(3 * k, 4)
    vectors[k:2 * k] = 0
    assert absent_classes(vectors, OUTDOOR) == ['box']
    assert absent_classes(torch.ones(2 * k, 4), INDOOR) == []


@pytest.fixture
def drawn():
    generator = np.random.default_rng(0)
    return [draw(COLOURS['outdoor'], generator) for _ in range(4)]


def test_a_networks_label_embeddings_follow_from_its_features(drawn):
    network = small_network().train()
    vectors = compute_label_embeddings(network, OUTDOOR, iter(drawn))
    assert not network.training
    with torch.no_grad():
        maps = [(network.features(torch.from_numpy(image).permute(2, 0, 1)[None])[0], label)
                for image, label in drawn]
    np.testing.assert_allclose(vectors, label_embeddings_loop(maps, 3, 8), atol=1e-4)


def test_a_networks_weights_stay(drawn):
    network, untouched = small_network(), small_network().state_dict()
    compute_label_embeddings(network, OUTDOOR, drawn)
    assert all(torch.equal(value, untouched[key])
               for key, value in network.state_dict().items())


def test_label_embeddings_serve_a_training(drawn):
    """Those made under torch.inference_mode could not be loaded into, as a checkpoint does."""
    network = small_network()
    vectors = compute_label_embeddings(network, OUTDOOR, drawn)
    assert not vectors.is_inference()
    network.set_label_embeddings('outdoor', vectors)
    network.load_state_dict(small_network().state_dict())
    assert not network.label_embeddings('outdoor').any()
