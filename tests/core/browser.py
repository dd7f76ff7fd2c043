"""A headless Chromium for tests of pages; what has none, or no selenium, skips them."""

from contextlib import contextmanager
import json

import pytest


@contextmanager
def chromium(folder):
    """Give a browser of selenium, with its profile in an empty folder; skip where none is."""
    pytest.importorskip('selenium')
    from measured_page import chromium as measured
    if not (measured.PROGRAM and measured.DRIVER):
        pytest.skip('no chromium with its chromedriver here')
    with measured.chromium(folder, browser='ALL', performance='ALL') as browser:
        yield browser


def console_errors(browser):
    """Return what the console has had since the last call, but for what is below an error."""
    return [entry['message'] for entry in browser.get_log('browser')
            if entry['level'] == 'SEVERE']


def asked_for(browser):
    """Return the addresses that pages have asked for, WebSockets too, since the last call."""
    found = []
    for entry in browser.get_log('performance'):
        message = json.loads(entry['message'])['message']
        if message['method'] == 'Network.requestWillBeSent':
            found.append(message['params']['request']['url'])
        elif message['method'] == 'Network.webSocketCreated':
            found.append(message['params']['url'])
    # Its own first page, a new tab's, asks itself.
    return [url for url in found if not url.startswith('chrome')]


CONTRASTS = """
const channels = text => text.match(/[\\d.]+/g).map(Number);
const linear = value => (value /= 255) <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
const behind = element => {
  for (let each = element; each; each = each.parentElement) {
    const colour = channels(getComputedStyle(each).backgroundColor);
    if (colour[3] !== 0) return colour;
  }
  return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility()
      || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
  const [a, b] = [channels(getComputedStyle(element).color), behind(element)].map(light);
  found.push([walker.currentNode.data.trim(), (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]);
}
return found;
"""


def low_contrasts(browser):
    """Return the texts that are seen whose contrast is below WCAG's AA, 4.5, and what it is."""
    found = browser.execute_script(CONTRASTS)
    assert found
    return [(text, ratio) for text, ratio in found if ratio < 4.5]
