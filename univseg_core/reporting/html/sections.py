"""Facts of runs → what each section of the page shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from univseg_core.domains import Domain
from univseg_core.measuring.correspondences import Correspondence
from univseg_core.method.losses import LOSSES
from univseg_core.reporting.correspondence_report import mutual
from univseg_core.reporting.html.charts import (
    Chart,
    Cloud,
    GLYPHS,
    line_chart,
    reliability_chart,
    scatter,
    Series,
)
from univseg_core.reporting.html.facts import iou_of, RunFacts
from univseg_core.reporting.html.findings import PER_CLASS, worst_and_best
from univseg_core.reporting.html.pictures import shoot, Shot
from univseg_core.reporting.plots.drawing import FigureError
from univseg_core.reporting.plots.tsne import project
from univseg_core.settings.explanation import Setting

SHOTS = 3
"""Images of a domain that the runs are worst at, and as many that they are best at."""

MOST_CLASSES = 40
"""Of domains that have more, the confusion matrix is no table, but its largest entries alone."""

MIXED_UP = 8
"""Pairs of classes that are named as those most often taken for each other."""


@dataclass(frozen=True)
class Bar:
    """A run's value in a table: its name, its colour's number, the value and the one before."""

    run: str
    colour: int
    value: float
    before: float | None


@dataclass(frozen=True)
class ClassRow:
    """A class of a domain: its name and colour, a bar for each run, its share of the labels."""

    name: str
    colour: str
    bars: list[Bar]


@dataclass(frozen=True)
class Confusion:
    """
    A run's confusion matrix: shares (C, C + 1) of the pixels of each class, 0..1, or None.

    `mixed_up` are the classes, what they are taken for, and the share of the domain's pixels.
    """

    run: str
    shares: list[list[float]] | None
    mixed_up: list[tuple[str, str, float, float]]


@dataclass(frozen=True)
class Likeness:
    """The classes of two domains by cosine and share; `pairs` are each other's nearest."""

    run: str
    rows: Domain
    columns: Domain
    tables: list[tuple[str, list[list[float | None]]]]
    pairs: list[tuple[str, str, float]]
    collapsed: bool


def sections(runs: Sequence[RunFacts]) -> dict[str, Any]:
    """Return what templates/report.html shows of some runs, by the names that it uses."""
    domains = {name: domain for run in reversed(runs) for name, domain in run.domains.items()}
    domains = {name: domains[name] for run in runs for name in run.domains}
    return {
        'runs': runs, 'domains': domains, 'glyphs': GLYPHS, 'per_class': PER_CLASS,
        'most_classes': MOST_CLASSES, 'settings': list(_settings(runs)), 'charts': _charts(runs),
        'frequencies': {name: list(_frequencies(runs, domain))
                        for name, domain in domains.items()},
        'label_maps': {name: _label_maps(runs, name) for name in domains},
        'ious': {name: list(_ious(runs, domain)) for name, domain in domains.items()},
        'sums': {run.name: _sum(run) for run in runs},
        'confusions': {name: list(_confusions(runs, domain)) for name, domain in domains.items()},
        'shots': {name: _shots(runs, domain) for name, domain in domains.items()},
        'reliabilities': dict(_reliabilities(runs, domains)),
        'maps': [(run.name, *_map(run)) for run in runs if run.findings],
        'likenesses': [each for run in runs for each in _likenesses(run)]}


def _settings(runs: Sequence[RunFacts]) -> Iterator[tuple[Setting, list[Setting | None], bool]]:
    """Yield each key of any run, what it is in each of them, and whether it comes first."""
    of_runs = [{each.name: each for each in run.settings} for run in runs]
    for name in dict.fromkeys(name for each in of_runs for name in each):
        values = [each.get(name) for each in of_runs]
        known = [each for each in values if each]
        differ = len({each and each.value for each in values}) > 1
        # Each run has its own domains, of which the other sections tell.
        yield known[0], values, differ or (not name.startswith('domains.')
                                           and any(each.changed for each in known))


def _charts(runs: Sequence[RunFacts]) -> list[Chart]:
    """
    Return the courses of the trainings.

    Of one run, a chart has all domains, or all terms of the loss; of several, each has its own,
    in which the runs are beside each other.
    """
    courses = [(i, run) for i, run in enumerate(runs) if run.columns or run.validations]
    domains = list(dict.fromkeys(name for _, run in courses for each in run.validations
                                 for name in each.miou))

    def miou(run: RunFacts, name: str, label: str, colour: int) -> Series:
        steps = np.array([each.step for each in run.validations])
        values = np.array([100 * each.miou.get(name, np.nan) for each in run.validations])
        return Series(label, colour, steps, values, dots=True)

    def column(run: RunFacts, name: str, label: str, colour: int) -> Series:
        values = run.columns.get(name, np.empty(0))
        # Terms that a run does not have are logged as 0.
        values = values if np.nan_to_num(values).any() else values[:0]
        return Series(label, colour, run.columns.get('step', np.empty(0))[:len(values)], values)

    groups = [('Losses', ' nats', {loss.name: loss.title for loss in LOSSES if not loss.entropy}),
              ('Entropies', ' nats', {loss.name: loss.title for loss in LOSSES if loss.entropy}),
              ('Learning rate', '', {'learning_rate': 'learning rate'}),
              ('Images a second', '', {'images_per_second': 'images a second'}),
              ('Norms', '', {'feature_norm': 'features', 'embedding_norm': 'embedding'})]
    charts: list[Chart | None] = []
    if len(courses) == 1:
        (_, run), = courses
        charts.append(line_chart('mIoU of the validation images', [
            miou(run, name, name, i) for i, name in enumerate(domains)], ' %'))
        charts += [line_chart(title, [column(run, name, label, i)
                                      for i, (name, label) in enumerate(those.items())], unit,
                              log=title != 'Learning rate')
                   for title, unit, those in groups]
    else:
        charts += [line_chart(f'mIoU of {name}', [
            miou(run, name, run.name, i) for i, run in courses], ' %') for name in domains]
        charts += [line_chart(label[:1].upper() + label[1:], [
            column(run, name, run.name, i) for i, run in courses], unit,
            log=title != 'Learning rate')
            for title, unit, those in groups if title != 'Norms'
            for name, label in those.items()]
    return [each for each in charts if each]


def _frequencies(runs: Sequence[RunFacts], domain: Domain) -> Iterator[ClassRow]:
    """Yield how often each class occurs in the labels that runs learned from."""
    some = [(i, run) for i, run in enumerate(runs) if domain.name in run.frequencies]
    for c, name in enumerate(domain.classes):
        shares = [(i, run.name, run.frequencies[domain.name].pixels) for i, run in some]
        if some:
            yield ClassRow(name, colour_of(domain, c), [
                Bar(run, i, float(pixels[c] / max(1, pixels.sum())), None)
                for i, run, pixels in shares])


def _label_maps(runs: Sequence[RunFacts], name: str) -> str:
    """Return in how many of their label maps runs' classes were counted."""
    counts = [f'{run.frequencies[name].images} of {run.counts[name]["labelled"]}'
              for run in runs if name in run.frequencies]
    return f'{", ".join(dict.fromkeys(counts))} label maps'


def _ious(runs: Sequence[RunFacts], domain: Domain) -> Iterator[ClassRow]:
    """Yield a row for each class, and one for their mean."""
    known = [(i, run, found) for i, run in enumerate(runs) if domain.name in run.domains
             and (found := iou_of(run, domain.name))]
    if not known:
        return
    for c, name in enumerate((*domain.classes, 'mean')):
        bars = []
        for i, run, (iou, miou) in known:
            before = run.before.get(domain.name)
            earlier = None if before is None else float(
                [*before.iou, before.miou][c])
            bars.append(Bar(run.name, i, [*iou, miou][c], earlier))
        yield ClassRow(name, colour_of(domain, c) if c < len(domain.classes) else '', bars)


def _sum(run: RunFacts) -> float:
    """Return the sum of a run's mIoUs; NaN where none is known."""
    mious = [found[1] for name in run.domains if (found := iou_of(run, name))]
    return float(np.nansum(mious)) if mious else float('nan')


def _confusions(runs: Sequence[RunFacts], domain: Domain) -> Iterator[Confusion]:
    for run in runs:
        if run.findings and domain.name in run.findings.domains:
            counts = run.findings.domains[domain.name].result.confusion.astype(float)
            rows = counts.sum(1, keepdims=True)
            shares = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0)
            wrong = counts[:, :-1] / max(1.0, counts.sum())
            np.fill_diagonal(wrong, 0)
            largest = np.argsort(-wrong, axis=None, kind='stable')[:MIXED_UP]
            places = [divmod(int(each), wrong.shape[1]) for each in largest]
            yield Confusion(
                run.name, shares.tolist() if len(domain.classes) <= MOST_CLASSES else None,
                [(domain.classes[i], domain.classes[j], wrong[i, j], shares[i, j])
                 for i, j in places if wrong[i, j] > 0])


def _shots(runs: Sequence[RunFacts], domain: Domain) -> dict[str, list[Shot]]:
    """Return the pictures of the images that runs are worst and best at, by what they are."""
    some = [(run, run.segmenter, run.findings.domains[domain.name].scores) for run in runs
            if run.findings and run.segmenter and domain.name in run.findings.domains]
    if not some:
        return {}
    scores = [{each.sample: each.miou for each in of_run} for _, _, of_run in some]
    worst, best = worst_and_best([of_run for _, _, of_run in some], SHOTS)
    return {title: [shoot(sample, domain, [
                (run.name, segmenter, each[sample])
                for (run, segmenter, _), each in zip(some, scores, strict=True)])
                    for sample in samples]
            for title, samples in (('worst', worst), ('best', best)) if samples}


def _reliabilities(runs: Sequence[RunFacts],
                   domains: Mapping[str, Domain]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in domains:
        found = [(run.name, i, run.findings.domains[name].reliability)
                 for i, run in enumerate(runs) if run.findings and name in run.findings.domains]
        found = [each for each in found if each[2].pixels.any()]
        if found:
            yield name, {'svg': reliability_chart(name, found), 'runs': found}


def _map(run: RunFacts) -> tuple[Any, str]:
    """Return the t-SNE of a run's features, or None and why there is none."""
    assert run.findings is not None
    cells = {name: each.cells for name, each in run.findings.domains.items()
             if len(each.cells.labels)}
    try:
        if not cells:
            raise FigureError('no cell of a validation image is of one class')
        places = project(np.concatenate([each.vectors for each in cells.values()]))
    except FigureError as error:
        return None, str(error)
    clouds, begin = [], 0
    for number, (name, each) in enumerate(cells.items()):
        here, begin = places[begin:begin + len(each.labels)], begin + len(each.labels)
        clouds += [Cloud(run.domains[name].classes[c], run.domains[name].palette[c], number,
                         here[each.labels == c]) for c in np.unique(each.labels)]
    return scatter(f't-SNE of the features of {run.name}', clouds), ''


def _likenesses(run: RunFacts) -> Iterator[Likeness]:
    found = run.findings.correspondences if run.findings else None
    for i, j in combinations(run.findings.domains if run.findings and found else (), 2):
        assert found is not None
        each = found[i, j]
        yield Likeness(run.name, each.rows, each.columns, [
            ('cosine of class means in the features', _table(each, 'features')),
            (f'share of the pixels of each class of {i} that lie nearest to a label embedding of '
             f'{j}', _table(each, 'shares'))], mutual(each), each.has_collapsed)


def _table(each: Correspondence, measure: str) -> list[list[float | None]]:
    return [[None if np.isnan(value) else value for value in row]
            for row in getattr(each, measure).tolist()]


def colour_of(domain: Domain, index: int) -> str:
    """Return the colour of a class as CSS has it."""
    return 'rgb({},{},{})'.format(*domain.palette[index])
