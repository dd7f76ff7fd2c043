"""What all of univseg's own errors have in common, and how much of a thing they quote."""

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

    The message says what, and what was expected: it is meant to be shown without a traceback. It
    is cut off behind LONGEST_MESSAGE.
    """

    def __init__(self, message: object = ''):
        super().__init__(shortened(str(message), LONGEST_MESSAGE))


@contextmanager
def told_with(what: object) -> Iterator[None]:
    """Raise a UnivsegError of the block with what it is of, such as a file, before its message."""
    try:
        yield
    except UnivsegError as error:
        raise UnivsegError(f'{what}: {error}') from error


def shortened(text: str, length: int = 300) -> str:
    """Return a text, or its beginning and that it goes on where it is longer than `length`."""
    return text if len(text) <= length else f'{text[:length]}… ({len(text)} characters)'


def in_one_line(text: str | os.PathLike[str]) -> str:
    r"""Return a text with a path's bytes that are no UTF-8, and ends of lines, as \xff and \n."""
    try:
        text = os.fsencode(text).decode(errors='backslashreplace')
    except UnicodeEncodeError:  # half of a character of two, as JSON may have it
        text = os.fspath(text).encode(errors='backslashreplace').decode()
    return text.replace('\n', r'\n').replace('\r', r'\r')


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question after the known name that is most like another, '' where none is."""
    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), names, 1, ALIKE)
    return f'; did you mean {names[near[0]]}?' if near else ''


def first_few(texts: Sequence[str], most: int = 3) -> str:
    """Return the first of some names or the like in one line, and whether there are more."""
    return ', '.join(texts[:most]) + (', …' if len(texts) > most else '')
