"""What a file may cost: one limit a kind, which an environment variable changes."""

from dataclasses import dataclass
import os

from univseg_core.errors import shortened, UnivsegError


class LimitError(UnivsegError):
    """An environment variable that is no limit."""


@dataclass(frozen=True)
class Limit:
    """The environment variable that changes a limit, how much it is without, and of what."""

    variable: str
    default: int
    unit: str
    meaning: str

    def __call__(self) -> int:
        """Return the limit; raise LimitError where the environment has none of 1 or more."""
        text = os.environ.get(self.variable, '')
        if not text:
            return self.default
        if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text)):
            raise LimitError(f'{self.variable}={shortened(text, 40)}: expected a whole number '
                             f'of {self.unit}, such as {self.default}')
        return int(text)

    def __str__(self) -> str:
        """Return the limit in words, with what changes it."""
        return f'{self()} {self.unit}, which {self.variable} changes'


RATIO = 50
"""How many times its own size a packed file of a bag may always have unpacked."""

PIXELS = Limit('UNIVSEG_MAX_PIXELS', 2**26, 'pixels',
               'a picture: two of 8K. It is held against what the file says before it is decoded')
MESSAGE = Limit('UNIVSEG_MAX_MESSAGE', 2**28, 'bytes',
                'a message, chunk or summary of a bag, as it is stored and unpacked: the largest '
                'picture with four bytes a pixel')
UNPACKED = Limit('UNIVSEG_MAX_UNPACKED', 2**30, 'bytes',
                 "a bag's file that is unpacked as a whole into the folder for temporary files "
                 f'(TMPDIR); {RATIO} times the packed file where that is more')
TEXT = Limit('UNIVSEG_MAX_TEXT', 2**22, 'bytes',
             "a configuration, a bag's metadata.yaml, a list of class names")

LIMITS = (PIXELS, MESSAGE, UNPACKED, TEXT)
