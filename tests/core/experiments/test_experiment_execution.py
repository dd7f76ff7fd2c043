"""How runs are executed, gone on with, stopped and refused; and one real experiment."""

from contextlib import contextmanager
import json
import os
import signal
import subprocess
import sys
import threading

from plans import calls, planned
import pytest
from run_files import leave_out_pictures
from univseg_core.cli import main
from univseg_core.files import write_text
from univseg_core.machine.ending import STARTED_BY
from univseg_core.models.model_file import load_model
from univseg_core.progress import quiet
from univseg_core.research import execution
from univseg_core.research.execution import execute
from univseg_core.research.plan import check_settings, ExperimentError, listing
from univseg_core.settings.config import load_config
from univseg_core.training import interrupts
import yaml


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


def test_of_a_quiet_experiment_a_run_says_its_errors_alone(write, root, fake, capfd, tmp_path):
    with quiet():
        execute(planned(write(variants=['univ_basic']), root),
                command=fake('print("an error", file=sys.stderr)'))
    assert capfd.readouterr() == ('', 'an error\n')
    assert '--quiet' in calls(tmp_path)[0]


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


SAVING = """
saved = folder / 'saved'
if not saved.exists():
    try:
        (folder / 'waiting').touch()
        time.sleep(60)
    except KeyboardInterrupt:
        saved.touch()
        raise SystemExit(130)
"""
"""A training that waits, and saves when it is interrupted."""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_lets_the_run_save_and_the_same_command_goes_on(write, root, fake, tmp_path,
                                                                     number):
    runs = planned(write(variants=['univ_basic']), root)
    command = fake(SAVING)

    with interrupted_when([runs[0].folder / 'waiting'], number), pytest.raises(KeyboardInterrupt):
        execute(runs, command=command)
    assert (runs[0].folder / 'saved').exists()
    assert listing(runs).splitlines()[-1] == '1 runs: 0 finished, 1 begun, 0 to run'
    execute(runs, command=command)
    assert runs[0].is_finished
    assert calls(tmp_path) == ['n2/seed0/univ_basic None'] * 2


def test_runs_save_also_where_a_script_started_it_in_the_background(write, root, fake):
    """A shell lets such programs, and all that they start, ignore SIGINT."""
    runs = planned(write(variants=['univ_basic']), root)
    command = fake(SAVING)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupted_when([runs[0].folder / 'waiting'], signal.SIGTERM), pytest.raises(
                KeyboardInterrupt):
            execute(runs, command=command)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (runs[0].folder / 'saved').exists()


def test_runs_may_save_for_longer_than_a_process_has_to_end(write, root, fake, monkeypatch):
    """They have limits of their own."""
    forced = []
    monkeypatch.setattr(interrupts, 'GRACE', 0.01)
    monkeypatch.setattr(interrupts, 'end_by_force', lambda *end: forced.append(end))
    runs = planned(write(variants=['univ_basic']), root)
    command = fake(SAVING.replace('saved.touch()', 'time.sleep(0.3), saved.touch()'))
    with pytest.raises(KeyboardInterrupt), interrupts.ended_by_signals(), interrupted_when(
            [runs[0].folder / 'waiting'], signal.SIGTERM):
        execute(runs, command=command)
    assert (runs[0].folder / 'saved').exists()
    assert forced == []


def test_a_run_is_told_whom_it_ends_with(write, root, fake):
    runs = planned(write(variants=['univ_basic']), root)
    execute(runs, command=fake(f"(folder / 'starter').write_text(os.environ['{STARTED_BY}'])"))
    assert (runs[0].folder / 'starter').read_text() == str(os.getpid())


def test_a_second_interrupt_does_not_wait_for_it(write, root, fake):
    runs = planned(write(variants=['univ_basic']), root)
    command = fake("""
    signal.signal(signal.SIGTERM, lambda *_: (folder / 'asked').touch() or signal.signal(
        signal.SIGTERM, signal.default_int_handler))
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


def test_a_real_experiment(write, values, tmp_path, capfd, monkeypatch):
    """Whose first run is there already, trained here: a process takes seconds to begin."""
    del values['domains']['indoor']
    values['training'] |= {'steps': 2, 'validate_every': 9, 'checkpoint_every': 9}
    path = write(values, single_domain_steps=1)
    command = ['experiment', str(path), '--runs', str(tmp_path / 'runs')]
    root = tmp_path / 'runs' / 'tiny'
    first, _ = planned(path, root)
    alone, full = root / 'n2/seed0/supervised_only/outdoor', root / 'n2/seed0/univ_full'
    write_text(first.config_file, yaml.safe_dump(first.config))
    with monkeypatch.context() as patch:
        leave_out_pictures(patch)
        assert main(['train', str(first.config_file), '--run', str(alone)]) == 0
    capfd.readouterr()
    assert main([*command, '--jobs', '2']) == 0
    printed = capfd.readouterr().out
    # The other is a `univseg train` in a process of its own, with these lines alone.
    log = (full / execution.OUTPUT).read_text()
    assert 'Sum of mIoUs: ' in log
    assert 'Traceback' not in log
    assert 'Warning' not in log
    assert '\r' not in log
    assert '\x1b' not in log
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
    assert main([*command, '--dry-run', '--json']) == 0
    assert json.loads(capfd.readouterr().out) == [
        {'folder': str(alone), 'state': 'finished', 'step': 1, 'steps': 1},
        {'folder': str(full), 'state': 'finished', 'step': 2, 'steps': 2}]
    assert {file: file.stat().st_mtime_ns for file in root.rglob('*.univseg')} == before
