"""`univseg export`: one file for ONNX Runtime, OpenVINO or TensorRT."""

import argparse
import os
from pathlib import Path

from univseg_core.commands.options import add_model, Command, model_file, named_once, size, whole
from univseg_core.commands.output import report
from univseg_core.errors import UnivsegError
from univseg_core.models.export_targets import PRECISIONS, TARGETS

EXAMPLES = """examples:
  univseg export runs/first --to onnx                      writes runs/first/model.onnx
  univseg export runs/first --to openvino --precision int8  for Intel: model_openvino_int8.onnx
  univseg export yard.univseg --to onnx --frames photos/   compared on images of your own
  univseg export yard.univseg --to onnx --precision int8 --calibrate frames/yard frames/hall \\
    --frames photos/                                       ranges from frames of all domains
  univseg export runs/first --to tensorrt --size 640x480   for a Jetson; the engine is built there

The file is an ONNX network with the heads of all domains, and holds all that the model file says.
The node, `univseg predict` and most other commands take it in the place of a model file.
It is compared with the original before it is written: on the validation images of the run, or
those of --config or --frames. In fp32, 99.9 % of the pixels must be the same; in fp16 and int8 the
mIoU may lose 1 point, or, without labels, 99 and 95 % of the pixels must be the same.
"""


MODEL_FILES = ('a model file (NAME.univseg), the folder of a finished run, or demo, the small '
               'model that ships')
"""What can be exported, in words."""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('export', _export, 'write a model as one file for ONNX Runtime, OpenVINO or '
                  'TensorRT, compared with the original', EXAMPLES)
    sub.add_argument('file', nargs='?', type=Path, metavar='FILE',
                     help=f'{MODEL_FILES}; it may be named with --model')
    add_model(sub, MODEL_FILES)
    sub.add_argument('--to', choices=TARGETS, required=True, dest='target',
                     help='onnx: for ONNX Runtime, and any other tool that reads ONNX; openvino: '
                          'for OpenVINO (the same in fp32); tensorrt: for TensorRT, by ONNX '
                          'Runtime')
    sub.add_argument('--precision', choices=PRECISIONS, default='fp32',
                     help='what it computes in (default: fp32); fp16 is for GPUs')
    sub.add_argument('--size', type=_size, default=None, metavar='WIDTHxHEIGHT|any',
                     help='the only size in pixels at which it will see images, or any (default: '
                          'any; for tensorrt, whose engines are built for sizes, it must be said)')
    sub.add_argument('--frames', nargs='+', type=Path, default=[], metavar='PATH',
                     help='images, or folders of them, on which it is compared (default: the '
                          "configuration's validation images, by whose labels also mIoUs are "
                          'measured)')
    sub.add_argument('--calibrate', nargs='+', type=Path, default=[], metavar='PATH',
                     help='images, or folders of them, by which int8 finds its ranges: unlabelled '
                          "ones of all domains (default: the configuration's, evenly)")
    sub.add_argument('--config', metavar='FILE',
                     help='the configuration that names those images (default: that of the run '
                          'folder that the model file is in)')
    sub.add_argument('--images', type=whole(1), default=100, metavar='N',
                     help='at most so many images of each domain are compared, and of all domains '
                          'together calibrated with (default: 100)')
    sub.add_argument('--out', type=Path, metavar='FILE',
                     help='NAME.onnx (default: beside the model; of demo, here)')


def _size(text: str) -> tuple[int, int] | None:
    """Return (height, width) of WIDTHxHEIGHT, or None for any."""
    try:
        return None if text == 'any' else size(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f'{error}, or any') from None


def _export(options: argparse.Namespace) -> None:
    from univseg_core.exporting.export import export_model
    from univseg_core.exporting.images import to_calibrate, to_compare
    from univseg_core.models.model_file import load_model
    from univseg_core.reporting.description_text import compared

    source = model_file(named := named_once(options, 'file'), 'torch')
    # What ships lies in a folder of this package: nothing else belongs there.
    folder = source.parent if source.is_relative_to(named) else named.parent
    out = options.out or folder / _name(source, options.target, options.precision)
    _check_files(source, out)
    if options.target == 'tensorrt' and options.size is None:
        raise UnivsegError('--to tensorrt: an engine is built for one size: name it with --size '
                           "WIDTHxHEIGHT, such as that at which the camera's images are seen")
    beside = source.parent / 'config.yaml'
    config = options.config or (str(beside) if beside.is_file() else None)
    model, card = load_model(source)
    export = export_model(
        model, card, source, out, target=options.target, precision=options.precision,
        size=options.size,
        samples=to_compare(options.frames, config, model.domains, options.images),
        calibration=(to_calibrate(options.calibrate, config, options.images)
                     if options.precision == 'int8' else ()))
    report(options, {'file': str(out), 'target': export.target, 'precision': export.precision,
                     'size': export.size, 'compared': export.compared},
           '\n'.join([f'{out}: made of {source}', *compared(export.compared)]))


def _check_files(source: Path, out: Path) -> None:
    """Raise UnivsegError for what can be told of the files before anything is computed."""
    from univseg_core.models.exported_file import is_exported

    if source.is_file() and is_exported(source):
        raise UnivsegError(f'{source}: exported already; expected the model file that it was made '
                           'of (NAME.univseg)')
    if out.suffix != '.onnx':
        raise UnivsegError(f'{out}: expected a name that ends in .onnx')
    if out.is_dir():
        raise UnivsegError(f'{out}: a folder; expected the name of a file')
    if out.exists() and source.exists() and out.samefile(source):
        raise UnivsegError(f'{out}: the model itself; expected another --out')
    folder = next(each for each in out.absolute().parents if each.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnivsegError(f'{out}: nothing can be written in {folder}')


def _name(source: Path, target: str, precision: str) -> str:
    """Return what an export is called: NAME.onnx, NAME_int8.onnx, NAME_openvino_int8.onnx."""
    parts = [source.stem, *([target] if target != 'onnx' else []),
             *([precision] if precision != 'fp32' else [])]
    return f'{"_".join(parts)}.onnx'
