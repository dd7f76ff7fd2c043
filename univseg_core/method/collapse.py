"""
Collapse: all pixels at one or a few label embeddings, or of a few classes, whatever they show.

The entropies (Eq 3, 4) are lowest when every pixel is surely of the same class. What tells this
from learning is how many label embeddings are in use: the perplexity of the mean assignment.
"""

from collections import deque
from collections.abc import Mapping

import torch

WINDOW = 50
"""Steps whose mean assignment is judged; it is judged once in so many steps."""

FEW = 0.5
"""Collapsed: fewer classes in use than this share of those that labels show (beyond one)."""

FEWEST = 0.1
"""Collapsed, too: pixels are nearest to fewer than this share, however soft the assignment."""

ADVICE = ('the entropies fall by one answer for all, not by knowledge. Lower objective.alpha and '
          'objective.beta, raise objective.warmup_steps, start from label_embeddings.basis=joint, '
          'or learn from unlabelled images by objective.consistency instead')

TEACHER_ADVICE = ('what it teaches is one answer for many. Lower objective.consistency, raise '
                  'objective.warmup_steps, or see whether the unlabelled images are of this place')


def perplexity(shares: torch.Tensor) -> float:
    """Return how many of some (P,) shares are in use: e to their entropy, 1..P; 0 of none."""
    total = shares.sum()
    if total <= 0:
        return 0.0
    shares = shares / total
    return torch.special.entr(shares).sum().exp().item()


def perplexities(values: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return a step's `perplexity/i/j` of `assignment/i/j`, `taught_classes/i` of `taught/i`."""
    names = {'assignment': 'perplexity', 'taught': 'taught_classes'}
    result = {}
    for key, shares in values.items():
        kind, _, domains = key.partition('/')
        if kind in names:
            result[f'{names[kind]}/{domains}'] = perplexity(shares)
    return result


class CollapseMonitor:
    """
    Watches how many classes each domain's pixels are taken for, against those of its labels.

    `embeddings_per_class` (K) is how many label embeddings a class has: those of a class count as
    one. Of a domain's unlabelled pixels, the assignment to the classes of its own label embeddings
    is compared with the classes that its labels show; and, where a high temperature or a training
    that has just begun leaves every assignment soft, whether nearly all pixels are nearest to one.
    Of a mean teacher, what it takes them for is compared in the first way.
    """

    def __init__(self, embeddings_per_class: int = 1):
        self._embeddings_per_class = embeddings_per_class
        self._recent: dict[str, deque[torch.Tensor]] = {}
        self._states: dict[str, str | None] = {}

    def add(self, step: int, values: Mapping[str, torch.Tensor]) -> list[str]:
        """
        Add a step's `assignment/i/j` (P,), `nearest/i` (P,), `taught/i` (C,) and `labels/i` (C,).

        Returns what is to be said. A collapse is told once, within 2 · WINDOW steps of its
        happening, and again only after what has collapsed has recovered.
        """
        for key, value in values.items():
            self._recent.setdefault(key, deque(maxlen=WINDOW)).append(value)
        if step % WINDOW:
            return []
        domains = [key.removeprefix('labels/') for key in self._recent
                   if key.startswith('labels/')]
        messages = []
        for name in domains:
            messages += self._of_embedding(step, name)
            messages += self._of_teacher(step, name)
        return messages

    def _in_use(self, key: str, per_class: int = 1) -> float | None:
        """Return how many classes the last steps' vectors use; None where there are too few."""
        vectors = self._recent.get(key, ())
        if len(vectors) < WINDOW:
            return None
        return perplexity(torch.stack(list(vectors)).sum(0).view(-1, per_class).sum(1))

    def _of_embedding(self, step: int, name: str) -> list[str]:
        shown = self._in_use(f'labels/{name}')
        used = self._in_use(f'assignment/{name}/{name}', self._embeddings_per_class)
        first = self._in_use(f'nearest/{name}', self._embeddings_per_class)
        if shown is None or used is None or first is None:
            return []
        state = None
        if shown > 1 and used - 1 < FEW * (shown - 1):
            state = 'has collapsed'
        elif shown > 1 and first - 1 < FEWEST * (shown - 1):
            state = 'has one answer for all, though a soft one yet'
        return self._told(f'embedding/{name}', state, (
            f'{name}: by step {step}, the embedding {state}: its pixels use {used:.1f} '
            f'classes of its label embeddings, and are nearest to {first:.1f}, while its '
            f'labels show {shown:.1f}; {ADVICE}'))

    def _of_teacher(self, step: int, name: str) -> list[str]:
        shown, used = self._in_use(f'labels/{name}'), self._in_use(f'taught/{name}')
        if shown is None or used is None:
            return []
        collapsed = shown > 1 and used - 1 < FEW * (shown - 1)
        return self._told(f'teacher/{name}', 'has collapsed' if collapsed else None, (
            f'{name}: by step {step}, the mean teacher has collapsed: it takes unlabelled pixels '
            f'for {used:.1f} classes, while the labels show {shown:.1f}; {TEACHER_ADVICE}'))

    def _told(self, subject: str, state: str | None, message: str) -> list[str]:
        """Return the message where a subject has come into a state that is one to be told."""
        old, self._states[subject] = self._states.get(subject), state
        return [message] if state not in (None, old) else []
