"""
Measure `univseg rank`: its measure against the errors, and its choice against a random one.

    python benchmarks/ranking.py errors CONFIG DOMAIN --models a.univseg b.univseg
    python benchmarks/ranking.py retraining CONFIG DOMAIN --start 100 --more 50 --seeds 0 1 2

errors      Spearman's rank correlation, over the domain's validation images, of what a frame's
            uncertainty is made of with the share of pixels that the head gets wrong, and with
            1 − the mean IoU of the image's classes.
retraining  Of the domain's training labels, N are taken by the seed. A run of the configuration
            learns from them alone, of this domain; its model ranks the other images. Further runs
            start from that model and learn from the N and the M chosen, and from the N and M
            random ones. The domain's mIoU of each. Runs are kept in --out, and gone on with when
            the same command is given again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
import torch
from univseg_core.batches.parts import samples_of, with_labels
from univseg_core.batches.splits import choose_labelled
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import IGNORE_INDEX
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.ranking import cell_uncertainty, choose_among, view_frame
from univseg_core.pictures.images import read_image
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.run import train

MEASURES = ('entropy', '1 - p1', '(p2/p1)^2', 'disagreement', 'uncertainty')


def main() -> None:
    """Run one of the measurements and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parts = {part.__name__: part for part in (errors, retraining)}
    parser.add_argument('part', choices=parts, help='; '.join(
        f'{name}: {part.__doc__}' for name, part in parts.items()))
    parser.add_argument('config', help='a configuration')
    parser.add_argument('domain', help='one of its domains')
    parser.add_argument('overrides', nargs='*', help='settings to change, KEY=VALUE')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--models', type=Path, nargs='+', default=[], help='of errors')
    parser.add_argument('--images', type=int, default=200, help='of errors: at most so many')
    parser.add_argument('--start', type=int, default=100, help='of retraining: N')
    parser.add_argument('--more', type=int, default=50, help='of retraining: M')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of retraining')
    parser.add_argument('--draws', type=int, default=2, help='of retraining: random choices')
    parser.add_argument('--further-steps', type=int, default=500,
                        help='of retraining: steps from the first model')
    parser.add_argument('--further-rate', type=float, default=1e-3,
                        help='of retraining: peak learning rate of these')
    parser.add_argument('--out', type=Path, default=Path('runs/ranking'), help='of retraining')
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    parts[options.part](options, load_config(options.config, options.overrides))


def errors(options: argparse.Namespace, config: RunConfig) -> None:
    """Correlations of measures with errors."""
    samples = samples_of(options.domain, config.domains[options.domain], 'validation')
    print(f'| model | {" | ".join(MEASURES)} |')
    print('|---|' + '--:|' * len(MEASURES))
    for path in options.models:
        segmenter = Segmenter.load(path)
        rows = np.array([_measures_and_errors(segmenter, options.domain, sample)
                         for sample in progress_bar(samples[:options.images], leave=False)])
        cells = [', '.join(f'{spearmanr(column, rows[:, error]).statistic:.2f}'
                           for error in (-2, -1)) for column in rows.T[:-2]]
        print(f'| {path} | {" | ".join(cells)} |', flush=True)


@torch.inference_mode()
def _measures_and_errors(segmenter: Segmenter, name: str, sample: Sample) -> list[float]:
    """Return an image's `MEASURES`, the share of wrong pixels and 1 − the mean IoU."""
    domain = segmenter.domains[name]
    image, label = read_sample(sample, domain)
    encoded = segmenter.encode(image)
    probabilities = torch.from_numpy(segmenter.logits(encoded, name)).softmax(0)
    first, second = probabilities.topk(2, dim=0).values
    scores, present = segmenter.label_embedding_scores(encoded, name)
    differs = np.array(present)[scores.argmax(0)] != probabilities.argmax(0).numpy()
    ratio = (second / first).numpy()
    entropy = torch.special.entr(probabilities).sum(0)
    valid = label != IGNORE_INDEX
    mask, label = segmenter.head_mask(encoded, name)[valid], label[valid]
    ious = [((mask == c) & (label == c)).sum() / ((mask == c) | (label == c)).sum()
            for c in np.unique(label)]
    return [float(entropy.mean()), float((1 - first).mean()), float((ratio ** 2).mean()),
            float(differs.mean()), float(cell_uncertainty(ratio, differs).mean()),
            float((mask != label).mean()), 1 - float(np.mean(ious))]


def retraining(options: argparse.Namespace, config: RunConfig) -> None:
    """Train on with further labels, ranked and random, for the mIoU of each."""
    name = options.domain
    samples = with_labels(samples_of(name, config.domains[name], 'train'))
    print(f'| seed | N | N + M ranked | N + M random, mean of {options.draws} |\n'
          '|--:|--:|--:|--:|')
    rows = []
    for seed in options.seeds:
        first = choose_labelled(samples, options.start, name, seed)
        others = [sample for sample in samples if sample not in set(first)]
        folder = options.out / f'seed{seed}'
        start = _run(config, name, first, others, seed, folder / 'start')
        model = folder / 'start' / 'model.univseg'
        arms = {'ranked': _ranked(model, name, first, others, options.more)}
        for draw in range(options.draws):
            shuffled = np.random.default_rng((seed, draw)).permutation(len(others))
            arms[f'random{draw}'] = [others[i] for i in shuffled[:options.more]]
        further = config.model_dump(mode='json')
        further['model']['start'] = str(model.resolve())
        further['training'] |= {'steps': options.further_steps,
                                'validate_every': options.further_steps,
                                'learning_rate': options.further_rate}
        further = RunConfig.model_validate(further)
        mious = [_run(further, name, [*first, *chosen],
                      [sample for sample in others if sample not in set(chosen)],
                      seed, folder / arm) for arm, chosen in arms.items()]
        rows.append([start, mious[0], np.mean(mious[1:])])
        print(f'| {seed} | ' + ' | '.join(f'{100 * miou:.2f}' for miou in rows[-1]) + ' |',
              flush=True)
    print('| mean | ' + ' | '.join(f'{100 * miou:.2f}' for miou in np.mean(rows, 0)) + ' |')


def _ranked(model: Path, name: str, first: Sequence[Sample], others: Sequence[Sample],
            count: int) -> list[Sample]:
    """Return the samples that `univseg rank --labelled` chooses of the others."""
    segmenter = Segmenter.load(model)
    views, known = ([view_frame(segmenter, read_image(sample.image), name)
                     for sample in progress_bar(part, leave=False)] for part in (others, first))
    return [others[choice.index] for choice in choose_among(views, count, known)]


def _run(config: RunConfig, name: str, labelled: Sequence[Sample], unlabelled: Sequence[Sample],
         seed: int, folder: Path) -> float:
    """Train on these labels of a domain alone, and return its mIoU."""
    data = folder.with_name(f'{folder.name}_data').resolve()
    for sample in (*labelled, *unlabelled):
        part = 'image' if sample in set(labelled) else 'unlabelled'
        _link(sample.image, data / part / sample.image.name)
        if part == 'image':
            _link(sample.label, data / 'label' / f'{sample.image.stem}.png')
    values = config.model_dump(mode='json')
    values['domains'] = {name: values['domains'][name] | {
        'train': {'images': str(data / 'image'), 'labels': str(data / 'label')},
        'labelled': None, 'unlabelled': [str(data / 'unlabelled')] * bool(unlabelled)}}
    values['training']['seed'] = seed
    return train(RunConfig.model_validate(values), folder)[name].miou


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(source.resolve())


if __name__ == '__main__':
    main()
