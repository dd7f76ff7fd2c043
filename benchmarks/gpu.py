"""
Measure deployed models on a GPU, in less than ten minutes; Markdown tables, and JSON.

    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py --device cpu --quick        # whether it starts, in seconds

Each row is a model with random weights (speed does not depend on them) of two domains, run by
PyTorch as it is (eager), by CUDA graphs, which is what is deployed, or compiled as well; and by
ONNX Runtime with CUDA or TensorRT, where they are installed. What is most worth knowing comes
first; what does not fit into --minutes is left out, and counted.

A frame is an image in memory → the mask of one domain in memory, copies to and from the GPU
included; the encoder's part ends with the features where the runtime has them. Frames are in turn
those of one domain and of both. The start is all up to the first mask: loading, recording,
compiling, building an engine. The ceiling is a large matrix product of the same precision in the
same run, on which the encoder's images, one after the other without waiting, are measured; fp32 is
with TF32, as convolutions have it. The memory is that of the GPU, of all that was taken.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
import json
import math
from pathlib import Path
import platform
import statistics
import tempfile
import time
from unittest.mock import patch

import numpy as np
import torch
from univseg_core.benchmarking.operations import operations_of
from univseg_core.domains import Domain
from univseg_core.errors import in_one_line
from univseg_core.files import write_text
from univseg_core.inference import on_cuda, torch_backend
from univseg_core.inference.segmenter import load_network, Segmenter
from univseg_core.machine.memory import release_memory
from univseg_core.machine.processors import cpu_name
from univseg_core.models.exported_file import Export, ExportedModel
from univseg_core.models.model_card import ModelCard
from univseg_core.models.universal import ModelSpec, UniversalSegmenter

DOMAINS = [Domain.create('street', [f'class {i}' for i in range(11)]),
           Domain.create('room', [f'class {i}' for i in range(13)])]
ENCODERS = [('efficientnet_lite0', 8), ('efficientnet_lite0', 4), ('light', 8), ('drn_d_22', 8)]
SIZES = [(360, 480), (480, 640), (720, 1280)]
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
TARGETS = {'ONNX Runtime': 'onnx', 'TensorRT': 'tensorrt'}
WARM_UP = 5


@dataclass(frozen=True)
class Case:
    """What is measured: an encoder at a stride on images (height, width), or an exported file."""

    encoder: str
    stride: int
    size: tuple[int, int]
    runtime: str
    precision: str


@dataclass(frozen=True)
class Measured:
    """
    Seconds to the first mask; medians in milliseconds; rates in images a second; shares.

    `memory_mb` and `ceiling` (the encoder's share of it) are None where they cannot be told.
    """

    start_s: float
    frame_ms: float
    both_domains_ms: float
    encoder_ms: float
    encoder_rate: float
    memory_mb: float | None
    ceiling: float | None

    @property
    def cells(self) -> list[str]:
        """Return them as a table shows them."""
        return [f'{self.start_s:.1f}', f'{self.frame_ms:.2f}', f'{1000 / self.frame_ms:.0f}',
                f'{self.encoder_ms:.2f}', f'{self.encoder_rate:.0f}',
                f'{100 * (1 - self.encoder_ms / self.frame_ms):.0f}',
                f'{self.both_domains_ms / self.frame_ms:.2f}',
                '–' if self.memory_mb is None else f'{self.memory_mb:.0f}',
                '–' if self.ceiling is None else f'{100 * self.ceiling:.0f}']


HEADER = ('| encoder | stride | by | precision | start, s | frame, ms | frames a second | '
          'encoder, ms | encoder, images a second | tail, % | two domains × | memory, MB | '
          'of the ceiling, % |\n|---|--:|---|---|' + '--:|' * 9)


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    """Yield all, what is most worth knowing first."""
    if quick:
        yield Case('light', 8, (48, 64), 'eager', 'fp32')
        return
    cuda = device.type == 'cuda'
    precisions = ['fp16', 'bf16', 'fp32'] if cuda else ['fp32', 'bf16']
    for size in SIZES:
        for precision in precisions:
            for encoder in ENCODERS:
                for runtime in ['graphs', 'eager'] if cuda else ['eager']:
                    yield Case(*encoder, size, runtime, precision)
    exported = ['fp16', 'fp32'] if cuda else ['fp32']
    for runtime, sizes in [('ONNX Runtime', SIZES)] + [('TensorRT', SIZES[:1])] * cuda:
        for size in sizes:
            for precision in exported:
                for encoder in ENCODERS:
                    yield Case(*encoder, size, runtime, precision)
    for encoder in ENCODERS:
        yield Case(*encoder, SIZES[0], 'compiled', precisions[0])
    for size in SIZES[1:] if cuda else []:
        for encoder in ENCODERS:
            yield Case(*encoder, size, 'TensorRT', 'fp16')


@cache
def network(encoder: str, stride: int) -> UniversalSegmenter:
    """Return an untrained model."""
    torch.manual_seed(0)
    return UniversalSegmenter(ModelSpec(encoder, 1, 16, stride=stride), DOMAINS).eval()


@cache
def as_onnx(encoder: str, stride: int) -> bytes:
    """Return it for images of any size, as an ONNX model."""
    from univseg_core.exporting.network import encoder_to_onnx

    return encoder_to_onnx(network(encoder, stride), None)


@cache
def flop(encoder: str, stride: int, size: tuple[int, int]) -> float:
    """Return the operations of an encoder pass; a multiplication and an addition are two."""
    found = operations_of(network(encoder, stride), size)
    assert found is not None  # of a network of PyTorch
    return found


def exported(case: Case, folder: Path) -> ExportedModel:
    """Return a model as `univseg export` makes it, but for the comparison with the original."""
    import onnx
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed
    from univseg_core.exporting.graph import in_half

    content, size = as_onnx(case.encoder, case.stride), None
    if case.runtime == 'TensorRT':
        size, model = case.size, onnx.load_model_from_string(content)
        for name, length in zip(('height', 'width'), size, strict=True):
            make_dim_param_fixed(model.graph, name, length)
        content = model.SerializeToString()
    if case.precision == 'fp16':
        content = in_half(content)
    model = network(case.encoder, case.stride)
    return ExportedModel(folder / f'{case.encoder}.onnx', content,
                         Export(TARGETS[case.runtime], case.precision, size), model.spec,
                         model.normalisation, model.encoder.out_channels, model.as_arrays(),
                         dict(model.domains), f'{hash(content):x}')


def load(case: Case, device: str, folder: Path) -> Segmenter:
    """Return the model of a case, ready for its first image."""
    if case.runtime == 'file':
        return Segmenter(*load_network(case.encoder), device=device, backend='onnxruntime')
    if case.runtime in TARGETS:
        return Segmenter(exported(case, folder), ModelCard(), device=device,
                         backend='onnxruntime')
    return Segmenter(network(case.encoder, case.stride), ModelCard(), device=device,
                     precision=case.precision, backend='torch')


@contextmanager
def mode(runtime: str) -> Iterator[None]:
    """Let models that are loaded in the block run without graphs, or compiled as well."""
    plain = torch_backend.folded
    eager = {'eager': math.inf, 'compiled': 1}.get(runtime, 0)  # frames before it is recorded
    with patch.object(on_cuda, 'EAGER_FRAMES', eager), patch.object(
            torch_backend, 'folded', plain if runtime != 'compiled' else
            lambda *arguments: torch.compile(plain(*arguments))):
        yield


def measure(case: Case, device: torch.device, frames: int, ceiling: Callable[[str], float],
            folder: Path) -> Measured:
    """Return what a case takes, after some frames to warm up."""
    image = np.random.default_rng(0).integers(0, 256, (*case.size, 3), np.uint8)
    if case.runtime in TARGETS:
        as_onnx(case.encoder, case.stride)  # which is no part of a robot's start
    release_memory()
    before = free_memory(device)
    begun = time.perf_counter()
    model = load(case, str(device), folder)
    one, both = [next(iter(model.domains))], list(model.domains)
    model(image, one)
    start = time.perf_counter() - begun
    for _ in range(WARM_UP):
        model(image, both)
    times = {'encoder': [], 'frame': [], 'both': []}
    for _ in range(frames):
        for name, run in (('encoder', lambda: model.encode(image)),
                          ('frame', lambda: model(image, one)),
                          ('both', lambda: model(image, both))):
            begun = time.perf_counter()
            run()
            synchronise(device)
            times[name].append(time.perf_counter() - begun)
    memory = None if before is None else (before - free_memory(device)) / 1e6
    begun = time.perf_counter()
    for _ in range(frames):
        model.encode(image)
    synchronise(device)
    rate = frames / (time.perf_counter() - begun)
    share = None
    if case.precision in DTYPES and case.runtime != 'file':
        share = rate * flop(case.encoder, case.stride, case.size) / ceiling(case.precision)
    encoder, frame, both_domains = (1000 * statistics.median(each) for each in times.values())
    return Measured(start, frame, both_domains, encoder, rate, memory, share)


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes of a GPU's memory that nobody has, or None for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == 'cuda' else None


def matrix_product(device: torch.device, precision: str, side: int) -> float:
    """Return the operations a second of a product of two square matrices."""
    one, other = (torch.randn(side, side, device=device, dtype=DTYPES[precision])
                  for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    seconds = []
    for _ in range(7):
        synchronise(device)
        begun = time.perf_counter()
        one @ other
        synchronise(device)
        seconds.append(time.perf_counter() - begun)
    torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * side ** 3 / statistics.median(seconds[2:])


def machine(device: torch.device) -> dict[str, str]:
    """Return what the figures are of."""
    found = {'device': cpu_name() if device.type == 'cpu' else torch.cuda.get_device_name(device),
             'python': platform.python_version(), 'torch': torch.__version__}
    if device.type == 'cuda':
        found |= {'cuda': str(torch.version.cuda), 'cudnn': str(torch.backends.cudnn.version())}
    try:
        import onnxruntime
        found |= {'onnxruntime': onnxruntime.__version__,
                  'providers': ', '.join(onnxruntime.get_available_providers())}
    except ImportError:
        pass
    return found


def main() -> None:
    """Measure what fits into the time, print the tables, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda', help='cuda, cuda:1, cpu (default: '
                                                         '%(default)s)')
    parser.add_argument('--minutes', type=float, default=8,
                        help='after which no further row is begun (default: %(default)s)')
    parser.add_argument('--frames', type=int, default=30,
                        help='of which the median counts (default: %(default)s)')
    parser.add_argument('--files', nargs='+', type=Path, default=[], metavar='FILE',
                        help='what `univseg export` made, measured first: in int8, say')
    parser.add_argument('--quick', action='store_true', help='one small row, to see it start')
    parser.add_argument('--json', type=Path, metavar='FILE', help='written with all figures')
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    device = torch_backend.resolve_device(options.device)
    side = 8192 if device.type == 'cuda' else 256 if options.quick else 2048
    ceiling = cache(lambda precision: matrix_product(device, precision, side))
    about = machine(device)
    print('\n'.join(f'* {key}: {value}' for key, value in about.items()))
    given = [Case(str(path), model.stride, model.only_size or size, 'file', model.precision)
             for path in options.files
             for model in [Segmenter(*load_network(path), device=options.device,
                                     backend='onnxruntime')]
             for size in ([model.only_size] if model.only_size else SIZES)]
    rows, left_out, size = [], 0, None
    with tempfile.TemporaryDirectory() as folder:
        for case in [*given, *cases(device, options.quick)]:
            if time.monotonic() > end:
                left_out += 1
                continue
            if case.size != size:
                size = case.size
                print(f'\n{size[1]}×{size[0]}\n\n{HEADER}')
            row = asdict(case)
            try:
                with mode(case.runtime):
                    measured = measure(case, device, 3 if options.quick else options.frames,
                                       ceiling, Path(folder))
                row |= asdict(measured)
                cells = measured.cells
            # One runtime that is missing, or an operator that it lacks, leaves the others.
            except (ImportError, RuntimeError, MemoryError, ValueError) as error:
                row['error'] = in_one_line(str(error))[:300]
                cells = [row['error']]
            rows.append(row)
            print(f'| {Path(case.encoder).name} | {case.stride} | {case.runtime} | '
                  f'{case.precision} | {" | ".join(cells)} |', flush=True)
    print('\nOf large matrix products: ' + ', '.join(
        f'{ceiling(each) / 1e12:.2f} TFLOP/s in {each}'
        for each in dict.fromkeys(row['precision'] for row in rows) if each in DTYPES))
    if left_out:
        print(f'{left_out} rows were left out after {options.minutes:g} minutes.')
    if options.json:
        write_text(options.json, json.dumps({'machine': about, 'rows': rows}, indent=1))


if __name__ == '__main__':
    main()
