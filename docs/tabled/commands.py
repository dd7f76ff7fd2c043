"""The command line, by the grammar that reads it."""

import argparse
from collections.abc import Mapping
import re
import textwrap

from tabled.markdown import code, table


def _commands(grammar: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the commands of a grammar, by name; none where it has none."""
    return next((action.choices for action in grammar._actions
                 if isinstance(action, argparse._SubParsersAction)), {})


def options(command: str) -> str:
    """Return the options of a command of univseg."""
    from univseg_core.cli import parser
    return table('option,what', (
        (code(f'{action.option_strings[-1]} {_value(action)}'.strip()), action.help or '')
        for action in _commands(parser())[command]._actions
        if action.option_strings and action.dest != 'help'))


def _value(action: argparse.Action) -> str:
    """Return what stands behind an option."""
    if action.nargs == 0:
        return ''
    choices = f'{{{",".join(action.choices)}}}' if action.choices else action.dest.upper()
    return str(action.metavar or choices)


COMMON = ('help', 'json', 'quiet', 'verbose')
"""What every command takes."""


def command_reference() -> str:
    """Return a section for each command of univseg, by what it is for: options, and examples."""
    from univseg_core.cli import JOBS, parser
    commands = _commands(parser())
    assert sorted(commands) == sorted(name for names in JOBS.values() for name in names)
    return '\n' + '\n'.join(
        f'## {job.capitalize()}\n\n' + '\n'.join(
            _command(3, name, commands[name]) for name in names)
        for job, names in JOBS.items()) + '\n'


def _command(level: int, name: str, grammar: argparse.ArgumentParser) -> str:
    """Return the section of a command, and below it those of the commands that it has."""
    text = f'{"#" * level} {name}\n\n{grammar.description}\n'
    if commands := _commands(grammar):
        return '\n'.join([text, *(_command(level + 1, f'{name} {each}', sub)
                                  for each, sub in commands.items())])
    rows = [(code(' '.join(filter(None, (', '.join(action.option_strings), _value(action))))),
             _required(action) + (action.help or '').replace('%%', '%'))
            for action in grammar._actions if action.dest not in COMMON]
    examples = (grammar.epilog or '').partition('examples:\n')[2].partition('\n\n')[0]
    return (f'{text}\n{table("argument or option,what", iter(rows))}'
            f'\n```sh\n{_with_comments(examples)}```\n')


def _required(action: argparse.Action) -> str:
    return 'required: ' if action.option_strings and action.required else ''


def _with_comments(examples: str) -> str:
    """Return examples as a shell reads them: what stands beside them are comments."""
    lines = []
    for line in filter(None, map(str.rstrip, textwrap.dedent(examples).splitlines())):
        command, gap, note = re.fullmatch(r'( {,9}\S.*?|)(?:( {2,})(?:# )?(\S.*))?', line).groups()
        lines.append(f'{command}{gap}# {note}\n' if note else f'{line}\n')
    return ''.join(lines)
