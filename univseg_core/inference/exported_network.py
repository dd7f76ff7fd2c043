"""What all runtimes of exported networks have in common."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from univseg_core.errors import UnivsegError
from univseg_core.models.exported_file import ExportedModel


class BackendError(UnivsegError, RuntimeError):
    """A runtime that cannot take a network, or fails with an image: for want of memory, too."""


def choose_precision(model: ExportedModel, precision: str, faster: Sequence[str] = ()) -> str:
    """
    Return what a file's network computes in, as it is asked for.

    That is what it was exported in, which auto takes: so what was compared with the original is
    what runs. Of what was exported in fp32, it may also be one of the `faster` ones that a device
    has. Raises UnivsegError for another.
    """
    own = model.export.precision
    also = list(faster) if own == 'fp32' else []
    if precision not in ('auto', own, *also):
        raise UnivsegError(f'precision {precision!r}: {model.path} was exported in {own}; export '
                           'it again for another, or take auto')
    return own if precision == 'auto' else precision


@contextmanager
def as_error(of: str) -> Iterator[None]:
    """Raise what a runtime raises in the block, whatever class that has, as BackendError."""
    try:
        yield
    except Exception as error:
        text = ' '.join(str(error).split())
        if len(text) > 400:  # its beginning says where, its end why, such as that memory ran out
            text = f'{text[:200]} … {text[-200:]}'
        raise BackendError(f'{of}: {text}') from error
