"""PNGs that are called as frames are, and that an import has not read: corrected ones, perhaps."""

from collections.abc import Iterable, Set
import filecmp
from pathlib import Path

from univseg_core.annotations.named_masks import OF_OBJECTS, pictures_below
from univseg_core.datasets.folders import LABEL_SUFFIX, name_key
from univseg_core.files.archives import is_archive
from univseg_core.labelling.as_prelabelled import file_hash, Noted, Prelabels
from univseg_core.labelling.label_import import Checked
from univseg_core.machine.resources import in_threads
from univseg_core.pictures.picture_files import is_picture


def unread_maps(folders: Iterable[Path], frames: Iterable[Path], read: Set[Path], aside: Path,
                prelabels: Prelabels, progress: bool = True) -> list[Path]:
    """
    Return the PNGs in folders and below that are called as frames are, and are not among `read`.

    `read` are resolved. Copies of the frames are none, nor are masks of objects, files that are as
    `prelabel` wrote them, links to nothing, and what is below `aside`.
    """
    of_frame: dict[str, list[Path]] = {}
    for frame in frames:
        of_frame.setdefault(name_key(frame), []).append(frame)
    left_out = aside.resolve()
    found: dict[Path, Path] = {}
    for folder in folders:
        for path in pictures_below(folder):
            if (path.suffix.lower() == LABEL_SUFFIX and name_key(path) in of_frame
                    and OF_OBJECTS.isdisjoint(path.relative_to(folder).parts) and path.is_file()):
                found.setdefault(path.resolve(), path)
    others = [(path, of_frame[name_key(path)]) for resolved, path in found.items()
              if resolved not in read and left_out not in resolved.parents]
    jobs = [(path, same, prelabels.noted(path, same[0])) for path, same in others]
    are_known = in_threads(_is_known, jobs, 'look at other PNGs', progress and bool(jobs))
    return [job[0] for job, is_known in zip(jobs, are_known, strict=True) if not is_known]


def unread_archives(checked: Checked) -> list[Path]:
    """
    Return the archives in the folders of prelabels of which nothing is corrected, and below.

    What a tool has exported may be in them.
    """
    folders = sorted({*checked.as_prelabelled.values()}) if checked.none_corrected else []
    return sorted({path for folder in folders for path in folder.rglob('*')
                   if not is_picture(path) and is_archive(path)})


def _is_known(job: tuple[Path, list[Path], Noted | None]) -> bool:
    """Return whether a PNG is a copy of one of its frames, or as `prelabel` noted it."""
    path, frames, noted = job
    try:  # of a link, comparing costs no reading
        return any(filecmp.cmp(path, frame) for frame in frames) or (
            noted is not None and file_hash(path) in noted.files)
    except OSError:
        return False
