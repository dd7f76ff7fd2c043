"""`univseg predict`: masks and overlays of images."""

import argparse
from collections import Counter
import logging
from pathlib import Path
from typing import Any

from univseg_core.commands.options import (
    add_model_and_frames,
    add_running,
    Command,
    model_and_frames,
    running,
)
from univseg_core.commands.output import report
from univseg_core.errors import told_with, UnivsegError

AUTO = 'auto'
"""In the place of a domain's name: the one that an image is recognised as."""

EXAMPLES = """examples:
  univseg predict photo.jpg --model yard.univseg --domain outdoor
  univseg predict scenes/outdoor/validation/image --model demo --domain outdoor
  univseg predict photos/ --model yard.univseg --domain auto    each image's own domain
  univseg predict photos/ --model runs/first --label-space indoor --out as_indoor
  univseg predict photos/ --model yard.univseg --domain outdoor --out masks --device cuda
"""

log = logging.getLogger(__name__)


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('predict', _predict, 'write the masks and overlays of images', EXAMPLES)
    add_model_and_frames(sub, 'IMAGES', 'an image, or a folder of images, of which those that '
                         'cannot be read are skipped and counted')
    of = sub.add_mutually_exclusive_group(required=True)
    of.add_argument('--domain', metavar='NAME|auto',
                    help='the domain whose head labels the pixels; auto: of each image the one '
                         'that it is recognised as, and no mask of one that is of none of them')
    of.add_argument('--label-space', metavar='NAME',
                    help='the domain in whose classes pixels are labelled by the nearest label '
                         'embedding instead; the images may be of any domain')
    sub.add_argument('--out', type=Path, default=Path('predictions'), metavar='DIR',
                     help='folder for NAME_mask.png (class index, 255 = unknown) and '
                          'NAME_overlay.png (default: predictions)')
    add_running(sub)


def _predict(options: argparse.Namespace) -> None:
    from univseg_core.inference.segmenter import Segmenter
    from univseg_core.labelling.frame_folder import frames_of, readable_images
    from univseg_core.pictures.images import read_image, write_png
    from univseg_core.pictures.overlay import overlay, with_legend

    model, source = model_and_frames(options)
    segmenter = Segmenter.load(model, **running(options))
    named = options.domain or options.label_space
    by_image = options.domain == AUTO and AUTO not in segmenter.domains
    if by_image:
        segmenter.check_evidence()
    else:
        segmenter.check_domains([named])
    paths: list[Path] = []
    if source.is_dir():
        if source.resolve() == options.out.resolve():
            raise UnivsegError(f'{options.out}: the images are here; expected another --out: the '
                               'next time, masks would be taken for images')
        paths = frames_of(source)
        images = readable_images(paths, 'predict')
    else:
        images = iter([(source, read_image(source))])
    done: dict[str, str] = {}
    unknown: dict[str, float] = {}
    for path, image in images:
        with told_with(path):
            encoded, name = segmenter.encode(image), named
        if by_image:
            found = segmenter.recognise(encoded)
            name = found.domain
            if not found.is_familiar:
                unknown[str(path)] = found.unfamiliarity
                log.warning('%s: of none of the domains (unfamiliarity %.2f, most like %s): no '
                            'mask', path, found.unfamiliarity, name)
                continue
        domain = segmenter.domains[name]
        mask = (segmenter.head_mask(encoded, name) if options.domain
                else segmenter.label_embedding_mask(encoded, name))
        write_png(options.out / f'{path.stem}_mask.png', mask)
        write_png(options.out / f'{path.stem}_overlay.png',
                  with_legend(overlay(image, mask, domain), domain))
        done[str(path)] = name
    skipped = sorted({*map(str, paths)} - {*done} - {*unknown})
    values: dict[str, Any] = {'folder': str(options.out), 'images': list(done), 'skipped': skipped}
    text = f'{len(done)} masks and overlays in {options.out}'
    if by_image:
        values |= {'domains': done, 'unknown': unknown}
        counts = Counter(done.values())
        text += f' ({", ".join(f"{counts[each]} of {each}" for each in segmenter.domains)})'
        if unknown:
            text += f'; {len(unknown)} images are of none of the domains and have no mask'
    if skipped:
        text += f'; {len(skipped)} images cannot be read and are skipped'
    report(options, values, text)
