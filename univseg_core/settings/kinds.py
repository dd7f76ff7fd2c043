"""Paths, names and numbers as settings give them: expanded, found, or refused with the reason."""

from collections.abc import Callable
import os
from pathlib import Path
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from univseg_core.bags.reading import is_bag
from univseg_core.errors import shortened
from univseg_core.files import read_lines
from univseg_core.inference.model_names import DEMO, model_file, RUN_MODEL

MANY = 10 ** 9
"""More steps or images than any run has."""

MOST_NAMES = 1000
"""Class names that are looked at, to say which are wrong; a domain has fewer."""

FILES_NEEDED = 'files_needed'
"""In a validation's context: whether model and weight files that are named have to be there."""

FOLDERS_NEEDED = 'folders_needed'
"""In a validation's context: whether folders, bags and videos have to be there."""

NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?', re.ASCII)
"""What YAML may take for a text, such as 1e-3, and is a number all the same."""


def _number(value: object) -> object:
    """Return a value that is a number; pydantic alone takes `true` and '1_000' for one, too."""
    if isinstance(value, bool) or (isinstance(value, str) and not NUMBER.fullmatch(value)):
        raise ValueError(f'expected a number, got {shortened(repr(value))}')
    return value


def _expand(path: Path) -> Path:
    """Put environment variables and ~ into a path."""
    for name in re.findall(r'\$\{?(\w+)', str(path)):
        if name not in os.environ:
            raise ValueError(f'the environment variable {name} is not set')
    try:
        return Path(os.path.expandvars(path)).expanduser()
    except RuntimeError as error:  # of ~USER
        raise ValueError(f'{path}: {error}') from error


def _is_there(path: Path, kind: Callable[[Path], bool]) -> bool:
    """Return whether a path is of a kind; ValueError, with the reason, where that is not known."""
    try:
        return kind(path)
    except OSError as error:
        raise ValueError(f'{shortened(str(path))}: {error.strerror}') from error


def _names(value: object) -> object:
    """Return class names, read from a file where a path is given."""
    names = _names_of_file(value) if isinstance(value, str) else value
    if isinstance(names, list) and len(names) > MOST_NAMES:
        raise ValueError(f'{len(names)} class names, more than a label map has indices')
    return names


def _names_of_file(value: str) -> list[str]:
    path = _expand(Path(value))
    try:
        return read_lines(path)
    except OSError as error:
        raise ValueError(f'cannot read {shortened(str(path))}: {error.strerror}') from error


def _needed(kind: str, info: ValidationInfo) -> bool:
    return (info.context or {}).get(kind, True)


def _folder(path: Path, info: ValidationInfo) -> Path:
    path = _expand(path)
    if _needed(FOLDERS_NEEDED, info) and not _is_there(path, Path.is_dir):
        raise ValueError(f'no such folder: {path}')
    return path.resolve()


def _file(path: Path, info: ValidationInfo) -> Path:
    path = _expand(path)
    if _needed(FILES_NEEDED, info) and not _is_there(path, Path.is_file):
        raise ValueError(f'no such file: {path}')
    return path.resolve()


def _model(path: Path, info: ValidationInfo) -> Path:
    """Return a model file: that of a run where its folder is named, that which ships for demo."""
    whole = _expand(path)
    if whole == Path(DEMO):
        return model_file(whole, 'torch')
    return _file(whole / RUN_MODEL if _is_there(whole, Path.is_dir) else whole, info)


def _images(path: Path, info: ValidationInfo) -> Path:
    """Return a folder, a bag, BAG:TOPIC or a video, its path resolved."""
    path = _expand(path)
    bag, colon, topic = str(path).rpartition(':')
    if colon and not _is_there(path, Path.exists) and _is_there(Path(bag), is_bag):
        return Path(f'{Path(bag).resolve()}:{topic}')
    if _needed(FOLDERS_NEEDED, info) and not _is_there(path, Path.exists):
        raise ValueError(f'no such folder: {path} (nor a ROS 2 bag or a video)')
    return path.resolve()


def _weights(value: str, info: ValidationInfo) -> str:
    return value if value in ('imagenet', 'none') else str(_file(Path(value), info))


Number = Annotated[float, BeforeValidator(_number)]
Folder = Annotated[Path, AfterValidator(_folder)]
ExistingFile = Annotated[Path, AfterValidator(_file)]
ModelFile = Annotated[Path, AfterValidator(_model)]
Weights = Annotated[str, AfterValidator(_weights)]
Images = Annotated[Path, AfterValidator(_images)]
ClassNames = Annotated[list[str] | None, BeforeValidator(_names)]
