"""The training of one network, step by step."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
import logging
from pathlib import Path
import time

import torch
from tqdm import tqdm
from univseg_core.batches.curriculum import curriculum
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.mixture import FaultCount, MixtureDataset
from univseg_core.batches.transforms import Augmentation
from univseg_core.measuring.evaluation import DomainResult
from univseg_core.method.collapse import CollapseMonitor, perplexities
from univseg_core.method.losses import LOSSES
from univseg_core.models.encoders import pretrained_part
from univseg_core.reporting.run_log import RunLog
from univseg_core.settings.config import ObjectiveSection
from univseg_core.training.checkpoint import load_checkpoint, save_checkpoint
from univseg_core.training.class_balance import class_weights
from univseg_core.training.interrupts import deferred_interrupts
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
    start_scaling_anew,
    summed,
)
from univseg_core.training.safety import check_loss, gradient_norm
from univseg_core.training.setup import Setup
from univseg_core.training.step import forward_and_backward, Supervision
from univseg_core.training.teacher import MeanTeacher
from univseg_core.training.validation import (
    BEST,
    note_validation,
    summary,
    validate,
    write_results,
)

log = logging.getLogger(__name__)


def fit(setup: Setup, data: Mapping[str, DomainData], folder: Path, objective: ObjectiveSection,
        steps: int, label_embeddings: Mapping[str, torch.Tensor], start: Path | None,
        before: Mapping[str, DomainResult]) -> dict[str, DomainResult]:
    """
    Train one network on some domains for `steps` steps, or go on from its checkpoint.

    Without label embeddings there are no entropies. The weights are those of the model file
    `start` where it has them, and else as the configuration says; `before` is what was measured
    of that file, to be shown beside the results. Writes the folder's logs, checkpoint, model
    files, evaluation and pictures.
    """
    config, fabric = setup.config, setup.fabric
    settings = config.training
    network = prepared_network(config, data, label_embeddings, start, fabric)
    pretrained = pretrained_part(network.encoder) if network.began_with else None
    optimizer = new_optimizer(settings, network, pretrained)
    scheduler = new_scheduler(settings, optimizer, steps)
    start_scaling_anew(fabric)
    model, fabric_optimizer = fabric.setup(network, optimizer)
    teacher = MeanTeacher(network) if objective.needs_teacher else None
    averaged = teacher.network if teacher is not None else None
    supervision = Supervision(class_weights(setup, list(data), objective.class_balance), teacher)
    checkpoint = folder / 'checkpoint.safetensors'
    first = 0
    if checkpoint.exists():
        first = load_checkpoint(checkpoint, network, optimizer, scheduler,
                                fabric.strategy.precision, averaged)
        log.info('%s: going on from step %d of %d', folder, first, steps)
    if len(seen := set(gathered(fabric, [str(first)]))) > 1:
        raise EngineError(f'{checkpoint}: the processes see different files (steps '
                          f'{", ".join(sorted(seen))}): the run folder must be on one file system')
    mixture = _mixture(setup, list(data), objective, steps, network.stride)
    updates = config.label_embeddings.theta < 1 and bool(label_embeddings)
    update_every = config.label_embeddings.update_every or mixture.epoch
    if updates and update_every > steps:
        log.warning('%s: label_embeddings.theta has no effect: they are updated every %d steps, '
                    'and there are %d; set label_embeddings.update_every', folder, update_every,
                    steps)
    batches = mixture.batches(first, steps, setup.workers,
                              pin_memory=fabric.device.type == 'cuda')
    faults = FaultCount(len({sample.image for d in data.values()
                             for sample in [*d.labelled, *d.unlabelled]}))
    fabric.barrier()  # no process writes before all have read
    run_log = RunLog(folder, first) if fabric.is_global_zero else None
    collapse = CollapseMonitor(config.label_embeddings.centroids)
    miou = ''

    network.train()
    with deferred_interrupts() as interrupted, tqdm(
            total=steps, initial=first, unit='step', desc=folder.name, smoothing=0.05,
            dynamic_ncols=True, disable=not fabric.is_global_zero) as bar:
        asked_at = time.monotonic()
        for step, pieces in enumerate(batches, first + 1):
            waited = time.monotonic() - asked_at
            fabric_optimizer.zero_grad()
            values = forward_and_backward(fabric, model, pieces, objective, step, supervision)
            unreadable = [fault for batch in pieces for fault in batch.faults]
            values |= {'stop': torch.tensor(interrupted.is_set()),
                       'unreadable': torch.tensor(len(unreadable))}
            totals = summed(fabric, values)
            assignments = {key: value for key, value in totals.items() if value.ndim}
            values = {key: value.item() for key, value in totals.items() if not value.ndim}
            values |= perplexities(assignments)
            stop = values.pop('stop') > 0  # asked of any of the processes
            if values.pop('unreadable'):
                for fault in faults.add(gathered(fabric, unreadable)):
                    if run_log:
                        bar.write(f'{fault}; another image takes its place')
                faults.check()
            check_loss(values['loss'], gradient_norm(network, gradient_scale(fabric)),
                       f'{folder}, step {step}', mixture.files(step - 1))
            fabric_optimizer.step()
            values['learning_rate'] = scheduler.get_last_lr()[-1]
            scheduler.step()
            if teacher is not None:
                teacher.update(network, step)
            bar.update()
            for message in collapse.add(step, assignments):
                bar.clear()
                log.warning('%s', message)
            if updates and step % update_every == 0:
                update_label_embeddings(setup, network, list(data))
            if run_log and (means := run_log.losses(step, values | {'data_wait': waited})):
                bar.set_postfix_str(progress(means, miou))
            if step % settings.validate_every == 0 and step < steps:
                with (renewed_label_embeddings(setup, network, list(data))
                      if label_embeddings else nullcontext()):
                    measured = validate(fabric, config, network, data,
                                        prototypes=bool(label_embeddings))
                    miou = summary(measured.results)
                    if run_log:
                        note_validation(run_log, config, network, data, step, folder, measured)
                        bar.write(f'{folder.name}, step {step}: {miou}')
            if run_log and (step % settings.checkpoint_every == 0 or step == steps or stop):
                save_checkpoint(checkpoint, step, network, optimizer, scheduler,
                                fabric.strategy.precision, averaged)
            if stop:
                fabric.barrier()  # none ends before the checkpoint is written
                if run_log:
                    bar.write(f'Interrupted; step {step} is saved. The same command goes on '
                              'there.')
                raise KeyboardInterrupt
            asked_at = time.monotonic()
    renew_label_embeddings(setup, network, list(data), several=bool(label_embeddings))
    measured = validate(fabric, config, network, data, prototypes=bool(label_embeddings))
    measured = replace(measured, results={
        name: replace(result, before=before.get(name))
        for name, result in measured.results.items()})
    if run_log:
        note_validation(run_log, config, network, data, steps, folder, measured)
        run_log.close()
        complete_label_embeddings(setup, folder / BEST, list(data))
        write_results(folder, config, network, data, measured)
    fabric.barrier()
    return measured.results


def _mixture(setup: Setup, domains: Sequence[str],
             objective: ObjectiveSection, steps: int, stride: int) -> MixtureDataset:
    """Return the stream of some domains' batches, of each of which this process takes a share."""
    config, fabric, stores = setup.config, setup.fabric, setup.stores
    options, accumulate = config.data, config.training.accumulate
    augmentation = Augmentation(options.crop_size, options.scale, options.flip, options.colour)
    stages = curriculum(augmentation, options.curriculum, steps)
    pieces = [fabric.global_rank + fabric.world_size * i for i in range(accumulate)]
    return MixtureDataset(
        {name: stores.labelled[name] for name in domains},
        {name: store for name, store in stores.unlabelled.items() if objective.needs_unlabelled},
        stages, options.labelled_per_domain, options.unlabelled_per_domain,
        config.training.seed, pieces, fabric.world_size * accumulate,
        mix_at=stride if objective.needs_teacher else None)


def progress(means: Mapping[str, float], miou: str) -> str:
    """Return what stands beside the progress bar: losses by term, learning rate, speed, mIoU."""
    terms = ', '.join(f'{loss.short} {means[loss.name]:.3g}' for loss in LOSSES
                      if means.get(loss.name))
    return ' | '.join(filter(None, [
        f'loss {means["loss"]:.3g}: {terms}',
        f'lr {means["learning_rate"]:.1e}', f'{means["images_per_second"]:.0f} images/s', miou]))
