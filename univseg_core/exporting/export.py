"""An export, top to bottom: network → ONNX → precision → heads → comparison → file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
import logging
from pathlib import Path

import numpy as np
from univseg_core.datasets.folders import Sample
from univseg_core.exporting.comparison import compare, Compared
from univseg_core.exporting.images import readable
from univseg_core.exporting.network import encoder_to_onnx, ExportError
from univseg_core.files import sha256_of
from univseg_core.inference.backends import BACKENDS, build_backend, installed, version_of
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.exported_file import Export, ExportedModel, save_exported
from univseg_core.models.model_card import ModelCard
from univseg_core.models.universal import UniversalSegmenter

RUNTIMES = {'onnx': ('onnxruntime', 'openvino'), 'openvino': ('openvino', 'onnxruntime'),
            'tensorrt': ('onnxruntime',)}
"""
The backends by which an export for each target is compared with its original: the first, which
must be installed, and others that may run the file.
"""

LEAST_EQUAL = {'fp32': 0.999, 'fp16': 0.99, 'int8': 0.95}
"""The share of equal pixels that an export of each precision must have."""

MOST_LOST = 0.01
"""The mIoU (0..1) that one of fp16 or int8 may lose instead, on images with labels."""

FEWEST_FRAMES = 16
"""Images that it takes, at least, to find the ranges of an int8 network."""

TRIED_SIZES = ((33, 65), (97, 131), (200, 330))
"""(height, width) in pixels at which a network for images of any size is tried beforehand."""

ALIKE = 1e-3
"""How far its features may be from the original's there, relative to the largest of these."""

log = logging.getLogger(__name__)


def export_model(model: UniversalSegmenter, card: ModelCard, source: Path, out: Path, *,
                 target: str, precision: str, size: tuple[int, int] | None,
                 samples: Mapping[str, Sequence[Sample]],
                 calibration: Sequence[Sample] = ()) -> Export:
    """
    Export the model of a file and write `out`, once it has been compared with the original.

    `target` and `precision` are one of TARGETS and PRECISIONS; `size` is the (height, width) of
    the only images that it will take, or None for any. `samples` are the images of each domain
    for the comparison, `calibration` those by which int8 finds its ranges. Returns how it was
    exported, with what the comparison found.

    Raises ExportError where a package is missing, the network cannot be exported, calibration
    images are too few, or the masks differ by more than LEAST_EQUAL and MOST_LOST allow: then
    nothing is written.
    """
    runtimes = [each for each in RUNTIMES[target] if each in installed(True)]
    if (first := RUNTIMES[target][0]) not in runtimes:
        raise ExportError(f'an export for {target} is compared with its original by {first}, '
                          f'which is not installed: pip install {BACKENDS[first].pip}')
    for name, files in samples.items():
        if not files:
            raise ExportError(f'{name}: no images to compare with: nothing is written')
    if precision == 'int8' and len(calibration) < FEWEST_FRAMES:
        raise ExportError(f'{len(calibration)} images to calibrate with: expected '
                          f'{FEWEST_FRAMES} or more, of all domains; --calibrate names them, '
                          '--images says how many are taken at most')
    original = Segmenter(model, card, device='cpu', precision='fp32',
                         inference_size=max(size) if size else None)
    log.info('%s: its encoder becomes an ONNX network', source)
    heads = model.as_arrays()
    encoder = ExportedModel(
        out, encoder_to_onnx(model, size), Export(target, 'fp32', size), model.spec,
        model.normalisation, model.encoder.out_channels, heads, dict(model.domains),
        began_with=model.began_with, evidence=model.evidence)
    if size is None:
        for runtime in runtimes:
            _try_sizes(model, encoder, runtime)
    network = encoder.network
    calibrated: dict = {}
    if precision == 'int8':
        network, calibrated = _in_int8(network, original, calibration, target, size)
    # With it, only now: it needs the package onnx.
    from univseg_core.exporting.graph import in_half, logits_graph
    if precision == 'fp16':
        network = in_half(network)
    exported = replace(encoder, network=network, logits_graph=logits_graph(heads.heads),
                       export=Export(target, precision, size, calibration=calibrated,
                                     made_of=sha256_of(source)))
    found = compare(original, {
        runtime: Segmenter(exported, card, device='cpu', precision=precision, backend=runtime,
                           inference_size=original.inference_size)
        for runtime in runtimes}, samples, size)
    for runtime, domains in found.items():
        _check(domains, precision, runtime)
    compared = {f'{runtime} {version_of(runtime)}': {
        name: result.to_dict() for name, result in domains.items()}
        for runtime, domains in found.items()}
    export = replace(exported.export, compared=compared)
    save_exported(out, replace(exported, export=export), card)
    return export


def _try_sizes(model: UniversalSegmenter, encoder: ExportedModel, runtime: str) -> None:
    """Raise ExportError where an encoder for any size has other features than its original."""
    backends = [build_backend(name, each, 'cpu', 'fp32')
                for name, each in (('torch', model), (runtime, encoder))]
    for height, width in TRIED_SIZES:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        before, after = (each.features(image.copy()) for each in backends)
        if before.shape != after.shape or not (
                np.abs(before - after).max() <= ALIKE * np.abs(before).max()):
            raise ExportError(
                f'{model.spec.encoder} cannot be exported for images of any size: its features of '
                f'one of {width}×{height} are not those of the original; with --size '
                'WIDTHxHEIGHT it may be')


def _in_int8(network: bytes, original: Segmenter, calibration: Sequence[Sample], target: str,
             size: tuple[int, int] | None) -> tuple[bytes, dict]:
    """Return a network in int8, and how it came to its ranges."""
    from univseg_core.exporting.quantisation import quantise

    frames = list(readable(calibration, lambda *own: size or original.network_size(*own)))
    if len(frames) < FEWEST_FRAMES:
        raise ExportError(f'{len(frames)} of {len(calibration)} images to calibrate with can be '
                          f'read: expected {FEWEST_FRAMES} or more')
    return quantise(network, frames, target), {'frames': len(frames)}


def _check(found: Mapping[str, Compared], precision: str, runtime: str) -> None:
    """Raise ExportError where an export is not as good as it must be."""
    for name, result in found.items():
        if precision != 'fp32' and result.mious is not None:
            before, after = (100 * value for value in result.mious)
            if not before - after <= 100 * MOST_LOST:
                raise ExportError(
                    f'{name}: in {precision} by {runtime} the mIoU of {result.images} images '
                    f'falls from {before:.1f} to {after:.1f} %, by more than '
                    f'{100 * MOST_LOST:g} point: nothing is written'
                    + ('; more images to calibrate with may help' if precision == 'int8' else ''))
        elif result.share < LEAST_EQUAL[precision]:
            raise ExportError(
                f'{name}: by {runtime}, {100 * result.share:.2f} % of the pixels of '
                f"{result.images} images are the original's, less than "
                f'{100 * LEAST_EQUAL[precision]:g} %: nothing is written')
