"""What the images and labels of a configuration are like, and everything that is wrong in them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from univseg_core.batches.inspection import inspect, questions_of, remarks, Seen
from univseg_core.batches.overlaps import overlaps
from univseg_core.batches.parts import (
    extra_samples,
    further_unlabelled,
    not_chosen,
    other_counts,
    published_counts,
    questions,
    samples_of,
    unpaired,
    with_labels,
)
from univseg_core.batches.splits import choose_labelled
from univseg_core.datasets.folders import DataError, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import first_few
from univseg_core.machine.resources import in_threads
from univseg_core.settings.config import RunConfig
from univseg_core.settings.domains import DomainSection

PARTS = ('labelled', 'unlabelled', 'validation')
SIZES_SHOWN = 4

ALIKE = 5.0
"""A distance in CIELAB below which two colours are hardly told apart."""


@dataclass
class PartCheck:
    """
    One part of a domain.

    `images` is how many it has, `of` from how many they were chosen, `published` how many those
    should be (none for plain folders, nor where training images are set aside), `sizes` how often
    each 'WIDTH×HEIGHT' occurs, `pixels` the number of pixels of each class and, last, of void
    (None without labels).
    """

    images: int
    of: int
    published: tuple[int, ...] = ()
    sizes: Counter = field(default_factory=Counter)
    pixels: np.ndarray | None = None

    def percent(self) -> list[float] | None:
        """Return the percentage of pixels of each class and, last, of void."""
        if self.pixels is None or not self.pixels.sum():
            return None
        return (100 * self.pixels / self.pixels.sum()).tolist()


@dataclass
class DomainCheck:
    """A domain's `PARTS`, empty where they could not be listed, and what was found in them."""

    domain: Domain
    dataset: str
    parts: dict[str, PartCheck] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        """Return all of it as plain JSON values."""
        names = [*self.domain.classes, 'void']
        parts = {}
        for name, part in self.parts.items():
            percent = part.percent()
            parts[name] = {
                'images': part.images, 'of': part.of, 'published': list(part.published),
                'sizes': dict(part.sizes.most_common()),
                'percent': percent and dict(zip(names, percent, strict=True))}
        return {'dataset': self.dataset, 'classes': list(self.domain.classes), 'parts': parts,
                'warnings': self.warnings, 'problems': self.problems}


def check_data(config: RunConfig, progress: bool = True) -> Iterator[DomainCheck]:
    """Read every image of every domain, and the label of each that a run would use."""
    for name, section in config.domains.items():
        yield _check_domain(config, name, section, progress)


def _check_domain(config: RunConfig, name: str, section: DomainSection,
                  progress: bool) -> DomainCheck:
    domain = config.domain(name)
    check = DomainCheck(domain, section.dataset)

    def listed(function: Callable[..., list[Sample]], *arguments: Any) -> list[Sample]:
        try:
            return function(*arguments)
        except DataError as error:
            check.problems.append(str(error))
            return []

    train = listed(samples_of, name, section, 'train')
    labelled = listed(choose_labelled, with_labels(train), section.labelled, name,
                      config.training.seed) if train else []
    extra = listed(extra_samples, name, section) if section.extra else []
    validation = listed(samples_of, name, section, 'validation')
    used = set(labelled)
    unlabelled = [replace(sample, label=None) for sample in train if sample not in used]
    unlabelled += [*listed(further_unlabelled, name, section, train, validation), *extra]

    found = {'train': train, 'validation': validation, 'extra': extra}
    check.warnings += other_counts(name, section, {p: s for p, s in found.items() if s})
    if labelled:
        check.warnings += not_chosen(name, section, with_labels(train), labelled)
    if train and validation:  # else what is wrong with the folders is told
        check.warnings += unpaired(name, section)
        check.problems += questions(name, section)
    published = {part: () if section.validation_from_train is not None
                 else published_counts(section, part) for part in ('train', 'validation')}
    check.parts = {
        'labelled': PartCheck(len(labelled), len(with_labels(train)), published['train']),
        'unlabelled': PartCheck(len(unlabelled), len(unlabelled)),
        'validation': PartCheck(len(validation), len(validation), published['validation'])}
    seen = {part: _read(check, part, samples, f'check {name}, {part}', progress)
            for part, samples in zip(PARTS, (labelled, unlabelled, validation), strict=True)}
    for part, each in seen.items():
        check.warnings += remarks(part, each, domain)
        check.problems += questions_of(each)
    check.warnings += alike_colours(check.domain)
    check.warnings += overlaps(name, *([one.look for one in each] for each in (
        [*seen['labelled'], *seen['unlabelled']], seen['validation'])))
    for part in ('labelled', 'validation'):
        _judge(check, part)
    return check


def alike_colours(domain: Domain) -> list[str]:
    """Return a warning where eyes can hardly tell the masks of two classes apart, or none."""
    colours = np.array([domain.palette], np.float32) / 255
    lab = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[0]
    alike = [f'{a} and {b}' for (a, one), (b, other) in combinations(
        zip(domain.classes, lab, strict=True), 2) if np.linalg.norm(one - other) < ALIKE]
    return [f'domains.{domain.name}.palette: colours that are hardly told apart: '
            f'{first_few(alike)}'] if alike else []


def _judge(check: DomainCheck, part: str) -> None:
    """Add to `check` what is wrong with all label maps of a part together."""
    pixels, domain = check.parts[part].pixels, check.domain
    if pixels is None:
        return
    what, key = f'{part} image', f'domains.{domain.name}'
    absent = [c for c, count in zip(domain.classes, pixels, strict=False) if not count]
    if len(absent) == len(domain.classes):
        check.problems.append(f'{key}: every pixel of the {what}s is void')
    elif absent:
        check.warnings.append(f'{key}: no {what} shows {", ".join(absent)}')


def _read(check: DomainCheck, part: str, samples: Sequence[Sample], title: str,
          progress: bool) -> list[Seen]:
    """Read a part's samples, and add to `check` what they are like and which are at fault."""
    report = check.parts[part]
    seen = []
    for one in in_threads(partial(inspect, domain=check.domain), samples, title, progress):
        if isinstance(one, str):
            check.problems.append(one)
            continue
        seen.append(one)
        report.sizes[one.size] += 1
        if one.counts is not None:
            pixels = np.append(one.counts[:len(check.domain.classes)], one.counts[IGNORE_INDEX])
            report.pixels = pixels if report.pixels is None else report.pixels + pixels
    return seen


def as_text(name: str, check: DomainCheck) -> str:
    """Return a domain's check as Markdown tables, then its warnings and problems."""
    lines = [f'## {name} ({check.dataset}, {len(check.domain.classes)} classes)', '',
             '| part | images | published | sizes |', '|---|--:|--:|---|']
    for part, report in check.parts.items():
        chosen = f' of {report.of}' if report.of != report.images else ''
        sizes = [f'{size} ({count})' if len(report.sizes) > 1 else size
                 for size, count in report.sizes.most_common(SIZES_SHOWN)]
        if len(report.sizes) > SIZES_SHOWN:
            sizes.append(f'{len(report.sizes) - SIZES_SHOWN} others')
        lines.append(f'| {part} | {report.images}{chosen} | '
                     f'{" or ".join(map(str, report.published)) or "-"} | {", ".join(sizes)} |')
    columns = {part: percent for part, report in check.parts.items()
               if (percent := report.percent()) is not None}
    if columns:
        width = max(map(len, (*check.domain.classes, 'class')))
        lines += ['', ' | '.join([f'| {"class":{width}}', *(f'{part}, %' for part in columns)])
                  + ' |', f'|{"-" * (width + 2)}|' + '--:|' * len(columns)]
        for i, label in enumerate([*check.domain.classes, 'void']):
            cells = [f'{column[i]:{len(part) + 3}.2f}' if column[i] else f'{"-":>{len(part) + 3}}'
                     for part, column in columns.items()]
            lines.append(' | '.join([f'| {label:{width}}', *cells]) + ' |')
    for title, messages in (('warnings', check.warnings), ('problems', check.problems)):
        if messages:
            lines += ['', f'{title}:', *(f'  {message}' for message in messages)]
    return '\n'.join(lines)
