"""Label maps that come back and their frames → a labelled folder, once all of them are sound."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import filecmp
from functools import partial
from pathlib import Path
import shutil

from univseg_core.datasets.folders import by_name, DataError, misfit, name_key
from univseg_core.domains import IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.files import read_lines, replacing, temporary_folder, write_text
from univseg_core.labelling.returned_files import by_frame, Returned
from univseg_core.labelling.returned_labels import LabelDecoder
from univseg_core.machine.resources import in_threads
from univseg_core.pictures.images import read_image, write_png
from univseg_core.pictures.picture_files import file_bytes, image_files, orientation_of

PROBLEMS_SHOWN = 50


@dataclass
class Imported:
    """
    What became of the label maps: file names without ending.

    `empty` are those without a pixel of any class, which are left out; `turned` those whose
    frames are turned upright by their EXIF data.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Sound:
    """A frame and label map without fault: whether that is void throughout, how the frame lies."""

    frame: Path
    is_empty: bool
    orientation: int


def import_labels(labels: Sequence[Path], frames: Sequence[Path], out: Path,
                  decoder: LabelDecoder, progress: bool = True) -> Imported:
    """
    Put label maps and the frames of the same names (but for the ending) into a labelled folder.

    Of a frame, there may be a mask for each class instead, named as `by_frame` says.
    `out` gets image/ (copies of the frames), label/ (index PNGs, 255: void) and classes.txt. It
    may be one that is there already: label maps of the same frames are replaced. First all is
    read and checked; then all is written beside `out`; only then it is moved there, each label
    before its image, so that at no moment an image lacks its label.

    Raises DataError, which names every problem, before anything is written.
    """
    of_frame = by_name(frames)
    images = out / 'image'
    there = by_name(image_files(images)) if images.is_dir() else {}
    check = partial(_check, there=there, decoder=decoder)
    problems, pairs, done = _of_the_folder(out, decoder), [], Imported()
    returned = by_frame(labels, of_frame, decoder.domain.classes)
    for each, found in zip(returned, in_threads(check, returned, 'check', progress), strict=True):
        if isinstance(found, str):
            problems.append(found)
        elif found.is_empty:
            done.empty.append(found.frame.stem)
        else:
            pairs.append((found.frame, each))
            if found.orientation > 1:
                done.turned.append(found.frame.stem)
    if problems:
        shown = problems[:PROBLEMS_SHOWN]
        if len(problems) > len(shown):
            shown.append(f'and {len(problems) - len(shown)} more')
        listed = ''.join(f'\n  {problem}' for problem in shown)
        raise DataError(f'{len(problems)} problem{"s" * (len(problems) > 1)}, so that nothing is '
                        f'written:{listed}')
    _write(pairs, out, decoder, done, progress)
    return done


def _of_the_folder(out: Path, decoder: LabelDecoder) -> list[str]:
    """Return what keeps a folder from taking labels of a domain."""
    if out.exists() and not out.is_dir():
        return [f'{out}: expected a folder, or none yet']
    classes = out / 'classes.txt'
    if classes.is_file():
        try:
            there = read_lines(classes)
        except (OSError, ValueError) as error:
            return [f'{classes}: cannot be read: {error}']
        if there != list(decoder.domain.classes):
            return [f'{classes}: the folder has labels of other classes: {", ".join(there)}']
    return []


def _check(each: Returned, there: dict[str, Path], decoder: LabelDecoder) -> 'str | _Sound':
    """Return what is wrong with a label map, its frame or their place, or what they are like."""
    if (frame := each.frame) is None:
        return f'{each.label}: {each.wrong}'
    try:
        classes, image = each.read(decoder), read_image(frame)
        orientation = orientation_of(file_bytes(frame))
        if wrong := misfit(classes.shape, image.shape[:2], orientation):
            return f'{each.label}: {wrong}'
    except UnivsegError as error:
        return str(error)
    old = there.get(name_key(frame))
    if old and not (old.name == frame.name and filecmp.cmp(old, frame, shallow=False)):
        return f'{old}: another picture of this name is there already'
    return _Sound(frame, bool((classes == IGNORE_INDEX).all()), orientation)


def _write(pairs: Sequence[tuple[Path, Returned]], out: Path, decoder: LabelDecoder,
           done: Imported, progress: bool) -> None:
    with temporary_folder(out) as staged:
        def stage(pair: tuple[Path, Returned]) -> None:
            frame, returned = pair
            write_png(staged / 'label' / f'{frame.stem}.png', returned.read(decoder))
            if not (out / 'image' / frame.name).exists():
                with replacing(staged / 'image' / frame.name) as copy:
                    shutil.copyfile(frame, copy)

        for _ in in_threads(stage, pairs, 'write', progress):
            pass
        if not pairs:
            return
        write_text(staged / 'classes.txt', ''.join(f'{c}\n' for c in decoder.domain.classes))
        for folder in ('image', 'label'):
            (out / folder).mkdir(parents=True, exist_ok=True)
        for frame, _ in pairs:
            name = f'label/{frame.stem}.png'
            if not (out / name).exists():
                done.added.append(frame.stem)
            elif filecmp.cmp(out / name, staged / name, shallow=False):
                done.unchanged.append(frame.stem)
            else:
                done.replaced.append(frame.stem)
            _move(staged, out, name)
            _move(staged, out, f'image/{frame.name}')
        _move(staged, out, 'classes.txt')


def _move(staged: Path, out: Path, name: str) -> None:
    """Move a file, unless it is not there or the same already."""
    if (staged / name).exists() and not (
            (out / name).exists() and filecmp.cmp(staged / name, out / name, shallow=False)):
        (staged / name).replace(out / name)
