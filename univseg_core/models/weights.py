"""Which weights a model began with."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Weights:
    """Where the weights that a model began with are from, and the SHA-256 of their values."""

    source: str
    sha256: str

    def to_dict(self) -> dict:
        """Return it as plain JSON values."""
        return asdict(self)
