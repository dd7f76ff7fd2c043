"""
The training of the universal model.

`train` reads top to bottom: data → label embeddings (each domain's supervised-only network,
then its class means) → the joint training → the model file and its evaluation.
"""

from collections.abc import Mapping
import difflib
import json
import logging
import math
from pathlib import Path

from lightning.fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file
import torch
from tqdm import tqdm
from univseg_core.checkpoint import load_checkpoint, save_checkpoint
from univseg_core.config import dump_config, ObjectiveSection, RunConfig
from univseg_core.data.dataset import check_files, DomainData, load_data
from univseg_core.data.mixture import Batch, MixtureDataset
from univseg_core.data.splits import split_hash, write_splits
from univseg_core.data.transforms import Augmentation
from univseg_core.errors import UnivsegError
from univseg_core.evaluation import DomainResult, evaluate, report
from univseg_core.figures import validation_panel
from univseg_core.files import save_tensors, write_text
from univseg_core.images import write_png
from univseg_core.inference import Segmenter
from univseg_core.interrupts import deferred_interrupts
from univseg_core.label_embeddings import absent_classes, compute_label_embeddings
from univseg_core.models.model_file import load_model, ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.objectives import entropy_terms, Losses, total_loss, valid_cells
from univseg_core.run_log import RunLog

SUPERVISED_ONLY = ObjectiveSection(alpha=0, beta=0)

log = logging.getLogger(__name__)


class TrainingError(UnivsegError):
    """A training that cannot start or go on."""


def train(config: RunConfig, run: Path) -> dict[str, DomainResult]:
    """
    Train the universal model of a configuration in the folder `run`, or go on there.

    The folder gets config.yaml, splits.json, label_embeddings.safetensors, supervised/DOMAIN/,
    log.csv, validation.csv, checkpoint.safetensors, and at the end model.univseg,
    evaluation.json and one panel of pictures a domain. Returns each domain's validation result.

    Raises TrainingError where the folder holds a run with other settings or the loss is no
    longer finite, DataError and ImageError for files that are not as they should be.
    """
    data = load_data(config)
    check_files(data)
    new_fabric(config)
    claim_run_folder(run, config)
    write_splits(run / 'splits.json', {name: d.labelled for name, d in data.items()},
                 {name: d.unlabelled for name, d in data.items()})
    for name, d in data.items():
        log.info('%s: %d classes, %d labelled, %d unlabelled, %d validation images', name,
                 len(d.domain.classes), len(d.labelled), len(d.unlabelled), len(d.validation))
    embeddings = {}
    if config.objective.alpha or config.objective.beta:
        embeddings = label_embeddings_of_run(config, data, run)
    return fit(config, data, run, config.objective, config.training.steps, embeddings)


def claim_run_folder(run: Path, config: RunConfig) -> None:
    """Write config.yaml into a new run folder; refuse one that holds another run's."""
    path, text = run / 'config.yaml', dump_config(config)
    if not path.exists():
        write_text(path, text)
    elif (old := path.read_text(encoding='utf-8')) != text:
        changes = [line for line in difflib.ndiff(old.splitlines(), text.splitlines())
                   if line[0] in '+-']
        raise TrainingError(f'{run} holds a run with other settings (- old, + new):\n  '
                            + '\n  '.join(changes) + '\nName another --run folder.')


def label_embeddings_of_run(config: RunConfig, data: Mapping[str, DomainData],
                            run: Path) -> dict[str, torch.Tensor]:
    """Return every domain's label embeddings (C, D), from the run folder or made now."""
    path = run / 'label_embeddings.safetensors'
    if path.exists():
        try:
            return load_file(path)
        except SafetensorError as error:
            raise TrainingError(f'{path}: damaged ({error}); remove it to make it again') from None
    embeddings = {}
    for name, domain_data in data.items():
        log.info('%s: supervised-only network for the label embeddings', name)
        steps = config.label_embeddings.pretrain_steps
        folder = run / 'supervised' / name
        fit(config, {name: domain_data}, folder, SUPERVISED_ONLY, steps, {})
        network, _ = load_model(folder / 'model.univseg')
        labelled = domain_data.store(domain_data.labelled, config.data.image_size)
        embeddings[name] = compute_label_embeddings(
            network, domain_data.domain, (labelled[i] for i in range(len(labelled))))
        for absent in absent_classes(embeddings[name], domain_data.domain):
            log.warning('%s: no labelled image shows %s: it has no label embedding and is left '
                        'out of the similarity', name, absent)
    save_tensors(path, embeddings)
    return embeddings


def fit(config: RunConfig, data: Mapping[str, DomainData], folder: Path,
        objective: ObjectiveSection, steps: int, label_embeddings: Mapping[str, torch.Tensor]
        ) -> dict[str, DomainResult]:
    """
    Train one network on some domains for `steps` steps, or go on from its checkpoint.

    Without label embeddings there are no unsupervised terms, and no unlabelled images in a
    batch. Writes the folder's logs, checkpoint, model file, evaluation and pictures.
    """
    settings = config.training
    fabric = new_fabric(config)
    network = _new_network(config, data, label_embeddings)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate,
                                  weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=steps, cycle_momentum=False)
    model, fabric_optimizer = fabric.setup(network, optimizer)
    checkpoint = folder / 'checkpoint.safetensors'
    first = 0
    if checkpoint.exists():
        first = load_checkpoint(checkpoint, network, optimizer, scheduler)
        log.info('%s: going on from step %d of %d', folder, first, steps)
    run_log = RunLog(folder, first)
    validation = {name: d.validation for name, d in data.items()}
    batches = _mixture(config, data, unlabelled=bool(label_embeddings)).batches(
        first, steps, settings.workers)

    network.train()
    with deferred_interrupts() as interrupted, tqdm(
            total=steps, initial=first, unit='step', desc=folder.name, smoothing=0.05,
            dynamic_ncols=True) as bar:
        for step, batch in enumerate(batches, first + 1):
            losses, norm = batch_losses(model, batch, objective, step, fabric.device)
            fabric_optimizer.zero_grad(set_to_none=True)
            fabric.backward(losses.total)
            check_finite(losses.total, network, folder, step, settings.precision)
            fabric_optimizer.step()
            values = {'loss': losses.total, 'supervised': losses.supervised,
                      'cross_entropy': losses.cross, 'within_entropy': losses.within,
                      'embedding_norm': norm}
            values = {key: value.item() for key, value in values.items()}
            rate = scheduler.get_last_lr()[0]
            scheduler.step()
            bar.update()
            if means := run_log.losses(step, {**values, 'learning_rate': rate}):
                bar.set_postfix({key: f'{value:.3g}' for key, value in means.items()})
            if step % settings.validate_every == 0 and step < steps:
                results = evaluate(deployed(network, config), validation)
                run_log.validation(step, results)
                bar.write(f'{folder.name}, step {step}: {summary(results)}')
            stop = interrupted.is_set()
            if step % settings.checkpoint_every == 0 or step == steps or stop:
                save_checkpoint(checkpoint, step, network, optimizer, scheduler)
            if stop:
                bar.write(f'Interrupted; step {step} is saved. The same command goes on there.')
                raise KeyboardInterrupt
    segmenter = deployed(network, config)
    results = evaluate(segmenter, validation)
    run_log.validation(steps, results)
    write_results(folder, config, network, segmenter, data, results)
    return results


def new_fabric(config: RunConfig) -> Fabric:
    """Return the engine; TrainingError where its accelerator or precision is not to be had."""
    settings = config.training
    try:
        return Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f'training.accelerator {settings.accelerator!r} with '
                            f'training.precision {settings.precision!r}: {error}') from error


def write_results(folder: Path, config: RunConfig, network: UniversalSegmenter,
                  segmenter: Segmenter, data: Mapping[str, DomainData],
                  results: Mapping[str, DomainResult]) -> None:
    """Write a finished training's model file, evaluation and a panel of pictures a domain."""
    card = ModelCard(
        image_size=config.data.image_size,
        miou={name: result.miou for name, result in results.items()},
        training={'config': config.model_dump(mode='json'),
                  'labelled': {name: split_hash(d.labelled) for name, d in data.items()}})
    save_model(folder / 'model.univseg', network, card)
    write_text(folder / 'evaluation.json', json.dumps(
        {name: result.to_dict() for name, result in results.items()}, indent=1))
    write_text(folder / 'evaluation.md', report(results) + '\n')
    for name, d in data.items():
        write_png(folder / f'{name}.png', validation_panel(segmenter, d.domain, d.validation))
    log.info('%s: %s', folder, summary(results))


def _new_network(config: RunConfig, data: Mapping[str, DomainData],
                 label_embeddings: Mapping[str, torch.Tensor]) -> UniversalSegmenter:
    torch.manual_seed(config.training.seed)
    spec = ModelSpec(config.model.encoder, config.model.width, config.model.embedding_dim)
    network = UniversalSegmenter(spec, [d.domain for d in data.values()])
    for name, vectors in label_embeddings.items():
        network.set_label_embeddings(name, vectors)
    return network


def _mixture(config: RunConfig, data: Mapping[str, DomainData],
             unlabelled: bool) -> MixtureDataset:
    options = config.data
    stores = {name: d.store(d.labelled, options.image_size) for name, d in data.items()}
    unlabelled_stores = {name: d.store(d.unlabelled, options.image_size)
                         for name, d in data.items() if unlabelled and d.unlabelled}
    augmentation = Augmentation(options.crop_size, options.scale, options.flip, options.colour)
    return MixtureDataset(stores, unlabelled_stores, augmentation, options.labelled_per_domain,
                          options.unlabelled_per_domain, config.training.seed)


def batch_losses(model: torch.nn.Module, batch: Batch, objective: ObjectiveSection, step: int,
                 device: torch.device) -> tuple[Losses, torch.Tensor]:
    """Return a batch's losses, and the mean norm of its pixel embeddings (0 without any)."""
    images, targets = batch.images.to(device), batch.targets.to(device)
    logits, embeddings = model(images, batch.labelled, batch.unlabelled)
    cells = valid_cells(targets)
    entropies = entropy_terms(
        embeddings, {name: model.label_embeddings(name) for name in batch.labelled},
        {name: cells[rows] for name, rows in batch.unlabelled.items()})
    rise = min(1.0, step / objective.warmup_steps) if objective.warmup_steps else 1.0
    losses = total_loss(logits, {name: targets[rows] for name, rows in batch.labelled.items()},
                        entropies, rise * objective.alpha, rise * objective.beta)
    norms = [pixels.detach().float().norm(dim=1).mean() for pixels in embeddings.values()]
    return losses, torch.stack(norms).mean() if norms else torch.zeros(())


def check_finite(loss: torch.Tensor, network: torch.nn.Module, folder: Path, step: int,
                 precision: str) -> None:
    """Raise TrainingError where the loss or its gradient is not finite, before it does harm."""
    names = {'loss': loss}
    if precision != '16-mixed':  # there, the gradient scaler expects infinite ones and skips them
        # With an infinite limit nothing is clipped; what remains is the norm.
        names['gradient'] = torch.nn.utils.clip_grad_norm_(network.parameters(), math.inf)
    for name, value in names.items():
        if not math.isfinite(value.item()):
            raise TrainingError(
                f'{folder}: the {name} is {value.item()} at step {step}; the last checkpoint '
                'before it is kept. Lower training.learning_rate, objective.alpha or '
                'objective.beta.')


def deployed(network: UniversalSegmenter, config: RunConfig) -> Segmenter:
    """Return a Segmenter of a network in training, as a robot would run it, in float32."""
    device = str(network.mean.device)
    return Segmenter(network, ModelCard(config.data.image_size), device=device, precision='fp32')


def summary(results: Mapping[str, DomainResult]) -> str:
    """Return the domains' mIoUs and their sum in one line."""
    parts = [f'{name} {100 * result.miou:.1f}' for name, result in results.items()]
    total = 100 * sum(result.miou for result in results.values())
    return f'mIoU % {", ".join(parts)}; sum {total:.1f}'
