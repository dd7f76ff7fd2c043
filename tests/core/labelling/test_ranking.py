"""Which frames are chosen, in which order and why: worked out by hand, and by brute force."""

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import hadamard
from tiny_worlds import OUTDOOR
from univseg_core.errors import UnivsegError
from univseg_core.labelling.frame_views import FrameView
from univseg_core.labelling.label_cost import LabelCost
from univseg_core.labelling.ranking import (
    ALIKE,
    Choice,
    choose_frames,
    differing_bits,
    Frames,
    ranked_frames,
    read_ranking,
    reason,
    SAME,
)


def on_a_line(*places):
    return np.array(places, float)[:, None]


def choose(amounts, vectors, budget, labelled=((), ()), minutes=None, costs=None, pictures=None):
    """Choose frames whose pictures differ in 32 bits, where they are not given."""
    def frames(amounts, vectors, costs, pictures):
        amounts, vectors = np.array(amounts, float), np.array(vectors, float)
        return Frames(amounts.reshape(-1, classes),
                      vectors.reshape(len(amounts), -1 if len(amounts) else len(at[0])),
                      np.array(pictures, np.uint64),
                      np.ones(len(amounts)) if costs is None else np.array(costs, float))

    classes, at = len(amounts[0]), vectors
    codes = [int(row, 2) for row in np.apply_along_axis(''.join, 1, hadamard(64).clip(0).astype(
        str))]
    return choose_frames(
        frames(amounts, vectors, costs, pictures or codes[:len(amounts)]),
        frames(*labelled, None, codes[len(amounts):][:len(labelled[0])]), budget, minutes)


FAR = on_a_line(0, 100, 200, 300)
"""Places so far from each other that distance plays no part."""


def test_each_choice_adds_most_to_what_is_shown_class_by_class():
    # Of the first class, the four have 0.25 in the mean, of the second 0.02.
    uncertain = np.array([[0.4, 0], [0.3, 0], [0.3, 0.02], [0, 0.06]])
    choices = choose(uncertain, FAR, 4)
    # At first: log 1 + 0.4/0.25, 0.3/0.25, the same with 0.02/0.02, and 0.06/0.02 = 3.
    assert choices[0] == Choice(2, pytest.approx(np.log(2.2) + np.log(2)), 0, np.inf, None, 1.0)
    # Then with 0.55 and 0.04 shown: 0.4/0.55, 0.3/0.55, 0.06/0.04; with 0.1: 0.4/0.55, 0.3/0.55.
    assert [(choice.index, choice.adds) for choice in choices[1:]] == [(3, 1), (0, 0), (1, 0)]
    np.testing.assert_allclose([choice.score for choice in choices[1:]], [
        np.log(2.5), np.log(1 + 0.4 / 0.55), np.log(1 + 0.3 / 0.95)])


def test_what_looks_like_a_chosen_one_counts_less():
    # Places 0, 1, 4, 10 of mean 3.75: their spread is the root of (14.06+7.56+0.06+39.06)/4.
    spread = np.sqrt(15.1875)
    choices = choose(np.array([[0.5], [0.4], [0.2], [0.1]]), on_a_line(0, 1, 4, 10), 4)
    # The mean is 0.3. Beside the first, the second counts 1 / spread / ALIKE = 0.86 of its gain.
    assert [choice.index for choice in choices] == [0, 1, 2, 3]
    assert [choice.nearest for choice in choices] == [None, 0, 1, 2]
    np.testing.assert_allclose([c.distance * spread for c in choices[1:]], [1, 3, 6])
    np.testing.assert_allclose(choices[1].score, np.log(1 + 0.4 / 0.8) / spread / ALIKE)
    # Nearer to the first, the second comes after the third.
    choices = choose(np.array([[0.5], [0.4], [0.2], [0.1]]), on_a_line(0, 0.2, 4, 10), 4)
    assert [choice.index for choice in choices] == [0, 2, 3, 1]


def test_labelled_frames_count_as_chosen():
    uncertain, vectors = np.array([[0.4, 0], [0, 0.1]]), on_a_line(0, 100)
    assert choose(uncertain, vectors, 1)[0].index == 0  # of two equal ones
    # Each class is there to half of its frame's amount in the mean; 2 of the first is labelled.
    labelled = np.array([[2.0, 0]]), on_a_line(1000)
    choices = choose(uncertain, vectors, 2, labelled)
    assert [(choice.index, choice.nearest) for choice in choices] == [(1, 2), (0, 1)]
    # The spread of places 0, 100 and 1000 is 450, beside which 100 is near.
    np.testing.assert_allclose([choice.score for choice in choices], [
        np.log(3), np.log(1 + 0.4 / 2.2) * 100 / np.std([0, 100, 1000]) / ALIKE])
    # One that looks just like a labelled one is not chosen at all.
    labelled = np.array([[0.0, 0]]), on_a_line(100)
    assert [c.index for c in choose(uncertain, vectors, 2, labelled)] == [0]


def test_frames_of_one_drive_are_near_to_each_other_beside_labelled_ones_of_others():
    drive = np.array([[0.4], [0.3], [0.2]]), on_a_line(0, 1, 2)
    assert [choice.distance for choice in choose(*drive, 3)[1:]] == pytest.approx([1.5 ** 0.5] * 2)
    # Places 0, 1, 2, 97 of mean 25: their spread is the root of (625 + 576 + 529 + 5184) / 4.
    choices = choose(*drive, 3, (np.array([[0.0]]), on_a_line(97)))
    assert [choice.distance for choice in choices] == pytest.approx(
        np.array([97, 2, 1]) / 1728.5 ** 0.5)


@pytest.mark.parametrize(('uncertainty', 'places', 'expected'), [
    ([0.3, 0.2, 0.1], [5, 5, 6], [0, 2]),  # the same picture again teaches nothing
    ([0.2, 0.2, 0.2], [5, 5, 5], [0]),
    ([0.0, 0.0, 0.0], [1, 2, 3], []),
    ([0.0, 0.1, 0.0], [1, 2, 3], [1]),
    ([0.7], [3], [0]),
])
def test_frames_that_teach_nothing_are_left_out(uncertainty, places, expected):
    choices = choose(np.array(uncertainty)[:, None], on_a_line(*places), 9)
    assert [choice.index for choice in choices] == expected


def test_choices_are_those_of_brute_force_and_a_smaller_budget_is_a_part_of_a_larger():
    generator = np.random.default_rng(0)
    vectors, uncertain = generator.normal(size=(30, 4)), generator.uniform(0, 0.1, (30, 3)) ** 2
    choices = choose(uncertain, vectors, 30)
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
    assert choose(uncertain, vectors, 7) == choices[:7]
    # Neither the features' scale nor their origin matters, nor how unsure the model is in all.
    assert [c.index for c in choose(7 * uncertain, 50 * vectors + 3, 30)] == chosen


def test_amounts_are_what_is_shown_where_the_model_is_not_sure_of_all():
    views = [FrameView(np.array([0.4, 0.1, 0.5]), np.array(uncertain), 0, None, None, 2.0,
                       np.array([3, 4], np.float32), 2**64 - 1)
             for uncertain in ([0.1, 0, 0], [0.0, 0, 0])]
    frames = Frames.of(views, LabelCost(0, 60))
    assert frames.amounts.tolist() == [[0.4, 0.1, 0.5], [0, 0, 0]]
    assert frames.vectors.tolist() == [[3, 4]] * 2
    assert frames.pictures.tolist() == [2**64 - 1] * 2
    assert frames.minutes.tolist() == [2, 2]


def test_a_picture_of_the_same_content_is_not_chosen_wherever_its_features_lie():
    amounts = [[0.3], [0.2], [0.1], [0.05]]
    pictures = [0b111000, 0b011100, 0b011111, 0b111001]  # 2, 4 and 1 bits from the first
    assert SAME == 2
    assert [c.index for c in choose(amounts, FAR, 4, pictures=pictures)] == [0, 2]
    # Of the labelled ones likewise; the second differs from the third in two bits.
    views = [view_at(place, picture=picture) for place, picture in zip(
        (0, 100, 200), pictures[1:], strict=True)]
    ranked = ranked_frames(dict(zip(map(Path, 'bcd'), views, strict=True)), {
        Path('a'): view_at(900, picture=pictures[0])}, OUTDOOR, 4)
    assert [each.file.name for each in ranked] == ['c']


def test_differing_bits_are_counted_one_by_one():
    codes = np.random.default_rng(0).integers(0, 2**64, 50, np.uint64)
    assert differing_bits(codes, codes[3]).tolist() == [
        (int(code) ^ int(codes[3])).bit_count() for code in codes]


def test_minutes_are_spent_where_they_bring_most():
    # The mean is 0.2; of gains log 2.5, log 2, log 1.5, the second brings most for a minute.
    amounts, costs = [[0.3], [0.2], [0.1]], [10, 2, 3]
    choices = choose(amounts, FAR[:3], 9, minutes=20, costs=costs)
    assert [(c.index, c.minutes) for c in choices] == [(1, 2), (2, 3), (0, 10)]
    assert [c.index for c in choose(amounts, FAR[:3], 2, minutes=20, costs=costs)] == [1, 2]
    # It ends before what would take more than are left, so that less time is a part of more.
    assert [c.index for c in choose(amounts, FAR[:3], 9, minutes=14.9, costs=costs)] == [1, 2]
    assert choose(amounts, FAR[:3], 9, minutes=1, costs=costs) == []
    assert [c.index for c in choose(amounts, FAR[:3], 9, costs=costs)] == [0, 1, 2]


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
    if confusion:
        confusion = *map(OUTDOOR.classes.index, confusion[:2]), confusion[2]
    view = FrameView(np.zeros(3), np.zeros(3), undecided, contradicted, confusion, 0.0,
                     np.zeros(1), 0)
    box = OUTDOOR.classes.index('box')
    assert reason(view, Choice(0, 1.0, box, distance, None, 1.0), OUTDOOR, nearest) == text


def view_at(place, uncertain=(0.1, 0, 0), outline=0.0, picture=None):
    """Return a view of a picture that is like none of another place."""
    amounts = np.array(uncertain, float)
    if picture is None:
        picture = int(1000 * place) * 0x9E3779B97F4A7C15 % 2**64
    return FrameView(amounts, amounts, 0, None, None, outline, np.array([place], np.float32),
                     picture)


def test_the_nearest_may_be_a_labelled_frame(tmp_path):
    ranked = list(ranked_frames({tmp_path / 'a.png': view_at(0), tmp_path / 'b.png': view_at(10)},
                                {tmp_path / 'known.png': view_at(10.5)}, OUTDOOR, 2))
    assert [(each.rank, each.file.name) for each in ranked] == [(1, 'a.png'), (2, 'b.png')]
    assert ranked[0].reason.endswith('unlike any chosen before')
    assert ranked[1].reason.endswith('nearest before: known.png')


def test_the_order_in_which_frames_are_seen_does_not_matter(tmp_path):
    views = {tmp_path / f'{i}.png': view_at(place) for i, place in enumerate((5, 0, 9, 3))}
    turned = dict(reversed(views.items()))
    chosen = [[each.file for each in ranked_frames(each, {}, OUTDOOR, 4)]
              for each in (views, turned)]
    assert chosen[0] == chosen[1]
    assert chosen[0][0].name == '0.png'  # of equal ones the first by name


def test_the_cost_of_a_label_grows_with_its_outlines(tmp_path):
    each, = ranked_frames({tmp_path / 'a.png': view_at(0, outline=2.5)}, {}, OUTDOOR, 1,
                          LabelCost(30, 60))
    assert each.choice.minutes == 3


@pytest.mark.parametrize(('text', 'message'), [
    (None, 'cannot be read'), ('', 'expected a rank.csv'), ('a,b\n1,2\n', 'expected a rank.csv')])
def test_a_file_that_is_no_ranking_is_told(tmp_path, text, message):
    path = tmp_path / 'rank.csv'
    if text is not None:
        path.write_text(text)
    with pytest.raises(UnivsegError, match=f'rank.csv: {message}'):
        read_ranking(path)
