"""What a check of the machine finds, and what a check is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from univseg_core.doctor.probes import Imported

Level = Literal['ok', 'warn', 'bad']
"""ok: as it should be; warn: it works, but could better; bad: something will not run."""

Purpose = Literal['training', 'node']
"""What a machine may be for."""

BOTH: tuple[Purpose, ...] = ('training', 'node')

GB = 1e9


@dataclass(frozen=True)
class Finding:
    """
    What a check has found: how good that is, in words, and the `fix` as a command.

    `facts` are the same as plain values, for programs.
    """

    level: Level
    says: str
    fix: str = ''
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """
    What checks go by besides the machine itself.

    The environment variables, and what the imports of packages said that may crash, by name.
    """

    environ: Mapping[str, str]
    imports: Mapping[str, Imported]


@dataclass(frozen=True)
class Check:
    """
    One thing that is looked at.

    Where it is bad, what it is `needed_for` will not run here.
    """

    name: str
    looks_at: str
    examine: Callable[[Facts], Finding]
    needed_for: tuple[Purpose, ...] = ()
