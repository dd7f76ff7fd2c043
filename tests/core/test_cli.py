"""The `univseg` command: what it writes and prints, and how it says that something is wrong."""

from argparse import Namespace
from importlib.metadata import entry_points, version
import io
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny_worlds import INDOOR, random_image, TRAIN, VALIDATION
from univseg_core.cli import main, run
from univseg_core.commands import labelling, options, prediction, training
from univseg_core.commands.output import report
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.model_file import load_model
from univseg_core.pictures import images
from univseg_core.pictures.images import read_image, read_label, write_png
import yaml

COMMANDS = ('train', 'evaluate', 'predict', 'info', 'curves', 'config', 'baselines', 'scenes',
            'figure', 'experiment', 'data', 'frames', 'rank', 'prelabel', 'import-labels')
FIGURES = ('tsne', 'panels', 'curves', 'correspondences', 'cost')


@pytest.fixture
def model(finished_run):
    """Return the path of a trained model file."""
    return finished_run[0] / 'model.univseg'


def assert_fails(capsys, arguments, *messages):
    """Check the exit status and that stderr has one line with all of these, and no traceback."""
    assert main(list(map(str, arguments))) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    (line,) = (line for line in lines if 'image/s' not in line)  # but for the progress bar
    assert line.startswith(f'univseg {arguments[0]}: ')
    for message in messages:
        assert message in line


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
                                       ['data', 'check'], *(['figure', kind] for kind in FIGURES)])
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


def test_train_makes_a_run_folder_named_like_its_configuration(values, write_config, tmp_path,
                                                               monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['train', str(write_config(values)), 'training.steps=2',
                 'label_embeddings.pretrain_steps=1', 'data.labelled_per_domain=1']) == 0
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
    module = prediction if command == 'predict' else labelling
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


@pytest.mark.parametrize('command', [(), *((command,) for command in COMMANDS)])
def test_help_imports_nothing_that_takes_a_while(command):
    """In a process of its own, as this one has imported it all."""
    code = ('import sys\nfrom univseg_core.cli import main\n'
            'try: main(sys.argv[1:])\n'
            f'finally: print(sorted({set(HEAVY)} & set(sys.modules)), file=sys.stderr)')
    result = subprocess.run([sys.executable, '-c', code, *command, '--help'],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stderr == '[]\n'


def test_the_package_runs_as_a_module():
    result = subprocess.run([sys.executable, '-m', 'univseg_core', 'train', '--help'],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('usage: univseg train')


@pytest.mark.parametrize('arguments', [['config', 'explain'], ['--version']])
def test_a_reader_that_stops_reading_gets_no_traceback(monkeypatch, capsys, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, 'w') as pipe:  # noqa: PTH123 - of a descriptor
        monkeypatch.setattr(sys, 'stdout', pipe)
        assert main(arguments) == 141
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('closed', ['stdout', 'stderr'])
@pytest.mark.parametrize('arguments', [['config', 'explain', 'training.steps', '--json'],
                                       ['info', 'none']])
def test_a_stream_that_is_closed_leads_nowhere(monkeypatch, capsys, closed, arguments):
    """Not into the other one, as Python has it: `2>&-` is no part of the JSON."""
    monkeypatch.setattr(sys, closed, None)
    status = main(arguments)
    assert status == (arguments[0] == 'info')
    other = capsys.readouterr()
    if closed == 'stderr' and not status:
        assert len(json.loads(other.out)) == 1
    elif closed == 'stderr':
        assert other.out == ''
    else:
        assert other.out == ''
        assert bool(other.err) == status


def test_json_has_no_word_for_what_is_no_number(capsys):
    values = {'a': [float('nan'), {'b': float('inf')}, 1.5, True, None], 'c': (-float('inf'), 'x')}
    report(Namespace(json=True), values, None)
    assert json.loads(capsys.readouterr().out) == {'a': [None, {'b': None}, 1.5, True, None],
                                                   'c': [None, 'x']}


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


def test_evaluate_prints_the_figures_of_the_run(finished_run, tmp_path, capsys):
    folder, _ = finished_run
    assert main(['evaluate', str(folder), '--device', 'cpu',
                 '--out', str(tmp_path / 'new' / 'figures.json')]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((folder / 'evaluation.json').read_text())
    assert json.loads((tmp_path / 'new' / 'figures.json').read_text()) == figures
    for name, result in figures.items():
        assert f'### {name}' in printed
        assert f'**{100 * result["miou"]:.1f}**' in printed
    total = 100 * sum(result['miou'] for result in figures.values())
    assert f'Sum of mIoUs: **{total:.1f}**' in printed


def test_evaluate_takes_a_model_file_with_a_configuration(finished_run, model, tmp_path, capsys):
    folder, _ = finished_run
    assert main(['evaluate', str(model), '--config', str(folder / 'config.yaml'),
                 '--out', str(tmp_path / 'figures.json')]) == 0
    assert json.loads((tmp_path / 'figures.json').read_text()) == json.loads(
        (folder / 'evaluation.json').read_text())


def test_predict_writes_a_mask_and_an_overlay_of_every_image(worlds, model, tmp_path, capsys):
    images, out = worlds / 'indoor' / 'validation' / 'image', tmp_path / 'new' / 'masks'
    assert main(['predict', str(images), '--model', str(model), '--domain', 'indoor',
                 '--out', str(out), '--device', 'cpu']) == 0
    assert f'{VALIDATION} masks and overlays in {out}' in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f'{i:02}_{kind}.png' for i in range(VALIDATION) for kind in ('mask', 'overlay'))
    segmenter = Segmenter.load(model, device='cpu')
    for path in images.iterdir():
        mask = read_label(out / f'{path.stem}_mask.png', INDOOR)
        assert np.array_equal(mask, segmenter(read_image(path), ['indoor'])['indoor'].mask)
        overlay = read_image(out / f'{path.stem}_overlay.png')
        assert overlay.shape[0] > mask.shape[0]
        assert overlay.shape[1] == mask.shape[1]


def test_predict_skips_and_counts_what_it_cannot_read(worlds, finished_run, tmp_path, capsys,
                                                     caplog):
    """A run folder names its model, as everywhere."""
    folder, out = tmp_path / 'images', tmp_path / 'out'
    shutil.copytree(worlds / 'indoor' / 'validation' / 'image', folder)
    (folder / '01.png').write_bytes(b'no image')
    (folder / '99.jpg').write_bytes(b'')
    no_text = [folder / os.fsdecode(name) for name in (b'stra\xdfe.png', b'two\nlines.png')]
    for path in no_text:  # whose masks no list could name
        shutil.copy(folder / '00.png', path)
    command = ['predict', str(folder), '--model', str(finished_run[0]), '--domain', 'indoor',
               '--out', str(out), '--device', 'cpu']
    assert main(command) == 0
    assert capsys.readouterr().out == (
        f'{VALIDATION - 1} masks and overlays in {out}; 4 images cannot be read and are '
        'skipped\n')
    assert f'{folder / "01.png"}: not a readable image' in caplog.text
    for name in (r'stra\xdfe.png', r'two\nlines.png'):
        assert f'{folder / name}: a file name that is not in UTF-8, or of several' in caplog.text
    assert len(list(out.iterdir())) == 2 * (VALIDATION - 1)
    assert main([*command, '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['skipped'] == [str(folder / '01.png'), str(folder / '99.jpg'),
                               *map(str, no_text)]
    assert len(told['images']) == VALIDATION - 1


def test_predict_does_not_write_among_the_images(worlds, model, tmp_path, capsys):
    folder = tmp_path / 'images'
    shutil.copytree(worlds / 'indoor' / 'validation' / 'image', folder)
    for out in (folder, folder / '..' / 'images'):
        assert_fails(capsys, ['predict', folder, '--model', model, '--domain', 'indoor', '--out',
                              out], 'the images are here')
    assert len(list(folder.iterdir())) == VALIDATION


def test_predict_of_images_none_of_which_can_be_read_fails(model, tmp_path, capsys):
    (tmp_path / 'a.png').write_bytes(b'')
    assert main(['predict', str(tmp_path), '--model', str(model), '--domain', 'indoor']) == 1
    assert 'none of 1 images can be read' in capsys.readouterr().err


def test_predict_labels_any_image_in_any_label_space(worlds, model, tmp_path):
    """Outdoor images in the classes of indoor, by the nearest label embedding."""
    images = worlds / 'outdoor' / 'validation' / 'image'
    assert main(['predict', str(images), '--model', str(model), '--label-space', 'indoor',
                 '--out', str(tmp_path), '--device', 'cpu']) == 0
    segmenter = Segmenter.load(model, device='cpu')
    for path in images.iterdir():
        expected = segmenter.label_embedding_mask(segmenter.encode(read_image(path)), 'indoor')
        assert np.array_equal(read_label(tmp_path / f'{path.stem}_mask.png', INDOOR), expected)


def test_evaluate_prints_json(finished_run, model, capsys):
    folder, _ = finished_run
    figures = json.loads((folder / 'evaluation.json').read_text())
    for arguments in ([str(folder)], ['--model', str(folder)],
                      ['--model', str(model), '--config', str(folder / 'config.yaml')]):
        assert main(['evaluate', '--json', *arguments]) == 0
        assert json.loads(capsys.readouterr().out) == figures


def test_train_prints_json_and_nothing_else(finished_run, capsys):
    """A finished run that is started again measures and reports."""
    folder, _ = finished_run
    copy = folder.parent / 'again'
    shutil.copytree(folder, copy)
    assert main(['train', str(folder / 'config.yaml'), '--run', str(copy), '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['run'] == str(copy)
    assert told['evaluation'] == json.loads((folder / 'evaluation.json').read_text())
    assert str(copy / 'model.univseg') in told['files']


def test_evaluate_measures_by_the_papers_protocol(finished_run, tmp_path, capsys):
    """Four images at 64×48, as they are: the same figures."""
    out = tmp_path / 'paper.json'
    assert main(['evaluate', str(finished_run[0]), '--protocol', 'paper', '--out', str(out)]) == 0
    assert json.loads(out.read_text()) == json.loads(
        (finished_run[0] / 'evaluation.json').read_text())


def test_predict_takes_one_image_of_any_size(model, tmp_path):
    write_png(tmp_path / 'photo.png', random_image(77, 131))
    assert main(['predict', str(tmp_path / 'photo.png'), '--model', str(model),
                 '--domain', 'indoor', '--out', str(tmp_path)]) == 0
    assert read_label(tmp_path / 'photo_mask.png', INDOOR).shape == (77, 131)


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


@pytest.fixture
def run_printing_in(monkeypatch):
    """Return a function that runs `univseg` on streams of an encoding: status, output, errors."""
    def run(encoding, *arguments):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
        for name, stream in zip(('stdout', 'stderr'), streams, strict=True):
            monkeypatch.setattr(sys, name, stream)
        status = main(list(arguments))
        for stream in streams:
            stream.flush()
        return status, *(stream.buffer.getvalue() for stream in streams)
    return run


def test_on_an_ascii_terminal_texts_are_spelt_out(run_printing_in):
    status, output, _ = run_printing_in('ascii', 'config', 'explain', 'training.steps')
    assert status == 0
    assert b'int >= 1' in output
    status, _, errors = run_printing_in('ascii', 'config', 'explain', 'training.größe')
    assert status == 1
    assert errors.startswith(b'univseg config: training.grosse: unknown key')


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1'])
def test_what_may_become_a_file_loses_nothing(run_printing_in, values, write_config, encoding):
    outdoor = values['domains']['outdoor']
    outdoor['classes'] = ['straße', '天', *outdoor['classes'][2:]]
    config = str(write_config(values))
    status, output, _ = run_printing_in(encoding, 'config', 'show', config)
    assert status == 0
    shown = yaml.safe_load(output.decode('ascii'))
    assert shown['domains']['outdoor']['classes'] == outdoor['classes']
    for each in (encoding, 'utf-8'):
        status, output, _ = run_printing_in(each, 'config', 'show', config, '--json')
        assert json.loads(output.decode(each)) == shown
    assert 'straße' in output.decode()


def test_a_name_that_is_no_text_is_told(run_printing_in):
    """Linux's names are bytes; this one is no UTF-8."""
    assert run_printing_in('utf-8', 'info', os.fsdecode(b'no\xff.univseg')) == (
        1, b'', b'univseg info: no\\xff.univseg: no such file or folder\n')


def test_quiet_leaves_results_and_errors(tmp_path, capsys):
    worlds = ('--train', '2', '--validation', '1')
    assert main(['scenes', str(tmp_path / 'a'), *worlds]) == 0
    assert capsys.readouterr().err.startswith('scenes: 100% 6/6')
    for place in (('--quiet', 'scenes'), ('scenes', '-q')):
        assert main([*place, str(tmp_path / '-'.join(place)), *worlds]) == 0
        assert capsys.readouterr() == ('', '')
    assert_fails(capsys, ['scenes', '--quiet', tmp_path / 'a', *worlds], 'is already there')
    assert main(['scenes', str(tmp_path / 'b'), *worlds, '--json', '--labelled', '1']) == 0
    assert json.loads(capsys.readouterr().out) == {str(tmp_path / 'b' / world): {
        'train': 1, 'unlabelled': 1, 'validation': 1} for world in ('outdoor', 'indoor')}


def test_verbose_tells_what_led_to_an_error():
    result = subprocess.run(
        [sys.executable, '-m', 'univseg_core', 'config', 'explain', 'none', '-v'],
        capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert 'Traceback' in result.stderr
    assert result.stderr.splitlines()[-1].startswith('univseg config: ')


def test_an_interrupt_exits_as_shells_expect(monkeypatch, model, worlds, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(images, 'read_image', interrupt)
    image = worlds / 'indoor' / 'validation' / 'image' / '00.png'
    assert main(['predict', str(image), '--model', str(model), '--domain', 'indoor']) == 130
    assert 'Traceback' not in capsys.readouterr().err
