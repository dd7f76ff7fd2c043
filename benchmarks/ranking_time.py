"""
Measure what ranking many frames takes: time beside bare inference, and memory as they grow.

    python benchmarks/ranking_time.py MODEL DOMAIN IMAGES --frames 10000 --size 64

time    The images, as often as --times says, each read and encoded, and each read, encoded and
        made a view of that is kept in a file, in turn: the least CPU seconds of each.
memory  So many frames, links to the images by other names, are made views of that are kept, as
        `univseg rank` does, in a process of its own that is killed half way and goes on; then they
        are chosen from. Resident memory after each tenth.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
import resource
import subprocess
import sys
import tempfile
import time

import torch
from univseg_core.benchmarking.frames import resident_memory
from univseg_core.datasets.folders import list_images
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.frame_views import view_frame
from univseg_core.labelling.kept_views import KeptViews
from univseg_core.labelling.ranking import choose_among
from univseg_core.pictures.images import read_image


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('model', type=Path, help='a model file')
    parser.add_argument('domain', help='one of its domains')
    parser.add_argument('images', type=Path, help='a folder of images')
    parser.add_argument('--times', type=int, default=5, help='of time: repetitions')
    parser.add_argument('--most', type=int, default=50, help='of time: images at most')
    parser.add_argument('--frames', type=int, default=10000, help='of memory: frames')
    parser.add_argument('--size', type=int, default=64,
                        help='of memory: the longest side at which they are seen, in pixels')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--views', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.views:
        memory(options)
        return
    times(options)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *sys.argv, '--views', f'{folder}/views.jsonl']
        killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert killed.stdout is not None
        for line in killed.stdout:
            print(line, end='', flush=True)
            if line.startswith('50 %'):
                killed.kill()
        killed.wait()
        print('killed; the same again:', flush=True)
        subprocess.run(command, check=True)


def times(options: argparse.Namespace) -> None:
    """Print the CPU seconds of bare inference and of views."""
    segmenter = Segmenter.load(options.model)
    paths = list_images(options.images)[:options.most]
    least = {'read and encoded': float('inf'), 'views': float('inf')}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.times):
            began = time.process_time()
            for path in paths:
                segmenter.encode(read_image(path))
            encoded = time.process_time()
            with _kept(Path(folder) / f'{i}.jsonl', segmenter, options) as kept:
                for path in paths:
                    kept.add(path, view_frame(segmenter, read_image(path), options.domain))
            least['views'] = min(least['views'], time.process_time() - encoded)
            least['read and encoded'] = min(least['read and encoded'], encoded - began)
    for name, seconds in least.items():
        print(f'{name}: {1000 * seconds / len(paths):.2f} ms of CPU a frame')
    print(f'ratio: {least["views"] / least["read and encoded"]:.3f}', flush=True)


def memory(options: argparse.Namespace) -> None:
    """Print the resident memory as views are made and kept, and then chosen from."""
    segmenter = Segmenter.load(options.model, inference_size=options.size)
    views, made = [], 0
    paths = list(_links(options.views.parent / 'frames', list_images(options.images),
                        options.frames))
    with _kept(options.views, segmenter, options) as kept:
        for i, path in enumerate(paths, 1):
            view = kept.get(path)
            if view is None:
                view, made = view_frame(segmenter, read_image(path), options.domain), made + 1
                kept.add(path, view)
            views.append(view)
            if i % (options.frames // 10) == 0:
                print(f'{100 * i // options.frames} %: {made} made, '
                      f'{resident_memory() / 2**20:.0f} MiB', flush=True)
    began = time.perf_counter()
    chosen = choose_among(views, [], 100)
    print(f'{len(chosen)} chosen in {time.perf_counter() - began:.2f} s; at most '
          f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB; views '
          f'{options.views.stat().st_size / 2**20:.1f} MiB')


def _links(folder: Path, images: list[Path], count: int) -> Iterator[Path]:
    """Yield links to images, as many as are wanted."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        link = folder / f'{i:06}{images[i % len(images)].suffix}'
        if not link.is_symlink():
            link.symlink_to(images[i % len(images)].resolve())
        yield link


def _kept(path: Path, segmenter: Segmenter, options: argparse.Namespace) -> KeptViews:
    return KeptViews(path, {'size': segmenter.inference_size},
                     len(segmenter.domains[options.domain].classes))


if __name__ == '__main__':
    main()
