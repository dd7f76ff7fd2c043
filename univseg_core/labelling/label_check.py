"""Labelled images → which of their label maps are likely to have mistakes, and where."""

from collections.abc import Iterator, Sequence
import csv
from dataclasses import dataclass
import io
import logging
import math
from pathlib import Path
from typing import Any

from univseg_core.datasets.folders import DataError, read_sample, Sample
from univseg_core.domains import Domain, DomainError
from univseg_core.errors import in_one_line, told_with
from univseg_core.files import write_text
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.contradictions import Contradiction, contradictions
from univseg_core.pictures.picture_files import ImageError
from univseg_core.progress import progress_bar

COLUMNS = ('rank', 'image', 'label_map', 'score', 'label', 'model', 'left', 'top', 'right',
           'bottom', 'share', 'confidence', 'reason')

LONGEST_ODDS = 1e6
"""How many times as likely a class is said to be at most."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedLabel:
    """A labelled image, its worst contradiction, and how many others score at least half of it."""

    sample: Sample
    worst: Contradiction
    others: int


@dataclass(frozen=True)
class LabelCheck:
    """
    What became of some labelled images.

    `contradicted` are those with a region that the model contradicts, the worst first; `agreed`
    is the number of the others, `skipped` are the files of those that could not be read.
    """

    contradicted: list[CheckedLabel]
    agreed: int
    skipped: list[Path]


def check_labels(segmenter: Segmenter, samples: Sequence[Sample], name: str) -> LabelCheck:
    """
    Look at the labelled images of a domain one by one, with a progress bar.

    Those that cannot be read, or whose label map has another size or an index of no class, are
    named and skipped. An image's score is that of its worst region, and depends on no other image.

    Raises DomainError for an unknown domain or one of a single class, which no model contradicts;
    DataError where no image can be read.
    """
    segmenter.check_domains([name])
    domain = segmenter.domains[name]
    if len(domain.classes) < 2:
        raise DomainError(f'domain {name}: with one class, a model contradicts no label')
    found, agreed, skipped = [], 0, []
    for sample in progress_bar(samples, 'check'):
        try:
            image, label = read_sample(sample, domain)
        except (ImageError, DataError) as error:
            log.warning('%s; skipped', error)
            skipped.append(sample.image)
            continue
        with told_with(sample.image):
            encoded = segmenter.encode(image)
            regions = contradictions(segmenter.logits(encoded, name), label, encoded.network_size,
                                     segmenter.stride)
        if regions:
            worst = regions[0]
            others = sum(2 * each.score >= worst.score for each in regions[1:])
            found.append(CheckedLabel(sample, worst, others))
        else:
            agreed += 1
    if len(skipped) == len(samples):
        raise DataError(f'none of {len(samples)} labelled images can be read')
    found.sort(key=lambda each: (-each.worst.score, each.sample))
    return LabelCheck(found, agreed, skipped)


def reason(checked: CheckedLabel, domain: Domain) -> str:
    """Return in words why a label map may have a mistake."""
    worst = checked.worst
    odds = math.exp(min(worst.log_odds, 20))
    times = (f'{odds:.1f}' if odds < 100 else f'{odds:,.0f}' if odds < LONGEST_ODDS
             else 'more than a million')
    share = f'{100 * worst.share:.1f} %' if worst.share >= 0.001 else 'less than 0.1 %'
    text = (f'labelled {domain.classes[worst.label]}, to the model '
            f'{domain.classes[worst.model]} over {share} of the pixels, {times} times as likely')
    if checked.others:
        text += f'; {checked.others} more region{"s" * (checked.others > 1)} half as suspicious'
    return text


def as_rows(checked: Sequence[CheckedLabel], domain: Domain) -> Iterator[dict[str, Any]]:
    """Yield plain values of each in the order of `COLUMNS`, ranks from 1."""
    for rank, each in enumerate(checked, 1):
        worst = each.worst
        yield dict(zip(COLUMNS, (
            rank, str(each.sample.image), str(each.sample.label), worst.score,
            domain.classes[worst.label], domain.classes[worst.model], *worst.box, worst.share,
            worst.confidence, reason(each, domain)), strict=True))


def write_check(path: Path, checked: Sequence[CheckedLabel], domain: Domain) -> None:
    """
    Write labels.csv, whole or not at all: a row for each label map, its columns `COLUMNS`.

    What of a folder's name is no text stands there as `in_one_line` has it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(COLUMNS)
    for row in as_rows(checked, domain):
        row |= {key: in_one_line(row[key]) for key in ('image', 'label_map')}
        writer.writerow([f'{value:.6f}' if isinstance(value, float) else value
                         for value in row.values()])
    write_text(path, text.getvalue())
