r"""Regular expressions as Prometheus has them (RE2), in time that grows with the text and never faster.

Python's ``re`` tries one way after the other, which takes exponential time for some patterns; RE2 promises that none does.
So a pattern is read here, and matched by ``re`` only where the ways to try are few; elsewhere all of them are followed at
once. Look-around, backreferences, possessive repetition, Unicode classes (``\p``) and ``(?U)`` are refused: RE2 has none of
the first three, and the tables of the others are too large. Sources: RE2, syntax; R. Cox, Regular Expression Matching.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

# RE2's own limits.
MAX_REPEAT = 1000
_MAX_PROGRAM = 2_000
_MAX_DEPTH = 100
# With more ways to try than this, following all at once is not slower.
_FEW = 65_536
_TOO_MANY = 1e30
_LAST = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]
Groups = Sequence[str | None]


class BadPattern(ValueError):
    """A pattern that RE2 refuses, or that this module does not know."""


class Chars(NamedTuple):
    """One character of some ranges."""

    ranges: Ranges


class Sequence_(NamedTuple):  # noqa: N801 - a Sequence is something else
    """One node after the other."""

    nodes: tuple["Node", ...]


class Choice(NamedTuple):
    """One of several nodes; the first that leads to a match counts."""

    nodes: tuple["Node", ...]


class Repeat(NamedTuple):
    """A node several times; ``most`` None: without end."""

    node: "Node"
    least: int
    most: int | None
    is_greedy: bool


class Group(NamedTuple):
    """A node whose text is remembered."""

    number: int
    node: "Node"


class Place(NamedTuple):
    """A place between characters, as Python's ``re`` writes it."""

    pattern: str


Node = Chars | Sequence_ | Choice | Repeat | Group | Place


class Pattern:
    """A compiled pattern, anchored at both ends.

    Attributes:
        names: the numbers of named groups.
    """

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        node = parser.parse()
        self.groups = parser.groups
        self.names = parser.names
        self._node = node
        self._program: list[tuple[object, ...]] | None = None
        if _size(node) > _MAX_PROGRAM:
            raise BadPattern("is too large once its repetitions are written out")
        self._match = re.compile(_python(node), re.DOTALL).fullmatch
        self._ways = lru_cache(maxsize=32)(lambda length: _ways(node, length))

    def fullmatch(self, text: str) -> Groups | None:
        """The text and its groups, by their numbers; None if it does not match as a whole."""
        # Rounded up, so that few lengths are looked at.
        if self._ways(1 << len(text).bit_length()) <= _FEW:
            match = self._match(text)
            return None if match is None else (match[0], *match.groups())
        return self._follow(text)

    def _follow(self, text: str) -> Groups | None:
        """Follow all ways at once; the first thread of those that are left at the end is the one that counts."""
        if self._program is None:
            self._program = _compile(self._node)
        program, end = self._program, len(text)
        slots: tuple[int | None, ...] = (None,) * (2 * self.groups + 2)
        threads = _add(program, [], set(), 0, 0, text, slots)
        for position in range(end):
            code = ord(text[position])
            following: list[tuple[int, tuple[int | None, ...]]] = []
            seen: set[int] = set()
            for place, saved in threads:
                instruction = program[place]
                if instruction[0] == "chars" and any(low <= code <= high for low, high in instruction[1]):  # type: ignore[attr-defined]  # ranges
                    _add(program, following, seen, place + 1, position + 1, text, saved)
            if not following:
                return None
            threads = following
        for place, saved in threads:
            if program[place][0] == "match":
                pairs = zip(saved[2::2], saved[3::2], strict=True)
                return (text, *(None if begin is None else text[begin:stop] for begin, stop in pairs))
        return None


def _add(  # noqa: PLR0917 - the state of a machine
    program: list[tuple[object, ...]],
    threads: list[tuple[int, tuple[int | None, ...]]],
    seen: set[int],
    place: int,
    position: int,
    text: str,
    saved: tuple[int | None, ...],
) -> list[tuple[int, tuple[int | None, ...]]]:
    """Follow what takes no character, in the order of preference."""
    waiting = [(place, saved)]
    while waiting:
        place, saved = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        kind, *operands = program[place]
        if kind == "jump":
            waiting.append((operands[0], saved))  # type: ignore[arg-type]  # a place
        elif kind == "split":
            first, second = operands
            waiting += ((second, saved), (first, saved))  # type: ignore[arg-type]  # places
        elif kind == "save":
            slot: int = operands[0]  # type: ignore[assignment]  # a number
            waiting.append((place + 1, (*saved[:slot], position, *saved[slot + 1 :])))
        elif kind == "place":
            if operands[0](text, position):  # type: ignore[operator]  # a test
                waiting.append((place + 1, saved))
        else:
            threads.append((place, saved))
    return threads


def _compile(node: Node) -> list[tuple[object, ...]]:
    program: list[tuple[object, ...]] = []
    _emit(node, program)
    program.append(("match",))
    return program


def _emit(node: Node, program: list[tuple[object, ...]]) -> None:
    if isinstance(node, Chars):
        program.append(("chars", node.ranges))
    elif isinstance(node, Sequence_):
        for part in node.nodes:
            _emit(part, program)
    elif isinstance(node, Place):
        program.append(("place", re.compile(node.pattern).match))
    elif isinstance(node, Group):
        program.append(("save", 2 * node.number))
        _emit(node.node, program)
        program.append(("save", 2 * node.number + 1))
    elif isinstance(node, Choice):
        _emit_choice(node, program)
    else:
        _emit_repeat(node, program)


def _emit_choice(node: Choice, program: list[tuple[object, ...]]) -> None:
    ends = []
    for part in node.nodes[:-1]:
        split = len(program)
        program.append(())
        _emit(part, program)
        ends.append(len(program))
        program.append(())
        program[split] = ("split", split + 1, len(program))
    _emit(node.nodes[-1], program)
    for end in ends:
        program[end] = ("jump", len(program))


def _emit_repeat(node: Repeat, program: list[tuple[object, ...]]) -> None:
    for _ in range(node.least - (node.most is None)):
        _emit(node.node, program)
    if node.most is None:
        _emit_endless(node, program)
        return
    splits = []
    for _ in range(node.most - node.least):
        splits.append(len(program))
        program.append(())
        _emit(node.node, program)
    for split in splits:
        program[split] = _split(split + 1, len(program), is_greedy=node.is_greedy)


def _emit_endless(node: Repeat, program: list[tuple[object, ...]]) -> None:
    """Once or more, and before that a way around it if it may be left out, as RE2 does: a node that is empty counts."""
    around = len(program)
    if node.least == 0:
        program.append(())
    begin = len(program)
    _emit(node.node, program)
    program.append(_split(begin, len(program) + 1, is_greedy=node.is_greedy))
    if node.least == 0:
        program[around] = _split(begin, len(program), is_greedy=node.is_greedy)


def _split(first: int, second: int, *, is_greedy: bool) -> tuple[object, ...]:
    return ("split", first, second) if is_greedy else ("split", second, first)


def _size(node: Node) -> int:
    """How many instructions a node takes."""
    if isinstance(node, (Chars, Place)):
        return 1
    if isinstance(node, Group):
        return 2 + _size(node.node)
    if isinstance(node, Repeat):
        return 2 + (_size(node.node) + 1) * max(node.least, node.most or node.least + 1)
    return sum(2 + _size(part) for part in node.nodes)


def _ways(node: Node, length: int) -> float:
    """How many ways there are, at most, to lay a node over a text."""
    if isinstance(node, (Chars, Place)):
        return 1
    if isinstance(node, Group):
        return _ways(node.node, length)
    if isinstance(node, Choice):
        return sum(_ways(part, length) for part in node.nodes)
    if isinstance(node, Sequence_):
        product: float = 1
        for part in node.nodes:
            product = min(product * _ways(part, length), _TOO_MANY)
        return product
    if node.most != 1 and _may_be_empty(node.node):
        # Python remembers another text of a group that matched nothing the last time.
        return _TOO_MANY
    inner = _ways(node.node, length)
    if node.most is None:
        return length + 1 if inner == 1 else _TOO_MANY
    counts = node.most - node.least + 1
    return min(float(inner) ** min(node.most, 100), _TOO_MANY) * counts


def _may_be_empty(node: Node) -> bool:
    if isinstance(node, Chars):
        return False
    if isinstance(node, Place):
        return True
    if isinstance(node, Group):
        return _may_be_empty(node.node)
    if isinstance(node, Repeat):
        return node.least == 0 or _may_be_empty(node.node)
    return (any if isinstance(node, Choice) else all)(_may_be_empty(part) for part in node.nodes)


def _python(node: Node) -> str:
    """The pattern as Python's ``re`` writes it."""
    if isinstance(node, Chars):
        return _python_class(node.ranges)
    if isinstance(node, Place):
        return node.pattern
    if isinstance(node, Group):
        return f"({_python(node.node)})"
    if isinstance(node, Sequence_):
        return "".join(
            f"(?:{_python(part)})" if isinstance(part, Choice) else _python(part) for part in node.nodes
        )
    if isinstance(node, Choice):
        return "|".join(_python(part) for part in node.nodes)
    most = "" if node.most is None else node.most
    return f"(?:{_python(node.node)}){{{node.least},{most}}}{'' if node.is_greedy else '?'}"


def _python_class(ranges: Ranges) -> str:
    if not ranges:
        return "(?!)"
    return "[" + "".join(f"{_escaped(low)}-{_escaped(high)}" for low, high in ranges) + "]"


def _escaped(code: int) -> str:
    return f"\\U{code:08x}"


_DIGIT: Ranges = ((0x30, 0x39),)
_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Ranges = ((0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20))
_ANY: Ranges = ((0, _LAST),)
_NOT_NEWLINE: Ranges = ((0, 9), (11, _LAST))
_POSIX: dict[str, Ranges] = {
    "alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)), "alpha": ((0x41, 0x5A), (0x61, 0x7A)), "ascii": ((0, 0x7F),),
    "blank": ((9, 9), (0x20, 0x20)), "cntrl": ((0, 0x1F), (0x7F, 0x7F)), "digit": _DIGIT, "graph": ((0x21, 0x7E),),
    "lower": ((0x61, 0x7A),), "print": ((0x20, 0x7E),), "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((9, 13), (0x20, 0x20)), "upper": ((0x41, 0x5A),), "word": _WORD,
    "xdigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
}  # fmt: skip
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_PLACES = {"A": r"\A", "z": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}
_repetition = re.compile(r"\{([0-9]{1,4})(,([0-9]{0,4}))?\}").match
_group_head = re.compile(r"\?(?:P?<([A-Za-z0-9_]+)>|([ims]*)(-[ims]+)?(:|\)))").match
_hexadecimal = re.compile(r"x(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))").match


_quotation = re.compile(r"\\(?:Q(.*?)(?:\\E|$)|.)", re.DOTALL).sub


def _without_quotation(match: re.Match[str]) -> str:
    r"""Write ``\Q…\E`` with an escape for each character."""
    if match[1] is None:
        return match[0]
    return "".join(
        letter if letter.isalnum() or not letter.isascii() else f"\\{letter}" for letter in match[1]
    )


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
    """Both cases of each character; of large ranges, those of ASCII."""
    found = set(ranges)
    for low, high in ranges:
        for code in range(low, min(high, low + 3000) + 1):
            for other in (chr(code).lower(), chr(code).upper()):
                if len(other) == 1:
                    found.add((ord(other), ord(other)))
    return tuple(sorted(found))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = _quotation(_without_quotation, text) if "\\Q" in text else text
        self._position = 0
        self._flags = frozenset[str]()
        self._depth = 0
        self.groups = 0
        self.names: dict[str, int] = {}

    def parse(self) -> Node:
        node = self._choice()
        if self._position < len(self._text):
            raise BadPattern("has a closing parenthesis too many")
        return node

    def _rest(self, length: int = 1) -> str:
        return self._text[self._position : self._position + length]

    def _choice(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise BadPattern("is nested too deeply")
        flags, nodes = self._flags, [self._sequence()]
        while self._rest() == "|":
            self._position += 1
            nodes.append(self._sequence())
        self._flags = flags
        self._depth -= 1
        return nodes[0] if len(nodes) == 1 else Choice(tuple(nodes))

    def _sequence(self) -> Node:
        nodes: list[Node] = []
        while (character := self._rest()) and character not in "|)":
            if character in "*+?":
                raise BadPattern("repeats nothing")
            node = self._atom()
            if node is not None:
                nodes.append(self._repeated(node))
        return Sequence_(tuple(nodes))

    def _repeated(self, node: Node) -> Node:
        counts = self._counts()
        if counts is None:
            return node
        is_greedy = self._rest() != "?"
        self._position += not is_greedy
        if self._counts() is not None:
            raise BadPattern("repeats a repetition: put it in a group")
        return Repeat(node, *counts, is_greedy)

    def _counts(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if self._rest() in simple:
            self._position += 1
            return simple[self._text[self._position - 1]]
        match = _repetition(self._text, self._position)
        if match is None:
            return None
        self._position = match.end()
        least = int(match[1])
        most = least if match[2] is None else int(match[3]) if match[3] else None
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
            raise BadPattern(f"has a repetition that is no {{n}}, {{n,}} or {{n,m}} of up to {MAX_REPEAT}")
        return least, most

    def _atom(self) -> Node | None:
        character = self._rest()
        self._position += 1
        if character == "(":
            return self._group()
        if character == "[":
            return self._chars(self._class())
        if character == ".":
            return Chars(_ANY if "s" in self._flags else _NOT_NEWLINE)
        if character == "^":
            return Place("(?m:^)" if "m" in self._flags else r"\A")
        if character == "$":
            return Place("(?m:$)" if "m" in self._flags else r"\Z")
        if character == "\\":
            return self._escape()
        return self._chars(((ord(character), ord(character)),))

    def _chars(self, ranges: Ranges) -> Node:
        return Chars(_folded(ranges) if "i" in self._flags else ranges)

    def _group(self) -> Node | None:
        flags, number = self._flags, 0
        if self._rest() == "?":
            match = _group_head(self._text, self._position)
            if match is None:
                raise BadPattern("has a group that RE2 does not know: look-around and the like are refused")
            self._position = match.end()
            name, on, off, end = match.groups()
            if name is None:
                self._flags = (flags | set(on or "")) - set(off or "")
                if end == ")":
                    return None
            elif name in self.names:
                raise BadPattern("names a group twice")
            else:
                self.groups += 1
                number = self.names[name] = self.groups
        else:
            self.groups += 1
            number = self.groups
        node = self._choice()
        if self._rest() != ")":
            raise BadPattern("has a group without an end")
        self._position += 1
        self._flags = flags
        return Group(number, node) if number else Sequence_((node,))

    def _escape(self) -> Node:
        character = self._rest()
        if character in _PLACES and character:
            self._position += 1
            return Place(_PLACES[character])
        return self._chars(self._escaped())

    def _escaped(self) -> Ranges:
        """The characters for which an escape stands, after its backslash."""
        character = self._rest()
        self._position += 1
        if character.lower() in _CLASSES and character:
            ranges = _CLASSES[character.lower()]
            return ranges if character.islower() else _negated(ranges)
        if character in _CONTROLS and character:
            return ((_CONTROLS[character], _CONTROLS[character]),)
        if character == "x":
            match = _hexadecimal(self._text, self._position - 1)
            code = int(match[1] or match[2], 16) if match else _LAST + 1
            if match and code <= _LAST:
                self._position = match.end()
                return ((code, code),)
        elif character and not character.isalnum() and character.isascii():
            return ((ord(character), ord(character)),)
        raise BadPattern(f"has an escape that is not known here: \\{character}")

    def _class(self) -> Ranges:
        is_negated = self._rest() == "^"
        self._position += is_negated
        ranges: list[tuple[int, int]] = []
        is_first = True
        while (character := self._rest()) != "]" or is_first:
            if not character:
                raise BadPattern("has a class without an end")
            is_first = False
            found = self._class_part()
            if (
                len(found) == 1
                and found[0][0] == found[0][1]
                and self._rest() == "-"
                and self._rest(2) != "-]"
            ):
                self._position += 1
                upper = self._class_part()
                if len(upper) != 1 or upper[0][0] != upper[0][1] or upper[0][0] < found[0][0]:
                    raise BadPattern("has a range of characters that is none")
                found = ((found[0][0], upper[0][0]),)
            ranges += found
        self._position += 1
        whole = _folded(tuple(ranges)) if "i" in self._flags else tuple(ranges)
        return _negated(whole) if is_negated else tuple(sorted(whole))

    def _class_part(self) -> Ranges:
        character = self._rest()
        if self._rest(2) == "[:":
            end = self._text.find(":]", self._position)
            name = self._text[self._position + 2 : max(end, self._position)]
            if name.removeprefix("^") not in _POSIX:
                raise BadPattern("has a class of characters that is not known")
            self._position = end + 2
            posix = _POSIX[name.removeprefix("^")]
            return _negated(posix) if name.startswith("^") else posix
        self._position += 1
        if character == "\\":
            return self._escaped()
        if not character:
            raise BadPattern("has a class without an end")
        return ((ord(character), ord(character)),)
