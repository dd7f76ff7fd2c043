"""Types of command-line arguments, which say what was expected."""

import argparse
from collections.abc import Callable
import math
import re


def positive(text: str) -> float:
    """Return a number above zero; raise ArgumentTypeError for anything else."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f'expected a number above 0, got {text!r}')
    return number


def matching(pattern: re.Pattern) -> Callable[[str], str]:
    """Return a function that gives a name back, or raises ArgumentTypeError."""
    def name(text: str) -> str:
        if not pattern.fullmatch(text):
            raise argparse.ArgumentTypeError(f'{text!r} cannot be such a name')
        return text
    return name
