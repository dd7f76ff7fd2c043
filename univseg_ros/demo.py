"""
The whole product in a few minutes, on data made here: `make demo`.

Two synthetic worlds → one model, trained from a pretrained encoder and measured → the node as a
process, a camera as another, and a switch from outdoor to indoor while the camera streams.
"""

import argparse
from collections.abc import Sequence
import logging
import os
from pathlib import Path
import shutil
import sys
import time

import numpy as np
from univseg_core.demo.scenes.worlds import write_worlds
from univseg_core.files import write_text
from univseg_core.measuring.evaluation import table
from univseg_core.pictures.image_messages import decode
from univseg_core.pictures.images import read_image, write_png
from univseg_core.pictures.overlay import overlay
from univseg_core.pictures.picture_files import image_files
from univseg_core.reporting.panels import panel
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.run import train
from univseg_ros.demo_switch import DemoError, switch_heads, SwitchRecord

TRAIN, VALIDATION, LABELLED = 140, 30, 100
"""Images of each world."""

FRAMES = 20
"""Frames of each world that the camera streams."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 if everything came back as promised."""
    parser = argparse.ArgumentParser(prog='make demo', description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('demo_output'), metavar='DIR',
                        help='folder of data, run, pictures and report.md (default: '
                             'demo_output); what a former demo left there is made anew')
    out = parser.parse_args(arguments).out
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    started = time.monotonic()
    for part in ('worlds', 'run', 'alone', 'frames', 'pictures'):
        shutil.rmtree(out / part, ignore_errors=True)

    heading(1, 'two synthetic worlds, few labels')
    write_worlds(out / 'worlds', train=TRAIN, validation=VALIDATION, labelled=LABELLED)
    os.environ['UNIVSEG_DATA'] = str(out / 'worlds')
    config = load_config('train/scenes.yaml')

    heading(2, 'training: one network for both, from ImageNet weights')
    results = train(config, out / 'run')
    mious = table({'**the universal model**, one for both': [
        result.miou for result in results.values()]}, list(results))

    heading(3, 'the node, a camera, and a switch while it streams')
    worlds = choose_frames(config, out / 'frames')
    try:
        seen = switch_heads(out / 'run' / 'model.univseg', out / 'frames')
        report = f'{mious}\n\n{seen.check(out / "run" / "model.univseg")}'
    except DemoError as error:
        print(f'{mious}\n\nThe demo failed: {error}', file=sys.stderr)
        return 1
    pictures(out, config, seen, worlds)
    write_text(out / 'report.md', report + '\n')

    heading(4, f'done in {time.monotonic() - started:.0f} s')
    print(f'{report}\n\nPictures: {out / "pictures"}\nModel:    {out / "run/model.univseg"}')
    return 0


def heading(number: int, text: str) -> None:
    """Print what comes next."""
    print(f'\n── {number}. {text} ' + '─' * max(0, 76 - len(text)), flush=True)


def choose_frames(config: RunConfig, folder: Path) -> dict[bytes, str]:
    """Copy validation images of both worlds into one folder; map their pixels to their world."""
    worlds = {}
    folder.mkdir(parents=True)
    for name, section in config.domains.items():
        assert section.validation is not None  # as the demo's configuration has them
        for path in image_files(section.validation.images)[:FRAMES]:
            # Sorted by name, the two worlds take turns.
            shutil.copy(path, folder / f'{path.stem}_{name}{path.suffix}')
            worlds[read_image(path).tobytes()] = name
    return worlds


def pictures(out: Path, config: RunConfig, seen: SwitchRecord, worlds: dict[bytes, str]) -> None:
    """Put the validation panels, and masks that came back over ROS, into one folder."""
    (out / 'pictures').mkdir()
    shutil.copy(out / 'run' / 'curves.png', out / 'pictures')
    for name in config.domains:
        domain = config.domain(name)
        shutil.copy(out / 'run' / f'{name}.png', out / 'pictures')
        rows: list[list[np.ndarray]] = []
        for stamp, mask in seen.masks[name].items():
            image = decode(seen.images[stamp])
            if worlds[image.tobytes()] == name and len(rows) < 4:
                rows.append([image, overlay(image, decode(mask)[..., 0], domain)])
        write_png(out / 'pictures' / f'ros_{name}.png',
                  panel(rows, ['camera image', f'{name} mask over ROS'], domain))


if __name__ == '__main__':
    sys.exit(main())
