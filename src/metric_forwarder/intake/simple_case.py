"""Upper and lower case as Go has them: one character for one, whatever stands around it.

Source: Go, package ``unicode`` (``ToUpper``, ``ToLower``, ``SimpleFold``); Unicode, simple case mappings.
"""

from collections.abc import Mapping
from functools import lru_cache

# All characters that have more than two cases, or whose cases are not each other's, are below this.
_LAST_ODD = 0x2130
# Turkish letters, of which no other character is a case.
_ALONE = "\u0130\u0131"


def raised(text: str) -> str:
    """The text in upper case."""
    return text.upper() if text.isascii() else "".join(map(_upper, text))


def lowered(text: str) -> str:
    """The text in lower case."""
    return text.lower() if text.isascii() else "".join(map(_lower, text))


def _upper(character: str) -> str:
    found = character.upper()
    return found if len(found) == 1 else character


def _lower(character: str) -> str:
    # The only character of which the lower case is two in Python.
    return "i" if character == "\u0130" else character.lower()


def cases(character: str) -> str:
    """All cases of a character, itself among them."""
    if character in _ALONE:
        return character
    known = _by_folded().get(_folded(character))
    return known or "".join({character, _upper(character), _lower(character)})


def _folded(character: str) -> str:
    return character if character in _ALONE else _lower(_upper(character))


@lru_cache(maxsize=1)
def _by_folded() -> Mapping[str, str]:
    """All cases of a character by its folded one, as far as others than its upper and its lower case are known."""
    found: dict[str, str] = {}
    for character in map(chr, range(_LAST_ODD)):
        folded = _folded(character)
        if folded != character:
            found[folded] = found.get(folded, folded) + character
    return found
