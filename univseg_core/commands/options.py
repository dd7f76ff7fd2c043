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
