"""Which backend runs a network: the one that is asked for, or the fastest that is installed."""

import json
import logging
from pathlib import Path
import time
from typing import Any

import numpy as np
from univseg_core.errors import UnivsegError
from univseg_core.files import write_text
from univseg_core.files.records import read_json
from univseg_core.inference.backends import (
    Backend,
    BACKENDS,
    build_backend,
    installed,
    Network,
    of_files,
    version_of,
)
from univseg_core.machine.gpus import cuda_gpus
from univseg_core.machine.processors import cpu_cores, cpu_name
from univseg_core.models.exported_file import ExportedModel

UNKNOWN_SIZE = 480
"""The longest side in pixels at which backends are compared where images come in any size."""

FRAMES = 7
"""Frames by which each backend is measured, in turn; their median counts."""

log = logging.getLogger(__name__)


def choose_backend(name: str, network: Network, device: str, precision: str,
                   inference_size: int | None) -> tuple[str, Backend, dict[str, float]]:
    """
    Return the name and the backend that runs a network; `name` is one of BACKENDS or auto.

    The third part of the result are the milliseconds of an encoder pass by each backend, where
    they were compared. Raises UnivsegError where none can be had, with what would bring it.
    """
    names = installed(isinstance(network, ExportedModel))
    if name != 'auto':
        return name, build_backend(name, network, device, precision), {}
    if not names:
        entries = [BACKENDS[each] for each in of_files(isinstance(network, ExportedModel))]
        raise UnivsegError('none of what runs this model is installed: '
                           + ' or '.join(f'pip install {each.pip}' for each in entries))
    if len(names) == 1 or not isinstance(network, ExportedModel):
        return names[0], build_backend(names[0], network, device, precision), {}
    return _fastest(names, network, device, precision, inference_size)


def _fastest(names: list[str], model: ExportedModel, device: str, precision: str,
             inference_size: int | None) -> tuple[str, Backend, dict[str, float]]:
    """
    Return the fastest of some backends, measured now or before under the same conditions.

    The times are kept beside the file, where its folder can be written to.
    """
    size = model.export.size or usual_size(inference_size)
    conditions = {'file': model.sha256, 'device': device, 'precision': precision,
                  'size': list(size), 'cpu': cpu_name(), 'cores': cpu_cores(),
                  'gpus': [gpu.name for gpu in cuda_gpus()],
                  'versions': {name: version_of(name) for name in names}}
    kept = model.path.with_name(f'{model.path.name}.speed.json')
    times = _read_times(kept, conditions, names)
    if times:
        name = min(times, key=times.__getitem__)
        try:
            backend = build_backend(name, model, device, precision)
            log.info('backend: %s, by the times in %s: %s', name, kept, _in_words(times))
            return name, backend, times
        except UnivsegError as error:
            log.info('backend %s was the fastest, by the times in %s: %s', name, kept, error)
    backends, problems = {}, []
    for name in names:
        try:
            backends[name] = build_backend(name, model, device, precision)
            backends[name].features(np.zeros((*size, 3), np.uint8))  # some fail only now
        except UnivsegError as error:
            backends.pop(name, None)
            problems.append(error)
            log.info('backend %s is left out: %s', name, error)
    if not backends:
        raise UnivsegError('; '.join(dict.fromkeys(map(str, problems))))
    times = _milliseconds(backends, size)
    name = min(times, key=times.__getitem__)
    log.info('backend: %s, the fastest encoder of an image of %d×%d: %s', name, size[1], size[0],
             _in_words(times))
    if problems:  # which may be gone the next time
        return name, backends[name], times
    try:
        write_text(kept, json.dumps({'conditions': conditions, 'milliseconds': times}, indent=1))
    except OSError as error:
        log.info('these times cannot be kept, and will be measured again: %s', error)
    return name, backends[name], times


def _milliseconds(backends: dict[str, Backend], size: tuple[int, int]) -> dict[str, float]:
    """Return the median time of each backend, in turn, with an image (height, width) of noise."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    times: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(FRAMES + 1):
        for name, backend in backends.items():
            begin = time.perf_counter()
            backend.features(image.copy())
            times[name].append(1000 * (time.perf_counter() - begin))
    return {name: round(float(np.median(each[1:])), 2) for name, each in times.items()}


def _read_times(path: Path, conditions: dict[str, Any], names: list[str]) -> dict[str, float]:
    """Return the times of some backends that were measured under the same conditions, or none."""
    try:
        kept = read_json(path)
        times = {name: float(kept['milliseconds'][name]) for name in kept['milliseconds']}
        return times if kept['conditions'] == conditions and times.keys() == {*names} else {}
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError):
        return {}  # none, or what nobody can read: they are measured again


def usual_size(inference_size: int | None) -> tuple[int, int]:
    """Return the (height, width) at which a network is measured that sees images of a size."""
    longest = inference_size or UNKNOWN_SIZE
    return max(1, longest * 3 // 4), longest


def _in_words(times: dict[str, float]) -> str:
    return ', '.join(f'{name} {value:.1f} ms' for name, value in times.items())
