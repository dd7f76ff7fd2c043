"""`univseg report`: one page that holds all, whatever is in a run's folder and its names."""

import base64
import hashlib
from html.parser import HTMLParser
import itertools
import json
from pathlib import Path
import re
import shutil

from browser import asked_for, chromium
import cv2
from figure_runs import write_run
import numpy as np
import pytest
from tiny_worlds import INDOOR
from univseg_core.batches.dataset import load_data
from univseg_core.batches.splits import write_splits
from univseg_core.cli import main
from univseg_core.datasets.folders import Sample
from univseg_core.domains import Domain
from univseg_core.measuring.finished_runs import load_runs
from univseg_core.reporting.html import facts as facts_module
from univseg_core.reporting.html import page as page_module
from univseg_core.reporting.html import sections
from univseg_core.reporting.html.findings import ImageScore, worst_and_best
from univseg_core.settings.config import load_config
import yaml

SECTIONS = ('summary', 'curves', 'classes', 'pictures', 'confusion', 'calibration', 'features',
            'data', 'speed', 'settings')
EMPTY_TAGS = {'meta', 'link', 'img', 'input', 'br'}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'


class Page(HTMLParser):
    """What a parser makes of a page: elements with attributes, and the text that is shown."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.shown, self.scripts, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f'never closed: {self.open}'

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ['script']:
            self.scripts.append(data)
        elif self.open[-1:] != ['style']:
            self.shown.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return ' '.join(' '.join(self.shown).split())


def read(path):
    """Return a page, which needs nothing besides itself and runs no script but its own."""
    text = path.read_text(encoding='utf-8')
    assert len(text) < 5_000_000
    page = Page(text)
    script, = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.all('meta')[2]['content']
    assert policy == ("default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
                      f"script-src 'sha256-{digest}'")
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith('on')]
        for name in ('src', 'href'):
            if name in attributes:
                assert attributes[name].startswith(('data:', '#')), (tag, attributes)
        assert 'url(' not in attributes.get('style', '')
    assert 'url(' not in text
    assert '@import' not in text
    assert not re.search(r'https?:|//[a-z]', re.sub(r'base64,[\w+/=]+', '', text)
                         .replace(script, ''))
    for picture in page.all('img'):
        data = base64.b64decode(picture['src'].partition('base64,')[2])
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).size
        assert picture['alt']
    assert [each['id'] for each in page.all('h2')] == list(SECTIONS)
    assert [each['href'] for each in page.all('a')] == [f'#{name}' for name in SECTIONS]
    return page


def with_splits(folder):
    """Write which images a run has; return its folder."""
    data = load_data(load_config(folder / 'config.yaml'))
    write_splits(folder / 'splits.json', {name: each.parts for name, each in data.items()})
    return folder


@pytest.fixture(scope='module')
def runs(worlds, tmp_path_factory):
    """Return the folders of two finished runs; not to be changed."""
    folder = tmp_path_factory.mktemp('reports')
    return [with_splits(write_run(folder / name, worlds, seed=seed))
            for seed, name in enumerate(('basic', 'full'))]


@pytest.fixture
def run(runs, tmp_path):
    """Return the folder of a run, for a test to change."""
    return Path(shutil.copytree(runs[0], tmp_path / 'run'))


@pytest.fixture(autouse=True)
def _quick_map(monkeypatch):
    """Lay out what a t-SNE would, without: that is tested where it is drawn as a figure."""
    monkeypatch.setattr(sections, 'project', lambda vectors: vectors[:, :2])


def report(capsys, *arguments):
    """Run the command; return the page that it tells of."""
    assert main(['report', *map(str, arguments), '--device', 'cpu']) == 0
    path = capsys.readouterr().out.removesuffix('\n')
    return read(Path(path))


def refused(capsys, *arguments):
    """Return the sentence by which the command is refused."""
    assert main(['report', *map(str, arguments), '--device', 'cpu']) == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    lines = captured.err.splitlines()
    assert sum(line.startswith('univseg report: ') for line in lines) == 1
    return lines[-1]


def test_a_run_as_one_page(run, capsys, caplog):
    page = report(capsys, run)
    assert (run / 'report.html').is_file()
    assert not any(attributes.get('role') == 'note' for _, attributes in page.elements)
    assert not caplog.messages
    for text in ('ground', 'lamp', 'worst', 'best', 'expected calibration error', 't-SNE',
                 'training.steps', "Each other's nearest", 'Most often taken for another',
                 'Learning rate' if 'learning_rate' in (run / 'log.csv').read_text() else
                 'Cross-domain entropy'):
        assert text in page.text, text
    # Four images of each world: two of the worst, two of the best, and four pictures of each.
    assert len(page.all('img')) == 2 * 4 * 4
    counts = re.search(r'images labelled unlabelled validation outdoor (\d+) (\d+) (\d+)',
                       page.text)
    assert counts.groups() == ('6', '8', '4')
    assert page.text.count('share of the labelled pixels in 6 of 6 label maps') == 2


def test_runs_side_by_side(runs, tmp_path, capsys):
    page = report(capsys, *runs, '--out', tmp_path / 'both.html')
    assert not list(runs[0].glob('*.html'))
    assert len(page.all('img')) == 2 * 4 * 6  # image, truth, and mask and mistakes of each
    assert page.text.count('t-SNE of ') == 2
    assert 'basic' in page.text
    assert 'full' in page.text


def test_json_names_the_file_and_what_is_missing(run, capsys):
    (run / 'model.univseg').unlink()
    assert main(['report', str(run), '--json']) == 0
    values = json.loads(capsys.readouterr().out)
    assert values['file'] == str(run / 'report.html')
    assert any('not finished' in notice for notice in values['notices']['run'])


def test_names_are_shown_and_not_obeyed(worlds, tmp_path, capsys):
    """A class, an image, a folder, a setting and what a benchmark tells: all say <script>."""
    shutil.copytree(worlds, tmp_path / 'worlds')
    name = HOSTILE.replace('/', '⁄')
    for kind in ('image', 'label'):
        folder = tmp_path / 'worlds' / 'outdoor' / 'validation' / kind
        (folder / '00.png').rename(folder / f'{name}.png')
    outdoor = Domain.create('outdoor', [HOSTILE, 'box', 'ball'])
    folder = write_run(tmp_path / f'<b>{name}', tmp_path / 'worlds', domains=(outdoor, INDOOR))
    values = yaml.safe_load((folder / 'config.yaml').read_text())
    values['domains']['outdoor']['classes'] = list(outdoor.classes)
    values['domains']['outdoor']['unlabelled'] = [str(tmp_path / name)]
    shutil.copytree(worlds / 'outdoor' / 'train' / 'image', tmp_path / name)
    (folder / 'config.yaml').write_text(yaml.safe_dump(values))
    (folder / f'{name}.onnx.speed.json').write_text(json.dumps({
        'conditions': {'cpu': HOSTILE, 'cores': 2, 'device': 'cpu', 'gpus': [], 'size': [3, 4]},
        'milliseconds': {HOSTILE: 1.5}}))
    page = report(capsys, folder)
    assert not page.all('b')  # of which there is one only for a model from before
    inside = json.dumps(f'{tmp_path}/{name}', ensure_ascii=False)
    for text in (HOSTILE, f'{name}.png', inside, f'<b>{name}'):
        assert ' '.join(text.split()) in page.text, text


def test_a_run_that_is_not_finished(run, capsys, caplog):
    for name in ('model.univseg', 'splits.json'):
        (run / name).unlink()
    page = report(capsys, run)
    assert 'this run is not finished: step 40 of 30' in page.text
    assert 'there is no model.univseg or best.univseg yet' in caplog.text
    assert 'mIoU of the validation images' in page.text
    assert not page.all('img')


def test_the_best_model_so_far_is_looked_at(run, capsys):
    (run / 'model.univseg').rename(run / 'best.univseg')
    page = report(capsys, run)
    assert 'this run is not finished' in page.text
    assert 'best.univseg' in page.text
    assert page.all('img')


def test_a_run_that_has_hardly_begun(run, capsys):
    for path in run.iterdir():
        if path.name != 'config.yaml':
            path.unlink()
    page = report(capsys, run)
    assert 'this run is not finished: step 0 of 30' in page.text
    assert 'Nothing is logged yet.' in page.text
    assert 'No validation has been made yet.' in page.text


def test_a_run_of_another_version(run, capsys):
    """Its settings are shown, whatever they are, and what it has measured itself."""
    values = yaml.safe_load((run / 'config.yaml').read_text())
    values['training']['warp'] = 9
    (run / 'config.yaml').write_text(yaml.safe_dump(values))
    (run / 'evaluation.json').write_text(json.dumps({'outdoor': {
        'miou': 0.75, 'iou': {'ground': 0.5, 'box': 1.0, 'ball': None}}}))
    (run / 'model.univseg').write_bytes(b'of tomorrow')
    page = report(capsys, run)
    assert 'training.warp: unknown key' in page.text
    assert 'training.warp 9 no key of this version' in page.text
    assert '75.0' in page.text
    assert not page.all('img')


@pytest.mark.parametrize(('name', 'text'), [
    ('evaluation.json', '{"outdoor": {"miou": 7, "iou": {"a": 1}}}'), ('evaluation.json', '[]'),
    ('evaluation.json', '{"outdoor": 3}'), ('splits.json', '{"outdoor": 3}'),
    ('before.json', '{"outdoor": [[1]]}'), ('before.json', '{"attic": [[1]]}'),
    ('a.onnx.speed.json', '{}'), ('a.onnx.speed.json', '[')])
def test_damaged_files_are_named_and_left_out(run, capsys, caplog, name, text):
    (run / 'model.univseg').unlink()  # which takes longest
    (run / name).write_text(text)
    page = report(capsys, run)
    about, = (each for each in caplog.messages if str(run) in each)
    assert 'damaged' in about or 'no times of an exported model' in about
    assert ' '.join(about.removeprefix('run: ').split()) in page.text


def test_validation_images_that_are_gone(run, worlds, tmp_path, capsys):
    shutil.copytree(worlds, tmp_path / 'worlds')
    text = (run / 'config.yaml').read_text().replace(str(worlds), str(tmp_path / 'worlds'))
    (run / 'config.yaml').write_text(text)
    (tmp_path / 'worlds' / 'indoor' / 'validation' / 'image' / '02.png').write_bytes(b'no image')
    page = report(capsys, run)
    assert '02.png' in page.text
    assert not page.all('img')
    shutil.rmtree(tmp_path / 'worlds')
    page = report(capsys, run)
    assert 'There are none: no model or no validation images were there to look at.' in page.text
    assert 'mIoU of the validation images' in page.text


@pytest.fixture
def measured(run, worlds, tmp_path, monkeypatch):
    """Return the worlds of a run, for a test to change, and what is then measured."""
    shutil.copytree(worlds, tmp_path / 'worlds')
    text = (run / 'config.yaml').read_text().replace(str(worlds), str(tmp_path / 'worlds'))
    (run / 'config.yaml').write_text(text)
    found = {}
    # None: the report has no pictures then, which take longest.
    monkeypatch.setattr(facts_module, 'find', lambda _, samples, __: found.update(samples))
    return tmp_path / 'worlds', found


def test_validation_images_that_are_others_than_the_run_had(run, measured, capsys):
    outdoor, indoor = (measured[0] / name / 'validation' for name in ('outdoor', 'indoor'))
    for kind in ('image', 'label'):
        (outdoor / kind / '00.png').rename(outdoor / kind / 'new.png')
        (outdoor / kind / '01.png').unlink()
        shutil.copy(indoor / kind / '00.png', indoor / kind / 'later.png')
    page = report(capsys, run)
    assert ('outdoor: measured on 2 of the 4 validation images that the run had (gone: 00.png, '
            '01.png) and on 1 that it had not (new.png)') in page.text
    assert ('indoor: measured on 4 of the 4 validation images that the run had and on 1 that it '
            'had not (later.png)') in page.text


def test_of_a_training_folder_that_has_grown_the_images_set_aside_are_measured(
        run, measured, capsys, caplog):
    values = yaml.safe_load((run / 'config.yaml').read_text())
    values['domains']['outdoor'] |= {'validation_from_train': 2, 'labelled': 3}
    (run / 'config.yaml').write_text(yaml.safe_dump(values))
    (run / 'splits.json').unlink()
    with_splits(run)
    splits = json.loads((run / 'splits.json').read_text())
    folder = measured[0] / 'outdoor' / 'train'
    for number, kind in itertools.product(range(20), ('image', 'label')):
        shutil.copy(folder / kind / '00.png', folder / kind / f'a{number}.png')
    report(capsys, run)
    set_aside = splits['outdoor']['validation']['images']
    assert [sample.name for sample in measured[1]['outdoor']] == set_aside
    assert [sample.name for sample in load_runs([run], device='cpu')[0].samples['outdoor']
            ] == set_aside
    assert not caplog.messages


def test_in_how_many_label_maps_classes_were_counted(run, capsys, monkeypatch):
    monkeypatch.setattr(facts_module, 'MOST_LABELS', 5)
    (run / 'model.univseg').unlink()  # which takes longest
    assert report(capsys, run).text.count('labelled pixels in 5 of 6 label maps') == 2


def test_before_and_after(run, capsys):
    (run / 'before.json').write_text(json.dumps({'indoor': [[3, 1, 0], [0, 4, 0]]}))
    page = report(capsys, run)
    assert 'The tick is the model that the run started from.' in page.text
    assert len([each for each in page.all('b') if each.get('title') == 'before']) == 3


def test_speeds_of_exported_models(run, capsys):
    row = {'model': 'yard.onnx', 'backend': 'openvino', 'precision': 'int8', 'device': 'cpu',
           'threads': 2, 'width': 640, 'height': 360, 'median_ms': 12.34, 'encoder_ms': 9.87}
    (run / 'benchmark.json').write_text(json.dumps({'cpu': 'A CPU', 'rows': [row]}))
    (run / 'other.json').write_text('{"rows": 3}')
    (run / 'model.univseg').unlink()
    page = report(capsys, run)
    assert 'yard.onnx openvino, int8 A CPU, 2 threads 640×360 9.9 12.3' in page.text


def test_what_cannot_be_reported(run, runs, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    assert 'not a run folder' in refused(capsys, tmp_path / 'empty')
    assert 'expected the folder of a run' in refused(capsys, tmp_path / 'none')
    assert 'expected the folder of a run' in refused(capsys, run / 'model.univseg')
    (run / 'log.csv').write_text('step,loss\n10,many\n20,1\n')
    assert 'log.csv: damaged' in refused(capsys, run)
    assert not list(tmp_path.rglob('*.html')) + list(tmp_path.rglob('.*'))
    assert not (tmp_path / 'none').exists()


def test_where_no_report_can_be(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page_module, 'gather', None)  # refused before anything is measured
    (tmp_path / 'file').touch()
    assert f'{tmp_path}: a folder; expected a name' in refused(capsys, run, '--out', tmp_path)
    assert str(tmp_path / 'file') in refused(capsys, run, '--out', tmp_path / 'file' / 'a.html')


@pytest.mark.parametrize('name', ['config.yaml', 'model.univseg', 'report.html'])
def test_what_is_no_report_is_not_replaced(run, capsys, monkeypatch, name):
    monkeypatch.setattr(page_module, 'gather', None)  # refused before anything is measured
    path = run / name
    if not path.exists():
        path.write_text(' <!doctype html>')
    before = path.read_bytes()
    assert f'{path}: something else than an older report' in refused(capsys, run, '--out', path)
    assert path.read_bytes() == before
    assert not list(run.glob('.*'))


def test_an_older_report_is_replaced(run, capsys):
    (run / 'model.univseg').unlink()  # which takes longest
    (run / 'report.html').write_text('<!DOCTYPE HTML>old')
    assert not report(capsys, run).text.startswith('old')


def test_an_older_report_stays_where_a_new_one_fails(run, capsys):
    (run / 'report.html').write_text('<!doctype html>old')
    (run / 'validation.csv').write_text('step,domain,miou,iou\nten,outdoor,1,1\n20,a,1,1\n')
    refused(capsys, run)
    assert (run / 'report.html').read_text() == '<!doctype html>old'
    assert not list(run.glob('.*'))


def test_runs_of_other_classes_are_not_compared(runs, worlds, tmp_path, capsys):
    other = write_run(tmp_path / 'other', worlds, domains=(
        Domain.create('outdoor', ['ground', 'box', 'cube']), INDOOR))
    (other / 'model.univseg').unlink()
    values = yaml.safe_load((other / 'config.yaml').read_text())
    values['domains']['outdoor']['classes'][2] = 'cube'
    (other / 'config.yaml').write_text(yaml.safe_dump(values))
    assert 'both have a domain outdoor, but of different classes' in refused(
        capsys, runs[0], other, '--out', tmp_path / 'a.html')
    assert not list(tmp_path.glob('*.html'))


def test_the_worst_and_the_best_of_several_runs():
    a, b, c, d = samples = [Sample(Path(name)) for name in 'abcd']

    def scored(*values):
        return [ImageScore(*each) for each in zip(samples, values, strict=True)]

    assert worst_and_best([scored(0.1, 0.9, 0.5, 0.4)], 1) == ([a], [b])
    assert worst_and_best([scored(0.1, 0.9, 0.5, 0.4)], 3) == ([a, d], [b, c])
    assert worst_and_best([scored(0.1, 0.9, 0.5, 0.4), scored(0.9, 0.3, 0.1, 0.2)], 1) == (
        [c], [b])
    assert worst_and_best([scored(0.1, 0.9, np.nan, 0.4)], 3) == ([a, d], [b])
    assert worst_and_best([scored(0.1, 0.9, 0.5, 0.4)[:1]], 3) == ([a], [])


def colours(dark):
    """Return the style sheet's colours, of light or of dark, as linear RGB."""
    text = (Path(page_module.__file__).parent / 'templates' / 'report.css').read_text()
    light, _, rest = text.partition('@media (prefers-color-scheme: dark)')
    part = rest.partition('* {')[0] if dark else light
    values = {name: np.array([int(value[i:i + 2], 16) / 255 for i in (0, 2, 4)])
              for name, value in re.findall(r'--([\w-]+): #([0-9a-f]{6})', part)}
    return values


def contrast(one, other):
    """Return the contrast of two colours (WCAG 2)."""
    def luminance(colour):
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize('dark', [False, True])
def test_colours_can_be_told_from_what_is_behind_them(dark):
    """Texts by 4.5 at least, as WCAG AA wants it, and what is drawn by 3."""
    of = colours(dark)
    assert len(of) == 21
    for text, behind in (('ink', 'paper'), ('ink', 'card'), ('soft', 'paper'), ('soft', 'card'),
                         ('link', 'paper'), ('good', 'card'), ('bad', 'card'),
                         ('note-ink', 'note'), ('ink', 'heat'), ('ink', 'less')):
        assert contrast(of[text], of[behind]) >= 4.5, (text, behind)
    for share in np.linspace(0, 1, 11):
        mixed = share * of['heat'] + (1 - share) * of['card']
        assert contrast(of['ink'], mixed) >= 4.5
    for number in range(8):
        assert contrast(of[f'c{number}'], of['card']) >= 3
        assert contrast(of[f'c{number}'], of['track']) >= 3


LOOK = """
document.querySelector('.tools [value=mask0]').click();
const layer = document.querySelector('.stacked [data-layer=mask0]');
const pictures = [...document.images];
return {
  pictures: pictures.length, broken: pictures.filter(each => !each.naturalWidth).length,
  tools: !document.querySelector('.tools').hidden, over: getComputedStyle(layer).opacity,
  wide: document.documentElement.scrollWidth > innerWidth};
"""


def test_a_browser_shows_it_without_a_word(runs, tmp_path, capsys):
    """And asks for nothing besides the page."""
    path = tmp_path / 'report.html'
    report(capsys, runs[0], '--out', path)
    with chromium(tmp_path / 'profile') as browser:
        for width in (1200, 500):
            browser.set_window_size(width, 900)
            browser.get(path.as_uri())
            assert browser.execute_script(LOOK) == {
                'pictures': 32, 'broken': 0, 'tools': True, 'over': '0.6', 'wide': False}
        assert not browser.get_log('browser')
        assert {url for url in asked_for(browser) if not url.startswith('data:')} == {
            path.as_uri()}
