"""What the values of a label map stand for, as far as its file does not tell."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX, void_colour
from univseg_core.pictures.picture_files import ImageError, NotCodesError

VOID = 'void'
"""What an answer calls pixels without a class."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)

BACKGROUNDS = ('background', 'bg', 'none', 'nothing', 'other', 'unknown', 'unlabeled',
               'unlabelled', 'void')
"""Names of a first class whose colour may well be that of a background."""

WHERE_TO_SAY = ' (in the configuration, beside the folders `images` and `labels`)'
"""What follows where a question is about label maps that a configuration names."""

FOREIGN = -1
"""What a table holds for indices and colours of no class."""


class QuestionError(ImageError):
    """A label map that can be read in two ways, of which somebody is to say one."""


@dataclass(frozen=True)
class LabelMeaning:
    """
    Answers to what label maps do not tell; None where nobody has said.

    `background` is what index 0 is, the other indices being the other classes in their order;
    `painted` what 255 is in masks of 0 and 255 alone, of which 0 is void then, or what
    `background` says. Either is 'void' (`VOID`) or the name of a class. `words` is how key and
    answer are written where they are asked for.
    """

    background: str | None = None
    painted: str | None = None
    words: str = '{}: {}'

    @property
    def is_mask(self) -> bool:
        """Return whether label maps are masks of one class."""
        return self.painted not in (None, VOID)

    def wrong(self, classes: Sequence[str]) -> str | None:
        """Return what is wrong with an answer that is neither void nor one of some classes."""
        for key, name in (('background', self.background), ('painted', self.painted)):
            if name not in (None, VOID, *classes):
                return (f'{key}: expected {VOID} or one of the classes ({", ".join(classes)}), '
                        f'got {name!r}')
        return None

    def of_grey(self, values: np.ndarray, domain: Domain) -> np.ndarray:
        """
        Return the classes (H, W) uint8, 255 where void, of a grey label map (H, W) uint8.

        Raises NotCodesError for values that stand for nothing.
        """
        if not self.is_mask:
            return self.of_indices(values, domain)
        found = np.unique(values).tolist()
        if not {*found} <= {0, IGNORE_INDEX}:
            raise NotCodesError(f'has other values than 0 and 255, as {found[:8]}, which '
                                f'{self._say("painted", self.painted)} says nothing of')
        return np.where(values, _index(self.painted, domain), _index(self.background, domain))

    def of_mask(self, values: np.ndarray, domain: Domain) -> np.ndarray:
        """Return what `of_grey` does of what is a mask by its kind; QuestionError unless said."""
        if self.painted is None:
            raise self.question_of_mask(domain.classes)
        return self.of_grey(values, domain)

    def of_palette(self, indices: np.ndarray, palette: np.ndarray, domain: Domain) -> np.ndarray:
        """
        Return the classes of a label map with a palette: indices (H, W) uint8, colours (n, 3).

        Raises NotCodesError for indices that stand for nothing, QuestionError where nobody has
        said what they stand for.
        """
        black_and_white = values_in_black_and_white(indices, palette)
        if self.is_mask or (self.painted and black_and_white):
            mask = as_mask(indices)
            return self.of_grey(indices if mask is None else mask, domain)
        if self.background is None:
            if len(black_and_white) == 2:
                raise self.question_of_mask(domain.classes)
            if begins_with_background(palette, domain):
                raise self.question_of_background(palette, domain)
        return self.of_indices(indices, domain)

    def of_indices(self, indices: np.ndarray, domain: Domain) -> np.ndarray:
        """Return the classes of indices (H, W) uint8: their own, or those behind a background."""
        if self.background is None and (indices + np.uint8(1)).max() <= len(domain.classes):
            return indices  # 255 wraps round to 0
        table = self.classes_of_indices(domain)
        if foreign := [index for index in np.unique(indices).tolist() if table[index] == FOREIGN]:
            behind = '' if self.background else (
                f'; where 0 is a background, and 1 {domain.classes[0]}, say '
                f'{self._say("background", VOID)}')
            raise NotCodesError(
                f'label indices {foreign[:8]} are outside domain {domain.name}, which has '
                f'classes 0..{len(domain.classes) - 1}, and 255 for void{behind}')
        return table.astype(np.uint8)[indices]

    def classes_of_indices(self, domain: Domain) -> np.ndarray:
        """Return the class of each index, (256,) int: 255 of void, FOREIGN of none."""
        names = list(domain.classes)
        if self.background is not None:
            names = [self.background, *(name for name in names if name != self.background)]
        table = np.full(256, FOREIGN)
        table[:len(names)] = [_index(name, domain) for name in names]
        table[IGNORE_INDEX] = IGNORE_INDEX
        return table

    def question_of_mask(self, classes: Sequence[str]) -> QuestionError:
        """Return what is asked about a map, or maps, of 0 and 255 alone."""
        first = classes[0] if self.background in (None, VOID) else self.background
        return QuestionError(
            f'has the values 0 and 255 alone. Was 255 painted? Say '
            f'{self._say("painted", "CLASS")}, such as {classes[-1]} (0 is void then, or '
            f'what {self._say("background", "CLASS")} says), or {self._say("painted", VOID)}, if '
            f'255 is void and 0 {first}')

    def question_of_background(self, palette: np.ndarray, domain: Domain) -> QuestionError:
        """Return what is asked about a palette (n, 3) that begins as one with a background."""
        return QuestionError(
            f'its palette gives index 0 the colour {_colour(palette, 0)} of a background. Is 0 '
            f'void, and 1 {domain.classes[0]}? Say {self._say("background", VOID)}; if 0 is a '
            f'class, {self._say("background", "CLASS")}, such as {domain.classes[0]}')

    def _say(self, key: str, answer: str | None) -> str:
        return self.words.format(key, answer)


UNSAID = LabelMeaning()
"""Nothing is said: values are class indices."""


def as_mask(indices: np.ndarray) -> np.ndarray | None:
    """Return indices (H, W) of 0 and one other value as 0 and 255; None where there are more."""
    others = np.unique(indices[indices != 0])
    return np.where(indices, np.uint8(IGNORE_INDEX), np.uint8(0)) if others.size <= 1 else None


def values_in_black_and_white(indices: np.ndarray, palette: np.ndarray) -> list[int]:
    """Return the values of a map of a black 0 and one other, 1 or 255, in white; else none."""
    white = [index for index in (1, IGNORE_INDEX) if _colour(palette, index) == WHITE]
    if _colour(palette, 0) != BLACK or not white:
        return []
    values: list[int] = np.unique(indices).tolist()
    return values if any({*values} <= {0, index} for index in white) else []


def is_background(name: str) -> bool:
    """Return whether a class is a background by its name."""
    return ''.join(filter(str.isalpha, name)).lower() in BACKGROUNDS


def begins_with_background(palette: np.ndarray, domain: Domain,
                           voids: Collection[tuple[int, int, int]] = ()) -> bool:
    """
    Return whether a palette (n, 3) looks as if index 0 were no class, and the others behind it.

    Its first colour is black, that of the domain's void or one of `voids`, or the colours of the
    classes follow it. It is not so where the first class has that colour, or is a background by
    its name, and in a palette of greys in their order, which is as good as none.
    """
    first = _colour(palette, 0)
    is_grey = (palette == np.arange(len(palette))[:, None]).all()
    if is_grey or first == domain.palette[0] or is_background(domain.classes[0]):
        return False
    behind = tuple(_colour(palette, index + 1) for index in range(len(domain.classes)))
    return first in (BLACK, void_colour(domain.palette), *voids) or behind == domain.palette


def _colour(palette: np.ndarray, index: int) -> tuple[int, int, int] | None:
    return tuple(palette[index].tolist()) if index < len(palette) else None


def _index(name: str | None, domain: Domain) -> np.uint8:
    """Return the index of a class, 255 of void."""
    classes = domain.classes
    return np.uint8(classes.index(name) if name in classes else IGNORE_INDEX)
