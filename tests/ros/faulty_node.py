"""
A segmentation node that goes wrong on demand.

Files in a folder, the first argument, say how: `hold` lets each inference wait until the file is
gone, `fail` lets each raise, `memory` lets it run out of memory where the network sees an image
whose longest side is above the number in the file, and the name of a transition (`on_activate`)
lets that raise, once. With `compute`, it computes until the file is gone. `batch`, when it is
configured, lets it find that images at once are faster, `fail_together` lets each batch raise.
"""

from pathlib import Path
import sys
import time
import weakref

from univseg_core.inference.batches import BatchTimes
from univseg_core.inference.segmenter import Segmenter
from univseg_ros import segmentation_node
from univseg_ros.frame_worker import FrameWorker
from univseg_ros.outputs import DomainOutputs

folder = Path(sys.argv[1])
load, segment = Segmenter.load, Segmenter.__call__
together, measure = Segmenter.segment_together, Segmenter.measure_batches


def load_watched(*arguments, **options):
    segmenter = load(*arguments, **options)
    weakref.finalize(segmenter, print, 'the model is gone', flush=True)
    return segmenter


def segment_faultily(self, image, domains=None, *, confidence=(), **options):
    print(f'segments {domains or list(self.domains)}, confidence of {confidence}', flush=True)
    while (folder / 'compute').exists():
        import torch  # here, as most tests do without
        torch.ones(1500, 1500).mm(torch.ones(1500, 1500))  # in Python, a thread ends easily
    while (folder / 'hold').exists():
        time.sleep(0.005)
    if (folder / 'fail').exists():
        raise RuntimeError('told to fail')
    memory = folder / 'memory'
    seen = max(self.network_size(*image.shape[:2], options.get('inference_size')))
    if memory.exists() and seen > int(memory.read_text()):
        import torch
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')
    return segment(self, image, domains, confidence=confidence, **options)


def segment_faultily_together(self, requests):
    if len(requests) > 1:  # else it is what the other one has called
        print(f'encodes {len(requests)} at once', flush=True)
        if (folder / 'fail_together').exists():
            raise RuntimeError('told to fail')
    return together(self, requests)


def measure_as_told(self, most, *arguments):
    if (folder / 'batch').exists():
        return BatchTimes(most, 1.0, 2.0)
    return measure(self, most, *arguments)


def failing_in(transition, function):
    def fail_once(*arguments, **options):
        result = function(*arguments, **options)
        if (folder / transition).exists():
            (folder / transition).unlink()
            raise RuntimeError(f'{transition} was told to fail')
        return result
    return fail_once


Node = segmentation_node.SegmentationNode
Segmenter.load = load_watched
Segmenter.__call__ = segment_faultily
Segmenter.segment_together = segment_faultily_together
Segmenter.measure_batches = measure_as_told
Node.set_parameters = failing_in('on_configure', Node.set_parameters)
DomainOutputs.announce = failing_in('on_activate', DomainOutputs.announce)
FrameWorker.stop = failing_in('on_deactivate', failing_in('on_shutdown', FrameWorker.stop))
DomainOutputs.close = failing_in('on_cleanup', DomainOutputs.close)
sys.exit(segmentation_node.main([sys.argv[0], *sys.argv[2:]]))
