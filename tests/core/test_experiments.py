"""Experiments: which runs they take, and how these are run, gone on with, stopped and refused."""

from contextlib import contextmanager
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from tiny_worlds import configuration
from univseg_core.cli import main
from univseg_core.config import ConfigError, load_config
from univseg_core.data.folders import DataError
from univseg_core.experiments import execution
from univseg_core.experiments.execution import execute
from univseg_core.experiments.plan import check_settings, ExperimentError, listing, plan
from univseg_core.experiments.settings import load_experiment
from univseg_core.experiments.variants import VARIANTS
from univseg_core.models.model_file import load_model
from univseg_core.training.run_settings import differing_settings, flat
import yaml

FAKE = """
import json, os, pathlib, signal, sys, time
config, _, folder = sys.argv[1:4]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
with open(os.environ['CALLS'], 'a') as calls:
    print(os.path.relpath(folder, os.environ['ROOT']), *sys.argv[4:],
          os.environ.get('OMP_NUM_THREADS'), file=calls)
(folder / 'config.yaml').write_text(pathlib.Path(config).read_text())
print(f'training in {folder}', flush=True)
BODY
(folder / 'model.univseg').touch()
(folder / 'evaluation.json').write_text('{}')
"""


@pytest.fixture
def write(tmp_path, worlds):
    """Return a function that writes an experiment on the tiny worlds, and returns its path."""
    def write(base=None, **changes):
        base_path = tmp_path / 'base.yaml'
        base_path.write_text(yaml.safe_dump(base or configuration(worlds), sort_keys=False))
        path = tmp_path / 'tiny.yaml'
        path.write_text(yaml.safe_dump({
            'base': str(base_path), 'folder': 'tiny', 'labelled': [2],
            'variants': ['supervised_only', 'univ_full'], **changes}))
        return path
    return write


@pytest.fixture
def root(tmp_path):
    """Return the folder of the experiment's runs, which is not made yet."""
    return tmp_path / 'runs' / 'tiny'


@pytest.fixture
def fake(tmp_path, root, monkeypatch):
    """Return a function that makes a command like `train` that does `body`; it notes its calls."""
    calls = tmp_path / 'calls'
    monkeypatch.setenv('CALLS', str(calls))
    monkeypatch.setenv('ROOT', str(root))
    calls.touch()

    def make(body=''):
        script = tmp_path / 'fake.py'
        script.write_text(FAKE.replace('BODY', textwrap.dedent(body)))
        return [sys.executable, str(script)]
    return make


def calls(tmp_path):
    return (tmp_path / 'calls').read_text().splitlines()


def planned(path, root, *overrides, only=()):
    return plan(load_experiment(path, overrides), root, only)


def names(runs, root):
    return [str(run.folder.relative_to(root)) for run in runs]


def difference(config, other):
    """Return the settings that differ, without the text of differing_settings."""
    return {line.split(':')[0] for line in differing_settings(config, other)}


# Which runs

def test_each_run_comes_once_after_what_it_needs(write, root):
    path = write(variants=['univ_full', 'finetune'], labelled=[2, 'all'], seeds=[0, 3])
    runs = planned(path, root)
    cell = ['supervised_only/outdoor', 'supervised_only/indoor', 'finetune/outdoor',
            'finetune/indoor', 'univ_full']
    assert names(runs, root) == [f'{n}/seed{seed}/{name}' for n in ('n2', 'all')
                                 for seed in (0, 3) for name in cell]
    needs = {run.folder: names([type(run)(folder, {}) for folder in run.needs], root)
             for run in runs[5:10]}
    base = 'n2/seed3'
    assert list(needs.values()) == [
        [], [], [f'{base}/supervised_only/indoor'], [f'{base}/supervised_only/outdoor'],
        [f'{base}/supervised_only/outdoor', f'{base}/supervised_only/indoor']]


def test_some_variants_alone_bring_what_they_need(write, root):
    path = write(variants=list(VARIANTS))
    assert names(planned(path, root, only=['univ_basic']), root) == ['n2/seed0/univ_basic']
    assert names(planned(path, root, only=['univ_full_k3']), root) == [
        'n2/seed0/supervised_only/outdoor', 'n2/seed0/supervised_only/indoor',
        'n2/seed0/univ_full_k3']
    with pytest.raises(ExperimentError, match=r'tiny\.yaml: has no variant univ_ful; it has .*k3'):
        planned(path, root, only=['univ_ful'])


def test_the_domain_before_starts_a_third_one(write, root, worlds):
    base = configuration(worlds)
    base['domains']['attic'] = base['domains']['indoor']
    runs = planned(write(base, variants=['finetune']), root)[3:]
    assert [(run.folder.name, run.needs[0].name) for run in runs] == [
        ('outdoor', 'attic'), ('indoor', 'outdoor'), ('attic', 'indoor')]


def test_to_finetune_needs_two_domains(write, root):
    base = yaml.safe_load(write().with_name('base.yaml').read_text())
    del base['domains']['indoor']
    with pytest.raises(ConfigError, match='finetune needs two domains or more, the base has out'):
        planned(write(base, variants=['finetune']), root)


def test_each_variant_changes_what_its_name_says_alone(write, root, worlds):
    base = configuration(worlds) | {'objective': {'alpha': 0.3, 'beta': 0.2, 'warmup_steps': 5}}
    path = write(base, variants=list(VARIANTS), seeds=[4], single_domain_steps=7)
    runs = {name: run for run, name in zip(planned(path, root), names(planned(path, root), root),
                                           strict=True)}
    configs = {name.removeprefix('n2/seed4/'): run.config for name, run in runs.items()}
    models = {name: str(root / f'n2/seed4/supervised_only/{name}/model.univseg')
              for name in ('outdoor', 'indoor')}

    full = configs['univ_full']
    assert (full['objective']['alpha'], full['objective']['beta']) == (0.3, 0.2)
    assert full['label_embeddings']['networks'] == models
    assert full['training']['seed'] == 4
    assert {name: domain['labelled'] for name, domain in full['domains'].items()} == {
        'outdoor': 2, 'indoor': 2}
    changes = {
        'univ_cross': {'objective.beta': 0},
        'univ_full_k3': {'label_embeddings.centroids': 3},
        'univ_full_theta_0': {'label_embeddings.theta': 0},
        'univ_full_theta_0_5': {'label_embeddings.theta': 0.5},
        'univ_full_cosine': {'objective.similarity': 'cosine', 'objective.temperature': 0.1},
        'univ_full_anchor': {'objective.anchor': 1},
    }
    for name, expected in changes.items():
        assert difference(full, configs[name]) == set(expected), name
        assert expected.items() <= flat(configs[name]).items()
    joint = configs['univ_full_joint']
    assert difference(full, joint) == {
        'label_embeddings.basis', 'label_embeddings.networks',
        'label_embeddings.networks.outdoor', 'label_embeddings.networks.indoor'}
    assert joint['label_embeddings']['basis'] == 'joint'

    basic = configs['univ_basic']
    assert (basic['objective']['alpha'], basic['objective']['beta']) == (0, 0)
    assert {key.split('.')[0] for key in difference(full, basic)} == {
        'objective', 'label_embeddings'}
    alone = configs['supervised_only/indoor']
    assert list(alone['domains']) == ['indoor']
    assert alone['training']['steps'] == 7
    assert {key for key in difference(basic, alone) if 'outdoor' not in key} == {
        'training.steps'}
    tuned = configs['finetune/indoor']
    assert difference(alone, tuned) == {'model.start'}
    assert tuned['model']['start'] == models['outdoor']


def test_steps_of_one_domain_by_n(write, root):
    path = write(labelled=[2, 'all'], single_domain_steps={2: 11, 'all': 12})
    assert [run.steps for run in planned(path, root)] == [11, 11, 30, 12, 12, 30]
    with pytest.raises(ConfigError, match=r'tiny\.yaml:\n  single_domain_steps: no number for N '
                                          '= all'):
        planned(write(labelled=[2, 'all'], single_domain_steps={2: 11}), root)


def test_what_concerns_the_unsupervised_terms_alone_leaves_the_other_runs_as_they_are(write, root):
    path = write(variants=['supervised_only', 'univ_basic'])
    before, after = (planned(path, root, *changes) for changes in (
        (), ('objective.warmup_steps=9', 'label_embeddings.centroids=2')))
    assert [run.config for run in before] == [run.config for run in after]


def test_the_command_line_changes_experiment_and_configuration(write, root):
    path = write(overrides={'training': {'steps': 20}, 'data': {'scale': [1, 1]}})
    runs = planned(path, root, 'seeds=[1, 2]', 'training.learning_rate=0.5')
    assert {run.folder.parts[-2] for run in runs if 'univ_full' in run.folder.name} == {
        'seed1', 'seed2'}
    training = runs[-1].config['training']
    assert (training['steps'], training['learning_rate'], training['seed']) == (20, 0.5, 2)
    assert runs[-1].config['data']['scale'] == [1, 1]
    assert runs[-1].config['data']['crop_size'] == 48


@pytest.mark.parametrize(('changes', 'overrides', 'messages'), [
    ({'variant': []}, (), ['variant: unknown key; did you mean variants?']),
    ({'variants': ['univ_ful']}, (), ['variants.0: ', 'univ_full', "got 'univ_ful'"]),
    ({'variants': ['univ_full', 'univ_full']}, (), ["variants: 'univ_full' is there twice"]),
    ({'seeds': []}, (), ['seeds: ']),
    ({'labelled': [0]}, (), ['labelled: ', '1 or more']),
    ({'single_domain_steps': 0}, (), ['single_domain_steps: ', '1 or more']),
    ({'folder': '../x'}, (), ['folder: ', "got '../x'"]),
    ({'published': {2: {'univ_full': {'garden': 3}}}}, (),
     ['published.2.univ_full.garden: not a domain of', '(outdoor, indoor)']),
    ({}, ('sedes=[1]',), ['sedes: unknown key; did you mean seeds?']),
    ({}, ('training.seed=1',), ['training.seed: ', 'seeds=[1]']),
    ({}, ('domains.outdoor.labelled=3',), ['domains.outdoor.labelled: ', 'labelled=[3]']),
    ({'overrides': {'domains': None}}, (), ['base.yaml: domains: expected the domains by name']),
])
def test_a_wrong_experiment_is_refused(write, changes, overrides, messages):
    with pytest.raises(ConfigError) as error:
        load_experiment(write(**changes), overrides)
    for message in messages:
        assert message in str(error.value)


@pytest.mark.parametrize(('override', 'messages'), [
    ('training.stpes=1', ['base.yaml', 'training.stpes: unknown key; did you mean steps?']),
    ('label_embeddings.basis=joint', ['base.yaml', 'basis', "the variants' to set"]),
])
def test_a_wrong_configuration_is_refused_before_anything_runs(write, root, override, messages):
    with pytest.raises(ConfigError) as error:
        planned(write(), root, override)
    for message in messages:
        assert message in str(error.value)


def test_n_larger_than_the_labelled_set_is_refused_before_anything_runs(write, root):
    with pytest.raises(DataError, match=r'domains\.outdoor\.labelled: 9 .* has 8'):
        planned(write(labelled=[2, 9]), root)


def test_two_domains_of_one_name_are_refused(write, root):
    path = write()
    base = path.with_name('base.yaml')
    base.write_text(base.read_text().replace('  indoor:', '  outdoor:'))
    with pytest.raises(ConfigError, match=r"base\.yaml: (?s:.*)'outdoor' is there twice"):
        planned(path, root)
    with pytest.raises(ConfigError, match=r"base\.yaml: (?s:.*)'outdoor' is there twice"):
        load_config(base)


def test_a_base_that_is_not_there(write):
    path = write()
    path.with_name('base.yaml').unlink()
    with pytest.raises(ConfigError, match=r'base\.yaml: no such file.*train/scenes\.yaml'):
        load_experiment(path)


def test_an_unknown_experiment_gets_the_list_of_those_that_ship(capsys):
    assert main(['experiment', 'table9']) == 1
    assert 'table9: no such file; configurations that ship: ' in capsys.readouterr().err


# How they are run

def test_what_is_finished_is_not_run_again(write, root, fake, tmp_path):
    runs = planned(write(), root)
    execute(runs[:1], command=fake())
    assert calls(tmp_path) == ['n2/seed0/supervised_only/outdoor None']
    execute(runs, command=fake())
    execute(runs, command=fake('raise SystemExit(1)'))
    assert calls(tmp_path)[1:] == ['n2/seed0/supervised_only/indoor None',
                                   'n2/seed0/univ_full None']
    check_settings(runs)
    assert listing(runs).splitlines()[-1] == '3 runs: 3 finished, 0 begun, 0 to run'


@pytest.fixture(autouse=True)
def no_threads_set(monkeypatch):
    """Unset what the environment of the tests may say of threads; look for ended runs often."""
    monkeypatch.setattr(execution, 'POLL_SECONDS', 0.02)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)


def test_the_configuration_of_a_run_is_written_beside_its_folder(write, root, fake):
    runs = planned(write(variants=['finetune', 'univ_full']), root)
    execute(runs, command=fake())
    for run, name in zip(runs, ['supervised_only/outdoor', 'supervised_only/indoor',
                                'finetune/outdoor', 'finetune/indoor', 'univ_full'], strict=True):
        path = root / 'n2' / 'seed0' / f'{name}.yaml'
        assert yaml.safe_load(path.read_text()) == run.config
        assert load_config(path).model_dump(mode='json') == run.config  # as training will have it


def test_several_at_a_time(write, root, fake, tmp_path, capfd):
    # Each of the two waits until the other has begun.
    both = fake("""
    if 'univ' not in str(folder):
        while len(pathlib.Path(os.environ['CALLS']).read_text().splitlines()) < 2:
            time.sleep(0.01)
    """)
    execute(planned(write(), root), jobs=3, devices=2, command=both)
    assert sorted(calls(tmp_path)[:2]) == [
        f'n2/seed0/supervised_only/{name} --devices 2 1' for name in ('indoor', 'outdoor')]
    assert calls(tmp_path)[2:] == ['n2/seed0/univ_full --devices 2 1']
    log = root / 'n2' / 'seed0' / 'univ_full' / 'output.log'
    assert f'training in {log.parent}' in log.read_text()
    printed = capfd.readouterr()
    assert printed.out == ''
    assert 'training in' not in printed.err


def test_one_alone_shows_what_it_prints_but_not_as_the_table(write, root, fake, capfd):
    execute(planned(write(variants=['univ_basic']), root), command=fake())
    printed = capfd.readouterr()
    assert printed.out == ''
    assert f'{root}/n2/seed0/univ_basic (1 of 1)\n' in printed.err
    assert f'training in {root}/n2/seed0/univ_basic' in printed.err


def test_threads_that_are_asked_for_are_used(write, root, fake, tmp_path, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    execute(planned(write(variants=['univ_basic']), root), jobs=2, command=fake())
    assert calls(tmp_path) == ['n2/seed0/univ_basic 3']


def test_a_failing_run_stops_the_others_and_says_why(write, root, fake, tmp_path):
    command = fake("""
    if folder.name == 'outdoor':
        while not (folder.parent / 'indoor' / 'waiting').exists():
            time.sleep(0.01)
        print('\\r 10 % of it', end='')
        print('\\runivseg train: a disk is full')
        raise SystemExit(1)
    try:
        (folder / 'waiting').touch()
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / 'saved').touch()
        raise SystemExit(130)
    """)
    with pytest.raises(ExperimentError) as error:
        execute(planned(write(), root), jobs=2, command=command)
    first, *lines = str(error.value).splitlines()
    folder = root / 'n2' / 'seed0' / 'supervised_only'
    assert first == (f'{folder}/outdoor failed (exit status 1); the end of '
                     f'{folder}/outdoor/output.log:')
    assert [line.strip() for line in lines] == [f'training in {folder}/outdoor',
                                                'univseg train: a disk is full']
    assert (folder / 'indoor' / 'saved').exists()
    assert 'n2/seed0/univ_full' not in '\n'.join(calls(tmp_path))


def test_a_run_that_leaves_no_model_has_failed(write, root, fake):
    with pytest.raises(ExperimentError, match='univ_basic ended without model'):
        execute(planned(write(variants=['univ_basic']), root), command=fake('raise SystemExit'))


@contextmanager
def interrupted_when(paths, number=signal.SIGINT):
    """Send this process a signal as each of the files comes to be there, one after the other."""
    ended = threading.Event()

    def watch():
        for path in paths:
            while not path.exists():
                if ended.wait(0.01):
                    return
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_lets_the_run_save_and_the_same_command_goes_on(write, root, fake, tmp_path,
                                                                     number):
    runs = planned(write(variants=['univ_basic']), root)
    command = fake("""
    saved = folder / 'saved'
    if not saved.exists():
        try:
            (folder / 'waiting').touch()
            time.sleep(60)
        except KeyboardInterrupt:
            saved.touch()
            raise SystemExit(130)
    """)

    with interrupted_when([runs[0].folder / 'waiting'], number), pytest.raises(KeyboardInterrupt):
        execute(runs, command=command)
    assert (runs[0].folder / 'saved').exists()
    assert listing(runs).splitlines()[-1] == '1 runs: 0 finished, 1 begun, 0 to run'
    execute(runs, command=command)
    assert runs[0].is_finished
    assert calls(tmp_path) == ['n2/seed0/univ_basic None'] * 2


def test_a_second_interrupt_does_not_wait_for_it(write, root, fake):
    runs = planned(write(variants=['univ_basic']), root)
    command = fake("""
    signal.signal(signal.SIGINT, lambda *_: (folder / 'asked').touch() or signal.signal(
        signal.SIGINT, signal.default_int_handler))
    (folder / 'waiting').touch()
    time.sleep(60)
    """)

    folder = runs[0].folder
    with interrupted_when([folder / 'waiting', folder / 'asked']), pytest.raises(
            KeyboardInterrupt):
        execute(runs, command=command)
    assert not runs[0].is_finished


def test_runs_of_other_settings_are_refused_before_anything_runs(write, root, fake):
    path = write()
    execute(planned(path, root, 'training.steps=5')[:2], command=fake())
    before = {file: file.read_bytes() for file in root.rglob('*') if file.is_file()}
    with pytest.raises(ExperimentError) as error:
        check_settings(planned(path, root, 'training.learning_rate=1'))
    message = str(error.value)
    for name in ('outdoor', 'indoor'):
        assert (f'{root}/n2/seed0/supervised_only/{name} holds a run with other settings:\n'
                '  training.steps: 5 there, 30 now\n'
                '  training.learning_rate: 0.01 there, 1.0 now\n') in message
    assert 'Nothing was changed' in message
    check_settings(planned(path, root, 'training.steps=5', 'training.workers=1'))
    assert {file: file.read_bytes() for file in root.rglob('*') if file.is_file()} == before


# With real trainings

def test_a_table_of_runs_of_other_settings_is_refused(write, root, fake, capsys):
    path = write(variants=['univ_basic'])
    execute(planned(path, root), command=fake())
    (root / 'n2/seed0/univ_basic/evaluation.json').write_text(
        '{"outdoor": {"miou": 0.5, "iou": {}}, "indoor": {"miou": 0.25, "iou": {}}}')
    command = ['experiment', str(path), '--runs', str(root.parent), '--table']
    assert main(command) == 0
    assert '| univ_basic | 1 of 1 | 50.0 | 25.0 | 75.0 |' in capsys.readouterr().out
    assert main([*command, 'training.steps=999']) == 1
    assert 'training.steps: 30 there, 999 now' in capsys.readouterr().err


HOLD = """
import fcntl, sys
file = open(sys.argv[1], 'w')
fcntl.lockf(file, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()
"""


def test_two_commands_do_not_share_an_n_and_seed(write, root, fake):
    first, other = planned(write(variants=['univ_basic'], seeds=[0, 1]), root)
    first.seed_folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, '-c', HOLD, first.seed_folder / execution.LOCK],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b'held\n'
        with pytest.raises(ExperimentError, match='seed0: another experiment is going on'):
            execute([first, other], command=fake())
        execute([other], command=fake())
        process.stdin.close()
    assert other.is_finished
    assert not first.is_finished
    execute([first, other], command=fake())
    assert first.is_finished


def test_a_real_experiment(write, values, tmp_path, capfd):
    del values['domains']['indoor']
    values['training'] |= {'steps': 2, 'validate_every': 9, 'checkpoint_every': 9}
    path = write(values, single_domain_steps=1)
    command = ['experiment', str(path), '--runs', str(tmp_path / 'runs')]
    assert main([*command, '--jobs', '2']) == 0
    root = tmp_path / 'runs' / 'tiny'
    alone, full = root / 'n2/seed0/supervised_only/outdoor', root / 'n2/seed0/univ_full'
    printed = capfd.readouterr().out
    for folder in (alone, full):
        result = json.loads((folder / 'evaluation.json').read_text())['outdoor']
        miou = f'{100 * result["miou"]:.1f}'
        assert f'| {folder.relative_to(root).parts[2]} | 1 of 1 | {miou} | {miou} |' in printed
    assert (root / 'tiny.md').read_text().strip() == printed.strip()
    _, card = load_model(full / 'model.univseg')
    assert card.training['config']['label_embeddings']['networks'] == {
        'outdoor': str(alone / 'model.univseg')}

    before = {file: file.stat().st_mtime_ns for file in root.rglob('*.univseg')}
    assert main([*command, '--protocol', 'paper']) == 0
    assert '## N = 2, by the protocol of' in capfd.readouterr().out
    assert main([*command, '--dry-run']) == 0
    assert '2 runs: 2 finished, 0 begun, 0 to run' in capfd.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in root.rglob('*.univseg')} == before
