"""
Collapse of the embedding: all pixels at one or a few label embeddings, whatever they show.

The entropies (Eq 3, 4) are lowest when every pixel is surely of the same class. What tells this
from learning is how many label embeddings are in use: the perplexity of the mean assignment.
"""

from collections import deque
from collections.abc import Mapping

import torch

WINDOW = 50
"""Steps whose mean assignment is judged, once in as many steps."""

FEW = 0.5
"""Collapsed: fewer label embeddings in use than this share of the classes that labels show."""

ADVICE = ('the entropy is lowered by one answer for all, not by knowledge. Lower objective.alpha '
          'and objective.beta, raise objective.warmup_steps, set objective.similarity=cosine, or '
          'tie the embedding to the labels with objective.anchor=1')


def perplexity(shares: torch.Tensor) -> float:
    """Return how many of some (P,) shares are in use: e to their entropy, 1..P; 0 of none."""
    total = shares.sum()
    if total <= 0:
        return 0.0
    shares = shares / total
    return torch.special.entr(shares).sum().exp().item()


def perplexities(values: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return `perplexity/i/j` of a step's `assignment/i/j`."""
    return {key.replace('assignment', 'perplexity'): perplexity(value)
            for key, value in values.items() if key.startswith('assignment/')}


class CollapseMonitor:
    """
    Watches how many label embeddings each domain's pixels use, against its classes.

    Of a domain's unlabelled pixels, the assignment to its own label embeddings is compared with
    the classes of its labelled pixels: one tenth road, one tenth floor … use as many as there are.
    """

    def __init__(self):
        self._recent: dict[str, deque[torch.Tensor]] = {}
        self._collapsed: set[str] = set()

    def add(self, step: int, values: Mapping[str, torch.Tensor]) -> list[str]:
        """
        Add a step's `assignment/i/j` (P,) and `labels/i` (C,); return what is to be said.

        A collapse is told once, within 2 · WINDOW steps of its happening, and again only after
        the embedding has recovered.
        """
        for key, value in values.items():
            self._recent.setdefault(key, deque(maxlen=WINDOW)).append(value)
        if step % WINDOW:
            return []
        messages = []
        for key in [key for key in self._recent if key.startswith('labels/')]:
            name = key.removeprefix('labels/')
            recent = self._recent.get(f'assignment/{name}/{name}')
            if not recent:
                continue
            used, shown = (perplexity(torch.stack(list(vectors)).sum(0))
                           for vectors in (recent, self._recent[key]))
            if shown > 1 and used - 1 < FEW * (shown - 1):
                if name not in self._collapsed:
                    messages.append(f'{name}: the embedding has collapsed by step {step}: its '
                                    f'pixels use {used:.1f} of {len(recent[0])} label '
                                    f'embeddings, its labels {shown:.1f} classes; {ADVICE}')
                self._collapsed.add(name)
            else:
                self._collapsed.discard(name)
        return messages
