"""Patterns of RE2, made by chance."""

import random

ATOMS = (
    "a",
    "b",
    "[a-c]",
    "[^a]",
    ".",
    r"\d",
    r"\w",
    r"\.",
    "prod",
    "Prod",
    "(?i:PROD)",
    "(?i:stras+ek)",
    ";",
    "-",
    ":",
    r"\s",
    "[[:alpha:]]",
    "é",
    r"\S",
)
REPEATS = ("", "", "", "*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{0,}", "{01}")


def pattern(chance: random.Random, depth: int = 0) -> str:
    """A pattern of RE2."""
    if depth == 0 and chance.random() < 0.3:
        return chance.choice(
            (
                ".*",
                "(.*)",
                ".+",
                "(.+)-(.+)",
                "(?P<named>[^:]+):(.*)",
                "prod|a",
                "(a|b)*",
                "^a$",
                "a(.*)c",
                "",
                "(?:(a+)b?)+",
                ".*;.*",
                "(\\w+);(.*)",
            )
        )
    parts = []
    for _ in range(chance.randint(1, 3)):
        kind = chance.random()
        if kind < 0.6 or depth > 1:
            part = chance.choice(ATOMS)
            part = f"(?:{part})" if len(part) > 1 and part.isalpha() else part
        elif kind < 0.8:
            part = f"({pattern(chance, depth + 1)})"
        else:
            part = f"(?:{pattern(chance, depth + 1)}|{pattern(chance, depth + 1)})"
        repeat = chance.choice(REPEATS)
        # What may match nothing is not repeated without end: engines differ in what they remember of it.
        if depth and repeat.startswith(("*", "+", "{")) and part.endswith(")"):
            repeat = ""
        parts.append(part + repeat)
    return "".join(parts)
