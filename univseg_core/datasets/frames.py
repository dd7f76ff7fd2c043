"""Training frames out of bags: a folder of them, its settings, and what became of the messages."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
import json
from pathlib import Path
from typing import Any

from univseg_core.bags.mcap import FOREVER, Message
from univseg_core.bags.reading import Bag, BagError, deserialise, IMAGE_TYPES
from univseg_core.datasets.cache import claimed
from univseg_core.datasets.frame_choice import (
    DUPLICATE,
    ExtractionSettings,
    Judge,
    NOT_EVERY,
    TOO_SOON,
    UNREADABLE,
)
from univseg_core.datasets.frame_files import FolderOf, Writer
from univseg_core.datasets.manifest import KEPT, Manifest, Row
from univseg_core.errors import did_you_mean, UnivsegError
from univseg_core.files import write_text
from univseg_core.files.records import read_json
from univseg_core.pictures.video import refusal, video_format, video_topics
from univseg_core.progress import progress_bar

SETTINGS = 'settings.json'


class FramesError(UnivsegError):
    """Frames that cannot be added to a folder."""


@dataclass
class Report:
    """What became of the messages: how many by bag, topic and outcome; what was wrong."""

    counts: dict[tuple[str, str], Counter] = field(
        default_factory=lambda: defaultdict(Counter))
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    known: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Count a message."""
        key, (outcome, _, why) = (row.bag, row.topic), row.outcome.partition(': ')
        self.counts[key][outcome] += 1
        if outcome == UNREADABLE:
            self.examples.setdefault(key, why)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values: how many messages of each topic had which outcome."""
        return {'topics': [{'bag': bag, 'topic': topic, 'messages': counts.total(),
                            'kept': counts[KEPT], 'outcomes': dict(counts),
                            'first_unreadable': self.examples.get((bag, topic))}
                           for (bag, topic), counts in self.counts.items()],
                'known': self.known, 'problems': self.problems}

    def text(self) -> str:
        """Return a line for each topic of each bag."""
        words = {NOT_EVERY: 'left out by --every', TOO_SOON: 'by --min-interval',
                 DUPLICATE: 'near duplicates', UNREADABLE: 'unreadable'}
        lines = []
        for (bag, topic), counts in self.counts.items():
            parts = [f'{counts[outcome]} {text}' for outcome, text in words.items()
                     if counts[outcome]]
            example = self.examples.get((bag, topic))
            lines.append(f'{bag} {topic}: kept {counts[KEPT]} of {counts.total()} frames'
                         f'{"; " if parts else ""}{", ".join(parts)}'
                         f'{f" (the first: {example})" if example else ""}')
        return '\n'.join(lines)


def extract_frames(bags: Sequence[Path], folder: Path, topics: Sequence[str] = (),
                   settings: ExtractionSettings | None = None, progress: bool = True,
                   folder_of: FolderOf | None = None) -> Report:
    """
    Write the frames of some topics into a folder, and its manifest; go on where one was ended.

    A frame stands in the folder below it that `folder_of`, if there is one, names by its image.
    Without `topics`, that is the only topic of images of each bag. What cannot be had (damaged
    bags, missing topics) is in the report's problems, and does not keep the rest from being
    extracted. Raises FramesError for a folder of frames with other settings, or that cannot be
    written to (a full disk); the same call then goes on from there.
    """
    settings = settings or ExtractionSettings()
    report = Report()
    try:
        with claimed(folder), Manifest(folder) as manifest:
            _settle(folder, settings, manifest)
            for path in bags:
                try:
                    with Bag(path) as bag:
                        _extract(bag, folder, topics, settings, manifest, report, progress,
                                 folder_of)
                        report.problems += bag.damage
                except BagError as error:
                    report.problems.append(str(error))
    except OSError as error:
        raise FramesError(f'{folder}: cannot be written to: {error.strerror}; once it can '
                          'be, the same command goes on where this one ended') from error
    return report


def _settle(folder: Path, settings: ExtractionSettings, manifest: Manifest) -> None:
    """Note a folder's settings; raise FramesError where its rows come from others."""
    path = folder / SETTINGS
    if manifest.was_empty or not path.is_file():
        write_text(path, json.dumps(asdict(settings), indent=1) + '\n')
        return
    try:
        there = read_json(path)
        other = {name: there.get(name) for name, value in asdict(settings).items()
                 if there.get(name) != value}
    except (ValueError, AttributeError) as error:
        raise FramesError(f'{path}: damaged: {error}') from error
    if other:
        raise FramesError(f'{folder}: holds frames of other settings '
                          f'({", ".join(f"{name}: {value}" for name, value in other.items())}); '
                          'choose another folder')


def _chosen_topics(bag: Bag, topics: Sequence[str], report: Report) -> list[str]:
    """Return those of the topics that have images; note the others."""
    types = bag.topics()
    images = sorted(topic for topic, type_ in types.items() if type_ in IMAGE_TYPES)
    videos = video_topics(types)
    listed = f'its image topics: {", ".join(images) or "none"}{videos and f"; {videos}"}'
    if not topics:
        if len(images) != 1:
            report.problems.append(f'{bag.path}: expected one image topic, or --topic; {listed}')
            return []
        return images
    for topic in dict.fromkeys(topics):
        if topic not in types:
            report.problems.append(f'{bag.path}: has no topic {topic}; {listed}'
                                   f'{did_you_mean(topic, images)}')
        elif topic not in images:
            report.problems.append(f'{bag.path}: {topic} is of type {types[topic]}; {listed}')
    return [topic for topic in dict.fromkeys(topics) if topic in images]


def _extract(bag: Bag, folder: Path, topics: Sequence[str], settings: ExtractionSettings,
             manifest: Manifest, report: Report, progress: bool,
             folder_of: FolderOf | None) -> None:
    chosen = _chosen_topics(bag, topics, report)
    if not chosen:
        return
    window = _window(bag, settings)
    messages = progress_bar(bag.messages(chosen, *window), bag.name, bag.count(chosen),
                            unit='frame', disable=not progress)
    judges = {topic: Judge(settings) for topic in chosen}
    seen: set[str] = set()
    with Writer(folder, settings, manifest, report.add, folder_of) as writer:
        for message in messages:
            if message.topic not in seen:
                seen.add(message.topic)
                if codec := _video_format(message):
                    report.problems.append(f'{bag.path}: {message.topic}: {refusal(codec)}')
                    del judges[message.topic]
            if not judges:
                break
            if (judge := judges.get(message.topic)) is None:
                continue
            if row := manifest.known(bag.name, message.topic, message.time):
                judge.recall(row)
                report.known += 1
                report.add(row)
                if writer.lacks(row):
                    afresh = Judge(settings)  # which keeps whatever comes first
                    writer.write_anew(row, afresh.judge(bag.name, message)[1])
            else:
                writer.write(*judge.judge(bag.name, message))
    for topic in {*chosen} - seen:
        report.counts[bag.name, topic]  # told, too: that there are none


def _video_format(message: Message) -> str:
    try:
        return video_format(deserialise(message))
    except BagError:  # which is told of each message
        return ''


def _window(bag: Bag, settings: ExtractionSettings) -> tuple[int, int]:
    begin = bag.begin() or 0
    end = FOREVER if settings.end is None else begin + round(settings.end * 1e9)
    return begin + round(settings.start * 1e9) if settings.start else 0, end
