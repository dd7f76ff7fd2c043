"""W&B and MLflow: a small stand-in gets what they would, and the real ones where they are."""

import json
import logging
import sys
from typing import get_args

import pytest
from run_files import short, SUPERVISED
from univseg_core.reporting import run_loggers
from univseg_core.reporting.run_log import RunLog
from univseg_core.reporting.run_loggers import check_loggers, LoggerError, RunLoggers, Tool, TOOLS
from univseg_core.settings.learning import TrainingSection
from univseg_core.training.run import train

SETTINGS = {'training': {'steps': 20}}


class Notes:
    """A stand-in for a logger of Lightning's, that fails from a step on."""

    def __init__(self, folder, known, fails_at=1000):
        self.folder, self.version, self._fails_at = folder, known or 'new', fails_at
        self.told = []

    def log_hyperparams(self, settings):
        self.told.append(('settings', settings))

    def log_metrics(self, figures, step):
        assert not sys.stdin.isatty()  # where it might ask for a key
        if step >= self._fails_at:
            raise ConnectionError('the server\nis gone')
        self.told.append((step, figures))


@pytest.fixture
def noted(monkeypatch):
    """Have both tools be stand-ins; return those that have begun."""
    begun = {'wandb': [], 'mlflow': []}

    def stand_in(name, **options):
        def begin(folder, known):
            begun[name].append(Notes(folder, known, **options))
            return begun[name][-1]
        return Tool(name, 'json', begin, lambda logger: logger.told.append('end'))

    monkeypatch.setitem(TOOLS, 'wandb', stand_in('wandb'))
    monkeypatch.setitem(TOOLS, 'mlflow', stand_in('mlflow', fails_at=20))
    return begun


def written(folder, names, first, last):
    """Write steps of a run, as a training does."""
    log = RunLog(folder, first, RunLoggers(names, folder, SETTINGS))
    for step in range(first + 1, last + 1):
        log.losses(step, {'loss': float(step), 'absent': float('nan'), 'entropy/a/b': 0.5})
    log.close()


def test_a_logger_gets_the_settings_and_then_the_figures_that_are_known(tmp_path, noted,
                                                                        monkeypatch):
    monkeypatch.setattr(sys.stdin, 'isatty', lambda: True, raising=False)
    written(tmp_path, ['wandb'], 0, 20)
    (logger,) = noted['wandb']
    assert logger.folder == tmp_path
    settings, *rows, end = logger.told
    assert settings == ('settings', SETTINGS)
    assert [(step, figures['loss/total']) for step, figures in rows] == [(10, 5.5), (20, 15.5)]
    assert all(figures['entropy/a-b'] == 0.5 for _, figures in rows)
    assert not any('absent' in figures for _, figures in rows)
    assert end == 'end'


def test_a_run_goes_on_where_the_tool_has_it(tmp_path, noted):
    written(tmp_path, ['wandb'], 0, 10)
    written(tmp_path, ['wandb'], 10, 20)
    _, second = noted['wandb']
    assert json.loads((tmp_path / 'loggers.json').read_text()) == {'wandb': 'new'}
    assert second.version == 'new'
    assert [told[0] for told in second.told[:-1]] == [20]  # and the settings not again


def test_one_that_fails_is_told_once_and_ends_nothing(tmp_path, noted, caplog):
    with caplog.at_level(logging.WARNING):
        written(tmp_path, ['mlflow', 'wandb'], 0, 40)
    assert [told[0] for told in noted['mlflow'][0].told] == ['settings', 10]
    assert [told[0] for told in noted['wandb'][0].told[1:-1]] == [10, 20, 30, 40]
    (message,) = caplog.messages
    assert message == ('training.loggers: mlflow gets nothing more, and the training goes on: '
                       r'the server\nis gone')


@pytest.mark.parametrize('text', ['[]', '{'])
def test_ids_that_cannot_be_read_end_nothing(tmp_path, noted, caplog, text):
    (tmp_path / 'loggers.json').write_text(text)
    written(tmp_path, ['wandb'], 0, 10)
    assert 'wandb gets nothing more' in caplog.text
    assert (tmp_path / 'loggers.json').read_text() == text


def test_without_loggers_there_is_nothing_of_them(tmp_path, noted):
    written(tmp_path, [], 0, 10)
    assert not any(noted.values())
    assert not (tmp_path / 'loggers.json').exists()


def test_the_setting_takes_the_tools_that_there_are():
    (names,) = get_args(TrainingSection.model_fields['loggers'].annotation)
    assert set(get_args(names)) == set(TOOLS)


def test_a_package_that_is_missing_is_told_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(run_loggers, 'find_spec', lambda name: None if name != 'json' else 1)
    check_loggers([])
    with pytest.raises(LoggerError, match=r'^training\.loggers: mlflow needs pytorch_lightning '
                       r"and mlflow, .*: pip install 'pytorch-lightning>=2.*' mlflow, or leave"):
        check_loggers(['mlflow'])


def test_a_training_needs_the_packages_before_it_begins(values, write_config, tmp_path,
                                                        monkeypatch):
    monkeypatch.setattr(run_loggers, 'find_spec', lambda name: None)
    with pytest.raises(LoggerError, match=r'pip install .* wandb'):
        train(short(values, write_config, 'training.loggers=[wandb]'), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('bare_training')
def test_a_training_tells_its_settings_losses_and_validations(values, write_config, tmp_path,
                                                              noted, monkeypatch):
    monkeypatch.setattr(run_loggers, 'find_spec', lambda name: name)
    config = short(values, write_config, *SUPERVISED, 'training.loggers=[wandb]')
    train(config, tmp_path / 'run')
    (logger,) = noted['wandb']
    assert logger.folder == tmp_path / 'run'
    assert logger.told[0] == ('settings', config.model_dump(mode='json'))
    figures = {}
    for step, values_then in logger.told[1:-1]:
        assert step == 10
        figures |= values_then
    assert {'loss/total', 'miou/sum', 'miou/outdoor', 'iou/indoor/wall'} <= set(figures)
    assert logger.told[-1] == 'end'


def test_mlflow_keeps_a_run_in_its_own_database(tmp_path, monkeypatch):
    for package in ('pytorch_lightning', 'sqlalchemy', 'alembic', 'mlflow'):
        pytest.importorskip(package)
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{tmp_path}/mlflow.db')
    for first in (0, 10):
        written(tmp_path / 'first', ['mlflow'], first, first + 10)
    client = MlflowClient(f'sqlite:///{tmp_path}/mlflow.db')
    (run,) = client.search_runs([client.get_experiment_by_name('univseg').experiment_id])
    assert (run.info.run_name, run.info.status) == (str(tmp_path / 'first'), 'FINISHED')
    assert run.data.params == {'training/steps': '20'}
    history = client.get_metric_history(run.info.run_id, 'loss/total')
    assert [(point.step, point.value) for point in history] == [(10, 5.5), (20, 15.5)]


def test_wandb_keeps_a_run_on_this_machine(tmp_path, monkeypatch):
    pytest.importorskip('pytorch_lightning')
    pytest.importorskip('wandb')
    for name in ('WANDB_MODE', 'WANDB_DIR', 'WANDB_PROJECT'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('WANDB_SILENT', 'true')
    written(tmp_path / 'first', ['wandb'], 0, 10)
    known = json.loads((tmp_path / 'first' / 'loggers.json').read_text())['wandb']
    (file,) = (tmp_path / 'first' / 'wandb').glob(f'offline-run-*-{known}/run-{known}.wandb')
    assert b'loss/total' in file.read_bytes()
