"""`univseg labels check`: mistakes that were made on purpose are found, bad input is told."""

import csv
import json
import shutil
from types import SimpleNamespace

from command_lines import assert_fails
import numpy as np
import pytest
from tiny_worlds import COLOURS, draw, OUTDOOR, small_network
from univseg_core.batches.dataset import load_data
from univseg_core.batches.splits import write_splits
from univseg_core.cli import main
from univseg_core.datasets.folders import labelled_samples, Sample
from univseg_core.domains import Domain
from univseg_core.labelling.contradictions import Contradiction
from univseg_core.labelling.label_check import check_labels, CheckedLabel, reason
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.pictures.images import read_image, write_png
from univseg_core.settings.config import load_config
import yaml


class ColourModel:
    """A model that is as sure of a class as a pixel is of its colour."""

    stride = 1
    domains = {OUTDOOR.name: OUTDOOR}  # noqa: RUF012 - as a Segmenter has them

    def check_domains(self, names):
        assert names == [OUTDOOR.name]

    def encode(self, image):
        return SimpleNamespace(network_size=image.shape[:2], image=image)

    def logits(self, encoded, name):
        away = encoded.image[None].astype(float) - np.array(COLOURS[name])[:, None, None]
        return (-np.linalg.norm(away, axis=3) / 20).astype(np.float32)


def test_five_percent_of_wrong_labels_are_those_ranked_first(tmp_path):
    """And behind them what the model takes for another class without being sure."""
    generator = np.random.default_rng(0)
    wrong, unsure = {7: (1, 2), 23: (2, 0)}, {3, 11, 30}
    ground, box, _ = map(np.array, COLOURS['outdoor'])
    for i in range(40):
        image, label = draw(COLOURS['outdoor'], generator)
        if i in unsure:
            image[label == 1] = 0.6 * ground + 0.4 * box
        if i in wrong:
            was, became = wrong[i]
            label[label == was] = became
        write_png(tmp_path / 'image' / f'{i:02}.png', image)
        write_png(tmp_path / 'label' / f'{i:02}.png', label)
    samples = labelled_samples(tmp_path / 'image', tmp_path / 'label')
    found = check_labels(ColourModel(), samples, 'outdoor')
    assert found.agreed == 35
    first, others = found.contradicted[:2], found.contradicted[2:]
    assert {int(each.sample.image.stem): (each.worst.model, each.worst.label)
            for each in first} == wrong
    assert {int(each.sample.image.stem) for each in others} == unsure
    again = check_labels(ColourModel(), samples[::-1], 'outdoor')
    assert again.contradicted == found.contradicted


@pytest.mark.parametrize(('region', 'others', 'text'), [
    ((0.0512, 2.0), 0, 'labelled box, to the model ball over 5.1 % of the pixels, 7.4 times as '
                       'likely'),
    ((0.0005, 8.0), 1, 'labelled box, to the model ball over less than 0.1 % of the pixels, '
                       '2,981 times as likely; 1 more region half as suspicious'),
    ((0.5, 30.0), 2, 'labelled box, to the model ball over 50.0 % of the pixels, more than a '
                     'million times as likely; 2 more regions half as suspicious'),
])
def test_the_reason_in_words(tmp_path, region, others, text):
    share, log_odds = region
    worst = Contradiction(1, 2, (0, 0, 1, 1), share, 0.9, log_odds)
    assert reason(CheckedLabel(Sample(tmp_path), worst, others), OUTDOOR) == text


@pytest.fixture
def run(values, tmp_path):
    """Return a run folder that no training has made, which learned from 3 images of outdoor."""
    values['domains']['outdoor']['labelled'] = 3
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'config.yaml').write_text(yaml.safe_dump(values, sort_keys=False))
    data = load_data(load_config(str(folder / 'config.yaml')))
    write_splits(folder / 'splits.json', {name: each.parts for name, each in data.items()})
    save_model(folder / 'model.univseg', small_network(), ModelCard(image_size=64))
    return folder


def told(capsys, *arguments):
    """Return what `labels check` reports as JSON."""
    capsys.readouterr()
    assert main(['labels', 'check', *map(str, arguments), '--device', 'cpu', '--json']) == 0
    return json.loads(capsys.readouterr().out)


def test_the_labels_of_a_run_are_ranked_and_drawn(run, worlds, tmp_path, capsys):
    out = tmp_path / 'out'
    command = ['labels', 'check', str(run), 'outdoor', '--out', str(out), '--device', 'cpu']
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert '3 label maps of outdoor checked; the model contradicts 3' in printed
    with (out / 'labels.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ['rank', 'image', 'label_map', 'score', 'label', 'model', 'left',
                             'top', 'right', 'bottom', 'share', 'confidence', 'reason']
    assert [row['rank'] for row in rows] == ['1', '2', '3']
    scores = [float(row['score']) for row in rows]
    assert scores == sorted(scores, reverse=True)
    learned = json.loads((run / 'splits.json').read_text())['outdoor']['labelled']['images']
    train = worlds / 'outdoor' / 'train'
    assert sorted(row['image'] for row in rows) == sorted(
        str(train / 'image' / name) for name in learned)
    for row in rows:
        assert row['label_map'] == row['image'].replace('/image/', '/label/')
        assert {row['label'], row['model']} < set(OUTDOOR.classes)
        assert 0 <= int(row['left']) < int(row['right']) <= 64
        assert 0 <= int(row['top']) < int(row['bottom']) <= 48
    sheet = read_image(out / 'labels.png')
    assert sheet.shape[1] > 2 * 3 * 320
    before = [(out / name).read_bytes() for name in ('labels.csv', 'labels.png')]
    assert main(command) == 0
    assert [(out / name).read_bytes() for name in ('labels.csv', 'labels.png')] == before
    assert main([*command, '--budget', '1']) == 0
    assert (out / 'labels.csv').read_bytes() == before[0]
    assert read_image(out / 'labels.png').shape[1] < sheet.shape[1]


def test_labels_come_from_a_run_a_configuration_or_folders(run, worlds, tmp_path, capsys):
    out, config = ('--out', tmp_path / 'out'), ('--config', run / 'config.yaml')
    train, validation = (worlds / 'outdoor' / part for part in ('train', 'validation'))
    assert told(capsys, run / 'model.univseg', 'outdoor', *out)['checked'] == 3
    assert told(capsys, '--model', run, 'outdoor', *config, *out)['checked'] == 8
    found = told(capsys, run, 'outdoor', '--validation', *out)
    assert sorted(row['image'] for row in found['contradicted']) == sorted(
        map(str, (validation / 'image').iterdir()))
    assert told(capsys, run, *out, 'outdoor', *config, '--validation') == found
    assert told(capsys, run, 'outdoor', '--images', validation / 'image', '--labels',
                validation / 'label', *out) == found
    assert found['files'] == [str(tmp_path / 'out' / name) for name in ('labels.csv',
                                                                        'labels.png')]
    assert (found['checked'], found['skipped']) == (4, [])
    assert found['contradicted'][0]['share'] > 0
    shutil.rmtree(tmp_path / 'out')
    void = tmp_path / 'void'
    for path in (train / 'label').iterdir():
        write_png(void / path.name, np.full((48, 64), 255, np.uint8))
    nothing = told(capsys, run, 'outdoor', '--images', train / 'image', '--labels', void, *out)
    assert nothing == {'checked': 8, 'files': [], 'contradicted': [], 'skipped': []}
    assert not (tmp_path / 'out').exists()


def test_what_cannot_be_checked_is_named_and_skipped(run, worlds, tmp_path, capsys, caplog):
    mine = tmp_path / 'mine'
    shutil.copytree(worlds / 'outdoor' / 'train', mine)
    write_png(mine / 'label' / '00.png', np.zeros((24, 32), np.uint8))
    write_png(mine / 'label' / '01.png', np.full((48, 64), 3, np.uint8))
    (mine / 'label' / '02.png').write_bytes(b'')
    (mine / 'label' / '03.png').unlink()
    (mine / 'image' / '04.png').write_bytes(b'no image')
    folders = ('--images', mine / 'image', '--labels', mine / 'label', '--out', tmp_path / 'out')
    found = told(capsys, run, 'outdoor', *folders)
    assert found['checked'] == 3
    assert found['skipped'] == [str(mine / 'image' / f'0{i}.png') for i in (0, 1, 2, 4)]
    for text in ('00.png: the label map is 32×24, its image 64×48', '01.png: ', '02.png: the file',
                 '04.png: ', '1 of 8 images have no label map'):
        assert text in caplog.text
    for path in (mine / 'image').iterdir():
        path.write_bytes(b'')
    shutil.rmtree(tmp_path / 'out')
    assert_fails(capsys, ['labels', 'check', run, 'outdoor', *folders],
                 'none of 7 labelled images can be read')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['{run}', 'outdor'], "unknown domain 'outdor'; this model has outdoor, indoor; did you mean"),
    (['{alone}', 'outdoor'], 'no run, whose labels could be checked; name some with --images'),
    (['{run}', 'outdoor', '--out', '{run}/config.yaml'], 'config.yaml: a file; expected a folder'),
    (['{run}', 'outdoor', '--images', '{run}', '--labels', '{run}/no'], 'no: no such folder'),
    (['{run}', 'outdoor', '--images', '{run}', '--labels', '{run}'], 'no images'),
    (['{run}', 'outdoor', '--images', '{masks}', '--labels', '{masks}'], 'Was 255 painted?'),
    (['{run}', 'outdoor', '--config', '{other}'], 'the model was trained on other classes'),
    (['{run}', 'indoor', '--config', '{other}'], 'no domain indoor, but outdoor'),
    (['{single}', 'yard', '--images', '{masks}', '--labels', '{masks}'],
     'domain yard: with one class, a model contradicts no label'),
])
def test_what_is_wrong_is_told_and_nothing_written(run, worlds, values, write_config, tmp_path,
                                                   capsys, arguments, message):
    single = tmp_path / 'single.univseg'
    save_model(single, small_network(Domain.create('yard', ['grass'])), ModelCard(image_size=64))
    masks = tmp_path / 'masks'
    if '{single}' in arguments:
        write_png(masks / 'a.png', np.zeros((8, 8), np.uint8))
    else:
        write_png(masks / 'a.png', np.array([[0, 255]], np.uint8))
    del values['domains']['indoor']
    values['domains']['outdoor']['classes'] = ['ground', 'box', 'bucket']
    alone = shutil.copy(run / 'model.univseg', tmp_path / 'alone.univseg')
    where = {'run': run, 'alone': alone, 'masks': masks, 'single': single,
             'other': write_config(values)}
    out = [] if '--out' in arguments else ['--out', str(tmp_path / 'out')]
    assert_fails(capsys, ['labels', 'check', *(each.format(**where) for each in arguments), *out],
                 message)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('arguments', [
    ['--images', 'a'], ['--labels', 'a'], ['--images', 'a', '--labels', 'b', '--validation'],
    ['--images', 'a', '--labels', 'b', '--config', 'c'], ['--budget', '0'], ['further']])
def test_options_that_do_not_go_together_end_with_the_usage(run, capsys, arguments):
    with pytest.raises(SystemExit):
        main(['labels', 'check', str(run), 'outdoor', *arguments])
    assert 'usage: univseg labels check' in capsys.readouterr().err


def test_files_of_an_earlier_call_go_where_nothing_is_contradicted_any_more(
        run, tmp_path, capsys, monkeypatch):
    out = tmp_path / 'out'
    assert told(capsys, run, 'outdoor', '--out', out)['files']
    monkeypatch.setattr('univseg_core.labelling.contradictions.LEAST', 2)
    assert told(capsys, run, 'outdoor', '--out', out)['files'] == []
    assert list(out.iterdir()) == []


def test_label_maps_are_not_written_over(run, worlds, capsys):
    images, labels = (worlds / 'outdoor' / 'validation' / part for part in ('image', 'label'))
    assert_fails(capsys, ['labels', 'check', run, 'outdoor', '--images', images, '--labels',
                          labels, '--out', labels, '--device', 'cpu'],
                 f'{labels}: the folder of the label maps')
