"""A secret that cannot be printed by accident, and a safe description of any other setting's value."""

import hmac
import re

# A word or a number: shorter than keys and tokens, and without the special characters of a URL.
_HARMLESS = re.compile(r"[\w.,+* -]{1,24}")


def describe_value(value: str) -> str:
    """Describe a setting's value in an error message without leaking a secret.

    The same rule for all settings: a value that may be a part of a URL may hold a password anywhere.
    """
    return f'is "{value}"' if is_harmless(value) else "cannot be used"


def is_harmless(value: str) -> bool:
    """Whether a setting's value can be shown."""
    return _HARMLESS.fullmatch(value) is not None


def is_plain(text: str) -> bool:
    """Whether a text can be used as a key and in a header."""
    return text.isascii() and text.isprintable() and " " not in text


class Secret:
    """A secret: printing, formatting or logging it shows three stars; only ``reveal`` returns its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")
