"""A mailbox of one item between a thread that must not wait and one that works."""

import threading
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Mailbox(Generic[Item]):
    """One item at most: the newest takes the place of one that nobody has taken yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._closed = False

    def put(self, item: Item) -> bool:
        """Leave an item without waiting; say whether it replaced one that was not taken."""
        with self._changed:
            replaced = self._item is not None
            if not self._closed:
                self._item = item
                self._changed.notify()
            return replaced

    def replace(self, item: Item) -> None:
        """Leave an item in the place of one that was not taken; drop it if there is none."""
        with self._changed:
            if self._item is not None:
                self._item = item

    def take(self) -> Item | None:
        """Wait for an item and take it out; None means that the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
            return item

    def close(self) -> bool:
        """Drop the item, let everyone who waits go, and say whether there was an item."""
        with self._changed:
            self._closed = True
            dropped, self._item = self._item is not None, None
            self._changed.notify_all()
            return dropped
