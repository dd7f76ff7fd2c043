"""The page of `univseg view`, served in a thread, for what is measured of it and for its tests."""

from collections.abc import Iterator
from contextlib import contextmanager
import threading
import time

from univseg_core.viewing.server import PageServer
from univseg_core.viewing.viewer import Viewer

STARTED, ENDED = 60.0, 10.0
"""Seconds in which a server has to come up, and to end."""


@contextmanager
def served(viewer: Viewer, title: str = 'univseg view') -> Iterator[PageServer]:
    """Serve the page of a viewer in a thread, until the block ends; give the server."""
    server = PageServer(viewer, title)
    thread = threading.Thread(target=server.serve_until_ended)
    thread.start()
    try:
        end = time.monotonic() + STARTED
        while not server.started:
            if time.monotonic() > end:
                raise TimeoutError(f'the page is not served after {STARTED:.0f} s')
            time.sleep(0.01)
        yield server
    finally:
        server.should_exit = True
        thread.join(ENDED)
    if thread.is_alive():
        raise TimeoutError(f'the server of the page does not end in {ENDED:.0f} s')
