"""Reads unsigned 64-bit integers from outside, where any value is possible."""

from typing import Any

# The digits of the largest 64-bit number. ``int`` is slow for thousands of digits, and raises for more.
_MOST_DIGITS = 20
LIMIT = 2**64


def parse_uint64(value: Any) -> int | None:
    """Read an unsigned 64-bit integer, given as a number or as ASCII digits; return None for anything else."""
    if type(value) is not int:
        if not (
            isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
        ):
            return None
        value = int(value)
    return value if 0 <= value < LIMIT else None
