"""An experiment's tables: made evaluations, and figures worked out by hand."""

import csv
from dataclasses import replace
import json

import pytest
from tiny_worlds import configuration
from univseg_core.cli import main
from univseg_core.reporting.plots.experiment_runs import ExperimentRun, load_experiment_runs
from univseg_core.research.plan import ExperimentError
from univseg_core.research.results import Results
from univseg_core.research.settings import load_experiment
from univseg_core.research.tables import class_rows, markdown, rows, write_tables
from univseg_core.settings.file import ConfigError
import yaml


@pytest.fixture
def experiment(tmp_path, worlds):
    """Return an experiment of two variants, two N and three seeds, with published figures."""
    base, path = tmp_path / 'base.yaml', tmp_path / 'tiny.yaml'
    base.write_text(yaml.safe_dump(configuration(worlds), sort_keys=False))
    path.write_text(yaml.safe_dump({
        'base': str(base), 'folder': 'tiny', 'variants': ['supervised_only', 'univ_full'],
        'labelled': [2, 'all'], 'seeds': [0, 1, 2],
        'published': {2: {'univ_full': {'outdoor': 37.18, 'indoor': 51.76},
                          'supervised_only': {'outdoor': 34.4}}},
        'published_classes': {2: {'univ_full': {'indoor': {'wall': 60.5, 'lamp': 0}}}}},
        sort_keys=False))
    return load_experiment(path)


@pytest.fixture
def root(tmp_path):
    return tmp_path / 'runs' / 'tiny'


def finish(folder, name='evaluation.json', **domains):
    """Make a finished run; each domain's IoUs are given, of label embeddings half of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'model.univseg').touch()

    def part(iou):
        there = [value for value in iou.values() if value is not None]
        return {'miou': sum(there) / len(there) if there else None, 'iou': iou}

    def half(iou):
        return {key: value and value / 2 for key, value in iou.items()}

    values = {key: {**part(iou), 'prototypes': part(half(iou))} for key, iou in domains.items()}
    (folder / name).write_text(json.dumps(values | {'note': 'of a later version'}))


def outdoor(ground, box, ball=None):
    return {'ground': ground, 'box': box, 'ball': ball}


@pytest.fixture
def finished(root):
    """
    Make runs of N = 2: two seeds of univ_full, and one and a half of supervised_only.

    univ_full: outdoor 40 and 44 %, indoor 50 and 60 %; sums 90 and 104 %.
    """
    finish(root / 'n2/seed0/univ_full', outdoor=outdoor(.5, .3),
           indoor={'wall': .6, 'lamp': .4})
    finish(root / 'n2/seed2/univ_full', outdoor=outdoor(.5, .38),
           indoor={'wall': .7, 'lamp': .5})
    finish(root / 'n2/seed0/supervised_only/outdoor', outdoor=outdoor(.2, .4))
    finish(root / 'n2/seed0/supervised_only/indoor', indoor={'wall': .25, 'lamp': .25})
    finish(root / 'n2/seed1/supervised_only/outdoor', outdoor=outdoor(.3, .5))
    # Begun, but not finished.
    (root / 'n2/seed1/univ_full').mkdir(parents=True)
    (root / 'n2/seed1/univ_full/model.univseg').touch()


def test_the_table(experiment, root, finished):
    lines = markdown(experiment, Results(experiment, root)).splitlines()
    start = lines.index('## N = 2')
    # univ_full: √((40 − 42)² + (44 − 42)²) = 2.83; √(5² + 5²) = 7.07; √(7² + 7²) = 9.90.
    assert lines[start + 2:start + 6] == [
        '| variant | seeds | outdoor | published | indoor | published | sum | published |',
        '|---|--:|--:|--:|--:|--:|--:|--:|',
        '| supervised_only | 1 of 3 | 35.0 ± 7.1 (n = 2) | 34.40 | 25.0 | – | 55.0 | – |',
        '| univ_full | 2 of 3 | 42.0 ± 2.8 | 37.18 | 55.0 ± 7.1 | 51.76 | 97.0 ± 9.9 | 88.94 |',
    ]
    start = lines.index('## N = all')
    assert lines[start + 2:start + 6] == [
        '| variant | seeds | outdoor | indoor | sum |', '|---|--:|--:|--:|--:|',
        '| supervised_only | 0 of 3 | – | – | – |', '| univ_full | 0 of 3 | – | – | – |']
    start = lines.index('## N = 2, by the nearest label embedding instead of the head (where a '
                        'variant has no entropies, of a random projection of the features)')
    assert lines[start + 5] == '| univ_full | 2 of 3 | 21.0 ± 1.4 | 27.5 ± 3.5 | 48.5 ± 4.9 |'
    assert not [line for line in lines if 'protocol' in line]
    assert any(line.startswith('Published: Kalluri') for line in lines)


def test_figures_by_the_papers_protocol_stand_below(experiment, root, finished):
    finish(root / 'n2/seed2/univ_full', 'evaluation_paper.json', outdoor=outdoor(.1, .1),
           indoor={'wall': .2, 'lamp': .2})
    lines = markdown(experiment, Results(experiment, root)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith('## N = 2, by the protocol'))
    assert lines[start + 4:start + 6] == [
        '| univ_full | 1 of 3 | 10.0 | 37.18 | 20.0 | 51.76 | 30.0 | 88.94 |', '']


def test_the_figures_as_csv(experiment, root, finished):
    write_tables(experiment, Results(experiment, root), root)
    with (root / 'tiny.csv').open(newline='') as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ['labelled', 'variant', 'measure', 'domain', 'seeds', 'mean',
                              'deviation', 'published']
    found = {(row['labelled'], row['variant'], row['measure'], row['domain']):
             (row['seeds'], row['mean'], row['deviation'], row['published']) for row in table}
    assert len(found) == len(table)
    assert found['2', 'univ_full', 'standard', 'sum'] == ('2', '97.0000', '9.8995', '88.9400')
    assert found['2', 'supervised_only', 'standard', 'indoor'] == ('1', '25.0000', '', '')
    assert found['all', 'univ_full', 'standard', 'outdoor'] == ('0', '', '', '')
    assert ('all', 'univ_full', 'prototypes', 'outdoor') not in found


def test_each_class(experiment, root, finished):
    write_tables(experiment, Results(experiment, root), root)
    lines = (root / 'tiny_classes.md').read_text().splitlines()
    start = lines.index('## N = 2, outdoor')
    assert lines[start + 2:start + 7] == [
        '| class | supervised_only | univ_full |', '|---|--:|--:|',
        '| ground | 25.0 ± 7.1 (n = 2) | 50.0 ± 0.0 (n = 2) |',
        '| box | 45.0 ± 7.1 (n = 2) | 34.0 ± 5.7 (n = 2) |',
        '| ball | absent | absent |']
    start = lines.index('## N = 2, indoor')
    assert lines[start + 2:start + 6] == [
        '| class | supervised_only | univ_full | published |', '|---|--:|--:|--:|',
        '| wall | 25.0 (n = 1) | 65.0 ± 7.1 (n = 2) | 60.50 |',
        '| lamp | 25.0 (n = 1) | 45.0 ± 7.1 (n = 2) | 0.00 |']
    with (root / 'tiny_classes.csv').open(newline='') as file:
        (row,) = (row for row in csv.DictReader(file) if row['class'] == 'wall' and (
            row['variant'], row['measure']) == ('univ_full', 'standard'))
    assert row == {'labelled': '2', 'variant': 'univ_full', 'measure': 'standard',
                   'domain': 'indoor', 'class': 'wall', 'seeds': '2', 'mean': '65.0000',
                   'deviation': '7.0711', 'published': '60.5000'}


def test_without_any_run_published_figures_stand_alone(experiment, root):
    results = Results(experiment, root)
    text = markdown(experiment, results)
    assert '| univ_full | 0 of 3 | – | 37.18 | – | 51.76 | – | 88.94 |' in text
    assert [row['mean'] for row in rows(experiment, results)] == [None] * 12
    assert [(row['class'], row['seeds'], row['published'])
            for row in class_rows(experiment, results)] == [('wall', 0, 60.5), ('lamp', 0, 0)]


def test_a_domain_without_any_class_counts_as_not_measured(experiment, root):
    finish(root / 'n2/seed0/univ_full', outdoor=outdoor(None, None),
           indoor={'wall': .2, 'lamp': .4})
    text = markdown(experiment, Results(experiment, root))
    assert '| univ_full | 0 of 3 | – | 37.18 | 30.0 (n = 1) | 51.76 | – | 88.94 |' in text


@pytest.mark.parametrize('text', ['{', '[]', '{"outdoor": {"miou": 0.5}}',
                                  '{"outdoor": {"miou": 0.5, "iou": 3}}'])
def test_a_damaged_evaluation_is_named(experiment, root, text):
    finish(root / 'n2/seed0/univ_full')
    path = root / 'n2/seed0/univ_full/evaluation.json'
    path.write_text(text)
    with pytest.raises(ExperimentError, match=f'{path}: damaged: expected the mIoU and IoUs'):
        markdown(experiment, Results(experiment, root))


def test_the_command_prints_it_without_the_images(tmp_path, monkeypatch, capsys):
    for name in ('CITYSCAPES', 'CAMVID'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(['experiment', 'table2', '--table', 'labelled=[50]']) == 1
    assert 'nothing of this experiment has run' in capsys.readouterr().err
    (tmp_path / 'runs/cityscapes_camvid').mkdir(parents=True)
    assert main(['experiment', 'table2', '--table', 'labelled=[50]']) == 0
    printed, told = capsys.readouterr()
    assert 'Not checked that the runs have these settings' in told
    assert '| univ_full_k3 | 0 of 1 | – | 39.30 | – | 51.31 | – | 90.61 |' in printed
    assert '## N = 100' not in printed
    assert (tmp_path / 'runs/cityscapes_camvid/table2.md').read_text() + '\n' == printed
    assert main(['experiment', 'table2', '--table', 'labelled=[50]', '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['runs'] == []
    (k3,) = [row for row in told['table']
             if (row['variant'], row['domain']) == ('univ_full_k3', 'sum')]
    assert (k3['labelled'], k3['seeds'], k3['mean']) == (50, 0, None)
    assert k3['published'] == pytest.approx(90.61)
    assert main(['experiment', 'table2', '--dry-run']) == 1
    assert ('domains.cityscapes.root: the environment variable CITYSCAPES is not set'
            in capsys.readouterr().err)


def compared(experiment):
    """Return the experiment with supervised_only as what the others are compared with."""
    section = experiment.section.model_copy(update={'compare_with': 'supervised_only'})
    return replace(experiment, section=section)


def test_differences_are_those_of_equal_seeds(experiment, root, finished):
    """univ_full of seed 0 has 40 and 50, supervised_only 30 and 25; seed 2 has no partner."""
    experiment = compared(experiment)
    results = Results(experiment, root)
    assert results.differences(2, 'univ_full', 'supervised_only') == {0: pytest.approx(35)}
    assert results.differences(2, 'univ_full', 'supervised_only', 'outdoor') == {
        0: pytest.approx(10)}
    finish(root / 'n2/seed2/supervised_only/outdoor', outdoor=outdoor(.2, .4))
    assert '| univ_full | 1 | +12.0 ± 2.8 (n = 2) | +25.0 | +35.0 |' in markdown(
        experiment, Results(experiment, root))
    finish(root / 'n2/seed2/supervised_only/indoor', indoor={'wall': .5, 'lamp': .5})
    text = markdown(experiment, Results(experiment, root))
    # Outdoor +10 and +14, indoor +25 and +10, sums +35 and +24.
    assert text.endswith("""\
## N = 2, points above supervised_only

Mean of the differences seed by seed, ± their sample standard deviation.

| variant | seeds | outdoor | indoor | sum |
|---|--:|--:|--:|--:|
| univ_full | 2 | +12.0 ± 2.8 | +17.5 ± 10.6 | +29.5 ± 7.8 |

## N = all

| variant | seeds | outdoor | indoor | sum |
|---|--:|--:|--:|--:|
| supervised_only | 0 of 3 | – | – | – |
| univ_full | 0 of 3 | – | – | – |
""")


def test_every_run_has_a_row(experiment, root, finished):
    (root / 'n2/seed0/univ_full/config.yaml').write_text('training: {steps: 24}')
    (root / 'n2/seed0/univ_full/log.csv').write_text(
        'step,seconds_per_step\n10,0.5\n20,0.25\n')
    write_tables(experiment, Results(experiment, root), root)
    with (root / 'tiny_runs.csv').open(newline='') as file:
        found = list(csv.DictReader(file))
    assert [(row['seed'], row['variant']) for row in found] == [
        ('0', 'supervised_only'), ('0', 'supervised_only'), ('0', 'univ_full'),
        ('1', 'supervised_only'), ('2', 'univ_full')]
    assert found[2] == {
        'labelled': '2', 'seed': '0', 'variant': 'univ_full', 'steps': '24', 'seconds': '9.0000',
        'miou/outdoor': '40.0000', 'prototype_miou/outdoor': '20.0000', 'miou/indoor': '50.0000',
        'prototype_miou/indoor': '25.0000'}
    assert (found[0]['miou/outdoor'], found[0]['miou/indoor'], found[0]['steps']) == (
        '30.0000', '', '')
    assert load_experiment_runs(root / 'tiny_runs.csv') == (
        [ExperimentRun('2', '0', 'univ_full', 9.0, (40.0, 50.0))], ['outdoor', 'indoor'])


def test_only_a_variant_that_is_there_can_be_compared_with(tmp_path, worlds):
    base, path = tmp_path / 'base.yaml', tmp_path / 'tiny.yaml'
    base.write_text(yaml.safe_dump(configuration(worlds)))
    path.write_text(yaml.safe_dump({'base': str(base), 'folder': 'tiny', 'labelled': [2],
                                    'variants': ['univ_full'], 'compare_with': 'univ_basic'}))
    with pytest.raises(ConfigError, match='compare_with: univ_basic is not one of the variants'):
        load_experiment(path)
