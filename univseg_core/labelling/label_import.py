"""Labels that come back and their frames → a labelled folder, once all of them are sound."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
import filecmp
from functools import partial
from pathlib import Path
import shutil

import numpy as np
from univseg_core.datasets.folders import by_name, DataError, misfit, name_key
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.files import read_lines, replacing, temporary_folder, write_text
from univseg_core.labelling.as_prelabelled import content_of, Prelabels
from univseg_core.labelling.class_counts import ClassCounts
from univseg_core.labelling.import_sheet import SheetOfLabels, small_mask
from univseg_core.labelling.returned import Returned
from univseg_core.machine.resources import in_threads
from univseg_core.pictures.images import read_image, write_png
from univseg_core.pictures.picture_files import file_bytes, image_files, orientation_of

PROBLEMS_SHOWN = 50

SHEET = 'import.png'
"""The sheet's name in a labelled folder."""


@dataclass
class Checked:
    """
    Labels without fault: the `frames` that have some, how much of each class, and a sheet of them.

    Of other frames there are the names without ending: `empty` are those without a pixel of any
    class, `unlabelled` those in which nobody has labelled anything; both are left out. `turned`
    are those that their EXIF data turns upright. `thin` are the objects that have no pixel.
    `as_prelabelled` are the frames whose labels are as `prelabel` wrote them, each with the folder
    of its list; `prelabels` has the lists, and `read` all files that have labels.
    """

    counts: ClassCounts
    sheet: SheetOfLabels
    frames: list[Path] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    thin: list[str] = field(default_factory=list)
    as_prelabelled: dict[Path, Path] = field(default_factory=dict)
    read: set[Path] = field(default_factory=set)
    prelabels: Prelabels = field(default_factory=Prelabels)

    @property
    def none_corrected(self) -> bool:
        """Return whether there are labels, and all of them are as `prelabel` wrote them."""
        return bool(self.frames) and len(self.as_prelabelled) == len(self.frames)


@dataclass
class Imported:
    """What became of the labels: file names of frames without ending; see `Checked`."""

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Sound:
    """
    Labels without fault, and their frame.

    `pixels` (256,) are counted by class, none where nothing is labelled; `content` is that of
    `content_of`; `orientation` is how the frame lies in its file; `thin` are objects without
    pixels.
    """

    frame: Path
    source: str
    paths: Collection[Path]
    objects: Mapping[int, int] | None = None
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    content: str = ''
    orientation: int = 1
    small: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.uint8))
    thin: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        return not self.pixels[:IGNORE_INDEX].any()


def import_labels(returned: Iterable[Returned | str], out: Path, domain: Domain,
                  tell: Callable[[Checked], None] | None = None,
                  progress: bool = True) -> Imported:
    """
    Put the labels of frames, and the frames, into a labelled folder; strings are problems.

    `out` gets image/ (copies of the frames), label/ (index PNGs, 255: void), classes.txt and a
    sheet to look at, import.png. It may be a folder that is there already: label maps of the same
    frames are replaced. First all is read and checked, and the label maps are written beside
    `out`; `tell` is called with what was found; only then all is moved there, each label before
    its image, so that at no moment an image lacks its label.

    Raises DataError, which names every problem, before anything is written into `out`.
    """
    with _folders_above(out), temporary_folder(out) as staged:
        checked = check_labels(returned, out, domain, staged, progress)
        if tell is not None:
            tell(checked)
        return _put_in_place(checked, staged, out, domain, progress)


@contextmanager
def _folders_above(path: Path) -> Iterator[None]:
    """Remove the folders above a path that the block made, if they are empty at its end."""
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):  # not empty, or never made
                folder.rmdir()


def check_labels(returned: Iterable[Returned | str], out: Path, domain: Domain,
                 staged: Path | None = None, progress: bool = True) -> Checked:
    """
    Read and check labels and frames that are to go into a folder; strings are problems.

    The label maps are written into `staged`/label where that is given. Raises DataError, which
    names every problem.
    """
    images = out / 'image'
    there = by_name(image_files(images)) if images.is_dir() else {}
    check = partial(_check, there=there, staged=staged, names=domain.classes)
    problems = _of_the_folder(out, domain)
    checked = Checked(ClassCounts(domain), SheetOfLabels(domain))
    seen: set[Path] = set()

    def with_news() -> Iterator[tuple[Returned | str, bool]]:
        # Of a frame that comes twice, the first label map is written.
        for each in returned:
            yield each, isinstance(each, str) or each.frame not in seen
            if not isinstance(each, str) and each.is_labelled:
                seen.add(each.frame)

    first: dict[Path, tuple[str, str]] = {}
    unlabelled: dict[Path, None] = {}
    of_name: dict[str, Path] = {}
    for found in in_threads(check, with_news(), 'check', progress):
        if isinstance(found, str):
            problems.append(found)
            continue
        frame = found.frame
        checked.read.update(path.resolve() for path in found.paths)
        if not found.content:
            unlabelled[frame] = None
            continue
        if frame in first:
            content, other = first[frame]
            if found.content != content:
                problems.append(f'{found.source}: {frame.name} is labelled twice, and '
                                f'differently: {other} is of it, too')
            continue
        first[frame] = found.content, found.source
        checked.thin.extend(found.thin)
        if found.is_empty:
            checked.empty.append(frame.stem)
            continue
        other_frame = of_name.setdefault(name_key(frame), frame)
        if other_frame != frame:
            problems.append(f'{frame}: has the same name as {other_frame}, and both are labelled; '
                            'bring them into folders of their own')
        checked.frames.append(frame)
        noted = checked.prelabels.noted(next(iter(found.paths)), frame)
        if noted and noted.content == found.content:
            checked.as_prelabelled[frame] = noted.folder
        checked.counts.add(found.pixels, found.objects)
        checked.sheet.add(frame, found.small)
        if found.orientation > 1:
            checked.turned.append(frame.stem)
    checked.unlabelled.extend(frame.stem for frame in unlabelled if frame not in first)
    if problems:
        raise DataError(_listed(problems))
    return checked


def _listed(problems: Sequence[str]) -> str:
    """Return the first problems, a line or some each, and how many there are."""
    shown = [*problems[:PROBLEMS_SHOWN]]
    if len(problems) > len(shown):
        shown.append(f'and {len(problems) - len(shown)} more')
    listed = ''.join('\n  ' + problem.replace('\n', '\n  ') for problem in shown)
    return (f'{len(problems)} problem{"s" * (len(problems) > 1)}, so that nothing is '
            f'written:{listed}')


def _of_the_folder(out: Path, domain: Domain) -> list[str]:
    """Return what keeps a folder from taking labels of a domain."""
    if out.exists() and not out.is_dir():
        return [f'{out}: expected a folder, or none yet']
    classes = out / 'classes.txt'
    if classes.is_file():
        try:
            there = read_lines(classes)
        except (OSError, ValueError) as error:
            return [f'{classes}: cannot be read: {error}']
        if there != list(domain.classes):
            return [f'{classes}: the folder has labels of other classes: {", ".join(there)}']
    return []


def _check(item: tuple[Returned | str, bool], there: Mapping[str, Path],
           staged: Path | None, names: Sequence[str]) -> 'str | _Sound':
    """Return what is wrong with labels, their frame or their place, or what they are like."""
    each, is_first = item
    if isinstance(each, str):
        return each
    frame = each.frame
    if not each.is_labelled:
        return _Sound(frame, each.source, each.paths)
    try:
        image = read_image(frame)
        orientation = orientation_of(file_bytes(frame))
        classes = each.read(*image.shape[:2])
        if wrong := misfit(classes.shape, image.shape[:2], orientation):
            return f'{each.source}: {wrong}'
    except UnivsegError as error:
        return str(error)
    old = there.get(name_key(frame))
    if old and not (old.name == frame.name and filecmp.cmp(old, frame, shallow=False)):
        return f'{old}: another picture of this name is there already'
    if staged is not None and is_first:
        write_png(staged / 'label' / f'{frame.stem}.png', classes)
    return _Sound(frame, each.source, each.paths, each.objects,
                  np.bincount(classes.ravel(), minlength=256), content_of(classes, names),
                  orientation, small_mask(classes), each.thin)


def _put_in_place(checked: Checked, staged: Path, out: Path, domain: Domain,
                  progress: bool) -> Imported:
    """Move label maps that were written beside a folder there, and copies of their frames."""
    done = Imported(empty=checked.empty, unlabelled=checked.unlabelled, turned=checked.turned)
    if not checked.frames:
        return done

    def stage(frame: Path) -> None:
        if not (out / 'image' / frame.name).exists():
            with replacing(staged / 'image' / frame.name) as copy:
                shutil.copyfile(frame, copy)

    for _ in in_threads(stage, checked.frames, 'write', progress):
        pass
    write_text(staged / 'classes.txt', ''.join(f'{c}\n' for c in domain.classes))
    write_png(staged / SHEET, checked.sheet.picture())
    for folder in ('image', 'label'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for frame in checked.frames:
        name = f'label/{frame.stem}.png'
        if not (out / name).exists():
            done.added.append(frame.stem)
        elif filecmp.cmp(out / name, staged / name, shallow=False):
            done.unchanged.append(frame.stem)
        else:
            done.replaced.append(frame.stem)
        _move(staged, out, name)
        _move(staged, out, f'image/{frame.name}')
    for name in ('classes.txt', SHEET):
        _move(staged, out, name)
    return done


def _move(staged: Path, out: Path, name: str) -> None:
    """Move a file, unless it is not there or the same already."""
    if (staged / name).exists() and not (
            (out / name).exists() and filecmp.cmp(staged / name, out / name, shallow=False)):
        (staged / name).replace(out / name)
