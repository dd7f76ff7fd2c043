"""PNGs that are called as frames are, and that an import has not read: corrected ones, perhaps."""

from collections.abc import Iterable, Set
import filecmp
from functools import partial
from pathlib import Path

from univseg_core.annotations.named_masks import OF_OBJECTS, pictures_below
from univseg_core.datasets.folders import LABEL_SUFFIX, name_key
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.labelling.as_prelabelled import content_of, Prelabels
from univseg_core.labelling.returned_labels import class_colours, LabelDecoder
from univseg_core.machine.resources import in_threads


def unread_maps(folders: Iterable[Path], frames: Iterable[Path], read: Set[Path], aside: Path,
                domain: Domain, progress: bool = True) -> list[Path]:
    """
    Return the PNGs in folders and below that are called as frames are, and are not among `read`.

    `read` are resolved. Copies of the frames are none, nor are masks of objects, masks that are as
    `prelabel` wrote them, and what is below `aside`.
    """
    of_frame: dict[str, list[Path]] = {}
    for frame in frames:
        of_frame.setdefault(name_key(frame), []).append(frame)
    left_out = aside.resolve()
    found: dict[Path, Path] = {}
    for folder in folders:
        for path in pictures_below(folder):
            if (path.suffix.lower() == LABEL_SUFFIX and name_key(path) in of_frame
                    and OF_OBJECTS.isdisjoint(path.relative_to(folder).parts)):
                found.setdefault(path.resolve(), path)
    paths = [path for resolved, path in found.items()
             if resolved not in read and left_out not in resolved.parents]
    decoder, prelabels = LabelDecoder(domain, class_colours(domain)), Prelabels()
    known = partial(_is_known, of_frame=of_frame, decoder=decoder, prelabels=prelabels)
    are_known = in_threads(known, paths, 'look at other PNGs', progress and bool(paths))
    return [path for path, is_known in zip(paths, are_known, strict=True) if not is_known]


def _is_known(path: Path, of_frame: dict[str, list[Path]], decoder: LabelDecoder,
              prelabels: Prelabels) -> bool:
    """Return whether a PNG is a copy of its frame, or a mask as `prelabel` wrote it."""
    frames = of_frame[name_key(path)]
    if any(filecmp.cmp(path, frame) for frame in frames):  # a link costs no reading
        return True
    if prelabels.folder_of(path) is None:
        return False
    try:
        content = content_of(decoder.read(path), decoder.domain.classes)
    except UnivsegError:
        return False
    return prelabels.has(path, frames[0], content)
