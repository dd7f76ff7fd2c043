"""Running a model: an image → masks. This is what a robot, or a program of yours, needs."""

from univseg_core.inference.segmenter import Segmentation, Segmenter

__all__ = ['Segmentation', 'Segmenter']
