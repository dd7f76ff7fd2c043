"""Training frames out of bags, videos and folders: a folder of them, and what became of each."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
import json
from pathlib import Path
from typing import Any

from univseg_core.bags.reading import BagError
from univseg_core.datasets.cache import claimed, LOCK
from univseg_core.datasets.frame_choice import (
    DUPLICATE,
    ExtractionSettings,
    Judge,
    NOT_EVERY,
    TOO_SOON,
    UNREADABLE,
)
from univseg_core.datasets.frame_files import FolderOf, Writer
from univseg_core.datasets.manifest import KEPT, MANIFEST, Manifest, Row
from univseg_core.datasets.sources.names import SourceNames, SOURCES
from univseg_core.datasets.sources.opening import open_source
from univseg_core.datasets.sources.source import Source, SourceError
from univseg_core.errors import UnivsegError
from univseg_core.files import write_text
from univseg_core.files.records import read_json
from univseg_core.pictures.video_file import VideoError
from univseg_core.progress import progress_bar

SETTINGS = 'settings.json'

OWN = {LOCK, MANIFEST, SETTINGS, SOURCES}
"""What a folder has besides frames."""


class FramesError(UnivsegError):
    """Frames that cannot be added to a folder."""


@dataclass
class Report:
    """
    What became of the images: how many by source, topic and outcome.

    `problems` are what was wrong, `notes` what else is to be said, `known` how many images had
    been decided before.
    """

    counts: dict[tuple[str, str], Counter] = field(
        default_factory=lambda: defaultdict(Counter))
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    known: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, topic: str, row: Row) -> None:
        """Count an image for a topic of its source."""
        key, (outcome, _, why) = (row.bag, topic), row.outcome.partition(': ')
        self.counts[key][outcome] += 1
        if outcome == UNREADABLE:
            # Of a folder, whose images are topics in the manifest, and errors of files name them.
            is_named = row.topic in (topic, '') or row.topic in why
            self.examples.setdefault(key, why if is_named else f'{row.topic}: {why}')

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values: how many images of each topic had which outcome."""
        return {'topics': [{'bag': bag, 'topic': topic, 'messages': counts.total(),
                            'kept': counts[KEPT], 'outcomes': dict(counts),
                            'first_unreadable': self.examples.get((bag, topic))}
                           for (bag, topic), counts in self.counts.items()],
                'known': self.known, 'problems': self.problems, 'notes': self.notes}

    def text(self) -> str:
        """Return a line for each topic of each source, and the notes."""
        words = {NOT_EVERY: 'left out by --every', TOO_SOON: 'by --min-interval',
                 DUPLICATE: 'near duplicates', UNREADABLE: 'unreadable'}
        lines = []
        for (bag, topic), counts in self.counts.items():
            parts = [f'{counts[outcome]} {text}' for outcome, text in words.items()
                     if counts[outcome]]
            example = self.examples.get((bag, topic))
            lines.append(f'{bag}{topic and f" {topic}"}: kept {counts[KEPT]} of '
                         f'{counts.total()} frames{"; " if parts else ""}{", ".join(parts)}'
                         f'{f" (the first: {example})" if example else ""}')
        return '\n'.join(lines + self.notes)


def extract_frames(sources: Sequence[Path], folder: Path, topics: Sequence[str] = (),
                   settings: ExtractionSettings | None = None, progress: bool = True,
                   folder_of: FolderOf | None = None) -> Report:
    """
    Write the frames of bags, videos and folders into a folder, and its manifest.

    It goes on where an earlier call ended. `folder_of`, if given, names the folder below `folder`
    that a frame stands in, by its image. Without `topics`, the only topic of images of each bag is
    taken. What cannot be had (damaged bags, missing topics) is in the report's problems, and does
    not keep the rest from being extracted; a new folder is not left where nothing else comes of
    them. Raises FramesError for a folder of frames with other settings, or one that cannot be
    written to (a full disk); the same call then goes on from there.
    """
    settings = settings or ExtractionSettings()
    report = Report()
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with (claimed(folder), _gone_unless_of_use(folder, new, report),
              Manifest(folder) as manifest):
            _settle(folder, settings, manifest)
            names, taken = SourceNames(folder), set()
            for path in sources:
                try:
                    with open_source(path, topics, names) as source:
                        if source.identity in taken:
                            report.notes.append(f'{path}: the same as one before it, and taken '
                                                'once')
                            continue
                        taken.add(source.identity)
                        _extract(source, folder, settings, manifest, report, progress, folder_of)
                except (BagError, SourceError, VideoError) as error:
                    report.problems.append(str(error))
    except OSError as error:
        raise FramesError(f'{folder}: cannot be written to: {error.strerror}; once it can '
                          'be, the same command goes on where this one ended') from error
    return report


@contextmanager
def _gone_unless_of_use(folder: Path, new: Sequence[Path], report: Report) -> Iterator[None]:
    """
    Remove a folder, and those above it, that are `new` where something fails without a frame.

    With a frame that has no row, or with what this program has not written, it stays.
    """
    failed = True
    try:
        yield
        failed = bool(report.problems)
    finally:
        if failed and new and {path.name for path in folder.iterdir()} <= OWN:
            for name in OWN:
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # somebody has put something there
                for path in new:
                    path.rmdir()


def _settle(folder: Path, settings: ExtractionSettings, manifest: Manifest) -> None:
    """Note a folder's settings; raise FramesError where its rows come from others."""
    path = folder / SETTINGS
    there = {}
    try:
        if path.is_file():
            there = read_json(path)
        if not isinstance(there, dict) or not there.keys() <= asdict(settings).keys():
            raise ValueError('these are not the settings of frames')
    except ValueError as error:
        raise FramesError(f'{path}: damaged, or not of univseg frames: {error}; choose another '
                          'folder') from error
    if manifest.was_empty or not path.is_file():
        write_text(path, json.dumps(asdict(settings), indent=1) + '\n')
        return
    other = {name: there.get(name) for name, value in asdict(settings).items()
             if there.get(name) != value}
    if other:
        raise FramesError(f'{folder}: holds frames of other settings '
                          f'({", ".join(f"{name}: {value}" for name, value in other.items())}); '
                          'choose another folder')


def _extract(source: Source, folder: Path, settings: ExtractionSettings, manifest: Manifest,
             report: Report, progress: bool, folder_of: FolderOf | None) -> None:
    if not source.has_times:
        settings = replace(settings, min_interval=0.0)
    judges = {topic: Judge(settings) for topic in source.topics}
    items = progress_bar(source.items(settings.start, settings.end), source.name, source.count(),
                         unit='frame', disable=not progress) if judges else ()

    def written(row: Row) -> None:
        report.add(source.counted_as(row.topic), row)

    with Writer(folder, settings, manifest, source.stem, written, folder_of) as writer:
        for item in items:
            judge = judges[source.counted_as(item.topic)]
            if row := manifest.known(source.name, item.topic, item.known_by):
                judge.recall(row)
                report.known += 1
                written(row)
                if writer.lacks(row):
                    afresh = Judge(settings)  # which keeps whatever comes first
                    writer.write_anew(row, afresh.judge(source.name, item)[1])
            else:
                writer.write(*judge.judge(source.name, item))
    for topic in source.topics:
        counts = report.counts[source.name, topic]  # told, too: that there are none
        tried = counts.total() - counts[NOT_EVERY]
        if not source.has_times and tried and counts[UNREADABLE] == tried:
            report.problems.append(f'{source.name}: none of its {tried} images can be read')
    if (source.topics and (settings.start or settings.end is not None)
            and not any(report.counts[source.name, topic] for topic in source.topics)):
        until = '' if settings.end is None else f' to {settings.end:g} s'
        report.notes.append(f'{source.name}: no image from {settings.start:g} s{until}')
    report.problems += source.problems
    report.notes += source.notes
