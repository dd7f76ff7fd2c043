"""`univseg import-labels`: what annotation tools write becomes a labelled folder."""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from univseg_core.commands.options import colour, Command, model_file
from univseg_core.commands.output import report
from univseg_core.errors import did_you_mean, UnivsegError

if TYPE_CHECKING:
    from univseg_core.domains import Domain
    from univseg_core.labelling.class_names import ClassNames
    from univseg_core.labelling.label_import import Checked
    from univseg_core.labelling.returned import Returned
    from univseg_core.settings.domains import DomainSection

EXAMPLES = """examples:
  univseg import-labels annotations.json --frames frames/ --model yard.univseg --domain outdoor \\
      --out yard/labelled --dry-run                        # what is in it, and what is wrong
  univseg import-labels annotations.json --frames frames/ --model yard.univseg --domain outdoor \\
      --out yard/labelled --map lorry=truck --map 'wheel chair=void'
  univseg import-labels colours/ --frames frames/ --config my.yaml --domain outdoor \\
      --labelmap labelmap.txt --out yard/labelled
  univseg import-labels indices/ --frames frames/ --config my.yaml --domain outdoor \\
      --background void --out yard/labelled                # 0 void, 1 the first class, …
  univseg import-labels brush/ --frames frames/ --config my.yaml --domain outdoor \\
      --painted tree --out yard/labelled                   # 255 tree, 0 void
"""

OF_MASKS = ('void', 'labelmap', 'palette', 'painted')
"""Options of label maps alone."""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('import-labels', _import, 'bring what annotation tools write back as a labelled '
                  'folder', EXAMPLES, more=_formats_in_words)
    sub.add_argument('labels', type=Path, metavar='SOURCE',
                     help='a file or folder of an annotation tool, or a folder of PNGs: class '
                          'indices, indices with a palette, colours, or masks FRAME-CLASS.png of '
                          'one class each')
    sub.add_argument('--format', metavar='NAME',
                     help='which format SOURCE is of (default: the one that it is recognised as)')
    sub.add_argument('--frames', type=Path, required=True, metavar='DIR',
                     help='the folder of the images, or of folders of them; they are found by '
                          'their names')
    of = sub.add_mutually_exclusive_group(required=True)
    of.add_argument('--model', type=Path, help='a model file, a finished run, or demo, that has '
                                               'the domain')
    of.add_argument('--config', help='or a configuration that has it')
    sub.add_argument('--domain', metavar='NAME', required=True,
                     help='the domain whose classes the labels are')
    sub.add_argument('--out', type=Path, required=True, metavar='DIR',
                     help='labelled folder to make or add to: image/, label/, classes.txt and '
                          'import.png, a sheet of ten labels to look at')
    sub.add_argument('--map', type=renaming, action='append', default=[], metavar='OLD=NEW',
                     dest='renamed',
                     help='what a category of the tool is: a class, or void; may be repeated. '
                          'Others are the classes of their names, whatever their case, spaces, '
                          'underscores and hyphens')
    sub.add_argument('--background', metavar='void|CLASS',
                     help='what nobody painted (default: void); in label maps what index 0 is: '
                          'the other indices are the other classes in their order. Asked for '
                          'where the palette of a label map begins with black or the colour of '
                          'void')
    sub.add_argument('--dry-run', action='store_true',
                     help='read and check all, tell what is there, and write nothing but the '
                          'sheet that --sheet names')
    sub.add_argument('--sheet', type=Path, metavar='FILE',
                     help='write the sheet as this PNG, too')
    group = sub.add_argument_group('label maps')
    group.add_argument('--void', type=colour, metavar='R,G,B',
                       help='the colour of pixels without a class (default: black, unless a class '
                            'is black)')
    group.add_argument('--labelmap', type=Path, metavar='FILE',
                       help="a tool's labelmap.txt, if its colours are others than the domain's")
    group.add_argument('--palette', choices=('auto', 'indices', 'colours'),
                       help='what counts in a PNG with a palette; auto: its indices, and an error '
                            'where its colours are those of other classes (default: auto)')
    group.add_argument('--painted', metavar='void|CLASS',
                       help='what 255 is in label maps of 0 and 255 alone: void, or the class '
                            'that was painted (0 is void then, or what --background says). Asked '
                            'for where there are such')


def _formats_in_words() -> str:
    from univseg_core.labelling.import_sources import sources

    return '\n'.join(['formats:', *(f'  {name:16}{says}' for name, says in sources().items())])


def renaming(text: str) -> tuple[str, str]:
    """Return the two names of OLD=NEW."""
    old, equals, new = text.rpartition('=')
    if not (old and equals and new):
        raise argparse.ArgumentTypeError(f'{text!r}: expected OLD=NEW, such as lorry=truck or '
                                         'lorry=void')
    return old, new


def _import(options: argparse.Namespace) -> None:
    from univseg_core.commands.import_text import found, nothing, passed_over, to_train, warn
    from univseg_core.labelling.class_names import ClassNames
    from univseg_core.labelling.frame_folder import frames_below
    from univseg_core.labelling.label_import import check_labels, import_labels
    from univseg_core.labelling.unread_maps import unread_archives
    from univseg_core.pictures.images import write_png
    from univseg_core.pictures.label_meaning import VOID

    if options.sheet and options.sheet.is_dir():
        raise UnivsegError(f'--sheet {options.sheet}: expected the name of a file, got a folder')
    domain, section = _domain(options)
    names = ClassNames(domain, _renamed(options.renamed))
    for option in ('background', 'painted'):
        said = getattr(options, option)
        if said not in (None, VOID):
            setattr(options, option, names.class_called(said) or said)
    frames = frames_below(options.frames, aside=options.out)
    kind = _format(options, frames)
    returned = _returned(options, kind, frames, names)
    facts: dict = {'format': kind}

    def tell(checked: 'Checked') -> None:
        unread = _unread(options, checked, frames)
        if not checked.frames:
            warn(checked, names, unread)
            raise UnivsegError(nothing(options.labels, checked, names))
        facts.update(classes=checked.counts.rows(), forgiven=names.forgiven,
                     mapped=names.mapped, dropped=names.dropped,
                     as_prelabelled=[frame.stem for frame in checked.as_prelabelled],
                     not_read=[*map(str, unread)])
        if not options.json:
            print(found(options.labels, checked, kind, names), flush=True)
        warn(checked, names, unread)
        if wrong := passed_over(checked, unread, unread_archives(checked)):
            raise UnivsegError(f'{options.labels}: {wrong}')
        if options.sheet:
            write_png(options.sheet, checked.sheet.picture())

    if options.dry_run:
        checked = check_labels(returned, options.out, domain)
        tell(checked)
        report(options, {'folder': None, 'frames': len(checked.frames), 'empty': checked.empty,
                         'unlabelled': checked.unlabelled, 'turned': checked.turned, **facts},
               'nothing is written (--dry-run)')
        return
    done = import_labels(returned, options.out, domain, tell)
    report(options, {'folder': str(options.out), **asdict(done), **facts},
           f'{options.out}: {len(done.added)} label maps added, {len(done.replaced)} replaced, '
           f'{len(done.unchanged)} as they were\n{to_train(options.out, domain.name, section)}')


def _unread(options: argparse.Namespace, checked: 'Checked', frames: Sequence[Path]
            ) -> list[Path]:
    """Return what `unread_maps` does of a source, and of the folders of its prelabels."""
    from univseg_core.labelling.unread_maps import unread_maps

    folders = [options.labels] if options.labels.is_dir() else []
    folders += sorted({*checked.as_prelabelled.values()})
    return unread_maps(folders, frames, checked.read, options.out, checked.prelabels)


def _renamed(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the new names of --map by the old ones; raise UnivsegError for two of one."""
    found: dict[str, str] = {}
    for old, new in pairs:
        if found.setdefault(old, new) != new:
            raise UnivsegError(f'--map {old}: expected one new name, got {found[old]} and {new}')
    return found


def _format(options: argparse.Namespace, frames: Sequence[Path]) -> str:
    """Return the format of the source: as it is insisted on, or recognised."""
    from univseg_core.commands.import_text import short
    from univseg_core.datasets.folders import has_text_name, name_key
    from univseg_core.labelling.import_sources import MASKS, recognised, sources, whole_of

    known = sources()
    if options.format not in (None, *known):
        raise UnivsegError(f'--format {options.format}: expected one of {", ".join(known)}'
                           f'{did_you_mean(options.format, known)}')
    of_frame = {name_key(frame): frame for frame in filter(has_text_name, frames)}
    kind = recognised(options.labels, of_frame, options.format)
    is_told = kind != MASKS or options.format or options.labelmap
    if not is_told and (whole := whole_of(options.labels)):
        raise UnivsegError(
            f'{options.labels}: a part of {short(whole[0])} ({whole[1]}), which tells what its '
            f'values are: name that, or say --format {MASKS} if they are those of the domain')
    given = [name for name in OF_MASKS if getattr(options, name) is not None]
    if given and kind != MASKS:
        raise UnivsegError(f'--{given[0]} is of label maps alone, but {options.labels} is {kind}')
    return kind


def _returned(options: argparse.Namespace, kind: str, frames: Sequence[Path],
              names: 'ClassNames') -> 'Iterable[Returned | str]':
    """Return the labels of each frame that a source has, and what is wrong with it."""
    from univseg_core.annotations.formats import FORMATS
    from univseg_core.domains import IGNORE_INDEX
    from univseg_core.labelling.frame_names import FrameNames
    from univseg_core.labelling.import_sources import MASKS
    from univseg_core.labelling.returned_regions import regions_by_frame
    from univseg_core.pictures.label_meaning import LabelMeaning

    if kind == MASKS:
        return _label_maps(options, frames, names)
    domain = names.domain
    if wrong := LabelMeaning(background=options.background).wrong(domain.classes):
        raise UnivsegError(f'--{wrong}')
    read = FORMATS[kind].read
    assert read is not None  # of those that can be brought in
    background = (domain.classes.index(options.background)
                  if options.background in domain.classes else IGNORE_INDEX)
    return regions_by_frame(read(options.labels), FrameNames(frames, options.frames), names,
                            background)


def _label_maps(options: argparse.Namespace, frames: Sequence[Path],
                names: 'ClassNames') -> 'Iterable[Returned | str]':
    """Return the label maps of a folder of PNGs by their frames."""
    from univseg_core.annotations.named_masks import read_labelmap
    from univseg_core.datasets.folders import by_name, name_key
    from univseg_core.labelling.frame_folder import frames_of
    from univseg_core.labelling.import_sources import label_map_folder
    from univseg_core.labelling.returned_files import by_frame
    from univseg_core.labelling.returned_labels import (
        class_colours,
        foreign_names,
        LabelDecoder,
    )

    domain = names.domain
    if options.renamed and not options.labelmap:
        raise UnivsegError('--map: label maps have numbers and no names, unless --labelmap tells '
                           'them')
    named = read_labelmap(options.labelmap) if options.labelmap else None
    decoder = LabelDecoder(domain, class_colours(domain, options.void, named, names),
                           options.palette or 'auto', options.background, options.painted,
                           foreign_names(named or {}, names))
    alike = Counter(map(name_key, frames))
    of_frame = by_name({name_key(frame): frame for frame in frames}.values())
    return by_frame(frames_of(label_map_folder(options.labels)), of_frame, decoder,
                    {name for name, count in alike.items() if count > 1})


def _domain(options: argparse.Namespace) -> 'tuple[Domain, DomainSection | None]':
    """Return the domain that a model file or a configuration has, and what the latter says."""
    from univseg_core.domains import DomainError

    if options.model:
        from univseg_core.inference.segmenter import load_network

        source = model_file(options.model)
        domains, sections = load_network(source)[0].domains, {}
    else:
        from univseg_core.settings.config import load_config

        config, source = load_config(options.config, folders_needed=False), options.config
        domains = {name: config.domain(name) for name in config.domains}
        sections = config.domains
    if options.domain not in domains:
        raise DomainError(f'{source}: unknown domain {options.domain!r}; there are '
                          f'{", ".join(domains)}{did_you_mean(options.domain, domains)}')
    return domains[options.domain], sections.get(options.domain)
