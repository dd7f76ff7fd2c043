"""
Several processes that train one network: on one machine's GPUs or CPU cores, or on many machines.

They share each step's batch. Sums over all of them are divided by counts over all of them, so that
a run's losses do not depend on how many there are.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
import torch
from torch import distributed, nn
from univseg_core.config import TrainingSection
from univseg_core.errors import UnivsegError
from univseg_core.evaluation import DomainResult
from univseg_core.models.sync_batch_norm import CpuSyncBatchNorm

Key = TypeVar('Key')


class EngineError(UnivsegError):
    """An accelerator, precision or number of processes that is not to be had."""


def new_fabric(settings: TrainingSection, devices: int = 1, nodes: int = 1) -> Fabric:
    """
    Return the engine for `devices` processes on each of `nodes` machines, not yet launched.

    Raises EngineError where its accelerator or precision is not to be had.
    """
    strategy = 'auto'
    if devices * nodes > 1:
        # The buffers need no broadcast: all processes compute the same batch-norm statistics.
        strategy = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    try:
        return Fabric(accelerator=settings.accelerator, devices=devices, num_nodes=nodes,
                      precision=settings.precision, strategy=strategy)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f'training.accelerator {settings.accelerator!r}, training.precision '
                          f'{settings.precision!r}, {devices} devices: {error}') from error


def processes_here(fabric: Fabric) -> int:
    """Return how many of the training's processes run on this machine."""
    return getattr(fabric.strategy, 'num_processes', 1)


def start_scaling_anew(fabric: Fabric) -> None:
    """Forget the gradient scale of fp16, which an engine keeps from one training to the next."""
    if getattr(fabric.strategy.precision, 'scaler', None) is not None:
        fabric.strategy.precision.scaler = torch.amp.GradScaler(fabric.device.type)


def gradient_scale(fabric: Fabric) -> float | None:
    """Return the factor by which fp16 scales its gradients; None in other precisions."""
    scaler = getattr(fabric.strategy.precision, 'scaler', None)
    return None if scaler is None else scaler.get_scale()


def share_batch_norm(network: nn.Module, fabric: Fabric) -> nn.Module:
    """Return a network whose batch norm has the statistics of all processes' crops."""
    if fabric.world_size == 1:
        return network
    if fabric.device.type == 'cuda':
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return CpuSyncBatchNorm.convert(network)


def gathered(fabric: Fabric, values: list[str]) -> list[str]:
    """Return the strings of all processes, in the order of their ranks."""
    if fabric.world_size == 1:
        return values
    lists: list[list[str]] = [[]] * fabric.world_size
    distributed.all_gather_object(lists, values)
    return [value for each in lists for value in each]


def summed_results(fabric: Fabric,
                   results: Mapping[str, DomainResult]) -> dict[str, DomainResult]:
    """Return the results of all processes' validation images together."""
    if fabric.world_size == 1:
        return dict(results)
    return {name: replace(result, confusion=fabric.all_reduce(
        torch.from_numpy(result.confusion).to(fabric.device), reduce_op='sum').cpu().numpy())
        for name, result in results.items()}


def summed(fabric: Fabric, values: Mapping[Key, torch.Tensor]) -> dict[Key, torch.Tensor]:
    """Return the sums of scalars over all processes, float64 on the CPU; equal in each of them."""
    alone = fabric.world_size == 1
    device = torch.device('cpu') if alone and all(
        value.device.type == 'cpu' for value in values.values()) else fabric.device
    total = torch.stack([value.to(device, torch.float64) for value in values.values()])
    if not alone:
        total = fabric.all_reduce(total, reduce_op='sum')
    return dict(zip(values, total.cpu().unbind(), strict=True))
