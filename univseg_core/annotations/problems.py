"""All that is wrong with a file, told at once."""

from dataclasses import dataclass, field
from pathlib import Path

from univseg_core.annotations.regions import AnnotationError
from univseg_core.errors import shortened

SHOWN = 20


def quoted(text: str, length: int = 60) -> str:
    """Return a text of a file as messages quote it: its beginning, in one line and printable."""
    # Texts in JSON may have halves of characters, which no terminal takes.
    return ''.join(each if each.isprintable() else ascii(each)[1:-1]
                   for each in shortened(text, length))


@dataclass
class Problems:
    """What was found wrong with a file, or an image of one; `of` are the first of them."""

    source: Path | str
    of: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problem: str) -> None:
        """Note what is wrong with some part of the file, which it names."""
        self.count += 1
        if len(self.of) < SHOWN:
            self.of.append(problem)

    def tell(self) -> None:
        """Raise AnnotationError, which names the file and its problems, where there are any."""
        if self.count == 1:
            raise AnnotationError(f'{self.source}: {self.of[0]}')
        if self.count:
            more = [f'and {self.count - SHOWN} more'] if self.count > SHOWN else []
            raise AnnotationError(f'{self.source}: {self.count} problems:'
                                  + ''.join(f'\n  {problem}' for problem in self.of + more))
