"""The command `univseg experiment`."""

import argparse
from pathlib import Path
import sys
import textwrap

from univseg_core.commands.options import Command, whole
from univseg_core.commands.output import report
from univseg_core.research.variants import VARIANTS

WIDTH = max(map(len, VARIANTS)) + 4
VARIANTS_HELP = '\n'.join(['variants:', *(
    textwrap.fill(variant.text, 99, initial_indent=f'  {name}'.ljust(WIDTH),
                  subsequent_indent=' ' * WIDTH) for name, variant in VARIANTS.items()), ''])

EXAMPLES = """examples:
  univseg scenes worlds
  UNIVSEG_DATA=worlds univseg experiment scenes         a first one, minutes on a small CPU
  univseg experiment table2 --dry-run                   which runs it takes, and how far they are
  univseg experiment table2                             run them; the same command goes on after a
                                                        break, and repeats nothing
  univseg experiment table2 --table                     the table so far
  univseg experiment table2 --only univ_basic univ_full --jobs 2
  univseg experiment table2 'seeds=[0, 1, 2]' 'labelled=[100]' folder=bf16 \\
    training.precision=bf16-mixed             other settings need another folder
"""


def add_to(command: Command) -> None:
    """Add `experiment` to the grammar."""
    sub = command('experiment', run, 'run what an experiment compares, and print its table',
                  f'{VARIANTS_HELP}\n{EXAMPLES}')
    sub.add_argument('experiment', metavar='NAME|FILE.yaml',
                     help='an experiment that ships (table2 to table7 of the paper, camvid_nyuv2, '
                          'camvid_nyuv2_unlabelled, camvid_nyuv2_then_unlabelled, scenes) or a '
                          'file of your own; docs/experiments.md tells what it holds')
    sub.add_argument('overrides', nargs='*', metavar='KEY=VALUE',
                     help="change the experiment ('seeds=[0, 1, 2]', 'labelled=[50, all]', "
                          'single_domain_steps=500) or, with a dotted key, the configuration of '
                          'all its runs (training.steps=500)')
    sub.add_argument('--runs', type=Path, default=Path('runs'), metavar='DIR',
                     help="where the experiment's folder is (default: runs); a run's is "
                          'DIR/FOLDER/nN/seedS/VARIANT, or VARIANT/DOMAIN')
    sub.add_argument('--only', nargs='+', action='extend', default=[], metavar='VARIANT',
                     help='these variants, with what they need (default: all of them)')
    sub.add_argument('--jobs', type=whole(1), default=1, metavar='J',
                     help='runs at a time; of two or more, each has one CPU thread unless '
                          'OMP_NUM_THREADS is set, and prints to output.log in its folder '
                          '(default: 1)')
    sub.add_argument('--devices', type=whole(1), metavar='N',
                     help='processes of each run, as for univseg train (default: 1)')
    sub.add_argument('--protocol', choices=('standard', 'paper'), default='standard',
                     help="paper: measure finished runs also as the paper's code does (the first "
                          '100 validation images, scaled as in training), and show both '
                          '(default: standard)')
    what = sub.add_mutually_exclusive_group()
    what.add_argument('--dry-run', action='store_true',
                      help='list the runs: finished, begun, to run')
    what.add_argument('--table', action='store_true',
                      help='run nothing; write and print the table of what is finished')


def run(options: argparse.Namespace) -> None:
    """Run the experiment, or list it, or print its table."""
    from univseg_core.progress import say
    from univseg_core.research.execution import execute
    from univseg_core.research.plan import (
        check_settings,
        ExperimentError,
        listing,
        plan,
        progress_of,
    )
    from univseg_core.research.results import Results
    from univseg_core.research.settings import load_experiment
    from univseg_core.research.tables import rows, write_tables
    from univseg_core.settings.file import ConfigError

    # `--only a b key=value`: what has an = is a setting.
    only = [text for text in options.only if '=' not in text]
    overrides = [*options.overrides, *(text for text in options.only if '=' in text)]
    experiment = load_experiment(options.experiment, overrides)
    root = options.runs / experiment.section.folder
    if options.table:
        if not root.is_dir():
            raise ExperimentError(f'{root}: no such folder: nothing of this experiment has run')
        try:
            check_settings(plan(experiment, root, only, check_data=False))
        except ConfigError as error:  # the images need not be here to read a table
            print(f'Not checked that the runs have these settings: {error}', file=sys.stderr)
    else:
        runs = plan(experiment, root, only)
        check_settings(runs)
        if options.dry_run:
            report(options, [progress_of(run) for run in runs], listing(runs))
            return
        execute(runs, jobs=options.jobs, devices=options.devices)
    results = Results(experiment, root)
    if options.protocol == 'paper':
        results.evaluate_by_the_papers_protocol()
    text = write_tables(experiment, results, root)
    report(options, {'table': rows(experiment, results), 'runs': results.runs()}, text)
    say(f'{root}/{experiment.name}.md, .csv; by class: {experiment.name}_classes.md, .csv')
