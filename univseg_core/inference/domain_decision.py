"""Which domain a camera is in, decided frame by frame: evidence of several, with hysteresis."""

from collections import deque
from dataclasses import dataclass, field, replace
import math
import threading
import time

from univseg_core.models.domain_evidence import Recognition

STEEPNESS, MIDDLE = 8.0, 1.11
"""
How the ratio of an image's unfamiliarity to the rule's `unfamiliar` counts: up to 1, it is of none
with 29 % at most, at 1.22 with 71 %.
"""

PAUSE = 10.0
"""Seconds without a frame after which those before say nothing of where the camera is."""

STATES = {
    'decided': 'the images are of that domain',
    'pinned': 'somebody has decided on the domain',
    'none': 'the images are unlike all that the model was trained on',
    'undecided': 'there is not enough evidence for one domain, or too few frames have come',
    'off': 'active_domains names domains: the images are not asked',
}
"""What a decision can be."""


@dataclass(frozen=True)
class DecisionRule:
    """
    When the domain changes.

    The belief in each domain, and in none of them, is its mean over the last `frames`. One that
    reaches `switch` is taken; until then the present one stays, as long as it has `stay`.
    `stay` ≤ `switch`, both 0..1. Unfamiliarity counts by its ratio to `unfamiliar`.
    """

    frames: int = 5
    switch: float = 0.7
    stay: float = 0.3
    unfamiliar: float = 0.8


@dataclass(frozen=True)
class Decision:
    """
    What was decided: `domain`, or None for none of them, and why.

    `state` is one of STATES, `probability` the belief in the domain, or that it is none, 0..1,
    and `unfamiliarity` that of the last frame, nan before the first. A later decision has a
    higher `number`.
    """

    domain: str | None = None
    state: str = 'undecided'
    probability: float = 0.0
    unfamiliarity: float = math.nan
    why: str = 'no frame has come yet'
    number: int = field(default=0, compare=False)


class DomainDecision:
    """
    Decides for one camera in which domain it is; threads may pin what another one decides on.

    Nothing is decided before as many frames have come as the rule names, from the start or after
    PAUSE seconds without one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._beliefs: deque[dict[str | None, float]] = deque()
        self._pinned: str | None = None
        self._last_frame = -math.inf
        self._now = Decision()

    @property
    def now(self) -> Decision:
        """Return what is decided."""
        return self._now

    def restart(self) -> Decision:
        """Forget what the frames were, but not what is pinned; return what is decided then."""
        with self._lock:
            self._beliefs.clear()
            return self._decide(Decision() if self._pinned is None else self._on_pinned(math.nan))

    def end(self) -> Decision:
        """Forget what the frames were, and what is pinned; return that nothing is decided."""
        with self._lock:
            self._beliefs.clear()
            self._pinned = None
            return self._decide(Decision(state='off', why=STATES['off']))

    def see(self, recognition: Recognition, rule: DecisionRule) -> Decision:
        """Take a frame into account; return what is decided, for this very frame."""
        with self._lock:
            now = time.monotonic()
            before = self._now.domain
            if now > self._last_frame + PAUSE:
                self._beliefs.clear()
                before = None
            self._last_frame = now
            self._beliefs.append(_belief(recognition, rule.unfamiliar))
            while len(self._beliefs) > rule.frames:
                self._beliefs.popleft()
            return self._decide(self._decided(recognition.unfamiliarity, rule, before))

    def pin(self, domain: str) -> Decision:
        """Decide on a domain, until `release`; return that."""
        with self._lock:
            self._pinned = domain
            return self._decide(self._on_pinned(self._now.unfamiliarity))

    def release(self) -> Decision | None:
        """
        Decide by the frames again, from the next one on; return what is decided till then.

        None where nothing is pinned.
        """
        with self._lock:
            if self._pinned is None:
                return None
            self._pinned = None
            return self._decide(replace(self._now, state='decided',
                                        why='released; the next frame decides'))

    def _decide(self, decision: Decision) -> Decision:
        self._now = replace(decision, number=self._now.number + 1)
        return self._now

    def _on_pinned(self, unfamiliarity: float) -> Decision:
        return Decision(self._pinned, 'pinned', self._mean(self._pinned), unfamiliarity, 'pinned')

    def _mean(self, domain: str | None) -> float:
        if not self._beliefs:
            return 0.0
        return sum(belief[domain] for belief in self._beliefs) / len(self._beliefs)

    def _decided(self, unfamiliarity: float, rule: DecisionRule, before: str | None) -> Decision:
        """Return what the frames so far decide, after some domain or none."""
        if self._pinned is not None:
            return self._on_pinned(unfamiliarity)
        count = len(self._beliefs)
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


def _belief(recognition: Recognition, unfamiliar: float) -> dict[str | None, float]:
    """Return the probability of each domain, and under None that it is none of them."""
    excess = recognition.unfamiliarity / unfamiliar - MIDDLE
    known = 1 / (1 + math.exp(min(STEEPNESS * excess, 700)))
    return {**{name: known * value for name, value in recognition.probabilities.items()},
            None: 1 - known}
