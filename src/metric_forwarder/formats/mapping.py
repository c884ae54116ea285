"""JSON in another format → samples, by a mapping that the user wrote (``MF_MAPPING``).

A mapping says where the parts of a sample are in the JSON::

    {"each": "/metrics", "name": "/name", "value": "/fields/*", "labels": "/tags", "time": "/timestamp", "unit": "s"}

``each`` leads from the message to its items; the other pointers (RFC 6901) begin at an item. The step ``*`` of ``value``
takes every member in turn, and the step ``*`` of any other pointer takes the same member. docs/formats.md describes all
of this.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from metric_forwarder.errors import ConfigError
from metric_forwarder.formats.json_values import not_json, read_values
from metric_forwarder.formats.kafka_adapter import read_number
from metric_forwarder.formats.names import MAX_LABELS, label_names, prometheus_name
from metric_forwarder.formats.payload import NotJson, json_pointer
from metric_forwarder.formats.samples import (
    NO_FLOAT,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
)
from metric_forwarder.formats.telegraf_json import unit_of
from metric_forwarder.model import is_label_name
from metric_forwarder.times import nanoseconds

_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_MEMBERS = ("each", "name", "value", "labels", "time", "unit", "namespace")
_SOURCE_MEMBERS = ("item", "message", "text", "default")
_WILDCARD = "*"
_MAX_STEPS = 20
_MAX_PARTS = 20
_MAX_CHARACTERS = 65_536
# The most digits of a time; intake checks the year.
_LONGEST_NUMBER = 40

_is_decimal = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?").fullmatch
_is_index = re.compile(r"0|[1-9][0-9]{0,8}").fullmatch

_MISSING = object()
_Steps = tuple[str, ...]
_Key = str | int | None


class BadMapping(ValueError):
    """A mapping that cannot be used; the message begins with the place in the mapping, and says what would be right."""


class _Source(NamedTuple):
    """The source of a text or a number.

    Attributes:
        steps: of the pointer; None: a constant, or the name of the member that the wildcard takes.
        text: the constant, or the default if ``steps`` lead to nothing; None: neither.
        is_shared: the pointer begins at the message rather than at the item.
    """

    steps: _Steps | None
    text: str | None = None
    is_shared: bool = False

    @property
    def follows_wildcard(self) -> bool:
        return (self.steps is None and self.text is None) or (
            self.steps is not None and _WILDCARD in self.steps
        )


class _Place(NamedTuple):
    """The values being read: an item, the message that holds it, and the member that the wildcard takes.

    ``is_listed``: the item is a member of the list that ``each`` leads to.
    """

    message: Any
    item: Any
    is_listed: bool
    key: _Key = None


class _Wrong(Exception):
    """An error, used only here; ``where`` is a pointer into the item, or into the message if it ``is_shared``."""

    def __init__(self, where: str, rule: str, message: str, *, is_shared: bool = False) -> None:
        super().__init__(message)
        self.where = where
        self.rule = rule
        self.is_shared = is_shared

    @classmethod
    def at(cls, source: _Source, rule: str, message: str, key: _Key = None) -> "_Wrong":
        steps = (key if step == _WILDCARD and key is not None else step for step in source.steps or ())
        return cls(json_pointer(tuple(steps)), rule, message, is_shared=source.is_shared)


class Mapper:
    """Reads JSON by one mapping: a ``Decoder``.

    Args:
        mapping: decoded JSON.

    Raises:
        BadMapping: it cannot be used.
    """

    def __init__(self, mapping: Any) -> None:
        if not isinstance(mapping, dict):
            raise BadMapping('must be an object such as {"name": "/name", "value": "/value"}')
        for member in mapping:
            if member not in _MEMBERS:
                raise BadMapping(f"{json_pointer([member])} is unknown: it may have {', '.join(_MEMBERS)}")
        for member in ("name", "value"):
            if member not in mapping:
                raise BadMapping(f"/{member} is missing: say where the {member} of a sample is")
        self._each = _read_pointer("/each", mapping["each"]) if "each" in mapping else None
        self._value = _read_pointer("/value", mapping["value"])
        has_wildcard = _WILDCARD in self._value
        self._name = _read_parts("/name", mapping["name"])
        self._groups, self._labels = _read_labels("/labels", mapping.get("labels", []))
        self._time = _read_source("/time", mapping["time"]) if "time" in mapping else None
        self._namespace = _read_source("/namespace", mapping["namespace"]) if "namespace" in mapping else None
        self._unit = _read_unit(mapping)
        following = [source for source in (*self._name, *self._labels.values()) if source.follows_wildcard]
        if following and not has_wildcard:
            raise BadMapping(
                '/value has no step "*", which the name or a label follows: write one, or remove theirs'
            )
        for where, source in (("/time", self._time), ("/namespace", self._namespace)):
            if source is not None and source.follows_wildcard:
                raise BadMapping(
                    f'{where} must be the same for all values of an item, so it cannot have a step "*"'
                )
        if has_wildcard and not following:
            # Otherwise the values of an item would be one series.
            self._name = (*self._name, _Source(None))
        self._follows = any(source.follows_wildcard for source in self._labels.values())

    def __call__(self, body: Any, hint: FormatHint) -> Iterator[Reading]:
        """Read the samples of a message."""
        del hint
        for value in read_values(body):
            if isinstance(value, InvalidSample):
                yield value
            else:
                yield from self._read_message(value.prefix, value.decoded)

    def _read_message(self, prefix: str, message: Any) -> Iterator[Reading]:
        for where, target in _targets(message, self._each):
            if target is _MISSING:
                yield InvalidSample(prefix + where, "missing", _missing("each"), message)
            elif isinstance(target, list):
                for index, item in enumerate(target):
                    place = _Place(message, item, is_listed=True)
                    yield from self._read_item(prefix, f"{where}/{index}", place)
            else:
                yield from self._read_item(prefix, where, _Place(message, target, is_listed=False))

    def _read_item(self, prefix: str, at: str, place: _Place) -> Iterator[Reading]:
        where = prefix + at
        if isinstance(place.item, NotJson):
            yield not_json(where, place.item)
            return
        try:
            if not isinstance(place.item, dict):
                raise _Wrong("", "type", _NO_OBJECT)  # noqa: TRY301
            labels = None if self._follows else self._read_labels(place)
            time_ns = self._read_time(place)
            namespace = "" if self._namespace is None else _text(self._namespace, place, "namespace")
            members = self._members(place.item)
        except _Wrong as wrong:
            yield self._invalid(prefix, at, wrong, place)
            return
        for pointer, key, value in members:
            if isinstance(value, NotJson):
                yield not_json(where + pointer, value)
                continue
            filtered = None if key is None else _filtered(where + pointer, value)
            if filtered is not None:
                yield filtered
                continue
            try:
                number = _number(pointer, value)
                of_value = place._replace(key=key)
                own = self._read_labels(of_value) if labels is None else labels
                metric = self._read_name(of_value)
            except _Wrong as wrong:
                yield self._invalid(prefix, at, wrong, place)
                continue
            yield Sample(where + pointer, metric, own, number, time_ns, namespace=namespace)

    def _members(self, item: Any) -> Iterable[tuple[str, _Key, Any]]:
        """Yield the values of an item: the place of each, the name of its member, and the value."""
        if _WILDCARD not in self._value:
            value = _find(item, self._value)
            if value is _MISSING:
                raise _Wrong(json_pointer(self._value), "missing", _missing("value"))
            return [(json_pointer(self._value), None, value)]
        split = self._value.index(_WILDCARD)
        before, behind = self._value[:split], self._value[split + 1 :]
        group = _find(item, before)
        if group is _MISSING:
            raise _Wrong(json_pointer(before), "missing", _missing("value"))
        if not isinstance(group, (dict, list)):
            raise _Wrong(
                json_pointer(before),
                "type",
                'has no members: the step "*" in value of MF_MAPPING needs an object or a list',
            )
        pairs: Any = group.items() if isinstance(group, dict) else enumerate(group)
        return ((json_pointer((*before, key, *behind)), key, _find(member, behind)) for key, member in pairs)

    def _read_name(self, place: _Place) -> str:
        parts = [_text(source, place, "name") for source in self._name]
        if len(parts) > 1 and parts[-1] == "value":
            parts.pop()
        name = "_".join([part for part in parts if part])
        if not name:
            raise _Wrong.at(
                self._name[0],
                "name",
                "is empty: a metric needs a name, so let name of MF_MAPPING lead to one",
                place.key,
            )
        return prometheus_name(name)

    def _read_labels(self, place: _Place) -> Mapping[str, str]:
        pairs: list[tuple[str, str]] = []
        for group in self._groups:
            pairs += _read_group(group, place)
        named = {name: _text(source, place, f"labels/{name}") for name, source in self._labels.items()}
        pairs = [(name, text) for name, text in pairs if name not in named] + list(named.items())
        if len(pairs) > MAX_LABELS:
            raise _Wrong(
                "", "size", f"has more than {MAX_LABELS} labels: name those that matter in MF_MAPPING"
            )
        return label_names(pairs)

    def _read_time(self, place: _Place) -> int | None:
        if self._time is None:
            return None
        value = _value(self._time, place, "time")
        if value is None or value == "":
            return None
        time_ns = read_time(value, self._unit)
        if time_ns is None:
            raise _Wrong.at(self._time, "timestamp", _BY_SIZE if self._unit is None else _IN_UNIT)
        return time_ns

    def _invalid(self, prefix: str, at: str, wrong: _Wrong, place: _Place) -> InvalidSample:
        where = wrong.where if wrong.is_shared else at + wrong.where
        return InvalidSample(prefix + where, wrong.rule, str(wrong), self._alone(place))

    def _alone(self, place: _Place) -> Any:
        """An item as a message of its own, which can be sent again after a correction."""
        if self._each is None:
            return place.item
        message: dict[str, Any] = {}
        for source in self._sources():
            if source.is_shared and source.steps:
                _put(message, source.steps, _find(place.message, source.steps))
        _put(message, self._each, [place.item] if place.is_listed else place.item)
        return message

    def _sources(self) -> Iterator[_Source]:
        yield from self._name
        yield from self._groups
        yield from self._labels.values()
        yield from (source for source in (self._time, self._namespace) if source is not None)


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Report that there is no mapping; with a mapping, its ``Mapper`` is used instead."""
    del hint
    yield InvalidSample("", "mapping", "must be read by a mapping, but MF_MAPPING is empty: set it", body)


def read_mapping(setting: str) -> Mapper:
    """Make a mapper from ``MF_MAPPING``, which is JSON text or the path of a JSON file.

    Raises:
        ConfigError: the file cannot be read, or the mapping cannot be used.
    """
    text = setting.strip()
    try:
        if not text.startswith(("{", "[")):
            text = Path(text).read_text("utf-8-sig")
        if len(text) > _MAX_CHARACTERS:
            raise BadMapping(f"has more than {_MAX_CHARACTERS} characters")  # noqa: TRY301
        return Mapper(json.loads(text, object_pairs_hook=_unique))
    except OSError as error:
        problem = f"cannot be read ({type(error).__name__}): name a JSON file of the package, or write JSON"
    except BadMapping as wrong:
        problem = f"{wrong} (see docs/formats.md, a mapping for other JSON)"
    except (ValueError, RecursionError):
        problem = 'is not JSON: it must be an object such as {"name": "/name", "value": "/value"}'
    raise ConfigError([f"MF_MAPPING {problem}"])


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadMapping(f"{json_pointer([twice])} is given twice: keep one")
    return found


# --- the parts of a mapping --------------------------------------------------------------------------------------


def _read_pointer(where: str, text: Any) -> _Steps:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise BadMapping(f'{where} must be a JSON pointer, such as "/metrics/0/name"; it begins with "/"')
    steps = tuple(text.split("/")[1:])
    if len(steps) > _MAX_STEPS:
        raise BadMapping(f"{where} has more than {_MAX_STEPS} steps")
    if steps.count(_WILDCARD) > 1:
        raise BadMapping(f'{where} has more than one step "*"')
    if any(re.search(r"~(?![01])", step) for step in steps):
        raise BadMapping(f'{where} holds a "~" that is not part of "~0" or "~1"')
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def _read_source(where: str, given: Any) -> _Source:
    if given == _WILDCARD:
        return _Source(None)
    if isinstance(given, str):
        if not given.startswith("/"):
            raise BadMapping(
                f'{where} must be a JSON pointer, which begins with "/"; write {{"text": "…"}} for a text that '
                "stands for itself"
            )
        return _Source(_read_pointer(where, given))
    if not isinstance(given, dict) or len({"item", "message", "text"} & given.keys()) != 1:
        raise BadMapping(f'{where} must be a JSON pointer, {{"message": pointer}} or {{"text": "…"}}')
    for member, text in given.items():
        if member not in _SOURCE_MEMBERS or (member == "default" and "text" in given):
            raise BadMapping(f"{where}{json_pointer([member])} is unknown: remove it")
        if not isinstance(text, str):
            raise BadMapping(f"{where}/{member} must be a text")
    if "text" in given:
        return _Source((), given["text"])._replace(steps=None)
    kind = "item" if "item" in given else "message"
    return _Source(_read_pointer(f"{where}/{kind}", given[kind]), given.get("default"), kind == "message")


def _read_parts(where: str, given: Any) -> tuple[_Source, ...]:
    """The parts of a name."""
    if not isinstance(given, list):
        return (_read_source(where, given),)
    if not 0 < len(given) <= _MAX_PARTS:
        raise BadMapping(f"{where} must have 1 to {_MAX_PARTS} parts")
    return tuple(_read_source(f"{where}/{index}", part) for index, part in enumerate(given))


def _read_labels(where: str, given: Any) -> tuple[tuple[_Source, ...], Mapping[str, _Source]]:
    """Pointers to whole groups of labels, and sources of labels by their names."""
    groups: list[_Source] = []
    named: dict[str, _Source] = {}
    for index, part in enumerate(given if isinstance(given, list) else [given]):
        at = f"{where}/{index}" if isinstance(given, list) else where
        if isinstance(part, str):
            groups.append(_Source(_read_pointer(at, part)))
            if _WILDCARD in part.split("/"):
                raise BadMapping(f'{at} leads to all labels of an item, so it cannot have a step "*"')
        elif isinstance(part, dict):
            for name, source in part.items():
                if not is_label_name(name) or name.startswith("__"):
                    raise BadMapping(
                        f"{at}{json_pointer([name])} is not a label's name: use letters, digits and underscores"
                    )
                named[name] = _read_source(f"{at}{json_pointer([name])}", source)
        else:
            raise BadMapping(f'{at} must be a JSON pointer, or an object such as {{"host": "/host"}}')
    if len(groups) + len(named) > MAX_LABELS:
        raise BadMapping(f"{where} has more than {MAX_LABELS} labels")
    return tuple(groups), named


def _read_unit(mapping: Mapping[str, Any]) -> int | None:
    if "unit" not in mapping:
        return None
    unit = mapping["unit"]
    if not isinstance(unit, str) or unit not in _UNITS:
        raise BadMapping(f"/unit must be one of {', '.join(_UNITS)}")
    if "time" not in mapping:
        raise BadMapping(
            "/unit is the unit of /time, which is missing: say where the time is, or remove the unit"
        )
    return _UNITS[unit]


# --- the parts of a message --------------------------------------------------------------------------------------


def _find(value: Any, steps: _Steps, key: _Key = None) -> Any:
    for step in steps:
        wanted: _Key = key if step == _WILDCARD else step
        if isinstance(value, dict):
            value = value.get(str(wanted), _MISSING)
        elif isinstance(value, list) and isinstance(wanted, int):
            value = value[wanted] if wanted < len(value) else _MISSING
        elif isinstance(value, list) and isinstance(wanted, str) and _is_index(wanted):
            value = value[int(wanted)] if int(wanted) < len(value) else _MISSING
        else:
            return _MISSING
    return value


def _targets(message: Any, each: _Steps | None) -> Iterator[tuple[str, Any]]:
    """Yield the items that ``each`` leads to, and their places."""
    if each is None or _WILDCARD not in each:
        yield json_pointer(each or ()), _find(message, each or ())
        return
    split = each.index(_WILDCARD)
    group = _find(message, each[:split])
    if isinstance(group, (dict, list)):
        for key in group if isinstance(group, dict) else range(len(group)):
            yield json_pointer((*each[:split], key, *each[split + 1 :])), _find(message, each, key)
    else:
        yield json_pointer(each[:split]), _MISSING


def _value(source: _Source, place: _Place, what: str) -> Any:
    """The value of a source."""
    if source.steps is None:
        return source.text if source.text is not None else place.key
    value = _find(place.message if source.is_shared else place.item, source.steps, place.key)
    if value is _MISSING and source.text is not None:
        return source.text
    if value is _MISSING:
        raise _Wrong.at(source, "missing", _missing(what), place.key)
    if isinstance(value, NotJson):
        raise _Wrong.at(source, value.rule, value.message, place.key)
    return value


def _text(source: _Source, place: _Place, what: str) -> str:
    value = _value(source, place, what)
    if isinstance(value, (dict, list)):
        raise _Wrong.at(
            source, "type", f"is not a text: let {what} of MF_MAPPING lead to a text or a number", place.key
        )
    return _as_text(value)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _read_group(source: _Source, place: _Place) -> list[tuple[str, str]]:
    """Labels from an object, or from a list of objects that have a name and a value."""
    group = _value(source, place, "labels")
    if group is None:
        return []
    pairs: Any = [_pair(member) for member in group] if isinstance(group, list) else None
    if isinstance(group, dict):
        pairs = list(group.items())
    if pairs is None or None in pairs or not all(_is_plain(value) for _, value in pairs):
        message = (
            'has no labels: it must be an object of names and texts, or a list of {"name": "…", "value": "…"}'
        )
        raise _Wrong.at(source, "type", message)
    return [(name, _as_text(value)) for name, value in pairs]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _pair(member: Any) -> tuple[str, Any] | None:
    """A label that is written as an object, such as ``{"Name": "InstanceId", "Value": "ins-1"}``."""
    if not isinstance(member, dict):
        return None
    lower = {name.lower(): value for name, value in member.items()}
    name = lower.get("name", lower.get("key"))
    return (name, lower["value"]) if isinstance(name, str) and name and "value" in lower else None


def read_time(value: Any, unit: int | None) -> int | None:
    """A time as Unix nanoseconds; None if the value is not a time.

    Args:
        value: RFC 3339 text, or a number, also as text.
        unit: nanoseconds in one unit of the time; None: the number of digits shows the unit.
    """
    if isinstance(value, str) and not _is_decimal(value):
        return nanoseconds(value) if len(value) <= _LONGEST_NUMBER else None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    written = value if isinstance(value, str) else repr(value)
    if unit is None and _is_decimal(written):
        unit = unit_of(int(Decimal(written)))
    if unit is None or not _is_decimal(written):
        return None
    return int(Decimal(written) * unit)


_NO_OBJECT = "is not an object: let each of MF_MAPPING lead to objects, or to a list of them"
_IN_UNIT = "is not a time: it must be a number in the unit of MF_MAPPING, or RFC 3339"
_BY_SIZE = (
    "is not a time: it must be RFC 3339, or a number of 10, 13, 16 or 19 digits since 1970, which show its unit; name any "
    "other unit in MF_MAPPING"
)


def _missing(what: str) -> str:
    return f"is missing: {what} of MF_MAPPING leads there, so send it, or give a default or another pointer there"


def _filtered(where: str, value: Any) -> FilteredSample | None:
    """Leave out a value that the wildcard took and that is not a number; None if it is a reading."""
    if value is None or value is _MISSING:
        return FilteredSample(where, "null", "has no value")
    if isinstance(value, (dict, list)):
        return FilteredSample(where, "nested", "is nested, so it is not a single value")
    if isinstance(value, str) and read_number(value) is None:
        return FilteredSample(where, "text", "is a text, which no destination accepts")
    return None


def _number(where: str, value: Any) -> float | int:
    if isinstance(value, bool):
        return int(value)
    number = read_number(value)
    if number is None:
        raise _Wrong(
            where,
            "value",
            'is not a number: it must be one, or the text of one, such as "9.5", "NaN" or "+Inf"',
        )
    if type(value) is float and value - value != 0:
        # JSON has no infinity.
        raise _Wrong(where, "value", NO_FLOAT)
    return number


def _put(message: dict[str, Any], steps: _Steps, value: Any) -> None:
    """Write a value at a pointer: make the objects on the way, and a list of one item for a step into a list."""
    if not steps or value is _MISSING:
        return
    for step in steps[:-1]:
        inner = message.get(step)
        message[step] = message = inner if isinstance(inner, dict) else {}
    message[steps[-1]] = value
