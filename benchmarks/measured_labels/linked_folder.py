"""Some of a domain's labelled images in a folder of their own, by links, for a run to learn by."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from univseg_core.datasets.folders import Sample


def linked_folder(samples: Iterable[Sample], folder: Path) -> dict[str, Any]:
    """
    Link the images and label maps of samples into FOLDER/image and FOLDER/label.

    Returns the settings by which a domain's labelled images are these, all of them.
    """
    for sample in samples:
        _link(sample.image, folder / 'image' / sample.image.name)
        _link(sample.label, folder / 'label' / f'{sample.image.stem}.png')
    return {'train': {'images': str(folder / 'image'), 'labels': str(folder / 'label')},
            'labelled': None}


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(source.resolve())
