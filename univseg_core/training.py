"""
The training of the universal model.

`train` reads top to bottom: data → label embeddings (each domain's supervised-only network,
then its class means) → the joint training → the model file and its evaluation.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
import difflib
import fcntl
import json
import logging
import os
from pathlib import Path
import time

from lightning.fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file
import torch
from tqdm import tqdm
from univseg_core.checkpoint import load_checkpoint, save_checkpoint
from univseg_core.config import dump_config, ObjectiveSection, RunConfig
from univseg_core.curves import draw_curves
from univseg_core.data.dataset import check_files, DomainData, load_data
from univseg_core.data.machine import choose_workers
from univseg_core.data.mixture import FaultCount, MixtureDataset
from univseg_core.data.splits import split_hash, write_splits
from univseg_core.data.stores import prepare_stores, Stores
from univseg_core.data.transforms import Augmentation
from univseg_core.evaluation import DomainResult, evaluate, report
from univseg_core.figures import validation_panel
from univseg_core.files import remove_leftovers, write_text
from univseg_core.images import write_png
from univseg_core.inference import Segmenter
from univseg_core.interrupts import deferred_interrupts
from univseg_core.label_embeddings import absent_classes, compute_label_embeddings
from univseg_core.models.encoders import load_pretrained
from univseg_core.models.model_file import load_model, ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.optimisation import new_optimizer, new_scheduler
from univseg_core.processes import (
    EngineError,
    gathered,
    gradient_scale,
    launched,
    new_fabric,
    processes_here,
    share_batch_norm,
    start_scaling_anew,
    summed,
    summed_results,
)
from univseg_core.run_log import RunLog
from univseg_core.safety import check_loss, gradient_norm, memory_advice, TrainingError
from univseg_core.tensor_files import save_tensors
from univseg_core.training_step import forward_and_backward
import yaml

MAY_CHANGE = ('accelerator', 'checkpoint_every', 'workers')
"""Keys of `training` that decide nothing of what is learned."""

SUPERVISED_ONLY = ObjectiveSection(alpha=0, beta=0)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """What all networks of a run are trained with."""

    config: RunConfig
    fabric: Fabric
    stores: Stores
    workers: int


def train(config: RunConfig, run: Path, *, devices: int = 1,
          nodes: int = 1) -> dict[str, DomainResult]:
    """
    Train the universal model of a configuration in the folder `run`, or go on there.

    The folder gets config.yaml, splits.json, label_embeddings.safetensors, supervised/DOMAIN/,
    log.csv, validation.csv, tensorboard/, checkpoint.safetensors, and at the end model.univseg,
    best.univseg, evaluation.json, curves.png and one panel of pictures a domain.

    With more than one of `devices` on this machine, or of `nodes`, this program is started again
    for each further process, and a step's batch is shared among them; what a run learns does not
    depend on their number. Returns each domain's validation result, in all processes.

    Raises TrainingError where the folder holds a run with other settings or the loss is no
    longer finite, DataError and ImageError for files that are not as they should be, EngineError
    for a device that is not there.
    """
    data = load_data(config)
    fabric = new_fabric(config.training, devices, nodes)
    check_shares(config, devices * nodes)
    with ExitStack() as held:
        if fabric.node_rank == fabric.local_rank == 0:
            # Before further processes are started, so that none waits for one that has failed.
            check_files(data)
            if config.label_embeddings.file is not None:
                _foreign_label_embeddings(config, data)
            held.enter_context(claimed_run_folder(run, config))
            write_splits(run / 'splits.json', {name: d.labelled for name, d in data.items()},
                         {name: d.unlabelled for name, d in data.items()})
        held.enter_context(launched(fabric))
        held.enter_context(memory_advice(config, str(run)))
        if not fabric.is_global_zero:
            logging.getLogger('univseg_core').setLevel(logging.ERROR)
        for name, d in data.items():
            log.info('%s: %d classes, %d labelled, %d unlabelled, %d validation images', name,
                     len(d.domain.classes), len(d.labelled), len(d.unlabelled),
                     len(d.validation))
        is_supervised_only = not (config.objective.alpha or config.objective.beta)
        stores = prepare_stores(data, config.data.image_size, unlabelled=not is_supervised_only,
                                processes=processes_here(fabric),
                                progress=fabric.is_global_zero)
        workers = choose_workers(config.training.workers, fabric.device.type == 'cuda',
                                 processes_here(fabric), stores.in_memory)
        setup = Setup(config, fabric, stores, workers)
        embeddings = {} if is_supervised_only else label_embeddings_of_run(setup, data, run)
        return fit(setup, data, run, config.objective, config.training.steps, embeddings)


@contextmanager
def claimed_run_folder(run: Path, config: RunConfig) -> Iterator[None]:
    """
    Hold a run folder: write its config.yaml, and remove what a killed process left half-written.

    Settings that decide nothing of what is learned may differ; config.yaml keeps those of the
    first start. Raises TrainingError where it holds a run with other settings, or one that is
    going on.
    """
    path, text = run / 'config.yaml', dump_config(config)
    if not path.exists():
        write_text(path, text)
    with path.open('r+', encoding='utf-8') as file:
        old, new = _decisive(file.read()), _decisive(text)
        if old != new:
            changes = [line for line in difflib.ndiff(old.splitlines(), new.splitlines())
                       if line[0] in '+-']
            raise TrainingError(
                f'{run} holds a run with other settings (- old, + new):\n  '
                + '\n  '.join(changes) + '\nName another --run folder.')
        try:
            # The kernel lets go of it when the process ends, however it ends. Unlike flock's, this
            # lock is not inherited by forked workers, which may outlive it by some seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                raise BlockingIOError  # another first start has replaced the file meanwhile
        except (BlockingIOError, PermissionError):
            raise TrainingError(f'{run}: another process is training in this folder') from None
        except OSError as error:  # a network file system that has no locks
            log.info('%s: cannot be locked (%s)', run, error.strerror)
        for folder in (run, *run.glob('supervised/*')):
            remove_leftovers(folder)
        yield


def _decisive(text: str) -> str:
    """Return a configuration's YAML without the settings that may change while a run goes on."""
    values = yaml.safe_load(text)
    for key in MAY_CHANGE:
        values['training'].pop(key, None)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def check_shares(config: RunConfig, processes: int) -> None:
    """Raise TrainingError where a step has fewer crops than the pieces that share it."""
    data, pieces = config.data, processes * config.training.accumulate
    is_supervised_only = not (config.objective.alpha or config.objective.beta)
    # The label embeddings come from networks of one domain, whose batches are the smallest.
    alone = not is_supervised_only and config.label_embeddings.file is None
    crops = data.labelled_per_domain * (1 if alone else len(config.domains))
    if crops < pieces:
        raise TrainingError(
            f'{processes} processes × training.accumulate {config.training.accumulate} are '
            f'{pieces} pieces, but a batch has {crops} labelled crops: raise '
            f'data.labelled_per_domain ({data.labelled_per_domain}), or lower the others')


def label_embeddings_of_run(setup: Setup, data: Mapping[str, DomainData],
                            run: Path) -> dict[str, torch.Tensor]:
    """Return every domain's label embeddings (C, D), from a file or made now."""
    config, fabric = setup.config, setup.fabric
    path = run / 'label_embeddings.safetensors'
    made = fabric.broadcast(path.exists())  # what one process sees, all go by
    if not made and config.label_embeddings.file is None:
        steps = config.label_embeddings.pretrain_steps
        for name in data:
            log.info('%s: supervised-only network for the label embeddings', name)
            fit(setup, {name: data[name]}, run / 'supervised' / name, SUPERVISED_ONLY, steps, {})
    if not made and fabric.is_global_zero:
        save_tensors(path, _new_label_embeddings(setup, data, run))
    return fabric.broadcast(_read_label_embeddings(path) if fabric.is_global_zero else {})


def _new_label_embeddings(setup: Setup, data: Mapping[str, DomainData],
                          run: Path) -> dict[str, torch.Tensor]:
    if setup.config.label_embeddings.file is not None:
        return _foreign_label_embeddings(setup.config, data)
    embeddings = {}
    for name, d in data.items():
        network, _ = load_model(run / 'supervised' / name / 'model.univseg')
        network.to(setup.fabric.device)
        labelled = setup.stores.labelled[name]
        embeddings[name] = compute_label_embeddings(
            network, d.domain, (labelled[i] for i in range(len(labelled))))
        for absent in absent_classes(embeddings[name], d.domain):
            log.warning('%s: no labelled image shows %s: it has no label embedding and is left '
                        'out of the similarity', name, absent)
    return embeddings


def _foreign_label_embeddings(config: RunConfig,
                              data: Mapping[str, DomainData]) -> dict[str, torch.Tensor]:
    path, dim = config.label_embeddings.file, config.model.embedding_dim
    embeddings = _read_label_embeddings(path)
    expected = {name: (len(d.domain.classes), dim) for name, d in data.items()}
    found = {name: tuple(value.shape) for name, value in embeddings.items()}
    if found != expected:
        raise TrainingError(f'label_embeddings.file: {path}: expected (classes, dimensions) '
                            f'{expected}, got {found}')
    return embeddings


def _read_label_embeddings(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise TrainingError(f'{path}: damaged ({error}); remove it to make it again') from None


def fit(setup: Setup, data: Mapping[str, DomainData], folder: Path, objective: ObjectiveSection,
        steps: int, label_embeddings: Mapping[str, torch.Tensor]) -> dict[str, DomainResult]:
    """
    Train one network on some domains for `steps` steps, or go on from its checkpoint.

    Without label embeddings there are no unsupervised terms, and no unlabelled images in a
    batch. Writes the folder's logs, checkpoint, model files, evaluation and pictures.
    """
    config, fabric = setup.config, setup.fabric
    settings = config.training
    network = _new_network(config, data, label_embeddings, fabric)
    optimizer = new_optimizer(settings, network)
    scheduler = new_scheduler(settings, optimizer, steps)
    start_scaling_anew(fabric)
    model, fabric_optimizer = fabric.setup(network, optimizer)
    checkpoint = folder / 'checkpoint.safetensors'
    first = 0
    if checkpoint.exists():
        first = load_checkpoint(checkpoint, network, optimizer, scheduler,
                                fabric.strategy.precision)
        log.info('%s: going on from step %d of %d', folder, first, steps)
    if len(seen := set(gathered(fabric, [str(first)]))) > 1:
        raise EngineError(f'{checkpoint}: the processes see different files (steps '
                          f'{", ".join(sorted(seen))}): the run folder must be on one file system')
    mixture = _mixture(setup, list(data), bool(label_embeddings))
    batches = mixture.batches(first, steps, setup.workers,
                              pin_memory=fabric.device.type == 'cuda')
    faults = FaultCount(len({sample.image for d in data.values()
                             for sample in [*d.labelled, *d.unlabelled]}))
    fabric.barrier()  # no process writes before all have read
    run_log = RunLog(folder, first) if fabric.is_global_zero else None
    miou = ''

    network.train()
    with deferred_interrupts() as interrupted, tqdm(
            total=steps, initial=first, unit='step', desc=folder.name, smoothing=0.05,
            dynamic_ncols=True, disable=not fabric.is_global_zero) as bar:
        asked_at = time.monotonic()
        for step, pieces in enumerate(batches, first + 1):
            waited = time.monotonic() - asked_at
            fabric_optimizer.zero_grad()
            values = forward_and_backward(fabric, model, pieces, objective, step)
            unreadable = [fault for batch in pieces for fault in batch.faults]
            values |= {'stop': torch.tensor(interrupted.is_set()),
                       'unreadable': torch.tensor(len(unreadable))}
            values = {key: value.item() for key, value in summed(fabric, values).items()}
            stop = values.pop('stop') > 0  # asked of any of the processes
            if values.pop('unreadable'):
                for fault in faults.add(gathered(fabric, unreadable)):
                    if run_log:
                        bar.write(f'{fault}; another image takes its place')
                faults.check()
            check_loss(values['loss'], gradient_norm(network, gradient_scale(fabric)),
                       f'{folder}, step {step}', mixture.files(step - 1))
            fabric_optimizer.step()
            values['learning_rate'] = scheduler.get_last_lr()[0]
            scheduler.step()
            bar.update()
            if run_log and (means := run_log.losses(step, values | {'data_wait': waited})):
                bar.set_postfix_str(progress(means, miou))
            if step % settings.validate_every == 0 and step < steps:
                results = validate(fabric, config, network, data)
                miou = summary(results)
                if run_log:
                    note_validation(run_log, config, network, data, step, folder, results)
                    bar.write(f'{folder.name}, step {step}: {miou}')
            if run_log and (step % settings.checkpoint_every == 0 or step == steps or stop):
                save_checkpoint(checkpoint, step, network, optimizer, scheduler,
                                fabric.strategy.precision)
            if stop:
                fabric.barrier()  # none ends before the checkpoint is written
                if run_log:
                    bar.write(f'Interrupted; step {step} is saved. The same command goes on '
                              'there.')
                raise KeyboardInterrupt
            asked_at = time.monotonic()
    results = validate(fabric, config, network, data)
    if run_log:
        note_validation(run_log, config, network, data, steps, folder, results)
        run_log.close()
        write_results(folder, config, network, data, results)
    fabric.barrier()
    return results


def _new_network(config: RunConfig, data: Mapping[str, DomainData],
                 label_embeddings: Mapping[str, torch.Tensor],
                 fabric: Fabric) -> UniversalSegmenter:
    torch.manual_seed(config.training.seed)
    spec = ModelSpec(config.model.encoder, config.model.width, config.model.embedding_dim)
    network = UniversalSegmenter(spec, [d.domain for d in data.values()])
    if config.model.pretrained is not None:
        load_pretrained(network.encoder, config.model.pretrained)
    for name, vectors in label_embeddings.items():
        network.set_label_embeddings(name, vectors)
    if not label_embeddings:
        network.embedding.requires_grad_(False)  # nothing learns it
    if fabric.device.type == 'cuda':  # on CPUs, see MixtureDataset
        network.to(memory_format=torch.channels_last)
    return share_batch_norm(network, fabric)


def _mixture(setup: Setup, domains: Sequence[str], unlabelled: bool) -> MixtureDataset:
    """Return the stream of some domains' batches, of each of which this process takes a share."""
    config, fabric, stores = setup.config, setup.fabric, setup.stores
    options, accumulate = config.data, config.training.accumulate
    augmentation = Augmentation(options.crop_size, options.scale, options.flip, options.colour)
    pieces = [fabric.global_rank + fabric.world_size * i for i in range(accumulate)]
    return MixtureDataset(
        {name: stores.labelled[name] for name in domains},
        {name: store for name, store in stores.unlabelled.items() if unlabelled},
        augmentation, options.labelled_per_domain, options.unlabelled_per_domain,
        config.training.seed, pieces, fabric.world_size * accumulate)


def validate(fabric: Fabric, config: RunConfig, network: UniversalSegmenter,
             data: Mapping[str, DomainData]) -> dict[str, DomainResult]:
    """Measure a network in training on the validation images, shared among the processes."""
    share = {name: d.validation[fabric.global_rank::fabric.world_size]
             for name, d in data.items()}
    return summed_results(fabric, evaluate(deployed(network, config), share,
                                           progress=fabric.is_global_zero))


def note_validation(run_log: RunLog, config: RunConfig, network: UniversalSegmenter,
                    data: Mapping[str, DomainData], step: int, folder: Path,
                    results: Mapping[str, DomainResult]) -> None:
    """Log a validation with its pictures, and keep the model if it is the best so far."""
    if run_log.validation(step, results):
        save_model(folder / 'best.univseg', network, model_card(config, data, results))
    segmenter = deployed(network, config)
    for name, d in data.items():
        run_log.pictures(step, name, validation_panel(segmenter, d.domain, d.validation))


def write_results(folder: Path, config: RunConfig, network: UniversalSegmenter,
                  data: Mapping[str, DomainData], results: Mapping[str, DomainResult]) -> None:
    """Write a finished training's model file, evaluation, curves and panels of pictures."""
    save_model(folder / 'model.univseg', network, model_card(config, data, results))
    write_text(folder / 'evaluation.json', json.dumps(
        {name: result.to_dict() for name, result in results.items()}, indent=1))
    write_text(folder / 'evaluation.md', report(results) + '\n')
    segmenter = deployed(network, config)
    for name, d in data.items():
        write_png(folder / f'{name}.png', validation_panel(segmenter, d.domain, d.validation))
    draw_curves(folder)
    log.info('%s: %s', folder, summary(results))


def model_card(config: RunConfig, data: Mapping[str, DomainData],
               results: Mapping[str, DomainResult]) -> ModelCard:
    """Return what a model file says of its making."""
    return ModelCard(
        image_size=config.data.image_size,
        miou={name: result.miou for name, result in results.items()},
        training={'config': config.model_dump(mode='json'),
                  'labelled': {name: split_hash(d.labelled) for name, d in data.items()}})


def deployed(network: UniversalSegmenter, config: RunConfig) -> Segmenter:
    """Return a Segmenter of a network in training, as a robot would run it, in float32."""
    device = str(network.mean.device)
    return Segmenter(network, ModelCard(config.data.image_size), device=device, precision='fp32')


def summary(results: Mapping[str, DomainResult]) -> str:
    """Return the domains' mIoUs and their sum in one line."""
    parts = [f'{name} {100 * result.miou:.1f}' for name, result in results.items()]
    total = 100 * sum(result.miou for result in results.values())
    return f'mIoU % {", ".join(parts)}; sum {total:.1f}'


def progress(means: Mapping[str, float], miou: str) -> str:
    """Return what stands beside the progress bar: losses by term, learning rate, speed, mIoU."""
    return ' | '.join(filter(None, [
        f'loss {means["loss"]:.3g}: supervised {means["supervised"]:.3g}, cross '
        f'{means["cross_entropy"]:.3g}, within {means["within_entropy"]:.3g}',
        f'lr {means["learning_rate"]:.1e}', f'{means["images_per_second"]:.0f} images/s', miou]))
