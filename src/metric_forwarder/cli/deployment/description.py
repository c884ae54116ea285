"""``serverless.yml`` and ``.env`` → the wanted function, in the terms of the SCF API.

The Serverless CLI reads the same file. Anything in it that this command cannot deploy is reported, never left out
silently.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from metric_forwarder.cli.deployment.env_variables import (
    REFERENCE,
    SWITCH,
    is_required,
    name_is_hidden,
    references,
)
from metric_forwarder.cli.deployment.file_settings import FOLDER, ReadFile, check_files
from metric_forwarder.cli.deployment.triggers import Trigger, may_be_left_out, parameters_of, read_triggers
from metric_forwarder.cli.deployment.values import (
    A_SWITCH,
    MISREAD,
    BadValue,
    is_enabled,
    is_misspelt_switch,
    misread,
    only,
    whole,
)
from metric_forwarder.errors import ConfigError
from metric_forwarder.secret import describe_value
from metric_forwarder.settings.extras import needed_extras
from metric_forwarder.settings.settings import Settings

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
    triggers = tuple(read_triggers(inputs.get("events") or [], path.name, problems))
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
            except MISREAD as error:
                problems.append(f"{file}: inputs.{name} {misread(error)}")
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


def _without_unused_queue(inputs: dict[str, Any], variables: Mapping[str, str], file: str) -> dict[str, Any]:
    """Leave out a CKafka trigger without any variable set, if there is another trigger."""

    def is_unused(event: Any) -> bool:
        names = {*references(_texts(event))}
        return may_be_left_out(event) and bool(names) and not any(variables.get(name) for name in names)

    def is_on(event: Any) -> bool:
        enable = parameters_of(event).get("enable")
        named = REFERENCE.fullmatch(enable) if isinstance(enable, str) else None
        value = variables.get(named[1], "") if named else enable
        # A misspelt word is meant to switch a trigger on or off, and is reported.
        return is_misspelt_switch(value) or is_enabled(value)

    events = inputs.get("events") or []
    if not isinstance(events, list):
        raise ConfigError([f"{file}: inputs.events must be a list: begin each trigger with a hyphen"])
    used = [event for event in events if not is_unused(event)]
    return {**inputs, "events": used if any(map(is_on, used)) else events}


def _bad_switches(inputs: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    """The variables that are to switch a trigger on or off, and hold another word."""
    names = {name for name in references(_texts(inputs)) if name.startswith(SWITCH)}
    return [
        f"{name} {describe_value(variables[name])}: set it to {A_SWITCH}"
        for name in sorted(names)
        if is_misspelt_switch(variables.get(name, ""))
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
    of_queues = {*references(_texts([event for event in events if may_be_left_out(event)]))}
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
    status = "ENABLE" if is_enabled(value) else "DISABLE"
    return {"PublicNetConfig": {"PublicNetStatus": status, "EipConfig": {"EipStatus": "DISABLE"}}}


def _memory(value: Any) -> int:
    size = whole(value, 64, 3_072)
    if size != 64 and size % 128:  # noqa: PLR2004 - the API's own numbers
        raise BadValue("has a value that is neither 64 nor a multiple of 128: correct it")
    return size


def _renamed(members: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """The members under their names in the API; each is needed."""
    only(members, *names)
    return {then: members[now] for now, then in names.items()}


def _mount(mount: Any) -> dict[str, Any]:
    only(mount, "cfsId", "mountInsId", "localMountDir", "remoteMountDir")
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
    only(layer, "name", "version")
    return {"LayerName": str(layer["name"]), "LayerVersion": whole(layer["version"], 1)}


# Input of the file → parameters of the API.
_FIELDS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "description": lambda value: {"Description": str(value)},
    "runtime": lambda value: {"Runtime": str(value)},
    "memorySize": lambda value: {"MemorySize": _memory(value)},
    "timeout": lambda value: {"Timeout": whole(value, 1, 900)},
    "initTimeout": lambda value: {"InitTimeout": whole(value, 3, 300)},
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
    "retryNum": lambda value: {"RetryNum": whole(value, 0)},
    "msgTTL": lambda value: {"MsgTTL": whole(value, 1)},
}
