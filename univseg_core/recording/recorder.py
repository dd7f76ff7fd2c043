"""The thread that writes bags: a bounded queue of images in front of it, and what it tells."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
import shutil
import threading
import time
import traceback

from univseg_core.bags.bag_writer import BagWriter
from univseg_core.bags.distributions import NEWEST
from univseg_core.recording.budget import Budget
from univseg_core.recording.events import Event, in_words, Trigger
from univseg_core.recording.policies import KEPT, POLICIES, Policy, Verdict
from univseg_core.recording.serialized_image import SerializedImage
from univseg_core.recording.status import Status

FLUSH_PERIOD = 0.25
"""Seconds, at most, until an image that came is safe from a kill, unless the queue is longer."""

WRITE_BACK_PERIOD = 0.5
"""Seconds between two times at which the system is asked to bring what was written to the disk."""

PAUSED, QUEUE_FULL, NO_ROOM, FAILED = 'paused', 'queue full', 'no room', 'failed'
REASONS = {
    **{outcome: reason for entry in POLICIES.values()
       for outcome, reason in entry.outcomes.items()},
    PAUSED: 'recording was paused',
    QUEUE_FULL: 'the disk was too slow: the queue was full',
    NO_ROOM: 'there was no room on the disk, or in max_size',
    FAILED: 'it could not be written',
}
"""Why an image that was seen is in no bag."""

Question = Callable[[], Iterable[Verdict]]
"""What the policy is to decide next."""


@dataclass(frozen=True)
class RecorderSettings:
    """How, and for which distribution, bags are written; sizes in bytes, 0 stands for no limit."""

    directory: Path
    name: str = 'camera'
    compression: str = ''
    split_size: int = 0
    split_seconds: float = 0.0
    queue_size: int = 256 * 10**6
    distribution: str = NEWEST


class Recorder:
    """
    Writes the frames that a policy keeps into bags, in a thread of its own.

    A bag begins with the first frame that is kept, and another one where a topic comes back with
    another type or QoS, or where the policy's event ends. Frames for which there is no room are
    counted; once the disk is full, nothing is written until `resume`. `log` gets a level, info or
    error, and what happened.
    """

    def __init__(self, settings: RecorderSettings, policy: Policy, budget: Budget,
                 log: Callable[[str, str], None]):
        self._settings = settings
        self._policy = policy
        self._budget = budget
        self._log = log
        self._bag: BagWriter | None = None
        self._event: Event | None = None
        self._described = 0
        self._trouble = ''
        self._paused = False
        self._split = False
        self._closed = False
        self._written = 0
        self._in_bag: Counter[str] = Counter()
        self._queue: deque[tuple[Question, SerializedImage | None]] = deque()
        self._queued = 0
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name='recorder')
        self._thread.start()
        # A thread of its own, since a busy disk lets it wait.
        threading.Thread(target=self._write_back, name='write-back', daemon=True).start()

    def put(self, frame: SerializedImage) -> None:
        """Leave an image for the thread; it never waits."""
        with self._changed:
            counts = self._counts[frame.topic.name]
            if self._paused:
                counts[PAUSED] += 1
            elif self._is_full(frame):
                counts[QUEUE_FULL] += 1
            else:
                self._enqueue(partial(self._policy.judge, frame), frame)

    def put_evidence(self, evidence: SerializedImage) -> None:
        """Leave what the model says of an image, its confidence for example, for the policy."""
        with self._changed:
            if not self._paused and not self._is_full(evidence):
                self._enqueue(partial(self._policy.learn, evidence), evidence)

    def trigger(self, time_: int, why: str) -> str:
        """
        Tell the policy that something happened, and when, in nanoseconds of the images' clock.

        Return why nothing is written now; an empty text where it is.
        """
        with self._changed:
            if self._paused:
                return 'recording is paused'
            if self._trouble:
                return self._trouble
            self._enqueue(partial(self._policy.trigger, Trigger(time_, in_words(why))), None)
            return ''

    def pause(self) -> None:
        """Keep nothing of what comes from now on."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Go on, after a pause or after the disk was full."""
        with self._changed:
            self._paused = False
            self._trouble = ''

    def split(self) -> None:
        """Let the next image begin a new file."""
        with self._changed:
            self._split = True
            self._changed.notify()

    def stop(self) -> None:
        """Write what waits, and finish the bag."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def status(self) -> Status:
        """Return what there is to tell."""
        try:
            free = shutil.disk_usage(self._settings.directory).free
        except OSError:
            free = 0
        with self._changed:
            bag = self._bag
            return Status(
                {topic: Counter(counts) for topic, counts in self._counts.items()},
                self._paused, self._trouble, bag.folder.name if bag else '',
                file.name if (file := bag and bag.file) else '', bag.total_size if bag else 0,
                self._written, self._queued + self._policy.held_bytes, free,
                self._budget.dropped, self._policy.facts())

    def _is_full(self, frame: SerializedImage) -> bool:
        """Return whether a frame finds no room behind those that wait."""
        room = self._settings.queue_size + self._policy.spare_bytes
        return bool(self._queue) and self._queued + len(frame.data) > room

    def _enqueue(self, question: Question, frame: SerializedImage | None) -> None:
        self._queue.append((question, frame))
        self._queued += len(frame.data) if frame else 0
        self._changed.notify()

    def _take(self, until: float) -> tuple[Question, SerializedImage | None] | None:
        """Wait for the next question until some time of the monotonic clock; None without one."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed or self._split,
                                   max(0.0, until - time.monotonic()))
            if not self._queue:
                return None
            question, frame = self._queue.popleft()
            self._queued -= len(frame.data) if frame else 0
            return question, frame

    def _work(self) -> None:
        flush = time.monotonic() + FLUSH_PERIOD
        while True:
            taken = self._take(flush)
            if taken is None and self._closed:
                break
            if taken:
                self._settle(*taken)
            del taken
            if self._split:
                self._split = False
                if self._bag:
                    self._try(self._bag.split)
            if time.monotonic() >= flush:
                self._settle(self._policy.overdue)
                if self._bag:
                    self._try(self._bag.flush)
                flush = time.monotonic() + FLUSH_PERIOD
        self._settle(partial(self._policy.overdue, at_once=True))
        self._end_bag()

    def _write_back(self) -> None:
        """
        Let the system write early, and keep no copy of what it has written.

        Otherwise it would gather gigabytes, which a power cut would cost, and push out what other
        programs have in memory.
        """
        while self._thread.is_alive():
            time.sleep(WRITE_BACK_PERIOD)
            with suppress(OSError):
                if bag := self._bag:
                    bag.write_back()

    def _settle(self, question: Question, asked: SerializedImage | None = None) -> None:
        """Do what the policy decides, whatever it raises: one frame must not end all."""
        try:
            for frame, outcome in question():
                if outcome == KEPT:
                    outcome = self._keep(frame)
                    if outcome != KEPT:
                        self._policy.lost(frame)
                with self._changed:
                    self._counts[frame.topic.name][outcome] += 1
        except Exception:
            self._log('error', f'an image was not kept:\n{traceback.format_exc()}')
            if asked:
                with self._changed:
                    self._counts[asked.topic.name][FAILED] += 1
        self._try(self._follow_event)

    def _follow_event(self) -> None:
        """Finish the bag of an event that is over; tell the bag of one what triggered it again."""
        event = self._policy.event
        if event is not self._event:
            self._end_bag()
            self._event = event
        elif event and self._bag and event.count > self._described:
            self._bag.describe(event.description())
            self._described = event.count

    def _keep(self, frame: SerializedImage) -> str:
        """Write a frame; return what became of it."""
        if self._trouble:
            return NO_ROOM
        try:
            if reason := self._budget.make_room(len(frame.data), self._bag):
                self._give_up(reason)
                return NO_ROOM
            if self._bag and not self._bag.suits(frame.topic):
                self._log('info', f'{frame.topic.name} came back with another QoS or type: a new '
                          'bag begins')
                self._end_bag()
            bag = self._bag or self._begin_bag()
            bag.write(frame.topic, frame.time, frame.published, frame.data)
        except OSError as error:
            self._give_up(str(error))
            return FAILED
        self._in_bag[frame.topic.name] += 1
        self._written += len(frame.data)
        return KEPT

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # whatever it is, the thread must go on
            self._give_up(str(error) or type(error).__name__)

    def _give_up(self, reason: str) -> None:
        """Finish the bag, and write nothing more until somebody says so."""
        self._trouble = f'recording ended: {reason}'
        self._end_bag()
        self._log('error', f'{self._trouble}; call ~/resume when that is mended')

    def _begin_bag(self) -> BagWriter:
        settings = self._settings
        name = f'{settings.name}_{datetime.now():%Y_%m_%d-%H_%M_%S}'
        folder, number = settings.directory / name, 1
        while folder.exists():  # a clock that was set back
            number += 1
            folder = settings.directory / f'{name}-{number}'
        bag = BagWriter(folder, settings.compression, settings.split_size, settings.split_seconds,
                        settings.distribution)
        with self._changed:
            self._bag = bag
        self._in_bag.clear()
        self._event = event = self._policy.event
        if event is not None:
            bag.describe(event.description())
            self._described = event.count
        why = f': {event.triggers[0].why}' if event else ''
        self._log('info', f'recording to {folder}{why}')
        return bag

    def _end_bag(self) -> None:
        """Finish the bag, if there is one; count what could not be made safe."""
        bag = self._bag
        if bag is None:
            return
        try:
            bag.close()
        except Exception as error:  # whatever it is, the thread must go on
            self._log('error', f'{bag.folder} could not be finished ({error}); that is done when '
                      'the recorder starts again')
        self._budget.take_over(bag)
        with self._changed:
            self._bag = None
            for topic, count in (self._in_bag - bag.counts).items():
                self._counts[topic][KEPT] -= count
                self._counts[topic][FAILED] += count
        self._log('info', f'{bag.folder}: {bag.counts.total()} images')
