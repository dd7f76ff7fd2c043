"""What a model file, a run folder or another file of a training holds, in plain values."""

from pathlib import Path
from typing import Any

from univseg_core.errors import shortened, UnivsegError
from univseg_core.models.exported_file import is_exported
from univseg_core.reporting.model_description import describe_exported, DescriptionError


def describe(path: Path) -> dict[str, Any]:
    """
    Return what a file or folder of a training holds, as plain JSON values.

    `kind` says what it is: 'model', 'exported model', 'checkpoint', 'label embeddings' or 'run'.
    Raises DescriptionError for anything else, ModelFileError or RunLogError for a damaged one.
    """
    try:
        return _describe(path)
    except UnivsegError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DescriptionError(f'{path}: its description is damaged: '
                               f'{shortened(repr(error))}') from error


def _describe(path: Path) -> dict[str, Any]:
    if not (path.is_file() or path.is_dir()):
        raise DescriptionError(f'{path}: no such file or folder')
    if path.is_file() and is_exported(path):
        return describe_exported(path)
    # And with it PyTorch, which a robot need not have.
    from univseg_core.reporting.training_description import describe_run, describe_tensors

    return describe_run(path) if path.is_dir() else describe_tensors(path)
