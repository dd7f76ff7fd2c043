"""The `univseg` command."""

import argparse
from collections.abc import Sequence
import json
import logging
import os
from pathlib import Path
import shutil
import sys

from tqdm import tqdm
from univseg_core.data.folders import list_images
from univseg_core.errors import UnivsegError
from univseg_core.figures import overlay, with_legend
from univseg_core.images import read_image, write_png
from univseg_core.inference import Segmenter

EXAMPLES = """examples:
  univseg scenes worlds                                 make two synthetic worlds to learn from
  UNIVSEG_DATA=worlds univseg train train/scenes.yaml --run runs/first      train on them
  univseg info runs/first                               how far it is, and how good
  univseg train my.yaml --run runs/b training.steps=500 change a setting
  univseg config explain training                       what the settings mean
  univseg evaluate runs/first                           mIoU of each domain and class
  univseg predict photos/ --model runs/first/model.univseg --domain outdoor
"""

TRAIN_EXAMPLES = """examples:
  univseg train my.yaml                       in runs/my; the same command goes on after a break
  univseg train my.yaml --run runs/b training.steps=500 'data.scale=[0.5, 2]'
  univseg train my.yaml --devices 4           four GPUs of this machine; with
                                              training.accelerator=cpu, four CPU processes
  MASTER_ADDR=10.0.0.1 MASTER_PORT=29500 NODE_RANK=0 \\
    univseg train my.yaml --devices 4 --nodes 2         on the first of two machines; on the
                                              second the same with NODE_RANK=1
"""

EVALUATE_EXAMPLES = """examples:
  univseg evaluate runs/first
  univseg evaluate runs/first/best.univseg --config runs/first/config.yaml --out best.json
"""

PREDICT_EXAMPLES = """examples:
  univseg predict photo.jpg --model yard.univseg --domain outdoor
  univseg predict photos/ --model yard.univseg --domain outdoor --out masks --device cuda
"""

INFO_EXAMPLES = """examples:
  univseg info runs/first                     a training: how far, how good, time left
  univseg info runs/first/model.univseg       a model: its domains, classes, mIoU, making
  univseg info --json yard.univseg | jq .sha256
"""

CURVES_EXAMPLES = """examples:
  univseg curves runs/first                   writes runs/first/curves.png
  univseg curves runs/first/supervised/outdoor
"""

CONFIG_EXAMPLES = """examples:
  univseg config show my.yaml training.steps=500        all settings, with what they mean
  univseg config show runs/first/config.yaml > my.yaml  a configuration to start from
  univseg config explain                                a table of all keys
  univseg config explain training.learning_rate
"""

BASELINES_EXAMPLES = """examples:
  UNIVSEG_DATA=worlds univseg baselines train/scenes.yaml
  univseg baselines my.yaml domains.yard.labelled=50
"""

SCENES_EXAMPLES = """examples:
  univseg scenes worlds
  univseg scenes small --train 40 --validation 10 --labelled 10 --seed 1
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(
        prog='univseg', epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description='One semantic segmentation model for every place a robot works in.')
    commands = top.add_subparsers(dest='command', required=True, metavar='COMMAND')

    def command(name: str, run, text: str, examples: str,
                group: argparse._SubParsersAction = commands) -> argparse.ArgumentParser:
        sub = group.add_parser(name, help=text, description=f'{text[0].upper()}{text[1:]}.',
                               epilog=examples,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(run=run)
        return sub

    sub = command('train', _train, 'train the universal model of a configuration', TRAIN_EXAMPLES)
    _add_config(sub)
    sub.add_argument('--run', dest='folder', type=Path,
                     help='folder for logs, checkpoint and model (default: runs/NAME of the '
                          'configuration); a folder with an unfinished run is gone on with')
    sub.add_argument('--devices', type=_positive, metavar='N',
                     help='processes on this machine: its GPUs, or CPU processes where '
                          'training.accelerator is cpu (default: 1)')
    sub.add_argument('--nodes', type=_positive, metavar='M',
                     help='machines (default: 1); the command is started on each, with '
                          'MASTER_ADDR, MASTER_PORT and NODE_RANK set, or by torchrun or srun')

    sub = command('evaluate', _evaluate, "measure a model on each domain's validation images",
                  EVALUATE_EXAMPLES)
    sub.add_argument('model', type=Path, help='a run folder, or a model file')
    sub.add_argument('--config', help='the configuration that names the validation images '
                                      "(default: the run folder's own)")
    sub.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1 … (default: auto)')
    sub.add_argument('--out', type=Path, help='JSON file for the results')

    sub = command('predict', _predict, 'write the masks and overlays of images', PREDICT_EXAMPLES)
    sub.add_argument('images', type=Path, help='an image, or a folder of images')
    sub.add_argument('--model', type=Path, required=True, help='a model file (NAME.univseg)')
    sub.add_argument('--domain', required=True, help='the label space to use')
    sub.add_argument('--out', type=Path, default=Path('predictions'),
                     help='folder for NAME_mask.png (class index, 255 = unknown) and '
                          'NAME_overlay.png (default: predictions)')
    sub.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1 … (default: auto)')

    sub = command('info', _info, 'tell what a model file or a run folder holds', INFO_EXAMPLES)
    sub.add_argument('file', type=Path,
                     help='a model file (NAME.univseg), a run folder, the supervised/DOMAIN '
                          'folder of one, a checkpoint or label embeddings')
    sub.add_argument('--json', action='store_true', help='as JSON, for programs')

    sub = command('curves', _curves, "draw a training's losses and mIoUs, also while it runs",
                  CURVES_EXAMPLES)
    sub.add_argument('folder', type=Path, help='a run folder; its curves.png is written')

    sub = commands.add_parser(
        'config', help='show or explain the settings of a configuration',
        description='Show or explain the settings of a configuration.', epilog=CONFIG_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = sub.add_subparsers(dest='part', required=True, metavar='show|explain')
    sub = command('show', _config_show, 'print the whole checked configuration as YAML, every '
                  'default filled in and every key explained', CONFIG_EXAMPLES, parts)
    _add_config(sub)
    sub = command('explain', _config_explain, 'tell what each key means, which values it takes '
                  'and its default', CONFIG_EXAMPLES, parts)
    sub.add_argument('key', nargs='?', help='a key or section, such as training.steps or data; '
                                            'all when left out')

    sub = command('baselines', _baselines,
                  'measure what needs no network: location prior and random forest',
                  BASELINES_EXAMPLES)
    _add_config(sub)

    sub = command('scenes', _scenes, 'make the synthetic outdoor and indoor worlds',
                  SCENES_EXAMPLES)
    sub.add_argument('folder', type=Path, help='folder to write outdoor/ and indoor/ into')
    sub.add_argument('--train', type=_count, default=400, help='training images (default: 400)')
    sub.add_argument('--validation', type=_count, default=60,
                     help='validation images (default: 60)')
    sub.add_argument('--labelled', type=_count, default=100,
                     help='training images with a label map (default: 100)')
    sub.add_argument('--seed', type=_count, default=0, help='decides every image (default: 0)')
    return top


def _add_config(sub: argparse.ArgumentParser) -> None:
    sub.add_argument('config', help='a YAML file, or the name of one that ships: '
                                    'train/scenes.yaml, train/camvid_nyuv2.yaml …')
    sub.add_argument('overrides', nargs='*', metavar='KEY=VALUE',
                     help='settings to change, by dotted key: training.steps=500')


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number, 0 or more')
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number, 1 or more')
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; settings (KEY=VALUE) may stand before and after other options."""
    grammar = parser()
    options, rest = grammar.parse_known_args(arguments)
    if any(text.startswith('-') or '=' not in text for text in rest) or (
            rest and 'overrides' not in options):
        grammar.error(f'unrecognized arguments: {" ".join(rest)}')
    if rest:
        options.overrides += rest
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. What the user can mend prints no traceback."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    logging.getLogger('lightning').setLevel(logging.WARNING)
    options = parse(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `univseg config explain | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UnivsegError, OSError) as error:
        print(f'univseg {options.command}: {error}', file=sys.stderr)
        return 1
    return 0


# What a command needs is imported when it runs: a robot, which has none of the training's
# packages, can still predict.

def _train(options: argparse.Namespace) -> None:
    from univseg_core.config import load_config
    from univseg_core.evaluation import report
    from univseg_core.training import train

    folder = options.folder or Path('runs') / Path(options.config).stem
    processes = {name: value for name in ('devices', 'nodes')
                 if (value := getattr(options, name)) is not None}
    results = train(load_config(options.config, options.overrides), folder, **processes)
    if not results or _rank():
        return
    print(f'\n{report(results)}\n')
    for name, what in (('model.univseg', 'model of the last step'),
                       ('best.univseg', 'model of the best sum of mIoUs'),
                       ('curves.png', 'losses and mIoUs over the steps'),
                       ('tensorboard', f'the same: tensorboard --logdir {folder}'),
                       *((f'{name}.png', 'image, truth and prediction') for name in results)):
        if (folder / name).exists():
            print(f'{folder / name}: {what}')


def _rank() -> int:
    """Return which of a training's processes this is; 0 reports."""
    from torch import distributed
    return distributed.get_rank() if distributed.is_initialized() else 0


def _evaluate(options: argparse.Namespace) -> None:
    from univseg_core.config import load_config
    from univseg_core.data.dataset import load_validation
    from univseg_core.evaluation import evaluate, report
    from univseg_core.files import write_text

    model, config = options.model, options.config
    if not model.exists():
        raise UnivsegError(f'{model}: no such run folder or model file')
    if model.is_dir():
        model, config = model / 'model.univseg', config or str(model / 'config.yaml')
    if config is None:
        raise UnivsegError('a model file alone does not say where the validation images are: '
                           'name a configuration with --config')
    segmenter = Segmenter.load(model, device=options.device, precision='fp32')
    results = evaluate(segmenter, load_validation(load_config(config), segmenter.domains))
    print(report(results))
    if options.out:
        write_text(options.out, json.dumps(
            {name: result.to_dict() for name, result in results.items()}, indent=1))


def _predict(options: argparse.Namespace) -> None:
    segmenter = Segmenter.load(options.model, device=options.device)
    segmenter.check_domains([options.domain])
    domain = segmenter.domains[options.domain]
    images = list_images(options.images) if options.images.is_dir() else [options.images]
    for path in tqdm(images, unit='image'):
        image = read_image(path)
        mask = segmenter(image, [domain.name])[domain.name].mask
        write_png(options.out / f'{path.stem}_mask.png', mask)
        write_png(options.out / f'{path.stem}_overlay.png',
                  with_legend(overlay(image, mask, domain), domain))
    print(f'{len(images)} masks and overlays in {options.out}')


def _info(options: argparse.Namespace) -> None:
    from univseg_core.description import describe
    from univseg_core.description_text import as_text

    description = describe(options.file)
    print(json.dumps(description, indent=1, ensure_ascii=False) if options.json
          else as_text(description))


def _curves(options: argparse.Namespace) -> None:
    from univseg_core.curves import draw_curves

    print(draw_curves(options.folder))


def _config_show(options: argparse.Namespace) -> None:
    from univseg_core.config import load_config
    from univseg_core.config_help import annotated_yaml

    print(annotated_yaml(load_config(options.config, options.overrides)), end='')


def _config_explain(options: argparse.Namespace) -> None:
    from univseg_core.config_help import explain

    print(explain(options.key, shutil.get_terminal_size((120, 24)).columns))


def _baselines(options: argparse.Namespace) -> None:
    from univseg_core.baselines import location_prior, random_forest
    from univseg_core.config import load_config
    from univseg_core.data.dataset import load_data

    config = load_config(options.config, options.overrides)
    print('| domain | location prior, mIoU % | random forest, mIoU % |\n|---|--:|--:|')
    for name, data in load_data(config).items():
        prior = location_prior(data)
        forest = random_forest(data, config.data.image_size, config.training.seed)
        print(f'| {name} | {100 * prior.miou:.1f} | {100 * forest.miou:.1f} |', flush=True)


def _scenes(options: argparse.Namespace) -> None:
    from univseg_core.data.scenes.worlds import write_worlds

    write_worlds(options.folder, train=options.train, validation=options.validation,
                 labelled=options.labelled, seed=options.seed)
