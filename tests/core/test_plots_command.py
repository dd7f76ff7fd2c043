"""`univseg figure`: each kind from run folders to files, and what it says of bad ones."""

import json

from figure_runs import write_run
import pytest
from tiny_worlds import OUTDOOR
from univseg_core.cli import main
from univseg_core.pictures.images import read_image


@pytest.fixture(scope='module')
def runs(worlds, tmp_path_factory):
    """Return the folders of two runs; not to be changed."""
    folder = tmp_path_factory.mktemp('figures')
    return [str(write_run(folder / name, worlds, seed=seed))
            for seed, name in enumerate(('basic', 'full'))]


def figure(capsys, out, kind, *arguments):
    """Run the command; return the names of the files that it tells of, all of which are there."""
    assert main(['figure', kind, *arguments, '--out', str(out)]) == 0
    names = [line.rpartition('/')[2] for line in capsys.readouterr().out.splitlines()]
    assert sorted(names) == sorted(path.name for path in out.iterdir())
    assert all(read_image(path).std() > 0 for path in out.glob('*.png'))
    assert all(path.read_text().rstrip().endswith('</svg>') for path in out.glob('*.svg'))
    return names


@pytest.mark.parametrize('kind, options, names', [
    ('tsne', ['--pixels', '5', '--device', 'cpu'], ['tsne.png', 'tsne.svg']),
    ('tsne', ['--space', 'embedding', '--classes', 'ground', 'wall', '--pixels', '9'],
     ['tsne_embedding.png', 'tsne_embedding.svg']),
    ('panels', ['--count', '1'], ['panels.png', 'panels.svg']),
    ('panels', ['--images', '00', '02.png'], ['panels.png', 'panels.svg']),
    ('curves', [], ['curves.png', 'curves.svg']),
])
def test_two_runs_side_by_side(runs, tmp_path, capsys, kind, options, names):
    assert figure(capsys, tmp_path, kind, *runs, *options) == names


def test_correspondences_of_each_run(runs, tmp_path, capsys):
    names = figure(capsys, tmp_path, 'correspondences', *runs)
    assert names == [f'correspondences_{run}{ending}' for run in ('basic', 'full') for ending in (
        '.md', '.csv', '.json', '_outdoor_indoor.png', '_outdoor_indoor.svg')]
    pairs = json.loads((tmp_path / 'correspondences_basic.json').read_text())
    assert [(pair['of'], pair['in']) for pair in pairs] == [('outdoor', 'indoor'),
                                                            ('indoor', 'outdoor')]
    assert (tmp_path / 'correspondences_full.md').read_text().startswith(
        '# Class correspondences of full\n')


def test_cost_of_an_experiments_runs(tmp_path, capsys, drawn):
    (tmp_path / 'a_runs.csv').write_text('labelled,seed,variant,seconds,miou/a\n'
                                         'all,0,univ_basic,60,40\nall,0,univ_full,90,41\n')
    assert figure(capsys, tmp_path / 'out', 'cost', str(tmp_path / 'a_runs.csv'), '--variants',
                  'univ_full') == ['cost.png', 'cost.svg']
    assert main(['figure', 'cost', str(tmp_path / 'a_runs.csv'), '--json', '--out',
                 str(tmp_path / 'out')]) == 0
    assert json.loads(capsys.readouterr().out) == {
        'files': [str(tmp_path / 'out' / f'cost.{ending}') for ending in ('png', 'svg')]}
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ['univ_full']
    assert drawn[0].axes[0].get_ylabel() == 'mIoU, %'


def test_a_run_of_one_domain_in_panels_but_not_in_correspondences(
        runs, worlds, tmp_path, capsys):
    one = str(write_run(tmp_path / 'one', worlds, domains=(OUTDOOR,)))
    figure(capsys, tmp_path / 'out', 'panels', one, runs[0])
    assert main(['figure', 'correspondences', one, '--out', str(tmp_path / 'none')]) == 1
    assert capsys.readouterr().err.endswith(
        'univseg figure: one: correspondences are between domains, and there is only outdoor\n')
    assert not (tmp_path / 'none').exists()


def test_a_model_without_label_embeddings_has_no_correspondences(worlds, tmp_path, capsys):
    bare = str(write_run(tmp_path / 'bare', worlds, label_embeddings=False))
    assert main(['figure', 'correspondences', bare, '--out', str(tmp_path / 'none')]) == 1
    assert 'univseg figure: bare: this model has no label embeddings of outdoor' in \
        capsys.readouterr().err
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize('arguments', [
    ['tsne'], ['tsne', 'run', '--pixels', '0'], ['tsne', 'run', '--space', 'logits'],
    ['tsne', 'run', '--seed', '-1'], ['tsne', 'run', '--seed', str(2**32)],
    ['panels', 'run', '--count', '2', '--images', 'a'], ['pie', 'run'], []])
def test_what_the_grammar_refuses(arguments):
    with pytest.raises(SystemExit) as error:
        main(['figure', *arguments])
    assert error.value.code == 2


@pytest.mark.parametrize('kind', ['tsne', 'panels', 'curves', 'correspondences', 'cost'])
def test_a_folder_that_is_no_run(tmp_path, capsys, kind):
    assert main(['figure', kind, str(tmp_path), '--out', str(tmp_path / 'out')]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'univseg figure: {tmp_path}: ')
    assert error.count('\n') == 1
    assert not (tmp_path / 'out').exists()
