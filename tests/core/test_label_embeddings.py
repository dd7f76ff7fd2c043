"""Label embeddings of a network, beside loops over pixels."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from tiny_worlds import COLOURS, draw, INDOOR, OUTDOOR, small_network
import torch
from univseg_core.method.label_embeddings import (
    embedded_label_embeddings,
    label_embedding_sums,
    principal_label_embeddings,
    repeated_classes,
    start_embedding,
)
from univseg_core.models.heads import absent_classes

DIM = 8


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


def features_of(network, samples):
    with torch.no_grad():
        return [(network.features(torch.from_numpy(image).permute(2, 0, 1)[None])[0], label)
                for image, label in samples]


def embeddings_of(network, samples):
    with torch.no_grad():
        return [(network.embed(features[None])[0], label)
                for features, label in features_of(network, samples)]


def pixels_of(maps, c):
    """Return the vectors of each pixel of class c, (n, C)."""
    return np.concatenate([features[:, y // 8, x // 8].numpy().T for features, label in maps
                           for y, x in [np.nonzero(label == c)]])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def samples_of(name, count=4, seed=0):
    generator = np.random.default_rng(seed)
    return [draw(COLOURS[name], generator) for _ in range(count)]


@pytest.fixture
def drawn():
    return samples_of('outdoor')


def test_they_follow_from_a_networks_features(drawn):
    network = small_network().train()
    vectors, _ = principal_label_embeddings(network, {'outdoor': iter(drawn)}, DIM)
    assert not network.training
    assert vectors.keys() == {'outdoor'}
    assert vectors['outdoor'].dtype == torch.float32
    np.testing.assert_allclose(vectors['outdoor'], label_embeddings_loop(
        features_of(network, drawn), 3, DIM), atol=1e-4)
    np.testing.assert_allclose(vectors['outdoor'].norm(dim=1), 1, rtol=1e-6)


def test_a_class_never_seen_has_a_row_of_zeros(drawn):
    drawn = [(image, np.where(label == 1, 255, label).astype(np.uint8))
             for image, label in drawn]
    network = small_network()
    for per_class in (1, 2):
        vectors, _ = principal_label_embeddings(network, {'outdoor': drawn}, DIM, per_class)
        assert absent_classes(vectors['outdoor'].numpy(), OUTDOOR) == ['box']
        np.testing.assert_allclose(vectors['outdoor'].norm(dim=1),
                                   np.repeat([1, 0, 1], per_class), rtol=1e-6)


def test_the_order_of_images_does_not_matter(drawn):
    network = small_network()
    vectors, _ = principal_label_embeddings(network, {'outdoor': drawn}, DIM)
    again, _ = principal_label_embeddings(network, {'outdoor': drawn[::-1]}, DIM)
    np.testing.assert_allclose(again['outdoor'], vectors['outdoor'], atol=1e-5)


def test_several_of_a_class_are_k_means_of_its_pixels(drawn):
    """As scikit-learn finds them among a class's cells, weighed by the pixels it has in each."""
    network = small_network()
    maps = features_of(network, drawn)
    cells = np.concatenate([features.flatten(1).T.double().numpy() for features, _ in maps])
    pca = PCA(DIM, svd_solver='full').fit(cells)
    vectors, projection = principal_label_embeddings(network, {'outdoor': drawn}, DIM, 2)
    signs = np.sign(np.diag(pca.components_ @ projection.directions.numpy()))
    found = vectors['outdoor'].view(3, 2, DIM).numpy()
    for c in range(3):
        pixels, weights = np.unique(pixels_of(maps, c), axis=0, return_counts=True)
        order = np.array([np.flatnonzero((cells == row).all(1))[0] for row in pixels]).argsort()
        fitted = KMeans(2, n_init=10, random_state=0).fit(
            pca.transform(pixels[order]) * signs, sample_weight=weights[order])
        expected = unit(fitted.cluster_centers_)
        assert min(np.abs(found[c] - expected[order]).max()
                   for order in ([0, 1], [1, 0])) < 1e-3


def test_one_basis_for_all_domains():
    network = small_network()
    samples = {'outdoor': samples_of('outdoor'), 'indoor': samples_of('indoor', seed=1)}
    vectors, _ = principal_label_embeddings(network, samples, DIM)
    maps = {name: features_of(network, images) for name, images in samples.items()}
    cells = np.concatenate([features.flatten(1).T.double().numpy()
                            for name in maps for features, _ in maps[name]])
    pca = PCA(DIM, svd_solver='full').fit(cells)
    for name, classes in (('outdoor', 3), ('indoor', 2)):
        means = [pixels_of(maps[name], c).mean(0) for c in range(classes)]
        expected = unit(pca.transform(means))
        np.testing.assert_allclose(vectors[name].abs().numpy(), np.abs(expected), atol=1e-3)


def test_an_embedding_that_starts_as_the_projection_finds_the_same(drawn):
    """E is affine, so that the class means of E(F(x)) are the projected ones of F(x)."""
    network = small_network()
    for per_class in (1, 2):
        vectors, projection = principal_label_embeddings(network, {'outdoor': drawn}, DIM,
                                                         per_class)
        start_embedding(network, projection)
        embedded = embedded_label_embeddings(network, {'outdoor': drawn}, per_class)
        np.testing.assert_allclose(embedded['outdoor'], vectors['outdoor'], atol=1e-3)


def test_label_embeddings_of_the_embedding_are_its_class_means(drawn):
    network = small_network().train()
    found = embedded_label_embeddings(network, {'outdoor': iter(drawn)})['outdoor']
    assert not network.training
    maps = embeddings_of(network, drawn)
    np.testing.assert_allclose(found, unit(np.stack(
        [pixels_of(maps, c).mean(0) for c in range(3)])), atol=1e-4)


def test_an_update_is_made_of_the_pixels_nearest_to_each(drawn):
    """With two label embeddings a class, a loop over pixels finds the same means."""
    network = small_network()
    labels = torch.nn.functional.normalize(
        torch.randn(6, DIM, generator=torch.manual_seed(0)), dim=1)
    network.set_label_embeddings('outdoor', labels)
    updated = label_embedding_sums(network, 'outdoor', drawn).updated(0.5)
    maps = embeddings_of(network, drawn)
    expected = labels.numpy().copy()
    for c in range(3):
        pixels = pixels_of(maps, c)
        nearest = (pixels @ labels[2 * c:2 * c + 2].numpy().T).argmax(1)
        for k in range(2):
            if (nearest == k).any():
                row = 2 * c + k
                expected[row] = unit(0.5 * expected[row] + 0.5 * pixels[nearest == k].mean(0))
    np.testing.assert_allclose(updated, expected, atol=1e-4)


@pytest.mark.parametrize('k', [1, 3])
def test_absent_classes_are_listed(k):
    vectors = np.ones((3 * k, 4), np.float32)
    vectors[k:2 * k] = 0
    assert absent_classes(vectors, OUTDOOR) == ['box']
    assert absent_classes(np.ones((2 * k, 4), np.float32), INDOOR) == []


def test_classes_of_which_all_label_embeddings_are_one_are_listed():
    vectors = torch.eye(6)
    vectors[1] = vectors[0]
    vectors[2:4] = 0
    assert repeated_classes(vectors, OUTDOOR) == ['ground']
    assert repeated_classes(torch.ones(3, 4), OUTDOOR) == []


def test_a_networks_weights_stay(drawn):
    network, untouched = small_network(), small_network().state_dict()
    principal_label_embeddings(network, {'outdoor': drawn}, DIM, 2)
    embedded_label_embeddings(network, {'outdoor': drawn})
    assert all(torch.equal(value, untouched[key])
               for key, value in network.state_dict().items())


def test_they_serve_a_training(drawn):
    """Those made under torch.inference_mode could not be loaded into, as a checkpoint does."""
    network = small_network()
    vectors, _ = principal_label_embeddings(network, {'outdoor': drawn}, DIM)
    assert not vectors['outdoor'].is_inference()
    network.set_label_embeddings('outdoor', vectors['outdoor'])
    network.load_state_dict(small_network().state_dict())
    assert not network.label_embeddings('outdoor').any()
