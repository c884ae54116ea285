"""A number, or its digits → a whole number, where whoever wrote it may have written anything."""

from typing import Any

# As many as 64 bits take. ``int`` takes long for thousands of them, and raises for more.
_MOST_DIGITS = 20
_BEYOND = 2**64


def whole(value: Any) -> int | None:
    """A whole number that is not negative, also as ASCII digits; None for anything else, and for more than 64 bits hold."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
        value = int(value)
    return value if type(value) is int and 0 <= value < _BEYOND else None
