"""What memory a training will need at least, before it takes any."""

from collections.abc import Mapping

from lightning_fabric import Fabric
import torch
from torch import nn
from univseg_core.batches.dataset import DomainData
from univseg_core.machine.resources import available_memory
from univseg_core.models.batch_norm import BATCH_NORMS
from univseg_core.pictures.images import fit_size, read_image
from univseg_core.settings.config import RunConfig
from univseg_core.training.networks import new_network
from univseg_core.training.processes import processes_here
from univseg_core.training.safety import TrainingError


def check_memory(config: RunConfig, data: Mapping[str, DomainData], fabric: Fabric) -> None:
    """
    Raise TrainingError, with the settings to lower, where a run cannot fit into the memory.

    What its largest step and its largest validation image need at least is counted layer by
    layer, without computing anything; a run that passes may still need more.
    """
    options = config.data
    if fabric.device.type == 'cuda':
        there, sharing, where = torch.cuda.mem_get_info(fabric.device)[0], 1, str(fabric.device)
    else:
        there, sharing, where = available_memory(), processes_here(fabric), 'this machine'

    def check(what: str, need: float, advice: str) -> None:
        if need > there:
            raise TrainingError(f'{what} needs at least {need / 1e9:.3g} GB of memory, of which '
                                f'{where} has {there / 1e9:.3g} GB: lower {advice}')

    with torch.device('meta'):
        network = new_network(config, data)
    crops = len(data) * options.labelled_per_domain
    if config.objective.needs_unlabelled:
        crops += options.unlabelled_per_domain * sum(bool(d.unlabelled) for d in data.values())
    of_crop, _ = layer_values(network.encoder, options.crop_size, options.crop_size)
    logits = options.labelled_per_domain * options.crop_size ** 2 * sum(
        len(d.domain.classes) for d in data.values())
    share = fabric.world_size * config.training.accumulate
    size = 2 if config.training.precision.endswith('mixed') else 4  # bytes of a value
    check('a step', sharing * (crops * of_crop * size + 4 * logits) / share,
          f'data.crop_size ({options.crop_size}), data.labelled_per_domain '
          f'({options.labelled_per_domain}) or data.unlabelled_per_domain '
          f'({options.unlabelled_per_domain}), or raise training.accumulate '
          f'({config.training.accumulate})')
    for name, d in data.items():
        image = read_image(d.validation[0].image)
        height, width = fit_size(image.shape[0], image.shape[1], options.image_size)
        _, largest = layer_values(network.encoder, height, width)
        check(f'{name}: a validation image of {width}×{height}', 4 * sharing * largest,
              f'data.image_size ({options.image_size or "null"})')


def layer_values(encoder: nn.Module, height: int, width: int) -> tuple[int, int]:
    """
    Return how many values the layers of an encoder on the meta device make of one image.

    That are those of all convolutions and norms, which a training keeps, and those that the
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

    hooks = [module.register_forward_hook(count) for module in encoder.modules()
             if not list(module.children()) or hasattr(module, 'act')]
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, 3, height, width, device='meta'))
    finally:
        for hook in hooks:
            hook.remove()
    return kept, largest
