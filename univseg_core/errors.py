"""The base class of univseg's own errors, and what words their messages."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
import difflib
import os

LONGEST_MESSAGE = 10_000
"""Characters of an error's message: what it quotes of a file may be as long as the file."""

ALIKE = 0.7
"""How alike a name has to be to one that is asked about (difflib's ratio, 0..1)."""


class UnivsegError(ValueError):
    """
    Something given from outside (a file, a setting, a name) that cannot be used.

    The message says what, and what was expected: it is meant to be shown without a traceback. One
    longer than LONGEST_MESSAGE is cut off.
    """

    def __init__(self, message: object = ''):
        super().__init__(shortened(str(message), LONGEST_MESSAGE))


@contextmanager
def told_with(what: object) -> Iterator[None]:
    """Put `what`, such as a file, before the message of a UnivsegError raised in the block."""
    try:
        yield
    except UnivsegError as error:
        raise UnivsegError(f'{what}: {error}') from error


def shortened(text: str, length: int = 300) -> str:
    """Return a text; one longer than `length` is cut off there, and its full length told."""
    return text if len(text) <= length else f'{text[:length]}… ({len(text)} characters)'


def in_one_line(text: str | os.PathLike[str]) -> str:
    r"""Return a text on one line: line ends as \n, a path's bytes that are not UTF-8 as \xff."""
    try:
        text = os.fsencode(text).decode(errors='backslashreplace')
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may have
        text = os.fspath(text).encode(errors='backslashreplace').decode()
    return text.replace('\n', r'\n').replace('\r', r'\r')


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean X?' with the known name that is most like `name`, '' if none is."""
    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), names, 1, ALIKE)
    return f'; did you mean {names[near[0]]}?' if near else ''


def first_few(texts: Sequence[str], most: int = 3) -> str:
    """Return the first `most` texts, separated by commas, and … where there are more."""
    return ', '.join(texts[:most]) + (', …' if len(texts) > most else '')
