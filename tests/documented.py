"""The code blocks of the documentation, and the commands in them."""

from collections.abc import Iterator
from pathlib import Path
import re
import shlex
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')])
BLOCK = re.compile(r'^```(\w*)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
HEREDOC = re.compile(r"<<'EOF'(.*?\n).*?^EOF$", re.DOTALL | re.MULTILINE)
ASSIGNMENT = re.compile(r'\w+=')
ENDS = {'&&', '||', '|', ';', '&', '>', '2>', '>>'}
"""What a command ends at; behind > there is a file."""


class Command(NamedTuple):
    """A command of a page: its words, and the variables (NAME=VALUE) that are set for it alone."""

    page: str
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f'{self.page}: {shlex.join(self.words)}'


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page that are in a language."""
    return [text for name, text in BLOCK.findall(page.read_text(encoding='utf-8'))
            if name == language]


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page's shell blocks; of console blocks, those behind `$`."""
    name = str(page.relative_to(ROOT))
    for text in blocks(page, 'sh'):
        yield from _of(name, text)
    for text in blocks(page, 'console'):
        yield from _of(name, '\n'.join(re.findall(r'^\$ (.*(?:\\\n.*)*)', text, re.MULTILINE)))


def all_commands(*programs: str) -> list[Command]:
    """Return the commands of all pages, or those that begin with one of `programs`."""
    return [command for page in PAGES for command in commands(page)
            if not programs or command.words[0] in programs]


def _of(page: str, text: str) -> Iterator[Command]:
    for line in HEREDOC.sub(r'\1', text).replace('\\\n', ' ').splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars='|&;>')
        lexer.whitespace_split = True
        words: list[str] = []
        into_a_file = False
        for word in [*lexer, ';']:
            if word not in ENDS:
                words.append(word)
                continue
            begin = next((number for number, each in enumerate(words)
                          if not ASSIGNMENT.match(each)), len(words))
            if words[begin:] and not into_a_file:
                yield Command(page, tuple(words[begin:]), tuple(words[:begin]))
            words, into_a_file = [], word.endswith('>')
