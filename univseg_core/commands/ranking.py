"""`univseg rank`: which frames are worth a person's labelling."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TYPE_CHECKING

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
from univseg_core.errors import told_with, UnivsegError

if TYPE_CHECKING:
    from univseg_core.inference.segmenter import Segmenter
    from univseg_core.labelling.frame_views import FrameView
    from univseg_core.labelling.kept_views import KeptViews

EXAMPLES = """examples:
  univseg rank frames/ --model yard.univseg --domain outdoor --budget 100
  univseg rank frames/ --model yard.univseg --domain outdoor --minutes 300 --explain
  univseg rank frames/ --model runs/first --domain outdoor --labelled runs/first --out ranking
  univseg rank frames/ --model yard.univseg --domain outdoor --labelled yard/train/image
"""

VIEWS = 'views.jsonl'

SECONDS = number(1e6, 'a number of seconds')


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('rank', _rank, "tell which frames are most worth a person's labelling", EXAMPLES)
    add_model_and_frames(sub)
    sub.add_argument('--domain', metavar='NAME', required=True, help='the domain of the frames')
    sub.add_argument('--budget', type=whole(1), metavar='N',
                     help='how many frames to choose at most (default: 100, or with --minutes as '
                          'many as these allow)')
    sub.add_argument('--minutes', type=number(1e9, 'a number of minutes'), metavar='M',
                     help='how long a person labels at most: then the frames that are worth most '
                          'for each minute come first')
    sub.add_argument('--seconds-per-frame', type=SECONDS, default=60.0, metavar='S',
                     help='what the label of a frame takes at least (default: 60)')
    sub.add_argument('--seconds-per-diagonal', type=SECONDS, default=180.0, metavar='S',
                     help="what outlines as long, in all, as the frame's diagonal take besides "
                          '(default: 180)')
    sub.add_argument('--labelled', type=Path, action='append', default=[], metavar='DIR',
                     help='a folder of images that have labels already, or a run folder (its '
                          'labelled images): they count as chosen before; may be repeated')
    sub.add_argument('--calibrate', type=Path, metavar='DIR',
                     help='a labelled folder (image/ and label/) that the model has not learned '
                          'from: fit a temperature on it, so that probabilities are true')
    sub.add_argument('--explain', action='store_true',
                     help='write explain.png, too: each chosen frame, where the model is unsure, '
                          'which classes it sees, and why the frame was chosen')
    sub.add_argument('--out', type=Path, default=Path('ranking'), metavar='DIR',
                     help='folder for rank.csv, rank.png (a contact sheet of the chosen) and '
                          f'{VIEWS}, with which the same command goes on where it was cut short '
                          '(default: ranking)')
    add_running(sub)


def _rank(options: argparse.Namespace) -> None:
    from univseg_core.files import locked
    from univseg_core.inference.segmenter import Segmenter
    from univseg_core.labelling.frame_folder import frames_of
    from univseg_core.labelling.frame_views import check_rankable, view_frame
    from univseg_core.labelling.kept_views import KeptViews
    from univseg_core.labelling.label_cost import LabelCost
    from univseg_core.labelling.ranked_sheets import explained_sheet, sheet_of_ranked
    from univseg_core.labelling.ranking import as_row, ranked_frames, write_ranking
    from univseg_core.pictures.images import write_png

    model, folder = model_and_frames(options)
    segmenter = Segmenter.load(model, **running(options))
    segmenter.check_domains([options.domain])
    domain = segmenter.domains[options.domain]
    check_rankable(domain)
    paths = frames_of(folder)
    labelled = [path for each in options.labelled for path in _labelled(each, domain.name)]
    budget = options.budget or (100 if options.minutes is None else len(paths))
    temperature = _temperature(segmenter, options) if options.calibrate else 1.0

    def view(image: Any) -> 'FrameView':
        return view_frame(segmenter, image, domain.name, temperature)

    options.out.mkdir(parents=True, exist_ok=True)
    made_by = _made_by(model, segmenter, domain.name, temperature)
    try:
        with locked(options.out), KeptViews(options.out / VIEWS, made_by,
                                            len(domain.classes)) as kept:
            seen = _views(paths, 'frames', view, kept)
            known = _views(labelled, 'labelled', view, kept) if labelled else {}
    except BlockingIOError as error:
        raise UnivsegError(f'{options.out}: another ranking is writing there') from error
    ranked = list(ranked_frames(
        seen, known, domain, budget,
        LabelCost(options.seconds_per_frame, options.seconds_per_diagonal), options.minutes))
    if not ranked:
        raise UnivsegError(f'{folder}: no frame is worth labelling: the model is sure '
                           'of all of them, they are all like labelled ones'
                           + (', or the first takes more than the minutes'
                              if options.minutes is not None else ''))

    write_ranking(options.out / 'rank.csv', ranked)
    sheets = {'rank.png': sheet_of_ranked}
    if options.explain:
        sheets['explain.png'] = explained_sheet
    for name, sheet in sheets.items():
        write_png(options.out / name, sheet(ranked, segmenter, domain, temperature))
    files = [str(options.out / name) for name in ('rank.csv', *sheets)]
    few = min(budget, len(seen)) - len(ranked)
    minutes = sum(each.choice.minutes for each in ranked)
    report(options, {'frames': len(seen), 'labelled': len(known), 'files': files,
                     'minutes': minutes, 'temperature': temperature,
                     'chosen': [as_row(each) for each in ranked]},
           f'{len(ranked)} of {len(seen)} frames chosen'
           + (f' ({few} fewer than asked for: the others are like chosen ones, or the model is '
              'sure of them)' if few and options.minutes is None else '')
           + f', to be labelled in {minutes:.0f} minutes: {", ".join(files)}')


def _views(paths: Sequence[Path], title: str, view: Callable[[Any], 'FrameView'],
           kept: 'KeptViews') -> dict[Path, 'FrameView']:
    """Return the views of the frames that can be read: those that are kept, and new ones."""
    from univseg_core.labelling.frame_folder import readable_images

    found = {path: known for path in paths if (known := kept.get(path))}
    for path, image in readable_images(paths, title, set(found)):
        with told_with(path):
            found[path] = view(image)
        kept.add(path, found[path])
    return found


def _made_by(model: Path, segmenter: 'Segmenter', name: str, temperature: float
             ) -> dict[str, object]:
    """Return what the views of a domain depend on."""
    from univseg_core.files import sha256_of

    return {'model': sha256_of(model), 'domain': name, 'backend': segmenter.backend,
            'precision': segmenter.precision, 'size': segmenter.inference_size,
            'temperature': temperature}


def _temperature(segmenter: 'Segmenter', options: argparse.Namespace) -> float:
    """Return the temperature that the labels of a folder tell."""
    from univseg_core.datasets.folders import labelled_samples, read_sample
    from univseg_core.labelling.calibration import fitted_temperature
    from univseg_core.progress import progress_bar

    domain = segmenter.domains[options.domain]
    samples = [sample for sample in labelled_samples(options.calibrate / 'image',
                                                     options.calibrate / 'label') if sample.label]
    return fitted_temperature(segmenter, domain.name, (
        read_sample(sample, domain) for sample in progress_bar(samples, 'calibrate')))


def _labelled(path: Path, domain: str) -> list[Path]:
    """Return the images that have labels: those that a run took of a domain, or a folder's."""
    from univseg_core.labelling.frame_folder import frames_of

    if (path / 'splits.json').is_file():
        # What a configuration needs, a robot has not.
        from univseg_core.batches.labelled_images import labelled_images

        return labelled_images(path, domain)
    if any((path / name).is_file() for name in ('validation.csv', 'checkpoint.safetensors')):
        raise UnivsegError(f'{path}: a training without splits.json; expected a run folder, or a '
                           'folder of labelled images')
    return frames_of(path)
