"""`univseg prelabel`: a model's masks for a person to correct."""

import argparse
from pathlib import Path

from univseg_core.commands.options import (
    add_model_and_frames,
    add_running,
    Command,
    model_and_frames,
    number,
    running,
    whole,
)
from univseg_core.commands.output import report
from univseg_core.errors import did_you_mean, told_with

EXAMPLES = """examples:
  univseg prelabel frames/ --model yard.univseg --domain outdoor --out to_correct
  univseg prelabel frames/ --model yard.univseg --domain outdoor --out to_correct \\
      --ranked ranking/rank.csv --confidence 0.6
  univseg prelabel frames/ --model yard.univseg --domain outdoor --out to_correct \\
      --format cvat,labelme --min-pixels 10
"""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('prelabel', _prelabel, "write a model's masks for a person to correct",
                  EXAMPLES, more=_formats_in_words)
    add_model_and_frames(sub)
    sub.add_argument('--domain', metavar='NAME', required=True,
                     help='the domain whose head labels the pixels')
    sub.add_argument('--out', type=Path, required=True, metavar='DIR',
                     help='a new folder, for images/ and what the format has; of several formats, '
                          'for a folder of each')
    sub.add_argument('--format', type=format_names, action='extend', metavar='NAME',
                     dest='formats',
                     help='what the masks are written as: one of the formats that this help '
                          'lists; may be repeated, or name several with commas (default: masks)')
    sub.add_argument('--confidence', type=number(1, 'a probability, 0 to 1'), default=0.0,
                     metavar='T', help='pixels whose class has a smaller probability, 0..1, '
                                       'become void (255; default: 0)')
    sub.add_argument('--min-pixels', type=whole(0), default=0, metavar='N',
                     help='regions of fewer pixels, void ones too, become what is next to them, '
                          'so that nobody has to click on them (default: 0)')
    sub.add_argument('--ranked', type=Path, metavar='CSV',
                     help='a rank.csv of `univseg rank`: only the frames that it names')
    add_running(sub)


def format_names(text: str) -> list[str]:
    """Return the names of formats that masks can be written in."""
    from univseg_core.labelling.prelabels import written_formats

    known = written_formats()
    for name in (names := [*map(str.strip, text.split(','))]):
        if name not in known:
            raise argparse.ArgumentTypeError(f'{name!r}: expected one of {", ".join(known)}'
                                             f'{did_you_mean(name, known)}')
    return names


def _formats_in_words() -> str:
    from univseg_core.labelling.prelabels import written_formats

    return '\n'.join(['formats:', *(f'  {name:14}{says}'
                                   for name, says in written_formats().items())])


def _prelabel(options: argparse.Namespace) -> None:
    from univseg_core.files import new_folder
    from univseg_core.inference.segmenter import Segmenter
    from univseg_core.labelling.frame_folder import frames_of, readable_images
    from univseg_core.labelling.prelabels import decided, DEFAULT, only_named, PrelabelFolder
    from univseg_core.labelling.ranking import read_ranking
    from univseg_core.labelling.specks import without_specks

    model, source = model_and_frames(options)
    segmenter = Segmenter.load(model, **running(options))
    segmenter.check_domains([options.domain])
    frames = frames_of(source)
    if options.ranked:
        frames = only_named(frames, read_ranking(options.ranked), options.ranked)
    formats = options.formats or [DEFAULT]
    shares = []
    with new_folder(options.out) as unfinished:
        folder = PrelabelFolder(unfinished, segmenter.domains[options.domain], formats)
        for path, image in readable_images(frames, 'prelabel'):
            with told_with(path):
                found = segmenter(image, [options.domain], confidence=True,
                                  threshold=options.confidence)[options.domain]
            assert found.confidence is not None  # it was asked for
            mask = without_specks(found.mask, options.min_pixels)
            folder.add(path, mask, float(found.confidence.mean()) / 255)
            shares.append(decided(mask))
        folder.finish()
    copied = len(folder.names) - folder.linked
    share = sum(shares) / len(shares)
    report(options, {'folder': str(options.out), 'formats': formats, 'frames': folder.names,
                     'share_with_class': share, 'hard_links': folder.linked, 'copies': copied},
           f'{len(folder.names)} frames with masks in {options.out}; '
           f'{100 * share:.1f} % of the pixels have a class; of the frames, '
           f'{folder.linked} are hard links, {copied} copies')
