"""What annotation tools call classes → the classes of a domain."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
import logging
import re
import shlex
import unicodedata

from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import did_you_mean, in_one_line, shortened, UnivsegError
from univseg_core.pictures.label_meaning import VOID

LEAST_FOR_SLIPS = 4
"""Letters of a name in which one wrong letter is a slip: bus and bush are different words."""


def forgiving_key(name: str) -> str:
    """Return a name as it counts where case, spaces, underscores and hyphens do not."""
    return re.sub(r'[\s_-]+', '', unicodedata.normalize('NFKC', name)).casefold()


log = logging.getLogger(__name__)


@dataclass
class ClassNames:
    """
    The class of each category of a tool, by its name.

    `renamed` has, by a category's name, that of a class, or 'void' for none. Of all others, the
    class of the same name counts, or the only one whose name differs in case, spaces, underscores
    and hyphens alone. Filled as categories are met: `forgiven` has the classes of those whose
    names differ, `mapped` what became of those that were renamed, and `dropped` how many objects
    are void because the tool's format says so. Raises UnivsegError for a new name that is neither
    a class nor void.
    """

    domain: Domain
    renamed: Mapping[str, str] = field(default_factory=dict)
    forgiven: dict[str, str] = field(default_factory=dict, init=False)
    mapped: dict[str, str] = field(default_factory=dict, init=False)
    dropped: Counter[str] = field(default_factory=Counter, init=False)
    _unknown: dict[str, '_Unknown'] = field(default_factory=dict, init=False)
    _met: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._by_key: dict[str, list[str]] = {}
        for name in self.domain.classes:
            self._by_key.setdefault(forgiving_key(name), []).append(name)
        self._renamed_by_key: dict[str, set[str]] = {}
        for old, new in self.renamed.items():
            if new == VOID and VOID in self.domain.classes:
                log.warning('--map %s=%s: %s has a class of that name, which it is then', old, new,
                            self.domain.name)
            if new != VOID and self.class_called(new) is None:
                raise UnivsegError(
                    f'--map {old}={new}: {self.domain.name} has no class {new!r}; expected '
                    f'{VOID} or one of {", ".join(self.domain.classes)}'
                    f'{did_you_mean(new, self.domain.classes)}')
            self._renamed_by_key.setdefault(forgiving_key(old), set()).add(old)

    def index(self, label: str) -> int | None:
        """Return the class of a category, 255 of void, None of one that no class stands for."""
        old = self._renaming(label)
        if old is not None:
            self._met.add(old)
            new = self.renamed[old]
            name = new if new == VOID else self.class_called(new) or VOID
            self.mapped[label] = name
        else:
            found = self.class_called(label)
            if found is None and label != VOID:
                return None
            name = found or VOID
            if name != label:
                self.forgiven[label] = name
        classes = self.domain.classes
        return classes.index(name) if name in classes else IGNORE_INDEX

    def has(self, label: str, beside: Collection[str] = ()) -> bool:
        """
        Return whether a label that its format calls void is a class all the same, or renamed.

        Its name is forgiven as that of others, unless the format has the class's very name
        `beside` it, or itself puts it between underscores, as labelme's `_background_`.
        """
        if label in self.domain.classes or self._renaming(label) is not None:
            return True
        name = self.class_called(label)
        return name is not None and name not in beside and not label.startswith('_')

    def not_known(self, label: str, image: str, what: str) -> None:
        """Count an object of a category without a class, in an image; `what` says which it is."""
        found = self._unknown.setdefault(label, _Unknown(f'{image}: {what}'))
        found.images[image] += 1

    def problems(self) -> Iterator[str]:
        """Yield of each category that no class stands for how often it came, and what to do."""
        for label, found in self._unknown.items():
            objects, images = found.images.total(), len(found.images)
            meant = [name for name in self.domain.classes if _are_near(label, name)]
            near = f'; did you mean {meant[0]}?' if len(meant) == 1 else ''
            new = meant[0] if len(meant) == 1 else 'CLASS'
            label = shortened(in_one_line(label))
            yield (f'{label!r} is no class of {self.domain.name}: {objects} '
                   f'object{"s" * (objects > 1)} in {images} image{"s" * (images > 1)}, the first '
                   f'{found.first}{near}; say --map {shlex.quote(f"{label}={new}")} or '
                   f'--map {shlex.quote(f"{label}={VOID}")}')

    def unused(self) -> list[str]:
        """Return the names in `renamed` that no category had."""
        return [old for old in self.renamed if old not in self._met]

    def class_called(self, name: str) -> str | None:
        """Return the class of a name, or the only one of a name that is forgiven."""
        if name in self.domain.classes:
            return name
        alike = self._by_key.get(forgiving_key(name), [])
        return alike[0] if len(alike) == 1 else None

    def _renaming(self, label: str) -> str | None:
        """Return which name in `renamed` is that of a category."""
        if label in self.renamed:
            return label
        alike = self._renamed_by_key.get(forgiving_key(label), set())
        # A class of the very name needs no forgiving.
        return next(iter(alike)) if len(alike) == 1 and label not in self.domain.classes else None


def _are_near(one: str, other: str) -> bool:
    """Return whether one name has all words of another, or they differ by a slip of the pen."""
    some, others = ({word.casefold() for word in re.findall(r'[A-Z]?[^\W_A-Z]+|[A-Z]+', name)}
                    for name in (one, other))
    if some and others and (some <= others or others <= some):
        return True
    one, other = forgiving_key(one), forgiving_key(other)
    if min(len(one), len(other)) < LEAST_FOR_SLIPS:
        return False
    for _ in range(2):  # what they have in common goes, from the beginning and from the end
        pairs = zip(one, other, strict=False)
        begin = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
        one, other = one[begin:][::-1], other[begin:][::-1]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])


@dataclass
class _Unknown:
    """Where a category without a class came first, and how often in each image."""

    first: str
    images: Counter[str] = field(default_factory=Counter)
