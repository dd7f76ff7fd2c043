"""Statistics of pixels, each beside scikit-learn or a loop."""

import tracemalloc

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
import torch
from univseg_core.method import pixel_statistics
from univseg_core.method.pixel_statistics import (
    class_shares,
    ClassMeans,
    ClassSamples,
    LabelEmbeddingSums,
    PrincipalComponents,
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


def cells_of(maps):
    """Yield each map's features (C_F, n) and class shares (C, n), float64."""
    for features, label in maps:
        shares = class_shares(torch.from_numpy(label), CLASSES, 8)
        yield features.flatten(1).double(), shares.flatten(1)


def projection_of(maps, dim=DIM):
    components = PrincipalComponents(CHANNELS)
    for features, _ in cells_of(maps):
        components.update(features)
    return components.projection(dim)


def test_shares_worked_by_hand():
    """
    A map of 8×12 pixels has two cells; the right one is half beyond the border.

    Left: 32 pixels of class 0, 16 of class 1, 16 void. Right: 32 of class 1, 32 of no class.
    """
    label = np.full((8, 12), 255, np.uint8)
    label[:4, :8] = 0
    label[4:6, :8] = 1
    label[:, 8:] = 1
    shares = class_shares(torch.from_numpy(label), 3, 8)
    assert shares.dtype == torch.float64
    assert shares.tolist() == [[[0.5, 0]], [[0.25, 0.5]], [[0, 0]]]


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (9, 15), (23, 40)])
def test_shares_count_every_pixel_once(size):
    label = np.random.default_rng(0).choice([0, 1, 2, 255], size).astype(np.uint8)
    shares = class_shares(torch.from_numpy(label), 3, 8)
    assert shares.shape == (3, -(-size[0] // 8), -(-size[1] // 8))
    assert (64 * shares.sum((1, 2))).tolist() == [(label == c).sum() for c in range(3)]
    top, left = (side - 1 - (side - 1) % 8 for side in size)
    assert 64 * shares[1, -1, -1] == (label[top:, left:] == 1).sum()


@pytest.mark.parametrize('seed', range(3))
def test_principal_components_are_those_of_scikit_learn(seed):
    maps = random_maps(seed)
    projection = projection_of(maps)
    cells = np.concatenate([features.flatten(1).T.double().numpy() for features, _ in maps])
    pca = PCA(DIM, svd_solver='full').fit(cells)
    np.testing.assert_allclose(projection.mean, pca.mean_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.abs(np.diag(pca.components_ @ projection.directions.numpy())),
                               1, rtol=1e-9)
    # scikit-learn divides by one less.
    np.testing.assert_allclose(projection.variances * len(cells) / (len(cells) - 1),
                               pca.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(projection(torch.from_numpy(cells)).abs().numpy(),
                               np.abs(pca.transform(cells)), atol=1e-9)


def test_the_sign_of_a_direction_is_fixed():
    directions = projection_of(random_maps(), CHANNELS).directions
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()


def blobs(seed=0, per_cluster=60):
    """Return cells (2, n) of one class in three clusters, and shares (1, n) of 1/4 to 1."""
    generator = np.random.default_rng(seed)
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    cells = np.repeat(centres, per_cluster, 0) + generator.normal(size=(3 * per_cluster, 2))
    order = generator.permutation(len(cells))
    shares = generator.integers(1, 5, len(cells)) / 4
    return torch.from_numpy(cells[order].T), torch.from_numpy(shares)[None]


def sorted_rows(array):
    return array[np.lexsort(np.asarray(array).T)]


@pytest.mark.parametrize('seed', range(3))
def test_k_means_is_that_of_scikit_learn_on_all_cells_where_they_fit(seed):
    cells, shares = blobs(seed)
    samples = ClassSamples(1, 2, 3, seed=0)
    for part, weights in zip(cells.split(37, 1), shares.split(37, 1), strict=True):
        samples.update(part, weights)
    expected = KMeans(3, n_init=10, random_state=1).fit(
        cells.T.float().numpy(), sample_weight=shares[0].numpy()).cluster_centers_
    np.testing.assert_allclose(sorted_rows(samples.centroids()[0].numpy()),
                               sorted_rows(expected), rtol=1e-3)


@pytest.mark.parametrize('seed', range(3))
def test_k_means_of_a_sample_fits_pixels_that_it_never_saw(seed):
    """Of 30 000 overlapping cells it keeps 2000; unseen ones lie as near as to all cells' own."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(3, 8)) * 2
    seen, unseen = (centres[generator.integers(0, 3, 30_000)]
                    + generator.normal(size=(30_000, 8)) for _ in range(2))
    samples = ClassSamples(1, 8, 3, seed=seed, limit=2000)
    for part in torch.from_numpy(seen.T).split(700, 1):
        samples.update(part, torch.ones(1, part.shape[1]).double())
    whole = KMeans(3, n_init=10, random_state=0).fit(seen)

    def inertia(found):
        return ((unseen[:, None] - found) ** 2).sum(2).min(1).sum()

    assert inertia(samples.centroids()[0].numpy()) <= 1.01 * inertia(whole.cluster_centers_)


def test_every_cell_has_the_same_chance_to_be_kept():
    """Of 1000 numbered cells 100 are kept; their mean number has a deviation of 27 at most."""
    kept = []
    for seed in range(20):
        samples = ClassSamples(1, 1, 2, seed=seed, limit=100)
        for part in torch.arange(1000.0).double().split(130):
            samples.update(part[None], torch.ones(1, len(part)).double())
        numbers = samples._vectors[0, :, 0]
        assert len(np.unique(numbers)) == 100
        kept.append(numbers)
    assert abs(np.mean(kept) - 499.5) < 4 * 28.9 / np.sqrt(20)
    assert np.ptp([np.mean(numbers < 100) for numbers in kept]) < 0.25
    assert abs(np.mean(np.concatenate(kept) < 100) - 0.1) < 0.03


def test_long_vectors_of_many_classes_are_sampled_as_memory_allows(monkeypatch):
    monkeypatch.setattr(pixel_statistics, 'SAMPLED_BYTES', 4 * 3 * 5 * 70)  # 70 cells a class
    samples = ClassSamples(3, 5, 2, seed=0, limit=1000)
    samples.update(torch.rand(5, 200).double(), torch.ones(3, 200).double())
    assert samples._vectors.shape == (3, 70, 5)
    assert samples._weights.all()
    assert ClassSamples(3, 500, 2, seed=0)._vectors.shape == (3, 2, 500)  # one for each centre


def test_a_seed_decides_the_sample_and_its_centroids():
    def centroids(seed):
        samples = ClassSamples(CLASSES, CHANNELS, 2, seed=seed, limit=20)
        for features, shares in cells_of(random_maps()):
            samples.update(features, shares)
        return samples.centroids()

    assert torch.equal(centroids(0), centroids(0))
    assert not torch.equal(centroids(0), centroids(1))


def test_a_class_of_fewer_cells_than_clusters_has_its_mean_in_each():
    """Cells (0, 0) and (4, 8), the latter with three times the share; class 1 has none."""
    samples = ClassSamples(2, 2, 3, seed=0)
    cells = torch.tensor([[0.0, 4, 9], [0, 8, 9]]).double()
    samples.update(cells, torch.tensor([[0.25, 0.75, 0], [0, 0, 0]]).double())
    found = samples.centroids()
    assert found[0].tolist() == 3 * [[3, 6]]
    assert found[1].isnan().all()


def test_class_means_worked_by_hand():
    """The mean of (0, 0) and (4, 8) with shares of 1/4 and 3/4, then moved by (1, 1)."""
    means = ClassMeans(2, 2)
    means.update(torch.tensor([[0.0], [0]]).double(), torch.tensor([[0.25], [0]]).double())
    means.update(torch.tensor([[4.0], [8]]).double(), torch.tensor([[0.75], [0]]).double())
    found = means.centroids(lambda vectors: vectors + 1)
    assert found[0].tolist() == [[4, 7]]
    assert found[1].isnan().all()


def test_the_sample_takes_no_more_memory_for_more_cells():
    def peak(images):
        tracemalloc.start()
        samples = ClassSamples(3, 16, 2, seed=0, limit=500)
        for _ in range(images):
            samples.update(torch.ones(16, 600).double(), torch.ones(3, 600).double())
        samples.centroids()
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(1)  # what the first call imports
    assert peak(40) <= 1.1 * peak(4)


@pytest.mark.parametrize(('theta', 'mixed'), [(1, [1, 0]), (0, [4, 3]), (0.5, [2.5, 1.5])])
def test_an_update_worked_by_hand(theta, mixed):
    """
    Class 0 has the label embeddings (1, 0) and (0, 1), class 1 has none.

    The first one is nearest to the cells (7, 6) and (3, 2), with shares of 1/4 and 3/4: their
    mean is (4, 3). A cell without a share of the class, (0, 9), leaves the second one as it is.
    """
    sums = LabelEmbeddingSums(torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]]), 2)
    sums.update(torch.tensor([[7.0, 0], [6, 9]]).double(),
                torch.tensor([[0.25, 0], [0, 0]]).double())
    sums.update(torch.tensor([[3.0], [2]]).double(), torch.tensor([[0.75], [0]]).double())
    first = torch.tensor(mixed) / torch.tensor(mixed).float().norm()
    expected = torch.stack([first, *torch.tensor([[0.0, 1], [0, 0], [0, 0]])])
    torch.testing.assert_close(sums.updated(theta), expected)


def test_an_update_is_that_of_all_processes_sums():
    labels = torch.nn.functional.normalize(torch.randn(2 * CLASSES, CHANNELS,
                                                       generator=torch.manual_seed(0)))
    whole, *parts = (LabelEmbeddingSums(labels, CLASSES) for _ in range(3))
    for i, cells in enumerate(cells_of(random_maps())):
        whole.update(*cells)
        parts[i % 2].update(*cells)
    parts[0].sums += parts[1].sums
    parts[0].weights += parts[1].weights
    torch.testing.assert_close(parts[0].updated(0.3), whole.updated(0.3))
    assert whole.weights.sum() == pytest.approx(sum(
        shares.sum().item() for _, shares in cells_of(random_maps())))
