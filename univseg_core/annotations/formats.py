"""The formats of annotation tools by name: how each is recognised, read and written."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from univseg_core.annotations import (
    cityscapes_polygons,
    label_studio,
    labelme,
    named_masks,
)
from univseg_core.annotations.ade_full import read_ade_full, recognises_ade_full
from univseg_core.annotations.coco import is_coco, read_coco
from univseg_core.annotations.coco_panoptic import (
    is_coco_panoptic,
    panoptic_of,
    read_coco_panoptic,
)
from univseg_core.annotations.coco_writer import write_coco, write_coco_polygons
from univseg_core.annotations.cvat import is_cvat, read_cvat
from univseg_core.annotations.cvat_writer import write_cvat, write_cvat_polygons
from univseg_core.annotations.fiftyone import FiftyOneFolder
from univseg_core.annotations.label_studio.task_writer import TaskWriter
from univseg_core.annotations.labelme_writer import LabelmeWriter
from univseg_core.annotations.mask_folder import MaskFolder
from univseg_core.annotations.regions import AnnotatedImage
from univseg_core.domains import Domain


class Writer(Protocol):
    """Writes masks for a tool to begin with, into a folder that has the frames in images/."""

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Add a frame's file, its mask (H, W) uint8 (255: void) and its mean confidence, 0..1."""

    def finish(self) -> None:
        """Write what is of all frames."""


Reader = Callable[[Path], Iterable[AnnotatedImage]]


@dataclass(frozen=True)
class Format:
    """
    How annotations are kept by some tool.

    `says` is a line for those who choose. `recognises` tells whether a file or folder is of the
    format, by as little of it as will do; `read` yields its images, and raises AnnotationError,
    which names file and object, for what is wrong with it. `write` returns what writes a domain's
    masks into a folder; where these do not come back pixel by pixel, `read_again` tells what does.
    `whole_of` returns, for a folder of label maps that mean nothing without the list beside it,
    what is to be read instead; None for another folder. Each is None where the format is not read,
    not written, or has no such folder.
    """

    says: str
    recognises: Callable[[Path], bool] | None = None
    read: Reader | None = None
    write: Callable[[Path, Domain], Writer] | None = None
    read_again: Reader | None = None
    whole_of: Callable[[Path], Path | None] | None = None


FORMATS: dict[str, Format] = {
    'masks': Format('index PNGs, and palette PNGs laid out as "Segmentation mask 1.1" of CVAT',
                    write=MaskFolder),
    'labelme': Format("labelme's JSON, one file an image; written as polygons",
                      labelme.recognises, labelme.read, LabelmeWriter, labelme.read),
    'label-studio': Format(
        "Label Studio's tasks: JSON, JSON-MIN, or PNGs beside one of these; written as brushes",
        label_studio.recognises, label_studio.read, TaskWriter),
    'cityscapes': Format("Cityscapes' polygons: …_gtFine_polygons.json, in folders of cities",
                         cityscapes_polygons.recognises, cityscapes_polygons.read),
    'coco': Format('COCO instances, JSON; written as run lengths', is_coco, read_coco,
                   write_coco),
    'coco-polygons': Format('COCO instances, JSON; written as polygons',
                            write=write_coco_polygons, read_again=read_coco),
    'coco-panoptic': Format("COCO's panoptic segmentation, JSON and PNGs of segments' ids",
                            is_coco_panoptic, read_coco_panoptic, whole_of=panoptic_of),
    'cvat': Format('CVAT for images (or video) 1.1, XML; written as masks', is_cvat, read_cvat,
                   write_cvat),
    'cvat-polygons': Format('CVAT for images 1.1, XML; written as polygons',
                            write=write_cvat_polygons, read_again=read_cvat),
    'cvat-masks': Format(
        '"Segmentation mask 1.1" of CVAT: SegmentationClass/ and labelmap.txt',
        named_masks.recognises_cvat_masks, named_masks.read_cvat_masks,
        whole_of=named_masks.cvat_masks_of),
    'voc': Format(
        "SegmentationClass/ of Pascal VOC, or with the class_names.txt of labelme's converter",
        named_masks.recognises_voc, named_masks.read_voc, whole_of=named_masks.voc_of),
    'ade': Format(
        'the scene parsing benchmark of ADE20K: annotations/ and objectInfo150.txt',
        named_masks.recognises_ade, named_masks.read_ade, whole_of=named_masks.ade_of),
    'ade-full': Format(
        "ADE20K's full set: NAME_seg.png with NAME.json or NAME_atr.txt",
        recognises_ade_full, read_ade_full),
    'roboflow-masks': Format(
        '"Semantic Segmentation Masks" of Roboflow: NAME_mask.png and _classes.csv',
        named_masks.recognises_roboflow, named_masks.read_roboflow),
    'fiftyone': Format(
        'ImageSegmentationDirectory of FiftyOne: labels/ and mask_targets.json',
        named_masks.recognises_mask_targets, named_masks.read_mask_targets, FiftyOneFolder,
        whole_of=named_masks.mask_targets_of),
}
"""Each format by its name on the command line."""
