"""The page in a real browser, without a screen."""

from http.cookiejar import CookieJar
import re
import time
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import build_opener, HTTPCookieProcessor, urlopen

from bag_files import pictures
from browser import asked_for, chromium, console_errors, low_contrasts
import cv2
import numpy as np
import pytest
from tiny_worlds import OUTDOOR, small_network
import torch
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.domain_evidence import Recognition
from univseg_core.models.model_card import ModelCard
from univseg_core.pictures.images import decode_image, read_image, write_png
from univseg_core.viewing import looks
from univseg_core.viewing.viewer import Viewer

HOSTILE = 'c <img src=x onerror=alert(1)> & "quoted".png'


def balanced_segmenter(image):
    """Return a tiny model that is sure here and there, and sees all classes in an image."""
    network = small_network(encoder='light', width=1 / 8)
    for name, domain in network.domains.items():
        network.set_label_embeddings(name, torch.eye(len(domain.classes), 8))
    found = Segmenter(network, ModelCard(), device='cpu', inference_size=64)
    encoded = found.encode(image)
    for name, (weight, bias) in found._heads.items():
        weight *= 20
        bias -= found.logits(encoded, name).mean((1, 2))
        found._together.clear()
    # It takes everything for outdoor.
    found.evidence = SimpleNamespace(of_cells=lambda cells: Recognition(
        {'outdoor': 0.9, 'indoor': 0.1}, 0.5))
    return found


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    """Serve the page of a tiny model, in a thread."""
    pytest.importorskip('univseg_core.viewing.server', exc_type=ImportError)
    from measured_page.serving import served
    folder = tmp_path_factory.mktemp('photos')
    for name, picture in zip(('a.png', HOSTILE), pictures(2, (60, 80)), strict=True):
        # Of soft colours, of which JPEGs lose little.
        write_png(folder / name, cv2.GaussianBlur(picture, (0, 0), 6))
    (folder / 'b.png').write_bytes(b'no picture')
    segmenter = balanced_segmenter(read_image(folder / 'a.png'))
    with Viewer(segmenter, [folder]) as viewer, served(viewer, 'univseg view: tiny') as page:
        page.folder, page.segmenter = folder, segmenter
        yield page


@pytest.fixture(scope='module')
def browser(server, tmp_path_factory):
    """Return a browser that has opened the page."""
    with chromium(tmp_path_factory.mktemp('chromium')) as driver:
        driver.get(server.url)
        yield driver


NEAR = 3.5
"""How much a JPEG differs from what was drawn, of 0..255, on average; other looks by more."""


class Looker:
    """Does with the page what a person does, and waits until it shows what is expected."""

    def __init__(self, driver, server):
        self.driver, self.server = driver, server
        self.opener = build_opener(HTTPCookieProcessor(CookieJar()))
        self.opener.open(server.url).read()

    def one(self, selector):
        return self.driver.find_element('css selector', selector)

    def text(self, selector):
        return self.one(selector).text

    def until(self, true, what):
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, f'{what}; {self.text("body")}'
            time.sleep(0.02)

    def until_at(self, text):
        self.until(lambda: self.text('.where').startswith(text), text)

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains
        ActionChains(self.driver).send_keys(*keys).perform()

    def move_to(self, element, x=0, y=0):
        from selenium.webdriver.common.action_chains import ActionChains
        ActionChains(self.driver).move_to_element_with_offset(element, x, y).perform()

    def source(self, name='outdoor'):
        return self.one(f'.picture-{name} img').get_attribute('src')

    def picture(self, name='outdoor'):
        """Return the picture (H, W, 3) uint8 that is shown of a domain."""
        with self.opener.open(self.source(name)) as answer:
            return decode_image(answer.read())

    def until_drawn(self, look, name='outdoor', by=looks.HEAD):
        """Wait until a domain's picture of the first frame is as a look has it."""
        image = read_image(self.server.folder / 'a.png')
        seen = looks.see(self.server.segmenter, 'a.png', image, by)
        domain = self.server.segmenter.domains[name]
        expected = looks.drawn(seen.image, seen.answers[name], domain, look).astype(float)
        self.until(lambda: np.abs(self.picture(name) - expected).mean() < NEAR, look)

    def shown(self):
        return [name for name in self.server.segmenter.domains
                if self.one(f'.picture-{name}').is_displayed()]


@pytest.fixture
def looker(browser, server):
    """Return who looks at the page, opened anew: each test begins at the first frame."""
    browser.get(server.url)
    found = Looker(browser, server)
    found.until_at('1 of 3 · a.png')
    found.until(lambda: found.one('.picture-outdoor img').get_property('complete'), 'a picture')
    return found


def test_without_the_token_nothing_is_served(server):
    address = server.url.partition('?')[0]
    for path in ('', 'shown/0.jpg', '?token=guessed', '_nicegui_ws/socket.io/?EIO=4&'
                 'transport=polling'):
        with pytest.raises(HTTPError, match='403'):
            urlopen(address + path)


def test_frames_by_keys_and_clicks_and_what_cannot_be_read_is_named(looker):
    """A hostile name is a text."""
    looker.press('n')
    looker.until_at(f'3 of 3 · {HOSTILE}')
    looker.until(lambda: 'b.png: not a readable image' in looker.text('.notes'), 'a note')
    looker.press('p')
    looker.until_at('1 of 3 · a.png')
    looker.one('.next').click()
    looker.until_at('3 of 3')
    looker.press('\ue014')  # →
    looker.until(lambda: looker.text('.where').endswith('the last frame'), 'the end')
    looker.one('.previous').click()
    looker.until_at('1 of 3 · a.png')
    assert 'recognised as outdoor (90 %, unfamiliarity 0.50)' in looker.text('.recognised')
    assert not looker.driver.find_elements('css selector', 'img[src="x"]')


def test_a_frame_by_its_number(looker):
    for number, text in (('3', f'3 of 3 · {HOSTILE}'), ('12', "frame '12': expected a number "
                         'from 1 to 3'), ('1', '1 of 3 · a.png')):
        looker.press('g')
        looker.until(lambda: looker.driver.switch_to.active_element.get_attribute('aria-label')
                     == 'number of a frame', 'the field')
        looker.press(number, '\ue007')  # Enter
        looker.until(lambda text=text: text in looker.text('.where'), text)
    looker.press('n')  # a key again
    looker.until_at('3 of 3')


def test_masks_by_label_embeddings(looker):
    looker.press('l')
    looker.until_drawn(looks.Look(), by=looks.LABEL_EMBEDDINGS)
    looker.one('.by button').click()
    looker.until_drawn(looks.Look())


def test_a_model_without_label_embeddings_says_so(looker, monkeypatch):
    monkeypatch.setattr(looker.server.segmenter, '_label_embeddings', {
        'outdoor': np.eye(3, 8), 'indoor': np.zeros((2, 8))})
    looker.driver.get(looker.server.url)
    looker.until_at('1 of 3 · a.png')
    assert 'does not have them of each' in looker.text('.no-label-embeddings')
    assert not looker.one('.by').is_displayed()
    looker.press('l', 'h')
    looker.until_drawn(looks.Look('confidence'))


def test_domains_heat_maps_and_opacity_by_keys(looker):
    assert looker.shown() == ['outdoor', 'indoor']
    for expected in (['outdoor'], ['outdoor'], ['indoor'], ['outdoor', 'indoor']):
        looker.press('d')  # auto, outdoor, indoor, side by side
        looker.until(lambda expected=expected: looker.shown() == expected, expected)
    looker.until_drawn(looks.Look())
    looker.until_drawn(looks.Look(), 'indoor')
    looker.press('h')
    looker.until_drawn(looks.Look('confidence'))
    looker.press('h')
    looker.until_drawn(looks.Look('entropy'))
    looker.press('+', '+', '+')
    looker.until_drawn(looks.Look('entropy', 0.8))
    looker.press('h', '-', '-')
    looker.until_drawn(looks.Look(opacity=0.6))


def test_the_arrows_of_the_slider_are_its_own(looker):
    looker.driver.execute_script('document.querySelector(".opacity [tabindex]").focus()')
    looker.press('\ue014')
    looker.until_drawn(looks.Look(opacity=0.55))
    assert looker.text('.where').startswith('1 of 3')


def test_legend_by_clicks_hover_and_keyboard(looker):
    entry = looker.one('.toggle-outdoor-0')
    away = looker.one('.where')
    entry.click()
    looker.move_to(away)
    looker.driver.execute_script('document.activeElement.blur()')
    looker.until_drawn(looks.Look(hidden=frozenset({0})))
    looker.move_to(looker.one('.toggle-outdoor-1'))
    looker.until_drawn(looks.Look(alone=1))
    looker.move_to(away)
    looker.until_drawn(looks.Look(hidden=frozenset({0})))
    looker.press('a')
    looker.until_drawn(looks.Look())
    looker.until(lambda: entry.get_attribute('aria-checked') == 'true', 'checked')
    looker.one('.none-outdoor').click()
    looker.until_drawn(looks.Look(opacity=0))
    looker.one('.all-outdoor').click()
    looker.until_drawn(looks.Look())
    looker.driver.execute_script('arguments[0].focus()', entry)
    looker.until_drawn(looks.Look(alone=0))
    looker.press(' ')
    looker.until(lambda: entry.get_attribute('aria-checked') == 'false', 'not checked')


@pytest.mark.parametrize(('x', 'y'), [(0.1, 0.1), (0.5, 0.5), (0.9, 0.8)])
def test_the_class_under_the_cursor(looker, x, y):
    image = looker.one('.picture-outdoor img')
    width, height = image.size['width'], image.size['height']
    looker.move_to(image, round((x - 0.5) * width), round((y - 0.5) * height))
    looker.until(lambda: looker.text('.under-outdoor'), 'a class')
    seen = looks.see(looker.server.segmenter, '', read_image(looker.server.folder / 'a.png'))
    # A pixel of the page is less than one of the picture: the neighbours are near enough.
    near = {looks.under(seen.answers['outdoor'], OUTDOOR, 80 * x + i, 60 * y + j)
            for i in (-0.2, 0, 0.2) for j in (-0.2, 0, 0.2)}
    assert looker.text('.under-outdoor') in near
    looker.move_to(looker.one('.where'))
    looker.until(lambda: not looker.text('.under-outdoor'), 'nothing')


DROP = """
const data = new DataTransfer();
for (const [name, text] of arguments[0])
  data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
const drop = (target, kind) => target.dispatchEvent(
  new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
drop(document.querySelector('.looks'), 'dragover');
setTimeout(() => drop(document.querySelector('.q-uploader__dnd'), 'drop'), 200);
"""


def test_pictures_are_dropped_in(looker):
    import base64
    good = base64.b64encode((looker.server.folder / 'a.png').read_bytes()).decode()
    bad = base64.b64encode(b'no picture').decode()
    looker.driver.execute_script(DROP, [['<b>bad.png', bad], ['dropped.png', good]])
    looker.until_at('1 of 1 · dropped.png')
    looker.until(lambda: '<b>bad.png: not a readable image' in looker.text('.notes'), 'a note')
    looker.until_drawn(looks.Look())


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_contrast_in_light_and_dark(looker, scheme):
    looker.driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {
        'features': [{'name': 'prefers-color-scheme', 'value': scheme}]})
    is_dark = 'return document.body.classList.contains("body--dark")'
    looker.until(lambda: looker.driver.execute_script(is_dark) is (scheme == 'dark'), scheme)
    looker.press('h')
    looker.until(lambda: not low_contrasts(looker.driver), low_contrasts(looker.driver))
    looker.press('?')
    looker.until(lambda: looker.driver.find_elements('css selector', 'kbd'), 'keys')
    looker.until(lambda: not low_contrasts(looker.driver), low_contrasts(looker.driver))


def test_nothing_leaves_and_the_console_has_no_error(looker):
    """Of all that the tests before did, too."""
    address = re.match(r'http://([\d.:]+)/', looker.server.url)[1]
    found = asked_for(looker.driver)
    assert any(url.startswith(f'ws://{address}/') for url in found)
    assert not [url for url in found if not url.startswith(
        (f'http://{address}/', f'ws://{address}/', 'data:', 'blob:'))]
    assert not console_errors(looker.driver)
