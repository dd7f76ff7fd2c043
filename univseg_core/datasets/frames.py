"""Training frames out of bags: which messages are kept, and the files that they become."""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
import json
from pathlib import Path
import re
from typing import Literal

import cv2
import numpy as np
from tqdm import tqdm
from univseg_core.bags.mcap import Message
from univseg_core.bags.reading import Bag, BagError, deserialise, IMAGE_TYPES
from univseg_core.datasets.cache import claimed
from univseg_core.datasets.manifest import KEPT, Manifest, Row
from univseg_core.errors import UnivsegError
from univseg_core.files import replacing, write_text
from univseg_core.machine.resources import cpu_cores
from univseg_core.pictures.compressed import decode_small
from univseg_core.pictures.encoded import JPEG_START, PNG_SIGNATURE
from univseg_core.pictures.image_messages import (
    CompressedImage,
    decode_bgr,
    file_inside,
    Image,
    MessageError,
    nanoseconds,
)
from univseg_core.pictures.images import fit_size, ImageError, resize_image
from univseg_core.pictures.likeness import dhash, few_grey, SMALL_SIDE

SETTINGS = 'settings.json'

START = {'jpg': JPEG_START, 'png': PNG_SIGNATURE}
"""With which bytes a file of each format begins."""

LARGEST_JPEG = 65500
"""Pixels a side that libjpeg can write."""

LONGEST_NAME = 150
"""Characters of a topic in the name of a file."""

NOT_EVERY, TOO_SOON, DUPLICATE, UNREADABLE = 'every', 'min-interval', 'duplicate', 'unreadable'


class FramesError(UnivsegError):
    """Frames that cannot be added to a folder."""


@dataclass(frozen=True)
class ExtractionSettings:
    """
    Which messages become frames, and of what kind.

    Of each topic every n-th message, `min_interval` seconds or more behind the last that was kept,
    recorded from `start` to `end` seconds after the bag's first message; but none whose dHash
    differs in at most `duplicate_bits` of 64 bits from that of the last that was kept (None: all
    are). Pictures whose longest side is above `size` are shrunk to it. `quality` is that of JPEGs
    that are encoded here.
    """

    every: int = 1
    min_interval: float = 0.0
    start: float = 0.0
    end: float | None = None
    duplicate_bits: int | None = 4
    size: int | None = None
    codec: Literal['jpg', 'png'] = 'jpg'
    quality: int = 95


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
                   settings: ExtractionSettings | None = None, progress: bool = True) -> Report:
    """
    Write the frames of some topics into a folder, and its manifest; go on where one was ended.

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
                        _extract(bag, folder, topics, settings, manifest, report, progress)
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
        there = json.loads(path.read_text(encoding='utf-8'))
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
    listed = f'its image topics: {", ".join(images) or "none"}'
    if not topics:
        if len(images) != 1:
            report.problems.append(f'{bag.path}: expected one image topic, or --topic; {listed}')
            return []
        return images
    for topic in dict.fromkeys(topics):
        if topic not in types:
            report.problems.append(f'{bag.path}: has no topic {topic}; {listed}')
        elif topic not in images:
            report.problems.append(f'{bag.path}: {topic} is of type {types[topic]}; {listed}')
    return [topic for topic in dict.fromkeys(topics) if topic in images]


def _extract(bag: Bag, folder: Path, topics: Sequence[str], settings: ExtractionSettings,
             manifest: Manifest, report: Report, progress: bool) -> None:
    chosen = _chosen_topics(bag, topics, report)
    if not chosen:
        return
    window = _window(bag, settings)
    messages = tqdm(bag.messages(chosen, *window), bag.name, bag.count(chosen), unit='frame',
                    disable=not progress)
    judges = {topic: Judge(settings) for topic in chosen}
    with Writer(folder, settings, manifest, report) as writer:
        for message in messages:
            judge = judges[message.topic]
            if row := manifest.known(bag.name, message.topic, message.time):
                afresh = Judge(settings)  # which keeps whatever comes first
                frame = afresh.judge(bag.name, message)[1] if writer.lacks(row) else None
                judge.recall(row)
                writer.known(row, frame)
            else:
                writer.write(*judge.judge(bag.name, message))


def _window(bag: Bag, settings: ExtractionSettings) -> tuple[int, int]:
    begin = bag.begin() or 0
    end = 2**63 - 1 if settings.end is None else begin + round(settings.end * 1e9)
    return begin + round(settings.start * 1e9) if settings.start else 0, end


class Judge:
    """Decides which messages of one topic of a bag become frames."""

    def __init__(self, settings: ExtractionSettings):
        self._settings = settings
        self._number = 0
        self._kept_stamp: int | None = None
        self._kept_dhash: int | None = None

    def recall(self, row: Row) -> None:
        """Take over what was decided of the next message in an earlier call."""
        self._number += 1
        if row.outcome == KEPT:
            self._kept_stamp, self._kept_dhash = row.stamp, int(row.dhash, 16)

    def judge(self, bag: str, message: Message) -> tuple[Row, bytes | np.ndarray | None]:
        """
        Return the row of the next message, without its file's name, and its frame if it is kept.

        That is a JPEG or PNG file as it was recorded, or a picture (H, W, 3) uint8 BGR.
        """
        row = Row('', bag, message.topic, message.time, message.time, 0, 0, '', KEPT)
        number, self._number = self._number, self._number + 1
        if number % self._settings.every:
            return replace(row, outcome=NOT_EVERY), None
        try:
            image = deserialise(message)
            row = replace(row, stamp=nanoseconds(image.header.stamp) or message.time)
            if self._is_too_soon(row.stamp):
                return replace(row, outcome=TOO_SOON), None
            frame, grey, (height, width) = self._frame(image)
        except (BagError, MessageError, ImageError) as error:
            return replace(row, outcome=f'{UNREADABLE}: {" ".join(str(error).split())}'), None
        new_dhash = dhash(grey)
        row = replace(row, width=width, height=height, dhash=f'{new_dhash:016x}')
        if self._is_duplicate(new_dhash):
            return replace(row, outcome=DUPLICATE), None
        self._kept_stamp, self._kept_dhash = row.stamp, new_dhash
        return row, frame

    def _is_too_soon(self, stamp: int) -> bool:
        # A clock that was set back does not end the recording.
        return (self._kept_stamp is not None
                and abs(stamp - self._kept_stamp) < self._settings.min_interval * 1e9)

    def _is_duplicate(self, new_dhash: int) -> bool:
        bits = self._settings.duplicate_bits
        return (bits is not None and self._kept_dhash is not None
                and (new_dhash ^ self._kept_dhash).bit_count() <= bits)

    def _frame(self, image: Image | CompressedImage
               ) -> tuple[bytes | np.ndarray, np.ndarray, tuple[int, int]]:
        """Return a message's frame, a small grey picture of it, and its height and width."""
        data = file_inside(image)
        if data and data.startswith(START[self._settings.codec]):
            grey, size = decode_small(data, SMALL_SIDE)
            if self._fitted(size) == size:
                return data, grey, size
        picture = decode_bgr(image)
        size = self._fitted(picture.shape[:2])
        if self._settings.codec == 'jpg' and max(size) > LARGEST_JPEG:
            raise MessageError(f'{size[1]}x{size[0]} pixels are too many for a JPEG')
        return picture, few_grey(picture), size

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        longest, (height, width) = self._settings.size, size
        return fit_size(height, width, longest if longest and max(size) > longest else None)


class Writer:
    """Encodes and writes frames in threads, and their rows in order behind them."""

    def __init__(self, folder: Path, settings: ExtractionSettings, manifest: Manifest,
                 report: Report):
        self._folder = folder
        self._settings = settings
        self._manifest = manifest
        self._report = report
        # On one core, a frame that waits only leaves the CPU's cache.
        self._most = 2 * (cpu_cores() - 1)
        self._pool = ThreadPoolExecutor(cpu_cores())
        self._pending: deque[tuple[Row, Future | None]] = deque()

    def __enter__(self) -> 'Writer':
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish(0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def lacks(self, row: Row) -> bool:
        """Return whether a frame of an earlier call was left empty, as by a power cut."""
        path = self._folder / row.file
        return row.outcome == KEPT and path.is_file() and not path.stat().st_size

    def known(self, row: Row, frame: bytes | np.ndarray | None) -> None:
        """Count a message of an earlier call; write its frame anew, if one is given."""
        if frame is not None:
            self._write(row, frame)
        self._report.known += 1
        self._report.add(row)

    def write(self, row: Row, frame: bytes | np.ndarray | None) -> None:
        """Begin to write a frame, if there is one, and then its row."""
        future = None
        if frame is not None:
            row = replace(row, file=self._free_name(row))
            future = self._pool.submit(self._write, row, frame)
        self._pending.append((row, future))
        self._finish(self._most)

    def _finish(self, most: int) -> None:
        """Write rows, until at most so many wait for their frames."""
        while self._pending and (len(self._pending) > most or self._is_done(self._pending[0][1])):
            row, future = self._pending.popleft()
            if future:
                future.result()
            self._manifest.append(row)
            self._report.add(row)

    @staticmethod
    def _is_done(future: Future | None) -> bool:
        return future is None or future.done()

    def _free_name(self, row: Row) -> str:
        # ROS allows no hyphen in a topic's name, so that two topics never get one name.
        topic = re.sub(r'[^\w-]', '_', row.topic.strip('/').replace('/', '-'))[:LONGEST_NAME]
        stem, files = f'{topic}-{row.stamp:019d}', self._manifest.files
        name, number = f'{stem}.{self._settings.codec}', 1
        # Cameras repeat stamps, and the time of simulations begins anew in every bag.
        while name in files:
            number += 1
            name = f'{stem}-{number}.{self._settings.codec}'
        files.add(name)
        return name

    def _write(self, row: Row, frame: bytes | np.ndarray) -> None:
        if isinstance(frame, np.ndarray):
            frame = self._encoded(resize_image(frame, row.height, row.width))
        with replacing(self._folder / row.file, durable=False) as temporary:
            temporary.write_bytes(frame)

    def _encoded(self, picture: np.ndarray) -> bytes:
        options = {'jpg': [cv2.IMWRITE_JPEG_QUALITY, self._settings.quality], 'png': []}
        _, data = cv2.imencode(f'.{self._settings.codec}', picture,
                               options[self._settings.codec])
        return data.tobytes()
