"""Which points a destination can take.

A shipped schema is decided by a predicate that reads its limits from the schema file; a property test holds the two
together. ``explain`` says what is wrong with a point, and judges by a user's schema.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metric_forwarder.times import NUMBERS_BELOW, milliseconds

if TYPE_CHECKING:
    from metric_forwarder.intake.explain import Explainer, Located

SCHEMAS = Path(__file__).parents[1] / "schemas"

# Required by structure.json, and by every schema in the package.
_REQUIRED = frozenset({"metricName", "dimensions", "value"})
# How many verdicts of a user's schema an instance remembers: enough for the largest event. One takes 140 bytes.
_MAX_VERDICTS = 100_000
# How many names of metrics, dimensions and namespaces an instance remembers of each kind, and how long they may be: 0.2 MB.
_MAX_NAMES, _LONGEST_REMEMBERED = 1000, 100
MAX_FLOAT = 1.7976931348623157e308


class PointSchema:
    """The schema in force.

    Args:
        destination: the name of a schema the package ships, such as ``receiver``.
        user_schema: the path of a schema file to use in its place; its points are all judged by ``jsonschema``, and
            must have the structure of a point besides.

    Attributes:
        schema: as JSON.
        accepts: whether a point is valid.
        accepts_replayed: whether one that was valid, and comes from the spool, can be sent: the user's schema judges
            what producers write.
        accepts_ids: whether each ``id`` of many points is valid or None, by the package's own schema.
        takes_any_number: whether a valid point stays valid with any other finite value.

    Raises:
        ConfigError: the user's schema cannot be read, is no draft-07 schema, or has a ``$ref`` that cannot be followed.
    """

    def __init__(self, destination: str, user_schema: str = "") -> None:
        self.accepts: Callable[[Any], bool]
        self.accepts_replayed: Callable[[Any], bool]
        self.takes_any_number = not user_schema
        self._verdicts: dict[bytes, bool] = {}
        self.schema = self._ours = _read(SCHEMAS / f"{'structure' if user_schema else destination}.json")
        if user_schema:
            # Takes a tenth of a second, and only a user's schema needs it this early.
            from metric_forwarder.intake.user_schema import read_user_schema  # noqa: PLC0415

            self.schema = read_user_schema(user_schema)
            self.accepts = self._is_valid
            self.accepts_replayed = self._explainer.accepts_by_ours
        else:
            self.accepts = self.accepts_replayed = predicate(self._ours)
        self.accepts_ids = _all_ids_check(self._ours["properties"]["id"])

    def violations(self, point: Any) -> "list[Located]":
        """Everything wrong with a point: its path inside the point, and the violation with an empty pointer."""
        return self._explainer.violations(point)

    def _is_valid(self, point: Any) -> bool:
        """Whether a user's schema accepts a point; one that comes again is not judged again.

        Judging takes some 200 µs, so time may be up before all points are judged. When the event is redelivered, the points
        judged before take no time, and the others are judged.
        """
        try:
            digest = hashlib.blake2b(json.dumps(point).encode(), digest_size=16).digest()
        except (TypeError, ValueError, RecursionError):
            return not self._explainer.violations(point)
        verdict = self._verdicts.get(digest)
        if verdict is None:
            verdict = not self._explainer.violations(point)
            if len(self._verdicts) >= _MAX_VERDICTS:
                self._verdicts.clear()
            self._verdicts[digest] = verdict
        return verdict

    @cached_property
    def _explainer(self) -> "Explainer":
        # Slow to import, and not needed while all points are valid.
        from metric_forwarder.intake.explain import Explainer  # noqa: PLC0415

        return Explainer(self._ours, None if self._ours is self.schema else self.schema)


def predicate(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """Make the predicate that is true for what a shipped schema accepts, and for nothing else."""
    properties = schema["properties"]
    is_metric = _name_check(properties["metricName"])
    are_dimensions = _dimensions_check(properties["dimensions"])
    optional: dict[str, Callable[[Any], bool]] = {
        "namespace": _name_check(properties["namespace"]),
        "timestamp": _is_timestamp,
        "id": _text_or_whole_check(properties["id"]),
    }

    def accepts(point: Any) -> bool:
        if type(point) is not dict:
            return False
        try:
            metric, dimensions, value = point["metricName"], point["dimensions"], point["value"]
        except KeyError:
            return False
        if len(point) > 3 and not _are_all(optional, point):  # noqa: PLR2004 - those just read
            return False
        return is_finite(value) and is_metric(metric) and are_dimensions(dimensions)

    return accepts


def _are_all(optional: Mapping[str, Callable[[Any], bool]], point: Mapping[str, Any]) -> bool:
    """Whether the members of a point beside the required ones are known, and right."""
    for name, value in point.items():
        if name not in _REQUIRED and (name not in optional or not optional[name](value)):
            return False
    return True


def _text_check(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    matches = re.compile(schema.get("pattern", "")).search
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", math.inf)

    def check(value: Any) -> bool:
        return type(value) is str and shortest <= len(value) <= longest and matches(value) is not None

    return check


def _name_check(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """Like ``_text_check``; remembers short names, since a new series usually has names that others had before."""
    is_text = _text_check(schema)
    known: set[str] = set()

    def check(value: Any) -> bool:
        if type(value) is str and value in known:
            return True
        if not is_text(value):
            return False
        if len(value) <= _LONGEST_REMEMBERED and len(known) < _MAX_NAMES:
            known.add(value)
        return True

    return check


def _text_or_whole_check(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    is_text = _text_check(schema)
    least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)

    def check(value: Any) -> bool:
        if type(value) is str:
            return is_text(value)
        # JSON Schema counts 1.0 as an integer.
        is_whole = type(value) is int or (type(value) is float and value.is_integer())
        return is_whole and least <= value <= most

    return check


def _all_ids_check(schema: Mapping[str, Any]) -> Callable[[Sequence[Any]], bool]:
    is_id = _text_or_whole_check(schema)
    shortest, longest = schema["minLength"], schema["maxLength"]

    def check(ids: Sequence[Any]) -> bool:
        if {*map(type, ids)} == {str}:
            return all(shortest <= length <= longest for length in map(len, ids))
        return all(key is None or is_id(key) for key in ids)

    return check


def _dimensions_check(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    is_name = _name_check(schema["propertyNames"])
    is_value = _text_or_whole_check(schema["additionalProperties"])
    longest = schema["additionalProperties"].get("maxLength", math.inf)
    most = schema.get("maxProperties", math.inf)

    def check(dimensions: Any) -> bool:
        if type(dimensions) is not dict or len(dimensions) > most:
            return False
        for name, value in dimensions.items():
            if not is_name(name):
                return False
            # Only text beyond ASCII may hold half a surrogate pair.
            is_plain = type(value) is str and len(value) <= longest and value.isascii()
            if not (is_plain or is_value(value)):
                return False
        return True

    return check


def is_finite(value: Any) -> bool:
    # A chained comparison is false for NaN, and for what is beyond a float's range.
    return (type(value) is float or type(value) is int) and -MAX_FLOAT <= value <= MAX_FLOAT


def _is_timestamp(value: Any) -> bool:
    if type(value) is str:
        return milliseconds(value) is not None
    return (type(value) is float or type(value) is int) and 0 <= value < NUMBERS_BELOW


def _read(path: Path) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema
