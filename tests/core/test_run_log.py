"""What a training leaves to read, and what a continued run keeps of it."""

import csv
from dataclasses import replace
import math

import numpy as np
import pytest
from tensorboard.summary.writer import event_file_writer
from tiny_worlds import INDOOR, OUTDOOR, random_image
from univseg_core.inference.cell_entropy import ENTROPY_BINS, entropy_counts
from univseg_core.measuring.evaluation import DomainResult
from univseg_core.reporting.run_log import LOG_EVERY, RunLog, tag
from univseg_core.reporting.run_tables import (
    best_validation,
    read_losses,
    read_validation,
    RunLogError,
    Validation,
)

RESULTS = {'outdoor': DomainResult(OUTDOOR, np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])),
           'indoor': DomainResult(
               INDOOR, np.array([[3, 0], [0, 1]]),
               by_label_embeddings=DomainResult(INDOOR, np.array([[2, 0, 0], [0, 1, 1]])))}
BAD = {'outdoor': DomainResult(OUTDOOR, np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])),
       'indoor': DomainResult(INDOOR, np.array([[3, 0], [0, 1]]))}
UNKNOWN = {'outdoor': DomainResult(OUTDOOR, np.zeros((3, 3), int)),
           'indoor': DomainResult(INDOOR, np.array([[3, 0], [0, 1]]))}


@pytest.fixture(autouse=True)
def numbered_in_order(monkeypatch):
    """Have TensorBoard number its files from 100: it reads those of one second by name."""
    monkeypatch.setattr(event_file_writer, '_global_uid', event_file_writer.AtomicCounter(100))


def rows(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def write(log, steps):
    """Log some steps, of which each has its own number as its loss."""
    return [log.losses(step, {'loss': float(step), 'rate': 0.5}) for step in steps]


def events(folder):
    """Return what TensorBoard shows of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / 'tensorboard'), size_guidance={
        'scalars': 0, 'images': 0, 'histograms': 0})
    return accumulator.Reload()


def points(folder, name):
    return [(event.step, event.value) for event in events(folder).Scalars(name)]


class Clock:
    """A stand-in for time.monotonic()."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr('univseg_core.reporting.run_log.time.monotonic', lambda: self.now)


def test_rows_are_means_over_ten_steps(tmp_path):
    log = RunLog(tmp_path / 'run', 0)
    means = write(log, range(1, 26))
    assert LOG_EVERY == 10
    assert [mean for mean in means if mean] == [{'loss': 5.5, 'rate': 0.5},
                                                {'loss': 15.5, 'rate': 0.5}]
    assert means[9]
    assert means[19]
    written = rows(tmp_path / 'run' / 'log.csv')
    assert [(row['step'], row['loss'], row['rate']) for row in written] == [
        ('10', '5.5', '0.5'), ('20', '15.5', '0.5')]


def test_of_learning_rates_the_last_is_kept(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in range(1, 11):
        means = log.losses(step, {'learning_rate': step / 100})
    assert means == {'learning_rate': 0.1}
    assert rows(tmp_path / 'log.csv')[0]['learning_rate'] == '0.1'


def test_speed_is_that_of_the_steps_without_validation(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    log = RunLog(tmp_path, 0)
    for step in range(1, 21):
        clock.now += 0.5
        means = log.losses(step, {'loss': 1.0, 'images': 16, 'data_wait': 0.1})
        if step == 15:
            clock.now += 1000
            log.validation(step, RESULTS)
            clock.now += 1000
            log.pictures(step, 'outdoor', random_image(8, 8))
    assert means['images_per_second'] == pytest.approx(32)
    assert 'images' not in means
    columns = read_losses(tmp_path)
    assert list(columns) == ['step', 'loss', 'data_wait', 'images_per_second', 'seconds_per_step']
    assert columns['seconds_per_step'] == pytest.approx([0.5, 0.5])
    assert columns['images_per_second'] == pytest.approx([32, 32])


def test_a_validation_has_a_row_for_each_domain(tmp_path):
    RunLog(tmp_path, 0).validation(10, RESULTS)
    assert rows(tmp_path / 'validation.csv') == [
        {'step': '10', 'domain': 'outdoor', 'miou': str(RESULTS['outdoor'].miou),
         'prototype_miou': 'nan', 'iou': '0.5000 0.6667 nan'},
        {'step': '10', 'domain': 'indoor', 'miou': '1.0', 'prototype_miou': '0.75',
         'iou': '1.0000 1.0000'}]
    (validation,) = read_validation(tmp_path)
    assert validation.step == 10
    assert validation.miou == {'outdoor': RESULTS['outdoor'].miou, 'indoor': 1}
    assert validation.iou['outdoor'] == pytest.approx([0.5, 0.6667, float('nan')], nan_ok=True)
    assert validation.total == pytest.approx(1 + (1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize(('first', 'kept'), [(0, []), (5, []), (10, ['10']), (19, ['10']),
                                             (20, ['10', '20'])])
def test_a_continued_run_writes_its_later_rows_again(tmp_path, first, kept):
    log = RunLog(tmp_path, 0)
    write(log, range(1, 31))
    for step in (10, 20, 30):
        log.validation(step, RESULTS)

    log = RunLog(tmp_path, first)
    for name, repeat in (('log.csv', 1), ('validation.csv', 2)):
        if kept:
            assert [row['step'] for row in rows(tmp_path / name)] == sorted(repeat * kept)
        else:
            assert not (tmp_path / name).exists()
    write(log, range(first + 1, 31))
    assert [row['step'] for row in rows(tmp_path / 'log.csv')] == ['10', '20', '30']


def test_a_continued_run_averages_the_steps_that_it_made(tmp_path):
    write(RunLog(tmp_path, 0), range(1, 17))
    write(RunLog(tmp_path, 16), range(17, 21))
    assert [row['loss'] for row in rows(tmp_path / 'log.csv')] == ['5.5', '18.5']


def test_a_log_of_an_older_version_gets_the_new_columns(tmp_path):
    (tmp_path / 'log.csv').write_text('step,loss,gone,seconds_per_step\n10,2.5,7,0.5\n')
    log = RunLog(tmp_path, 10)
    for step in range(11, 31):
        log.losses(step, {'loss': float(step), 'feature_norm': 3.0})
    columns = read_losses(tmp_path)
    assert list(columns) == ['step', 'loss', 'feature_norm', 'seconds_per_step', 'gone']
    assert columns['loss'].tolist() == [2.5, 15.5, 25.5]
    assert columns['feature_norm'].tolist() == pytest.approx([np.nan, 3, 3], nan_ok=True)
    assert columns['gone'].tolist() == pytest.approx([7, np.nan, np.nan], nan_ok=True)
    assert all(None not in row.values() and None not in row
               for row in rows(tmp_path / 'log.csv'))


def test_a_row_that_is_not_written_to_its_end_is_not_read(tmp_path):
    write(RunLog(tmp_path, 0), range(1, 21))
    path = tmp_path / 'log.csv'
    path.write_text(path.read_text() + '30,25.')
    assert read_losses(tmp_path)['step'].tolist() == [10, 20]
    write(RunLog(tmp_path, 29), [30])
    assert read_losses(tmp_path)['loss'].tolist() == [5.5, 15.5, 30]


@pytest.mark.parametrize(('text', 'message'), [
    ('step,loss\n10\n', r"got \['10', None\]"), ('step,loss\n10,1,2\n', 'damaged'),
    ('a,b\n1,2\n', 'expected a step'), ('step,loss\nten,1\n', 'damaged'),
    ('step,loss\n10,low\n', "loss at step 10: expected a number, got 'low'"),
    ('step\n' + '9' * 5000 + '\n', 'damaged'), ('step\n' + 'x' * 200_000 + '\n', 'field larger'),
    ('\x00\x01\nz\n', 'damaged')])
def test_a_damaged_log_is_named(tmp_path, text, message):
    (tmp_path / 'log.csv').write_text(text)
    with pytest.raises(RunLogError, match=rf'log\.csv.*{message}'):
        read_losses(tmp_path)


def test_a_damaged_validation_is_named(tmp_path):
    (tmp_path / 'validation.csv').write_text('step,domain,miou,iou\n1,a,0.5,0.5 x\n')
    with pytest.raises(RunLogError, match=r"validation\.csv.*iou at step 1: .* got '0\.5 x'"):
        read_validation(tmp_path)


def test_no_log_has_no_columns(tmp_path):
    assert read_losses(tmp_path) == {}
    assert read_validation(tmp_path) == []
    assert best_validation([]) is None


def test_a_validation_tells_whether_it_is_the_best(tmp_path):
    log = RunLog(tmp_path, 0)
    assert log.validation(10, BAD)  # the first is
    assert log.validation(20, RESULTS)
    assert not log.validation(30, RESULTS)  # a tie keeps the earlier
    assert not log.validation(40, BAD)
    assert best_validation(read_validation(tmp_path)).step == 20


def test_the_best_is_known_after_an_interruption(tmp_path):
    RunLog(tmp_path, 0).validation(10, RESULTS)
    assert not RunLog(tmp_path, 10).validation(20, BAD)
    assert RunLog(tmp_path, 5).validation(10, BAD)  # what came later is forgotten


def test_a_finished_run_that_is_started_again_does_not_rival_itself(tmp_path):
    assert RunLog(tmp_path, 0).validation(10, RESULTS)
    assert RunLog(tmp_path, 10).validation(10, RESULTS)
    assert len(read_validation(tmp_path)) == 1


def test_an_unknown_miou_counts_as_nothing(tmp_path):
    log = RunLog(tmp_path, 0)
    assert log.validation(10, UNKNOWN)
    assert not log.validation(20, BAD)  # outdoor is 0 there: a tie
    assert log.validation(30, RESULTS)
    assert Validation(1, {'a': float('nan'), 'b': 0.25}, {}).total == 0.25


@pytest.mark.parametrize(('column', 'name'), [
    ('loss', 'loss/total'), ('within_entropy', 'loss/within_entropy'),
    ('feature_norm', 'norm/feature'), ('learning_rate', 'learning_rate'),
    ('entropy/outdoor/indoor', 'entropy/outdoor→indoor'), ('of_another', 'of_another')])
def test_columns_have_tensorboard_names(column, name):
    assert tag(column) == name


def test_tensorboard_shows_what_the_tables_hold(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in range(1, 21):
        log.losses(step, {'loss': float(step), 'entropy/outdoor/indoor': 0.25, 'images': 8})
    log.validation(20, RESULTS)
    picture = random_image(24, 32)
    log.pictures(20, 'outdoor', picture)
    log.close()
    assert points(tmp_path, 'loss/total') == [(10, 5.5), (20, 15.5)]
    assert points(tmp_path, 'entropy/outdoor→indoor') == [(10, 0.25), (20, 0.25)]
    assert points(tmp_path, 'miou/indoor') == [(20, 1)]
    assert points(tmp_path, 'iou/outdoor/ground') == [(20, 0.5)]
    ((step, total),) = points(tmp_path, 'miou/sum')
    assert (step, total) == (20, pytest.approx(1 + (1 / 2 + 2 / 3) / 2))
    shown = events(tmp_path)
    assert 'iou/outdoor/ball' not in shown.Tags()['scalars']  # no pixel of it
    assert {'speed/images_per_second', 'speed/seconds_per_step'} <= set(shown.Tags()['scalars'])
    (image,) = shown.Images('predictions/outdoor')
    assert (image.step, image.width, image.height) == (20, 32, 24)


def test_tensorboard_shows_how_undecided_predictions_are(tmp_path):
    """Four cells: twice certain, 1.5 ln 2 of the ln 3 nats of three classes, and all of them."""
    shares = np.array([[1, 0, 0], [0, 1, 0], [.5, .25, .25], [1 / 3, 1 / 3, 1 / 3]])
    with np.errstate(divide='ignore'):
        counts = entropy_counts(np.log(shares).T[:, None])
    log = RunLog(tmp_path, 0)
    log.validation(20, {'outdoor': replace(RESULTS['outdoor'], entropy=counts),
                        'indoor': RESULTS['indoor']})
    log.close()
    shown = events(tmp_path)
    assert shown.Tags()['histograms'] == ['prediction_entropy/outdoor']
    (event,) = shown.Histograms('prediction_entropy/outdoor')
    histogram = event.histogram_value
    assert (event.step, histogram.num) == (20, 4)
    limits, width = np.array(histogram.bucket_limit), math.log(3) / ENTROPY_BINS
    assert np.allclose(limits, width * np.arange(1, ENTROPY_BINS + 1))
    filled = {round(limit / width): count
              for limit, count in zip(limits, histogram.bucket, strict=True) if count}
    assert filled == {1: 2, 1 + int(1.5 * math.log(2) / width): 1, ENTROPY_BINS: 1}
    assert (histogram.min, histogram.max) == (0, pytest.approx(math.log(3)))
    entropies = np.array([0, 0, 1.5 * math.log(2), math.log(3)])
    assert histogram.sum == pytest.approx(entropies.sum(), abs=4 * width)
    assert histogram.sum_squares == pytest.approx((entropies ** 2).sum(), abs=8 * width)


def test_tensorboard_shows_no_later_point_twice(tmp_path):
    for first in (0, 15):
        log = RunLog(tmp_path, first)
        write(log, range(first + 1, 31))
        for step in (10, 20, 30):
            if step > first:
                log.validation(step, RESULTS)
                log.pictures(step, 'outdoor', random_image(8, 8))
        log.close()
    assert points(tmp_path, 'loss/total') == [(10, 5.5), (20, 18), (30, 25.5)]
    assert [step for step, _ in points(tmp_path, 'miou/sum')] == [10, 20, 30]
    assert [image.step for image in events(tmp_path).Images('predictions/outdoor')] == [10, 20, 30]


def test_a_finished_run_that_is_started_again_is_shown_once(tmp_path):
    for first in (0, 10):
        log = RunLog(tmp_path, first)
        log.validation(10, RESULTS)
        log.pictures(10, 'outdoor', random_image(8, 8))
        log.close()
    assert points(tmp_path, 'miou/indoor') == [(10, 1)]
    assert len(events(tmp_path).Images('predictions/outdoor')) == 1


def test_a_validation_that_was_interrupted_is_shown_after_all(tmp_path):
    write(RunLog(tmp_path, 0), range(1, 11))
    log = RunLog(tmp_path, 10)  # the checkpoint of the last step was written, no more
    log.validation(10, RESULTS)
    log.close()
    assert points(tmp_path, 'miou/indoor') == [(10, 1)]
