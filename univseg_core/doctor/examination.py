"""All checks of a machine, and what follows from them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
import os
import platform
from typing import Any

from univseg_core.doctor import of_machine, of_packages, of_ros
from univseg_core.doctor.finding import BOTH, Check, Facts, Finding, Level, Purpose
from univseg_core.doctor.probes import import_all
from univseg_core.errors import shortened

CHECKS = (
    Check('python', 'Python, and the packages that everything needs', of_packages.python, BOTH),
    Check('cpu', 'cores, instructions, bf16', of_machine.cpu),
    Check('gpu', "NVIDIA's GPUs, and whether PyTorch can use them", of_machine.gpu),
    Check('memory', 'memory that is free', of_machine.memory),
    Check('disk', 'room for runs and for what is extracted of data sets', of_machine.disk,
          ('training',)),
    Check('/dev/shm', 'memory by which processes share images', of_machine.shared_memory),
    Check('numpy', "NumPy, and whether it is ROS's", of_ros.numpy, BOTH),
    Check('opencv', 'OpenCV: one package, with windows or headless', of_packages.opencv, BOTH),
    Check('torch', 'PyTorch', of_packages.torch, ('training',)),
    Check('training', 'the packages of a training', of_packages.training, ('training',)),
    Check('weights', 'ImageNet weights on this machine', of_packages.weights),
    Check('backends', 'what runs models: PyTorch, ONNX Runtime, OpenVINO, TensorRT',
          of_packages.backends, ('node',)),
    Check('extras', 'extras of the package that are missing', of_packages.extras),
    Check('ros', 'rclpy and the messages of the node', of_ros.ros, ('node',)),
    Check('outputs', 'packages that add outputs to the node', of_ros.optional_messages),
    Check('middleware', 'RMW_IMPLEMENTATION and ROS_DOMAIN_ID', of_ros.middleware, ('node',)),
    Check('dds profile', 'the Fast DDS profile for large images', of_ros.dds_profile),
)
"""What is looked at, in the order in which it is told."""

STATUS = {(): 0, ('training',): 3, ('node',): 4, BOTH: 5}
"""The exit status, by what will not run here."""


@dataclass(frozen=True)
class Examination:
    """What each of some checks has found."""

    findings: Sequence[tuple[Check, Finding]]

    def obstacles(self, purpose: Purpose) -> list[str]:
        """Return the names of the checks that keep a machine from a purpose."""
        return [check.name for check, finding in self.findings
                if finding.level == 'bad' and purpose in check.needed_for]

    @property
    def status(self) -> int:
        """Return the exit status that says what will run here."""
        return STATUS[tuple(purpose for purpose in BOTH if self.obstacles(purpose))]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON values, for a bug report."""
        return {
            'version': of_packages.version_of(of_packages.PACKAGE),
            'system': platform.platform(),
            **{purpose: not self.obstacles(purpose) for purpose in BOTH},
            'findings': [
                {'name': check.name, 'looks_at': check.looks_at, 'level': finding.level,
                 'says': finding.says, 'fix': finding.fix or None,
                 'needed_for': list(check.needed_for), 'facts': dict(finding.facts)}
                for check, finding in self.findings]}

    def as_text(self, paint: Callable[[str, Level], str]) -> str:
        """Return it for people; `paint` colours a word by the level that it stands for."""
        width = max(len(check.name) for check, _ in self.findings)
        lines = []
        for check, finding in self.findings:
            lines.append(f'{paint(f"{finding.level:4}", finding.level)}  {check.name:{width}}  '
                         f'{finding.says}')
            if finding.fix:
                lines.append(f'{"":{width + 8}}→ {finding.fix}')
        lines.append('')
        for purpose, what in (('training', 'a training'), ('node', 'the node')):
            found = self.obstacles(purpose)  # type: ignore[arg-type]
            level: Level = 'bad' if found else 'ok'
            verdict = paint('will not run' if found else 'will run', level)
            lines.append(f'{what} {verdict} here' + (f': {", ".join(found)}' if found else ''))
        return '\n'.join(lines)


def examine(checks: Iterable[Check] = CHECKS, environ: Mapping[str, str] = os.environ,
            ) -> Examination:
    """Look at this machine; whatever is missing is a finding, never an error."""
    facts = Facts(environ, import_all())
    return Examination([(check, _finding(check, facts)) for check in checks])


def _finding(check: Check, facts: Facts) -> Finding:
    try:
        return check.examine(facts)
    except ModuleNotFoundError as error:
        return Finding('bad', f'cannot be looked at without the package {error.name}',
                       'pip install .')
    except Exception as error:  # a machine that nobody has foreseen
        return Finding('warn', shortened(f'could not be looked at: {error!r}'))
