"""What `univseg import-labels` tells of the labels that came back."""

from collections.abc import Mapping, Sequence
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from univseg_core.annotations.problems import quoted
from univseg_core.datasets.folders import are_masks, name_key
from univseg_core.errors import first_few
from univseg_core.labelling.class_names import ClassNames
from univseg_core.labelling.import_sources import whole_of
from univseg_core.labelling.label_import import Checked
from univseg_core.pictures.picture_files import image_files

if TYPE_CHECKING:  # a model's labels are brought in without pydantic
    from univseg_core.settings.domains import DomainSection

log = logging.getLogger(__name__)


def nothing(source: Path, checked: Checked, names: ClassNames) -> str:
    """Return what is said of a source in which no pixel of any frame has a class."""
    empty, unlabelled = len(checked.empty), len(checked.unlabelled)
    if not empty:
        return (f'{source}: no frame is labelled in it'
                + f'; of {unlabelled}, it has no annotation' * bool(unlabelled))
    void = f'; void as the format says: {_counted(names.dropped)}' if names.dropped else ''
    return (f'{source}: no pixel is of a class of {names.domain.name}: of {empty} frames, all is '
            f'void, and of {unlabelled}, there is no annotation{void}')


def _counted(labels: Mapping[str, int]) -> str:
    """Return labels with how many objects there are of each."""
    return ', '.join(f'{quoted(label)} ({objects})' for label, objects in labels.items())


def found(source: Path, checked: Checked, kind: str, names: ClassNames) -> str:
    """Return what was found in a source, for people."""
    count = len(checked.frames)
    lines = [f'{source}: {kind}, {count} frame{"s" * (count != 1)} with labels']
    if names.forgiven:
        lines.append('taken for classes: ' + ', '.join(
            f'{quoted(old)} → {new}' for old, new in names.forgiven.items()))
    if names.mapped:
        lines.append('by --map: ' + ', '.join(
            f'{quoted(old)} → {new}' for old, new in names.mapped.items()))
    if names.dropped:
        lines.append(f'void, as the format says: {_counted(names.dropped)}')
    return '\n'.join([*lines, checked.counts.table()])


def warn(checked: Checked, names: ClassNames, unread: Sequence[Path]) -> None:
    """Warn of what was found in a source and may not be meant."""
    if checked.empty:
        log.warning('%d frames are labelled without a pixel of any class, and left out: %s',
                    len(checked.empty), first_few(checked.empty, 5))
    if checked.thin:
        log.warning('%d objects cover no pixel: %s', len(checked.thin),
                    first_few(checked.thin))
    if checked.unlabelled:
        log.warning('%d frames have no annotation and are left out: %s',
                    len(checked.unlabelled), first_few(checked.unlabelled, 5))
    if checked.turned:
        log.warning('%d frames are turned upright by the orientation in their EXIF data, which '
                    'their label maps are taken to be already: %s', len(checked.turned),
                    first_few(checked.turned, 5))
    if unused := names.unused():
        log.warning('no category is called %s, which --map names', ', '.join(unused))
    if checked.none_corrected:
        log.warning('all %d label maps are as prelabel wrote them: nobody has corrected any',
                    len(checked.frames))
    elif checked.as_prelabelled:
        log.warning('%d of %d label maps are as prelabel wrote them: %s',
                    len(checked.as_prelabelled), len(checked.frames),
                    first_few([frame.stem for frame in checked.as_prelabelled], 5))
    if unread:
        log.warning('%s called as %s, and not read: %s',
                    '1 PNG is' if len(unread) == 1 else f'{len(unread)} PNGs are',
                    'a frame is' if len(unread) == 1 else 'frames are', _by_source(unread))


def passed_over(checked: Checked, unread: Sequence[Path], archives: Sequence[Path]) -> str:
    """
    Return what is wrong where frames as they were have PNGs that are not read, '' if none.

    So it is with `archives`, those of `unread_archives`.
    """
    if archives:
        return ('nothing in it is corrected, but there are archives, so that nothing is written: '
                f'{first_few([str(short(path)) for path in archives])}. Unpack the one that is, '
                'and name what comes of it; take elsewhere what is not meant')
    keys = {name_key(frame) for frame in checked.as_prelabelled}
    others = [path for path in unread if name_key(path) in keys]
    if not others:
        return ''
    return ('some frames in it are as prelabel wrote them, but other PNGs are called as they are, '
            f'so that nothing is written: {_by_source(others)}. Bring what is '
            'corrected into one folder and name that; take elsewhere what is not meant')


def _by_source(paths: Sequence[Path]) -> str:
    """Return what is to be named for some PNGs, how many there are in each, and the first."""
    sources: dict[Path, Path] = {}
    named: dict[Path, list[str]] = {}
    for path in paths:
        if path.parent not in sources:
            whole = whole_of(path.parent)
            sources[path.parent] = whole[0] if whole else path.parent
        source = sources[path.parent]
        beside = source if source.is_dir() else source.parent
        name = path.relative_to(beside) if path.is_relative_to(beside) else path.name
        named.setdefault(short(source), []).append(str(name))
    return first_few([f'{source} ({len(names)}: {first_few(names)})'
                      for source, names in named.items()], 5)


def short(path: Path) -> Path:
    """Return a path, from the current folder on where it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def to_train(out: Path, domain: str, section: 'DomainSection | None') -> str:
    """Return how a configuration names a labelled folder; `section` is what it says so far."""
    images, labels = out / 'image', out / 'label'
    # Class 0 and void alone: a training would ask what they are.
    masks = ', painted: void' if labels.is_dir() and are_masks(image_files(labels)) else ''
    folder = f'{{images: {images}, labels: {labels}{masks}}}'
    named = [] if section is None or section.train is None else [section.train,
                                                                *section.train_also]
    lines = [f'train: {folder}']
    if images.resolve() not in [each.images.resolve() for each in named]:
        lines.append(f'or, beside labels that there are: train_also: [{folder}]')
    if section is not None and section.labelled is not None:
        lines.append(f'domains.{domain}.labelled: {section.labelled} takes that many of all '
                     'labelled images: null learns from all of them')
    return '\n'.join(lines)
