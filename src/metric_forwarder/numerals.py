"""Digits → a whole number, where whoever wrote them may have written anything."""

from typing import Any

# As many as 64 bits hold. ``int`` takes long for thousands of them, and raises for more.
_MOST_DIGITS = 20


def whole(text: Any) -> int | None:
    """The number that a text of ASCII digits writes; None for anything else, and for more than 64 bits hold."""
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    return None
