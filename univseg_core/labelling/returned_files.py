"""Which files that come back are of which frame: one label map, or a mask for each class."""

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
import re

import numpy as np
from univseg_core.datasets.folders import name_key
from univseg_core.domains import IGNORE_INDEX
from univseg_core.labelling.frame_names import did_you_mean_frame
from univseg_core.labelling.returned_labels import LabelDecoder
from univseg_core.pictures.images import ImageError
from univseg_core.pictures.label_meaning import VOID

BETWEEN = '[-_. ]'
"""What may stand between the name of a frame and that of a class."""


@dataclass
class ReturnedFiles:
    """
    What came back of a `frame`: label map files, each with the class of which it is a mask.

    The class is None where a file is of all classes. See `Returned`.
    """

    frame: Path
    decoder: LabelDecoder
    files: dict[Path, str | None] = field(default_factory=dict)
    objects: None = None
    thin: tuple[str, ...] = ()
    is_labelled: bool = True

    @property
    def label(self) -> Path:
        """Return the first of the files."""
        return next(iter(self.files))

    @property
    def source(self) -> str:
        """Return what errors call it: the first of the files."""
        return str(self.label)

    @property
    def paths(self) -> Collection[Path]:
        """Return the files."""
        return self.files

    def read(self, height: int, width: int) -> np.ndarray:
        """
        Return the classes (h, w) uint8 of its pixels, 255 where void, at the files' own size.

        Masks are put together: what none of them has painted is void, or the decoder's
        `background`. Raises ImageError as the decoder does, and for a pixel that two classes have.
        """
        if None in self.files.values():
            if len(self.files) > 1:
                raise ImageError(f'{self.label}: the same frame has {list(self.files)[1].name}, '
                                 'too: expected one label map, or a mask for each class')
            return self.decoder.read(self.label)
        whole: np.ndarray | None = None
        for path, name in self.files.items():
            classes = replace(self.decoder, painted=name, background=None).read(path)
            if whole is None:
                whole = np.full_like(classes, IGNORE_INDEX)
            if classes.shape != whole.shape:
                raise ImageError(f'{path}: {classes.shape[1]}×{classes.shape[0]}, but '
                                 f'{self.label.name} is {whole.shape[1]}×{whole.shape[0]}')
            painted = classes != IGNORE_INDEX
            twice = painted & (whole != IGNORE_INDEX) & (whole != classes)
            if twice.any():
                raise ImageError(f'{path}: {twice.sum()} pixels that a mask of another class has '
                                 'as well; one of them is to give way')
            whole[painted] = classes[painted]
        assert whole is not None  # there is one file at least
        if self.decoder.background not in (None, VOID):
            whole[whole == IGNORE_INDEX] = self.decoder.domain.classes.index(
                self.decoder.background)
        return whole


def by_frame(labels: Sequence[Path], of_frame: Mapping[str, Path],
             decoder: LabelDecoder, several: Container[str] = ()) -> list[ReturnedFiles | str]:
    """
    Return what came back by the frames, which `of_frame` has by `name_key`; what is wrong, too.

    A label map has its frame's name, a mask that of its frame, then of its class, and a number if
    there are several: photo.png, or photo-tree.png, photo_grass_2.png. One of a name that
    `several` frames have is of none of them.
    """
    found: dict[str, ReturnedFiles | str] = {}
    for label in labels:
        key = name_key(label)
        names: list[tuple[str, str | None]] = [(key, None)]
        if key not in of_frame:
            names = [*_as_masks(key, decoder.domain.classes)]
        readings = [(frame, name) for frame, name in names if frame in of_frame]
        if len(readings) == 1 and readings[0][0] in several:
            found[f'{key}/'] = (f'{label}: several frames are called {readings[0][0]}, in folders '
                                'of their own')
        elif len(readings) == 1:
            (frame, name), = readings
            each = found.setdefault(frame, ReturnedFiles(of_frame[frame], decoder))
            assert isinstance(each, ReturnedFiles)
            each.files[label] = name
        else:
            # No frame has such a key.
            found[f'{key}/'] = f'{label}: {_wrong(label, names, readings, of_frame)}'
    return list(found.values())


def _as_masks(key: str, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what is left of a file's key, and the class, of each of which it may be a mask."""
    for name in classes:
        words = BETWEEN.join(map(re.escape, name.split()))
        match = re.fullmatch(f'(.+?){BETWEEN}+{words}({BETWEEN}*[0-9]+)?', key, re.IGNORECASE)
        if match:
            yield match[1], name


def _wrong(label: Path, names: Sequence[tuple[str, str | None]],
           readings: Sequence[tuple[str, str | None]], frames: Collection[str]) -> str:
    """Return why a file is that of no frame, or of several."""
    if readings:
        return 'may be the mask of ' + ' or of '.join(f'{name} in {frame}'
                                                      for frame, name in readings)
    hint = f'; is it a mask of {names[0][1]}? Call it FRAME-{names[0][1]}.png' if names else ''
    return f'no frame is called {label.stem}{hint or did_you_mean_frame(name_key(label), frames)}'
