"""Which domain a camera is in, decided frame by frame: evidence of several, with hysteresis."""

from collections import deque
from dataclasses import dataclass, replace
import math
import threading

from univseg_core.models.domain_evidence import Recognition

STEEPNESS = 8.0
"""How unfamiliarity counts: at 0.75, an image is of none with 12 %, at 1 with 50 %."""


STATES = {
    'decided': 'the images are of that domain',
    'pinned': 'somebody has decided on the domain',
    'none': 'the images are unlike all that the model was trained on',
    'undecided': 'there is not enough evidence for one domain',
}
"""What a decision can be."""


@dataclass(frozen=True)
class DecisionRule:
    """
    When the domain changes.

    The belief in each domain, and in none of them, is its mean over the last `frames`. One that
    reaches `switch` is taken; until then the present one stays, as long as it has `stay`.
    `stay` ≤ `switch`, both 0..1.
    """

    frames: int = 5
    switch: float = 0.7
    stay: float = 0.3


@dataclass(frozen=True)
class Decision:
    """
    What was decided: `domain`, or None for none of them, and why.

    `state` is one of STATES, `probability` the belief in the domain, or that it is none, 0..1,
    and `unfamiliarity` that of the last frame, nan before the first.
    """

    domain: str | None = None
    state: str = 'undecided'
    probability: float = 0.0
    unfamiliarity: float = math.nan
    why: str = 'no frame has come yet'


class DomainDecision:
    """
    Decides for one camera in which domain it is; threads may pin what another one decides on.

    Before as many frames as the rule names have come, it is none, unless it begins `pinned`.
    """

    def __init__(self, pinned: str | None = None) -> None:
        self._lock = threading.Lock()
        self._beliefs: deque[dict[str | None, float]] = deque()
        self._pinned = pinned
        self._now = Decision() if pinned is None else self._on_pinned(math.nan)

    @property
    def now(self) -> Decision:
        """Return what is decided."""
        return self._now

    @property
    def pinned(self) -> str | None:
        """Return the domain that somebody has decided on."""
        return self._pinned

    def see(self, recognition: Recognition, rule: DecisionRule) -> Decision:
        """Take a frame into account; return what is decided, for this very frame."""
        with self._lock:
            self._beliefs.append(_belief(recognition))
            while len(self._beliefs) > rule.frames:
                self._beliefs.popleft()
            self._now = self._decided(recognition.unfamiliarity, rule)
            return self._now

    def pin(self, domain: str) -> None:
        """Decide on a domain, until `release`."""
        with self._lock:
            self._pinned = domain
            self._now = self._on_pinned(self._now.unfamiliarity)

    def release(self) -> None:
        """Decide by the frames again, from the next one on; till then, nothing changes."""
        with self._lock:
            self._pinned = None
            self._now = replace(self._now, state='decided' if self._now.domain else 'undecided',
                                why='released; the next frame decides')

    def _on_pinned(self, unfamiliarity: float) -> Decision:
        return Decision(self._pinned, 'pinned', self._mean(self._pinned), unfamiliarity, 'pinned')

    def _mean(self, domain: str | None) -> float:
        if not self._beliefs:
            return 0.0
        return sum(belief[domain] for belief in self._beliefs) / len(self._beliefs)

    def _decided(self, unfamiliarity: float, rule: DecisionRule) -> Decision:
        """Return what the frames so far decide."""
        if self._pinned is not None:
            return self._on_pinned(unfamiliarity)
        count, before = len(self._beliefs), self._now.domain
        if count < rule.frames and before is None:
            return Decision(unfamiliarity=unfamiliarity,
                            why=f'{count} of {rule.frames} frames seen')
        means = {domain: self._mean(domain) for domain in self._beliefs[-1]}
        best = max(means, key=lambda domain: means[domain])
        over = f'{means[best]:.2f} over {count} frames'
        if means[best] >= rule.switch:
            if best is None:
                return Decision(None, 'none', means[None], unfamiliarity,
                                f'unlike all that the model was trained on: {over}')
            return Decision(best, 'decided', means[best], unfamiliarity, over)
        if before is not None and means[before] >= rule.stay:
            return Decision(before, 'decided', means[before], unfamiliarity,
                            f'still {means[before]:.2f} over {count} frames')
        told = ', '.join(f'{domain or "none"} {mean:.2f}' for domain, mean in means.items())
        return Decision(None, 'undecided', means[best], unfamiliarity,
                        f'not enough for one domain over {count} frames: {told}')


def _belief(recognition: Recognition) -> dict[str | None, float]:
    """Return the probability of each domain, and under None that it is none of them."""
    known = 1 / (1 + math.exp(min(STEEPNESS * (recognition.unfamiliarity - 1), 700)))
    return {**{name: known * value for name, value in recognition.probabilities.items()},
            None: 1 - known}
