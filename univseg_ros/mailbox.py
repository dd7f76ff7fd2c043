"""A mailbox between threads that must not wait and one that works: the newest item of each."""

from collections.abc import Hashable
import threading
from typing import Generic, TypeVar

Key = TypeVar('Key', bound=Hashable)
Item = TypeVar('Item')


class Mailbox(Generic[Key, Item]):
    """
    One item of each key at most: the newest takes the place of one that nobody has taken yet.

    Keys take turns, so that none waits for ever: of those that have an item, the one that was
    served least recently is next.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: dict[Key, Item] = {}
        self._served: dict[Key, None] = {}
        """The keys that were served, the most recent one last."""
        self._closed = False

    def put(self, key: Key, item: Item) -> bool:
        """Leave an item without waiting; say whether it replaced one that was not taken."""
        with self._changed:
            replaced = key in self._items
            if not self._closed:
                self._items[key] = item
                self._changed.notify()
            return replaced

    def replace(self, key: Key, item: Item) -> None:
        """Leave an item in the place of one that was not taken; drop it if there is none."""
        with self._changed:
            if key in self._items:
                self._items[key] = item

    def take(self, most: int = 1) -> list[tuple[Key, Item]]:
        """
        Wait for an item; take out up to `most` of those that there are, with their keys.

        They come in the order of their turns. None at all means that it is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items)
            ranks = {key: rank for rank, key in enumerate(self._served)}
            keys = sorted(self._items, key=lambda key: ranks.get(key, -1))[:most]
            for key in keys:
                self._served.pop(key, None)
                self._served[key] = None
            return [(key, self._items.pop(key)) for key in keys]

    def close(self) -> list[Key]:
        """Drop the items, let everyone who waits go; return the keys of what was dropped."""
        with self._changed:
            self._closed = True
            dropped = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return dropped
