"""Work in a thread, for which a callback waits without keeping others from being served."""

from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
import threading
import types


def in_background(work: Callable[[], object]) -> Future:
    """Begin some work in a thread of its own; return its result, or what it raises, to come."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    # No process stays for it: whoever waits for the end of it does so by `finished`.
    threading.Thread(target=run, name='background', daemon=True).start()
    return future


def finished(future: Future, seconds: float) -> bool:
    """Wait for some work, for so many seconds at most; return whether it is done."""
    return bool(wait([future], seconds).done)


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """Let the executor of a coroutine call other callbacks, and come back."""
    yield
