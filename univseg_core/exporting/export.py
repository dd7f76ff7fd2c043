"""An export, top to bottom: network → ONNX → precision → heads → comparison → file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
import logging
from pathlib import Path

from univseg_core.datasets.folders import Sample
from univseg_core.exporting.comparison import compare, Compared
from univseg_core.exporting.images import readable
from univseg_core.exporting.network import encoder_to_onnx, ExportError
from univseg_core.files import sha256_of
from univseg_core.inference.backends import BACKENDS, installed, version_of
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.exported_file import Export, ExportedModel, save_exported
from univseg_core.models.model_card import ModelCard
from univseg_core.models.universal import UniversalSegmenter

RUNTIMES = {'onnx': 'onnxruntime', 'openvino': 'openvino', 'tensorrt': 'onnxruntime'}
"""The backend by which an export for each target is compared with its original."""

LEAST_EQUAL = {'fp32': 0.999, 'fp16': 0.99, 'int8': 0.95}
"""The share of equal pixels that an export of each precision must have."""

MOST_LOST = 0.01
"""The mIoU (0..1) that one of fp16 or int8 may lose instead, on images with labels."""

FEWEST_FRAMES = 16
"""Images by which the ranges of an int8 network are found at least."""

log = logging.getLogger(__name__)


def export_model(model: UniversalSegmenter, card: ModelCard, source: Path, out: Path, *,
                 target: str, precision: str, size: tuple[int, int] | None,
                 samples: Mapping[str, Sequence[Sample]],
                 calibration: Sequence[Sample] = ()) -> tuple[Export, dict[str, Compared]]:
    """
    Export the model of a file and write `out`, once it has been compared with the original.

    `target` and `precision` are one of TARGETS and PRECISIONS; `size` is the (height, width) of
    the only images that it will take, or None for any. `samples` are the images of each domain
    for the comparison, `calibration` those by which int8 finds its ranges. Returns how it was
    exported, and what the comparison found.

    Raises ExportError where a package is missing, the network cannot be exported, calibration
    images are too few, or the masks differ by more than LEAST_EQUAL and MOST_LOST allow: then
    nothing is written.
    """
    if (runtime := RUNTIMES[target]) not in installed(True):
        raise ExportError(f'an export for {target} is compared with its original by {runtime}, '
                          f'which is not installed: pip install {BACKENDS[runtime].pip}')
    original = Segmenter(model, card, device='cpu', precision='fp32',
                         inference_size=max(size) if size else None)
    log.info('%s: its encoder becomes an ONNX network', source)
    network = encoder_to_onnx(model, size)
    calibrated: dict = {}
    if precision == 'int8':
        network, calibrated = _in_int8(network, original, calibration, target, size)
    # With it, only now: it needs the package onnx.
    from univseg_core.exporting.graph import in_half, with_heads
    if precision == 'fp16':
        network = in_half(network)
    heads = model.as_arrays()
    exported = ExportedModel(
        out, with_heads(network, heads.heads), Export(
            target, precision, size, calibration=calibrated, made_of=sha256_of(source)),
        model.spec, model.normalisation, model.encoder.out_channels, heads, dict(model.domains))
    found = compare(original, Segmenter(
        exported, card, device='cpu', precision=precision, backend=runtime,
        inference_size=original.inference_size), samples, size)
    _check(found, precision)
    export = replace(exported.export, compared={
        'runtime': f'{runtime} {version_of(runtime)}',
        'domains': {name: result.to_dict() for name, result in found.items()}})
    save_exported(out, replace(exported, export=export), card)
    return export, found


def _in_int8(network: bytes, original: Segmenter, calibration: Sequence[Sample], target: str,
             size: tuple[int, int] | None) -> tuple[bytes, dict]:
    """Return a network in int8, and how it came to its ranges."""
    from univseg_core.exporting.quantisation import quantise

    if len(calibration) < FEWEST_FRAMES:
        raise ExportError(f'{len(calibration)} images to calibrate with: expected '
                          f'{FEWEST_FRAMES} or more, of all domains')
    frames = list(readable(calibration, lambda *own: size or original.network_size(*own)))
    if len(frames) < FEWEST_FRAMES:
        raise ExportError(f'{len(frames)} of {len(calibration)} images to calibrate with can be '
                          f'read: expected {FEWEST_FRAMES} or more')
    return quantise(network, frames, target), {'frames': len(frames)}


def _check(found: Mapping[str, Compared], precision: str) -> None:
    """Raise ExportError where an export is not as good as it must be."""
    for name, result in found.items():
        if result.share >= LEAST_EQUAL[precision]:
            if precision == 'fp32' or result.lost is None:
                continue
        elif precision == 'fp32' or result.lost is None:
            raise ExportError(
                f'{name}: {100 * result.share:.2f} % of the pixels of {result.images} images are '
                f"the original's, less than {100 * LEAST_EQUAL[precision]:g} %: nothing is "
                'written')
        if not result.lost <= MOST_LOST:
            assert result.mious is not None
            before, after = (100 * value for value in result.mious)
            raise ExportError(
                f'{name}: in {precision} the mIoU of {result.images} images falls from '
                f'{before:.1f} to {after:.1f} %, by more than {100 * MOST_LOST:g} point: nothing '
                'is written'
                + ('; more images to calibrate with may help' if precision == 'int8' else ''))

