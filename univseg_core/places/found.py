"""
Folders of one's own → places: which images have label maps, and of which part they are.

Only names are looked at and, where they do not tell, whether pictures have colours.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
import logging
import os
from pathlib import Path
import re

from univseg_core.datasets.folders import LABEL_SUFFIX, name_key
from univseg_core.errors import first_few, UnivsegError
from univseg_core.pictures.images import read_codes
from univseg_core.pictures.picture_files import IMAGE_SUFFIXES, ImageError, is_picture

log = logging.getLogger(__name__)

DEEPEST, MOST_FOLDERS = 6, 5000

LABELS = re.compile(r'label(?!l?ed)|mask|annot|segm|truth|(?<![a-z])gt(?![a-z])', re.IGNORECASE)
"""What the name of a folder of label maps, or of one above it, has in it."""

IMAGE_NAMES = ('image', 'images', 'img', 'imgs', 'jpegimages', 'rgb', 'frames', 'photos',
               'pictures')
IMAGES = re.compile(rf'(?<![a-z])({"|".join(IMAGE_NAMES)})(?![a-z])', re.IGNORECASE)
"""What the name of a folder of images has in it, whatever those above it are called."""

PARTS = {
    'train': ('train', 'training'), 'validation': ('val', 'valid', 'validation', 'dev'),
    'test': ('test', 'testing')}
"""Words that say of which part a folder is."""

PART_OF = {word: part for part, words in PARTS.items() for word in words}

NO_NAMES = {*IMAGE_NAMES, 'labelled', 'labeled', 'unlabelled', 'unlabeled', 'extra', *PART_OF}
"""Folders that are called so have their place's name from those above them."""


class PlacesError(UnivsegError):
    """Folders that no configuration can be made of."""


@dataclass(frozen=True)
class Pictures:
    """
    A folder that pictures lie in.

    `parts` are the names of the folders from the one that was given down to it.
    """

    path: Path
    parts: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def part(self) -> str:
        """Return of which part the pictures are, by the lowest folder that tells."""
        words = (word for name in reversed(self.parts)
                 for word in re.split('[^a-z]+', name.lower()))
        return next((PART_OF[word] for word in words if word in PART_OF), 'train')

    def named_labels(self, above: int = 1) -> bool:
        """Return whether the lowest folder that tells, below the first `above`, is of labels."""
        for name in reversed(self.parts[above:]):
            if LABELS.search(name):
                return True
            if IMAGES.search(name):
                return False
        return False

    @property
    def keys(self) -> set[str]:
        """Return by what its images are paired with label maps."""
        return set(map(name_key, self.files))

    @property
    def label_keys(self) -> set[str]:
        """Return by what its files are paired, as far as they may be label maps."""
        return {name_key(file) for file in self.files if file.suffix.lower() == LABEL_SUFFIX}


@dataclass(frozen=True)
class Pair:
    """A folder of images, that of their label maps, and the list of class names near to them."""

    images: Pictures
    labels: Pictures
    classes: Path | None


@dataclass
class Place:
    """A place: its folders by part ('train', 'validation', 'test'), and those without labels."""

    name: str
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    unlabelled: list[Path] = field(default_factory=list)


def find_places(roots: Sequence[Path], labels: str | None = None) -> list[Place]:
    """
    Return the places that are found in some folders; `labels` says which of several is meant.

    Images and label maps are paired by the names of their files, and of their folders, which
    differ in one at most: yard/train/image and yard/train/label, images/val and labels/val, or
    yard and yard/labels. What folders have in common is the place's name, but for words such as
    train; where a list of classes lies, the place begins.

    Raises PlacesError, which names the folder: where it has no images, or only images without
    label maps that are of no other place; for label maps without images; for images that several
    folders of label maps fit; for a folder inside another one; where `labels` is no folder's name.
    """
    places: dict[str, Place] = {}
    without: list[tuple[Path, bool, list[Pictures]]] = []
    for root in _apart(roots):
        found = list(_picture_folders(root))
        if not found:
            raise PlacesError(f'{root}: no folder in it has images ({", ".join(IMAGE_SUFFIXES)})')
        pairs, alone = _paired(root, found, labels)
        for pair in pairs:
            place = _place(places, pair)
            place.pairs.setdefault(pair.images.part, []).append(pair)
        without.append((root, bool(pairs), alone))
    for root, has_pairs, alone in without:
        _without_labels(list(places.values()), root, has_pairs, alone)
    if labels is not None:
        _check_name(labels, places.values())
    return list(places.values())


def _apart(roots: Sequence[Path]) -> Iterable[Path]:
    """Return folders without those that are given twice; PlacesError for one inside another."""
    by_path: dict[Path, Path] = {}
    for root in roots:
        by_path.setdefault(root.resolve(), root)
    for path, root in by_path.items():
        for above in path.parents:
            if above in by_path:
                raise PlacesError(f'{root}: lies in {by_path[above]}, which is given, too; name '
                                  'one of the two')
    return by_path.values()


def _check_name(labels: str, places: Iterable[Place]) -> None:
    """Raise PlacesError where no label maps lie in a folder of a name."""
    pairs = [pair for place in places for several in place.pairs.values() for pair in several]
    if not any(labels in {*pair.labels.parts} - {*pair.images.parts} for pair in pairs):
        there = first_few(sorted({'/'.join(pair.labels.parts) for pair in pairs}))
        raise PlacesError(f'--labels {labels}: no label maps lie in a folder of that name; there '
                          f'are {there}')


def _picture_folders(root: Path) -> Iterator[Pictures]:
    """Yield the folders in and below one that pictures lie in; PlacesError where unreadable."""
    def unreadable(error: OSError) -> None:
        raise PlacesError(f'{error.filename}: cannot be read: {error.strerror}') from error

    top = root.resolve()
    for count, (folder, below, names) in enumerate(os.walk(top, onerror=unreadable,
                                                           followlinks=True)):
        path = Path(folder)
        if count > MOST_FOLDERS:
            raise PlacesError(f'{root}: more than {MOST_FOLDERS} folders; name those of a place')
        depth = len(path.relative_to(top).parts)
        below[:] = sorted(name for name in below if not name.startswith('.')) \
            if depth < DEEPEST else []
        files = tuple(sorted(filter(is_picture, (path / name for name in names))))
        if files:
            yield Pictures(path, (top.name, *path.relative_to(top).parts), files)


def _paired(root: Path, found: Sequence[Pictures],
            wanted: str | None) -> tuple[list[Pair], list[Pictures]]:
    """Return pairs of folders, and folders of images without label maps."""
    above = 1
    if all(each.named_labels() for each in found) and not all(map(_has_codes, found)):
        shared = os.path.commonpath([each.path for each in found])  # whose names tell nothing
        above = len(Path(shared).relative_to(root.resolve()).parts) + 1
    named = [each for each in found if each.named_labels(above)
             or (LABELS.search(each.parts[0]) and len(found) == 1 and _has_codes(each))]
    others = [each for each in found if each not in named]
    pairs, alone, used = [], [], []
    for images in others:
        fitting = [each for each in named if _fit(images, each)]
        if not fitting:
            fitting = [each for each in others if _fit(images, each) and _has_codes(each)
                       and not _has_codes(images)]
        used += fitting
        chosen = [each for each in fitting if wanted in each.parts] or fitting
        if len(chosen) > 1:
            raise PlacesError(
                f'{images.path}: {len(chosen)} folders of label maps fit its images, '
                f'{" and ".join(each.path.name for each in chosen)}; say which with --labels NAME')
        if chosen:
            pairs.append(Pair(images, chosen[0], _class_names(root.resolve(), chosen[0], images)))
        else:
            alone.append(images)
    if strays := [each for each in named if each not in used]:
        raise PlacesError(
            f'{strays[0].path}: label maps without images: no folder in {root} that fits has '
            f'images of the names of its files, such as {strays[0].files[0].stem}.jpg'
            + ('; name the folder that both lie in' if len(strays[0].parts) == 1 else ''))
    return pairs, [each for each in alone if each not in used]


def _fit(images: Pictures, labels: Pictures) -> bool:
    """Return whether label maps are of some images, by the names of folders and of files."""
    return bool(images is not labels and _differing(images.parts, labels.parts) is not None
                and images.keys & labels.label_keys)


def _differing(a: Sequence[str], b: Sequence[str]) -> int | None:
    """Return where the one name stands in which two paths differ, None where more do."""
    if len(a) == len(b):
        places = [i for i in range(len(a)) if a[i] != b[i]]
        return places[0] if len(places) == 1 else None
    shorter, longer = sorted((tuple(a), tuple(b)), key=len)
    return next((i for i in range(len(longer))
                 if (*longer[:i], *longer[i + 1:]) == shorter), None)


def _has_codes(pictures: Pictures) -> bool:
    """Return whether the first picture of a folder has one channel, as label maps have."""
    try:
        read_codes(pictures.files[0])
    except ImageError:
        return False
    return True


def _class_names(top: Path, labels: Pictures, images: Pictures) -> Path | None:
    """Return the text file of class names that is nearest to label maps, or to their images."""
    for folder in dict.fromkeys([labels.path, *labels.path.parents, images.path]):
        if folder != top and top not in folder.parents:
            continue
        lists = sorted(folder.glob('classes*.txt'))
        if len(lists) > 1:  # classes13.txt is of label13
            name = labels.path.name
            lists = [each for each in lists if each.stem != 'classes'
                     and name.endswith(each.stem.removeprefix('classes'))] or lists
        if len(lists) > 1:
            raise PlacesError(f'{folder}: several lists of class names ('
                              f'{first_few([each.name for each in lists])}); leave one of them, '
                              'called classes.txt')
        if lists:
            return lists[0]
    return None


def _place(places: dict[str, Place], pair: Pair) -> Place:
    """Return the place that a pair is of, a new one where it is the first."""
    parts = list(pair.images.parts)
    depth = _differing(pair.images.parts, pair.labels.parts)
    if pair.classes is not None and pair.classes.parent in pair.images.path.parents:
        top = len(pair.images.path.relative_to(pair.classes.parent).parts)
        parts = parts[:len(parts) - top]
    elif depth is not None and len(pair.images.parts) >= len(pair.labels.parts):
        del parts[depth]
    name = _name(parts) or _name([_above(pair.images)])
    place = places.setdefault(name, Place(name))
    others = [other for several in place.pairs.values() for other in several]
    if any(other.classes != pair.classes for other in others):
        raise PlacesError(
            f'{pair.images.path} and {others[0].images.path}: two places are called {name}, with '
            'other classes: give their folders other names')
    return place


def _without_labels(places: Sequence[Place], root: Path, has_pairs: bool,
                    alone: Sequence[Pictures]) -> None:
    """
    Give the images of a folder that have no label maps to the places that they are of.

    Others are left out with a warning; PlacesError where there is nothing else in the folder.
    """
    of = [_place_of(places, pictures) for pictures in alone]
    if not has_pairs and not any(of):
        names = ', '.join(place.name for place in places)
        raise PlacesError(
            f'{root}: images, but no label maps of them; expected PNGs of the same names '
            f'in a folder beside {alone[0].path.name}, such as labels '
            '(docs/labelling.md tells how to make some)'
            + (f', or folders called as the place that they are of ({names})' if names else ''))
    for place, pictures in zip(of, alone, strict=True):
        if place:
            place.unlabelled.append(pictures.path)
        else:
            log.warning('%s: %d images without label maps, and of no place by their folder: left '
                        'out', pictures.path, len(pictures.files))


def _place_of(places: Sequence[Place], pictures: Pictures) -> Place | None:
    """Return the place that images to learn from without labels are of, if a folder tells."""
    if pictures.part != 'train':
        return None
    own = _name(pictures.parts)
    name = own or _name([_above(pictures)])
    for place in places:
        lists = [pair.classes for several in place.pairs.values() for pair in several]
        if (any(each and each.parent in pictures.path.parents for each in lists)
                or place.name == name):
            return place
    return places[0] if len(places) == 1 and not own else None


def _above(pictures: Pictures) -> str:
    """Return the name of the folder that the one that was given lies in."""
    return pictures.path.parents[len(pictures.parts) - 1].name


def _name(parts: Iterable[str]) -> str:
    """Return the name of a domain, by the folders that its pictures lie in."""
    names = [name for name in parts if name.lower() not in NO_NAMES]
    words = '_'.join(names[1:] or names)
    name = re.sub('[^a-z0-9]+', '_', words.lower()).strip('_')
    return name if not name or name[0].isalpha() else f'place_{name}'
