"""`univseg completion`: scripts of shells, and what bash makes of one."""

import json
import shutil
import subprocess
import sys

import pytest
from univseg_core.cli import JOBS, main, parser
from univseg_core.commands.completion import SHELLS


@pytest.fixture(scope='module')
def scripts(tmp_path_factory):
    """Return the file of each shell's script."""
    from contextlib import redirect_stdout

    folder = tmp_path_factory.mktemp('scripts')
    files = {shell: folder / shell for shell in SHELLS}
    for shell, path in files.items():
        with path.open('w') as file, redirect_stdout(file):
            assert main(['completion', shell]) == 0
    return files


@pytest.mark.parametrize('shell', SHELLS)
def test_a_script_is_one_of_its_shell_and_knows_all_commands(scripts, shell):
    text = scripts[shell].read_text()
    for name in ('import-labels', '--devices', 'paper', 'train/camvid_nyuv2.yaml',
                 'experiments/table2.yaml', 'correspondences'):
        assert name in text if shell != 'fish' else name.removeprefix('--') in text
    if shutil.which(shell):
        checked = subprocess.run([shell, '-n', scripts[shell]], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_univseg
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which('bash') is None, reason='there is no bash')
@pytest.mark.parametrize(('words', 'expected', 'others'), [
    (['pre'], ['predict', 'prelabel'], ['train']),
    (['train', '--d'], ['--devices'], ['--domain']),
    (['evaluate', '--protocol', ''], ['standard', 'paper'], []),
    (['figure', 't'], ['tsne'], ['panels']),
    (['config', 's'], ['show'], ['explain']),
    (['train', 'train/cam'], ['train/camvid_nyuv2.yaml'], ['train/scenes.yaml']),
    (['train', 'my'], ['my.yaml', 'my_folder'], ['my.png']),
    (['experiment', 'experiments/table'], ['experiments/table2.yaml'], []),
    (['info', 'my'], ['my.yaml', 'my.png', 'my_folder'], []),
])
def test_bash_completes(scripts, tmp_path, words, expected, others):
    (tmp_path / 'my_folder').mkdir()
    for name in ('my.yaml', 'my.png'):
        (tmp_path / name).touch()
    done = subprocess.run(['bash', '-c', COMPLETE, 'bash', scripts['bash'], 'univseg', *words],
                          capture_output=True, text=True, check=False, cwd=tmp_path)
    found = done.stdout.split()
    assert set(expected) <= set(found), done.stderr
    assert not set(others) & set(found)


def test_a_script_is_told_to_programs_too(capsys):
    assert main(['completion', 'bash', '--json']) == 0
    said = json.loads(capsys.readouterr().out)
    assert said['shell'] == 'bash'
    assert '_shtab_univseg' in said['script']


def test_without_its_package_it_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'shtab', None)
    assert main(['completion', 'bash']) == 1
    assert "pip install '.[completion]'" in capsys.readouterr().err


def test_every_command_has_a_job_in_the_help():
    listed = [name for names in JOBS.values() for name in names]
    (commands,) = (action for action in parser()._actions if action.dest == 'command')
    assert sorted(listed) == sorted(commands.choices)
    help_text = parser().format_help()
    for job, names in JOBS.items():
        below = help_text.split(f'\n{job}:\n')[1]
        assert below.split()[0] == names[0]
    assert 'others:' not in help_text
