"""The training of one network, step by step."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
import logging
from pathlib import Path
import time

import torch
from univseg_core.batches.curriculum import curriculum
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.faults import FaultCount
from univseg_core.batches.mixture import Batch, MixtureDataset
from univseg_core.batches.transforms import Augmentation
from univseg_core.measuring.evaluation import DomainResult
from univseg_core.method.collapse import CollapseMonitor
from univseg_core.method.losses import LARGE, LOSSES, MEAN
from univseg_core.models.encoders import pretrained_part
from univseg_core.progress import Bar, progress_bar
from univseg_core.reporting.run_log import RunLog
from univseg_core.reporting.run_loggers import RunLoggers
from univseg_core.reporting.run_tables import read_validation
from univseg_core.settings.objective import ObjectiveSection
from univseg_core.training.checkpoint import (
    Beginning,
    CHECKPOINT,
    load_checkpoint,
    read_beginning,
    save_checkpoint,
)
from univseg_core.training.class_balance import class_weights
from univseg_core.training.interrupts import deferred_interrupts, Interrupted, Request
from univseg_core.training.large_model import check_answers, large_teacher
from univseg_core.training.networks import (
    complete_label_embeddings,
    prepared_network,
    renew_label_embeddings,
    renewed_label_embeddings,
    update_label_embeddings,
)
from univseg_core.training.optimisation import new_optimizer, new_scheduler
from univseg_core.training.processes import (
    EngineError,
    gathered,
    gradient_scale,
    others_waiting,
    start_scaling_anew,
)
from univseg_core.training.run_context import RunContext
from univseg_core.training.run_evidence import complete_evidence, renew_evidence
from univseg_core.training.safety import check_loss, gradient_norm
from univseg_core.training.step import (
    forward_and_backward,
    step_totals,
    StepTotals,
    Supervision,
)
from univseg_core.training.teacher import MeanTeacher, Teacher
from univseg_core.training.validation import (
    BEST,
    note_validation,
    summary,
    validate,
    write_results,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """
    What one network is to learn, and where.

    Some domains' `data`, by an `objective`, in so many `steps`; in a `folder` for logs,
    checkpoint, model files, evaluation and pictures. Without `label_embeddings` there are no
    entropies. The weights are those of the model file `start` where it has them, and else as the
    configuration says; `before` is what was measured of that file, to be shown beside the results.
    Whether it is to know its domains in the end, `recognises` says; its figures go to `loggers`,
    too.
    """

    data: Mapping[str, DomainData]
    folder: Path
    objective: ObjectiveSection
    steps: int
    label_embeddings: Mapping[str, torch.Tensor] = field(default_factory=dict)
    start: Path | None = None
    before: Mapping[str, DomainResult] = field(default_factory=dict)
    recognises: bool = False
    loggers: Sequence[str] = ()

    @property
    def checkpoint(self) -> Path:
        """Return where the state of the training is kept."""
        return self.folder / CHECKPOINT


def fit(context: RunContext, task: Task) -> dict[str, DomainResult]:
    """
    Train one network, or go on from its checkpoint; return each domain's validation result.

    Raises TrainingError where the loss is no longer finite, EngineError where processes see
    different checkpoints, and Interrupted, when it has saved its state, where it was asked to
    stop.
    """
    return Trainer(context, task).run()


class Trainer:
    """The training of one network, in one of the processes that share it: `run` tells it all."""

    def __init__(self, context: RunContext, task: Task):
        config, fabric = context.config, context.fabric
        self._context, self._task, self._fabric = context, task, fabric
        self._names = list(task.data)
        self._network = prepared_network(config, task.data, task.label_embeddings, task.start,
                                         fabric, read_beginning(task.checkpoint))
        pretrained = pretrained_part(self._network.encoder) if self._network.began_with else None
        self._optimizer = new_optimizer(config.training, self._network, pretrained)
        self._scheduler = new_scheduler(config.training, self._optimizer, task.steps)
        start_scaling_anew(fabric)
        self._model, self._engine_optimizer = fabric.setup(self._network, self._optimizer)
        self._teacher = MeanTeacher(self._network) if task.objective.mixes else None
        self._averaged = None if self._teacher is None else self._teacher.network
        self._supervision = Supervision(
            class_weights(context, self._names, task.objective.class_balance), self._teachers())
        self._mixture = _mixture(context, self._names, task.objective, task.steps,
                                 self._network.stride)
        self._faults = FaultCount(len({sample.image for d in task.data.values()
                                       for sample in [*d.labelled, *d.unlabelled]}))
        if task.objective.needs_unlabelled:  # these were told when they were found
            self._faults.add(context.stores.faults(task.data))
        self._collapse = CollapseMonitor(config.label_embeddings.centroids)
        self._log: RunLog | None = None  # of the first process alone
        self._miou = ''

    def _teachers(self) -> dict[str, Teacher]:
        teachers: dict[str, Teacher] = {}
        if self._teacher is not None:
            teachers[MEAN] = self._teacher
        objective = self._task.objective
        if objective.large_model is not None:
            teachers[LARGE] = large_teacher(objective.large_model, objective.distillation,
                                            self._task.data, self._network.stride,
                                            self._fabric.device)
        return teachers

    def run(self) -> dict[str, DomainResult]:
        """Train from the checkpoint, or the beginning, to the last step; measure and write."""
        task, fabric, settings = self._task, self._fabric, self._context.config.training
        first = self._resumed_step()
        update_every = self._update_every()
        batches = self._mixture.batches(first, task.steps, self._context.workers,
                                        pin_memory=fabric.device.type == 'cuda')
        fabric.barrier()  # no process writes before all have read
        if fabric.is_global_zero:
            self._log = RunLog(task.folder, first, RunLoggers(
                task.loggers, task.folder, self._context.config.model_dump(mode='json')))
        cut_short = self._is_validation_missing(first)
        self._network.train()
        with deferred_interrupts() as interrupted, closing(batches), progress_bar(
                total=task.steps, initial=first, unit='step', title=task.folder.name,
                smoothing=0.05, dynamic_ncols=True, disable=not fabric.is_global_zero) as bar:
            if cut_short:
                self._validate(first, interrupted)
            for step in range(first + 1, task.steps + 1):
                asked_at = time.monotonic()
                pieces = self._next(batches, step, interrupted)
                taken_at = time.monotonic()
                totals = self._learn(step, pieces, interrupted)
                if update_every and step % update_every == 0:
                    update_label_embeddings(self._context, self._network, self._names)
                self._note(step, totals, taken_at - asked_at, bar)
                interrupted.allow(time.monotonic() - taken_at)
                if step % settings.validate_every == 0 and step < task.steps:
                    self._validate(step, interrupted)
                last = step == task.steps or totals.stop
                if last or step % settings.checkpoint_every == 0:
                    saved_from = time.monotonic()
                    self._save(step)
                    interrupted.allow(time.monotonic() - saved_from)
                if totals.stop:
                    fabric.barrier()  # none ends before the checkpoint is written
                    raise self._interrupted(step, interrupted)
        return self._finish()

    def _next(self, batches: Iterator[list[Batch]], step: int,
              interrupted: Request) -> list[Batch]:
        """Return the pieces of a step, unless an interrupt comes before they do."""
        if self._fabric.world_size > 1:  # all stop after the same step
            return next(batches)
        with self._saved_where_interrupted(step - 1, interrupted):
            return next(batches)

    @contextmanager
    def _saved_where_interrupted(self, step: int, interrupted: Request) -> Iterator[None]:
        """Save the state after a step where an interrupt comes: the block does not change it."""
        try:
            with interrupted.at_once():
                yield
        except Interrupted:
            self._save(step)
            raise self._interrupted(step, interrupted) from None

    def _resumed_step(self) -> int:
        """Return the step that the checkpoint is of, whose state is taken; 0 without one."""
        checkpoint, first = self._task.checkpoint, 0
        if checkpoint.exists():
            first = load_checkpoint(checkpoint, self._network, self._optimizer, self._scheduler,
                                    self._fabric.strategy.precision, self._averaged)
            log.info('%s: going on from step %d of %d', self._task.folder, first,
                     self._task.steps)
        if len(seen := set(gathered(self._fabric, [str(first)]))) > 1:
            raise EngineError(f'{checkpoint}: the processes see different files (steps '
                              f'{", ".join(sorted(seen))}): the run folder must be on one file '
                              'system')
        return first

    def _update_every(self) -> int | None:
        """Return the steps between updates of the label embeddings; None where there is none."""
        section, steps = self._context.config.label_embeddings, self._task.steps
        if section.theta == 1 or not self._task.label_embeddings:
            return None
        every = section.update_every or self._mixture.epoch
        if every > steps:
            log.warning('%s: label_embeddings.theta has no effect: they are updated every %d '
                        'steps, and there are %d; set label_embeddings.update_every',
                        self._task.folder, every, steps)
        return every

    def _learn(self, step: int, pieces: Sequence[Batch], interrupted: Request) -> StepTotals:
        """Take one step, and return what all processes have of it."""
        self._engine_optimizer.zero_grad()
        values = forward_and_backward(self._fabric, self._model, pieces, self._task.objective,
                                      step, self._supervision)
        unreadable = [fault for batch in pieces for fault in batch.faults]
        totals = step_totals(self._fabric, values, interrupted.is_set(), len(unreadable))
        if totals.unreadable:
            for fault in self._faults.add(gathered(self._fabric, unreadable)):
                if self._log:
                    log.warning('%s; another image takes its place', fault)
            self._faults.check()
        where = f'{self._task.folder}, step {step}'
        check_answers(totals.scalars, self._task.objective.large_model, where)
        check_loss(totals.scalars['loss'],
                   gradient_norm(self._network, gradient_scale(self._fabric)),
                   where, self._mixture.files(step - 1))
        self._engine_optimizer.step()
        totals.scalars['learning_rate'] = float(self._scheduler.get_last_lr()[-1])
        self._scheduler.step()
        if self._teacher is not None:
            self._teacher.update(self._network, step)
        return totals

    def _note(self, step: int, totals: StepTotals, waited: float, bar: Bar) -> None:
        """Tell of a step that was taken: the bar, the log, and the warning of a collapse."""
        bar.update()
        for message in self._collapse.add(step, totals.vectors):
            log.warning('%s', message)
        values = totals.scalars | {'data_wait': waited}
        if self._log and (means := self._log.losses(step, values)):
            bar.set_postfix_str(progress(means, self._miou))

    def _is_validation_missing(self, step: int) -> bool:
        """Return whether the validation after a step that was saved has been cut short."""
        due = 0 < step < self._task.steps and (
            step % self._context.config.training.validate_every == 0)
        noted = self._log is not None and any(
            row.step == step for row in read_validation(self._task.folder))
        return due and not self._fabric.broadcast(noted)

    def _validate(self, step: int, interrupted: Request) -> None:
        """Measure the network in training as it would be deployed."""
        config, task = self._context.config, self._task
        renewed = (renewed_label_embeddings(self._context, self._network, self._names)
                   if task.label_embeddings else nullcontext())
        with self._saved_where_interrupted(step, interrupted), renewed:
            measured = validate(self._fabric, config, self._network, task.data,
                                label_embeddings=bool(task.label_embeddings))
            self._miou = summary(measured.results)
            with interrupted.later():
                if self._log:
                    note_validation(self._log, config, self._network, task.data, step,
                                    task.folder, measured)
                    log.info('%s, step %d: %s', task.folder.name, step, self._miou)

    def _save(self, step: int) -> None:
        if self._fabric.is_global_zero:
            save_checkpoint(self._task.checkpoint, step, self._network, self._optimizer,
                            self._scheduler, self._fabric.strategy.precision, self._averaged,
                            Beginning(self._network.began_with, self._network.normalisation))

    def _interrupted(self, step: int, interrupted: Request) -> Interrupted:
        """Tell of an interrupt after a step that is saved; return it."""
        error = Interrupted(interrupted.number)
        if self._log:
            log.warning('Interrupted; step %d is saved (%s). The same command goes on there.',
                        step, error)
        return error

    def _finish(self) -> dict[str, DomainResult]:
        """Measure the network and write what a finished training leaves; return the results."""
        config, task, names = self._context.config, self._task, self._names
        by_labels = bool(task.label_embeddings)
        renew_label_embeddings(self._context, self._network, names, several=by_labels)
        if task.recognises:
            renew_evidence(self._context, self._network, task.data)
        measured = validate(self._fabric, config, self._network, task.data,
                            label_embeddings=by_labels)
        measured = replace(measured, results={
            name: replace(result, before=task.before.get(name))
            for name, result in measured.results.items()})
        with others_waiting(self._fabric):
            if self._log:
                note_validation(self._log, config, self._network, task.data, task.steps,
                                task.folder, measured)
                self._log.close()
                complete_label_embeddings(self._context, task.folder / BEST, names)
                if self._network.evidence is not None:
                    complete_evidence(self._context, task.folder / BEST, task.data)
                write_results(task.folder, config, self._network, task.data, measured)
        return measured.results


def _mixture(context: RunContext, domains: Sequence[str],
             objective: ObjectiveSection, steps: int, stride: int) -> MixtureDataset:
    """Return the stream of some domains' batches, of each of which this process takes a share."""
    config, fabric, stores = context.config, context.fabric, context.stores
    options, accumulate = config.data, config.training.accumulate
    augmentation = Augmentation(options.crop_size, options.scale, options.flip, options.colour)
    stages = curriculum(augmentation, options.curriculum, steps)
    pieces = [fabric.global_rank + fabric.world_size * i for i in range(accumulate)]
    return MixtureDataset(
        {name: stores.labelled[name] for name in domains},
        {name: store for name, store in stores.unlabelled.items() if objective.needs_unlabelled},
        stages, options.labelled_per_domain, options.unlabelled_per_domain,
        config.training.seed, pieces, fabric.world_size * accumulate,
        mix_at=stride if objective.mixes else None)


def progress(means: Mapping[str, float], miou: str) -> str:
    """Return what stands beside the progress bar: losses by term, learning rate, speed, mIoU."""
    terms = ', '.join(f'{loss.short} {means[loss.name]:.3g}' for loss in LOSSES
                      if means.get(loss.name))
    return ' | '.join(filter(None, [
        f'loss {means["loss"]:.3g}: {terms}',
        f'lr {means["learning_rate"]:.1e}', f'{means["images_per_second"]:.0f} images/s', miou]))
