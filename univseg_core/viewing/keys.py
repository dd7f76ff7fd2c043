"""The keys of the page, in one table: for the page, its help and the command's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """Names of keys as browsers have them, the action that they set off, and words for both."""

    names: tuple[str, ...]
    action: str
    shown: str
    meaning: str


KEYS = (
    Key(('ArrowRight', 'n'), 'next', '→ n', 'next frame'),
    Key(('ArrowLeft', 'p'), 'previous', '← p', 'previous frame'),
    Key(('Home',), 'first', 'Home', 'first frame'),
    Key(('g',), 'jump', 'g', 'a frame by its number: type it, then Enter'),
    Key(('d',), 'domain', 'd', 'next domain, side by side, auto'),
    Key(('h',), 'heat', 'h', 'classes, confidence, entropy'),
    Key(('l',), 'by', 'l', 'classes by the head, by label embeddings'),
    Key(('+', '='), 'more', '+', 'more opaque'),
    Key(('-',), 'less', '-', 'less opaque'),
    Key(('a',), 'all', 'a', 'all classes on, or off'),
    Key(('?',), 'help', '?', 'these keys'),
)

ACTIONS = {name: key.action for key in KEYS for name in key.names}
"""What a key does, by its name."""


def keys_text() -> str:
    """Return the keys and their meanings, a line each."""
    width = max(len(key.shown) for key in KEYS)
    return '\n'.join(f'  {key.shown:{width}}  {key.meaning}' for key in KEYS)
