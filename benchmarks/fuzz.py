"""
Change sound files of each kind at random, and look for what reading them must not do.

    python benchmarks/fuzz.py --seconds 240 --found found
    python benchmarks/fuzz.py --files 100000 --found found

Reading ends well or in the error that is documented, within 5 s of CPU time, and with at most
768 MB more memory than before. What does not is shrunk, told and kept in the folder --found as
KIND-HASH; such files are tests, in tests/core/corpus/KIND, and seeds of further searches. The
engine is Hypothesis: each of its examples is some changes of a sound file, which are made at many
places of it.
"""

import argparse
from collections.abc import Iterator
from contextlib import suppress
import hashlib
import logging
import math
from pathlib import Path
import re
import signal
import tempfile
import time
import traceback
from typing import Any

from fuzzed.kinds import corpus, FindingError, Kind, KINDS, too_long

LONGEST, MOST_MEMORY = 5.0, 768
"""Seconds and MB (of three of the largest messages) of one file."""

EACH = 32
"""Files that an example stands for."""

WHERE = 1 << 16
"""Places of a file that are told apart."""

EXTREMES = [0, 1, 2, 7, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1,
            2**63, 2**64 - 1]
WORDS = [
    '.inf', '.nan', '-.inf', '0x_', '0b', '2024-02-30', '2024-01-01', '!!int x', '!!set ', '~',
    '!!timestamp x', '!!binary x', '!!python/name:os.system ', '1:' * 50 + '1', '9' * 5000,
    '0x' + 'f' * 5000, '[' * 200, '{' * 200, '&a [*a]', '*a', '<<: ', '? ', '\ufeff', '\x85',
    '~nobody/x', '$NOTHING', '/dev/zero', 'x' * 5000, '\0', '"\\ud800"', 'null', 'yes', '-1',
    '1e400', '', '- ', ': ', '\t', '\n', '#', '{}', '[]', "''", '../..', '1.5', '[1, 2]', '7']

TOKEN = re.compile(rb'[^\s,:\[\]{}]+')
"""A key or value of YAML, as a rule."""


def attempt(kind: Kind, data: bytes, folder: Path) -> None:
    """Read a file; raise FindingError, or the error that is not documented."""
    path = folder / f'file{kind.suffix}'
    path.write_bytes(data)
    before, start = memory(forget=True), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 4 * LONGEST)
    try:
        kind.read(path)
    except kind.errors() as error:
        too_long(str(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if (seconds := time.process_time() - start) > LONGEST:
        raise FindingError(f'took {seconds:.1f} s')
    if (more := memory() - before) > MOST_MEMORY:
        raise FindingError(f'took {more} MB')


def never_ends(*_: object) -> None:
    """Interrupt what a file leads to."""
    raise FindingError('does not end')


def memory(forget: bool = False) -> int:
    """Return the most memory that this process has had, in MB, or has now where it forgets."""
    process = Path('/proc/self')
    if forget:
        (process / 'clear_refs').write_bytes(b'5')
    return int(re.search(rb'VmHWM:\s+(\d+)', (process / 'status').read_bytes())[1]) // 1024


def where(error: Exception) -> str:
    """Return the kind of an error, and the place where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error) if isinstance(error, FindingError) else ''
    return f'{type(error).__name__} {Path(frame.filename).name}:{frame.lineno} {text[:20]}'.strip()


def search(name: str, kind: Kind, seeds: list[bytes], folder: Path, examples: int,
           known: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield what is found in some changed files, and the file; `known` is not told again."""
    from hypothesis import given, HealthCheck, Phase, settings, strategies, Verbosity

    last: list[tuple[str, bytes]] = []

    @settings(max_examples=examples, deadline=None, database=None, report_multiple_bugs=False,
              phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
              verbosity=Verbosity.quiet)
    @given(strategies.sampled_from(seeds), changes(strategies, kind.is_text))
    def read(seed: bytes, some: list[Change]) -> None:
        for number in range(EACH):
            data = changed(seed, some, number)
            data = kind.repaired(data) if number % 2 else data
            counts[name] += 1
            try:
                attempt(kind, data, folder)
            except Exception as error:
                if (place := where(error)) in known:
                    continue
                last[:] = [(place, data)]
                raise

    try:
        read()
    except Exception:
        known.add(last[0][0])
        yield last[0]


counts: dict[str, int] = dict.fromkeys(KINDS, 0)

Change = tuple[str, int, int, Any]
"""What is done, where (of WHERE), to how many bytes, and with what."""


def changes(strategies: Any, is_text: bool) -> Any:
    """Return the strategy of one to four changes."""
    place = strategies.integers(0, WHERE - 1)

    def change(what: str, value: Any, most: int = 64) -> Any:
        return strategies.tuples(strategies.just(what), place, strategies.integers(1, most), value)

    some = [change('set', strategies.binary(min_size=1, max_size=8)),
            change('number', strategies.tuples(
                strategies.integers(0, len(EXTREMES) - 1), strategies.sampled_from([1, 2, 4, 8]),
                strategies.sampled_from(['little', 'big']))),
            *(change(what, strategies.none()) for what in ('cut', 'copy', 'zero', 'end'))]
    if is_text:
        some += 3 * [change('word', strategies.integers(0, len(WORDS) - 1), 20),
                     change('token', strategies.integers(0, len(WORDS) - 1)),
                     change('text', strategies.text(min_size=1, max_size=6), 20)]
    return strategies.lists(strategies.one_of(some), min_size=1, max_size=4)


def changed(seed: bytes, some: list[Change], number: int) -> bytes:
    """Return a file with some changes; a further `number` makes them at other places."""
    data = bytearray(seed)
    for step, (what, place, size, value) in enumerate(some, 1):
        place = (place + 40503 * number * step) % WHERE  # a golden section further each time
        at = place * (len(data) + 1) // WHERE
        if what == 'set':
            data[at:at + len(value)] = value
        elif what == 'number':
            which, width, order = value
            extreme = EXTREMES[(which + number) % len(EXTREMES)] % 256**width
            data[at:at + width] = extreme.to_bytes(width, order)
        elif what == 'cut':
            del data[at:at + size]
        elif what == 'copy':
            start = (place * 7 + number) % (len(data) + 1)
            data[at:at] = data[start:start + size]
        elif what == 'zero':
            data[at:at + size] = bytes(len(data[at:at + size]))
        elif what == 'end':
            del data[at:]
        elif what == 'text':
            data[at:at + size] = value.encode(errors='surrogatepass')
        else:
            if what == 'token' and (tokens := list(TOKEN.finditer(data))):
                at, end = tokens[place * len(tokens) // WHERE].span()
                size = end - at
            word = WORDS[(value + number) % len(WORDS)]
            data[at:at + size] = word.encode(errors='surrogatepass')
    return bytes(data)


def main() -> None:
    """Search for so long, and tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float,
                        help='(default: 60, or as long as --files takes)')
    parser.add_argument('--files', type=int, help='how many of each kind (default: any number)')
    parser.add_argument('--kinds', nargs='+', default=list(KINDS), choices=list(KINDS),
                        metavar='KIND', help=f'of {", ".join(KINDS)} (default: all)')
    parser.add_argument('--found', type=Path, help='folder for what is found (default: none)')
    options = parser.parse_args()
    logging.disable()  # of what is readable in spite of its damage
    signal.signal(signal.SIGPROF, never_ends)
    known: set[str] = set()
    found = dict.fromkeys(options.kinds, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = {name: KINDS[name].seeds(folder) + corpus(name) for name in options.kinds}
        for name in options.kinds:  # which imports what reading takes
            with suppress(*KINDS[name].errors()):
                path = folder / f'sound{KINDS[name].suffix}'
                path.write_bytes(seeds[name][0])
                KINDS[name].read(path)
        end = time.monotonic() + (options.seconds or (math.inf if options.files else 60))
        left = list(options.kinds)
        while left and time.monotonic() < end:
            for name in [name for name in left if time.monotonic() < end]:
                for place, data in search(name, KINDS[name], seeds[name], folder, 100, known):
                    found[name] += 1
                    print(f'{name}: {place}: {data[:100]!r}, {len(data)} bytes', flush=True)
                    if options.found:
                        options.found.mkdir(parents=True, exist_ok=True)
                        digest = hashlib.sha256(data).hexdigest()[:8]
                        (options.found / f'{name}-{digest}').write_bytes(data)
            left = [name for name in left if counts[name] < (options.files or math.inf)]
    print('\n| files | read | found |\n|---|--:|--:|')
    for name in options.kinds:
        print(f'| {name} | {counts[name]} | {found[name]} |')


if __name__ == '__main__':
    main()
