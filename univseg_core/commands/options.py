"""Options that several commands have in common."""

import argparse
from collections.abc import Callable
import math
from pathlib import Path
import re
from typing import Any

MODELS = ('a model file (NAME.univseg), an exported one (NAME.onnx), the folder of a finished '
          'run, or demo, the small model that ships')
"""What may be named as a model, in words."""

Command = Callable[..., argparse.ArgumentParser]
"""
Adds a command (name, run, text, examples, group=…, more=…) to the grammar; returns its parser.
"""


def add_common(sub: argparse.ArgumentParser) -> None:
    """Add what every command has: how it reports, and how much it says."""
    sub.add_argument('--json', action='store_true', help='report as JSON, for programs')
    add_loudness(sub, argparse.SUPPRESS)


def add_loudness(sub: argparse.ArgumentParser, unless_given: object = False) -> None:
    """Add how much is said; `unless_given` is the value of what is not given."""
    sub.add_argument('-q', '--quiet', action='store_true', default=unless_given,
                     help='say nothing on the way but warnings and errors')
    sub.add_argument('-v', '--verbose', action='store_true', default=unless_given,
                     help='say more on the way: when, from where, and what led to an error')


def add_model(sub: argparse.ArgumentParser, text: str = MODELS) -> None:
    """Add the model that a command uses, which all name alike; `text` is what it may be."""
    sub.add_argument('--model', type=Path, metavar='MODEL', help=text)


def add_model_and_frames(sub: argparse.ArgumentParser, metavar: str = 'FRAMES',
                         text: str = 'a folder of images') -> None:
    """Add a model, and the frames that it is to look at, which `text` describes."""
    sub.add_argument('paths', nargs='+', type=Path, metavar=metavar,
                     help=f'{text} (where --model is not given, the model comes before it)')
    add_model(sub)


def model_and_frames(options: argparse.Namespace) -> tuple[Path, Path]:
    """Return what `add_model_and_frames` has read; end with the usage where one is missing."""
    paths = [*filter(None, [options.model]), *options.paths]
    if len(paths) != 2:
        options.grammar.error('expected --model, and one thing that it is to look at')
    return model_file(paths[0], getattr(options, 'backend', 'auto')), paths[1]


def named_once(options: argparse.Namespace, position: str) -> Path:
    """Return what stands at a position, or else after --model; end with the usage if not one."""
    paths = [path for path in (getattr(options, position), options.model) if path is not None]
    if len(paths) != 1:
        options.grammar.error(f'expected either {position.upper()} or --model')
    return paths[0]


def model_file(named: Path, backend: str = 'auto') -> Path:
    """Return the file of a model as it is named, as `inference.model_names` has it."""
    from univseg_core.inference import model_names

    return model_names.model_file(named, backend)


def add_config(sub: argparse.ArgumentParser) -> None:
    """Add a configuration and the settings that change it."""
    sub.add_argument('config', metavar='CONFIG',
                     help='a YAML file, or the name of one that ships: train/scenes.yaml, '
                          'train/camvid_nyuv2.yaml …')
    sub.add_argument('overrides', nargs='*', metavar='KEY=VALUE',
                     help='settings to change, by dotted key: training.steps=500')


def add_running(sub: argparse.ArgumentParser, precision: str =
                'or, of a model file, the fastest in which its masks stay as good') -> None:
    """
    Add what runs a model, and where and in what, as `running` returns it.

    `precision` says what the precision auto is where the file does not say.
    """
    group = sub.add_argument_group('what runs the model')
    group.add_argument('--backend', default='auto', metavar='NAME',
                       help='torch, which runs model files (NAME.univseg), or onnxruntime or '
                            'openvino, which run what `univseg export` made; auto: the one that '
                            'is installed, or the fastest, which is measured once for each file '
                            '(default: auto)')
    group.add_argument('--precision', default='auto', metavar='NAME',
                       help='fp32, bf16, fp16 or int8; auto: what the file was exported in, '
                            f'{precision} (default: auto)')
    group.add_argument('--device', default='auto', metavar='NAME',
                       help='cpu, cuda, cuda:1 …, and of openvino also gpu, which is one of '
                            "Intel's, or npu; auto: an NVIDIA GPU where there is one that the "
                            'backend can use, or else the CPU (default: auto)')


def running(options: argparse.Namespace) -> dict[str, Any]:
    """Return what `add_running` has read, by the names that `Segmenter.load` has for it."""
    return {name: getattr(options, name) for name in ('backend', 'precision', 'device')}


def whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return a function that reads a whole number of a range."""
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            limits = f'{least} or more' if most == math.inf else f'{least} to {most}'
            raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number, {limits}')
        return int(text)
    return read


def size(text: str) -> tuple[int, int]:
    """Return (height, width) of WIDTHxHEIGHT in pixels."""
    from univseg_core.models.model_card import LARGEST_SIDE

    match = re.fullmatch(r'(\d{1,5})[x×](\d{1,5})', text)
    if not match or not all(0 < int(side) <= LARGEST_SIDE for side in match.groups()):
        raise argparse.ArgumentTypeError(f'{text!r}: expected WIDTHxHEIGHT in pixels, such as '
                                         f'480x360, each 1 to {LARGEST_SIDE}')
    return int(match[2]), int(match[1])


def number(most: float, expected: str) -> Callable[[str], float]:
    """Return a function that reads a number from 0 to `most`, or says what was expected."""
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= most:
            raise argparse.ArgumentTypeError(f'{text!r}: expected {expected}')
        return value
    return read


def colour(text: str) -> tuple[int, int, int]:
    """Return a colour R,G,B of three numbers 0 to 255."""
    values = text.split(',')
    if len(values) != 3 or not all(v.isdecimal() and int(v) < 256 for v in values):
        raise argparse.ArgumentTypeError(f'{text!r}: expected red,green,blue, each 0 to 255')
    red, green, blue = map(int, values)
    return red, green, blue
