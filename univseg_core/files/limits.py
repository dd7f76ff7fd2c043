"""What a file may cost: one limit a kind, which an environment variable changes."""

from dataclasses import dataclass
import os

from univseg_core.errors import shortened, UnivsegError


class LimitError(UnivsegError):
    """An environment variable whose value is no limit."""


@dataclass(frozen=True)
class Limit:
    """A limit: the environment variable that changes it, its default, unit and meaning."""

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


AS_A_WHOLE, IN_STEPS = 50, 500
"""
How many times its own size a bag's file may always unpack to: as a whole, onto a disk, or by
chunks or messages, of which one at a time is in memory. Masks alone are packed to a 200th.
"""

PIXELS = Limit('UNIVSEG_MAX_PIXELS', 2**26, 'pixels',
               'a picture: two of 8K. It is held against what the file says before it is decoded')
MESSAGE = Limit('UNIVSEG_MAX_MESSAGE', 2**28, 'bytes',
                'a message, chunk or summary of a bag, as it is stored and unpacked: the largest '
                'picture with four bytes a pixel')
UNPACKED = Limit('UNIVSEG_MAX_UNPACKED', 2**30, 'bytes',
                 "all that a bag's file unpacks to, as a whole into the folder for temporary "
                 f'files (TMPDIR), or by chunks or messages; {AS_A_WHOLE} or {IN_STEPS} times the '
                 'packed file where that is more')
TEXT = Limit('UNIVSEG_MAX_TEXT', 2**22, 'bytes',
             "a configuration, a bag's metadata.yaml, a list of class names")
RECORDS = Limit('UNIVSEG_MAX_RECORDS', 2**28, 'bytes',
                'what runs and frames note: splits.json, log.csv, manifest.csv and the like')
MODEL = Limit('UNIVSEG_MAX_MODEL', 2**32, 'bytes',
              'a file of tensors: a model, checkpoint, label embeddings, pretrained weights')

LIMITS = (PIXELS, MESSAGE, UNPACKED, TEXT, RECORDS, MODEL)


def most_unpacked(packed: int, ratio: int = AS_A_WHOLE) -> int:
    """Return how many bytes a bag's file of `packed` bytes may unpack to."""
    return max(UNPACKED(), ratio * packed)


def beyond_unpacked(packed: int, ratio: int = AS_A_WHOLE) -> str:
    """Say that a bag's file of `packed` bytes unpacks to more than it may."""
    return (f'more than {most_unpacked(packed, ratio)} bytes ({UNPACKED}; or {ratio} times the '
            'file)')
