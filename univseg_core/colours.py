"""Colours on terminals: none in a file or a pipe, nor where somebody has forbidden them."""

import os
import re
import sys
from typing import TextIO

STYLES = {'ok': 32, 'warn': 33, 'bad': 31, 'heading': 1}
"""A terminal's codes, by what they stand for."""

HEADING = re.compile(r'^(usage:|\S[^:.\n]*:$)', re.MULTILINE)
"""What is a heading of a help: a line up to its colon, and no end of a sentence."""


def has_colours(stream: TextIO) -> bool:
    """
    Say whether a stream gets colours: that of a terminal that has some, unless NO_COLOR is set.

    FORCE_COLOR has them everywhere, such as for `less -R`.
    """
    if os.environ.get('NO_COLOR'):
        return False
    return bool(os.environ.get('FORCE_COLOR')) or (
        stream.isatty() and os.environ.get('TERM') not in (None, '', 'dumb'))


def painted(text: str, meaning: str, stream: TextIO | None = None) -> str:
    """Return a text as one of STYLES where a stream (None: standard output) has colours."""
    if not has_colours(sys.stdout if stream is None else stream):
        return text
    return f'\033[{STYLES[meaning]}m{text}\033[0m'


def with_headings(text: str, stream: TextIO) -> str:
    """Return a help with its headings painted, where the stream has colours."""
    return HEADING.sub(lambda found: painted(found[0], 'heading', stream), text)
