"""
What packages say when they are imported, each by a process of its own, all at once.

An import can crash a process, wait for ever, or print; and several packages do not go together.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
import json
import subprocess
import sys
import time
from typing import Any

from univseg_core.errors import shortened
from univseg_core.machine.ending import kill_all, status_in_words

LIMIT = 60.0
"""Seconds that all imports may take together; on an idle machine they take two or three."""

PROGRAM = ('import json, sys; sys.path[:] = json.loads(sys.argv[2]); '
           'from univseg_core.doctor.probes import answer; answer(sys.argv[1])')

MESSAGES = ('builtin_interfaces', 'diagnostic_msgs', 'lifecycle_msgs', 'rcl_interfaces',
            'sensor_msgs', 'std_msgs', 'std_srvs')
"""Packages of messages and services that the node needs."""

MARK = 'univseg probe: '
"""What stands before the answer, as packages print other things."""


@dataclass(frozen=True)
class Imported:
    """
    What came of the import of a package.

    `there` is whether it is installed, `error` why it cannot be imported ('' where it can), and
    `facts` what it said, plain values.
    """

    there: bool = False
    error: str = ''
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Return whether it can be imported."""
        return self.there and not self.error


def import_all(limit: float = LIMIT) -> dict[str, Imported]:
    """Return what came of the import of every package that PROBES names."""
    there = [name for name in PROBES if is_installed(name)]
    running = {name: subprocess.Popen(
        [sys.executable, '-c', PROGRAM, name, json.dumps(sys.path)], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace')
        for name in there}
    ends = time.monotonic() + limit
    try:
        return {name: _result(running[name], ends) if name in running else Imported()
                for name in PROBES}
    finally:
        kill_all(list(running.values()))


def is_installed(module: str) -> bool:
    """Return whether a module is found, without importing it."""
    try:
        return bool(module) and find_spec(module) is not None
    except (ImportError, ValueError):  # of one half removed
        return False


def _result(process: subprocess.Popen, ends: float) -> Imported:
    try:
        printed, errors = process.communicate(timeout=max(0.1, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        return Imported(True, f'its import has not ended after {LIMIT:g} s')
    for line in printed.splitlines():
        if line.startswith(MARK):
            values = json.loads(line.removeprefix(MARK))
            return Imported(True, values.pop('error', ''), values)
    last = ([line for line in errors.splitlines() if line.strip()] or [''])[-1]
    return Imported(True, shortened(f'its import ended the process '
                                    f'({status_in_words(process.returncode)}) {last}'.strip()))


def answer(name: str) -> None:
    """Print what a package says, as the process that imports it."""
    try:
        values = PROBES[name]()
    except Exception as error:  # packages that do not fit each other raise all kinds
        lines = [*str(error).strip().splitlines(), type(error).__name__]
        values = {'error': shortened(lines[0])}
    print(f'\n{MARK}{json.dumps(values)}', flush=True)


def _torch() -> dict[str, Any]:
    torch = import_module('torch')
    cuda = torch.cuda.is_available()
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] \
        if cuda else []
    weights = import_module('univseg_core.models.pretrained').weights_on_this_machine()
    return {'version': str(torch.__version__), 'cuda': torch.version.cuda, 'cuda_usable': cuda,
            'gpus': [{'name': gpu.name, 'memory': gpu.total_memory} for gpu in gpus],
            'mps': torch.backends.mps.is_available(), 'weights': weights}


def _onnxruntime() -> dict[str, Any]:
    import_module('univseg_core.inference.backends')  # keeps it from telling its makers
    runtime = import_module('onnxruntime')
    providers = runtime.get_available_providers()
    on_gpus = import_module('univseg_core.inference.onnxruntime_gpu')
    return {'version': runtime.__version__, 'providers': providers,
            'tensorrt': on_gpus.tensorrt_version() if on_gpus.TENSORRT in providers else None}


def _openvino() -> dict[str, Any]:
    import_module('univseg_core.inference.backends')
    openvino = import_module('openvino')
    return {'version': openvino.__version__, 'devices': openvino.Core().available_devices}


def _opencv() -> dict[str, Any]:
    cv2 = import_module('cv2')
    lines = map(str.strip, cv2.getBuildInformation().splitlines())
    gui = next((line.partition(':')[2].strip() for line in lines if line.startswith('GUI:')), '')
    return {'version': cv2.__version__, 'gui': gui}


def _rclpy() -> dict[str, Any]:
    utilities = import_module('rclpy.utilities')
    for package in MESSAGES:
        import_module(package)
    # What is generated of a message was built for one NumPy, and is loaded but now.
    import_module('sensor_msgs.msg').Image.__class__.__import_type_support__()
    return {'middleware': utilities.get_rmw_implementation_identifier()}


PROBES: Mapping[str, Callable[[], dict[str, Any]]] = {
    'torch': _torch, 'openvino': _openvino, 'onnxruntime': _onnxruntime, 'cv2': _opencv,
    'rclpy': _rclpy,
}
"""What is asked of a package in a process of its own, the slowest first."""


def missing(modules: Iterable[str]) -> list[str]:
    """Return those of some modules that are not installed."""
    return [module for module in modules if not is_installed(module)]
