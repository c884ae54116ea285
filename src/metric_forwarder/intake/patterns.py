r"""Patterns of JSON Schema, which are written for ECMA 262, as Python's ``re`` understands them.

Where the two differ, the standard is followed: ``$`` matches only at the end, not before a last line
break, ``\d`` and ``\w`` are ASCII, ``\s`` has all spaces of Unicode. What Python cannot express raises ``re.error``.
"""

import re
from functools import lru_cache

_SPACES = r"\s\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_token = re.compile(
    r"\\u\{([0-9a-fA-F]+)\}|\\c([A-Za-z])|\\k<(\w+)>|\\(.)|\(\?<(\w+)>|\[\^?\]?|.", re.DOTALL
).match
_OUTSIDE = {"$": r"\Z", ".": r"[^\n\r\u2028\u2029]", "[]": "(?!)", "[^]": r"[\s\S]"}
_ESCAPES = {"A": "A", "Z": "Z", "s": f"[{_SPACES}]", "S": f"[^{_SPACES}]"}
_ESCAPES_INSIDE = {"A": "A", "Z": "Z", "s": _SPACES}


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; raises ``re.error``, or another error of ``re``, if it cannot be compiled."""
    return re.compile(f"(?a:{translate(pattern)})")


def translate(pattern: str) -> str:
    """Translate a pattern of ECMA 262 for Python."""
    written: list[str] = []
    position, is_inside = 0, False
    while match := _token(pattern, position):
        position = match.end()
        token = match[0]
        point, control, reference, escape, group = match.groups()
        if point or control:
            written.append(f"\\U{int(point, 16) if point else ord(control) % 32:08x}")
        elif reference:
            written.append(f"(?P={reference})")
        elif escape:
            written.append((_ESCAPES_INSIDE if is_inside else _ESCAPES).get(escape, token))
        elif group and not is_inside:
            written.append(f"(?P<{group}>")
        elif is_inside:
            # "[" has no meaning inside a class; the token may end with the "]" that closes it.
            is_inside = not token.endswith("]")
            written.append(token.replace("[", r"\["))
        elif token in _OUTSIDE:
            written.append(_OUTSIDE[token])
        else:
            is_inside = token[0] == "["
            written.append(token)
    return "".join(written)
