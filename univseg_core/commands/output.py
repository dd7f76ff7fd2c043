"""What commands print: text for people, JSON for programs, to terminals of any encoding."""

import argparse
import codecs
import json
import math
import os
from pathlib import Path
import sys
from typing import Any
import unicodedata

ASCII = {
    '×': 'x', '→': '->', '←': '<-', '↔': '<->', '↦': '->', '…': '...', '·': '-', '−': '-',
    '–': '-', '±': '+-', '≤': '<=', '≥': '>=', '★': '*', '²': '^2', '⌈': '', '⌉': '', 'α': 'alpha',
    'β': 'beta', 'γ': 'gamma', 'θ': 'theta', 'μ': 'mu', 'σ': 'sigma', 'ß': 'ss',
}
"""What stands for a character where the terminal has it not."""

SPELT_OUT = 'univseg_spelt_out'


def prepare_streams() -> None:
    """
    Let standard output and error spell out what their encoding has not, and raise nothing.

    One that is closed (`>&-`) leads nowhere: Python would print on the other one in its place, and
    a file that is opened later would have its number.
    """
    for name in ('stdin', 'stdout', 'stderr'):
        if getattr(sys, name) is None:
            file = Path(os.devnull).open(  # noqa: SIM115 - as long as the process lasts
                'r' if name == 'stdin' else 'w')
            setattr(sys, name, file)
    codecs.register_error(SPELT_OUT, _spelt_out)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):  # others are a program's own
            stream.reconfigure(errors=SPELT_OUT)


def in_ascii(text: str) -> str:
    """Return a text with what stands for its other characters."""
    return ''.join(character if character.isascii() else _ascii(character) for character in text)


def _spelt_out(error: UnicodeError) -> tuple[str, int]:
    """Handle an error of encoding, as `codecs.register_error` has it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return in_ascii(error.object[error.start:error.end]), error.end


def _ascii(character: str) -> str:
    r"""Return what stands for a character in ASCII: é is e, a byte of a name \xff, or else ?."""
    if '\udc80' <= character <= '\udcff':  # how Python has a byte that is no UTF-8
        return f'\\x{ord(character) - 0xdc00:02x}'
    if character in ASCII:
        return ASCII[character]
    return unicodedata.normalize('NFKD', character).encode('ascii', 'ignore').decode() or '?'


def prints_unicode() -> bool:
    """Say whether standard output takes all characters as they are."""
    return codecs.lookup(sys.stdout.encoding or 'ascii').name == 'utf-8'


def report(options: argparse.Namespace, values: Any, text: str | None) -> None:
    """
    Print what a command has to report: `values` with --json, otherwise `text` unless it is None.

    `values` are of plain types. JSON loses no character, whatever the terminal's encoding; what is
    no finite number, for which it has no word, is null.
    """
    if options.json:
        values = _finite(values)
        print(json.dumps(values, indent=1, ensure_ascii=not _is_plain(values)))
    elif text is not None:
        print(text)


def _finite(values: Any) -> Any:
    """Return plain values with None in the place of NaN and the infinities."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _is_plain(values: Any) -> bool:
    """Say whether standard output takes all that is in some values as it is."""
    try:
        json.dumps(values, ensure_ascii=False).encode(sys.stdout.encoding or 'ascii')
    except UnicodeEncodeError:  # or a file's name that is not UTF-8
        return False
    return prints_unicode()
