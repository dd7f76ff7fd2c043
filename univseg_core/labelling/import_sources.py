"""What labels are brought in from: which of the formats some file or folder is of."""

from collections.abc import Mapping
import filecmp
from itertools import islice
from pathlib import Path

from univseg_core.annotations.formats import FORMATS
from univseg_core.datasets.folders import DataError, LABEL_SUFFIX, name_key, spread
from univseg_core.errors import first_few, UnivsegError
from univseg_core.files.archives import is_archive
from univseg_core.pictures.picture_files import image_files, is_picture

MASKS = 'masks'
"""Label maps whose values are the domain's own, which no other format names."""

LOOKED_AT = 20
"""PNGs of a folder that are compared with frames, to tell label maps from copies of these."""


def sources() -> dict[str, str]:
    """Return what can be brought in: a line of each format by its name."""
    return {MASKS: "PNGs of the domain's own indices or colours, or a FRAME-CLASS.png each",
            **{name: each.says for name, each in FORMATS.items() if each.read}}


def recognised(source: Path, of_frame: Mapping[str, Path],
               insisted: str | None = None) -> str:
    """
    Return the name of the format that a file or folder is of, or the one insisted on.

    `of_frame` are the frames by `name_key`: PNGs that are called as they are may be label maps.
    Raises DataError where it is of none, of several, not there, or packed into an archive.
    """
    if not source.exists():
        raise DataError(f'{source}: no such file or folder')
    if is_archive(source):
        raise DataError(f'{source}: an archive; unpack it, and name the folder that comes of it')
    if source.is_file() and is_picture(source):
        raise DataError(f'{source}: one picture; name the folder that it is in')
    if insisted == MASKS and not source.is_dir():
        raise DataError(f'{source}: a file; expected a folder of PNGs')
    if insisted is not None:
        return insisted
    found, reasons = _formats_of(source)
    maps = _label_maps(source, of_frame) if source.is_dir() else []
    if found and maps:
        found.append(MASKS)
    if len(found) > 1:
        if not maps and (of_folders := _in_folders(source)):
            raise DataError(f'{source}: of several formats, each in a folder of its own: '
                            f'{of_folders}; name the folder that counts')
        files = {name: maps if name == MASKS else _files(source, name, below=True)
                 for name in found}
        listed = '; '.join(f'{name} ({first_few(files[name] or [source.name])})'
                           for name in found)
        raise DataError(f'{source}: of {len(found)} formats: {listed}. Say --format NAME for the '
                        'one that counts, or take them apart')
    if found:
        return found[0]
    if source.is_dir() and image_files(label_map_folder(source)):
        return MASKS
    raise DataError(_of_none(source, reasons))


def whole_of(folder: Path) -> tuple[Path, str] | None:
    """
    Return of which file or folder, and of what format, some folder has the label maps.

    None of a folder that is no part of another source, nor below one.
    """
    for path in dict.fromkeys((folder.absolute(), folder.resolve())):
        for each in (path, *path.parents):
            for name, form in FORMATS.items():
                if form.whole_of and (whole := form.whole_of(each)):
                    return whole, name
    return None


def label_map_folder(source: Path) -> Path:
    """Return where a folder's label maps are: in it, or in SegmentationClass/ of it."""
    inside = source / 'SegmentationClass'
    return inside if inside.is_dir() and not image_files(source) else source


def _formats_of(source: Path) -> tuple[list[str], list[str]]:
    """Return the formats that a file or folder is of, and why it may be none of some."""
    found, reasons = [], []
    for name, each in FORMATS.items():
        try:
            if each.read and (_recognises(name, source) or _files(source, name)):
                found.append(name)
        except (UnivsegError, OSError) as error:
            reasons.append(f'{name}: {error}')
    return found, reasons


def _in_folders(source: Path) -> str:
    """Return which formats the folders in a folder are of, '' unless that tells them apart."""
    if not source.is_dir():
        return ''
    inside = [path for path in sorted(source.iterdir())
              if path.is_dir() and not path.name.startswith('.')]
    formats = {path.name: found for path in inside if (found := _formats_of(path)[0])}
    own = any(_files(source, name) for name in FORMATS)
    if own or len(formats) < 2 or any(len(found) > 1 for found in formats.values()):
        return ''
    return first_few([f'{name}/ ({found[0]})' for name, found in formats.items()], 10)


def _recognises(name: str, path: Path) -> bool:
    recognises = FORMATS[name].recognises
    return recognises is not None and recognises(path)


def _files(source: Path, name: str, below: bool = False) -> list[str]:
    """
    Return some files of a folder that are of a format by themselves, pictures aside.

    They are those in it, or also those below it.
    """
    if not source.is_dir():
        return []
    files = (path for path in sorted(source.rglob('*') if below else source.iterdir())
             if path.is_file() and not is_picture(path)
             and not any(part.startswith('.') for part in path.relative_to(source).parts))
    return [path.relative_to(source).as_posix()
            for path in islice((each for each in files if _recognises(name, each)), 4)]


def _label_maps(folder: Path, of_frame: Mapping[str, Path]) -> list[str]:
    """Return some PNGs of a folder that have the name of a frame, and are no copies of it."""
    pngs = [path for path in image_files(folder) if path.suffix.lower() == LABEL_SUFFIX
            and path.is_file() and name_key(path) in of_frame]
    return [path.name for path in spread(pngs, LOOKED_AT)
            if not filecmp.cmp(path, of_frame[name_key(path)], shallow=False)]


def _of_none(source: Path, reasons: list[str]) -> str:
    """Return what is said of a file or folder of no format."""
    text = f'{source}: of no format that is known'
    if source.is_dir():
        archives = [path.name for path in sorted(source.iterdir())
                    if is_archive(path)]
        inside = sorted(path.name for path in source.iterdir() if path.is_dir())
        if archives:
            text += f'; unpack {first_few(archives)} first'
        if of_folders := _in_folders(source):
            text += f', but the folders in it are: {of_folders}; name the one that counts'
        elif inside:
            text += f'; the folders in it are {first_few(inside, 10)}'
    text += ''.join(f'\n  {reason}' for reason in reasons)
    return text + '\nKnown are:' + ''.join(f'\n  {name}: {says}'
                                           for name, says in sources().items())
