r"""Regular expressions as Prometheus has them (RE2), in time that grows with the text and never faster.

Python's ``re`` tries one way after the other, which takes exponential time for some patterns; RE2 promises that none does.
So a pattern is read here, and matched by ``re`` only where the ways to try are few; elsewhere all of them are followed at
once. Look-around, backreferences, possessive repetition, Unicode classes (``\p``) and ``(?U)`` are refused: RE2 has none of
the first three, and the tables of the others are too large. Sources: RE2, syntax; R. Cox, Regular Expression Matching.
"""

import math
import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

from metric_forwarder.intake.simple_case import cases

# RE2's own limit.
MAX_REPEAT = 1000
# Steps that are followed at once, at most, and steps of a pattern that is always matched by ``re``.
_MAX_PROGRAM, _MAX_WRITTEN = 2_000, 10_000
_MAX_DEPTH = 100
# With more ways to try than this, following all at once is not slower.
_FEW = 65_536
_TOO_MANY = _FEW + 1
_LAST = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]
Groups = Sequence[str | None]
# Where a way stands in the program, and where its groups begin and end.
_Thread = tuple[int, tuple[int | None, ...]]


class BadPattern(ValueError):
    """A pattern that RE2 refuses, or that this module does not know."""


class _Step(NamedTuple):
    """A step of the program that follows all ways at once.

    Attributes:
        takes: the character that it takes, as ranges; None: it takes none.
        looks: the place between characters where it must be, as Python's ``re`` writes it; empty: anywhere.
        slot: where it remembers its position, as the begin or end of a group.
        then: the next steps, counted from this one; the first that leads to a match counts.
    """

    takes: Ranges | None = None
    looks: str = ""
    slot: int | None = None
    then: tuple[int, ...] = (1,)


class _Part(NamedTuple):
    """A part of a pattern.

    Attributes:
        pattern: as Python's ``re`` writes it.
        program: its steps.
        factor: there are at most ``factor * (length + 1) ** power`` ways to lay it over a text.
    """

    pattern: str
    program: tuple[_Step, ...]
    may_be_empty: bool
    factor: int = 1
    power: int = 0


class Pattern:
    """A compiled pattern, anchored at both ends.

    Attributes:
        names: the numbers of named groups.
    """

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        part = parser.parse()
        self.names = parser.names
        # The last step takes no character: who reaches it at the end of the text matches.
        self._program = (*part.program, _Step(takes=()))
        self._no_groups: tuple[int | None, ...] = (None,) * (2 * parser.groups)
        self._match = re.compile(part.pattern, re.DOTALL).fullmatch
        # The longest text for which there are few ways.
        self._longest = (_FEW / part.factor) ** (1 / part.power) - 1 if part.power else math.inf
        if part.factor > _FEW:
            self._longest = -1
        if len(self._program) > _MAX_PROGRAM and self._longest < math.inf:
            raise BadPattern(_TOO_LARGE)

    def fullmatch(self, text: str) -> Groups | None:
        """The text and its groups, by their numbers; None if it does not match as a whole."""
        if len(text) > self._longest:
            return self._follow(text)
        match = self._match(text)
        return None if match is None else (match[0], *match.groups())

    def _follow(self, text: str) -> Groups | None:
        """Follow all ways at once; the first thread of those that are left at the end is the one that counts."""
        threads = self._reach([(0, self._no_groups)], text, 0)
        for position, code in enumerate(map(ord, text), 1):
            took = [
                (place + 1, saved)
                for place, saved in threads
                if any(low <= code <= high for low, high in self._program[place].takes or ())
            ]
            if not took:
                return None
            threads = self._reach(took, text, position)
        for place, saved in threads:
            if place == len(self._program) - 1:
                pairs = zip(saved[::2], saved[1::2], strict=True)
                return (text, *(None if begin is None else text[begin:end] for begin, end in pairs))
        return None

    def _reach(self, threads: list[_Thread], text: str, position: int) -> list[_Thread]:
        """Go on with threads, in the order of preference, to the steps that take the next character."""
        reached: list[_Thread] = []
        seen: set[int] = set()
        waiting = threads[::-1]
        while waiting:
            place, saved = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            takes, looks, slot, then = self._program[place]
            if takes is not None:
                reached.append((place, saved))
            elif re.compile(looks).match(text, position):
                if slot is not None:
                    saved = (*saved[:slot], position, *saved[slot + 1 :])
                waiting += [(place + step, saved) for step in reversed(then)]
        return reached


def _chars(ranges: Ranges) -> _Part:
    """One character of some ranges."""
    members = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
    return _Part(f"[{members}]" if ranges else "(?!)", (_Step(takes=ranges),), may_be_empty=False)


def _sequence(parts: Sequence[_Part]) -> _Part:
    return _Part(
        "".join(part.pattern for part in parts),
        tuple(chain.from_iterable(part.program for part in parts)),
        all(part.may_be_empty for part in parts),
        math.prod(part.factor for part in parts),
        sum(part.power for part in parts),
    )


def _choice(parts: Sequence[_Part]) -> _Part:
    """One of several parts; the first that leads to a match counts."""
    starts: list[int] = []
    steps: list[_Step] = []
    end = sum(len(part.program) + 1 for part in parts)
    for part in parts:
        starts.append(1 + len(steps))
        steps += part.program
        steps.append(_Step(then=(end - len(steps),)))
    return _Part(
        f"(?:{'|'.join(part.pattern for part in parts)})",
        (_Step(then=tuple(starts)), *steps),
        any(part.may_be_empty for part in parts),
        sum(part.factor for part in parts),
        max(part.power for part in parts),
    )


def _group(part: _Part, number: int) -> _Part:
    """A part whose text is remembered."""
    slot = 2 * number - 2
    return part._replace(
        pattern=f"({part.pattern})", program=(_Step(slot=slot), *part.program, _Step(slot=slot + 1))
    )


def _repeat(part: _Part, least: int, most: int | None, *, is_greedy: bool) -> _Part:
    """A part several times; ``most`` None: without end."""

    def split(inside: int, past: int) -> _Step:
        return _Step(then=(inside, past) if is_greedy else (past, inside))

    size = len(part.program)
    if size * max(least, most or 0) > _MAX_WRITTEN:
        raise BadPattern(_TOO_LARGE)
    if most is None:
        # Once or more, and before that a way around it if it may be left out, as RE2 does: a part that is empty counts.
        program = (*part.program * max(least, 1), split(-size, 1))
        program = program if least else (split(1, len(program) + 1), *program)
    else:
        optional = [(split(1, left * (size + 1)), *part.program) for left in range(most - least, 0, -1)]
        program = (*part.program * least, *chain.from_iterable(optional))
    factor, power = _TOO_MANY, 0
    # Python remembers another text of a group that matched nothing the last time.
    if most == 1 or not part.may_be_empty:
        if most is not None:
            factor, power = part.factor**most * (most - least + 1), part.power * most
        elif (part.factor, part.power) == (1, 0):
            factor, power = 1, 1
    pattern = f"(?:{part.pattern}){{{least},{'' if most is None else most}}}{'' if is_greedy else '?'}"
    return _Part(pattern, program, least == 0 or part.may_be_empty, factor, power)


def _negated(ranges: Ranges) -> Ranges:
    found, begin = [], 0
    for low, high in sorted(ranges):
        if low > begin:
            found.append((begin, low - 1))
        begin = max(begin, high + 1)
    if begin <= _LAST:
        found.append((begin, _LAST))
    return tuple(found)


def _folded(ranges: Ranges) -> Ranges:
    """All cases of each character; of a large range, those of its first characters."""
    found = set(ranges)
    for low, high in ranges:
        for code in range(low, min(high, low + 3000) + 1):
            found.update((ord(other), ord(other)) for other in cases(chr(code)))
    return tuple(sorted(found))


def _pairs(text: str) -> Ranges:
    """Ranges, written as the first and last character of each."""
    return tuple(zip(map(ord, text[::2]), map(ord, text[1::2]), strict=True))


def _with_negated(classes: dict[str, Ranges], negated: Callable[[str], str]) -> dict[str, Ranges]:
    return classes | {negated(name): _negated(ranges) for name, ranges in classes.items()}


_CLASSES = {"d": _pairs("09"), "w": _pairs("09AZ__az"), "s": _pairs("\t\n\f\r  ")}
_CONTROLS = {name: _pairs(2 * character) for name, character in zip("aftnrv", "\a\f\t\n\r\v", strict=True)}
_ESCAPES = _with_negated(_CLASSES, str.upper) | _CONTROLS
_POSIX = _with_negated(
    {
        "alnum": _pairs("09AZaz"), "alpha": _pairs("AZaz"), "ascii": _pairs("\0\x7f"), "blank": _pairs("\t\t  "),
        "cntrl": _pairs("\0\x1f\x7f\x7f"), "digit": _CLASSES["d"], "graph": _pairs("!~"), "lower": _pairs("az"),
        "print": _pairs(" ~"), "punct": _pairs("!/:@[`{~"), "space": _pairs("\t\r  "), "upper": _pairs("AZ"),
        "word": _CLASSES["w"], "xdigit": _pairs("09AFaf"),
    },
    "^{}".format,
)  # fmt: skip
_ANY: Ranges = ((0, _LAST),)
# Before Python 3.14, \\B does not match an empty text.
_PLACES = {"^": r"\A", "$": r"\Z", r"\A": r"\A", r"\z": r"\Z", r"\b": r"(?a:\b)", r"\B": r"(?a:(?!\b))"}
_SIGNS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_quotation = re.compile(r"\\(?:Q(.*?)(?:\\E|$)|.)", re.DOTALL).sub
# Braces around a number with a leading zero are braces.
_repetition = re.compile(r"([*+?])|\{(0|[1-9][0-9]{0,8})(,(0|[1-9][0-9]{0,8})?)?\}").match
_flag_group = re.compile(r"\(\?(?P<on>[ims]*)(?P<off>-[ims]+)?\)").match
_group_head = re.compile(r"\?(?:P?<([A-Za-z0-9_]+)>|(?P<on>[ims]*)(?P<off>-[ims]+)?:)|(?!\?)").match
_place = re.compile(r"[\^$]|\\[AzbB]").match
_hexadecimal = re.compile(r"x(?:\{(10[0-9A-Fa-f]{4}|0?[0-9A-Fa-f]{1,5})\}|([0-9A-Fa-f]{2}))").match
_posix = re.compile(r"\[:(\^?[a-z]+):\]").match
_hyphen = re.compile(r"-(?!\])").match
_TOO_LARGE = "is too large once its repetitions are written out: use smaller counts"


def _without_quotation(match: re.Match[str]) -> str:
    r"""Write ``\Q…\E`` with an escape for each character."""
    return match[0] if match[1] is None else re.escape(match[1])


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = _quotation(_without_quotation, text)
        self._position = 0
        self._flags = frozenset[str]()
        self._depth = 0
        self.groups = 0
        self.names: dict[str, int] = {}

    def parse(self) -> _Part:
        part = self._choice()
        if self._next:
            raise BadPattern("has a closing parenthesis too many")
        return part

    @property
    def _next(self) -> str:
        """The next character; empty at the end."""
        return self._text[self._position : self._position + 1]

    def _take(self, matches: Callable[[str, int], re.Match[str] | None]) -> re.Match[str] | None:
        """Take what matches here."""
        match = matches(self._text, self._position)
        self._position = match.end() if match else self._position
        return match

    def _takes(self, character: str) -> bool:
        """Take this character, if it is the next one."""
        is_next = self._next == character
        self._position += is_next
        return is_next

    def _choice(self) -> _Part:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise BadPattern("is nested too deeply")
        flags, parts = self._flags, [self._sequence()]
        while self._takes("|"):
            parts.append(self._sequence())
        self._flags = flags
        self._depth -= 1
        return parts[0] if len(parts) == 1 else _choice(parts)

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self._next and self._next not in "|)":
            if self._take(_repetition):
                raise BadPattern("repeats nothing")
            if not self._takes_flags():
                part = self._atom()
                # What comes behind flags repeats the part before them.
                while self._takes_flags():
                    pass
                parts.append(self._repeated(part))
        return _sequence(parts)

    def _takes_flags(self) -> bool:
        match = self._take(_flag_group)
        if match:
            self._set_flags(match)
        return match is not None

    def _set_flags(self, match: re.Match[str]) -> None:
        self._flags = (self._flags | set(match["on"])) - set(match["off"] or "")

    def _repeated(self, part: _Part) -> _Part:
        counts = self._counts()
        if counts is None:
            return part
        is_greedy = not self._takes("?")
        if self._counts() is not None:
            raise BadPattern("repeats a repetition: put it in a group")
        return _repeat(part, *counts, is_greedy=is_greedy)

    def _counts(self) -> tuple[int, int | None] | None:
        match = self._take(_repetition)
        if match is None or match[1]:
            return _SIGNS[match[1]] if match else None
        least = int(match[2])
        most = least if match[3] is None else int(match[4]) if match[4] else None
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
            raise BadPattern(f"has a repetition that is no {{n}}, {{n,}} or {{n,m}} of up to {MAX_REPEAT}")
        return least, most

    def _atom(self) -> _Part:
        if self._takes("("):
            return self._group()
        if self._takes("["):
            return _chars(self._class())
        if self._takes("."):
            return _chars(_ANY if "s" in self._flags else _negated(_CONTROLS["n"]))
        if match := self._take(_place):
            place = match[0]
            looks = f"(?m:{place})" if place in "^$" and "m" in self._flags else _PLACES[place]
            return _Part(looks, (_Step(looks=looks),), may_be_empty=True)
        return _chars(self._in_both_cases(self._character()))

    def _in_both_cases(self, ranges: Ranges) -> Ranges:
        """Both cases of characters, where the flags say so."""
        return _folded(ranges) if "i" in self._flags else ranges

    def _group(self) -> _Part:
        """A group, after its opening parenthesis."""
        flags, number = self._flags, 0
        head = self._take(_group_head)
        if head is None:
            raise BadPattern("has a group that RE2 does not know: look-around and the like are refused")
        if head["on"] is not None:
            self._set_flags(head)
        else:
            self.groups = number = self.groups + 1
            if head[1] in self.names:
                raise BadPattern("names a group twice")
            if head[1]:
                self.names[head[1]] = number
        part = self._choice()
        if not self._takes(")"):
            raise BadPattern("has a group without an end")
        self._flags = flags
        return _group(part, number) if number else part

    def _character(self) -> Ranges:
        """A character, or those for which an escape stands."""
        character = self._next
        self._position += 1
        if character != "\\":
            return _pairs(2 * character)
        if match := self._take(_hexadecimal):
            return _pairs(2 * chr(int(match[1] or match[2], 16)))
        escaped = self._next
        self._position += 1
        if escaped in _ESCAPES:
            return _ESCAPES[escaped]
        if escaped and escaped.isascii() and not escaped.isalnum():
            return _pairs(2 * escaped)
        raise BadPattern(f"has an escape that is not known here: \\{escaped}")

    def _class(self) -> Ranges:
        """A class of characters, after its opening bracket."""
        is_negated = self._takes("^")
        ranges = [*self._class_range()]
        while not self._takes("]"):
            ranges += self._class_range()
        whole = self._in_both_cases(tuple(ranges))
        return _negated(whole) if is_negated else whole

    def _class_range(self) -> Ranges:
        low = self._class_part()
        if not _is_single(low) or not self._take(_hyphen):
            return low
        high = self._class_part()
        if not _is_single(high) or high < low:
            raise BadPattern("has a range of characters that is none")
        return ((low[0][0], high[0][1]),)

    def _class_part(self) -> Ranges:
        if not self._next:
            raise BadPattern("has a class without an end")
        if not self._text.startswith("[:", self._position):
            return self._character()
        match = self._take(_posix)
        if match is None or match[1] not in _POSIX:
            raise BadPattern("has a class of characters that is not known")
        return _POSIX[match[1]]


def _is_single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]
