"""Whatever a damaged model file leads to, raised as one error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from univseg_core.errors import shortened
from univseg_core.machine.memory import is_out_of_memory
from univseg_core.models.model_card import ModelFileError


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Raise whatever error the block leads to as ModelFileError, which names the file."""
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise ModelFileError(f'{path}: no memory is left to read it ({error!r}); the file may '
                                 'be good') from error
        raise ModelFileError(
            f'{path}: its description is damaged: {shortened(repr(error))}') from error
