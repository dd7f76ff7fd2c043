"""
Measure the label embeddings: their making, and labelling by them.

    python benchmarks/label_embeddings.py clustering    PCA and K-means beside scikit-learn
    python benchmarks/label_embeddings.py memory        peak memory, 100 and 1000 images
    python benchmarks/label_embeddings.py frame         a frame by its head and by label embeddings
    python benchmarks/label_embeddings.py collapse      when a collapse is said

Everything is made here; nothing is read but the model that --model names for `frame` (a network
of random weights otherwise). What good figures are:

clustering  On data that fits in memory: mean, directions and centres equal scikit-learn's to 1e-3
            relative, explained variance to 1e-3. Where K-means keeps a sample of the pixels only,
            the inertia of pixels that it never saw is at most 1 % above that of K-means on all
            (summed over classes: of those whose pixels form no clusters, two runs differ more).
memory      The peak grows at most 1.1 times from 100 to 1000 images, with K = 1 and K = 3.
frame       Labelling by the nearest label embedding takes at most twice the time of the head.
collapse    It is said at most 100 steps after fewer than 1.3 label embeddings are in use.
"""

import argparse
from collections.abc import Callable, Iterator
import os
from pathlib import Path
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
import torch
import torch.nn.functional as F
from univseg_core.demo.scenes.worlds import WORLDS, write_worlds
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmenter
from univseg_core.method.collapse import CollapseMonitor
from univseg_core.method.label_embeddings import principal_label_embeddings
from univseg_core.method.pixel_statistics import ClassSamples, PrincipalComponents, SAMPLED_CELLS
from univseg_core.models.model_file import load_model, ModelCard
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.progress import progress_bar
from univseg_core.reporting.run_tables import read_losses
from univseg_core.settings.config import load_config
from univseg_core.training.run import train

CLASSES = 19
STREET = Domain.create('street', [f'class {i}' for i in range(CLASSES)])


def main() -> None:
    """Run one of the measurements and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parts = {part.__name__: part for part in (clustering, memory, frame, collapse)}
    parser.add_argument('part', choices=parts, help='; '.join(
        f'{name}: {part.__doc__}' for name, part in parts.items()))
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--width', type=float, default=0.25,
                        help='multiplier of the channels of an encoder of random weights')
    parser.add_argument('--centroids', type=int, default=1, help='K of frame and memory')
    parser.add_argument('--model', type=Path, help='a model file for frame')
    parser.add_argument('--size', default='640x480', help='of the camera image of frame')
    parser.add_argument('--frames', type=int, default=60, help='frames timed by frame')
    parser.add_argument('--images', type=int,
                        help='memory: measure this many in this process, and no others')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts[options.part](options)


def network_of(width: float) -> UniversalSegmenter:
    """Return a network of random weights."""
    torch.manual_seed(0)
    return UniversalSegmenter(ModelSpec('drn_d_22', width), [STREET]).eval()


def street_images(count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images (180, 240, 3) and labels of coloured noise, a patch for each class."""
    generator = np.random.default_rng(seed)
    colours = np.random.default_rng(0).integers(0, 256, (CLASSES, 3))
    for _ in range(count):
        label = np.kron(generator.integers(0, CLASSES, (9, 12)), np.ones((20, 20), int))
        image = colours[label] + generator.normal(scale=25, size=(180, 240, 3))
        yield image.clip(0, 255).astype(np.uint8), label.astype(np.uint8)


def cells_of(network: UniversalSegmenter, count: int, seed: int
             ) -> tuple[np.ndarray, np.ndarray]:
    """Return the features (n, C_F) float64 and the class (n,) of each cell of some images."""
    features, classes = [], []
    for image, label in progress_bar(street_images(count, seed), 'features', count):
        with torch.no_grad():
            found = network.features(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
        features.append(found.flatten(1).T.double().numpy())
        classes.append(label[::8, ::8].ravel())
    return np.concatenate(features), np.concatenate(classes)


def clustering(options: argparse.Namespace) -> None:
    """Compare PCA and K-means with scikit-learn."""
    network, dim, clusters = network_of(options.width), 64, 3
    seen, seen_classes = cells_of(network, 300, 0)
    unseen, unseen_classes = cells_of(network, 60, 1)
    components = PrincipalComponents(seen.shape[1])
    for part in np.array_split(seen, 80):
        components.update(torch.from_numpy(part.T))
    projection = components.projection(dim)
    pca = PCA(dim, svd_solver='full').fit(seen)
    scale = len(seen) / (len(seen) - 1)  # scikit-learn divides by one less
    found = projection(torch.from_numpy(unseen)).numpy()
    expected = pca.transform(unseen)
    expected *= np.sign((found * expected).sum(0))
    print(f'\nPCA of {len(seen)} cells of {seen.shape[1]} channels to {dim}:\n'
          f'mean differs by {relative(projection.mean, pca.mean_):.1e}, projections by '
          f'{relative(found, expected):.1e}, explained variance by '
          f'{relative(projection.variances * scale, pca.explained_variance_):.1e}\n')

    print('| cells kept of each class | centres: largest difference | inertia of unseen cells, '
          'to that of K-means on all |\n|--:|--:|--:|')
    for limit in (len(seen), SAMPLED_CELLS, 1024):
        samples = ClassSamples(CLASSES, seen.shape[1], clusters, seed=0, limit=limit)
        shares = np.eye(CLASSES)[seen_classes]
        for cells, of_class in zip(np.array_split(seen, 80), np.array_split(shares, 80),
                                   strict=True):
            samples.update(torch.from_numpy(cells.T), torch.from_numpy(of_class.T))
        centres = samples.centroids(projection).numpy()
        differences, ratios, totals = [], [], np.zeros(2)
        for c in range(CLASSES):
            whole = KMeans(clusters, n_init=10, random_state=0).fit(
                projection(torch.from_numpy(seen[seen_classes == c])).numpy())
            rest = projection(torch.from_numpy(unseen[unseen_classes == c])).numpy()
            both = inertia(rest, centres[c]), inertia(rest, whole.cluster_centers_)
            ratios.append(both[0] / both[1])
            totals += both
            nearest = np.linalg.norm(centres[c][:, None] - whole.cluster_centers_, axis=2).min(1)
            differences.append(nearest.max() / np.linalg.norm(whole.cluster_centers_))
        kept = 'all' if limit == len(seen) else limit
        print(f'| {kept} | {max(differences):.1e} | {totals[0] / totals[1]:.4f} in all, '
              f'{min(ratios):.4f} to {max(ratios):.4f} by class |')


def relative(found: torch.Tensor | np.ndarray, expected: np.ndarray) -> float:
    """Return the norm of the difference over that of what is expected."""
    return float(np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected))


def inertia(points: np.ndarray, centres: np.ndarray) -> float:
    """Return the sum of the squared distances of points to the nearest centre."""
    return float(((points[:, None] - centres) ** 2).sum(2).min(1).sum())


def memory(options: argparse.Namespace) -> None:
    """Measure the peak memory for 100 and 1000 images."""
    if options.images:
        network = network_of(options.width)
        principal_label_embeddings(network, {'street': street_images(options.images)}, 64,
                                   options.centroids)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print('| K | 100 images, MB | 1000 images, MB | growth |\n|--:|--:|--:|--:|')
    for per_class in (1, 3):
        peaks = [float(subprocess.run(
            [sys.executable, __file__, 'memory', '--images', str(images), '--centroids',
             str(per_class), '--width', str(options.width)],
            check=True, capture_output=True, text=True).stdout) for images in (100, 1000)]
        print(f'| {per_class} | {peaks[0]:.0f} | {peaks[1]:.0f} | {peaks[1] / peaks[0]:.3f} × |',
              flush=True)


def frame(options: argparse.Namespace) -> None:
    """Time a frame by its head and by label embeddings."""
    if options.model:
        network, card = load_model(options.model)
    else:
        network, card = network_of(options.width), ModelCard()
        vectors = torch.randn(CLASSES * options.centroids, network.spec.embedding_dim)
        network.set_label_embeddings('street', F.normalize(vectors, dim=1))
    segmenter = Segmenter(network, card, device='cpu', precision='fp32')
    width, height = map(int, options.size.split('x'))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    names = list(network.domains)
    ways: dict[str, Callable[[], object]] = {
        'head': lambda: [segmenter.head_mask(segmenter.encode(image), n) for n in names],
        'label embeddings': lambda: [segmenter.label_embedding_mask(segmenter.encode(image), n)
                                     for n in names]}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in progress_bar(range(options.frames + 3), unit='frame'):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn >= 3:
                times[name].append(time.perf_counter() - start)
    medians = {name: 1000 * statistics.median(values) for name, values in times.items()}
    rows = {name: len(network.label_embeddings(name)) for name in names}
    print(f'\n{options.size}, label embeddings {rows}:\n| by | median, ms |\n|---|--:|')
    for name, value in medians.items():
        print(f'| {name} | {value:.1f} |')
    print(f'{medians["label embeddings"] / medians["head"]:.2f} times')


def collapse(options: argparse.Namespace) -> None:
    """See when a collapse is said."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_worlds(top, train=60, labelled=30, validation=2, width=240, height=180)
        os.environ['UNIVSEG_DATA'] = folder
        said: dict[str, int] = {}
        add = CollapseMonitor.add

        def noted(monitor: CollapseMonitor, step: int, values) -> list[str]:
            messages = add(monitor, step, values)
            said.update({message.partition(':')[0]: step for message in messages
                         if 'has collapsed' in message})
            return messages

        CollapseMonitor.add = noted
        train(load_config('train/scenes.yaml', [
            'model.encoder=drn_d_22', 'model.stride=8', 'model.width=0.25',
            'training.learning_rate=0.003',
            'objective.alpha=10', 'objective.beta=10', 'objective.warmup_steps=0',
            'objective.consistency=0', 'objective.class_balance=0',
            'label_embeddings.pretrain_steps=60', 'training.steps=400', 'data.crop_size=96',
            'domains.outdoor.labelled=30', 'domains.indoor.labelled=30',
            'training.validate_every=1000', 'training.accelerator=cpu']), top / 'run')
        log = read_losses(top / 'run')
        print('\n| domain | fewer than 1.3 label embeddings in use from step | said at step |\n'
              '|---|--:|--:|')
        for name in WORLDS:
            low = log['step'][log[f'perplexity/{name}/{name}'] < 1.3]
            print(f'| {name} | {int(low[0]) if len(low) else "never"} '
                  f'| {said.get(name, "never")} |')


if __name__ == '__main__':
    main()
