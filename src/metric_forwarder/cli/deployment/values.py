"""What values of ``serverless.yml`` must be; what is wrong with one is said without the value itself, which may be a secret."""

import re
from typing import Any

A_SWITCH = "true or false"
_ON = frozenset({"1", "true", "yes", "y", "on"})
_OFF = frozenset({"", "0", "false", "no", "n", "off"})
# What reading a value of another shape raises.
MISREAD = (AttributeError, KeyError, TypeError, ValueError)


class BadValue(ValueError):
    """A value that cannot be deployed; the text says what is wrong with it, and what would be right."""


def misread(error: Exception) -> str:
    if isinstance(error, BadValue):
        return str(error)
    if isinstance(error, KeyError):
        return f"lacks {error.args[0]}"
    return "cannot be read: write it as the project's own serverless.yml does, and a text in quotes"


def only(members: Any, *known: str) -> Any:
    """The members; raises ``BadValue`` for one that is not known, since it would be left out."""
    unknown = sorted(map(str, members.keys() - set(known)))
    if unknown:
        raise BadValue(
            f"has {unknown[0]}, which would be ignored: correct it to one of {', '.join(known)}, or remove it"
        )
    return members


def text_of(value: Any) -> str:
    """A value that must be a text; a whole number may be a name. Others would be another text than what is written."""
    if isinstance(value, str) or type(value) is int:
        return str(value)
    raise TypeError


def whole(value: Any, minimum: int, maximum: int = 999_999_999) -> int:
    """A whole number; a reference to a variable makes it a text."""
    is_whole = type(value) is int or (isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value))
    if not is_whole or not minimum <= int(value) <= maximum:
        raise BadValue(f"has a value that is no whole number from {minimum} to {maximum}: correct it")
    return int(value)


def is_enabled(value: Any) -> bool:
    """Whether a switch is on; raises ``BadValue`` if it is neither on nor off."""
    if is_misspelt_switch(value):
        raise BadValue(f"has a word that is neither on nor off: write {A_SWITCH}")
    return value.strip().lower() in _ON if isinstance(value, str) else bool(value)


def is_misspelt_switch(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() not in _ON | _OFF
