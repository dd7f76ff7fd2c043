"""How progress is shown: a bar on a terminal, and elsewhere a plain line now and then."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
import logging
import os
import sys
import time
from typing import Any, Generic, TypeAlias, TypeVar

from tqdm import tqdm
from univseg_core.colours import painted

Item = TypeVar('Item')

GAP = 30.0
"""Seconds between two lines at least, and before the first."""

LONGEST_GAP = 600.0
GAP_GROWTH = 0.01
"""Share of the time so far that lies between two lines: a day takes some 450 lines, not 2900."""

_quiet = False


class Lines(Generic[Item]):
    """
    Progress as lines of a file: no carriage returns, no escape codes, nothing written twice.

    It is used as a bar of tqdm is: iterated over, or updated. The last line is written even where
    it took no time, unless `leave` is false.
    """

    def __init__(self, items: Iterable[Item] | None, title: str | None, total: int | None, *,
                 unit: str = 'image', initial: int = 0, leave: bool = True):
        self._items, self._title, self._unit, self._leave = items, title, unit, leave
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._initial = self._count = initial
        self._told, self._beside = -1, ''
        self._began = time.monotonic()
        self._due = self._began + GAP

    def __iter__(self) -> Iterator[Item]:
        with self:
            for item in () if self._items is None else self._items:
                yield item
                self.update()

    def __enter__(self) -> 'Lines[Item]':
        return self

    def __exit__(self, *unused: object) -> None:
        if self._leave and self._count != self._told:
            self._tell(time.monotonic())

    def update(self, count: int = 1) -> None:
        """Count things that are done; write a line if one is due."""
        self._count += count
        if (now := time.monotonic()) >= self._due:
            self._tell(now)
            self._due = now + min(max(GAP, GAP_GROWTH * (now - self._began)), LONGEST_GAP)

    def set_postfix_str(self, text: str) -> None:
        """Change what stands beside the count from the next line on."""
        self._beside = text

    def clear(self) -> None:
        """Do nothing: a line is not in the way of what is written after it."""

    def _tell(self, now: float) -> None:
        self._told = self._count
        print(tqdm.format_meter(self._count, self._total or 0, now - self._began, ncols=0,
                                prefix=self._title or '', unit=self._unit,
                                postfix=self._beside or None, initial=self._initial),
              file=sys.stderr, flush=True)


Bar: TypeAlias = 'tqdm[Any] | Lines[Any]'


def progress_bar(items: Iterable[Any] | None = None, title: str | None = None,
                 total: int | None = None, *, unit: str = 'image', initial: int = 0,
                 leave: bool = True, disable: bool = False, **options: Any) -> Bar:
    """
    Return what shows how far something is on stderr, and yields `items`, if there are some.

    `total` is their number where they have no length; `initial` how many were done before.
    `title` stands before the count, `unit` names one item. The bar stays at the end if `leave`.
    `options` are those of tqdm, for a terminal. Nothing is shown if `disable`, or within `quiet`.
    """
    common: dict[str, Any] = {'unit': unit, 'initial': initial, 'leave': leave}
    if disable or _quiet or on_terminal():
        return tqdm(items, title, total, disable=disable or _quiet, **common, **options)
    return Lines(items, title, total, **common)


def on_terminal() -> bool:
    """Say whether stderr is a terminal on which a line can be written anew."""
    return sys.stderr.isatty() and os.environ.get('TERM') != 'dumb'


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Show no progress in this process while the block runs, if that is wanted."""
    global _quiet
    before, _quiet = _quiet, wanted or _quiet
    try:
        yield
    finally:
        _quiet = before


def is_quiet() -> bool:
    """Say whether no progress is shown."""
    return _quiet


def say(text: str) -> None:
    """Print a note on the way to stderr, above any bar; nothing within `quiet`."""
    if not _quiet:
        tqdm.write(text, file=sys.stderr)


class LogHandler(logging.StreamHandler):
    """Writes log messages to stderr, above any bar; on a terminal, warnings in colour."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a message as it is written."""
        text = super().format(record)
        if record.levelno < logging.WARNING:
            return text
        return painted(text, 'warn' if record.levelno < logging.ERROR else 'bad', self.stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        with tqdm.external_write_mode(file=self.stream) if on_terminal() else nullcontext():
            super().emit(record)
