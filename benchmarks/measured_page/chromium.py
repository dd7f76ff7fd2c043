"""A headless Chromium, for what is measured of pages, and for the tests of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import shutil

from selenium import webdriver

PROGRAM = shutil.which('chromium') or shutil.which('chromium-browser')
DRIVER = shutil.which('chromedriver')
"""None where there is none."""

FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
         '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync',
         '--window-size=1400,1000')
"""Nothing of its own goes out: what is asked for is asked for by the page."""


@contextmanager
def chromium(profile: Path | str, **logs: str) -> Iterator[webdriver.Chrome]:
    """Give a browser with its profile in an empty folder, and logs such as `browser='ALL'`."""
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAM or ''
    for flag in (*FLAGS, f'--user-data-dir={profile}'):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', logs)
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()
