"""
Measure `univseg rank`: its measure against the errors, and its choice against a random one.

    python benchmarks/ranking.py errors CONFIG --domains outdoor --models a.univseg b.univseg
    python benchmarks/ranking.py retraining CONFIG --start 50 --more 50 100 --seeds 0 1 2
    python benchmarks/ranking.py table CONFIG

errors      Spearman's rank correlation, over the domains' validation images, of what a frame's
            uncertainty is made of with the share of pixels that the head gets wrong, and with
            1 − the mean IoU of the image's classes.
retraining  Of each domain's training labels, N are taken by the seed. A run of the configuration
            learns from them alone; its model ranks the other images. Further runs start from
            that model and learn from the N and the first M of the ranking, and from the N and M
            random ones, of all domains at once. A row of the table for each run and domain. Runs
            are kept in --out, and gone on with when the same command is given again.
table       That table, in short.
"""

import argparse
from collections.abc import Sequence
import csv
import io
import json
from pathlib import Path

from measured_labels.linked_folder import linked_folder
import numpy as np
from scipy.stats import spearmanr
import torch
from univseg_core.batches.dataset import load_data
from univseg_core.batches.parts import samples_of, with_labels
from univseg_core.batches.splits import choose_labelled
from univseg_core.batches.stores import prepare_stores
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import IGNORE_INDEX
from univseg_core.files import write_text
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.frame_views import cell_uncertainty, view_frame
from univseg_core.labelling.ranking import choose_among
from univseg_core.measuring.evaluation import DomainResult
from univseg_core.pictures.images import read_image
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.processes import new_fabric
from univseg_core.training.run_context import RunContext
from univseg_core.training.run_folder import claimed_run_folder
from univseg_core.training.trainer import fit, Task

MEASURES = ('entropy', '1 - p1', '(p2/p1)^2', 'disagreement', 'uncertainty')

COLUMNS = ('seed', 'arm', 'more', 'domain', 'miou', 'ious')


def main() -> None:
    """Run one of the measurements and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parts = {part.__name__: part for part in (errors, retraining, table)}
    parser.add_argument('part', choices=parts, help='; '.join(
        f'{name}: {part.__doc__}' for name, part in parts.items()))
    parser.add_argument('config', help='a configuration')
    parser.add_argument('overrides', nargs='*', help='settings to change, KEY=VALUE')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--models', type=Path, nargs='+', default=[], help='of errors')
    parser.add_argument('--domains', nargs='+', help='of errors: of which domains; default: all')
    parser.add_argument('--images', type=int, default=200, help='of errors: at most so many')
    parser.add_argument('--start', type=int, default=50, help='of retraining: N')
    parser.add_argument('--more', type=int, nargs='+', default=[50], help='of retraining: M')
    parser.add_argument('--arms', nargs='+', default=['random', 'ranked'],
                        choices=('random', 'ranked'), help='of retraining: who chooses')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of retraining')
    parser.add_argument('--further-steps', type=int, default=500,
                        help='of retraining: steps from the first model')
    parser.add_argument('--further-rate', type=float, default=1e-3,
                        help='of retraining: peak learning rate of these')
    parser.add_argument('--out', type=Path, default=Path('runs/ranking'), help='of retraining')
    parser.add_argument('--csv', type=Path, default=Path('runs/ranking/ranking.csv'),
                        help='of retraining: the table of its runs')
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    parts[options.part](options, load_config(options.config, options.overrides))


def errors(options: argparse.Namespace, config: RunConfig) -> None:
    """Correlations of measures with errors."""
    print(f'| model | domain | {" | ".join(MEASURES)} |')
    print('|---|---|' + '--:|' * len(MEASURES))
    for path in options.models:
        segmenter = Segmenter.load(path)
        for name in options.domains or config.domains:
            samples = samples_of(name, config.domains[name], 'validation')[:options.images]
            rows = np.array([_measures_and_errors(segmenter, name, sample)
                             for sample in progress_bar(samples, leave=False)])
            cells = [', '.join(f'{spearmanr(column, rows[:, error]).statistic:.2f}'
                               for error in (-2, -1)) for column in rows.T[:-2]]
            print(f'| {path} | {name} | {" | ".join(cells)} |', flush=True)


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
    domains = list(config.domains)
    samples = {name: with_labels(samples_of(name, config.domains[name], 'train'))
               for name in domains}
    done = {(row['seed'], row['arm'], row['more']) for row in read_results(options.csv)}
    wanted = [('start', 0), *((arm, more) for more in options.more for arm in options.arms)]
    for arm, more in wanted:
        for seed in options.seeds:
            if (str(seed), arm, str(more)) in done:
                continue
            folder = options.out / f'seed{seed}'
            first = {name: choose_labelled(samples[name], options.start, name, seed)
                     for name in domains}
            if arm == 'start':
                results = _run(config, first, seed, folder / 'start')
            else:
                chosen = further(arm, folder, samples, first, seed)
                results = _run(going_on(config, options, folder), {
                    name: [*first[name], *chosen[name][:more]] for name in domains
                }, seed, folder / f'{arm}{more}')
            write_results(options.csv, seed, arm, more, results)
    table(options, config)


def going_on(config: RunConfig, options: argparse.Namespace, folder: Path) -> RunConfig:
    """Return the configuration of a run that starts from the first model of a seed."""
    values = config.model_dump(mode='json')
    values['model']['start'] = str((folder / 'start' / 'model.univseg').resolve())
    values['training'] |= {'steps': options.further_steps,
                           'validate_every': options.further_steps,
                           'learning_rate': options.further_rate}
    return RunConfig.model_validate(values)


def further(arm: str, folder: Path, samples: dict[str, list[Sample]],
            first: dict[str, list[Sample]], seed: int) -> dict[str, list[Sample]]:
    """Return, by domain, the samples that are to be labelled next, the foremost first."""
    others = {name: [sample for sample in samples[name] if sample not in set(first[name])]
              for name in samples}
    if arm == 'random':
        return {name: [those[i] for i in np.random.default_rng((seed, 0)).permutation(len(those))]
                for name, those in others.items()}
    path = folder / f'{arm}.json'
    if not path.exists():
        segmenter = Segmenter.load(folder / 'start' / 'model.univseg')
        path.write_text(json.dumps({
            name: [each.name for each in _ranked(segmenter, name, first[name], others[name])]
            for name in samples}))
    names = json.loads(path.read_text())
    return {name: [{each.name: each for each in others[name]}[it] for it in names[name]]
            for name in samples}


def _ranked(segmenter: Segmenter, name: str, first: Sequence[Sample],
            others: Sequence[Sample]) -> list[Sample]:
    """Return the samples that `univseg rank --labelled` chooses of the others."""
    views, known = ([view_frame(segmenter, read_image(sample.image), name)
                     for sample in progress_bar(part, leave=False)] for part in (others, first))
    return [others[choice.index] for choice in choose_among(views, known, len(others))]


def _run(config: RunConfig, labelled: dict[str, list[Sample]], seed: int,
         folder: Path) -> dict[str, DomainResult]:
    """
    Train on these labels alone, and return how good each domain is.

    As `univseg train` does, but for the evidence of the domains and the measuring of the model
    that it starts from, which take as long as a third of these short trainings.
    """
    values = config.model_dump(mode='json')
    values['training']['seed'] = seed
    for name, samples in labelled.items():
        data = (folder.parent / f'{folder.name}_data' / name).resolve()
        values['domains'][name] |= linked_folder(samples, data)
    config = RunConfig.model_validate(values)
    data = load_data(config)
    with claimed_run_folder(folder, config):
        context = RunContext(config, new_fabric(config.training, 1, 1), prepare_stores(
            data, config.data.image_size, unlabelled=config.objective.needs_unlabelled), 0)
        return fit(context, Task(data, folder, config.objective, config.training.steps,
                                 start=config.model.start))


def write_results(path: Path, seed: int, arm: str, more: int,
                  results: dict[str, DomainResult]) -> None:
    """Add a run's rows to the table of all, one a domain."""
    rows = [*read_results(path), *(
        dict(zip(COLUMNS, (seed, arm, more, name, f'{100 * result.miou:.2f}',
                           ' '.join(f'{100 * iou:.1f}' for iou in result.iou)), strict=True))
        for name, result in results.items())]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_results(path: Path) -> list[dict[str, str]]:
    """Return the rows of the table of all runs; none where there is none yet."""
    if not path.exists():
        return []
    with path.open(encoding='utf-8') as file:
        return list(csv.DictReader(file))


def table(options: argparse.Namespace, config: RunConfig) -> None:
    """Print what the runs of the table were: means, deviations, and differences by seed."""
    rows = read_results(options.csv)
    print('| domain | more | seeds | start | random | ranked | ranked − random |\n'
          '|---|--:|--:|--:|--:|--:|--:|')
    for name in config.domains:
        miou = {(row['arm'], int(row['more']), row['seed']): float(row['miou'])
                for row in rows if row['domain'] == name}
        for more in sorted({more for _, more, _ in miou if more}):
            arms = {arm: {seed: value for (a, m, seed), value in miou.items()
                          if a == arm and m in (0, more)} for arm in ('start', 'random', 'ranked')}
            seeds = sorted(arms['random'].keys() & arms['ranked'].keys())
            both = [arms['ranked'][seed] - arms['random'][seed] for seed in seeds]
            print(f'| {name} | {more} | {len(seeds)} | ' + ' | '.join(
                _mean([*each.values()]) for each in (*arms.values(), dict(enumerate(both))))
                + ' |')


def _mean(values: Sequence[float]) -> str:
    """Return the mean of some runs, and their standard deviation."""
    if not values:
        return ''
    return f'{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}'


if __name__ == '__main__':
    main()
