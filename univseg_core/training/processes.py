"""
Several processes that train one network: on one machine's GPUs or CPU cores, or on many machines.

They share each step's batch. Sums over all of them are divided by counts over all of them, so that
a run's losses do not depend on how many there are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
import numpy as np
import torch
from torch import distributed
from univseg_core.errors import UnivsegError
from univseg_core.measuring.evaluation import DomainResult
from univseg_core.measuring.recognition import Recognised
from univseg_core.models.batch_norm import CpuSyncBatchNorm, ModuleT, shared_by_devices
from univseg_core.settings.learning import TrainingSection

ALONE = timedelta(days=1)
"""How long the other processes wait for what the first one does alone."""

Key = TypeVar('Key')
Value = TypeVar('Value')


class EngineError(UnivsegError):
    """An accelerator, precision or number of processes that is not to be had."""


def new_fabric(settings: TrainingSection, devices: int = 1, nodes: int = 1) -> Fabric:
    """
    Return the engine for `devices` processes on each of `nodes` machines, not yet launched.

    Raises EngineError where its accelerator or precision is not to be had.
    """
    accelerator = settings.accelerator
    strategy: DDPStrategy | str = 'auto'
    if accelerator == 'auto':  # Fabric's own would take other accelerators, too
        accelerator = 'cuda' if torch.cuda.is_available() else 'cpu'
    if accelerator == 'cpu' and settings.precision == '16-mixed':
        raise EngineError('training.precision 16-mixed needs CUDA: on CPUs, bf16-mixed is what '
                          'saves time')
    if devices * nodes > 1:
        strategy = DDPStrategy(gradient_as_bucket_view=True)
    try:
        return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes,
                      precision=settings.precision, strategy=strategy)
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise EngineError(f'training.accelerator {settings.accelerator!r}, training.precision '
                          f'{settings.precision!r}, {devices} devices: {error}') from error


def processes_here(fabric: Fabric) -> int:
    """Return how many of the training's processes run on this machine."""
    strategy = fabric.strategy
    return strategy.num_processes if isinstance(strategy, DDPStrategy) else 1


@contextmanager
def others_waiting(fabric: Fabric) -> Iterator[None]:
    """
    Let the first process do something alone in the block; the others wait for it, for ALONE.

    An ordinary collective gives up after 10 or 30 minutes, which the label embeddings of a large
    data set can take. Who waits for a process that has gone is told at once.
    """
    if fabric.world_size == 1:
        yield
        return
    group = distributed.new_group(backend='gloo', timeout=ALONE)
    assert isinstance(group, distributed.ProcessGroup)  # as each process is a member
    yield
    distributed.barrier(group)
    distributed.destroy_process_group(group)


def start_scaling_anew(fabric: Fabric) -> None:
    """Forget the gradient scale of fp16, which an engine keeps from one training to the next."""
    precision = fabric.strategy.precision
    if precision.state_dict():
        precision.load_state_dict(torch.amp.GradScaler(fabric.device.type).state_dict())


def gradient_scale(fabric: Fabric) -> float | None:
    """Return the factor by which fp16 scales its gradients; None in other precisions."""
    return fabric.strategy.precision.state_dict().get('scale')


def share_batch_norm(network: ModuleT, fabric: Fabric) -> ModuleT:
    """Return a network whose batch norm has the statistics of all processes' crops."""
    if fabric.world_size == 1:
        return network
    if fabric.device.type == 'cuda':
        return shared_by_devices(network)
    return CpuSyncBatchNorm.convert(network)


def gathered(fabric: Fabric, values: list[Value]) -> list[Value]:
    """Return the values of all processes, in the order of their ranks; they are pickled."""
    if fabric.world_size == 1:
        return values
    lists: list[list[Value]] = [[]] * fabric.world_size
    distributed.all_gather_object(lists, values)
    return [value for each in lists for value in each]


def summed_results(fabric: Fabric,
                   results: Mapping[str, DomainResult]) -> dict[str, DomainResult]:
    """Return the results of all processes' validation images together."""
    if fabric.world_size == 1:
        return dict(results)

    def counted(counts: np.ndarray) -> np.ndarray:
        return _all_reduced(fabric, torch.from_numpy(counts).to(fabric.device)).cpu().numpy()

    def total(result: DomainResult) -> DomainResult:
        return DomainResult(result.domain, counted(result.confusion),
                            result.by_label_embeddings and total(result.by_label_embeddings),
                            result.by_all_label_embeddings
                            and total(result.by_all_label_embeddings),
                            recognised=_in_turn(fabric, result.recognised),
                            entropy=None if result.entropy is None else counted(result.entropy))

    return {name: total(result) for name, result in results.items()}


def _in_turn(fabric: Fabric, recognised: Recognised | None) -> Recognised | None:
    """Return what all processes have recognised; None if they have nothing, which all know."""
    parts = [part for part in gathered(fabric, [recognised]) if part]
    return Recognised.in_turn(parts) if parts else None


def summed(fabric: Fabric, values: Mapping[Key, torch.Tensor]) -> dict[Key, torch.Tensor]:
    """Return the sums of tensors over all processes, float64 on the CPU; equal in each of them."""
    alone = fabric.world_size == 1
    device = torch.device('cpu') if alone and all(
        value.device.type == 'cpu' for value in values.values()) else fabric.device
    total = torch.cat([value.to(device, torch.float64).flatten() for value in values.values()])
    if not alone:
        total = _all_reduced(fabric, total)
    parts = total.cpu().split([value.numel() for value in values.values()])
    return {key: part.view(value.shape)
            for (key, value), part in zip(values.items(), parts, strict=True)}


def _all_reduced(fabric: Fabric, value: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes."""
    total = fabric.all_reduce(value, reduce_op='sum')
    assert isinstance(total, torch.Tensor)
    return total
