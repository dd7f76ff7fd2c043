"""A domain's images, part by part, as its configuration says where they are."""

from collections.abc import Iterator, Mapping, Sequence, Set
import logging
from typing import Literal

from univseg_core.batches.overlaps import not_among
from univseg_core.batches.splits import choose_aside
from univseg_core.datasets.folders import (
    are_masks,
    DataError,
    labelled_samples,
    Sample,
    stray_labels,
    unread_pictures,
)
from univseg_core.datasets.layouts import LAYOUTS
from univseg_core.datasets.unlabelled import unlabelled_samples
from univseg_core.errors import first_few
from univseg_core.pictures.images import PlainLabels
from univseg_core.pictures.label_meaning import WHERE_TO_SAY
from univseg_core.settings.domains import DomainSection, LabelledFolder

log = logging.getLogger(__name__)


def samples_of(name: str, section: DomainSection,
               part: Literal['train', 'validation'],
               aside: Set[str] = frozenset()) -> list[Sample]:
    """
    List the images of one part of a domain; those to measure with all have a label.

    With `validation_from_train`, both parts come from the training images. Those of the names
    `aside`, where a run has chosen some already, are then the validation images. Raises
    DataError, which names the domain's key, for an incomplete download.
    """
    if section.validation_from_train is None:
        samples = _own_samples(name, section, part)
        return with_labels(samples) if part == 'validation' else samples
    train = _own_samples(name, section, 'train')
    labelled = with_labels(train)
    if len(labelled) <= section.validation_from_train:
        raise DataError(f'domains.{name}.validation_from_train: {section.validation_from_train} '
                        f'images asked for, but the training folder has {len(labelled)}, of which '
                        'some are to be learned from')
    # Not by the run's seed: what is chosen by these images must not have learned from them.
    chosen = {sample for sample in labelled if sample.name in aside} or set(
        choose_aside(labelled, section.validation_from_train, name))
    return [sample for sample in train if (sample in chosen) == (part == 'validation')]


def with_labels(samples: Sequence[Sample]) -> list[Sample]:
    """Return those of some samples that have a label map."""
    return [sample for sample in samples if sample.label is not None]


def further_unlabelled(name: str, section: DomainSection, train: Sequence[Sample],
                       validation: Sequence[Sample], begun: bool = False) -> list[Sample]:
    """
    List the images of the folders, bags and videos that `unlabelled` names.

    But for those that are among the training images already, as frames are that were labelled, and
    for those set aside; copies, too. It is said how many these are. A folder of a run that has
    `begun` may have lost all of its images.
    """
    samples = unlabelled_samples(section.unlabelled, may_be_empty=begun)
    aside = [] if section.validation_from_train is None else validation
    further = not_among(samples, [*train, *aside])
    if len(further) < len(samples):
        log.info('domains.%s.unlabelled: %d of %d images are left out, which are training images '
                 'already%s', name, len(samples) - len(further), len(samples),
                 ', or set aside' if aside else '')
    return further


def _own_samples(name: str, section: DomainSection, part: str) -> list[Sample]:
    if section.dataset == 'folder':
        further = section.train_also if part == 'train' else []
        return _together(name, [labelled_samples(folders.images, folders.labels,
                                                 PlainLabels(folders.meaning))
                                for folders in (getattr(section, part), *further)])
    assert section.root is not None
    try:
        return LAYOUTS[section.dataset].samples(section.root, _own_part(section, part))
    except DataError as error:
        raise DataError(f'domains.{name}.root: {error}') from error


def _together(name: str, folders: Sequence[Sequence[Sample]]) -> list[Sample]:
    """Return the samples of several folders by name; raise DataError where two have the same."""
    found: dict[str, Sample] = {}
    for sample in (sample for samples in folders for sample in samples):
        other = found.setdefault(sample.name, sample)
        if other is not sample:
            raise DataError(f'domains.{name}.train_also: {other.image} and {sample.image} have '
                            'the same name, by which a run knows its images: rename one')
    return [found[key] for key in sorted(found)]


def extra_samples(name: str, section: DomainSection) -> list[Sample]:
    """List a data set's further images without labels; raise DataError as `samples_of`."""
    extra = LAYOUTS[section.dataset].extra
    assert extra is not None and section.root is not None
    try:
        return extra(section.root)
    except DataError as error:
        raise DataError(f'domains.{name}.root: {error}') from error


def published_counts(section: DomainSection, part: str) -> tuple[int, ...]:
    """
    Return the number of images that were published of 'train', 'validation' or 'extra'.

    More than one where the data set was published in pieces; none for plain folders.
    """
    if section.dataset == 'folder':
        return ()
    return LAYOUTS[section.dataset].counts[_own_part(section, part)]


def other_counts(name: str, section: DomainSection,
                 parts: Mapping[str, Sequence[Sample]]) -> Iterator[str]:
    """Yield a warning for each part that has another number of images than was published."""
    if section.validation_from_train is not None:
        # Both are of one published part, which is not known where but one of them was listed.
        train, validation = parts.get('train'), parts.get('validation')
        parts = {part: samples for part, samples in parts.items() if part == 'extra'}
        if train is not None and validation is not None:
            parts['train'] = [*train, *validation]
    for part, samples in parts.items():
        published = published_counts(section, part)
        if published and len(samples) not in published:
            yield (f'domains.{name}.root: {section.root} has {len(samples)} images of '
                   f'{_own_part(section, part)}; {section.dataset} was published with '
                   f'{" or ".join(map(str, published))}')


def unpaired(name: str, section: DomainSection,
             parts: Sequence[str] = ('train', 'validation')) -> Iterator[str]:
    """Yield a sentence for what plain folders have in vain: what has no pair, or is not read."""
    for part, folders in _folders(section, parts):
        if unread := unread_pictures(folders.images):
            yield f'domains.{name}.{part}: {unread}'
        samples = labelled_samples(folders.images, folders.labels)
        missing = [sample.name for sample in samples if sample.label is None]
        if missing:
            yield (f'domains.{name}.{part}: {len(missing)} of {len(samples)} images have no label '
                   f'map ({first_few(missing)}) and '
                   + ('count as unlabelled' if part != 'validation' else 'are left out'))
        strays = [label.name for label in stray_labels(folders.images, folders.labels)]
        if strays and folders.labels != folders.images:
            yield (f'domains.{name}.{part}: {len(strays)} label maps have no image of the same '
                   f'name ({first_few(strays)}) and are left out')
    for source in section.unlabelled if 'train' in parts else ():
        if source.is_dir() and (unread := unread_pictures(source)):
            yield f'domains.{name}.unlabelled: {unread}'


def not_chosen(name: str, section: DomainSection, labelled: Sequence[Sample],
               chosen: Sequence[Sample]) -> Iterator[str]:
    """Yield a warning where `labelled: N` leaves out labels that were added to older ones."""
    folders = {each.images for each in section.train_also}
    added = {sample for sample in labelled if sample.image.parent in folders}
    if unused := sorted(sample.name for sample in added - set(chosen)):
        are = 'is' if len(unused) == 1 else 'are'
        yield (f'domains.{name}.labelled: of the {len(added)} labelled images of train_also, '
               f'{len(unused)} {are} not among the {len(chosen)} chosen of {len(labelled)} '
               f'({first_few(unused)}); null in place of {section.labelled} learns from all')


def questions(name: str, section: DomainSection,
              parts: Sequence[str] = ('train', 'validation')) -> Iterator[str]:
    """Yield a sentence for each plain folder of label maps that are all masks of one class."""
    for part, folders in _folders(section, parts):
        samples = labelled_samples(folders.images, folders.labels)
        labels = [sample.label for sample in samples if sample.label is not None]
        if folders.painted is None and are_masks(labels):
            assert section.classes is not None  # plain folders have them
            yield (f'domains.{name}.{part}: {folders.labels}: each of the {len(labels)} label '
                   f'maps {folders.meaning.question_of_mask(section.classes)}{WHERE_TO_SAY}')


def _folders(section: DomainSection, parts: Sequence[str]) -> Iterator[tuple[str, LabelledFolder]]:
    """Yield the name of a part and each of its plain folders."""
    for part in parts:
        own = getattr(section, part)
        if own is not None and not (part == 'validation' and section.validation_from_train):
            yield part, own
            yield from (('train_also', each) for each in section.train_also if part == 'train')


def _own_part(section: DomainSection, part: str) -> str:
    """Return what a data set itself calls a part: 'train', 'val', 'test' or 'extra'."""
    if part != 'validation':
        return part
    return section.held_out or LAYOUTS[section.dataset].held_out[0]
