"""
Two synthetic worlds with exact labels: a street (`outdoor`) and a room (`indoor`).

Their label spaces differ, but what lies, stands and hangs overhead corresponds: road and floor,
building and wall, sky and ceiling. Colour and location say little about the class; shape, texture
and surroundings do.
"""

from pathlib import Path

import numpy as np
from univseg_core.demo.scenes import indoor, outdoor
from univseg_core.demo.scenes.drawing import render
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.files import write_text
from univseg_core.pictures.images import write_png
from univseg_core.progress import progress_bar

BUILDERS = {'outdoor': outdoor, 'indoor': indoor}

WORLDS = {name: Domain.create(name, builder.CLASSES.keys(), builder.CLASSES.values())
          for name, builder in BUILDERS.items()}
"""The worlds by name, as domains."""

MOST = 1_000_000
"""Scenes of one split that have seeds of their own."""


def render_scene(world: str, seed: int, width: int = 240,
                 height: int = 180) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a picture (height, width, 3) uint8 RGB and its label (height, width) uint8.

    World, seed (0 or more) and size decide every pixel; a seed shows the same scene in any size.
    Every pixel of the label is an index into `WORLDS[world].classes`.

    Raises UnivsegError, a ValueError, where there is no such world.
    """
    if world not in WORLDS:
        raise UnivsegError(f'no world {world!r}: expected one of {", ".join(WORLDS)}')
    rng = np.random.default_rng([list(WORLDS).index(world), seed])
    return render(BUILDERS[world].build(rng), width, height)


def write_worlds(folder: Path, *, train: int, validation: int, width: int = 240,
                 height: int = 180, seed: int = 0, labelled: int | None = None,
                 progress: bool = True) -> None:
    """
    Write both worlds as PNG files, and their class names as FOLDER/WORLD/classes.txt.

    FOLDER/WORLD/train and FOLDER/WORLD/validation get image/000000.png … and label/000000.png …;
    of the `train` images only the first `labelled` (all if None) are there, the others are
    FOLDER/WORLD/unlabelled/image/000000.png … No scene is in two of these, or under two seeds.

    Raises UnivsegError where FOLDER/WORLD is already there, since its images could get mixed
    with older ones, or where a count is too large.
    """
    if max(train, validation) > MOST:
        raise UnivsegError(f'{max(train, validation)} images: expected at most {MOST}')
    labelled = train if labelled is None else min(labelled, train)
    for world in WORLDS:
        if (Path(folder) / world).exists():
            raise UnivsegError(f'{Path(folder) / world} is already there: name another folder')
    for world, domain in WORLDS.items():
        write_text(Path(folder) / world / 'classes.txt', '\n'.join(domain.classes) + '\n')
    first = 2 * MOST * seed
    parts = (('train', first, labelled), ('unlabelled', first + labelled, train - labelled),
             ('validation', first + MOST, validation))
    scenes = [(world, part, start, i) for world in WORLDS for part, start, count in parts
              for i in range(count)]
    for world, part, start, i in progress_bar(scenes, 'scenes', disable=not progress):
        image, label = render_scene(world, start + i, width, height)
        top = Path(folder) / world / part
        write_png(top / 'image' / f'{i:06}.png', image)
        if part != 'unlabelled':
            write_png(top / 'label' / f'{i:06}.png', label)
