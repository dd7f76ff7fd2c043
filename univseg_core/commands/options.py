"""Options that several commands have in common."""

import argparse
from collections.abc import Callable

Command = Callable[..., argparse.ArgumentParser]
"""Adds a command (name, run, text, examples, group=…) to the grammar and returns its parser."""


def add_config(sub: argparse.ArgumentParser) -> None:
    """Add a configuration and the settings that change it."""
    sub.add_argument('config', help='a YAML file, or the name of one that ships: '
                                    'train/scenes.yaml, train/camvid_nyuv2.yaml …')
    sub.add_argument('overrides', nargs='*', metavar='KEY=VALUE',
                     help='settings to change, by dotted key: training.steps=500')


def add_device(sub: argparse.ArgumentParser) -> None:
    """Add the device that a model runs on."""
    sub.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1 … (default: auto)')


def count(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number, 0 or more')
    return int(text)


def positive(text: str) -> int:
    """Return a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number, 1 or more')
    return int(text)


def probability(text: str) -> float:
    """Return a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = float('nan')
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a probability, 0 to 1')
    return value


def colour(text: str) -> tuple[int, int, int]:
    """Return a colour R,G,B of three numbers 0 to 255."""
    values = text.split(',')
    if len(values) != 3 or not all(v.isdecimal() and int(v) < 256 for v in values):
        raise argparse.ArgumentTypeError(f'{text!r}: expected red,green,blue, each 0 to 255')
    red, green, blue = map(int, values)
    return red, green, blue
