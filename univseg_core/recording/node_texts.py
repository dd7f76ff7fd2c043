"""What segmentation nodes say in JSON of the places that they see."""

import math
from typing import Any

from univseg_core.errors import shortened, UnivsegError
from univseg_core.files.records import parse_json

LONGEST_TEXT = 100_000
"""Characters; what a node says of a place has some hundreds."""


class NodeTextError(UnivsegError):
    """A text that is none of a segmentation node's."""


def recognition_of(text: str) -> tuple[int, bytes, float]:
    """
    Return what a text of NODE/recognition says.

    That is the stamp of its image in nanoseconds, its frame_id, and how unfamiliar it is. Raises
    ValueError where it is no such text.
    """
    facts = _facts(text)
    stamp, frame_id = facts.get('stamp'), facts.get('frame_id')
    unfamiliarity: Any = facts.get('unfamiliarity')
    if (type(stamp) is not int or not isinstance(frame_id, str)
            or not isinstance(unfamiliarity, int | float) or isinstance(unfamiliarity, bool)):
        raise NodeTextError(f'{shortened(text)!r}: expected stamp (an integer), frame_id (a text) '
                            'and unfamiliarity (a number)')
    try:
        number = float(unfamiliarity)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise NodeTextError(f'{shortened(text)!r}: expected an unfamiliarity that is finite')
    return stamp, frame_id.encode(errors='surrogatepass'), number


def domain_of(text: str) -> tuple[str | None, bool, str]:
    """
    Return the domain that a text of NODE/domain names, whether it is none of them, and why.

    It may be neither: then the node has not decided.

    Raises ValueError where it is no such text.
    """
    facts = _facts(text)
    domain = facts.get('domain', ...)
    if not isinstance(domain, str | None):
        raise NodeTextError(f'{shortened(text)!r}: expected a domain, a name or null')
    why = facts.get('why', '')
    return domain, facts.get('state') == 'none', why if isinstance(why, str) else ''


def _facts(text: str) -> dict[str, Any]:
    if len(text) > LONGEST_TEXT:
        raise NodeTextError(f'{len(text)} characters; expected {LONGEST_TEXT} at most')
    facts = parse_json(text)
    if not isinstance(facts, dict):
        raise NodeTextError(f'{shortened(text)!r}: expected keys and values in JSON')
    return facts
