"""Which frames are chosen, in which order and why: worked out by hand, and by brute force."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from scipy.special import softmax
from tiny_worlds import OUTDOOR, random_image, small_network
import torch
from univseg_core.batches.dataset import load_data
from univseg_core.batches.splits import write_splits
from univseg_core.cli import main
from univseg_core.datasets.folders import DataError
from univseg_core.domains import Domain, DomainError
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.contact_sheet import contact_sheet, GAP, wrapped
from univseg_core.labelling.labelled_images import labelled_images
from univseg_core.labelling.ranking import (
    ALIKE,
    cell_uncertainty,
    Choice,
    choose_frames,
    FrameView,
    largest_confusion,
    MAP_SIDE,
    ranked_frames,
    read_ranking,
    reason,
    view_frame,
)
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.pictures.images import read_image, write_png
from univseg_core.settings.config import load_config
import yaml


@pytest.fixture
def network():
    """Return a random network with label embeddings of `outdoor` alone."""
    network = small_network()
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(3, 8, generator=generator)
    network.set_label_embeddings('outdoor', vectors / vectors.norm(dim=1, keepdim=True))
    return network


@pytest.fixture
def segmenter(network):
    return Segmenter(network, ModelCard(), device='cpu')


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


def on_a_line(*places):
    return np.array(places, float)[:, None]


def test_cells_count_by_the_square_of_the_ratio_and_in_full_where_contradicted():
    ratio = np.array([[1, 0.5, 0.5, 0]])
    contradicted = np.array([[False, False, True, True]])
    assert cell_uncertainty(ratio, contradicted).tolist() == [[0.5, 0.125, 0.25, 0]]
    assert cell_uncertainty(ratio, None).tolist() == [[1, 0.25, 0.25, 0]]


def test_the_largest_confusion_takes_both_orders_of_two_classes_together():
    # Six cells, the first decided; of the others, box/ball three times and ground/ball twice.
    indices = np.array([[[0, 1, 2, 2, 0, 0]], [[1, 2, 1, 1, 2, 2]]])
    undecided = np.array([[False, True, True, True, True, True]])
    assert largest_confusion(indices, undecided, OUTDOOR) == ('ball', 'box', 0.5)
    assert largest_confusion(indices, undecided & False, OUTDOOR) is None


FAR = on_a_line(0, 100, 200, 300)
"""Places so far from each other that distance plays no part."""


def test_each_choice_adds_most_to_what_is_shown_class_by_class():
    # Of the first class, the four have 0.25 in the mean, of the second 0.02.
    uncertain = np.array([[0.4, 0], [0.3, 0], [0.3, 0.02], [0, 0.06]])
    choices = choose_frames(uncertain, FAR, 4)
    # At first: log 1 + 0.4/0.25, 0.3/0.25, the same with 0.02/0.02, and 0.06/0.02 = 3.
    assert choices[0] == Choice(2, pytest.approx(np.log(2.2) + np.log(2)), 0, np.inf, None)
    # Then with 0.55 and 0.04 shown: 0.4/0.55, 0.3/0.55, 0.06/0.04; with 0.1: 0.4/0.55, 0.3/0.55.
    assert [(choice.index, choice.adds) for choice in choices[1:]] == [(3, 1), (0, 0), (1, 0)]
    np.testing.assert_allclose([choice.score for choice in choices[1:]], [
        np.log(2.5), np.log(1 + 0.4 / 0.55), np.log(1 + 0.3 / 0.95)])


def test_what_looks_like_a_chosen_one_counts_less():
    # Places 0, 1, 4, 10 of mean 3.75: their spread is the root of (14.06+7.56+0.06+39.06)/4.
    spread = np.sqrt(15.1875)
    choices = choose_frames(np.array([[0.5], [0.4], [0.2], [0.1]]), on_a_line(0, 1, 4, 10), 4)
    # The mean is 0.3. Beside the first, the second counts 1 / spread / ALIKE = 0.86 of its gain.
    assert [choice.index for choice in choices] == [0, 1, 2, 3]
    assert [choice.nearest for choice in choices] == [None, 0, 1, 2]
    np.testing.assert_allclose([c.distance * spread for c in choices[1:]], [1, 3, 6])
    np.testing.assert_allclose(choices[1].score, np.log(1 + 0.4 / 0.8) / spread / ALIKE)
    # Nearer to the first, the second comes after the third.
    choices = choose_frames(np.array([[0.5], [0.4], [0.2], [0.1]]), on_a_line(0, 0.1, 4, 10), 4)
    assert [choice.index for choice in choices] == [0, 2, 3, 1]


def test_labelled_frames_count_as_chosen():
    uncertain, vectors = np.array([[0.4, 0], [0, 0.1]]), on_a_line(0, 100)
    assert choose_frames(uncertain, vectors, 1)[0].index == 0  # of two equal ones
    # Each class is there to half of its frame's amount in the mean; 2 of the first is labelled.
    labelled = np.array([[2.0, 0]]), on_a_line(1000)
    choices = choose_frames(uncertain, vectors, 2, labelled)
    assert [(choice.index, choice.nearest) for choice in choices] == [(1, 2), (0, 1)]
    np.testing.assert_allclose([choice.score for choice in choices],
                               [np.log(3), np.log(1 + 0.4 / 2.2)])
    # One that looks just like a labelled one is not chosen at all.
    labelled = np.array([[0.0, 0]]), on_a_line(100)
    assert [c.index for c in choose_frames(uncertain, vectors, 2, labelled)] == [0]


@pytest.mark.parametrize(('uncertainty', 'places', 'expected'), [
    ([0.3, 0.2, 0.1], [5, 5, 6], [0, 2]),  # the same picture again teaches nothing
    ([0.2, 0.2, 0.2], [5, 5, 5], [0]),
    ([0.0, 0.0, 0.0], [1, 2, 3], []),
    ([0.0, 0.1, 0.0], [1, 2, 3], [1]),
    ([0.7], [3], [0]),
])
def test_frames_that_teach_nothing_are_left_out(uncertainty, places, expected):
    choices = choose_frames(np.array(uncertainty)[:, None], on_a_line(*places), 9)
    assert [choice.index for choice in choices] == expected


def test_choices_are_those_of_brute_force_and_a_smaller_budget_is_a_part_of_a_larger():
    generator = np.random.default_rng(0)
    vectors, uncertain = generator.normal(size=(30, 4)), generator.uniform(0, 0.1, (30, 3)) ** 2
    choices = choose_frames(uncertain, vectors, 30)
    chosen = [choice.index for choice in choices]
    assert sorted(chosen) == list(range(30))
    spread = np.sqrt(vectors.var(0).sum())
    for i in range(30):
        seen = [sum(uncertain[c][k] for c in chosen[:i]) + uncertain[:, k].mean()
                for k in range(3)]
        scores = [sum(np.log((seen[k] + u[k]) / seen[k]) for k in range(3))
                  * min([1, *(np.linalg.norm(v - vectors[c]) / spread / ALIKE
                              for c in chosen[:i])])
                  for u, v in zip(uncertain, vectors, strict=True)]
        assert chosen[i] == np.argmax(scores)
    scores = [choice.score for choice in choices]
    assert scores == sorted(scores, reverse=True)
    assert choose_frames(uncertain, vectors, 7) == choices[:7]
    # Neither the features' scale nor their origin matters, nor how unsure the model is in all.
    assert [c.index for c in choose_frames(7 * uncertain, 50 * vectors + 3, 30)] == chosen


def test_a_view_is_what_head_and_label_embeddings_say(segmenter):
    image = random_image(48, 64)
    view = view_frame(segmenter, image, 'outdoor')
    encoded = segmenter.encode(image)
    probabilities = softmax(segmenter.logits(encoded, 'outdoor'), 0)
    ordered = np.sort(probabilities, 0)
    ratio = ordered[-2] / ordered[-1]
    similar = np.einsum('cd,dhw->chw', segmenter.label_embeddings('outdoor'),
                        segmenter.embed(encoded))
    contradicted = similar.argmax(0) != probabilities.argmax(0)
    assert 0 < contradicted.mean() < 1
    unsure = ratio ** 2 * (1 + contradicted) / 2
    assert view.uncertainty == pytest.approx(unsure.mean())
    np.testing.assert_allclose(view.uncertain, [
        (unsure * (probabilities.argmax(0) == c)).mean() for c in range(3)], rtol=1e-5)
    assert view.undecided == pytest.approx((ratio >= 0.5).mean())
    assert view.contradicted == pytest.approx(((ratio >= 0.5) & contradicted).mean())
    np.testing.assert_allclose(view.vector, encoded.features.mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(
        view.classes, np.where(ratio >= 0.5, 255, probabilities.argmax(0)))


def test_without_label_embeddings_the_head_alone_counts(segmenter):
    image = random_image(48, 64)
    view = view_frame(segmenter, image, 'indoor')
    ordered = softmax(segmenter.logits(segmenter.encode(image), 'indoor'), 0)
    assert view.contradicted is None
    assert view.uncertainty == pytest.approx(((ordered.min(0) / ordered.max(0)) ** 2).mean())


def test_what_is_kept_of_a_frame_does_not_grow_with_it(segmenter):
    assert view_frame(segmenter, random_image(64, 1024), 'indoor').classes.shape == (4, MAP_SIDE)


def test_a_frame_is_encoded_once(segmenter, monkeypatch):
    passes = []
    encode = segmenter.encode
    monkeypatch.setattr(segmenter, 'encode', lambda image: passes.append(1) or encode(image))
    view_frame(segmenter, random_image(48, 64), 'outdoor')
    assert passes == [1]


def test_domains_that_cannot_be_ranked_are_told(segmenter):
    with pytest.raises(DomainError, match="unknown domain 'attic'"):
        view_frame(segmenter, random_image(8, 8), 'attic')
    single = Segmenter(small_network(Domain.create('yard', ['grass'])), ModelCard(), device='cpu')
    with pytest.raises(DomainError, match='yard: with one class'):
        view_frame(single, random_image(8, 8), 'yard')


@pytest.mark.parametrize(('view', 'distance', 'nearest', 'text'), [
    ((0.405, 0.2, ('ball', 'box', 0.314)), 2, 'a.png',
     'adds most to box; uncertain: ball/box over 31 % of the pixels; undecided over 40 %, against '
     'label embeddings over 20 %; unlike any chosen before'),
    ((0.004, None, ('ball', 'box', 0.004)), 0.1, 'a.png',
     'adds most to box; uncertain: ball/box over less than 1 % of the pixels; undecided over less '
     'than 1 %; nearest before: a.png'),
    ((0, 0, None), np.inf, None, 'adds most to box'),
])
def test_the_reason_in_words(view, distance, nearest, text):
    undecided, contradicted, confusion = view
    view = FrameView(np.zeros(3), undecided, contradicted, confusion, np.zeros(1),
                     np.zeros((1, 1)))
    box = OUTDOOR.classes.index('box')
    assert reason(view, Choice(0, 1.0, box, distance, None), OUTDOOR, nearest) == text


def test_the_nearest_may_be_a_labelled_frame(tmp_path):
    views = [FrameView(np.array([0.1, 0, 0]), 0, None, None, vector, np.zeros((1, 1), np.uint8))
             for vector in on_a_line(0, 10, 10.5)]
    ranked = list(ranked_frames([tmp_path / 'a.png', tmp_path / 'b.png'], views[:2], 2, OUTDOOR,
                                [tmp_path / 'known.png'], views[2:]))
    assert [(each.rank, each.file.name) for each in ranked] == [(1, 'a.png'), (2, 'b.png')]
    assert ranked[0].reason.endswith('unlike any chosen before')
    assert ranked[1].reason.endswith('nearest before: known.png')


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
    assert list(rows[0]) == ['rank', 'file', 'score', 'uncertainty', 'distance', 'reason']
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
    assert not out.exists()


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


@pytest.mark.parametrize(('text', 'message'), [
    (None, 'cannot be read'), ('', 'expected a rank.csv'), ('a,b\n1,2\n', 'expected a rank.csv')])
def test_a_file_that_is_no_ranking_is_told(tmp_path, text, message):
    path = tmp_path / 'rank.csv'
    if text is not None:
        path.write_text(text)
    with pytest.raises(UnivsegError, match=f'rank.csv: {message}'):
        read_ranking(path)


def test_a_contact_sheet_has_each_picture_in_its_place():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    pictures = [(np.full((30, 40, 3), colour, np.uint8), str(i), ['name'])
                for i, colour in enumerate(colours)]
    sheet = contact_sheet(pictures, columns=2, width=80)
    assert sheet.shape[1] == 2 * 80 + 3 * GAP
    height = len(sheet) // 2
    middles = [(GAP + 40, GAP + 40), (GAP + 40, 2 * GAP + 120), (height + GAP + 40, GAP + 40)]
    assert [tuple(sheet[place].tolist()) for place in middles] == colours
    assert (sheet[height:, 80 + 2 * GAP:] == 255).all()  # no fourth picture
    with pytest.raises(ValueError, match='at least one'):
        contact_sheet([], columns=2)


def test_captions_are_wrapped_at_spaces():
    lines = wrapped('uncertain: chair/table over 31 % of the pixels', 120)
    assert len(lines) > 1
    assert ' '.join(lines) == 'uncertain: chair/table over 31 % of the pixels'
    assert wrapped('a_very_long_name_without_any_space', 20) == [
        'a_very_long_name_without_any_space']
