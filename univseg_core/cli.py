"""The `univseg` command."""

import argparse
from collections.abc import Sequence
import json
import logging
from pathlib import Path
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
  univseg train my.yaml --run runs/b training.steps=500 change a setting
  univseg evaluate runs/first                           mIoU of each domain and class
  univseg predict photos/ --model runs/first/model.univseg --domain outdoor
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(
        prog='univseg', epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description='One semantic segmentation model for every place a robot works in.')
    commands = top.add_subparsers(dest='command', required=True, metavar='COMMAND')

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f'{text[0].upper()}{text[1:]}.')
        sub.set_defaults(run=run)
        return sub

    sub = command('train', _train, 'train the universal model of a configuration')
    sub.add_argument('config', help='a YAML file, or the name of one that ships: '
                                    'train/scenes.yaml, train/camvid_nyuv2.yaml')
    sub.add_argument('overrides', nargs='*', metavar='KEY=VALUE',
                     help='settings to change, by dotted key: training.steps=500')
    sub.add_argument('--run', dest='folder', type=Path,
                     help='folder for logs, checkpoint and model (default: runs/NAME of the '
                          'configuration); a folder with an unfinished run is gone on with')

    sub = command('evaluate', _evaluate, "measure a model on each domain's validation images")
    sub.add_argument('model', type=Path, help='a run folder, or a model file')
    sub.add_argument('--config', help='the configuration that names the validation images '
                                      "(default: the run folder's own)")
    sub.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1 … (default: auto)')
    sub.add_argument('--out', type=Path, help='JSON file for the results')

    sub = command('predict', _predict, 'write the masks and overlays of images')
    sub.add_argument('images', type=Path, help='an image, or a folder of images')
    sub.add_argument('--model', type=Path, required=True, help='a model file (NAME.univseg)')
    sub.add_argument('--domain', required=True, help='the label space to use')
    sub.add_argument('--out', type=Path, default=Path('predictions'),
                     help='folder for NAME_mask.png (class index, 255 = unknown) and '
                          'NAME_overlay.png (default: predictions)')
    sub.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1 … (default: auto)')

    sub = command('baselines', _baselines,
                  'measure what needs no network: location prior and random forest')
    sub.add_argument('config', help='a YAML file, or the name of one that ships')
    sub.add_argument('overrides', nargs='*', metavar='KEY=VALUE')

    sub = command('scenes', _scenes, 'make the synthetic outdoor and indoor worlds')
    sub.add_argument('folder', type=Path, help='folder to write outdoor/ and indoor/ into')
    sub.add_argument('--train', type=_count, default=400, help='training images (default: 400)')
    sub.add_argument('--validation', type=_count, default=60,
                     help='validation images (default: 60)')
    sub.add_argument('--labelled', type=_count, default=100,
                     help='training images with a label map (default: 100)')
    sub.add_argument('--seed', type=_count, default=0, help='decides every image (default: 0)')
    return top


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number, 0 or more')
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
    except KeyboardInterrupt:
        return 130
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
    results = train(load_config(options.config, options.overrides), folder)
    print(f'\n{report(results)}\n\nmodel: {folder / "model.univseg"}\npictures: {folder}/*.png')


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
