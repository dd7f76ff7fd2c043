"""--backend, --precision and --device: alike in all commands that run a model."""

from figure_runs import write_run
import pytest
from univseg_core.cli import main, parser
from univseg_core.inference.backends import BACKENDS, PRECISIONS
from univseg_core.measuring.finished_runs import load_runs

COMMANDS = {
    'predict': ['predict', '{images}', '--model', '{run}', '--domain', 'indoor'],
    'rank': ['rank', '{images}', '--model', '{run}', '--domain', 'indoor'],
    'prelabel': ['prelabel', '{images}', '--model', '{run}', '--domain', 'indoor'],
    'labels': ['labels', 'check', '{run}', 'indoor', '--images', '{images}', '--labels',
               '{labels}'],
    'evaluate': ['evaluate', '{run}'],
    'tsne': ['figure', 'tsne', '{run}'],
    'panels': ['figure', 'panels', '{run}'],
    'correspondences': ['figure', 'correspondences', '{run}'],
    'report': ['report', '{run}'],
}


@pytest.fixture(scope='module')
def run(worlds, tmp_path_factory):
    """Return a run folder that no training has made; not to be changed."""
    return write_run(tmp_path_factory.mktemp('running') / 'run', worlds)


@pytest.mark.parametrize('command', COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(('option', 'message'), [
    ('--backend', "backend 'torsch': expected one of torch, onnxruntime, openvino; did you mean "
                  'torch?'),
    ('--precision', "precision 'torsch': expected one of auto, fp32, bf16, fp16"),
    ('--device', "device 'torsch' is not available"),
])
def test_each_of_them_decides(run, worlds, tmp_path, capsys, command, option, message):
    where = {'run': run} | {f'{kind}s': worlds / 'indoor' / 'validation' / kind
                            for kind in ('image', 'label')}
    assert main([each.format(**where) for each in command]
                + [option, 'torsch', '--out', str(tmp_path / 'out')]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('command', COMMANDS.values(), ids=COMMANDS)
def test_help_has_all_backends_and_precisions(command, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args([*command[:2 if command[0] in ('figure', 'labels') else 1], '--help'])
    text = ' '.join(capsys.readouterr().out.split())
    for option, names in (('--backend', BACKENDS), ('--precision', PRECISIONS)):
        help_text = text.partition(f' {option} NAME ')[2].partition('(default: auto)')[0]
        assert all(name in help_text for name in names)


def test_a_run_is_measured_in_fp32_unless_it_is_told_otherwise(run, monkeypatch):
    """So that a CPU with AMX finds what any other does."""
    monkeypatch.setattr('univseg_core.inference.torch_backend.is_good_at_bf16', lambda: True)
    for options, precision in ({}, 'fp32'), ({'precision': 'bf16'}, 'bf16'):
        loaded, = load_runs([run], device='cpu', **options)
        assert loaded.segmenter.precision == precision
