"""log.csv and validation.csv: what is written, and what a continued run keeps of it."""

import csv

import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR
from univseg_core.evaluation import DomainResult
from univseg_core.run_log import LOG_EVERY, RunLog

RESULTS = {'outdoor': DomainResult(OUTDOOR, np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])),
           'indoor': DomainResult(INDOOR, np.array([[3, 0], [0, 1]]))}


def rows(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def write(log, steps):
    """Log some steps, of which each has its own number as its loss."""
    return [log.losses(step, {'loss': float(step), 'rate': 0.5}) for step in steps]


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
    assert all(float(row['seconds_per_step']) >= 0 for row in written)


def test_a_validation_has_a_row_for_each_domain(tmp_path):
    RunLog(tmp_path, 0).validation(10, RESULTS)
    assert rows(tmp_path / 'validation.csv') == [
        {'step': '10', 'domain': 'outdoor', 'miou': str(RESULTS['outdoor'].miou),
         'iou': '0.5000 0.6667 nan'},
        {'step': '10', 'domain': 'indoor', 'miou': '1.0', 'iou': '1.0000 1.0000'}]


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
