"""`univseg benchmark`: what models cost on this machine."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
import logging
import os
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING

from univseg_core.commands.options import Command, model_file, number, size, whole
from univseg_core.commands.output import report
from univseg_core.errors import UnivsegError

if TYPE_CHECKING:
    from univseg_core.benchmarking.rows import Candidate

ENCODERS = ('light', 'efficientnet_lite0')
"""Those that are measured, with random weights, where no model is named."""

EXAMPLES = """examples:
  univseg benchmark                                 encoders with random weights, to choose one
  univseg benchmark yard.univseg yard.onnx yard_int8.onnx       what exporting a model brings
  univseg benchmark yard.onnx --threads 1 2 4 --size 320x240 480x360
  univseg benchmark yard.onnx --image 640x480 --domains all     as the robot's camera sends
  univseg benchmark --peers                         beside networks of torchvision and smp
  univseg benchmark yard.onnx --json --out yard.md --plot yard.png

A row is a model, a backend that runs it, a precision, a number of CPU threads and a size at which
the network sees images. Each is measured in a process of its own, in turn: a few frames of each
row in each round. A frame is a whole one: the camera's image in, a mask of its size out. Of it,
"encoder" is the network, "tail" the share of the way from its logits to the mask. "start" is the
time from the process's start to its first mask, "memory" what it has resident. "of the ceiling" is
how near the encoder's multiplications come to the fastest of a large matrix product with the same
threads in the same run; convolutions that save multiplications can be beyond it.
Times are those of this machine as it is: other programs make them longer.
"""

log = logging.getLogger(__name__)


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('benchmark', _benchmark, 'measure what models cost on this machine: frames a '
                  'second, start, memory', EXAMPLES)
    sub.add_argument('paths', nargs='*', type=Path, metavar='MODEL',
                     help='model files, exported ones, folders of finished runs, or demo '
                          f'(default: {" and ".join(ENCODERS)} with random weights, as they are '
                          'and exported)')
    sub.add_argument('--threads', nargs='+', type=whole(1), default=[], metavar='N',
                     help='CPU cores that a row may use (default: 1, and all that there are)')
    sub.add_argument('--size', nargs='+', type=size, default=[], metavar='WIDTHxHEIGHT',
                     help="sizes in pixels at which the network sees images (default: the model's "
                          'own, in the shape of the image)')
    sub.add_argument('--image', type=size, default=(720, 1280), metavar='WIDTHxHEIGHT',
                     help="the camera's images (default: 1280x720)")
    sub.add_argument('--domains', type=_domains, default=1, metavar='N|all',
                     help="how many of the model's domains have a mask made (default: 1)")
    sub.add_argument('--device', default='cpu',
                     help='where the encoder runs: cpu, cuda, cuda:1 … (default: cpu)')
    sub.add_argument('--rounds', type=whole(1), default=7, metavar='N',
                     help='how many turns each row has (default: 7)')
    sub.add_argument('--seconds', type=number(86400, 'seconds, 0 to 86400'), default=60.0,
                     help='how long all turns together take; each has two frames at least '
                          '(default: 60)')
    sub.add_argument('--peers', action='store_true',
                     help='measure networks of torchvision and segmentation-models-pytorch, too, '
                          'exported in the same way')
    sub.add_argument('--out', type=Path, metavar='FILE', help='write the table there, too')
    sub.add_argument('--plot', type=Path, metavar='FILE.png',
                     help='draw frames a second over mIoU, where that of all models is known, or '
                          'else over memory')


def _domains(text: str) -> int | None:
    return None if text == 'all' else whole(1)(text)


def _benchmark(options: argparse.Namespace) -> None:
    from univseg_core.benchmarking.rows import Conditions, measure, Row
    from univseg_core.benchmarking.table import as_markdown
    from univseg_core.files import write_text
    from univseg_core.machine.processors import cpu_name

    if options.plot:
        from univseg_core.reporting.plots.speed import check_plot, draw_speeds
        check_plot(options.plot)
    threads = _threads(options.threads)
    with tempfile.TemporaryDirectory(prefix='univseg-benchmark-') as folder:
        candidates = list(_candidates(options, Path(folder)))
        rows = dict.fromkeys(Row(candidate, count, seen) for candidate in candidates
                             for count in threads for seen in candidate.sizes)
        found = measure(list(rows), Conditions(
            options.image, options.domains, options.device, options.rounds, options.seconds))
    text = as_markdown(found, options.image, options.domains, options.rounds)
    if options.out:
        write_text(options.out, f'{text}\n')
    if options.plot:
        draw_speeds(found.results, options.plot)
    report(options, {'cpu': cpu_name(), 'image': list(options.image), 'domains': options.domains,
                     'rounds': options.rounds, 'rows': [each.to_dict() for each in found.results],
                     'left_out': found.left_out}, text)


def _threads(wanted: Sequence[int]) -> list[int]:
    """Return numbers of threads without repetition, none of them more than there are cores."""
    from univseg_core.machine.processors import cpu_cores

    cores = cpu_cores()
    if not hasattr(os, 'sched_setaffinity'):
        log.warning('this system does not restrict processes to cores: measured with all %d',
                    cores)
        return [cores]
    for count in wanted:
        if count > cores:
            log.warning('--threads %d: this process may run on %d cores: measured with %d', count,
                        cores, cores)
    return list(dict.fromkeys(min(count, cores) for count in wanted or (1, cores)))


def _candidates(options: argparse.Namespace, folder: Path) -> 'Iterator[Candidate]':
    """Yield all that is measured; what is made for that alone is written to a folder."""
    from univseg_core.benchmarking.candidates import of_file

    common = options.size, options.image, options.device
    sizes: set[tuple[int, int]] = set()
    for path, name in _files(options, folder):
        for candidate in of_file(path, name, *common, random=not options.paths):
            sizes.update(candidate.sizes)
            yield candidate
    if options.peers:
        from univseg_core.benchmarking.networks import peer_files
        for path, name, seen in peer_files(sorted(sizes), folder):
            yield from of_file(path, name, [seen], *common[1:], has_heads=False, random=True)


def _files(options: argparse.Namespace, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield files, and what they are called in the table."""
    if options.paths:
        names = Counter(path.resolve().name for path in options.paths)
        for path in options.paths:
            name = path.resolve().name
            yield model_file(path), name if names[name] == 1 else str(path)
        return
    try:
        from univseg_core.benchmarking.networks import new_models
    except ImportError as error:
        raise UnivsegError(f'encoders with random weights need PyTorch, which cannot be imported '
                           f'({error}): pip install torch torchvision timm; or name a MODEL that '
                           '`univseg export` made') from error
    for path in new_models(ENCODERS, options.domains or 2, folder):
        yield path, path.stem
