"""The `univseg` command."""

import argparse
import atexit
from collections.abc import Callable, Sequence
from contextlib import suppress
import logging
import os
from pathlib import Path
import sys
from typing import Any, NoReturn
import warnings

from univseg_core.colours import painted, with_headings
from univseg_core.commands import (
    benchmarking,
    completion,
    data,
    doctor,
    experiment,
    exporting,
    figure,
    frames,
    inspection,
    label_import,
    labels,
    new,
    prediction,
    prelabelling,
    ranking,
    recognition,
    reporting,
    scenes,
    training,
    view,
)
from univseg_core.commands.options import add_common, add_loudness
from univseg_core.commands.output import prepare_streams
from univseg_core.errors import did_you_mean, UnivsegError
from univseg_core.training.interrupts import ended_by_signals

EXAMPLES = """examples:
  # to begin with, on data made here
  univseg doctor                                        will a training run here, will the node?
  univseg scenes worlds                                 make two synthetic worlds to learn from
  UNIVSEG_DATA=worlds univseg train train/scenes.yaml --run runs/first      train on them
  univseg info runs/first                               how far it is, and how good

  # on images of your own
  univseg new my yard/ hall/                            a configuration for your own places
  univseg data check my.yaml                            what is wrong with images and labels
  univseg train my.yaml --run runs/b training.steps=500 change a setting
  univseg config explain training                       what the settings mean
  univseg evaluate runs/b                               mIoU of each domain and class
  univseg report runs/b                                 all about it, as one page to look at
  univseg predict photos/ --model runs/b --domain outdoor
  univseg predict photos/ --model runs/b --domain auto  each image as the place that it shows
  univseg view runs/b photos/                           a page that shows what the model sees

  # from the robot's bags to a better model
  univseg frames drive_1 drive_2 --out frames           the images of ROS 2 bags, to learn from
  univseg rank frames/ --model yard.univseg --domain outdoor    those most worth labelling
  univseg prelabel frames/ --model yard.univseg --domain outdoor --out to_correct
  univseg import-labels to_correct --frames frames/ --model yard.univseg --domain outdoor \\
    --out yard/train                                    when a person has corrected them
  univseg labels check runs/b outdoor                   labels that are likely to be mistakes

  # onto the robot
  univseg distill runs/b my.yaml model.encoder=light model.stride=8   a small network, taught by it
  univseg export runs/b --to onnx                       one file that CPUs run faster
  univseg benchmark runs/b/model.onnx                   frames a second and memory, on this machine

  # research
  univseg experiment table2                             the paper's Table 2
  univseg figure panels runs/a runs/b                   image, truth and two models' masks

`univseg COMMAND --help` has the options and examples of each command. All take --json, to report
for programs, --quiet and --verbose.
"""

JOBS = {
    'to begin with': ('doctor', 'scenes', 'new', 'config', 'data'),
    'train and measure': ('train', 'distill', 'info', 'curves', 'evaluate', 'baselines',
                          'recognise', 'report'),
    'look at images': ('predict', 'view'),
    "from the robot's bags to labels": ('frames', 'rank', 'prelabel', 'import-labels', 'labels'),
    'onto the robot': ('export', 'benchmark'),
    'research': ('experiment', 'figure'),
    'the shell': ('completion',),
}
"""What the commands are for, as the help lists them."""

EXTRAS = {'export': 'train,export', 'completion': 'completion', 'view': 'torch,view'}
"""The extras of the package that bring what a command needs; `train` of those not named."""

log = logging.getLogger(__name__)


class Grammar(argparse.ArgumentParser):
    """A grammar that says what may have been meant."""

    suggest_on_error = False  # Python 3.14's own suggestions
    given: Sequence[str] = ()
    whole: 'Grammar | None' = None
    """The grammar of all commands, of which this is one."""

    more: Callable[[], str] | None = None
    """Makes what help has before the examples, where that takes a while."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.color = False  # Python 3.14's own colours

    def print_help(self, file: Any = None) -> None:
        """Print the help, its headings in bold on a terminal."""
        file = sys.stdout if file is None else file
        self._print_message(with_headings(self.format_help(), file), file)

    def format_help(self) -> str:
        """Return the help."""
        if self.more is not None:
            self.epilog, self.more = f'{self.more()}\n\n{self.epilog}', None
        return super().format_help()

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def,override]
        """Parse as any grammar does; remember what was given."""
        self.given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End with the usage, an error, and what an option that is not known may have meant."""
        options = [text for text in self._option_string_actions if text.startswith('--')]
        for text in self.given:
            name = text.partition('=')[0]
            if name.startswith('--') and not any(each.startswith(name) for each in options):
                message += did_you_mean(name, options)
                break
        self.print_usage(sys.stderr)
        self.exit(2, f'{painted(f"{self.prog}: error:", "bad", sys.stderr)} {message}\n')

    def _check_value(self, action: argparse.Action, value: object) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise


class Version(argparse.Action):
    """Prints which univseg this is, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        from importlib.metadata import version  # where it is asked for: it takes a while
        print(f'univseg {version("univseg_ros")}', flush=True)
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = Grammar(
        prog='univseg', epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description='One semantic segmentation model for every place a robot works in.')
    top.add_argument('--version', action=Version, nargs=0, help='print which version this is')
    add_loudness(top)
    commands = top.add_subparsers(dest='command', required=True, metavar='COMMAND')

    def command(name: str, run: Callable[[argparse.Namespace], int | None] | None, text: str,
                examples: str,
                group: argparse._SubParsersAction = commands,
                more: Callable[[], str] | None = None) -> argparse.ArgumentParser:
        sub = group.add_parser(name, help=text, description=f'{text[0].upper()}{text[1:]}.',
                               epilog=examples,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(run=run, grammar=sub)
        sub.more, sub.whole = more, top
        if run is not None:
            add_common(sub)
        return sub

    # What a command needs beyond its options is imported when it runs: a robot, which has none of
    # the training's packages, can still predict.
    for module in (training, prediction, exporting, benchmarking, inspection, frames,
                   ranking, prelabelling, label_import, labels, recognition, figure, reporting,
                   experiment, data, scenes, doctor, new, completion, view):
        module.add_to(command)
    _by_job(top, commands)
    return top


def _by_job(top: argparse.ArgumentParser, commands: argparse._SubParsersAction) -> None:
    """Let the help list the commands by what they are for."""
    # argparse itself has one list of all: it stays, for completion, but is not shown.
    top._positionals._group_actions.remove(commands)
    listed = {each.dest: each for each in commands._choices_actions}
    for job, names in {**JOBS, 'others': tuple(listed)}.items():
        group = top.add_argument_group(job)
        group._group_actions = [listed.pop(name) for name in names if name in listed]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; settings (KEY=VALUE) and paths may stand before and after others."""
    options, rest = parser().parse_known_args(arguments)
    if any(text.startswith('-') for text in rest):
        options.grammar.given = rest
        options.grammar.error(f'unrecognized arguments: {" ".join(rest)}')
    if rest and 'paths' in options:
        options.paths += map(Path, rest)
    elif rest and 'overrides' in options and all('=' in text for text in rest):
        options.overrides += rest
    elif rest:
        options.grammar.error(f'unrecognized arguments: {" ".join(rest)}')
    return options


def prepare_logging(options: argparse.Namespace, handler: logging.Handler) -> None:
    """Let the log say as much as is asked for."""
    level = (logging.DEBUG if options.verbose else
             logging.WARNING if options.quiet else logging.INFO)
    form = '%(asctime)s %(name)s: %(message)s' if options.verbose else '%(message)s'
    logging.basicConfig(format=form, handlers=[handler])  # of libraries, warnings alone
    logging.getLogger('univseg_core').setLevel(level)
    # Python's own way shows a line of the library that warns, too.
    warnings.showwarning = lambda message, *_: log.warning('%s', message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. What the user can mend prints no traceback."""
    prepare_streams()
    options = argparse.Namespace(command='')
    try:
        with ended_by_signals():
            options = parse(arguments)
            status = _run(options)
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        return getattr(error, 'status', 130)
    except BrokenPipeError:  # `univseg config explain | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UnivsegError, OSError) as error:
        return _failed(options, error)
    except ModuleNotFoundError as error:
        if (error.name or 'univseg').startswith('univseg'):  # no package of others
            raise
        extras = EXTRAS.get(options.command, 'train')
        return _failed(options, f'the package {error.name} is not installed for {sys.executable}: '
                       f"pip install '.[{extras}]' brings what the command needs")
    return status


def _failed(options: argparse.Namespace, reason: object) -> int:
    """Say in a line why the command has failed; return its exit status."""
    log.debug('what led to it:', exc_info=True)
    who = f'univseg {options.command}'.rstrip()
    print(f'{painted(f"{who}:", "bad", sys.stderr)} {reason}', file=sys.stderr)
    return 1


def _run(options: argparse.Namespace) -> int:
    """Run the command that the options are of; return its exit status."""
    if options.command == 'doctor':  # which tells of whatever is missing
        return options.run(options)
    from univseg_core import progress  # not for --help: it takes a while

    prepare_logging(options, progress.LogHandler())
    with progress.quiet(options.quiet):
        return options.run(options) or 0


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run the command as this process, which ends with its exit status as soon as it is done.

    What Python would do beyond `atexit`, the taking to pieces of PyTorch, takes a second of each
    process, can wait for ever for what a library has begun, and does nothing for anybody.
    """
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except Exception:  # that nobody has foreseen
        sys.excepthook(*sys.exc_info())
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # of one that is closed
            stream.flush()
    os._exit(status)
