"""The `univseg` command."""

import argparse
from collections.abc import Callable, Sequence
import logging
import os
import sys

from univseg_core.commands import (
    data,
    experiment,
    figure,
    frames,
    inspection,
    labelling,
    prediction,
    scenes,
    training,
)
from univseg_core.errors import UnivsegError
from univseg_core.training.interrupts import ended_by_signals

EXAMPLES = """examples:
  # to begin with, on data made here
  univseg scenes worlds                                 make two synthetic worlds to learn from
  UNIVSEG_DATA=worlds univseg train train/scenes.yaml --run runs/first      train on them
  univseg info runs/first                               how far it is, and how good

  # on images of your own
  univseg data check my.yaml                            what is wrong with images and labels
  univseg train my.yaml --run runs/b training.steps=500 change a setting
  univseg config explain training                       what the settings mean
  univseg evaluate runs/b                               mIoU of each domain and class
  univseg predict photos/ --model runs/b/model.univseg --domain outdoor

  # from the robot's bags to a better model
  univseg frames drive_1 drive_2 --out frames           the images of ROS 2 bags, to learn from
  univseg rank yard.univseg frames/ --domain outdoor    frames most worth labelling
  univseg prelabel yard.univseg frames/ --domain outdoor --out to_correct
  univseg import-labels to_correct/labels --frames frames/ --model yard.univseg \\
    --domain outdoor --out yard/train                   when a person has corrected them

  # research
  univseg experiment table2                             the paper's Table 2
  univseg figure panels runs/a runs/b                   image, truth and two models' masks

`univseg COMMAND --help` has the options and examples of each command.
"""


class Version(argparse.Action):
    """Prints which univseg this is, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        from importlib.metadata import version  # where it is asked for: it takes a while
        print(f'univseg {version("univseg_ros")}')
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(
        prog='univseg', epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description='One semantic segmentation model for every place a robot works in.')
    top.add_argument('--version', action=Version, nargs=0, help='print which version this is')
    commands = top.add_subparsers(dest='command', required=True, metavar='COMMAND')

    def command(name: str, run: Callable[[argparse.Namespace], None] | None, text: str,
                examples: str,
                group: argparse._SubParsersAction = commands) -> argparse.ArgumentParser:
        sub = group.add_parser(name, help=text, description=f'{text[0].upper()}{text[1:]}.',
                               epilog=examples,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(run=run)
        return sub

    # What a command needs beyond its options is imported when it runs: a robot, which has none of
    # the training's packages, can still predict.
    for module in (training, prediction, inspection, frames, labelling, figure, experiment, data,
                   scenes):
        module.add_to(command)
    return top


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; settings (KEY=VALUE) may stand before and after other options."""
    grammar = parser()
    options, rest = grammar.parse_known_args(arguments)
    if any(text.startswith('-') or '=' not in text for text in rest) or (
            rest and 'overrides' not in options):
        grammar.error(f'unrecognized arguments: {" ".join(rest)}')
    if rest:
        options.overrides += rest
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. What the user can mend prints no traceback."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    logging.getLogger('lightning_fabric').setLevel(logging.WARNING)
    options = parse(arguments)
    try:
        with ended_by_signals():
            options.run(options)
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        return getattr(error, 'status', 130)
    except BrokenPipeError:  # `univseg config explain | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UnivsegError, OSError) as error:
        print(f'univseg {options.command}: {error}', file=sys.stderr)
        return 1
    return 0
