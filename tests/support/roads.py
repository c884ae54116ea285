"""Two roads lead into the intake, and they must say the same of every text: texts to try it with, and the comparison."""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from itertools import count
from typing import Any, TypeVar

from metric_forwarder.intake.given_times import GivenTimes
from metric_forwarder.intake.intake import Intake
from metric_forwarder.intake.making import make_intake_parts
from metric_forwarder.intake.points import IntakeParts
from metric_forwarder.intake.series import MAX_CACHE_BYTES, SeriesCache
from metric_forwarder.model import Message, Outcome
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.settings.settings import Settings
from support.fakes import START, FakeClock
from support.harness import environ, remote_write_environ

DESTINATIONS = {
    "receiver": environ(),
    "remote-write": remote_write_environ(),
    "no namespace": remote_write_environ(NAMESPACE=""),
}
NEXT = ',"metric_forwarder: next message",'

SCALARS: tuple[Any, ...] = (
    *(None, True, False, -3, 0, 3, 0.5, float("nan"), float("inf"), 10**400, 1e999, 2**64, -0.0, 1e14),
    *(1_767_225_600, 1_767_225_600_123, 1_767_225_600.25),
    *(
        "",
        "a",
        "b",
        '":',
        '\\":',
        '"',
        "metric_forwarder: next message",
        "x" * 1025,
        "ä",
        "\ud800",
        " :",
        "\t:",
    ),
    *(
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.1234567+08:00",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:60Z",
    ),
)
_NAMES = ("m", "n", "a", "b")
_VALUES = ("x", "y", "x:y", 1, 1.0, True, "1")
_OPTIONAL: dict[str, tuple[Any, ...]] = {
    "namespace": ("pc", "other", None, "", 1),
    "timestamp": SCALARS,
    "id": SCALARS,
    "extra": SCALARS,
}

# What is no longer JSON, or says something else, by a character that is missing or too many.
MISSPELT: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace(":", " :", 1),
    lambda text: text.replace('"value":', '"value":1,"value":', 1),
    lambda text: text.replace('"value":', '"value" :1,"value":', 1),
    lambda text: text.replace("{", '{"metricName":"m",', 1),
    lambda text: text[:-1],
    lambda text: text + "]",
    lambda text: "[" + text,
    lambda text: text + text,
    lambda text: text + "\n" + text,
    lambda text: text + "," + text,
    lambda text: text + NEXT + text,
    lambda text: "\ufeff" + text,
    lambda text: f" {text}\n",
    json.dumps,
    lambda _text: "",
)

_CUTS = ("", *'{}[]",:\\ 0e-\n')
_T = TypeVar("_T")


class Texts:
    """Makes messages of our own JSON, good and bad, and always the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def batch(self) -> list[str]:
        """The texts of a few messages."""
        return [self.text() for _ in range(self._random.randint(1, 5))]

    def text(self) -> str:
        separators = self._one((",", ":"), (", ", ": "), (",", " :"))
        indent = 1 if self._is(0.2) else None
        text = json.dumps(self._payload(), separators=separators, indent=indent)
        if self._is(0.4):
            misspell = self._random.choice(MISSPELT)
            text = misspell(text)
        return self._cut(text) if self._is(0.1) else text

    def _payload(self) -> Any:
        if self._is(0.5):
            return self._point()
        points = [
            self._point() if self._is(0.8) else self._value() for _ in range(self._random.randint(0, 4))
        ]
        if self._is(0.4):
            return points
        if self._is(0.2):
            return self._value()
        envelope: dict[str, Any] = {self._one("points", "Data"): points}
        for name, values in (
            ("namespace", ("pc", 1)),
            ("Namespace", ("pc",)),
            ("dimensions", (self._dimensions(), self._scalar())),
            ("Region", ("gz",)),
        ):
            if self._is(0.3):
                envelope[name] = self._one(*values)
        return envelope

    def _point(self) -> Any:
        value = self._one(self._random.randint(-9, 9), self._random.random(), 1e999, True, "1")
        point = {"metricName": self._one(*_NAMES), "dimensions": self._dimensions(), "value": value}
        for name, values in _OPTIONAL.items():
            if self._is(0.15):
                point[name] = self._one(*values)
        if self._is(0.05):
            del point[self._one(*point)]
        return point

    def _dimensions(self) -> dict[str, Any]:
        return {self._one(*_NAMES): self._one(*_VALUES) for _ in range(self._random.randint(0, 3))}

    def _value(self, depth: int = 0) -> Any:
        if depth == 3 or self._is(0.4):
            return self._scalar()
        inner = [self._value(depth + 1) for _ in range(self._random.randint(0, 3))]
        names = ("a", "dimensions", "points", "Data", "value")
        return inner if self._is(0.5) else {self._one(*names): value for value in inner}

    def _cut(self, text: str) -> str:
        """The text with something else, or nothing, in place of a character."""
        place = self._random.randrange(len(text) + 1)
        other: str = self._random.choice(_CUTS)
        return text[:place] + other + text[place + 1 :]

    def _scalar(self) -> Any:
        return self._one(*SCALARS)

    def _one(self, *values: _T) -> _T:
        return self._random.choice(values)

    def _is(self, share: float) -> bool:
        return self._random.random() < share


class Roads:
    """Both roads of an instance with these settings.

    Args:
        is_explained: whether it is said what is wrong with points.
        series_bytes: how much of series is remembered.
    """

    def __init__(
        self, settings: dict[str, str], *, is_explained: bool = True, series_bytes: int = MAX_CACHE_BYTES
    ) -> None:
        parts = make_intake_parts(Settings.read(settings), FakeClock())
        self._series_bytes = series_bytes
        # To explain what is wrong takes most of the time, and is no matter of roads.
        self._parts = parts if is_explained else parts._replace(rules=parts.rules._replace(max_explained=0))

    def fast(self, texts: Sequence[str]) -> Any:
        """All messages at once, twice: the second time every valid series is known."""
        intake, ledger = self._fresh(self._parts)
        messages = [Message("s", text, f"c{number}") for number, text in enumerate(texts)]
        intake.take_all(messages)
        intake.take_all(messages)
        return _told(intake), len(intake.stale), ledger.outcomes(), ledger.problems

    def careful(self, texts: Sequence[str]) -> Any:
        """Each message by itself on an instance that recognises no series, so that each point is validated alone; twice, too."""
        points, stale, problems = [], 0, []
        schema = copy(self._parts.point_schema)
        schema.takes_any_number = False
        parts = self._parts._replace(point_schema=schema)
        outcomes: Counter[Outcome] = Counter(dict.fromkeys(Outcome, 0))
        for number, text in enumerate(texts):
            intake, ledger = self._fresh(parts)
            list(intake._take_carefully(Message("s", text, f"c{number}")))
            points += _told(intake)
            stale += len(intake.stale)
            problems += ledger.problems
            outcomes.update(ledger.outcomes())
        return points * 2, stale * 2, {name: times * 2 for name, times in outcomes.items()}, problems * 2

    def _fresh(self, parts: IntakeParts) -> tuple[Intake, Ledger]:
        ledger = Ledger(max_problems=10_000)
        parts = parts._replace(series=SeriesCache(self._series_bytes), given_times=GivenTimes())
        return Intake(parts, ledger, round(START * 1000)), ledger


def compare(seed: int, messages: int) -> int:
    """Take at least so many messages by both roads, and compare; return how many points there were.

    Raises:
        AssertionError: the roads differ.
    """
    texts, points = Texts(seed), 0
    explained = [Roads(settings) for settings in DESTINATIONS.values()]
    unexplained = [
        Roads(settings, is_explained=False, series_bytes=size)
        for settings in DESTINATIONS.values()
        for size in (MAX_CACHE_BYTES, 1)
    ]
    for number in count():
        if messages <= 0:
            break
        batch = texts.batch()
        for roads in unexplained if number % 20 else explained:
            found = roads.fast(batch)
            assert found == roads.careful(batch), (seed, batch)
            points += len(found[0])
        messages -= len(batch)
    return points


def shown(value: Any) -> Any:
    """A value whose equality tells 1 from 1.0 and from true, and NaN from nothing."""
    return repr(value)


def _told(intake: Intake) -> list[Any]:
    """What became of points, but for a time that the forwarder gave them: that depends on the points before."""
    return [
        (point.series.digest, shown(point.value), point.timestamp_ns, point.id, point.pointer, point.identity)
        + ((point.time_ms, point.wire) if point.timestamp_ns is not None else ())
        for point in intake.points
    ]
