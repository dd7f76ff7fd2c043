"""A domain's images, part by part, as its configuration says where they are."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Literal

from univseg_core.batches.splits import choose_labelled
from univseg_core.datasets.folders import DataError, labelled_samples, Sample
from univseg_core.datasets.layouts import LAYOUTS
from univseg_core.datasets.unlabelled import unlabelled_samples
from univseg_core.settings.config import DomainSection


def samples_of(name: str, section: DomainSection,
               part: Literal['train', 'validation'],
               aside: Set[str] = frozenset()) -> list[Sample]:
    """
    List the labelled images of one part of a domain.

    With `validation_from_train`, both parts come from the training images. Those of the names
    `aside`, where a run has chosen some already, are then the validation images. Raises
    DataError, which names the domain's key, for an incomplete download.
    """
    if section.validation_from_train is None:
        return _own_samples(name, section, part)
    train = _own_samples(name, section, 'train')
    if len(train) <= section.validation_from_train:
        raise DataError(f'domains.{name}.validation_from_train: {section.validation_from_train} '
                        f'images asked for, but the training folder has {len(train)}, of which '
                        'some are to be learned from')
    # Not by the run's seed: what is chosen by these images must not have learned from them.
    chosen = {sample for sample in train if sample.name in aside} or set(
        choose_labelled(train, section.validation_from_train, f'{name} validation', 0))
    return [sample for sample in train if (sample in chosen) == (part == 'validation')]


def further_unlabelled(section: DomainSection, validation: Sequence[Sample]) -> list[Sample]:
    """List the images of the folders and bags that `unlabelled` names, but for those set aside."""
    samples = unlabelled_samples(section.unlabelled)
    if section.validation_from_train is None:
        return samples
    aside = {sample.image.resolve() for sample in validation}
    return [sample for sample in samples if sample.image.resolve() not in aside]


def _own_samples(name: str, section: DomainSection, part: str) -> list[Sample]:
    if section.dataset == 'folder':
        folders = getattr(section, part)
        return labelled_samples(folders.images, folders.labels)
    assert section.root is not None
    try:
        return LAYOUTS[section.dataset].samples(section.root, _own_part(section, part))
    except DataError as error:
        raise DataError(f'domains.{name}.root: {error}') from error


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


def _own_part(section: DomainSection, part: str) -> str:
    """Return what a data set itself calls a part: 'train', 'val', 'test' or 'extra'."""
    if part != 'validation':
        return part
    return section.held_out or LAYOUTS[section.dataset].held_out[0]
