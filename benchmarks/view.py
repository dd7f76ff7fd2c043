"""
Measure how soon the page of `univseg view` answers a click, in a headless Chromium.

    pip install '.[torch,view]' selenium        and a chromium with its chromedriver
    python benchmarks/view.py runs/first photos/

A time is from the click to the picture that it changes being loaded, as the page sees it. Each
kind of click is done 20 times: while the model does nothing else, and beside inference, when it
looks at one picture after another all the while, in the thread where the page has it.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
from pathlib import Path
import statistics
from tempfile import TemporaryDirectory
import threading
import time

from measured_page.chromium import chromium
from measured_page.serving import served
from selenium import webdriver
from univseg_core.commands.options import model_file
from univseg_core.inference.segmenter import Segmenter
from univseg_core.viewing.looks import see
from univseg_core.viewing.viewer import Viewer

TURNS = 20
CLICKS = {
    'a class on or off': ('[class*="toggle-"]',) * 2,
    'entropy or classes': ('.drawn button:nth-child(3)', '.drawn button:nth-child(1)'),
    'one domain or side by side': ('.domains button:nth-child(1)', '.domains button:nth-child(3)'),
    'next frame': ('.next',) * 2,
}
"""What is clicked in turn, by CSS."""

CLICK = """
const [selector, done] = arguments;
const picture = [...document.querySelectorAll('.picture img')].find(e => e.checkVisibility());
const begin = performance.now();
picture.addEventListener('load', () => done(performance.now() - begin), {once: true});
document.querySelector(selector).click();
"""


@contextmanager
def busy(viewer: Viewer) -> Iterator[list[float]]:
    """Keep the viewer's thread looking at pictures; give how long it took for each, in s."""
    assert viewer.given is not None
    image, took, ended = viewer.given.read(0)[1], [], threading.Event()

    def look() -> None:
        begin = time.perf_counter()
        see(viewer.segmenter, '', image)
        took.append(time.perf_counter() - begin)
        if not ended.is_set():
            viewer._thread.submit(look)  # behind what the page has asked for

    viewer._thread.submit(look)
    try:
        yield took
    finally:
        ended.set()


def measured(browser: webdriver.Chrome, selectors: tuple[str, str], turns: int) -> list[float]:
    """Return how long each click took, in ms."""
    found = []
    for turn in range(turns):
        found.append(browser.execute_async_script(CLICK, selectors[turn % 2]))
        time.sleep(0.2)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('model', type=Path, help='a model file, or the folder of a finished run')
    parser.add_argument('pictures', type=Path, help='a folder of pictures')
    parser.add_argument('--turns', type=int, default=TURNS, help='clicks of each kind')
    options = parser.parse_args()
    segmenter = Segmenter.load(model_file(options.model))
    rows: dict[str, list[str]] = {name: [] for name in CLICKS}
    with (Viewer(segmenter, [options.pictures]) as viewer, served(viewer) as server,
          TemporaryDirectory() as profile, chromium(profile) as browser):
        browser.set_script_timeout(20)
        for is_busy in (False, True):
            browser.get(server.url)
            time.sleep(5)
            with ExitStack() as stack:
                took = stack.enter_context(busy(viewer)) if is_busy else []
                for name, selectors in CLICKS.items():
                    times = measured(browser, selectors, options.turns)
                    rows[name].append(f'{statistics.median(times):.0f} ({max(times):.0f})')
    print('| click | alone | beside inference |\n|---|---|---|')
    for name, cells in rows.items():
        print(f'| {name} | {" | ".join(cells)} |')
    print(f'\nMedian (and longest) in ms. Inference took {1000 * statistics.median(took):.0f} ms '
          f'a picture, {len(took)} pictures.')


if __name__ == '__main__':
    main()
