"""What a run learns from: each domain's labelled, unlabelled and validation images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
import logging
from pathlib import Path
from typing import Any

import numpy as np
from univseg_core.batches.faults import named
from univseg_core.batches.inspection import masks_among_others
from univseg_core.batches.overlaps import measured_by_copies, measured_by_its_own
from univseg_core.batches.parts import (
    extra_samples,
    further_unlabelled,
    not_chosen,
    other_counts,
    questions,
    samples_of,
    unpaired,
    with_labels,
)
from univseg_core.batches.splits import choose_labelled, CONTENTS, fingerprint, Splits
from univseg_core.datasets.folders import DataError, read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import first_few
from univseg_core.machine.resources import in_threads
from univseg_core.pictures.images import read_label
from univseg_core.settings.config import RunConfig
from univseg_core.settings.objective import ObjectiveSection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DomainData:
    """One domain's samples: labelled (the N of the run), unlabelled, held out for validation."""

    domain: Domain
    labelled: list[Sample]
    unlabelled: list[Sample]
    validation: list[Sample]

    @property
    def parts(self) -> dict[str, list[Sample]]:
        """Return the samples by the name of their part."""
        return {'labelled': self.labelled, 'unlabelled': self.unlabelled,
                'validation': self.validation}

    @property
    def training_images(self) -> list[Path]:
        """Return the files of the labelled and the unlabelled images, each once."""
        return list(dict.fromkeys(sample.image for sample in (*self.labelled, *self.unlabelled)))


def load_data(config: RunConfig, begun: Splits | None = None) -> dict[str, DomainData]:
    """
    List every domain's files as its configuration says.

    Where a run has `begun`, its images are those of its splits.json, as far as they are there: a
    choice among others would be another one.

    Raises DataError where a folder has no images, a label map or another part of a download is
    missing, N is too large, all label maps of a folder are masks of which nobody has said what
    was painted, or the unsupervised terms have a weight and no domain an unlabelled image. A data
    set of which there are fewer (or more) images than published is a warning, and so are labels of
    `train_also` that are not among the N.
    """
    data = {}
    for name, section in config.domains.items():
        written = (begun or {}).get(name, {})
        before = {part: there['images'] for part, there in written.items()}
        aside = set(before.get('validation', []))
        train = samples_of(name, section, 'train', aside)
        paired = with_labels(train)
        by_name = {sample.name: sample for sample in paired}
        labelled = ([by_name[image] for image in before.get('labelled', []) if image in by_name]
                    or choose_labelled(paired, section.labelled, name, config.training.seed))
        chosen = set(labelled)
        unlabelled = [replace(sample, label=None) for sample in train
                      if section.labelled_also_unlabelled or sample not in chosen]
        extra = extra_samples(name, section) if section.extra else []
        validation = samples_of(name, section, 'validation', aside)
        unlabelled += [*further_unlabelled(name, section, train, validation,
                                           'unlabelled' in before), *extra]
        if 'unlabelled' in before:
            unlabelled = _as_begun(name, unlabelled, written['unlabelled'])
        parts = {'train': train, 'validation': validation} | ({'extra': extra} if extra else {})
        for warning in (*other_counts(name, section, parts), *unpaired(name, section),
                        *(() if before else not_chosen(name, section, paired, labelled)),
                        *measured_by_its_own(name, [*labelled, *unlabelled], validation)):
            log.warning(warning)
        for question in questions(name, section):
            raise DataError(question)
        data[name] = DomainData(config.domain(name), labelled, unlabelled, validation)
    _check_weights(config.objective, data)
    return data


def _check_weights(objective: ObjectiveSection, data: Mapping[str, DomainData]) -> None:
    """Raise DataError where a term of the loss has a weight, and nothing to be computed from."""
    if objective.needs_unlabelled and not any(d.unlabelled for d in data.values()):
        weighed = ', '.join(f'objective.{loss.setting} ({loss.weight(objective):g})'
                            for loss in objective.active if loss.unlabelled)
        raise DataError(
            f'{weighed}: weights of what unlabelled images teach, but no domain has any: name '
            'folders of them (domains.NAME.unlabelled), let the labelled ones serve '
            '(domains.NAME.labelled_also_unlabelled), or set them to 0')
    weights = objective.weights
    if len(data) == 1 and weights['cross_entropy'] and not weights['within_entropy']:
        raise DataError(
            f'objective.alpha ({weights["cross_entropy"]:g}) weighs the cross-domain entropy, but '
            'there is one domain alone, which has the within-domain one: set objective.beta, or '
            'both to 0')


def _as_begun(name: str, samples: Sequence[Sample], begun: Mapping[str, Any]) -> list[Sample]:
    """
    Return a domain's unlabelled samples as the run has `begun`, whose images are written down.

    Those that have gone since keep their places, so that the run goes on with the same batches
    but for them: they are told, and cannot be read. Samples among which are new ones are returned
    as they are, for `write_splits` to refuse.
    """
    images = begun['images']
    if [sample.name for sample in samples] == images:
        return list(samples)
    contents = dict(enumerate(begun.get(CONTENTS, [])))
    several = {image for image, count in Counter(images).items() if count > 1}
    result: list[Sample] = []
    gone, place = [], 0
    for number, image in enumerate(images):
        if place < len(samples) and samples[place].name == image and (
                image not in several  # of two folders: what it holds tells which
                or contents.get(number) in (None, fingerprint(samples[place], whole=False))):
            result.append(samples[place])
            place += 1
        elif samples:
            gone.append(image)
            folders = [each.root or each.image.parent
                       for each in samples[max(0, place - 1):place + 1]]
            # There may be one of its name in the folder of the one before it, or behind it.
            folder = next((each for each in folders if not (each / image).exists()),
                          folders[0] / 'gone')
            result.append(Sample(folder / image, root=folder))
    if not gone or place < len(samples):
        return list(samples)
    log.warning('%s: %d unlabelled images of this run have gone, and are left out:%s', name,
                len(gone), named(gone))
    return result


def check_files(data: Mapping[str, DomainData]) -> None:
    """
    Read every labelled and validation sample once, with a progress bar.

    So a damaged image, a label of another size or with a foreign index, or a domain without a
    single labelled pixel is told before a training has begun, and copies of training images that
    are measured with. Raises ImageError or DataError.
    """
    for name, d in data.items():
        for warning in measured_by_copies(name, [*d.labelled, *d.unlabelled], d.validation):
            log.warning(warning)
        shown = partial(_shown, domain=d.domain)
        values = list(in_threads(shown, [*d.labelled, *d.validation], f'check {name}'))
        if set().union(*values[:len(d.labelled)]) <= {IGNORE_INDEX}:
            raise DataError(f'domains.{name}: every pixel of the labelled images is void (255)')
        masks = [sample.name for sample, found in zip([*d.labelled, *d.validation], values,
                                                      strict=True)
                 if found == {0, IGNORE_INDEX} and sample.read_label == read_label]
        if masks:
            log.warning('domains.%s: %d of %d %s (%s)', name, len(masks), len(values),
                        masks_among_others(d.domain), first_few(masks))


def _shown(sample: Sample, domain: Domain) -> frozenset[int]:
    """Return the values that a label map has."""
    counts = np.bincount(read_sample(sample, domain)[1].ravel(), minlength=256)
    return frozenset(np.flatnonzero(counts).tolist())


def load_validation(config: RunConfig, domains: Mapping[str, Domain],
                    begun: Splits | None = None) -> dict[str, list[Sample]]:
    """
    List the validation files of those of a model's domains that a configuration has, too.

    Of training images that a run has set aside, they are those of its splits.json, `begun`, as
    far as they are there: others it may have learned from.

    Raises DataError where it has none of them, or one with other classes, or with masks of which
    nobody has said what was painted.
    """
    samples = {}
    for name in (name for name in config.domains if name in domains):
        if config.domain(name).classes != domains[name].classes:
            raise DataError(f'domains.{name}.classes: the model was trained on other classes: '
                            f'{", ".join(domains[name].classes)}')
        section = config.domains[name]
        written = (begun or {}).get(name, {}).get('validation', {'images': []})
        samples[name] = samples_of(name, section, 'validation', set(written['images']))
        for warning in (*other_counts(name, section, {'validation': samples[name]}),
                        *unpaired(name, section, ['validation'])):
            log.warning(warning)
        of = 'train' if section.validation_from_train else 'validation'
        for question in questions(name, section, [of]):
            raise DataError(question)
    if not samples:
        raise DataError(f'the configuration has the domains {", ".join(config.domains)}, the '
                        f'model {", ".join(domains)}: none in common')
    return samples
