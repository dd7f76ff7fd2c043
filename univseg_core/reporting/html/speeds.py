"""How fast a run's exported models are: what is measured already, in files beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from univseg_core.errors import in_one_line, shortened
from univseg_core.files.records import read_json

KEPT = '.speed.json'
"""How the names of the files end that `auto` keeps beside an exported model."""


@dataclass(frozen=True)
class Speed:
    """
    What one measurement found: of which model, by what, where; milliseconds a frame.

    `encoder_ms` is of the encoder alone, `frame_ms` of whole frames, None where that is not known.
    """

    model: str
    runner: str
    where: str
    size: str
    encoder_ms: float
    frame_ms: float | None


def read_speeds(folder: Path) -> tuple[list[Speed], list[str]]:
    """
    Return what a folder's files have measured, and what is wrong with some of them.

    These are NAME.onnx.speed.json, which choosing a backend leaves beside an exported model, and
    what `univseg benchmark --json` has printed, under any name that ends in .json.
    """
    speeds: list[Speed] = []
    problems = []
    for path in sorted(folder.glob('*.json')):
        try:
            values = read_json(path)
            if path.name.endswith(KEPT):
                speeds += _kept(path.name.removesuffix(KEPT), values)
            elif isinstance(values, Mapping) and {'cpu', 'rows'} <= values.keys():
                speeds += _benchmark(values)
        except (ArithmeticError, AttributeError, LookupError, OSError, TypeError,
                ValueError) as error:
            if path.name.endswith(KEPT):  # others may be anything
                problems.append(f'{in_one_line(path)}: no times of an exported model '
                                f'({shortened(repr(error))})')
    return speeds, problems


def _kept(model: str, values: Mapping[str, Any]) -> Iterator[Speed]:
    of = values['conditions']
    where = f'{of["cpu"]}, {int(of["cores"])} cores'
    if of['gpus'] and of['device'] != 'cpu':
        where = ', '.join(map(str, of['gpus']))
    height, width = map(int, of['size'])
    for name, milliseconds in values['milliseconds'].items():
        yield Speed(model, str(name), where, f'{width}×{height}', float(milliseconds), None)


def _benchmark(values: Mapping[str, Any]) -> Iterator[Speed]:
    for row in values['rows']:
        where = (str(row['device']) if row['device'] != 'cpu' else
                 f'{values["cpu"]}, {int(row["threads"])} threads')
        yield Speed(str(row['model']), f'{row["backend"]}, {row["precision"]}', where,
                    f'{int(row["width"])}×{int(row["height"])}', float(row['encoder_ms']),
                    float(row['median_ms']))
