"""``serverless.yml`` and ``.env`` → the wanted function, in the terms of the SCF API.

The Serverless CLI reads the same file. Anything in it that this command cannot deploy is reported, never left out
silently.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from metric_forwarder.cli.deployment.env_variables import (
    REFERENCE,
    SWITCH,
    is_required,
    name_is_hidden,
    references,
)
from metric_forwarder.cli.deployment.file_settings import FOLDER, ReadFile, check_files
from metric_forwarder.errors import ConfigError
from metric_forwarder.jobs import Replay, Scrape, read_job
from metric_forwarder.secret import describe_value
from metric_forwarder.settings.extras import needed_extras
from metric_forwarder.settings.settings import Settings

_ALIAS = "$DEFAULT"
_ON = frozenset({"1", "true", "yes", "y", "on"})
_OFF = frozenset({"", "0", "false", "no", "n", "off"})
# The platform's limit for a function's environment variables.
_MAX_VARIABLES_BYTES = 4_096
# In the place of a region that cannot be used, which is reported as such.
_ANY_REGION = "ap-guangzhou"
_is_full_region = re.compile(r"[a-z]+(-[a-z0-9]+)+").fullmatch

# Inputs for the deployment itself, or that are read by name below.
_OTHER_INPUTS = frozenset(
    {
        "name",
        "namespace",
        "region",
        "events",
        "environment",
        "handler",
        "msgTTL",
        "retryNum",
    }
)


# Inputs of which this command deploys one value only.
_ONLY_VALUES = {"type": "event", "src": "./build/package"}
# The beginning of a reference that ``REFERENCE`` does not match; what follows a comma may be a secret.
_OTHER_REFERENCE = re.compile(r"\$\{[\w.:]*")


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


class Description(NamedTuple):
    """The function to deploy.

    Attributes:
        region: full name, such as ``ap-guangzhou``.
        namespace: of the function.
        name: of the function.
        configuration: the parameters of ``UpdateFunctionConfiguration``, without name and namespace.
        handler: the entry point.
        asynchronous: retries and lifetime of asynchronous events: ``RetryNum`` and ``MsgTTL``.
        triggers: in the order of the file.
    """

    region: str
    namespace: str
    name: str
    configuration: Mapping[str, Any]
    handler: str
    asynchronous: Mapping[str, int]
    triggers: tuple[Trigger, ...]


def read_description(
    path: Path, variables: Mapping[str, str], hidden: AbstractSet[str] = frozenset()
) -> Description:
    """Read the file.

    Args:
        path: ``serverless.yml``.
        variables: what ``${env:NAME}`` stands for.
        hidden: those of ``.env`` that the shell sets to nothing.

    Raises:
        ConfigError: with everything that is wrong with it.
    """
    written = _without_unused_queue(_inputs(path), variables, path.name)
    inputs = _substituted(written, variables)
    unusable = [
        *_unset(written, variables, hidden, path.name),
        *_undecodable(written, variables),
        *_bad_switches(written, variables),
        *_unresolved(written, path.name),
    ]
    if unusable:
        # The settings may be wrong, too; all else depends on these variables.
        texts = _variables(inputs.get("environment") or {}, path.name, unusable)
        raise ConfigError([*unusable, *setting_problems(texts, str(inputs.get("region", "")))])
    problems = [
        f"{path.name}: inputs.{name} cannot be deployed by this command"
        for name in inputs
        if name not in _OTHER_INPUTS and name not in _FIELDS and name not in _ONLY_VALUES
    ]
    problems += [
        f"{path.name}: inputs.{name} is another one than this command deploys: write {only}"
        for name, only in _ONLY_VALUES.items()
        if PurePosixPath(str(inputs.get(name, only))) != PurePosixPath(only)
    ]
    configuration = _fields(_FIELDS, inputs, path.name, problems)
    variables = _variables(inputs.get("environment") or {}, path.name, problems)
    asynchronous = _fields(_ASYNCHRONOUS, {"retryNum": 2, "msgTTL": 21_600, **inputs}, path.name, problems)
    triggers = tuple(_triggers(inputs.get("events") or [], path.name, problems))
    if problems:
        raise ConfigError(problems)
    entries = [{"Key": name, "Value": value} for name, value in sorted(variables.items())]
    return Description(
        region=str(inputs["region"]),
        namespace=str(inputs.get("namespace", "default")),
        name=str(inputs["name"]),
        configuration={**configuration, "Environment": {"Variables": entries}},
        handler=str(inputs.get("handler", "index.main_handler")),
        asynchronous=asynchronous,
        triggers=triggers,
    )


# What reading a value of another shape raises.
_MISREAD = (AttributeError, KeyError, TypeError, ValueError)


class _BadValue(ValueError):
    """A value that cannot be deployed; the text says what is wrong with it, and what would be right."""


def _misread(error: Exception) -> str:
    if isinstance(error, _BadValue):
        return str(error)
    if isinstance(error, KeyError):
        return f"lacks {error.args[0]}"
    return "cannot be read: write it as the project's own serverless.yml does, and a text in quotes"


def _only(members: Any, *known: str) -> Any:
    """The members; raises ``_BadValue`` for one that is not known, since it would be left out."""
    unknown = sorted(map(str, members.keys() - set(known)))
    if unknown:
        raise _BadValue(
            f"has {unknown[0]}, which would be ignored: correct it to one of {', '.join(known)}, or remove it"
        )
    return members


def _fields(
    fields: Mapping[str, Callable[[Any], dict[str, Any]]],
    inputs: Mapping[str, Any],
    file: str,
    problems: list[str],
) -> dict[str, Any]:
    """The inputs as parameters of the API."""
    found: dict[str, Any] = {}
    for name, write in fields.items():
        if inputs.get(name) is not None:
            try:
                found |= write(inputs[name])
            except _MISREAD as error:
                problems.append(f"{file}: inputs.{name} {_misread(error)}")
    return found


def _variables(environment: Any, file: str, problems: list[str]) -> dict[str, str]:
    """The function's environment variables; one that is empty is left out, so its default counts."""
    is_known = isinstance(environment, dict) and environment.keys() <= {"variables"}
    variables = (environment.get("variables") or {}) if is_known else None
    if not isinstance(variables, dict):
        problems.append(f"{file}: inputs.environment must hold variables alone, each a name and a text")
        return {}
    problems += [
        f"{file}: inputs.environment.variables.{name} is not a text: write it in quotes"
        for name, value in variables.items()
        if not isinstance(value, str)
    ]
    return {name: value for name, value in variables.items() if value and isinstance(value, str)}


def _inputs(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = path.read_text("utf-8")
        inputs = yaml.safe_load(content)["inputs"]
        # Every scalar as it is written: as YAML, a variable may be a truth value (on), octal (0300) or nothing.
        written = yaml.load(content, yaml.BaseLoader)["inputs"]  # noqa: S506 - it makes only texts, lists and mappings
    except OSError as error:
        raise ConfigError(
            [f"{path.name} cannot be read ({error.strerror}): run the command in a clone"]
        ) from None
    except (yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError):
        raise ConfigError([f"{path.name} is not YAML with a member inputs"]) from None
    except ValueError:
        # YAML reads 2026-99-99 as a date.
        raise ConfigError(
            [f"{path.name} has a value that looks like a date or a number and is none: write it in quotes"]
        ) from None
    lacking = [
        name for name in ("name", "region", "src") if not isinstance(inputs, dict) or not inputs.get(name)
    ]
    if lacking:
        raise ConfigError([f"{path.name}: inputs.{name} is missing" for name in lacking])
    return {**inputs, **({"environment": written["environment"]} if "environment" in written else {})}


def _parameters(event: Any) -> dict[str, Any]:
    """The parameters of the first trigger of an item; empty if there are none."""
    body = next(iter(event.values()), None) if isinstance(event, dict) else None
    parameters = body.get("parameters") if isinstance(body, dict) else None
    return parameters if isinstance(parameters, dict) else {}


def _without_unused_queue(inputs: dict[str, Any], variables: Mapping[str, str], file: str) -> dict[str, Any]:
    """Leave out a CKafka trigger without any variable set, if there is another trigger."""

    def is_unused(event: Any) -> bool:
        names = {*references(_texts(event))}
        return _may_be_left_out(event) and bool(names) and not any(variables.get(name) for name in names)

    def is_on(event: Any) -> bool:
        enable = _parameters(event).get("enable")
        named = REFERENCE.fullmatch(enable) if isinstance(enable, str) else None
        value = variables.get(named[1], "") if named else enable
        # A misspelt word is meant to switch a trigger on or off, and is reported.
        return _is_misspelt_switch(value) or _is_enabled(value)

    events = inputs.get("events") or []
    if not isinstance(events, list):
        raise ConfigError([f"{file}: inputs.events must be a list: begin each trigger with a hyphen"])
    used = [event for event in events if not is_unused(event)]
    return {**inputs, "events": used if any(map(is_on, used)) else events}


def _may_be_left_out(event: Any) -> bool:
    return isinstance(event, dict) and event.keys() <= _LEFT_OUT_IF_UNUSED


_A_SWITCH = "true or false"


def _is_enabled(value: Any) -> bool:
    """Whether a switch is on; raises ``_BadValue`` if it is neither on nor off."""
    if _is_misspelt_switch(value):
        raise _BadValue(f"has a word that is neither on nor off: write {_A_SWITCH}")
    return value.strip().lower() in _ON if isinstance(value, str) else bool(value)


def _is_misspelt_switch(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() not in _ON | _OFF


def _bad_switches(inputs: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    """The variables that are to switch a trigger on or off, and hold another word."""
    names = {name for name in references(_texts(inputs)) if name.startswith(SWITCH)}
    return [
        f"{name} {describe_value(variables[name])}: set it to {_A_SWITCH}"
        for name in sorted(names)
        if _is_misspelt_switch(variables.get(name, ""))
    ]


def extras_of(wanted: Description) -> list[str]:
    """The extras that the function's settings need; without them every event would be a ConfigError."""
    return needed_extras(settings_of(wanted))


def settings_of(wanted: Description) -> dict[str, str]:
    """The function's environment variables."""
    return {entry["Key"]: entry["Value"] for entry in wanted.configuration["Environment"]["Variables"]}


def setting_problems(texts: Mapping[str, str], region: str, read: ReadFile | None = None) -> list[str]:
    """The problems of the function's settings, which its first event would report, and of their size.

    Args:
        texts: the function's variables.
        region: of the function; empty: it is not set, which is reported elsewhere.
        read: reads the files of the package, which some settings name; None: they are not known.
    """
    # This file is in the deployed function, not here.
    seen_here = {name: text for name, text in texts.items() if name != "MF_CA_FILE"}
    is_usable = _is_full_region(region)
    settings, problems = Settings.collect(seen_here, platform_region=region if is_usable else _ANY_REGION)
    if region and not is_usable:
        problems.append(
            f"DEPLOY_REGION {describe_value(region)}: set it to a full name such as {_ANY_REGION}"
        )
    try:
        check_files(texts, settings, read)
    except ConfigError as error:
        problems += error.problems
    # Bytes that are no text are found elsewhere.
    size = sum(len(f"{name}{text}".encode(errors="replace")) for name, text in texts.items())
    if size > _MAX_VARIABLES_BYTES:
        problems.append(
            f"all variables together have {size:,} bytes with their names, and SCF takes {_MAX_VARIABLES_BYTES:,}: shorten "
            f"the longest, or write MF_RELABEL and MF_MAPPING into files of the folder {FOLDER}/"
        )
    return problems


def contradictions(wanted: Description, file: str) -> list[str]:
    """Settings that the rest of the description does not allow for.

    Args:
        wanted: the function.
        file: the name of its description, for the problems.
    """
    # What is wrong with the settings themselves is found by ``setting_problems``.
    texts = settings_of(wanted)
    settings, _ = Settings.collect(texts)
    are_set = {name for name, text in texts.items() if text.strip()}
    return [
        *_access_problems(wanted.triggers, settings, file),
        *_useless_triggers(wanted.triggers, are_set, file),
        *_spool_problems(settings, wanted.configuration, file),
    ]


def _access_problems(triggers: Iterable[Trigger], settings: Settings, file: str) -> Iterator[str]:
    """Function URLs that let everybody in, as the function does, and those whose clients the function refuses."""
    is_cam = settings.http_auth == "cam"
    for trigger in triggers:
        if trigger.type != "http" or (json.loads(trigger.description)["AuthType"] == "CAM") == is_cam:
            continue
        yield f"{file}: the trigger http {trigger.name} " + (
            "lets everybody in, and so does the function with MF_HTTP_AUTH=cam: write authType: CAM, or set MF_HTTP_TOKEN "
            "in place of MF_HTTP_AUTH"
            if is_cam
            else "has authType: CAM, and without MF_HTTP_AUTH=cam the function refuses its clients: set that, or write "
            "authType: NONE and set MF_HTTP_TOKEN"
        )


def _useless_triggers(triggers: Iterable[Trigger], are_set: AbstractSet[str], file: str) -> Iterator[str]:
    """Enabled triggers whose every event the function would refuse, because a setting is missing."""
    for trigger in triggers:
        reason = _reason_to_refuse(trigger, are_set) if trigger.enabled else None
        if reason is not None:
            yield f"{file}: the trigger {trigger.key} is on: {reason}"


def _reason_to_refuse(trigger: Trigger, are_set: AbstractSet[str]) -> str | None:
    """What the function would say to every event of a trigger; None: it takes them."""
    from metric_forwarder import pipeline
    from metric_forwarder.scrape import scraper
    from metric_forwarder.triggers import http

    job = read_job(trigger.argument or "")
    if isinstance(job, Replay) and "MF_SPOOL" not in are_set:
        return pipeline.NO_SPOOL
    if isinstance(job, Scrape) and "MF_SCRAPE_HOSTS" not in are_set:
        return scraper.CLOSED
    is_closed = are_set.isdisjoint({"MF_HTTP_TOKEN", "MF_HTTP_AUTH", "MF_BRIDGE_ACCOUNTS"})
    if trigger.type == "http" and is_closed and json.loads(trigger.description)["AuthType"] == "NONE":
        return http.CLOSED
    return None


def _spool_problems(settings: Settings, configuration: Mapping[str, Any], file: str) -> Iterator[str]:
    """A spool of files must be on a file system: the function's own folders vanish with the instance, or are read-only."""
    if not isinstance(settings.spool, str) or not settings.spool:
        return
    mounts = configuration.get("CfsConfig", {}).get("CfsInsList", [])
    folders = [PurePosixPath(str(mount["LocalMountDir"])) for mount in mounts]
    place = PurePosixPath(normpath(unquote(urlsplit(settings.spool).path)))
    if not any(place.is_relative_to(folder) for folder in folders):
        below = " or ".join(map(str, folders))
        remedy = f"set it to a folder below {below}" if below else f"describe one in the lines cfs: of {file}"
        yield f"MF_SPOOL names a folder that is on no file system, so its points would be lost: {remedy}, or use Redis"


def _texts(value: Any, besides: str = "") -> Iterator[str]:
    """All texts within, but those of the member with the other name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            if name != besides:
                yield from _texts(member, besides)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member, besides)


def _unset(
    inputs: dict[str, Any], variables: Mapping[str, str], hidden: AbstractSet[str], file: str
) -> list[str]:
    """The variables that the file refers to and that must be set, but are not."""
    found = {*references(_texts(inputs))}
    missing = sorted(name for name in found if not variables.get(name) and is_required(name, variables))
    events = inputs.get("events") or []
    of_queues = {*references(_texts([event for event in events if _may_be_left_out(event)]))}
    delete = f"delete the lines of {file} that refer to it"
    leave_out = "leave out all variables of this trigger and switch another one on"
    return [
        name_is_hidden(name)
        if name in hidden
        else f"{name} is not set: set it in .env, a copy of .env.example, or {leave_out if name in of_queues else delete}"
        for name in missing
    ]


def _undecodable(inputs: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    """The variables of the shell whose bytes Python could not read as text: they cannot be sent, nor shown."""
    names = {*references(_texts(inputs))}
    return [
        f"{name} holds bytes that are not UTF-8: correct it"
        for name in sorted(names)
        if variables.get(name, "").encode(errors="replace").decode() != variables.get(name, "")
    ]


def _unresolved(inputs: dict[str, Any], file: str) -> list[str]:
    """References that would be deployed as text; a rule of ``MF_RELABEL`` refers to a group as ``${1}``."""
    texts = _texts(inputs, besides="MF_RELABEL")
    found = {start for text in texts for start in _OTHER_REFERENCE.findall(REFERENCE.sub("", text))}
    return [
        f"{file}: {start}…}} cannot be resolved by this command: write ${{env:NAME}}, or the value itself"
        for start in sorted(found)
    ]


def _substituted(inputs: dict[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    def is_left_out(value: Any) -> bool:
        whole = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        return whole is not None and not variables.get(whole[1])

    def substitute(value: Any) -> Any:
        if isinstance(value, str):
            return REFERENCE.sub(lambda match: variables.get(match[1], ""), value)
        if isinstance(value, dict):
            return {name: substitute(member) for name, member in value.items() if not is_left_out(member)}
        return [substitute(member) for member in value] if isinstance(value, list) else value

    substituted: dict[str, Any] = substitute(inputs)
    return substituted


def _public_access(value: Any) -> dict[str, Any]:
    status = "ENABLE" if _is_enabled(value) else "DISABLE"
    return {"PublicNetConfig": {"PublicNetStatus": status, "EipConfig": {"EipStatus": "DISABLE"}}}


def _whole(value: Any, minimum: int, maximum: int = 999_999_999) -> int:
    """A whole number; a reference to a variable makes it a text."""
    is_whole = type(value) is int or (isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value))
    if not is_whole or not minimum <= int(value) <= maximum:
        raise _BadValue(f"has a value that is no whole number from {minimum} to {maximum}: correct it")
    return int(value)


def _memory(value: Any) -> int:
    size = _whole(value, 64, 3_072)
    if size != 64 and size % 128:  # noqa: PLR2004 - the API's own numbers
        raise _BadValue("has a value that is neither 64 nor a multiple of 128: correct it")
    return size


def _renamed(members: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """The members under their names in the API; each is needed."""
    _only(members, *names)
    return {then: members[now] for now, then in names.items()}


def _mount(mount: Any) -> dict[str, Any]:
    _only(mount, "cfsId", "mountInsId", "localMountDir", "remoteMountDir")
    return {
        # Functions run as this user.
        "UserId": "10000",
        "UserGroupId": "10000",
        "CfsId": mount["cfsId"],
        "MountInsId": mount.get("mountInsId", mount["cfsId"]),
        "LocalMountDir": mount["localMountDir"],
        "RemoteMountDir": mount.get("remoteMountDir", "/"),
    }


def _layer(layer: Any) -> dict[str, Any]:
    _only(layer, "name", "version")
    return {"LayerName": str(layer["name"]), "LayerVersion": _whole(layer["version"], 1)}


# Input of the file → parameters of the API.
_FIELDS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "description": lambda value: {"Description": str(value)},
    "runtime": lambda value: {"Runtime": str(value)},
    "memorySize": lambda value: {"MemorySize": _memory(value)},
    "timeout": lambda value: {"Timeout": _whole(value, 1, 900)},
    "initTimeout": lambda value: {"InitTimeout": _whole(value, 3, 300)},
    "role": lambda value: {"Role": str(value)},
    "vpcConfig": lambda value: {
        "VpcConfig": _renamed(value, {"vpcId": "VpcId", "subnetId": "SubnetId"}),
    },
    "publicAccess": _public_access,
    "layers": lambda value: {"Layers": list(map(_layer, value))},
    "cls": lambda value: _renamed(value, {"logsetId": "ClsLogsetId", "topicId": "ClsTopicId"}),
    "deadLetter": lambda value: {"DeadLetterConfig": _renamed(value, {"type": "Type", "name": "Name"})},
    "cfs": lambda value: {"CfsConfig": {"CfsInsList": list(map(_mount, value))}},
}
_ASYNCHRONOUS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "retryNum": lambda value: {"RetryNum": _whole(value, 0)},
    "msgTTL": lambda value: {"MsgTTL": _whole(value, 1)},
}


def _triggers(events: Any, file: str, problems: list[str]) -> Iterator[Trigger]:
    seen: set[tuple[str, str, str]] = set()
    for number, event in enumerate(events):
        kind, *others = map(str, event) if isinstance(event, dict) and event else ("",)
        parameters = _parameters(event)
        if others:
            problems.append(
                f"{file}: events[{number}] holds {kind} and {others[0]}: begin each trigger with a hyphen, and write its "
                "members below parameters"
            )
            continue
        if kind not in _TRIGGERS:
            made = "created in its own console" if kind in ("cls", "apigw") else "unknown to SCF's API"
            problems.append(
                f"{file}: events[{number}] is a trigger of type {kind[:20] or 'none'}, which is {made}"
            )
            continue
        try:
            _only(event[kind] or {}, "parameters")
            make, members = _TRIGGERS[kind]
            name, described, argument = make(_only(parameters, "qualifier", "enable", *members))
            enable = parameters.get("enable", False)
            enabled = _is_enabled(enable)
        except _MISREAD as error:
            problems.append(f"{file}: events[{number}] ({kind}) {_misread(error)}")
            continue
        qualifier = str(parameters.get("qualifier", _ALIAS))
        if (kind, name, qualifier) in seen:
            # SCF calls a trigger of COS by its bucket.
            remedy = (
                "describe one with all of its events, such as cos:ObjectCreated:*"
                if kind == "cos"
                else "rename it"
            )
            problems.append(
                f"{file}: events[{number}] ({kind}) is called {name}, as an earlier one is: {remedy}"
            )
        seen.add((kind, name, qualifier))
        yield Trigger(
            type=kind,
            name=name,
            description=described,
            enabled=enabled,
            # A reference to an unset variable leaves its member out; a set one becomes text.
            is_switched_off="enable" not in parameters or (isinstance(enable, str) and not enabled),
            qualifier=qualifier,
            argument=argument,
        )


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _text(value: Any) -> str:
    """A value that must be a text; a whole number may be a name. Others would be another text than what is written."""
    if isinstance(value, str) or type(value) is int:
        return str(value)
    raise TypeError


_CRON_FIELDS = 7
_MAX_ARGUMENT_BYTES = 4_096
_Made = tuple[str, str, str | None]


def _timer(parameters: Mapping[str, Any]) -> _Made:
    argument = parameters.get("argument")
    name, expression = _text(parameters["name"]), _text(parameters["cronExpression"])
    if len(expression.split()) != _CRON_FIELDS:
        raise _BadValue(
            "has a cronExpression without seven fields: begin with the seconds, and end with the year"
        )
    if len(str(argument).encode()) > _MAX_ARGUMENT_BYTES:
        raise _BadValue("has an argument of more than 4 KB: shorten it")
    return name, expression, None if argument is None else _text(argument)


def _ckafka(parameters: Mapping[str, Any]) -> _Made:
    """By 583/17530 and 583/39901."""
    offset = _text(parameters.get("offset", "latest"))
    if offset not in ("latest", "earliest") and not re.fullmatch("[0-9]{13}", offset):
        raise _BadValue(
            "has an offset that is neither latest nor earliest nor a time in milliseconds: write one of them"
        )
    described = {
        "maxMsgNum": _whole(parameters.get("maxMsgNum", 100), 1, 10_000),
        "offset": offset,
        "retry": _whole(parameters.get("retry", 10_000), 0),
        "timeOut": _whole(parameters.get("timeout", 60), 1, 60),
        "consumerGroupName": _text(parameters.get("consumerGroupName", "")),
    }
    return f"{_text(parameters['instanceId'])}-{_text(parameters['topic'])}", _compact(described), None


def _cmq(parameters: Mapping[str, Any]) -> _Made:
    return _text(parameters["name"]), _compact({"filterType": 1, "filterKey": []}), None


def _cos(parameters: Mapping[str, Any]) -> _Made:
    kept = _only(parameters.get("filter") or {}, "prefix", "suffix")
    described = {
        "event": _text(parameters["events"]),
        "filter": {"Prefix": kept.get("prefix", ""), "Suffix": kept.get("suffix", "")},
    }
    return _text(parameters["bucket"]), _compact(described), None


def _http(parameters: Mapping[str, Any]) -> _Made:
    reach = _only(parameters.get("netConfig") or {}, "enableIntranet", "enableExtranet")
    authentication = parameters.get("authType", "NONE")
    if authentication not in ("NONE", "CAM"):
        raise _BadValue("has an authType that is neither NONE nor CAM: write one of the two")
    described = {
        "AuthType": authentication,
        "NetConfig": {
            "EnableIntranet": _is_enabled(reach.get("enableIntranet", False)),
            "EnableExtranet": _is_enabled(reach.get("enableExtranet", False)),
        },
    }
    return _text(parameters.get("name", "url")), _compact(described), None


# These need resources of the user, which a deployment may lack.
_LEFT_OUT_IF_UNUSED = frozenset({"ckafka"})
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
