"""JSON in another format → samples, by a mapping that the user wrote (``MF_MAPPING``).

A mapping says where the parts of a sample are in the JSON::

    {"each": "/metrics", "name": "/name", "value": "/fields/*", "labels": "/tags", "time": "/timestamp", "unit": "s"}

``each`` leads from the message to its items; the other pointers (RFC 6901) begin at an item. The step ``*`` of ``value``
takes every member in turn, and the step ``*`` of any other pointer takes the same member. docs/formats.md describes all
of this.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from metric_forwarder.errors import ConfigError
from metric_forwarder.formats.json_text import NotJson, json_pointer
from metric_forwarder.formats.json_values import is_number_text, not_json, read_number, read_values
from metric_forwarder.formats.mapping_plan import WILDCARD, BadMapping, Source, Steps, read_plan
from metric_forwarder.formats.names import MAX_LABELS, apart_of, label_names, prometheus_name
from metric_forwarder.formats.samples import (
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    WrongSample,
    make_sample,
)
from metric_forwarder.formats.telegraf_json import unit_of
from metric_forwarder.settings.readers import RepeatedName, text_or_file, unique_members
from metric_forwarder.times import nanoseconds

_MAX_CHARACTERS = 65_536
_is_decimal = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?").fullmatch
_is_index = re.compile(r"0|[1-9][0-9]{0,8}").fullmatch

_MISSING = object()
_Key = str | int | None


class _Place(NamedTuple):
    """The values being read: an item, the message that holds it, and the member that the wildcard takes.

    ``is_listed``: the item is a member of the list that ``each`` leads to.
    """

    message: Any
    item: Any
    is_listed: bool
    key: _Key = None


class _Wrong(WrongSample):
    """``where`` is a pointer into the item, or into the message if it ``is_shared``."""

    def __init__(self, where: str, rule: str, message: str, *, is_shared: bool = False) -> None:
        super().__init__(rule, message)
        self.where = where
        self.is_shared = is_shared

    @classmethod
    def at(cls, source: Source, rule: str, message: str, key: _Key = None) -> "_Wrong":
        steps = (key if step == WILDCARD and key is not None else step for step in source.steps or ())
        return cls(json_pointer(tuple(steps)), rule, message, is_shared=source.is_shared)


class Mapper:
    """Reads JSON by one mapping: a ``Decoder``.

    Args:
        mapping: decoded JSON.

    Raises:
        BadMapping: it cannot be used.
    """

    def __init__(self, mapping: Any) -> None:
        self._plan = read_plan(mapping)
        self._labels_follow = any(source.follows_wildcard for source in self._plan.labels.values())

    def __call__(self, body: Any, hint: FormatHint) -> Iterator[Reading]:
        """Read the samples of a message."""
        del hint
        for value in read_values(body):
            if isinstance(value, InvalidSample):
                yield value
            else:
                yield from self._read_message(value.prefix, value.decoded)

    def _read_message(self, prefix: str, message: Any) -> Iterator[Reading]:
        for where, target in _targets(message, self._plan.each):
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
            groups = self._read_groups(place)
            labels = None if self._labels_follow else self._read_labels(groups, place)
            time_ns = self._read_time(place)
            namespace = (
                "" if self._plan.namespace is None else _text(self._plan.namespace, place, "namespace")
            )
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
                own, of_labels = self._read_labels(groups, of_value) if labels is None else labels
                metric, apart = self._read_name(of_value)
            except _Wrong as wrong:
                yield self._invalid(prefix, at, wrong, place)
                continue
            apart += of_labels
            yield make_sample((where + pointer, metric, own, number, time_ns, False, namespace, apart))

    def _members(self, item: Any) -> Iterable[tuple[str, _Key, Any]]:
        """Yield the values of an item: the place of each, the name of its member, and the value."""
        if WILDCARD not in self._plan.value:
            value = _find(item, self._plan.value)
            if value is _MISSING:
                raise _Wrong(json_pointer(self._plan.value), "missing", _missing("value"))
            return [(json_pointer(self._plan.value), None, value)]
        split = self._plan.value.index(WILDCARD)
        before, behind = self._plan.value[:split], self._plan.value[split + 1 :]
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

    def _read_name(self, place: _Place) -> tuple[str, str]:
        """The name of a metric, and its ``Sample.apart``; the labels likewise."""
        parts = [_text(source, place, "name") for source in self._plan.name]
        if len(parts) > 1 and parts[-1] == "value":
            parts.pop()
        name = "_".join([part for part in parts if part])
        if not name:
            raise _Wrong.at(
                self._plan.name[0],
                "name",
                "is empty: a metric needs a name, so let name of MF_MAPPING lead to one",
                place.key,
            )
        written = prometheus_name(name)
        return written, "" if written == name else apart_of(name)

    def _read_groups(self, place: _Place) -> list[tuple[str, str]]:
        """The labels of the groups, except those that the mapping names; no value of an item has others."""
        pairs: list[tuple[str, str]] = []
        for group in self._plan.groups:
            pairs += _read_group(group, place)
        pairs = [(name, text) for name, text in pairs if name not in self._plan.labels]
        if len(pairs) + len(self._plan.labels) > MAX_LABELS:
            raise _Wrong(
                "", "size", f"has more than {MAX_LABELS} labels: name those that matter in MF_MAPPING"
            )
        return pairs

    def _read_labels(self, groups: list[tuple[str, str]], place: _Place) -> tuple[Mapping[str, str], str]:
        named = [(name, _text(source, place, f"labels/{name}")) for name, source in self._plan.labels.items()]
        return label_names([*groups, *named])

    def _read_time(self, place: _Place) -> int | None:
        if self._plan.time is None:
            return None
        value = _value(self._plan.time, place, "time")
        if value is None or value == "":
            return None
        time_ns = read_time(value, self._plan.unit)
        if time_ns is None:
            raise _Wrong.at(self._plan.time, "timestamp", _BY_SIZE if self._plan.unit is None else _IN_UNIT)
        return time_ns

    def _invalid(self, prefix: str, at: str, wrong: _Wrong, place: _Place) -> InvalidSample:
        where = wrong.where if wrong.is_shared else at + wrong.where
        return InvalidSample(prefix + where, wrong.rule, str(wrong), self._alone(place))

    def _alone(self, place: _Place) -> Any:
        """An item as a message of its own, which can be sent again after a correction."""
        if self._plan.each is None:
            return place.item
        message: dict[str, Any] = {}
        for source in self._plan.sources():
            if source.is_shared and source.steps:
                _put(message, source.steps, _find(place.message, source.steps))
        _put(message, self._plan.each, [place.item] if place.is_listed else place.item)
        return message


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Report that there is no mapping; with a mapping, its ``Mapper`` is used instead."""
    del hint
    yield InvalidSample("", "mapping", "must be read by a mapping, but MF_MAPPING is empty: set it", body)


def read_mapping(setting: str) -> Mapper:
    """Make a mapper from ``MF_MAPPING``, which is JSON text or the path of a JSON file.

    Raises:
        ConfigError: the file cannot be read, or the mapping cannot be used.
    """
    try:
        text = text_or_file(setting)
        if len(text) > _MAX_CHARACTERS:
            raise BadMapping(f"has more than {_MAX_CHARACTERS} characters")  # noqa: TRY301
        return Mapper(json.loads(text, object_pairs_hook=unique_members))
    except OSError as error:
        problem = f"cannot be read ({type(error).__name__}): name a JSON file of the package, or write JSON"
    except RepeatedName as twice:
        problem = f"{json_pointer([twice.name])} is given twice: keep one (see docs/formats.md, a mapping for other JSON)"
    except BadMapping as wrong:
        problem = f"{wrong} (see docs/formats.md, a mapping for other JSON)"
    except (ValueError, RecursionError):
        problem = 'is not JSON: it must be an object such as {"name": "/name", "value": "/value"}'
    raise ConfigError([f"MF_MAPPING {problem}"])


# --- the parts of a message --------------------------------------------------------------------------------------


def _find(value: Any, steps: Steps, key: _Key = None) -> Any:
    for step in steps:
        wanted: _Key = key if step == WILDCARD else step
        if isinstance(value, dict):
            value = value.get(str(wanted), _MISSING)
        elif isinstance(value, list) and isinstance(wanted, int):
            value = value[wanted] if wanted < len(value) else _MISSING
        elif isinstance(value, list) and isinstance(wanted, str) and _is_index(wanted):
            value = value[int(wanted)] if int(wanted) < len(value) else _MISSING
        else:
            return _MISSING
    return value


def _targets(message: Any, each: Steps | None) -> Iterator[tuple[str, Any]]:
    """Yield the items that ``each`` leads to, and their places."""
    if each is None or WILDCARD not in each:
        yield json_pointer(each or ()), _find(message, each or ())
        return
    split = each.index(WILDCARD)
    group = _find(message, each[:split])
    if isinstance(group, (dict, list)):
        for key in group if isinstance(group, dict) else range(len(group)):
            yield json_pointer((*each[:split], key, *each[split + 1 :])), _find(message, each, key)
    else:
        yield json_pointer(each[:split]), _MISSING


def _value(source: Source, place: _Place, what: str) -> Any:
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


def _text(source: Source, place: _Place, what: str) -> str:
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


def _read_group(source: Source, place: _Place) -> list[tuple[str, str]]:
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
        return nanoseconds(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    written = format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)
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
    if isinstance(value, str) and not is_number_text(value):
        return FilteredSample(where, "text", "is a text, which no destination accepts")
    return None


def _number(where: str, value: Any) -> float | int:
    if isinstance(value, bool):
        return int(value)
    try:
        return read_number(value)
    except WrongSample as wrong:
        raise _Wrong(where, wrong.rule, str(wrong)) from None


def _put(message: dict[str, Any], steps: Steps, value: Any) -> None:
    """Write a value at a pointer: make the objects on the way, and a list of one item for a step into a list."""
    if not steps or value is _MISSING:
        return
    for step in steps[:-1]:
        inner = message.get(step)
        message[step] = message = inner if isinstance(inner, dict) else {}
    message[steps[-1]] = value
