"""The experiments that ship: each can be planned where its data is, and is what the paper has."""

from pathlib import Path
import re

import pytest
from univseg_core.datasets.layouts import LAYOUTS
from univseg_core.research import plan as planning
from univseg_core.research.plan import plan
from univseg_core.research.settings import load_experiment
from univseg_core.settings.file import read_settings, SHIPPED

NAMES = sorted(file.name.removesuffix('.yaml') for file in (SHIPPED / 'experiments').iterdir())
TABLES = [f'table{i}' for i in range(2, 8)]


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Return a function that loads and plans an experiment, its folders made and empty."""
    monkeypatch.setattr(planning, 'load_data', lambda config: None)

    def load(name):
        experiment = load_experiment(name)
        text = experiment.base.read_text(encoding='utf-8')
        for variable, path in re.findall(r'\$\{(\w+)\}([\w/.]*)', text):
            monkeypatch.setenv(variable, str(tmp_path / variable))
            folder = Path(f'{tmp_path / variable}{path}')
            if path.endswith('.txt'):
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.write_text('\n'.join(f'class {i}' for i in range(11)))
            else:
                folder.mkdir(parents=True, exist_ok=True)
        return experiment, plan(experiment, tmp_path / 'runs' / experiment.section.folder)
    return load


def test_the_papers_tables_ship():
    assert set(NAMES) >= {*TABLES, 'camvid_nyuv2', 'scenes'}


@pytest.mark.parametrize('name', NAMES)
def test_it_can_be_planned_and_its_head_tells_the_command(shipped, name):
    _, runs = shipped(name)
    assert len({run.folder for run in runs}) == len(runs) > 0
    text = (SHIPPED / 'experiments' / f'{name}.yaml').read_text(encoding='utf-8')
    head = text.split('\nbase')[0]
    assert all(line.startswith('#') for line in head.splitlines())
    assert f' univseg experiment {name}' in head


@pytest.mark.parametrize(('name', 'runs'), [
    # N × (networks of one domain + universal models)
    ('table2', 3 * (4 + 4)), ('table3', 2 * (4 + 3)), ('table4', 4 + 2), ('table5', 3 * (2 + 3)),
    ('table6', 2 * (2 + 2)), ('table7', 2 + 2), ('camvid_nyuv2', 4 + 9)])
def test_how_many_runs_it_takes(shipped, name, runs):
    assert len(shipped(name)[1]) == runs


@pytest.mark.parametrize(('name', 'other', 'common'), [
    ('table2', 'table5', 3 * (2 + 1)), ('table3', 'table6', 2 * (2 + 1)),
    ('table4', 'table7', 2 + 1)])
def test_tables_of_the_same_domains_share_runs(shipped, name, other, common):
    runs, others = ({run.folder: run.config for run in shipped(each)[1]} for each in (name, other))
    shared = runs.keys() & others.keys()
    assert len(shared) == common
    assert all(runs[folder] == others[folder] for folder in shared)


PUBLISHED = {
    'table2': (('cityscapes', 'camvid'), (50, 100, 300), """
        supervised_only      34.42 39.38  38.64 43.16  47.89 48.52
        finetune             33.28 49.06  37.05 53.60  47.44 57.81
        univ_basic           35.47 50.23  40.58 51.52  49.04 64.74
        univ_cross           32.54 46.20  38.33 52.49  47.83 63.39
        univ_full            37.18 51.76  44.12 53.99  49.41 61.04
        univ_full_k3         39.3  51.31  43.77 54.64  53.07 63.67"""),
    'table3': (('idd', 'cityscapes'), (100, 300), """
        supervised_only      30.83 38.64  37.81 47.89
        finetune             31.95 40.46  37.63 47.69
        univ_basic           31.64 43.48  37.37 49.53
        univ_cross           28.54 37.72  43.17 54.24
        univ_full            32.23 43.81  39.75 53.33"""),
    'table4': (('cityscapes', 'sun_rgbd'), (100,), """
        supervised_only      38.64 8.22
        finetune             38.24 8.71
        univ_basic           33.77 6.87
        univ_full            40.15 8.43"""),
    'table5': (('cityscapes', 'camvid'), (50, 100, 300), """
        univ_full_theta_0    29.52 34.24  37.84 35.52  40.01 58.14
        univ_full_theta_0_5  32.43 48.69  28.88 33.51  41.89 52.46
        univ_full            37.18 51.76  44.12 53.99  49.41 61.04"""),
    'table6': (('idd', 'cityscapes'), (100, 300), """
        univ_full_theta_0    27.48 35.86  31.46 43.3
        univ_full            32.23 43.81  39.75 53.33"""),
    'table7': (('cityscapes', 'sun_rgbd'), (100,), """
        univ_full_theta_0    34.39 7.95
        univ_full            40.15 8.43"""),
}
"""The paper's Tables 2 to 7: columns of each N, and in it of each domain."""


@pytest.mark.parametrize('name', TABLES)
def test_published_figures_are_the_papers(name):
    domains, numbers, text = PUBLISHED[name]
    expected = {number: {} for number in numbers}
    for variant, *cells in map(str.split, text.strip().splitlines()):
        for i, number in enumerate(numbers):
            pair = cells[2 * i:2 * i + 2]
            expected[number][variant] = dict(zip(domains, map(float, pair), strict=True))
    assert load_experiment(name).section.published == expected


@pytest.mark.parametrize('name', TABLES)
def test_every_row_has_its_published_figures(name):
    section = load_experiment(name).section
    assert list(section.published) == section.labelled
    assert all(list(rows) == section.variants for rows in section.published.values())


def test_the_papers_margins():
    """Univ-full over univ-basic, on the sum of mIoUs, as the paper's tables have it."""
    def margin(name, labelled):
        figures = load_experiment(name).section.published[labelled]
        return sum(figures['univ_full'].values()) - sum(figures['univ_basic'].values())

    margins = [margin('table2', 50), margin('table2', 100), margin('table2', 300),
               margin('table3', 100), margin('table3', 300), margin('table4', 100)]
    assert margins == pytest.approx([3.2, 6.0, -3.3, 0.9, 6.2, 7.9], abs=0.06)


def test_class_wise_figures_have_the_data_sets_classes_and_the_published_mean():
    section = load_experiment('table2').section
    for variant, domains in section.published_classes[100].items():
        for name, classes in domains.items():
            assert tuple(classes) == LAYOUTS[name].classes
            mean = sum(classes.values()) / len(classes)
            assert mean == pytest.approx(section.published[100][variant][name], abs=0.006)


@pytest.mark.parametrize(('name', 'images'), [
    ('cityscapes_camvid_paper', 2975 + 367), ('idd_cityscapes_paper', 6993 + 2975),
    ('cityscapes_sun_paper', 2975 + 5285)])
def test_the_paper_configurations_are_the_papers(name, images):
    _, values = read_settings(name, 'train')
    _, paper = read_settings('camvid_nyuv2_paper', 'train')
    training, data = values['training'], values['data']
    assert training['steps'] * 10 == 200 * images
    assert data['crop_size'] == 512
    for section in ('model', 'objective'):
        assert values[section] == paper[section]
    for key in ('optimizer', 'learning_rate', 'momentum', 'weight_decay', 'schedule', 'power'):
        assert training[key] == paper['training'][key]
    for key in ('scale', 'flip', 'colour', 'labelled_per_domain', 'unlabelled_per_domain'):
        assert data[key] == paper['data'][key]
