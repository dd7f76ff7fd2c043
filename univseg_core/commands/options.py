"""Options that several commands have in common."""

import argparse
from collections.abc import Callable
import math

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


def whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return a function that reads a whole number of a range."""
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            limits = f'{least} or more' if most == math.inf else f'{least} to {most}'
            raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number, {limits}')
        return int(text)
    return read


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
