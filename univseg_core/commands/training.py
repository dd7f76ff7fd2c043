"""`univseg train`, `distill`, `evaluate` and `baselines`: models, and how good they are."""

import argparse
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from univseg_core.commands.options import (
    add_config,
    add_model,
    add_running,
    Command,
    named_once,
    running,
    whole,
)
from univseg_core.commands.output import report

if TYPE_CHECKING:
    from univseg_core.inference.segmenter import Segmenter
    from univseg_core.measuring.evaluation import DomainResult
    from univseg_core.measuring.recognition import Unknown

TRAIN_EXAMPLES = """examples:
  univseg train my.yaml                       in runs/my; the same command goes on after a break
  univseg train my.yaml --run runs/b training.steps=500 'data.scale=[0.5, 2]'
  univseg train my.yaml --run runs/c model.start=runs/b/model.univseg     go on from a model
  univseg train my.yaml --devices 4           four GPUs of this machine; with
                                              training.accelerator=cpu, four CPU processes
  MASTER_ADDR=10.0.0.1 MASTER_PORT=29500 NODE_RANK=0 \\
    univseg train my.yaml --devices 4 --nodes 2         on the first of two machines; on the
                                              second the same with NODE_RANK=1
"""

DISTILL_EXAMPLES = """examples:
  univseg distill runs/large my.yaml model.encoder=light model.stride=8 --run runs/small
  univseg distill large.univseg my.yaml objective.distillation.temperature=2
  univseg export runs/small --to onnx --precision int8  onto the robot, as any model

It is `univseg train my.yaml objective.distillation.teacher=runs/large`: the same run folder, which
the same command goes on with. The large model knows all domains of the configuration, with the
same classes in the same order; its encoder, width and stride may be any.
"""

EVALUATE_EXAMPLES = """examples:
  univseg evaluate runs/first
  univseg evaluate runs/first --protocol paper          as the paper's own code measures
  univseg evaluate runs/first --unknown frames/street    is a place it never saw called unknown?
  univseg evaluate --model runs/first/best.univseg --config runs/first/config.yaml --out best.json
"""

BASELINES_EXAMPLES = """examples:
  UNIVSEG_DATA=worlds univseg baselines train/scenes.yaml   mIoU of each domain
  univseg baselines my.yaml domains.yard.labelled=50
"""


def add_to(command: Command) -> None:
    """Add the commands to the command line's grammar."""
    sub = command('train', _train, 'train the universal model of a configuration', TRAIN_EXAMPLES)
    _add_training(sub)

    sub = command('distill', _distill, 'train a small model on the labels and on what a large one '
                  'makes of all images', DISTILL_EXAMPLES)
    sub.add_argument('large', type=Path, metavar='LARGE',
                     help='the large model: a model file (NAME.univseg), or the folder of a '
                          'finished run')
    _add_training(sub)

    sub = command('evaluate', _evaluate, "measure a model on each domain's validation images",
                  EVALUATE_EXAMPLES)
    sub.add_argument('run_folder', nargs='?', type=Path, metavar='RUN',
                     help='a run folder, a model file, or demo; or name it with --model')
    add_model(sub)
    sub.add_argument('--config', metavar='FILE',
                     help='the configuration that names the validation images (default: the run '
                          "folder's own)")
    sub.add_argument('--protocol', choices=('standard', 'paper'), default='standard',
                     help="standard: the whole set, at the label maps' own size; paper: as the "
                          "paper's code, its first 100 images, scaled as in training (default: "
                          'standard)')
    add_running(sub, 'or else fp32')
    sub.add_argument('--unknown', nargs='+', action='extend', default=[], type=Path,
                     metavar='FOLDER',
                     help='a folder of images of none of the domains, such as another place: '
                          'measure how well they are told from the validation images; may be '
                          'repeated')
    sub.add_argument('--out', type=Path, metavar='FILE',
                     help='JSON file for the results, besides what is printed (default: none)')

    sub = command('baselines', _baselines,
                  'measure what needs no network: location prior and random forest',
                  BASELINES_EXAMPLES)
    add_config(sub)


def _add_training(sub: argparse.ArgumentParser) -> None:
    """Add what a training is told."""
    add_config(sub)
    sub.add_argument('--run', dest='folder', type=Path, metavar='DIR',
                     help='folder for logs, checkpoint and model (default: runs/NAME of the '
                          'configuration); an unfinished run in it goes on')
    sub.add_argument('--devices', type=whole(1), metavar='N',
                     help='processes on this machine: its GPUs, or CPU processes where '
                          'training.accelerator is cpu (default: 1)')
    sub.add_argument('--nodes', type=whole(1), metavar='M',
                     help='machines (default: 1); the command is started on each, with '
                          'MASTER_ADDR, MASTER_PORT and NODE_RANK set, or by torchrun or srun')


def _distill(options: argparse.Namespace) -> None:
    # As YAML, which JSON is: a path may hold what means something there.
    options.overrides.insert(0, f'objective.distillation.teacher={json.dumps(str(options.large))}')
    _train(options)


def _train(options: argparse.Namespace) -> None:
    from univseg_core.measuring import evaluation
    from univseg_core.settings.config import load_config
    from univseg_core.training.checkpoint import CHECKPOINT
    from univseg_core.training.run import train

    folder = options.folder or Path('runs') / Path(options.config).stem
    processes = {name: value for name in ('devices', 'nodes')
                 if (value := getattr(options, name)) is not None}
    # What a training says on its way is no part of its JSON.
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        files_needed = not (folder / CHECKPOINT).exists()
        config = load_config(options.config, options.overrides, files_needed)
        results = train(config, folder, **processes)
    if not results or _rank():
        return
    meanings = {'model.univseg': 'model of the last step',
                'best.univseg': 'model of the best sum of mIoUs',
                'curves.png': 'losses and mIoUs over the steps',
                'tensorboard': f'the same: tensorboard --logdir {folder}',
                **{f'{name}.png': 'image, truth and prediction' for name in results}}
    files = {str(folder / name): what for name, what in meanings.items()
             if (folder / name).exists()}
    report(options, {'run': str(folder), 'evaluation': evaluation.as_dict(results),
                     'files': files},
           '\n'.join(['', evaluation.report(results), '',
                      *(f'{path}: {what}' for path, what in files.items())]))


def _rank() -> int:
    """Return which of a training's processes this is; 0 reports."""
    from torch import distributed
    return distributed.get_rank() if distributed.is_initialized() else 0


def _evaluate(options: argparse.Namespace) -> None:
    from univseg_core.files import write_text
    from univseg_core.labelling.frame_folder import frames_of
    from univseg_core.measuring import evaluation
    from univseg_core.measuring.finished_runs import load_runs
    from univseg_core.measuring.recognition import NONE_OF_THESE, unknown_table

    for folder in options.unknown:
        frames_of(folder)  # an error now, not behind minutes of validation
    (run,) = load_runs([named_once(options, 'run_folder')], options.config, **running(options))
    if options.unknown:
        run.segmenter.check_evidence()
    results = evaluation.evaluate(run.segmenter, run.samples, protocol=options.protocol,
                                  label_embeddings=run.segmenter.has_label_embeddings)
    values, text = evaluation.as_dict(results), evaluation.report(results)
    if unknown := {str(folder): _unknown(run.segmenter, folder, results)
                   for folder in options.unknown}:
        values |= {NONE_OF_THESE: {name: each.to_dict() for name, each in unknown.items()}}
        text = f'{text}\n\n{unknown_table(unknown)}'
    report(options, values, text)
    if options.out:
        write_text(options.out, json.dumps(values, indent=1))


def _unknown(segmenter: 'Segmenter', folder: Path,
             results: 'Mapping[str, DomainResult]') -> 'Unknown':
    """Return how the images of a folder stand out from those that were evaluated."""
    from univseg_core.labelling.frame_folder import frames_of, readable_images
    from univseg_core.measuring.recognition import compare_unknown, recognised

    images = readable_images(frames_of(folder), f'recognise {folder.name}')
    return compare_unknown([each.recognised for each in results.values() if each.recognised],
                           recognised(segmenter, (image for _, image in images)))


def _baselines(options: argparse.Namespace) -> None:
    from univseg_core.batches.dataset import load_data
    from univseg_core.measuring.baselines import location_prior, random_forest
    from univseg_core.settings.config import load_config

    config = load_config(options.config, options.overrides)
    lines = ['| domain | location prior, mIoU % | random forest, mIoU % |', '|---|--:|--:|']
    results = {}
    for name, data in load_data(config).items():
        prior = location_prior(data)
        forest = random_forest(data, config.data.image_size, config.training.seed)
        results[name] = {'location_prior': prior.to_dict(), 'random_forest': forest.to_dict()}
        lines.append(f'| {name} | {100 * prior.miou:.1f} | {100 * forest.miou:.1f} |')
    report(options, results, '\n'.join(lines))
