"""
Measure where the time of a training's steps goes on a CPU, and what else would take less.

    python benchmarks/training_profile.py                        train/camvid_nyuv2.yaml
    python benchmarks/training_profile.py model.encoder=light model.stride=8
    python benchmarks/training_profile.py --ways compiled        which takes a C++ compiler
    python benchmarks/training_profile.py model.encoder=light \
        objective.distillation.teacher=large.univseg --ways      taught by a large model

UNIVSEG_DATA is the folder of the configuration's data sets. It prints three tables, of the first
steps of a training by `univseg train`:

1. Its parts: each has the time in it that is in no other part. The mean over the steps.
2. PyTorch's operators, the largest first, of further steps, which its profiler slows down.
3. Whole steps without the loader, all on the same batch, by ways that take turns: the median, and
   that of the ratios to the same round's step as training takes it.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, ExitStack, nullcontext
import logging
from pathlib import Path
import statistics
import sys
import tempfile
import time
from typing import Any
from unittest import mock

import cv2
from lightning_fabric import Fabric
import torch
import torch.nn.functional as F
from torch.profiler import profile, ProfilerActivity
from univseg_core.batches.stores import ImageStore
from univseg_core.batches.transforms import Augmentation
from univseg_core.errors import UnivsegError
from univseg_core.models import universal
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training import step as step_module
from univseg_core.training import trainer as trainer_module
from univseg_core.training.networks import new_network
from univseg_core.training.optimisation import new_optimizer
from univseg_core.training.processes import new_fabric
from univseg_core.training.run import train
from univseg_core.training.safety import gradient_norm
from univseg_core.training.step import forward_and_backward
from univseg_core.training.teacher import Teacher
from univseg_core.training.trainer import Trainer

WARM_UP, PROFILED = 5, 5
"""Steps before those that are timed, and steps after them whose operators are told."""

ANSWERS = 'teachers: their answers'

PARTS = (
    (Trainer, '_next', 'batch: wait for a worker, or its making but for the next two'),
    (ImageStore, '__getitem__', 'images and labels: from memory, or read and decoded'),
    (Augmentation, '__call__', 'augmentation'),
    (Teacher, 'answers', ANSWERS),
    (UniversalSegmenter, 'features', 'encoder, forward'),
    (UniversalSegmenter, 'forward', 'heads, embedding and upsampling, forward'),
    (step_module, 'total_loss', 'losses, forward'),
    (Fabric, 'backward', 'backward'),
    (trainer_module, 'gradient_norm', 'norm of the gradient'),
    (torch.optim.AdamW, 'step', 'optimiser (AdamW)'),
    (Trainer, '_note', 'log'))
"""What is timed: a method or function, where it is found, and its name in the table."""

REST = 'the rest: counts, statistics, exchange of totals, schedule'

PRESENT, COMPILED = 'present', 'compiled'
WAYS: dict[str, dict[str, Any]] = {
    PRESENT: {},
    'planes': {'layout': torch.contiguous_format},
    'channels_last': {'layout': torch.channels_last},
    'interpolate': {'upsample': True},
    'loop': {'optimizer': {'fused': None, 'foreach': False}},
    'foreach': {'optimizer': {'fused': None, 'foreach': True}},
    'fused': {'optimizer': {'fused': True}},
    'denormals': {'denormals': True},
    'bf16': {'precision': 'bf16-mixed'},
    COMPILED: {'compiled': True}}
"""What a step is taken with, in place of what a training takes, by the name of the way."""


class Clock:
    """Seconds by part: the innermost part that has begun has the time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.seconds: dict[str, float] = {}
        self._now, self._parts, self._since = now, [REST], now()

    def start_anew(self) -> None:
        """Forget what was measured."""
        self.note()
        self.seconds = {}

    def timed(self, function: Callable, part: str) -> Callable:
        """Return a function whose time is that of a part."""
        def timed(*args: Any, **options: Any) -> Any:
            if self._parts[-1] == ANSWERS:  # which has an encoder of its own
                return function(*args, **options)
            self.note()
            self._parts.append(part)
            try:
                return function(*args, **options)
            finally:
                self.note()
                self._parts.pop()
        return timed

    def note(self) -> None:
        """Count the time since the last call for the innermost part."""
        now, part = self._now(), self._parts[-1]
        self.seconds[part] = self.seconds.get(part, 0) + now - self._since
        self._since = now


def main() -> None:
    """Measure everything and print the tables."""
    options = parse()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    logging.disable()
    config = load_config(options.config, [
        *options.settings, 'training.accelerator=cpu', f'training.workers={options.workers}',
        f'training.steps={WARM_UP + options.steps + PROFILED}'])
    print(f'{config.model.encoder}, crops of {config.data.crop_size} pixels, '
          f'{config.training.precision}, PyTorch {torch.__version__}, threads: '
          f'{options.threads}, workers: {options.workers}', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        now = time.process_time if options.cpu_time else time.perf_counter
        seconds, operators, trainer = profiled(config, Path(folder) / 'run', options.steps, now)
        print_parts(seconds)
        print_operators(operators)
        print_ways(measured({PRESENT: step_of(trainer, config), **{
            name: step_of(trainer, config, **WAYS[name]) for name in options.ways}},
            options.rounds))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('settings', nargs='*', metavar='KEY=VALUE',
                        help='settings to be put upon the configuration')
    parser.add_argument('--config', default='train/camvid_nyuv2.yaml',
                        help='(default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='(default: %(default)s)')
    parser.add_argument('--workers', type=int, default=0,
                        help='processes that prepare batches (default: %(default)s)')
    parser.add_argument('--cpu-time', action='store_true',
                        help='tell the CPU time of the parts, which other programs disturb less')
    parser.add_argument('--steps', type=int, default=20,
                        help='that are timed (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=9,
                        help='steps by each way (default: %(default)s)')
    parser.add_argument('--ways', nargs='*', choices=WAYS, metavar='WAY',
                        default=[name for name in WAYS if name not in (PRESENT, COMPILED)],
                        help=f'of {", ".join(WAYS)} (default: all but the last; the narrow '
                             'convolutions of DRN may crash in channels_last)')
    return parser.parse_intermixed_args()


def profiled(config: RunConfig, run: Path, steps: int, now: Callable[[], float]
             ) -> tuple[dict[str, float], list[Any], Trainer]:
    """Train; return the seconds a step by part, the operators' statistics, and who trained."""
    clock, profiler = Clock(now), profile(activities=[ProfilerActivity.CPU])
    found: list[Any] = []
    note = Trainer._note

    def at_end_of_step(trainer: Trainer, step: int, *args: Any) -> None:
        note(trainer, step, *args)
        if step == WARM_UP:
            clock.start_anew()
        if step == WARM_UP + steps:
            clock.note()
            found.append({part: value / steps for part, value in clock.seconds.items()})
            profiler.start()
        if step == WARM_UP + steps + PROFILED:
            profiler.stop()

    with ExitStack() as patched:
        patched.enter_context(mock.patch.object(Trainer, '_note', at_end_of_step))
        patched.enter_context(mock.patch.object(
            Trainer, '_finish', lambda trainer: found.append(trainer) or {}))
        for owner, name, part in PARTS:
            patched.enter_context(mock.patch.object(
                owner, name, clock.timed(getattr(owner, name), part)))
        train(config, run)
    seconds, trainer = found
    return seconds, profiler.key_averages(), trainer


def step_of(trainer: Trainer, config: RunConfig, *, layout: torch.memory_format | None = None,
            upsample: bool = False, optimizer: Mapping[str, Any] | None = None,
            denormals: bool = False, precision: str | None = None,
            compiled: bool = False) -> Callable[[], None]:
    """Return what takes a step with a network of its own, on a batch that is always the same."""
    settings = config.training
    if precision is not None:
        settings = settings.model_copy(update={'precision': precision})
    network = new_network(config, trainer._task.data)
    network.embedding.requires_grad_(trainer._network.embedding.weight.requires_grad)
    for own, learned in zip(network.parameters(), trainer._network.parameters(), strict=True):
        own.data = learned.detach().clone()  # in its layout
    if layout is not None:
        network.to(memory_format=layout)
    of_step = new_optimizer(settings, network)
    for group in of_step.param_groups:
        group.update(optimizer or {})
    if compiled:
        part = network.encoder if not hasattr(network.encoder, 'backbone') else (
            network.encoder.backbone)
        part.compile()
    fabric = new_fabric(settings)
    fabric.launch()
    model, engine_optimizer = fabric.setup(network, of_step)
    pieces = trainer._mixture[0]

    def step() -> None:
        with by_interpolation() if upsample else nullcontext():
            torch.set_flush_denormal(denormals)
            engine_optimizer.zero_grad()
            forward_and_backward(fabric, model, pieces, config.objective, 1, trainer._supervision)
            gradient_norm(network, None)
            engine_optimizer.step()
            torch.set_flush_denormal(False)

    return step


@contextmanager
def by_interpolation() -> Iterator[None]:
    """Let logits be upsampled by F.interpolate, as on other devices than CPUs."""
    def upsample(logits: torch.Tensor, size: tuple[int, int], stride: int) -> torch.Tensor:
        full = F.interpolate(logits, scale_factor=stride, mode='bilinear', align_corners=False)
        return full[..., :size[0], :size[1]]

    with mock.patch.object(universal, 'upsample', upsample):
        yield


def measured(ways: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a step by each way in every round; two more come before them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in progress_bar(range(-2, rounds), 'ways', unit='round'):
        for name, step in ways.items():
            start = time.perf_counter()
            step()
            seconds = time.perf_counter() - start
            if turn == -2 and name == COMPILED:
                print(f'\nThe first step by {name}: {seconds:.0f} s', flush=True)
            if turn >= 0:
                times[name].append(seconds)
    return times


def print_parts(seconds: Mapping[str, float]) -> None:
    """Print the first table."""
    total = sum(seconds.values())
    print('\n| part of a step | ms | % |\n|---|--:|--:|')
    for part in [*(part for _, _, part in PARTS), REST]:
        value = seconds.get(part, 0)
        print(f'| {part} | {1000 * value:.1f} | {100 * value / total:.1f} |')
    print(f'| a step | {1000 * total:.1f} | 100 |', flush=True)


def print_operators(operators: list[Any], most: int = 14) -> None:
    """Print the second table."""
    total = sum(each.self_cpu_time_total for each in operators)
    print('\n| operator | calls a step | % |\n|---|--:|--:|')
    for each in sorted(operators, key=lambda each: -each.self_cpu_time_total)[:most]:
        print(f'| `{each.key}` | {each.count / PROFILED:.0f} '
              f'| {100 * each.self_cpu_time_total / total:.1f} |')


def print_ways(times: Mapping[str, list[float]]) -> None:
    """Print the third table."""
    print('\n| way | ms | ratio |\n|---|--:|--:|')
    for name, values in times.items():
        ratio = statistics.median(
            one / present for one, present in zip(values, times[PRESENT], strict=True))
        print(f'| {name} | {1000 * statistics.median(values):.0f} | {ratio:.3f} |')


if __name__ == '__main__':
    try:
        main()
    except UnivsegError as error:
        sys.exit(f'{Path(__file__).name}: {error}')
