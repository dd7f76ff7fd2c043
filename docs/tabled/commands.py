"""The command line, by the grammar that reads it."""

import argparse
from collections.abc import Iterator, Mapping
import re
import textwrap

from tabled.markdown import code, table


def _commands(grammar: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the commands of a grammar, by name; none where it has none."""
    return next((action.choices for action in grammar._actions
                 if isinstance(action, argparse._SubParsersAction)), {})


def _value(action: argparse.Action) -> str:
    """Return what stands behind an option."""
    if action.nargs == 0:
        return ''
    choices = f'{{{",".join(action.choices)}}}' if action.choices else action.dest.upper()
    return str(action.metavar or choices)


COMMON = ('help', 'json', 'quiet', 'verbose')
"""What every command takes."""

RUNNING = ('backend', 'precision', 'device')
"""What all take that run a model, and the page tells once."""

RUNNING_TITLE = 'What runs the model'

DEFAULT_PRECISION = re.compile('; (auto: .*)')
"""Of the help of a precision: what it is by default, in which the commands differ."""


def command_reference() -> str:
    """Return a section for each command of univseg, by what it is for: options, and examples."""
    from univseg_core.cli import JOBS, parser
    commands = _commands(parser())
    assert sorted(commands) == sorted(name for names in JOBS.values() for name in names)
    return '\n' + '\n'.join(
        f'## {job.capitalize()}\n\n' + '\n'.join(
            _command(3, name, commands[name]) for name in names)
        for job, names in JOBS.items()) + f'\n{_running(commands["predict"])}\n'


def _running(grammar: argparse.ArgumentParser) -> str:
    """Return the section of the options of a grammar that all have which run a model."""
    actions = [action for action in grammar._actions if action.dest in RUNNING]
    return f'## {RUNNING_TITLE}\n\n' + table('option,what', (
        (_code(action), DEFAULT_PRECISION.sub('; auto: as the command says', _help(action))
         if action.dest == 'precision' else _help(action)) for action in actions))


def _code(action: argparse.Action) -> str:
    return code(' '.join(filter(None, (', '.join(action.option_strings), _value(action)))))


def _help(action: argparse.Action) -> str:
    return (action.help or '').replace('%%', '%')


def _rows(grammar: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield each argument and option of a grammar, and its help; those of RUNNING in one."""
    actions = {action.dest: action for action in grammar._actions if action.dest not in COMMON}
    runs_a_model = actions.keys() >= {*RUNNING}
    for dest, action in actions.items():
        if not runs_a_model or dest not in RUNNING:
            yield _code(action), _required(action) + _help(action)
        elif dest == 'precision':
            default = DEFAULT_PRECISION.search(_help(action))
            assert default is not None
            anchor = RUNNING_TITLE.lower().replace(' ', '-')
            yield (', '.join(code(f'--{name}') for name in RUNNING),
                   f'[{RUNNING_TITLE.lower()}](#{anchor}); precision {default[1]}')


def _command(level: int, name: str, grammar: argparse.ArgumentParser) -> str:
    """Return the section of a command, and below it those of the commands that it has."""
    text = f'{"#" * level} {name}\n\n{grammar.description}\n'
    if commands := _commands(grammar):
        return '\n'.join([text, *(_command(level + 1, f'{name} {each}', sub)
                                  for each, sub in commands.items())])
    rows = [*_rows(grammar)]
    listed = f'\n{table("argument or option,what", iter(rows))}' if rows else ''
    examples = (grammar.epilog or '').partition('examples:\n')[2].partition('\n\n')[0]
    return f'{text}{listed}\n```sh\n{_with_comments(examples)}```\n'


def _required(action: argparse.Action) -> str:
    return 'required: ' if action.option_strings and action.required else ''


def _with_comments(examples: str) -> str:
    """Return examples as a shell reads them: what stands beside them are comments."""
    lines = []
    for line in filter(None, map(str.rstrip, textwrap.dedent(examples).splitlines())):
        command, gap, note = re.fullmatch(r'( {,9}\S.*?|)(?:( {2,})(?:# )?(\S.*))?', line).groups()
        lines.append(f'{command}{gap}# {note}\n' if note else f'{line}\n')
    return ''.join(lines)
