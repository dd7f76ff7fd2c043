"""What a file may cost: one limit a kind, which an environment variable changes."""

from dataclasses import dataclass
import os

from univseg_core.errors import shortened, UnivsegError


class LimitError(UnivsegError):
    """An environment variable that is no limit."""


@dataclass(frozen=True)
class Limit:
    """A limit: the environment variable that changes it, how much it is without one, of what."""

    variable: str
    default: int
    unit: str

    def __call__(self) -> int:
        """Return the limit; raise LimitError where the environment has none of 1 or more."""
        text = os.environ.get(self.variable, '')
        if not text:
            return self.default
        if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text)):
            raise LimitError(f'{self.variable}={shortened(text)}: expected a whole number '
                             f'of {self.unit}, such as {self.default}')
        return int(text)

    def __str__(self) -> str:
        """Return the limit in words, with what changes it."""
        return f'{self()} {self.unit}, which {self.variable} changes'


PIXELS = Limit('UNIVSEG_MAX_PIXELS', 2**26, 'pixels')
"""Of a picture, before it is decoded: two of 8K."""

MESSAGE = Limit('UNIVSEG_MAX_MESSAGE', 2**28, 'bytes')
"""Of a message or chunk of a bag, before it is read or unpacked: PIXELS of four bytes."""

UNPACKED = Limit('UNIVSEG_MAX_UNPACKED', 2**30, 'bytes')
"""Of a bag's file that is unpacked into TMPDIR; RATIO times the packed file where that is more."""

RATIO = 50
"""How much smaller compression makes a file of a bag, at most, without a word."""

TEXT = Limit('UNIVSEG_MAX_TEXT', 2**22, 'bytes')
"""Of a YAML file or a list of names, before it is read."""
