"""What finished runs were measured at, by variant, domain and seed."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from univseg_core.files.records import read_json
from univseg_core.files.yaml_text import read_yaml
from univseg_core.reporting.run_tables import read_losses
from univseg_core.research.plan import ExperimentError, folder_of, is_finished
from univseg_core.research.settings import Experiment
from univseg_core.research.variants import VARIANTS

PAPER = 'evaluation_paper.json'

MEASURES = {
    'standard': ('evaluation.json', None),
    'paper': (PAPER, None),
    'prototypes': ('evaluation.json', 'prototypes'),
}
"""
By name: the file in a run folder and the key below a domain.

The heads on the whole validation set at the label maps' own size; the heads by the protocol of the
paper's code; and the nearest label embedding in place of the head, which files call prototypes.
"""


class Results:
    """
    The figures of an experiment's finished runs below the folder `root`.

    Every file is read once. Raises ExperimentError, as do the methods, for a damaged one.
    """

    def __init__(self, experiment: Experiment, root: Path):
        self._experiment, self._root = experiment, root
        self._files: dict[Path, Mapping[str, Any]] = {}

    def evaluate_by_the_papers_protocol(self) -> None:
        """Measure the models of all finished runs in that way, too, where they have not been."""
        from univseg_core.measuring.evaluation import evaluate, write_evaluation
        from univseg_core.measuring.finished_runs import load_runs

        for *_, folder in self._finished():
            if not (folder / PAPER).is_file():
                (run,) = load_runs([folder])
                results = evaluate(run.segmenter, run.samples, protocol='paper')
                write_evaluation(folder / PAPER, results)

    def _finished(self) -> Iterator[tuple[int | str, int, str, Path]]:
        """Yield N, seed, variant and folder of each finished run."""
        section = self._experiment.section
        for labelled, seed, variant in product(section.labelled, section.seeds, section.variants):
            for domain in self._experiment.domains if VARIANTS[variant].alone else [None]:
                folder = folder_of(self._root, labelled, seed, variant, domain)
                if is_finished(folder):
                    yield labelled, seed, variant, folder

    def miou(self, labelled: int | str, variant: str, domain: str | None = None,
             measure: str = 'standard') -> dict[int, float]:
        """
        Return the mIoU in percent of each seed that has one.

        It is a domain's or, without `domain`, the sum over all, of each seed that has them all.
        """
        if domain is None:
            mious = [self.miou(labelled, variant, name, measure)
                     for name in self._experiment.domains]
            return {seed: sum(miou[seed] for miou in mious)
                    for seed in mious[0] if all(seed in miou for miou in mious)}
        return {seed: 100 * part['miou'] for seed, part in
                self._parts(labelled, variant, domain, measure).items()
                if part['miou'] is not None}

    def differences(self, labelled: int | str, variant: str, other: str,
                    domain: str | None = None) -> dict[int, float]:
        """
        Return by how many points a variant's mIoU is above another's, of each seed that has both.

        That of a domain, or the sum over all. Of one seed, both have the same labelled images.
        """
        mine, its = (self.miou(labelled, name, domain) for name in (variant, other))
        return {seed: value - its[seed] for seed, value in mine.items() if seed in its}

    def runs(self) -> list[dict[str, Any]]:
        """
        Return what each finished run was and came to: a row of plain values for each.

        mIoUs are in percent, by domain, None where the run lacks one; `seconds` is what its steps
        took, without validations, waits for other runs, and the networks that it began with.
        """
        return [{'labelled': labelled, 'seed': seed, 'variant': variant, **self._run(folder)}
                for labelled, seed, variant, folder in self._finished()]

    def _run(self, folder: Path) -> dict[str, Any]:
        parts = self._read(folder / 'evaluation.json')
        losses = read_losses(folder)
        row: dict[str, float | None] = {'steps': None, 'seconds': None}
        if losses:
            config = read_yaml(folder / 'config.yaml')
            steps = config['training']['steps']
            row['steps'] = steps
            row['seconds'] = steps * float(losses['seconds_per_step'].mean())
        for name in self._experiment.domains:
            part = parts.get(name, {})
            for key, measured in (('miou', part), ('prototype_miou', part.get('prototypes', {}))):
                value = measured.get('miou')
                row[f'{key}/{name}'] = None if value is None else 100 * value
        return row

    def iou(self, labelled: int | str, variant: str, domain: str,
            measure: str = 'standard') -> dict[str, list[float]]:
        """
        Return the IoU of each class in percent, of all seeds that have one.

        A class that no truth and no prediction has has none; no run finished: no classes.
        """
        values: dict[str, list[float]] = {}
        for part in self._parts(labelled, variant, domain, measure).values():
            for name, value in part['iou'].items():
                values.setdefault(name, []).extend([] if value is None else [100 * value])
        return values

    def _parts(self, labelled: int | str, variant: str, domain: str,
               measure: str) -> dict[int, Mapping[str, Any]]:
        """Return, of each seed whose run has it, what was measured on a domain."""
        file, key = MEASURES[measure]
        alone = VARIANTS[variant].alone
        parts = {}
        for seed in self._experiment.section.seeds:
            folder = folder_of(self._root, labelled, seed, variant, domain if alone else None)
            if not is_finished(folder) or not (folder / file).is_file():
                continue
            part = self._read(folder / file).get(domain)
            if part is not None and key is not None:
                part = part.get(key)
            if part is not None:
                parts[seed] = part
        return parts

    def _read(self, path: Path) -> Mapping[str, Any]:
        if path not in self._files:
            try:
                values = read_json(path)
                for part in values.values():
                    if isinstance(part, dict):
                        part['miou'], part['iou'].items()
            except (ValueError, LookupError, AttributeError, TypeError) as error:
                raise ExperimentError(f'{path}: damaged: expected the mIoU and IoUs of each '
                                      f'domain ({error!r})') from None
            self._files[path] = values
        return self._files[path]
