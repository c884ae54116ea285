"""A mapping as the user wrote it (``MF_MAPPING``), checked: the sources of the parts of a sample.

docs/formats.md describes its members.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from metric_forwarder.formats.json_text import json_pointer
from metric_forwarder.formats.names import MAX_LABELS
from metric_forwarder.model import is_label_name

WILDCARD = "*"
_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_MEMBERS = ("each", "name", "value", "labels", "time", "unit", "namespace")
_SOURCE_MEMBERS = ("item", "message", "text", "default")
_MAX_STEPS = 20
_MAX_PARTS = 20

Steps = tuple[str, ...]
"""The steps of a JSON pointer."""


class BadMapping(ValueError):
    """A mapping that cannot be used; the message begins with the place in the mapping, and says what would be right."""


class Source(NamedTuple):
    """The source of a text or a number.

    Attributes:
        steps: of the pointer; None: a constant, or the name of the member that the wildcard takes.
        text: the constant, or the default if ``steps`` lead to nothing; None: neither.
        is_shared: the pointer begins at the message rather than at the item.
    """

    steps: Steps | None
    text: str | None = None
    is_shared: bool = False

    @property
    def follows_wildcard(self) -> bool:
        return (self.steps is None and self.text is None) or (
            self.steps is not None and WILDCARD in self.steps
        )


class Plan(NamedTuple):
    """A checked mapping.

    Attributes:
        each: from the message to its items; None: the message is the only item.
        value: from an item to its value, or to the values of all members that the wildcard takes.
        name: the parts of the metric's name.
        groups: objects, or lists of objects, whose members all become labels.
        labels: the other labels, by their names.
        time: None: samples have no time of their own.
        namespace: None: samples have no namespace of their own.
        unit: the nanoseconds in one unit of the time; None: its digits show the unit.
    """

    each: Steps | None
    value: Steps
    name: tuple[Source, ...]
    groups: tuple[Source, ...]
    labels: Mapping[str, Source]
    time: Source | None
    namespace: Source | None
    unit: int | None

    def sources(self) -> Iterator[Source]:
        """All sources."""
        yield from self.name
        yield from self.groups
        yield from self.labels.values()
        yield from (source for source in (self.time, self.namespace) if source is not None)


def read_plan(mapping: Any) -> Plan:
    """Check a mapping, which is decoded JSON.

    Raises:
        BadMapping: it cannot be used.
    """
    if not isinstance(mapping, dict):
        raise BadMapping('must be an object such as {"name": "/name", "value": "/value"}')
    for member in mapping:
        if member not in _MEMBERS:
            raise BadMapping(f"{json_pointer([member])} is unknown: it may have {', '.join(_MEMBERS)}")
    for member in ("name", "value"):
        if member not in mapping:
            raise BadMapping(f"/{member} is missing: say where the {member} of a sample is")
    # Of several mistakes, the first in this order is reported.
    plan = Plan(
        _read_pointer("/each", mapping["each"]) if "each" in mapping else None,
        _read_pointer("/value", mapping["value"]),
        _read_parts("/name", mapping["name"]),
        *_read_labels("/labels", mapping.get("labels", [])),
        _read_source("/time", mapping["time"]) if "time" in mapping else None,
        _read_source("/namespace", mapping["namespace"]) if "namespace" in mapping else None,
        _read_unit(mapping),
    )
    return _with_checked_wildcards(plan)


def _with_checked_wildcards(plan: Plan) -> Plan:
    """Check what follows the wildcard; if nothing does, add the member's name to the metric's."""
    has_wildcard = WILDCARD in plan.value
    is_followed = any(source.follows_wildcard for source in (*plan.name, *plan.labels.values()))
    if is_followed and not has_wildcard:
        raise BadMapping(
            '/value has no step "*", which the name or a label follows: write one, or remove theirs'
        )
    for where, source in (("/time", plan.time), ("/namespace", plan.namespace)):
        if source is not None and source.follows_wildcard:
            raise BadMapping(
                f'{where} must be the same for all values of an item, so it cannot have a step "*"'
            )
    if has_wildcard and not is_followed:
        # Otherwise the values of an item would be one series.
        return plan._replace(name=(*plan.name, Source(None)))
    return plan


def _read_pointer(where: str, text: Any) -> Steps:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise BadMapping(f'{where} must be a JSON pointer, such as "/metrics/0/name"; it begins with "/"')
    steps = tuple(text.split("/")[1:])
    if len(steps) > _MAX_STEPS:
        raise BadMapping(f"{where} has more than {_MAX_STEPS} steps")
    if steps.count(WILDCARD) > 1:
        raise BadMapping(f'{where} has more than one step "*"')
    if any(re.search(r"~(?![01])", step) for step in steps):
        raise BadMapping(f'{where} holds a "~" that is not part of "~0" or "~1"')
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def _read_source(where: str, given: Any) -> Source:
    if given == WILDCARD:
        return Source(None)
    if isinstance(given, str):
        if not given.startswith("/"):
            raise BadMapping(
                f'{where} must be a JSON pointer, which begins with "/"; write {{"text": "…"}} for a text that '
                "stands for itself"
            )
        return Source(_read_pointer(where, given))
    if not isinstance(given, dict) or len({"item", "message", "text"} & given.keys()) != 1:
        raise BadMapping(f'{where} must be a JSON pointer, {{"message": pointer}} or {{"text": "…"}}')
    for member, text in given.items():
        if member not in _SOURCE_MEMBERS or (member == "default" and "text" in given):
            raise BadMapping(f"{where}{json_pointer([member])} is unknown: remove it")
        if not isinstance(text, str):
            raise BadMapping(f"{where}/{member} must be a text")
    if "text" in given:
        return Source(None, given["text"])
    kind = "item" if "item" in given else "message"
    return Source(_read_pointer(f"{where}/{kind}", given[kind]), given.get("default"), kind == "message")


def _read_parts(where: str, given: Any) -> tuple[Source, ...]:
    """The parts of a name."""
    if not isinstance(given, list):
        return (_read_source(where, given),)
    if not 0 < len(given) <= _MAX_PARTS:
        raise BadMapping(f"{where} must have 1 to {_MAX_PARTS} parts")
    return tuple(_read_source(f"{where}/{index}", part) for index, part in enumerate(given))


def _read_labels(where: str, given: Any) -> tuple[tuple[Source, ...], Mapping[str, Source]]:
    """Pointers to whole groups of labels, and sources of labels by their names."""
    groups: list[Source] = []
    named: dict[str, Source] = {}
    for index, part in enumerate(given if isinstance(given, list) else [given]):
        at = f"{where}/{index}" if isinstance(given, list) else where
        if isinstance(part, str):
            groups.append(Source(_read_pointer(at, part)))
            if WILDCARD in part.split("/"):
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
