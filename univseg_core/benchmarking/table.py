"""The results of a benchmark as a table in Markdown."""

from collections.abc import Sequence

from univseg_core.benchmarking.rows import Found, Result
from univseg_core.machine.processors import cpu_name

UNKNOWN = '–'

HEADINGS = ('model', 'backend', 'precision', 'threads', 'network sees', 'ms, median', '95 %',
            'frames/s', 'encoder, ms', 'tail', 'start, s', 'memory, MB', 'of the ceiling')

WORDS = 3
"""The columns, from the left, that hold words."""


def as_markdown(found: Found, image: tuple[int, int], domains: int | None, rounds: int) -> str:
    """
    Return the table of all results, with what was measured above, and what was not below.

    `image`, `domains` and `rounds` are as Conditions has them.
    """
    height, width = image
    masks = {None: 'masks of all domains', 1: 'a mask'}.get(domains, f'{domains} masks')
    lines = [f'{cpu_name() or "this CPU"}: {width}×{height} RGB in, {masks} of that size out, '
             f'{rounds} rounds', '', *aligned([HEADINGS, *map(_cells, found.results)])]
    ceilings = {(each.precision, each.threads): each.ceiling_gflops for each in found.results}
    lines += ['', 'ceiling, 10⁹ operations a second of a large matrix product: ' + ', '.join(
        f'{precision} {UNKNOWN if rate is None else format(rate, ".0f")} with {threads} '
        f'thread{"s" if threads > 1 else ""}'
        for (precision, threads), rate in sorted(ceilings.items()))]
    lines += [f'left out: {what}: {why}' for what, why in found.left_out.items()]
    return '\n'.join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table whose first row is the head, columns being aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        return '| ' + ' | '.join(
            cell.ljust(width) if i < WORDS else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))) + ' |'

    rule = [f'{"-" * width}' if i < WORDS else f'{"-" * (width - 1)}:'
            for i, width in enumerate(widths)]
    return [line(rows[0]), line(rule), *map(line, rows[1:])]


def _cells(each: Result) -> list[str]:
    share = each.ceiling_share
    return [each.model, each.backend, each.precision, str(each.threads),
            f'{each.width}×{each.height}', f'{each.median_ms:.1f}', f'{each.p95_ms:.1f}',
            f'{each.frames_per_second:.1f}', f'{each.encoder_ms:.1f}',
            f'{100 * each.tail_share:.0f} %', f'{each.startup_s:.1f}', f'{each.memory_mb:.0f}',
            UNKNOWN if share is None else f'{100 * share:.0f} %']
