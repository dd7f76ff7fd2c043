"""`univseg completion`: what makes a shell complete commands, options, choices and files."""

import argparse
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from univseg_core.commands.options import Command
from univseg_core.commands.output import report

# Not argcomplete, which runs Python at each press of Tab: a script answers at once, and needs no
# package any more once it is written.
SHELLS = ('bash', 'zsh', 'fish')

EXAMPLES = """examples:
  eval "$(univseg completion bash)"           in this shell; for all, in ~/.bashrc
  univseg completion bash > ~/.local/share/bash-completion/completions/univseg
  univseg completion zsh > ~/.zfunc/_univseg  with fpath+=~/.zfunc before compinit in ~/.zshrc
  univseg completion fish > ~/.config/fish/completions/univseg.fish
"""

BASH = """
_univseg_{kind}() {{
  compgen -W "{names}" -- "$1"
  compgen -f -X '!*.yaml' -- "$1"
  compgen -f -X '!*.yml' -- "$1"
  compgen -d -- "$1"
}}
"""

ZSH = """
_univseg_{kind}() {{
  _alternative 'ships:{kind} that ship:({names})' 'files:file:_files -g "*.y(a|)ml"'
}}
"""

FISH = """
function _univseg_{kind}
  printf '%s\\n' {names}
  __fish_complete_suffix .yaml .yml
end
"""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('completion', _completion, 'print the script by which a shell completes '
                  'commands, options and files', EXAMPLES)
    sub.add_argument('shell', choices=SHELLS, help='your shell')


def _completion(options: argparse.Namespace) -> None:
    import shtab

    top = options.grammar.whole
    for action in _actions(top):
        if kind := {'config': 'train', 'experiment': 'experiments'}.get(action.dest):
            action.complete = _configurations(kind)  # type: ignore[attr-defined]
        elif action.type is Path and not action.choices:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    script = shtab.complete(top, shell=options.shell)
    report(options, {'shell': options.shell, 'script': script}, script)


def _actions(grammar: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield all that a grammar takes, and those of its commands."""
    for action in grammar._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
        else:
            yield action


def _configurations(kind: str) -> dict:
    """Return how shells complete the files of a folder of config/ that ship, and YAML files."""
    folder = resources.files('univseg_core') / 'config_files' / kind
    names = ' '.join(sorted(f'{kind}/{file.name}' for file in folder.iterdir()))
    function = f'_univseg_{kind}'
    scripts = {'bash': BASH, 'zsh': ZSH, 'fish': FISH}
    return {'bash': function, 'zsh': function, 'fish': f'({function})',
            'preamble': {shell: script.format(kind=kind, names=names)
                         for shell, script in scripts.items()}}
