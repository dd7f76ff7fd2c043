"""Markdown as the pages have it."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder of the project."""


def table(head: str, rows: Iterator[tuple[str, ...]]) -> str:
    """Return a Markdown table; the columns of `head` are separated by commas."""
    titles = head.split(',')
    lines = [titles, ['---'] * len(titles),
             *([cell.replace('|', r'\|') for cell in row] for row in rows)]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)


def code(value: object) -> str:
    """Return a value as it is written in a YAML file, nothing for an empty one."""
    if value in ('', None):
        return ''
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if '|' in text:  # which ends a cell of a table, in backticks too
        return f'<code>{text.replace("|", "&#124;")}</code>'
    return f'`{text}`'
