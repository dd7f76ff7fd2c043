"""`univseg scenes`: the synthetic worlds."""

import argparse
from pathlib import Path

from univseg_core.commands.options import Command, whole
from univseg_core.commands.output import report

EXAMPLES = """examples:
  univseg scenes worlds                       400 + 60 images of each, for train/scenes.yaml
  univseg scenes small --train 40 --validation 10 --labelled 10 --seed 1
"""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('scenes', _scenes, 'make the synthetic outdoor and indoor worlds',
                  EXAMPLES)
    sub.add_argument('folder', type=Path, metavar='FOLDER',
                     help='folder to write outdoor/ and indoor/ into')
    sub.add_argument('--train', type=whole(0), default=400, metavar='N',
                     help='training images of each world (default: 400)')
    sub.add_argument('--validation', type=whole(0), default=60, metavar='N',
                     help='validation images of each (default: 60)')
    sub.add_argument('--labelled', type=whole(0), default=100, metavar='N',
                     help='training images of each that have a label map (default: 100)')
    sub.add_argument('--seed', type=whole(0), default=0, metavar='N',
                     help='decides every image (default: 0)')


def _scenes(options: argparse.Namespace) -> None:
    from univseg_core.demo.scenes.worlds import WORLDS, write_worlds

    write_worlds(options.folder, train=options.train, validation=options.validation,
                 labelled=options.labelled, seed=options.seed)
    labelled = min(options.labelled, options.train)
    report(options, {str(options.folder / world): {
        'train': labelled, 'unlabelled': options.train - labelled,
        'validation': options.validation} for world in WORLDS}, None)
