"""What memory a training will need at least, before it takes any."""

from collections import Counter
from collections.abc import Callable, Mapping
import copy

from lightning_fabric import Fabric
import torch
from torch import nn
from univseg_core.batches.curriculum import curriculum
from univseg_core.batches.cut_mix import mixing_groups
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.transforms import Augmentation
from univseg_core.batches.workers import PREFETCH
from univseg_core.machine.resources import available_memory, MOST_WORKERS
from univseg_core.models.batch_norm import BATCH_NORMS
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.pictures.images import fit_size, read_image
from univseg_core.settings.config import RunConfig
from univseg_core.training.networks import new_network
from univseg_core.training.processes import processes_here
from univseg_core.training.safety import TrainingError

PROCESS, WORKER = 2e8, 2e7
"""Bytes that a further process takes for itself at least, and one that prepares batches."""


def check_memory(config: RunConfig, data: Mapping[str, DomainData], fabric: Fabric,
                 teacher: UniversalSegmenter | None = None) -> None:
    """
    Raise TrainingError, with the settings to lower, where a run cannot fit into the memory.

    What its largest step and its largest validation image need at least is counted layer by
    layer, without computing anything, and so are its processes and the large model that is its
    `teacher`; a run that passes may still need more.
    """
    options = config.data
    if fabric.device.type == 'cuda':
        there, sharing, where = torch.cuda.mem_get_info(fabric.device)[0], 1, str(fabric.device)
    else:
        there, sharing, where = available_memory(), processes_here(fabric), 'this machine'

    def check(what: str, need: float, advice: str) -> None:
        if need > there:
            raise TrainingError(f'{what} at least {need / 1e9:.3g} GB of memory, of which '
                                f'{where} has {there / 1e9:.3g} GB: lower {advice}')

    with torch.device('meta'):
        network = new_network(config, data)
    check_batch_norm(config, data, network.encoder, fabric.world_size)
    pieces = fabric.world_size * config.training.accumulate
    check('a step needs', sharing * _need_of_step(config, data, network.encoder, teacher, pieces),
          f'data.crop_size ({options.crop_size}), data.labelled_per_domain '
          f'({options.labelled_per_domain}) or data.unlabelled_per_domain '
          f'({options.unlabelled_per_domain}), or raise training.accumulate '
          f'({config.training.accumulate})')
    for name, d in data.items():
        image = read_image(d.validation[0].image)
        height, width = fit_size(image.shape[0], image.shape[1], options.image_size)
        _, largest = layer_values(network.encoder, height, width)
        check(f'{name}: a validation image of {width}×{height} needs',
              4 * sharing * largest,
              f'data.image_size ({options.image_size or "null"})')
    workers = config.training.workers
    if workers is None:
        workers = MOST_WORKERS if fabric.device.type == 'cuda' else 1
    there, where = available_memory(), 'this machine'
    labelled, unlabelled = _crops_of_step(config, data)
    # 3 bytes of image, 1 of target, 3 of what an unlabelled crop was before it was mixed.
    batch = options.crop_size ** 2 * (
        4 * (labelled + unlabelled) + 3 * unlabelled * config.objective.mixes)
    check('what is prepared of batches needs', batch * processes_here(fabric) / fabric.world_size
          * (1 + PREFETCH * workers),
          f'training.workers ({workers}), data.crop_size ({options.crop_size}), '
          f'data.labelled_per_domain ({options.labelled_per_domain}) or '
          f'data.unlabelled_per_domain ({options.unlabelled_per_domain})')
    processes = processes_here(fabric)
    check('the processes need', PROCESS * (processes - 1) + WORKER * (processes * workers - 1),
          f'--devices ({processes}) or training.workers ({workers})')


def _crops_of_step(config: RunConfig, data: Mapping[str, DomainData]) -> tuple[int, int]:
    """Return how many labelled and unlabelled crops a step has, of all domains."""
    unlabelled = 0
    if config.objective.needs_unlabelled:
        unlabelled = config.data.unlabelled_per_domain * sum(
            bool(d.unlabelled) for d in data.values())
    return len(data) * config.data.labelled_per_domain, unlabelled


def _need_of_step(config: RunConfig, data: Mapping[str, DomainData], encoder: nn.Module,
                  teacher: UniversalSegmenter | None, pieces: int) -> float:
    """Return the bytes that one of the `pieces` of a step needs at least."""
    side, (labelled, unlabelled) = config.data.crop_size, _crops_of_step(config, data)
    value = 2 if config.training.precision.endswith('mixed') else 4  # bytes
    of_crop, _ = layer_values(encoder, side, side)
    logits = config.data.labelled_per_domain * side ** 2 * sum(
        len(d.domain.classes) for d in data.values())
    learning = (labelled + unlabelled) * of_crop * value + 4 * logits
    if teacher is None:
        return learning / pieces
    weights = 4 * sum(each.numel() for each in teacher.parameters())
    _, largest = layer_values(copy.deepcopy(teacher.encoder).to('meta'), side, side)
    answered = unlabelled + labelled * config.objective.distillation.labelled
    # The teacher has answered before the network begins.
    return weights + max(answered * largest * value, learning) / pieces


def check_batch_norm(config: RunConfig, data: Mapping[str, DomainData], encoder: nn.Module,
                     processes: int) -> None:
    """Raise TrainingError where a batch norm would get but one value of a channel."""
    if config.training.encoder_statistics == 'frozen':
        return
    options, training = config.data, config.training
    full = Augmentation(options.crop_size)
    side = min(each.crop_size for each in curriculum(
        full, options.curriculum, training.steps).augmentations)
    if fewest_crops(config, data, processes) == 1 and fewest_cells(encoder, side) == 1:
        raise TrainingError(
            f'of a crop of {side} pixels, {config.model.encoder} comes down to one cell, and '
            'batch norm needs two of all crops that are computed together: raise data.crop_size '
            f'({options.crop_size}) or data.labelled_per_domain '
            f'({options.labelled_per_domain}), or lower training.accumulate '
            f'({training.accumulate})')


def fewest_crops(config: RunConfig, data: Mapping[str, DomainData], processes: int) -> int:
    """Return how many crops are computed together in the smallest piece of any step."""
    options, accumulate, objective = config.data, config.training.accumulate, config.objective
    alone = objective.needs_label_embeddings and config.basis == 'per_domain'
    sizes = [1] * (options.labelled_per_domain * (1 if alone else len(data)))
    if objective.needs_unlabelled and not alone:
        count = options.unlabelled_per_domain
        groups = mixing_groups(count) if objective.mixes else range(count)
        sizes += list(Counter(groups).values()) * sum(bool(d.unlabelled) for d in data.values())
    of = processes * accumulate
    return min(sum(sum(sizes[first + rank::of]) for rank in range(processes))
               for first in range(0, of, processes))


def fewest_cells(encoder: nn.Module, side: int) -> int:
    """Return how many values of a channel the smallest batch norm gets of a square crop."""
    cells = []
    _with_hooks(encoder, side, side, lambda module, inputs, output: cells.append(
        output[0, 0].numel()) if isinstance(module, BATCH_NORMS) else None)
    return min(cells, default=2)


def layer_values(encoder: nn.Module, height: int, width: int) -> tuple[int, int]:
    """
    Return how many values the layers of an encoder on the meta device make of one image.

    Two numbers: those of all convolutions and norms, which a training keeps, and those that the
    largest convolution takes and makes.
    """
    kept, largest = 0, 0

    def count(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal kept, largest
        if not torch.is_tensor(output) or not torch.is_tensor(inputs[0]):
            return
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.LayerNorm, *BATCH_NORMS)):
            kept += output.numel()
        if isinstance(module, nn.Conv2d):
            largest = max(largest, inputs[0].numel() + output.numel())

    _with_hooks(encoder, height, width, count)
    return kept, largest


def _with_hooks(encoder: nn.Module, height: int, width: int, hook: Callable) -> None:
    """Run an encoder on the meta device for one image, and a hook after each of its layers."""
    hooks = [module.register_forward_hook(hook) for module in encoder.modules()
             if not list(module.children()) or hasattr(module, 'act')]
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, 3, height, width, device='meta'))
    finally:
        for each in hooks:
            each.remove()
