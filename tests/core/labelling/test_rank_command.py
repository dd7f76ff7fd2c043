"""`univseg rank`: what it writes, and from where it goes on."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from tiny_worlds import random_image
from univseg_core.batches.dataset import load_data
from univseg_core.batches.labelled_images import labelled_images
from univseg_core.batches.splits import write_splits
from univseg_core.cli import main
from univseg_core.commands import ranking
from univseg_core.datasets.folders import DataError
from univseg_core.files import locked
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.contact_sheet import GAP
from univseg_core.labelling.frame_views import cells_of
from univseg_core.labelling.ranking import read_ranking
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.pictures.images import read_image, write_png
from univseg_core.settings.config import load_config
import yaml


@pytest.fixture
def model(network, tmp_path):
    path = tmp_path / 'tiny.univseg'
    save_model(path, network, ModelCard(image_size=64))
    return path


@pytest.fixture
def frames(tmp_path):
    """Return a folder of five frames: noise, but for b, which is the same picture as a."""
    for name, seed in zip('abcde', (0, 0, 1, 2, 3), strict=True):
        write_png(tmp_path / 'frames' / f'{name}.png', random_image(48, 64, seed))
    return tmp_path / 'frames'


def test_rank_writes_a_table_and_a_contact_sheet(model, frames, tmp_path, capsys):
    (frames / 'damaged.png').write_bytes(b'no image')
    out = tmp_path / 'ranking'
    command = ['rank', str(model), str(frames), '--domain', 'outdoor', '--out', str(out),
               '--device', 'cpu']
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert '4 of 5 frames chosen (1 fewer than asked for' in printed  # b is as a
    with (out / 'rank.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ['rank', 'file', 'score', 'uncertainty', 'distance', 'minutes',
                             'reason']
    assert [row['rank'] for row in rows] == ['1', '2', '3', '4']
    assert sorted(row['file'] for row in rows) == [str(frames / f'{n}.png') for n in 'acde']
    assert rows[0]['distance'] == ''
    assert all(float(row['distance']) > 0 and float(row['uncertainty']) > 0 for row in rows[1:])
    assert [float(row['score']) for row in rows] == sorted(
        (float(row['score']) for row in rows), reverse=True)
    assert read_image(out / 'rank.png').shape[1] == 4 * 300 + 5 * GAP
    before = (out / 'rank.csv').read_bytes()
    assert main([*command, '--budget', '2']) == 0
    assert (out / 'rank.csv').read_bytes() == b''.join(before.splitlines(True)[:3])
    capsys.readouterr()
    assert main([*command, '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told['frames'], told['labelled']) == (5, 0)
    assert [list(row) for row in told['chosen']] == [list(rows[0])] * 4
    assert [row['file'] for row in told['chosen']] == [row['file'] for row in rows]
    assert told['chosen'][0]['distance'] is None


def test_frames_that_cannot_be_read_are_named(model, frames, tmp_path, caplog):
    for name in 'abcd':
        (frames / f'{name}.png').write_bytes(b'')
    shutil.copy(frames / 'e.png', frames / os.fsdecode(b'stra\xdfe.png'))
    command = ['rank', str(model), '--domain', 'indoor', '--out', str(tmp_path / 'ranking')]
    assert main([*command, str(frames)]) == 0
    assert 'a.png: the file is empty' in caplog.text
    assert r'stra\xdfe.png: a file name that is not in UTF-8' in caplog.text
    assert '5 of 6 images cannot be read and are skipped' in caplog.text
    assert read_ranking(tmp_path / 'ranking' / 'rank.csv') == ['e.png']


def test_a_folder_whose_name_is_not_in_utf_8_is_ranked(model, frames, tmp_path):
    frames = frames.rename(tmp_path / os.fsdecode(b'no\xdf'))
    assert main(['rank', str(model), str(frames), '--domain', 'indoor', '--out',
                 str(tmp_path / 'ranking')]) == 0
    assert r'no\xdf/e.png' in (tmp_path / 'ranking' / 'rank.csv').read_text()


def test_labelled_frames_are_not_chosen_again(model, frames, tmp_path, capsys):
    out = tmp_path / 'ranking'
    assert main(['rank', str(model), str(frames), '--domain', 'outdoor', '--labelled',
                 str(frames), '--out', str(out)]) == 1
    assert 'no frame is worth labelling' in capsys.readouterr().err
    assert [each.name for each in out.iterdir()] == [ranking.VIEWS]


def test_the_labelled_images_of_a_run_are_not_chosen_again(model, values, tmp_path, capsys):
    """Of the training images, those that the run chose by its seed, wherever they are."""
    values['domains']['outdoor']['labelled'] = 3
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'config.yaml').write_text(yaml.safe_dump(values, sort_keys=False))
    data = load_data(load_config(str(run / 'config.yaml')))
    write_splits(run / 'splits.json', {name: each.parts for name, each in data.items()})
    labelled = [sample.image for sample in data['outdoor'].labelled]
    assert labelled_images(run, 'outdoor') == labelled
    assert len(labelled) == 3

    frames = labelled[0].parent
    command = ['rank', str(frames), '--model', str(model), '--domain', 'outdoor', '--out',
               str(tmp_path / 'ranking'), '--json', '--labelled']
    assert main([*command, str(run)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told['frames'], told['labelled']) == (len(list(frames.iterdir())), 3)
    assert not {row['file'] for row in told['chosen']} & set(map(str, labelled))

    splits = json.loads((run / 'splits.json').read_text())
    with pytest.raises(DataError, match=r"no domain 'attic', but outdoor, indoor"):
        labelled_images(run, 'attic')
    splits['outdoor']['labelled']['images'][0] = 'gone.png'
    (run / 'splits.json').write_text(json.dumps(splits))
    with pytest.raises(DataError, match=r'1 of 3 labelled images of outdoor .*: gone\.png$'):
        labelled_images(run, 'outdoor')
    (run / 'splits.json').write_text('{"outdoor": []}')
    with pytest.raises(DataError, match='damaged'):
        labelled_images(run, 'outdoor')
    (run / 'splits.json').unlink()  # as in RUN/supervised/DOMAIN, whose pictures are no images
    (run / 'validation.csv').touch()
    shutil.copy(labelled[0], run / 'outdoor.png')
    assert main([*command, str(run)]) == 1
    assert 'a training without splits.json' in capsys.readouterr().err




def test_a_ranking_goes_on_where_it_was_killed(model, frames, tmp_path, monkeypatch):
    out = tmp_path / 'ranking'
    command = ['rank', str(frames), '--model', str(model), '--domain', 'outdoor', '--out',
               str(out), '--device', 'cpu']
    assert main(command) == 0
    whole = (out / 'rank.csv').read_bytes()
    shutil.rmtree(out)
    passes = []
    encode = Segmenter.encode

    def killed_at_the_third(segmenter, image):
        passes.append(1)
        if len(passes) == 3:
            raise KeyboardInterrupt
        return encode(segmenter, image)

    monkeypatch.setattr(Segmenter, 'encode', killed_at_the_third)
    assert main(command) != 0
    assert not (out / 'rank.csv').exists()
    passes.clear()
    monkeypatch.setattr(Segmenter, 'encode', lambda segmenter, image: (
        passes.append(1) or encode(segmenter, image)))
    assert main(command) == 0
    assert len(passes) == 3 + 4  # of those that are left, and for the sheet of the chosen
    assert (out / 'rank.csv').read_bytes() == whole


def test_minutes_end_a_ranking(model, frames, tmp_path, capsys):
    command = ['rank', str(frames), '--model', str(model), '--domain', 'outdoor', '--out',
               str(tmp_path / 'ranking'), '--seconds-per-frame', '120', '--seconds-per-diagonal',
               '0', '--json', '--minutes']
    assert main([*command, '5']) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row['minutes'] for row in told['chosen']] == [2, 2]
    assert told['minutes'] == 4
    assert main([*command, '1']) == 1
    assert 'the first takes more than the minutes' in capsys.readouterr().err


def test_several_labelled_folders_count(model, frames, tmp_path, capsys):
    for name in 'ac':
        (tmp_path / name).mkdir()
        shutil.copy(frames / f'{name}.png', tmp_path / name)
    assert main(['rank', str(frames), '--model', str(model), '--domain', 'outdoor', '--out',
                 str(tmp_path / 'ranking'), '--labelled', str(tmp_path / 'a'), '--labelled',
                 str(tmp_path / 'c'), '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['labelled'] == 2
    assert sorted(row['file'][-5:] for row in told['chosen']) == ['d.png', 'e.png']


def test_a_sheet_explains_each_choice(model, frames, tmp_path, segmenter):
    out = tmp_path / 'ranking'
    assert main(['rank', str(frames), '--model', str(model), '--domain', 'outdoor', '--out',
                 str(out), '--explain', '--budget', '1']) == 0
    name, = read_ranking(out / 'rank.csv')
    sheet = read_image(out / 'explain.png')[GAP:, GAP:-GAP]
    assert sheet.shape[1] == 3 * 300
    image = read_image(frames / name)
    shown = cv2.resize(image, (300, 225), interpolation=cv2.INTER_AREA).astype(float)
    # But for the mark in the corner; what is tried is which picture stands where.
    assert np.abs(sheet[60:225, :300] - shown[60:]).mean() < 20
    cells = cells_of(segmenter, image, 'outdoor')
    colours = {*map(tuple, sheet[60:225, 610:890].reshape(-1, 3).tolist())}
    assert set(segmenter.domains['outdoor'].palette) & colours
    heat = cv2.resize(cells.uncertainty, (300, 225), interpolation=cv2.INTER_NEAREST)[60:]
    bright = sheet[60:225, 300:600].astype(float).sum(2)
    assert np.corrcoef(heat.ravel(), bright.ravel())[0, 1] > 0.3


def test_a_temperature_is_fitted_on_a_labelled_folder(model, frames, tmp_path, segmenter, capsys):
    folder = tmp_path / 'held'
    for path in sorted(frames.iterdir()):
        image = read_image(path)
        write_png(folder / 'image' / path.name, image)
        write_png(folder / 'label' / path.name,
                  segmenter.head_mask(segmenter.encode(image), 'outdoor'))
    command = ['rank', str(frames), '--model', str(model), '--domain', 'outdoor', '--out',
               str(tmp_path / 'ranking'), '--json']
    assert main(command) == 0
    before = json.loads(capsys.readouterr().out)
    assert main([*command, '--calibrate', str(folder)]) == 0
    after = json.loads(capsys.readouterr().out)
    # All labels are what the model says: it can be surer.
    assert before['temperature'] == 1
    assert after['temperature'] < 0.3
    assert after['chosen'][0]['uncertainty'] < before['chosen'][0]['uncertainty']


def test_two_rankings_do_not_write_into_one_folder(model, frames, tmp_path, capsys):
    out = tmp_path / 'ranking'
    out.mkdir()
    with locked(out):
        assert main(['rank', str(frames), '--model', str(model), '--domain', 'outdoor', '--out',
                     str(out)]) == 1
    assert 'another ranking is writing there' in capsys.readouterr().err
