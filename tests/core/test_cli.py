"""The `univseg` command: its options, and how it says that something is wrong."""

from importlib.metadata import entry_points, version
import json
import os
from pathlib import Path
import subprocess
import sys

from command_lines import assert_fails
import pytest
from tiny_worlds import TRAIN
from univseg_core.cli import main, run
from univseg_core.commands import options, prediction, prelabelling, ranking, training
from univseg_core.models.model_file import load_model
from univseg_core.pictures import images

COMMANDS = ('train', 'evaluate', 'predict', 'info', 'curves', 'config', 'baselines', 'scenes',
            'figure', 'experiment', 'data', 'frames', 'rank', 'prelabel', 'import-labels',
            'labels', 'recognise', 'export', 'benchmark', 'distill', 'doctor', 'new', 'completion',
            'view', 'report')
FIGURES = ('tsne', 'panels', 'curves', 'correspondences', 'cost', 'differences')


def test_the_command_is_installed():
    (command,) = entry_points(group='console_scripts', name='univseg')
    assert command.load() in (run, main)  # this of an earlier installation


@pytest.mark.parametrize(('work', 'status', 'said'), [
    ('print("done", end=" ") or 7', 7, ''), ('1 / 0', 1, 'ZeroDivisionError: division by zero'),
    ('sys.exit(3)', 3, ''), ('sys.exit("why")', 1, 'why'), ('sys.exit()', 0, '')])
def test_a_command_that_is_done_ends_whatever_else_goes_on(work, status, said):
    """Python itself would wait for the thread."""
    code = f"""
import atexit, sys, threading
from univseg_core import cli
atexit.register(print, 'bye')
threading.Thread(target=threading.Event().wait).start()
cli.main = lambda arguments: {work}
cli.run()
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          timeout=600, check=False,
                          env=os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])})
    assert done.returncode == status
    assert done.stdout == ('done bye\n' if status == 7 else 'bye\n')
    assert said in done.stderr


@pytest.mark.parametrize('arguments', [[], *([command] for command in COMMANDS),
                                       ['config', 'show'], ['config', 'explain'],
                                       ['data', 'check'], ['labels', 'check'],
                                       *(['figure', kind] for kind in FIGURES)])
def test_help_names_everything_and_has_examples(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, '--help'])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(' '.join(['usage: univseg', *arguments]))
    examples = printed.split('\nexamples:\n')[1]
    assert f'univseg {" ".join(arguments)}'.strip() in examples
    if not arguments:
        assert set(COMMANDS) <= set(printed.split())


@pytest.mark.parametrize('arguments', [[], ['fly'], ['train'], ['predict', 'a.png'],
                                       ['evaluate', 'a', '--nothing'], ['config'],
                                       ['train', 'a.yaml', '--devices', '0'],
                                       ['train', 'a.yaml', '--nodes', 'two'],
                                       ['config', 'explain', 'a', 'b=1']])
def test_a_command_line_that_cannot_be_shows_its_usage(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith('usage: univseg')


@pytest.mark.usefixtures('bare_training')
def test_train_makes_a_run_folder_named_like_its_configuration(values, write_config, tmp_path,
                                                               monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['train', str(write_config(values)), 'training.steps=2', 'objective.alpha=0',
                 'objective.beta=0', 'data.labelled_per_domain=1']) == 0
    printed = capsys.readouterr().out
    assert '### outdoor' in printed
    assert 'Sum of mIoUs: ' in printed
    for name in ('model.univseg', 'best.univseg', 'curves.png', 'outdoor.png', 'indoor.png'):
        assert f'runs/tiny/{name}: ' in printed
        assert (tmp_path / 'runs' / 'tiny' / name).exists()
    _, card = load_model(tmp_path / 'runs' / 'tiny' / 'model.univseg')
    assert card.training['config']['training']['steps'] == 2


@pytest.mark.parametrize('arguments', [
    ['my.yaml', '--run', 'runs/b', 'a.b=1', 'c=2'],  # as the help's example has it
    ['my.yaml', 'a.b=1', 'c=2', '--run', 'runs/b'],
    ['--run', 'runs/b', 'my.yaml', 'a.b=1', 'c=2'],
    ['my.yaml', 'a.b=1', '--run', 'runs/b', 'c=2'],
])
def test_settings_may_stand_before_and_after_options(monkeypatch, arguments):
    seen = []
    monkeypatch.setattr(training, '_train', seen.append)
    assert main(['train', *arguments]) == 0
    assert seen[0].config == 'my.yaml'
    assert seen[0].folder == Path('runs/b')
    assert seen[0].overrides == ['a.b=1', 'c=2']


@pytest.mark.parametrize(('arguments', 'processes'), [
    ([], {}), (['--devices', '2'], {'devices': 2}),
    (['--devices', '4', '--nodes', '2'], {'devices': 4, 'nodes': 2})])
def test_train_is_told_of_its_processes(monkeypatch, values, write_config, tmp_path, capsys,
                                        arguments, processes):
    seen = []

    def train(config, folder, **options):
        seen.append((folder, options))
        return {}  # as in all processes but the first

    monkeypatch.setattr('univseg_core.training.run.train', train)
    assert main(['train', str(write_config(values)), '--run', str(tmp_path), *arguments]) == 0
    assert seen == [(tmp_path, processes)]
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(('arguments', 'question'), [
    (['trian', 'my.yaml'], 'did you mean train?'),
    (['Predict'], 'did you mean predict?'),
    (['import_labels'], 'did you mean import-labels?'),
    (['figure', 'panel'], 'did you mean panels?'),
    (['config', 'shwo'], 'did you mean show?'),
    (['evaluate', 'run', '--protocol', 'papr'], 'did you mean paper?'),
    (['train', 'my.yaml', '--devics', '2'], 'did you mean --devices?'),
    (['train', 'my.yaml', '--devics=2'], 'did you mean --devices?'),
    (['predict', 'a.png', '--modle', 'runs/b', '--domain', 'yard'], 'did you mean --model?'),
    (['predict', 'a.png', '--model', 'runs/b', '--domian=yard'], 'did you mean --domain?'),
    (['--quite', 'info', 'runs/b'], 'did you mean --quiet?'),
])
def test_what_is_mistyped_gets_a_question(capsys, arguments, question):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(question)


CANNOT = {
    'train': ['none.yaml'], 'distill': ['none', 'none.yaml'], 'evaluate': ['none'],
    'predict': ['none', 'a', '--domain', 'x'],
    'info': ['none'], 'curves': ['none'], 'config': ['show', 'none.yaml'],
    'baselines': ['none.yaml'], 'scenes': ['/dev/null/worlds'], 'figure': ['panels', 'none'],
    'experiment': ['none.yaml'], 'data': ['check', 'none.yaml'], 'frames': ['none', '--out', 'x'],
    'rank': ['none', 'a', '--domain', 'x'],
    'prelabel': ['none', 'a', '--domain', 'x', '--out', 'x'],
    'import-labels': ['none', '--frames', 'a', '--model', 'b', '--domain', 'c', '--out', 'x'],
    'labels': ['check', 'none', 'x'], 'export': ['none', '--to', 'onnx'],
    'benchmark': ['none.univseg'], 'recognise': ['none', '--images', 'a=b', '--out', 'x'],
    'new': ['my', 'none'], 'view': ['none', 'a'], 'report': ['none']}
"""What each command cannot do; `doctor` and `completion` can do whatever they are asked."""


def test_what_cannot_be_done_ends_with_1_and_a_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(COMMANDS) - set(CANNOT) == {'doctor', 'completion'}
    for command, arguments in CANNOT.items():
        assert main([command, *arguments, '--quiet']) == 1, command
        printed = capsys.readouterr()
        assert printed.err.startswith(f'univseg {command}: '), command
        assert 'Traceback' not in printed.err
        assert printed.out == '', command


@pytest.mark.parametrize('command', COMMANDS)
def test_an_option_that_is_none_ends_with_2(capsys, command):
    part = {'config': ['show', 'a'], 'data': ['check', 'a'], 'figure': ['cost', 'a'],
            'labels': ['check', 'a', 'b'], 'completion': ['bash']}.get(command, ['a', 'b'])
    with pytest.raises(SystemExit) as stopped:
        main([command, *part, '--no-such-option'])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f'usage: univseg {command}')


def test_what_is_like_nothing_gets_none(capsys):
    with pytest.raises(SystemExit):
        main(['fly'])
    assert 'did you mean' not in capsys.readouterr().err


@pytest.mark.parametrize('command', ['rank', 'prelabel', 'predict'])
@pytest.mark.parametrize('arguments', [
    ['frames', '--model', 'a.univseg'], ['--model', 'a.univseg', 'frames'],
    ['a.univseg', 'frames'], ['a.univseg', '--out', 'x', 'frames']])
def test_a_model_is_named_by_an_option_or_before_the_frames(monkeypatch, command, arguments):
    seen = []
    module = {'predict': prediction, 'rank': ranking}.get(command, prelabelling)
    monkeypatch.setattr(module, f'_{command}', seen.append)
    assert main([command, '--domain', 'yard', '--out', 'x', *arguments]) == 0
    assert options.model_and_frames(seen[0]) == (Path('a.univseg'), Path('frames'))


@pytest.mark.parametrize('arguments', [
    ['rank', 'frames', '--domain', 'yard'],
    ['rank', 'a', 'b', 'c', '--domain', 'yard'],
    ['rank', 'a', 'b', '--model', 'c', '--domain', 'yard'],
    ['predict', 'a.png', '--domain', 'yard'], ['figure', 'tsne'], ['figure', 'panels'],
    ['figure', 'curves'],
    ['evaluate'], ['evaluate', 'run', '--model', 'a'], ['info'], ['info', 'a', '--model', 'b'],
])
def test_a_model_is_named_once(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert '--model' in capsys.readouterr().err.splitlines()[-1]


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(['--version'])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f'univseg {version("univseg_ros")}\n'


HEAVY = ('cv2', 'lightning_fabric', 'matplotlib', 'numpy', 'pydantic', 'sklearn', 'timm', 'torch',
         'tqdm', 'yaml')

LIST_FORMATS = ('prelabel', 'import-labels')
"""Their help tells the formats, which their readers and writers have beside them."""


def test_help_imports_nothing_that_takes_a_while():
    """In a process of its own, as this one has imported it all."""
    commands = [(), *((name,) for name in COMMANDS if name not in LIST_FORMATS)]
    code = ('import sys\nfrom univseg_core.cli import main\n'
            f'for command in {commands}:\n'
            '    try: main([*command, "--help"])\n'
            f'    except SystemExit: print(command, {set(HEAVY)} & set(sys.modules) or "none",'
            ' file=sys.stderr)')
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0
    assert result.stderr.splitlines() == [f'{command} none' for command in commands]


def test_the_package_runs_as_a_module():
    result = subprocess.run([sys.executable, '-m', 'univseg_core', 'train', '--help'],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('usage: univseg train')


def test_train_refuses_another_runs_folder(finished_run, values, write_config, capsys):
    assert main(['train', str(write_config(values)), '--run', str(finished_run[0]),
                 'training.steps=31']) == 1
    error = capsys.readouterr().err
    assert 'univseg train: ' in error
    assert 'holds a run with other settings' in error
    assert 'Traceback' not in error


def test_train_refuses_a_run_of_damaged_settings(values, write_config, tmp_path, capsys):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'config.yaml').touch()
    assert_fails(capsys, ['train', write_config(values), '--run', tmp_path / 'run'],
                 'config.yaml: damaged: expected the settings of the run')


def test_baselines_prints_a_row_for_each_domain(values, write_config, capsys):
    assert main(['baselines', str(write_config(values)), 'domains.outdoor.labelled=2']) == 0
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ['domain', '---', 'outdoor', 'indoor']
    for _, prior, forest in rows[2:]:
        assert 0 < float(prior) < float(forest) <= 100
    assert main(['baselines', str(write_config(values)), 'domains.outdoor.labelled=2', '--json',
                 '--quiet']) == 0
    told = json.loads(capsys.readouterr().out)
    assert [[name, *(f'{100 * told[name][key]["miou"]:.1f}' for key in (
        'location_prior', 'random_forest'))] for name in told] == rows[2:]
    assert list(told['indoor']['location_prior']['iou']) == ['wall', 'lamp']


@pytest.mark.parametrize(('arguments', 'messages'), [
    (['train', 'none.yaml'], ['none.yaml: no such file']),
    (['train', '{config}', 'training.steps'], ["'training.steps'", 'KEY=VALUE']),
    (['train', '{config}', 'domains.indoor.labelled=99', '--run', '{tmp}/run'],
     ['domains.indoor.labelled', f'has {TRAIN}']),
    (['train', '{config}', '--run', '{model}'], ['model.univseg']),
    (['evaluate', '{tmp}/nowhere'], ['nowhere: no such run folder or model file']),
    (['evaluate', '{model}'], ['--config']),
    (['evaluate', '{model}', '--config', 'none.yaml'], ['none.yaml']),
    (['evaluate', '{run}', '--device', 'gpu'], ["device 'gpu' is not available"]),
    (['predict', '{image}', '--model', '{config}', '--domain', 'indoor'],
     ['tiny.yaml', 'not a model file']),
    (['predict', '{image}', '--model', '{model}', '--domain', 'attic'],
     ["unknown domain 'attic'; this model has outdoor, indoor"]),
    (['predict', '{tmp}/none.png', '--model', '{model}', '--domain', 'indoor'],
     ['none.png: cannot be read']),
    (['predict', '{config}', '--model', '{model}', '--domain', 'indoor'],
     ['tiny.yaml: not a readable image']),
    (['predict', '{tmp}/empty', '--model', '{model}', '--domain', 'indoor'],
     ['empty: no images']),
    (['baselines', 'none.yaml'], ['none.yaml: no such file']),
])
def test_errors_are_one_line(capsys, tmp_path, monkeypatch, values, write_config, worlds, model,
                             arguments, messages):
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path)
    places = {'config': write_config(values), 'tmp': tmp_path, 'model': model,
              'run': model.parent, 'image': worlds / 'indoor/validation/image/00.png'}
    assert_fails(capsys, [argument.format(**places) for argument in arguments], *messages)
    assert not (tmp_path / 'predictions').exists()


def test_settings_that_are_wrong_are_all_named(capsys, values, write_config):
    assert main(['train', str(write_config(values)), 'training.step=1', 'model.width=99']) == 1
    error = capsys.readouterr().err
    assert error.startswith('univseg train: ')
    assert 'training.step: unknown key; did you mean steps?' in error
    assert 'model.width: ' in error


@pytest.mark.parametrize(('arguments', 'question'), [
    (['predict', 'a.png', '--model', '{model}', '--domain', 'Indor'], 'indoor'),
    (['import-labels', 'a', '--frames', 'b', '--model', '{model}', '--domain', 'outdor', '--out',
      'c'], 'outdoor'),
    (['rank', '{images}', '--model', '{model}', '--domain', 'indoor', '--labelled', '{twin}'],
     'indoors'),
    (['train', 'scnes'], 'scenes'), (['train', 'train/scnes.yaml'], 'train/scenes.yaml'),
    (['train', '{config}l'], '{config}'), (['experiment', 'tabel2'], 'table2'),
    (['experiment', 'table2', '--only', 'univ_baisc'], 'univ_basic'),
    (['train', '{config}', 'training.optimizer=adam'], 'adamw'),
    (['train', '{config}', 'model.encoder=drn_d_2'], 'drn_d_22'),
    (['figure', 'tsne', '{run}', '--classes', 'Lmap'], 'lamp'),
    (['figure', 'cost', '{costs}', '--variants', 'univ_bsic'], 'univ_basic'),
    (['figure', 'differences', '{costs}', 'univ_basic:univ_bsic'], 'univ_basic'),
])
def test_a_name_that_is_mistyped_gets_a_question(capsys, tmp_path, values, write_config, worlds,
                                                 finished_run, arguments, question):
    twin = tmp_path / 'twin'
    twin.mkdir()
    (twin / 'splits.json').write_text('{"indoors": {"labelled": {"images": []}}}')
    costs = tmp_path / 'a_runs.csv'
    costs.write_text('labelled,seed,variant,domain,seconds,miou/indoor\n'
                     '2,0,univ_basic,,9,0.5\n')
    places = {'model': finished_run[0] / 'model.univseg', 'run': finished_run[0], 'twin': twin,
              'config': write_config(values), 'costs': costs,
              'images': worlds / 'indoor' / 'validation' / 'image'}
    assert main([argument.format(**places) for argument in arguments]) == 1
    assert f'; did you mean {question.format(**places)}?' in capsys.readouterr().err


def test_a_package_that_is_missing_is_named_with_what_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'pydantic', None)
    monkeypatch.delitem(sys.modules, 'univseg_core.settings.config', raising=False)
    assert main(['config', 'show', 'train/scenes.yaml']) == 1
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('univseg config: the package pydantic is not installed for ')
    assert "pip install '.[train]'" in err
    assert err.count('\n') == 1


def test_a_package_that_an_export_lacks_is_named_with_what_brings_that(monkeypatch, capsys):
    def missing(options):
        raise ModuleNotFoundError('no torch', name='torch')

    monkeypatch.setattr('univseg_core.cli._run', missing)
    assert main(['export', 'a.univseg', '--to', 'onnx']) == 1
    assert "pip install '.[train,export]' brings what the command needs" in capsys.readouterr().err


def test_an_interrupt_exits_as_shells_expect(monkeypatch, model, worlds, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(images, 'read_image', interrupt)
    image = worlds / 'indoor' / 'validation' / 'image' / '00.png'
    assert main(['predict', str(image), '--model', str(model), '--domain', 'indoor']) == 130
    assert 'Traceback' not in capsys.readouterr().err
