"""
Batch norm: folded into convolutions, or over the crops of all processes.

timm's batch norms hold the activation that follows them (`act`): it stays in all of this.
"""

from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ModuleT = TypeVar('ModuleT', bound=nn.Module)

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""All classes of batch norm: PyTorch's, of which timm's are subclasses."""

SOUND = 1e-3
"""Relative difference of features up to which folding is taken to have gone well."""


def activation_of(norm: nn.Module) -> nn.Module:
    """Return the activation that a batch norm holds, or what changes nothing."""
    return getattr(norm, 'act', nn.Identity())


def fold_batch_norm(module: ModuleT) -> ModuleT:
    """
    Fold each batch norm into the convolution registered right before it; in place.

    The module is in evaluation mode, and its children are registered in the order in which
    they are called. Returns the module.
    """
    previous_name = ''
    previous: nn.Module | None = None
    for name, child in list(module.named_children()):
        if isinstance(previous, nn.Conv2d) and isinstance(
                child, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            setattr(module, previous_name, fuse_conv_bn_eval(previous, child))
            setattr(module, name, activation_of(child))
        else:
            fold_batch_norm(child)
        previous_name, previous = name, child
    return module


def is_folded_soundly(network: nn.Module, folded: nn.Module) -> bool:
    """Return whether a folded copy of a network makes the same of a small image of noise."""
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, got = network(image), folded(image)
    return bool((got - expected).norm() <= SOUND * expected.norm())


def shared_by_devices(module: ModuleT) -> ModuleT:
    """Return a module whose batch norms have the statistics of all processes' GPUs."""
    if any(hasattr(child, 'act') for child in module.modules()
           if isinstance(child, nn.BatchNorm2d)):
        from timm.layers import convert_sync_batchnorm  # PyTorch's would lose the activation
        return convert_sync_batchnorm(module)
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """
    A BatchNorm2d whose training statistics are those of all processes' inputs together.

    PyTorch's own nn.SyncBatchNorm runs on accelerators only.
    """

    # A BatchNorm2d may lack these; the networks' own have them.
    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor
    momentum: float

    @classmethod
    def convert(cls, module: ModuleT) -> ModuleT:
        """Turn every BatchNorm2d of a module into this class, in place; return the module."""
        for child in module.modules():
            if isinstance(child, nn.BatchNorm2d):
                child.__class__ = cls
        return module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, H, W) floats; B may be 0 in some of the processes, not in all."""
        if not self.training:
            return activation_of(self)(super().forward(x))
        y, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased.to(variance), self.momentum)
        return activation_of(self)(y)


class _Normalise(torch.autograd.Function):
    """
    The normalisation by shared statistics, and its gradient.

    Two of PyTorch's functions in it are of no documented interface, batch_norm_update_stats and
    aten's native_batch_norm_backward: tried with PyTorch 2.14. On a CPU, torch.var_mean takes 3
    to 17 times as long as the one, torch.autograd.grad of F.batch_norm 1.2 to 2 times as long as
    the other.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        channels = x.shape[1]
        sums = torch.zeros(2 * channels + 1, dtype=torch.float64)
        sums[-1] = x.numel() / channels
        if x.numel():
            none = torch.zeros_like(weight)  # what is there already; its type is the statistics'
            mean, variance = torch.batch_norm_update_stats(x, none, none.clone(), 1.0)
            mean, variance = mean.double(), variance.double()
            sums[:channels] = sums[-1] * mean
            sums[channels:-1] = sums[-1] * (variance + mean.square())
        distributed.all_reduce(sums)
        count = sums[-1]
        mean = sums[:channels] / count
        variance = (sums[channels:-1] / count - mean.square()).clamp(min=0)
        mean, variance = mean.to(weight), variance.to(weight)
        y = torch.empty_like(x)
        if x.numel():  # PyTorch's own would divide by zero
            y = torch.nn.functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.count = eps, count.item()
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *unused: torch.Tensor
                 ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        x, weight, mean, variance = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = map(torch.zeros_like, (x, weight, weight))
        if x.numel():
            # As for fixed statistics; what the statistics themselves add is subtracted after it.
            # A gradient laid out in memory otherwise than the values takes ten times as long.
            layout = (torch.channels_last if x.is_contiguous(memory_format=torch.channels_last)
                      else torch.contiguous_format)
            grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
                gradient.contiguous(memory_format=layout), x, weight, mean, variance, None, None,
                False, ctx.eps, [True, True, True])
        sums = torch.stack([grad_weight, grad_bias])
        distributed.all_reduce(sums)
        inverse = (variance + ctx.eps).rsqrt()
        # dL/dx = γ/σ·(g − mean(g) − x̂·mean(g·x̂)), with x̂ = (x − μ)/σ.
        slope = -weight * inverse.square() * sums[0] / ctx.count
        offset = -weight * inverse * sums[1] / ctx.count - slope * mean
        shape = (1, -1, 1, 1)
        grad_x.addcmul_(x, slope.view(shape).to(x)).add_(offset.view(shape).to(x))
        return grad_x, grad_weight, grad_bias, None
