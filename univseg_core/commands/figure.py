"""`univseg figure`: pictures of finished runs, side by side."""

import argparse
from collections.abc import Sequence
from itertools import combinations
import json
from pathlib import Path
from typing import TYPE_CHECKING

from univseg_core.commands.options import add_running, Command, running, whole
from univseg_core.commands.output import report
from univseg_core.errors import UnivsegError

if TYPE_CHECKING:
    from univseg_core.measuring.finished_runs import FinishedRun

EXAMPLES = {
    'tsne': """\
  univseg figure tsne runs/basic runs/full              features by class and domain
  univseg figure tsne runs/full --space embedding --classes road floor building wall
  univseg figure tsne runs/full/best.univseg --config runs/full/config.yaml --out figures/best
""",
    'panels': """\
  univseg figure panels runs/supervised_outdoor runs/basic runs/full --count 4
  univseg figure panels runs/basic runs/full --images 0016E5_07961 0016E5_08001
""",
    'curves': """\
  univseg figure curves runs/basic runs/full            mIoU and losses over the steps
""",
    'correspondences': """\
  univseg figure correspondences runs/full              which classes are like which
""",
    'cost': """\
  univseg figure cost runs/table2/table2_runs.csv       mIoU over computing time, of an experiment
""",
    'differences': """\
  univseg figure differences runs/mine/mine_runs.csv then_teacher:then_labels
""",
}


def add_to(command: Command) -> None:
    """Add the command and its kinds of figures to the command line's grammar."""
    sub = command('figure', None, 'draw finished runs: t-SNE, panels, curves, correspondences, '
                  'cost, differences', _examples(*EXAMPLES))
    kinds = sub.add_subparsers(dest='kind', required=True, metavar='KIND')

    sub = command('tsne', _tsne, 'draw the t-SNE of pixels of the validation images of all '
                  'domains, a panel for each run', _examples('tsne'), kinds)
    _add_runs(sub)
    sub.add_argument('--space', choices=('features', 'embedding'), default='features',
                     help="the shared encoder's features, or E of them (default: features)")
    sub.add_argument('--classes', nargs='+', default=[], metavar='CLASS',
                     help='classes to show, of any domain (default: the six most frequent of '
                          'each domain)')
    sub.add_argument('--pixels', type=whole(1), default=100, metavar='N',
                     help='at most so many of each class (default: 100)')
    sub.add_argument('--seed', type=whole(0, 2**32 - 1), default=0, metavar='N',
                     help='decides which pixels, and the t-SNE (default: 0)')

    sub = command('panels', _panels, "draw image, truth and each run's masks of some validation "
                  'images', _examples('panels'), kinds)
    _add_runs(sub)
    chosen = sub.add_mutually_exclusive_group()
    chosen.add_argument('--count', type=whole(1), default=3, metavar='N',
                        help='images of each domain, as different as can be (default: 3)')
    chosen.add_argument('--images', nargs='+', default=[], metavar='NAME',
                        help='names of validation images to show instead')

    sub = command('curves', _curves, 'draw mIoU and losses of several runs in one picture',
                  _examples('curves'), kinds)
    _add_named(sub, 'a run folder')
    _add_out(sub)

    sub = command('correspondences', _correspondences, 'report which classes of one domain lie '
                  'nearest to which of another, for each run', _examples('correspondences'), kinds)
    _add_runs(sub)

    sub = command('cost', _cost, "draw the mIoUs of an experiment's runs over their computing "
                  'time, a panel for each N', _examples('cost'), kinds)
    _add_csv(sub)
    sub.add_argument('--variants', nargs='+', default=[], metavar='VARIANT',
                     help='which ones to show (default: all)')
    _add_out(sub)

    sub = command('differences', _differences, 'draw how far variants of an experiment are above '
                  'others, seed by seed, with the interval of the mean', _examples('differences'),
                  kinds)
    _add_csv(sub)
    sub.add_argument('pairs', nargs='+', type=_pair, metavar='VARIANT:OTHER',
                     help='two variants: how far the first is above the second')
    _add_out(sub)


def _add_csv(sub: argparse.ArgumentParser) -> None:
    sub.add_argument('csv', type=Path, metavar='NAME_runs.csv',
                     help='what univseg experiment wrote, with a row for each run')


def _pair(text: str) -> tuple[str, str]:
    variant, colon, other = text.partition(':')
    if not (variant and colon and other) or ':' in other or variant == other:
        raise argparse.ArgumentTypeError(f'{text}: expected two variants, VARIANT:OTHER')
    return variant, other


def _examples(*kinds: str) -> str:
    return 'examples:\n' + ''.join(EXAMPLES[kind] for kind in kinds)


def _add_named(sub: argparse.ArgumentParser, what: str) -> None:
    sub.add_argument('runs', nargs='*', type=Path, metavar='RUN',
                     help=f'{what}; or named with --model')
    sub.add_argument('--model', nargs='+', action='extend', default=[], type=Path, metavar='MODEL',
                     help='the same, named as in other commands')


def _add_runs(sub: argparse.ArgumentParser) -> None:
    _add_named(sub, 'the folder of a finished run, a model file, or demo')
    sub.add_argument('--config', metavar='FILE',
                     help='the configuration that names the validation images (default: each run '
                          "folder's own)")
    add_running(sub, 'or else fp32')
    _add_out(sub)


def _add_out(sub: argparse.ArgumentParser) -> None:
    sub.add_argument('--out', type=Path, default=Path('figures'), metavar='DIR',
                     help='folder for the files, PNG and SVG (default: figures)')


def _named(options: argparse.Namespace) -> list[Path]:
    runs = [*options.runs, *options.model]
    if not runs:
        options.grammar.error('expected a RUN, or --model')
    return runs


def _load_runs(options: argparse.Namespace) -> 'list[FinishedRun]':
    from univseg_core.measuring.finished_runs import load_runs

    return load_runs(_named(options), options.config, **running(options))


def _tsne(options: argparse.Namespace) -> None:
    from univseg_core.reporting.plots.tsne import draw_tsne

    runs = _load_runs(options)
    name = 'tsne' if options.space == 'features' else 'tsne_embedding'
    _report(options, draw_tsne(runs, options.out / name, space=options.space,
                               per_class=options.pixels, names=options.classes,
                               seed=options.seed))


def _panels(options: argparse.Namespace) -> None:
    from univseg_core.reporting.plots.comparison import draw_comparison

    runs = _load_runs(options)
    _report(options, draw_comparison(runs, options.out / 'panels', count=options.count,
                                     names=options.images))


def _curves(options: argparse.Namespace) -> None:
    from univseg_core.reporting.plots.learning_curves import draw_learning_curves, load_courses

    _report(options, draw_learning_curves(load_courses(_named(options)), options.out / 'curves'))


def _correspondences(options: argparse.Namespace) -> None:
    from univseg_core.files import write_text
    from univseg_core.measuring.correspondences import measure_correspondences
    from univseg_core.reporting.correspondence_report import as_csv, as_dict, as_markdown
    from univseg_core.reporting.plots.correspondences import draw_correspondence
    from univseg_core.reporting.plots.drawing import FigureError

    paths = []
    for run in _load_runs(options):
        try:
            results = measure_correspondences(run.segmenter, run.samples)
        except UnivsegError as error:
            raise FigureError(f'{run.name}: {error}') from error
        stem = options.out / f'correspondences_{run.name.replace("/", "_")}'
        reports = {'md': as_markdown(run.name, results), 'csv': as_csv(results),
                   'json': json.dumps(as_dict(results), indent=1, ensure_ascii=False)}
        for ending, text in reports.items():
            write_text(path := stem.with_name(f'{stem.name}.{ending}'), text)
            paths.append(path)
        for i, j in combinations(run.domains, 2):
            paths += draw_correspondence(results[i, j], results[j, i],
                                         stem.with_name(f'{stem.name}_{i}_{j}'), run.name)
    _report(options, paths)


def _cost(options: argparse.Namespace) -> None:
    from univseg_core.reporting.plots.cost import draw_costs
    from univseg_core.reporting.plots.experiment_runs import load_experiment_runs

    runs, domains = load_experiment_runs(options.csv, options.variants)
    _report(options, draw_costs(runs, domains, options.out / 'cost'))


def _differences(options: argparse.Namespace) -> None:
    from univseg_core.reporting.plots.differences import differences, draw_differences
    from univseg_core.reporting.plots.drawing import FigureError
    from univseg_core.reporting.plots.experiment_runs import load_experiment_runs

    runs, domains = load_experiment_runs(options.csv, timed=False)
    try:
        found = differences(runs, options.pairs)
    except FigureError as error:
        raise FigureError(f'{options.csv}: {error}') from error
    _report(options, draw_differences(found, domains, options.out / 'differences'))


def _report(options: argparse.Namespace, paths: Sequence[Path]) -> None:
    files = [str(path) for path in paths]
    report(options, {'files': files}, '\n'.join(files))
