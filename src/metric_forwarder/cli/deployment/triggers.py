"""The triggers of ``serverless.yml``, in the form of SCF's API.

What cannot be deployed is reported, never left out silently.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from metric_forwarder.cli.deployment.values import (
    MISREAD,
    BadValue,
    is_enabled,
    misread,
    only,
    text_of,
    whole,
)

_ALIAS = "$DEFAULT"
# These need resources of the user, which a deployment may lack.
_LEFT_OUT_IF_UNUSED = frozenset({"ckafka"})
_CRON_FIELDS = 7
_MAX_ARGUMENT_BYTES = 4_096


class Trigger(NamedTuple):
    """One trigger, as ``CreateTrigger`` takes it; its type, name and qualifier identify it.

    Attributes:
        is_switched_off: the variable that would enable it is not set: it is not created, or disabled if it exists.
    """

    type: str
    name: str
    description: str
    enabled: bool
    qualifier: str
    argument: str | None = None
    is_switched_off: bool = False

    @property
    def key(self) -> str:
        return trigger_key(self.type, self.name, self.qualifier)


def trigger_key(type_: str, name: str, qualifier: str) -> str:
    """What identifies a trigger, as it is shown."""
    return f"{type_} {name}" if qualifier == _ALIAS else f"{type_} {name} on {qualifier}"


def read_triggers(events: Any, file: str, problems: list[str]) -> Iterator[Trigger]:
    seen: set[tuple[str, str, str]] = set()
    for number, event in enumerate(events):
        try:
            trigger = _read_trigger(event)
        except MISREAD as error:
            problems.append(f"{file}: events[{number}] {misread(error)}")
            continue
        # The platform names a function URL itself, and a trigger of COS by its bucket.
        identity = trigger.type, "" if trigger.type == "http" else trigger.name, trigger.qualifier
        if identity in seen:
            remedy = _OF_ONE.get(trigger.type, "rename it")
            problems.append(
                f"{file}: events[{number}] ({trigger.key}) is the same as an earlier one: {remedy}"
            )
        seen.add(identity)
        yield trigger


_OF_ONE = {
    "cos": "describe one with all of its events, such as cos:ObjectCreated:*",
    "http": "an alias or version has one function URL at most, so remove it",
}


def _read_trigger(event: Any) -> Trigger:
    """Read one trigger; raises one of ``MISREAD``."""
    kind, *others = map(str, event) if isinstance(event, dict) and event else ("",)
    if others:
        raise BadValue(
            f"holds {kind} and {others[0]}: begin each trigger with a hyphen, and write its members below parameters"
        )
    if kind not in _TRIGGERS:
        made = "created in its own console" if kind in ("cls", "apigw") else "unknown to SCF's API"
        raise BadValue(f"is a trigger of type {kind[:20] or 'none'}, which is {made}")
    parameters = parameters_of(event)
    make, members = _TRIGGERS[kind]
    try:
        only(event[kind] or {}, "parameters")
        name, described, argument = make(only(parameters, "qualifier", "enable", *members))
        enable = parameters.get("enable", False)
        enabled = is_enabled(enable)
    except MISREAD as error:
        raise BadValue(f"({kind}) {misread(error)}") from None
    return Trigger(
        type=kind,
        name=name,
        description=described,
        enabled=enabled,
        # A reference to an unset variable leaves its member out; a set one becomes text.
        is_switched_off="enable" not in parameters or (isinstance(enable, str) and not enabled),
        qualifier=str(parameters.get("qualifier", _ALIAS)),
        argument=argument,
    )


def parameters_of(event: Any) -> dict[str, Any]:
    """The parameters of the first trigger of an item; empty if there are none."""
    body = next(iter(event.values()), None) if isinstance(event, dict) else None
    parameters = body.get("parameters") if isinstance(body, dict) else None
    return parameters if isinstance(parameters, dict) else {}


def may_be_left_out(event: Any) -> bool:
    return isinstance(event, dict) and event.keys() <= _LEFT_OUT_IF_UNUSED


_Made = tuple[str, str, str | None]


def _timer(parameters: Mapping[str, Any]) -> _Made:
    argument = parameters.get("argument")
    name, expression = text_of(parameters["name"]), text_of(parameters["cronExpression"])
    if len(expression.split()) != _CRON_FIELDS:
        raise BadValue(
            "has a cronExpression without seven fields: begin with the seconds, and end with the year"
        )
    if len(str(argument).encode()) > _MAX_ARGUMENT_BYTES:
        raise BadValue("has an argument of more than 4 KB: shorten it")
    return name, expression, None if argument is None else text_of(argument)


def _ckafka(parameters: Mapping[str, Any]) -> _Made:
    """By 583/17530 and 583/39901."""
    offset = text_of(parameters.get("offset", "latest"))
    if offset not in ("latest", "earliest") and not re.fullmatch("[0-9]{13}", offset):
        raise BadValue(
            "has an offset that is neither latest nor earliest nor a time in milliseconds: write one of them"
        )
    described = {
        "maxMsgNum": whole(parameters.get("maxMsgNum", 100), 1, 10_000),
        "offset": offset,
        "retry": whole(parameters.get("retry", 10_000), 0),
        "timeOut": whole(parameters.get("timeout", 60), 1, 60),
        "consumerGroupName": text_of(parameters.get("consumerGroupName", "")),
    }
    return f"{text_of(parameters['instanceId'])}-{text_of(parameters['topic'])}", _compact(described), None


def _cmq(parameters: Mapping[str, Any]) -> _Made:
    return text_of(parameters["name"]), _compact({"filterType": 1, "filterKey": []}), None


def _cos(parameters: Mapping[str, Any]) -> _Made:
    kept = only(parameters.get("filter") or {}, "prefix", "suffix")
    described = {
        "event": text_of(parameters["events"]),
        "filter": {"Prefix": kept.get("prefix", ""), "Suffix": kept.get("suffix", "")},
    }
    return text_of(parameters["bucket"]), _compact(described), None


def _http(parameters: Mapping[str, Any]) -> _Made:
    reach = only(parameters.get("netConfig") or {}, "enableIntranet", "enableExtranet")
    authentication = parameters.get("authType", "NONE")
    if authentication not in ("NONE", "CAM"):
        raise BadValue("has an authType that is neither NONE nor CAM: write one of the two")
    described = {
        "AuthType": authentication,
        "NetConfig": {
            "EnableIntranet": is_enabled(reach.get("enableIntranet", False)),
            "EnableExtranet": is_enabled(reach.get("enableExtranet", False)),
        },
    }
    return text_of(parameters.get("name", "url")), _compact(described), None


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


# By type: what makes it of its parameters, and their names.
_TRIGGERS: Mapping[str, tuple[Callable[[Mapping[str, Any]], _Made], tuple[str, ...]]] = {
    "timer": (_timer, ("name", "cronExpression", "argument")),
    "ckafka": (
        _ckafka,
        ("instanceId", "topic", "consumerGroupName", "maxMsgNum", "offset", "retry", "timeout"),
    ),
    "cmq": (_cmq, ("name",)),
    "cos": (_cos, ("bucket", "events", "filter")),
    "http": (_http, ("name", "authType", "netConfig")),
}
