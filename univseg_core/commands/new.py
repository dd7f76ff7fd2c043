"""`univseg new`: a configuration for one's own places."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import re
import shlex

from univseg_core.commands.options import Command
from univseg_core.commands.output import report
from univseg_core.errors import in_one_line, UnivsegError

EXAMPLES = """examples:
  univseg new my yard/ hall/                  my.yaml, of two places
  univseg new my worlds/                      of all places in a folder
  univseg new my yard/ --labels label13       where several folders have label maps
  univseg new my yard/ --background void      where index 0 is no class
"""

FOLDERS = """what is found:
  FOLDER/train/image  FOLDER/train/label      or images, labels, masks, annotations …
  FOLDER/images/val   FOLDER/labels/val       train, val and test, in any order
  FOLDER/classes.txt                          one class name a line, in the order of the indices
Images and label maps (PNGs of class indices, 255 = void) have the same names. Images without
label maps are learned from, too. Where nothing is called val or test, some of the labelled images
are set aside.
"""

ENDINGS = ('.yaml', '.yml')
"""Of a configuration's file."""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('new', _new, 'write a configuration for places of your own, from folders of '
                  'images and label maps', f'{EXAMPLES}\n{FOLDERS}')
    sub.add_argument('name', metavar='NAME', type=Path,
                     help='writes NAME.yaml, never over a file that is there')
    sub.add_argument('folders', nargs='*', type=Path, metavar='FOLDER', default=[],
                     help='a folder of a place, or of several (default: this folder)')
    sub.add_argument('--labels', metavar='NAME',
                     help='the name of the folders of label maps, where there are several kinds')
    sub.add_argument('--background', metavar='void|CLASS',
                     help='what index 0 of the label maps is: void, and 1 the first class, or a '
                          'class, which the others follow')
    sub.add_argument('--painted', metavar='void|CLASS',
                     help='what 255 is in label maps of 0 and 255 alone')


def _new(options: argparse.Namespace) -> None:
    from univseg_core.pictures.label_meaning import LabelMeaning
    from univseg_core.places.configuration import write_configuration
    from univseg_core.places.found import find_places

    path = _file(options.name, options.folders)
    places = find_places(options.folders or [Path()], options.labels)
    meaning = LabelMeaning(options.background, options.painted, words='--{} {}')
    try:
        new = write_configuration(path, places, meaning)
    except FileExistsError as error:
        raise UnivsegError(f'{error.filename}: {error.strerror}; name a new one, or remove '
                           'it') from error
    lines = [f'{domain}: {each["classes"]} classes, {each["labelled"]} labelled images, '
             f'{each["validation"]} to measure with'
             + (f', more without labels in {", ".join(each["unlabelled"])}'
                if each['unlabelled'] else '') for domain, each in new.domains.items()]
    following = [f'univseg {command} {shlex.quote(str(path))}'
                 for command in ('data check', 'train')]
    report(options, {'file': str(path), 'recipe': new.recipe, 'domains': dict(new.domains),
                     'next': following},
           '\n'.join([f'{path}: written, for a {new.recipe.upper()}', *lines,
                      f'next: {following[0]}', f'then: {following[1]}']))


def _file(name: Path, folders: Sequence[Path]) -> Path:
    """Return the file that NAME stands for; raise UnivsegError for what is meant as no name."""
    ending = name.suffix
    if (not re.fullmatch(r'\w([\w.-]*\w)?', name.name)
            or (ending[1:].isalpha() and ending not in ENDINGS)):
        raise UnivsegError(
            f'{in_one_line(name)}: expected a name for the configuration first, of letters, '
            'digits, _, - and . inside, without an ending or with .yaml: univseg new my FOLDER')
    if name.is_dir():
        again = shlex.join(['univseg', 'new', 'my', *dict.fromkeys(map(str, [name, *folders]))])
        raise UnivsegError(f'{name} is a folder; a name comes first: {again}')
    return name if ending in ENDINGS else name.with_name(f'{name.name}.yaml')
