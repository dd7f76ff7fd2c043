"""`univseg prelabel` and `import-labels`: from frames to a larger labelled folder."""

import argparse
from dataclasses import asdict
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from univseg_core.commands.options import (
    add_model_and_frames,
    add_running,
    colour,
    Command,
    model_and_frames,
    model_file,
    number,
    running,
)
from univseg_core.commands.output import report
from univseg_core.errors import did_you_mean, told_with

if TYPE_CHECKING:
    from univseg_core.domains import Domain

PRELABEL_EXAMPLES = """examples:
  univseg prelabel frames/ --model yard.univseg --domain outdoor --out to_correct
  univseg prelabel frames/ --model yard.univseg --domain outdoor --out to_correct \\
      --ranked ranking/rank.csv --confidence 0.6
"""

IMPORT_EXAMPLES = """examples:
  univseg import-labels corrected/ --frames frames/ --model yard.univseg --domain outdoor \\
      --out yard/labelled
  univseg import-labels SegmentationClass/ --frames frames/ --config my.yaml --domain outdoor \\
      --labelmap labelmap.txt --out yard/labelled
  univseg import-labels voc/ --frames frames/ --config my.yaml --domain outdoor \\
      --background void --out yard/labelled                # 0 void, 1 the first class, …
  univseg import-labels brush/ --frames frames/ --config my.yaml --domain outdoor \\
      --painted tree --out yard/labelled                   # 255 tree, 0 void
"""

log = logging.getLogger(__name__)


def add_to(command: Command) -> None:
    """Add the commands to the command line's grammar."""
    sub = command('prelabel', _prelabel, "write a model's masks for a person to correct",
                  PRELABEL_EXAMPLES)
    add_model_and_frames(sub)
    sub.add_argument('--domain', metavar='NAME', required=True,
                     help='the domain whose head labels the pixels')
    sub.add_argument('--out', type=Path, required=True, metavar='DIR',
                     help='a new folder, for images/, labels/ (class index), SegmentationClass/ '
                          '(the same with a palette), classes.txt and labelmap.txt')
    sub.add_argument('--confidence', type=number(1, 'a probability, 0 to 1'), default=0.0,
                     metavar='T', help='pixels whose class has a smaller probability, 0..1, '
                                       'become void (255; default: 0)')
    sub.add_argument('--ranked', type=Path, metavar='CSV',
                     help='a rank.csv of `univseg rank`: of the frames, those that it names')
    add_running(sub)

    sub = command('import-labels', _import, 'bring corrected label maps back as a labelled folder',
                  IMPORT_EXAMPLES)
    sub.add_argument('labels', type=Path,
                     help='a folder of PNGs: class indices, indices with a palette, colours, or '
                          'masks FRAME-CLASS.png of one class each')
    sub.add_argument('--frames', type=Path, required=True, metavar='DIR',
                     help='the folder of the images, of the same names but for the ending')
    of = sub.add_mutually_exclusive_group(required=True)
    of.add_argument('--model', type=Path, help='a model file, or a finished run, that has the '
                                               'domain')
    of.add_argument('--config', help='or a configuration that has it')
    sub.add_argument('--domain', metavar='NAME', required=True,
                     help='the domain whose classes the labels are')
    sub.add_argument('--out', type=Path, required=True, metavar='DIR',
                     help='labelled folder to make or add to: image/, label/ and classes.txt')
    sub.add_argument('--void', type=colour, metavar='R,G,B',
                     help='the colour of pixels without a class (default: black, unless a class '
                          'is black)')
    sub.add_argument('--labelmap', type=Path, metavar='FILE',
                     help="a tool's labelmap.txt, if its colours are others than the domain's")
    sub.add_argument('--palette', choices=('auto', 'indices', 'colours'), default='auto',
                     help='what counts in a PNG with a palette; auto: its indices, and an error '
                          'where its colours are those of other classes (default: auto)')
    sub.add_argument('--background', metavar='void|CLASS',
                     help='what index 0 is; the other indices are the other classes in their '
                          'order. Asked for where the palette of a label map begins with the '
                          'colour of void')
    sub.add_argument('--painted', metavar='void|CLASS',
                     help='what 255 is in label maps of 0 and 255 alone: void, or the class that '
                          'was painted (0 is void then, or what --background says). Asked for '
                          'where there are such')


def _prelabel(options: argparse.Namespace) -> None:
    from univseg_core.files import new_folder
    from univseg_core.inference.segmenter import Segmenter
    from univseg_core.labelling.frame_folder import frames_of, readable_images
    from univseg_core.labelling.prelabels import decided, only_named, PrelabelFolder
    from univseg_core.labelling.ranking import read_ranking

    model, source = model_and_frames(options)
    segmenter = Segmenter.load(model, **running(options))
    segmenter.check_domains([options.domain])
    frames = frames_of(source)
    if options.ranked:
        frames = only_named(frames, read_ranking(options.ranked), options.ranked)
    shares = []
    with new_folder(options.out) as unfinished:
        folder = PrelabelFolder(unfinished, segmenter.domains[options.domain])
        for path, image in readable_images(frames, 'prelabel'):
            with told_with(path):
                mask = segmenter(image, [options.domain],
                                 threshold=options.confidence)[options.domain].mask
            folder.add(path, mask)
            shares.append(decided(mask))
        folder.finish()
    copied = len(folder.names) - folder.linked
    share = sum(shares) / len(shares)
    report(options, {'folder': str(options.out), 'frames': folder.names, 'share_with_class': share,
                     'hard_links': folder.linked, 'copies': copied},
           f'{len(folder.names)} frames with masks in {options.out}; '
           f'{100 * share:.1f} % of the pixels have a class; of the frames, '
           f'{folder.linked} are hard links, {copied} copies')


def _import(options: argparse.Namespace) -> None:
    from univseg_core.datasets.folders import are_masks
    from univseg_core.labelling.frame_folder import frames_of
    from univseg_core.labelling.label_import import import_labels
    from univseg_core.labelling.returned_labels import (
        class_colours,
        foreign_names,
        LabelDecoder,
        read_labelmap,
    )
    from univseg_core.pictures.picture_files import image_files

    domain = _domain(options)
    named = read_labelmap(options.labelmap) if options.labelmap else None
    decoder = LabelDecoder(domain, class_colours(domain, options.void, named), options.palette,
                           options.background, options.painted,
                           foreign_names(domain, named or {}))
    frames = frames_of(options.frames)
    done = import_labels(frames_of(options.labels), frames, options.out, decoder)
    if done.empty:
        log.warning('%d label maps have no pixel of any class and are left out: %s',
                    len(done.empty), ', '.join(done.empty[:5]))
    if done.turned:
        log.warning('%d frames are turned upright by the orientation in their EXIF data, which '
                    'their label maps are taken to be already: %s', len(done.turned),
                    ', '.join(done.turned[:5]))
    folder = options.out / 'label'
    # Class 0 and void alone: a training would ask what they are.
    masks = ', painted: void' if folder.is_dir() and are_masks(image_files(folder)) else ''
    report(options, {'folder': str(options.out), **asdict(done)},
           f'{options.out}: {len(done.added)} label maps added, {len(done.replaced)} replaced, '
           f'{len(done.unchanged)} as they were\n'
           f'train: {{images: {options.out / "image"}, labels: {folder}{masks}}}')


def _domain(options: argparse.Namespace) -> 'Domain':
    """Return the domain that a model file or a configuration has."""
    from univseg_core.domains import DomainError

    if options.model:
        from univseg_core.inference.segmenter import load_network

        source = model_file(options.model)
        domains = load_network(source)[0].domains
    else:
        from univseg_core.settings.config import load_config

        config, source = load_config(options.config), options.config
        domains = {name: config.domain(name) for name in config.domains}
    if options.domain not in domains:
        raise DomainError(f'{source}: unknown domain {options.domain!r}; there are '
                          f'{", ".join(domains)}{did_you_mean(options.domain, domains)}')
    return domains[options.domain]
