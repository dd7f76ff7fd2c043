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
"""Collapsed: fewer classes in use than this share of those that labels show (beyond one)."""

FEWEST = 0.1
"""Collapsed, too: pixels are nearest to fewer than this share, however soft the assignment."""

ADVICE = ('the entropies fall by one answer for all, not by knowledge. Lower objective.alpha and '
          'objective.beta, raise objective.warmup_steps, tie the embedding to the labels with '
          'objective.anchor=1, or start from label_embeddings.basis=joint')


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

    `centroids` (K) is how many label embeddings a class has: those of a class count as one. Of a
    domain's unlabelled pixels, the assignment to the classes of its own label embeddings is
    compared with the classes that its labels show; and, where a high temperature or a training
    that has just begun leaves every assignment soft, whether nearly all pixels are nearest to one.
    """

    def __init__(self, centroids: int = 1):
        self._centroids = centroids
        self._recent: dict[str, deque[torch.Tensor]] = {}
        self._states: dict[str, str | None] = {}

    def add(self, step: int, values: Mapping[str, torch.Tensor]) -> list[str]:
        """
        Add a step's `assignment/i/j` (P,), `nearest/i` (P,) and `labels/i` (C,).

        Returns what is to be said. A collapse is told once, within 2 · WINDOW steps of its
        happening, and again only after the embedding has recovered.
        """
        for key, value in values.items():
            self._recent.setdefault(key, deque(maxlen=WINDOW)).append(value)
        if step % WINDOW:
            return []
        messages = []
        for name in [key.removeprefix('nearest/') for key in self._recent
                     if key.startswith('nearest/')]:
            recent = [self._recent[key] for key in (
                f'assignment/{name}/{name}', f'nearest/{name}', f'labels/{name}')]
            if any(len(vectors) < WINDOW for vectors in recent):
                continue
            assignment, nearest, labels = (
                torch.stack(list(vectors)).sum(0) for vectors in recent)
            used, first = (perplexity(shares.view(-1, self._centroids).sum(1))
                           for shares in (assignment, nearest))
            shown = perplexity(labels)
            state = None
            if shown > 1 and used - 1 < FEW * (shown - 1):
                state = 'has collapsed'
            elif shown > 1 and first - 1 < FEWEST * (shown - 1):
                state = 'has one answer for all, though a soft one yet'
            if state not in (None, self._states.get(name)):
                messages.append(
                    f'{name}: by step {step}, the embedding {state}: its pixels use {used:.1f} '
                    f'classes of its label embeddings, and are nearest to {first:.1f}, while its '
                    f'labels show {shown:.1f}; {ADVICE}')
            self._states[name] = state
        return messages
