"""`univseg labels`: how good the labels of labelled images are."""

import argparse
import logging
from pathlib import Path
from typing import Literal, TYPE_CHECKING

from univseg_core.commands.options import (
    add_model_and_frames,
    add_running,
    Command,
    model_and_frames,
    running,
    whole,
)
from univseg_core.commands.output import report
from univseg_core.errors import did_you_mean, UnivsegError

if TYPE_CHECKING:
    from univseg_core.datasets.folders import Sample
    from univseg_core.domains import Domain

EXAMPLES = """examples:
  univseg labels check runs/first outdoor               the labels that the run learned from
  univseg labels check runs/first outdoor --validation  those that it was measured with
  univseg labels check yard.univseg outdoor --config my.yaml
  univseg labels check yard.onnx outdoor --images yard/labelled/image \\
      --labels yard/labelled/label                      needs no package for training

Of each label map, the regions are found in which the model sees another class, and ranked by how
sure it is. The first are on labels.png: most likely mistakes, or else what it has not learned.
"""

MOST_SHOWN = 500

log = logging.getLogger(__name__)


def add_to(command: Command) -> None:
    """Add `labels` and what it does to the command line's grammar."""
    sub = command('labels', None, 'find label maps that are likely to have mistakes', EXAMPLES)
    parts = sub.add_subparsers(dest='part', required=True, metavar='check')
    sub = command('check', _check, 'rank label maps by how surely a model contradicts them',
                  EXAMPLES, parts)
    add_model_and_frames(sub, 'DOMAIN', 'the domain whose labels they are')
    sub.add_argument('--config', metavar='CONFIG',
                     help='the configuration whose training labels are checked, all of them '
                          '(default: the labelled images of the run whose model it is)')
    sub.add_argument('--images', type=Path, metavar='DIR',
                     help='or a folder of images, and with --labels …')
    sub.add_argument('--labels', type=Path, metavar='DIR',
                     help='… that of their label maps: PNGs of class indices, 255 = void')
    sub.add_argument('--validation', action='store_true',
                     help='check the validation labels of the configuration, or of the run')
    sub.add_argument('--budget', type=whole(1, MOST_SHOWN), default=50, metavar='N',
                     help='how many label maps labels.png shows at most '
                          f'(default: 50; at most {MOST_SHOWN})')
    sub.add_argument('--out', type=Path, default=Path('label_check'), metavar='DIR',
                     help='folder for labels.csv, which has a row for every label map that the '
                          'model contradicts, and labels.png, a contact sheet of the worst '
                          '(default: label_check)')
    add_running(sub)


def _check(options: argparse.Namespace) -> None:
    from univseg_core.inference.segmenter import Segmenter
    from univseg_core.labelling.check_sheet import sheet_of_checked
    from univseg_core.labelling.label_check import as_rows, check_labels, reason, write_check
    from univseg_core.pictures.images import write_png

    model, named = model_and_frames(options)
    if options.out.exists() and not options.out.is_dir():
        raise UnivsegError(f'{options.out}: a file; expected a folder, or none yet')
    if options.labels and options.out.resolve() == options.labels.resolve():
        raise UnivsegError(f'{options.out}: the folder of the label maps; expected another one')
    table, picture = (options.out / name for name in ('labels.csv', 'labels.png'))
    segmenter = Segmenter.load(model, **running(options))
    segmenter.check_domains([str(named)])
    domain = segmenter.domains[str(named)]
    samples = _samples(options, model.parent, domain)
    if unlabelled := sum(sample.label is None for sample in samples):
        log.warning('%d of %d images have no label map and are left out', unlabelled,
                    len(samples))
    found = check_labels(segmenter, [sample for sample in samples if sample.label], domain.name)
    checked = found.agreed + len(found.contradicted)
    told = {'checked': checked, 'contradicted': list(as_rows(found.contradicted, domain)),
            'skipped': [str(path) for path in found.skipped]}
    text = f'{checked} label maps of {domain.name} checked'
    if found.skipped:
        text += f'; {len(found.skipped)} cannot be read and are skipped'
    if not found.contradicted:
        for old in (table, picture):  # of an earlier call, which found some
            old.unlink(missing_ok=True)
        report(options, told | {'files': []}, f'{text}; the model contradicts none')
        return
    shown = found.contradicted[:options.budget]
    sheet = sheet_of_checked(segmenter, shown, domain.name)
    write_check(table, found.contradicted, domain)
    write_png(picture, sheet)
    report(options, told | {'files': [str(table), str(picture)]},
           f'{text}; the model contradicts {len(found.contradicted)} somewhere, most of all '
           f'{shown[0].sample.name}: {reason(shown[0], domain)}\n'
           f'the worst first: {table}, {picture}')


def _samples(options: argparse.Namespace, folder: Path, domain: 'Domain') -> 'list[Sample]':
    """Return the images whose labels are to be checked; `folder` is that of the model file."""
    if bool(options.images) != bool(options.labels):
        options.grammar.error('expected --images and --labels together')
    if options.images:
        if options.config or options.validation:
            options.grammar.error('expected --images and --labels alone, without --config and '
                                  '--validation')
        return _of_folders(options.images, options.labels, domain)
    if not options.config and not (folder / 'splits.json').is_file():
        raise UnivsegError(f'{folder}: no run, whose labels could be checked; name some with '
                           '--images and --labels, or a configuration with --config')
    # What a configuration needs, a robot has not.
    from univseg_core.batches.labelled_images import run_samples

    part: Literal['labelled', 'validation'] = 'validation' if options.validation else 'labelled'
    if not options.config:
        return run_samples(folder, domain.name, part)
    return _of_configuration(options.config, domain, 'train' if part == 'labelled' else part)


def _of_folders(images: Path, labels: Path, domain: 'Domain') -> 'list[Sample]':
    from univseg_core.datasets.folders import are_masks, DataError, labelled_samples
    from univseg_core.pictures.label_meaning import UNSAID, WHERE_TO_SAY

    for path in (images, labels):
        if not path.is_dir():
            raise DataError(f'{path}: no such folder')
    samples = labelled_samples(images, labels)
    if are_masks(sample.label for sample in samples if sample.label):
        raise DataError(f'{labels}: each of the label maps '
                        f'{UNSAID.question_of_mask(domain.classes)}{WHERE_TO_SAY}')
    return samples


def _of_configuration(path: str, domain: 'Domain', part: Literal['train', 'validation']
                      ) -> 'list[Sample]':
    from univseg_core.batches.parts import questions, samples_of
    from univseg_core.datasets.folders import DataError
    from univseg_core.settings.config import load_config

    config = load_config(path, files_needed=False)
    if domain.name not in config.domains:
        raise DataError(f'{path}: no domain {domain.name}, but {", ".join(config.domains)}'
                        f'{did_you_mean(domain.name, config.domains)}')
    if config.domain(domain.name).classes != domain.classes:
        raise DataError(f'{path}: domains.{domain.name}.classes: the model was trained on other '
                        f'classes: {", ".join(domain.classes)}')
    section = config.domains[domain.name]
    for question in questions(domain.name, section, [part]):
        raise DataError(question)
    return samples_of(domain.name, section, part)
