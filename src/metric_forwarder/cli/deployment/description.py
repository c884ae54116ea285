"""``serverless.yml`` and ``.env`` → the wanted function, in the terms of the SCF API.

The Serverless CLI reads the same file. Anything in it that this command cannot deploy is reported, never left out
silently.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from metric_forwarder.errors import ConfigError
from metric_forwarder.settings.extras import needed_extras
from metric_forwarder.settings.settings import PREFIX, Settings

_REFERENCE = re.compile(r"\$\{env:(\w+)\}")
_ALIAS = "$DEFAULT"
# Values that do not switch a trigger on.
_SWITCH = "DEPLOY_ENABLE_"
_OFF = frozenset({"", "0", "false", "no", "off"})

# Inputs for the deployment itself, or that are read by name below.
_OTHER_INPUTS = frozenset(
    {
        "name",
        "namespace",
        "region",
        "src",
        "type",
        "events",
        "environment",
        "handler",
        "msgTTL",
        "retryNum",
    }
)


class Trigger(NamedTuple):
    """One trigger, as ``CreateTrigger`` takes it; its type and name identify it.

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
        return f"{self.type} {self.name}"


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


def read_description(path: Path, variables: Mapping[str, str]) -> Description:
    """Read the file.

    Args:
        path: ``serverless.yml``.
        variables: what ``${env:NAME}`` stands for.

    Raises:
        ConfigError: with everything that is wrong with it.
    """
    inputs = _substituted(_without_unused_queue(_inputs(path), variables), variables, path.name)
    problems = [
        f"{path.name}: inputs.{name} cannot be deployed by this command"
        for name in inputs
        if name not in _OTHER_INPUTS and name not in _FIELDS
    ]
    triggers = tuple(_triggers(inputs.get("events") or [], path.name, problems))
    if problems:
        raise ConfigError(problems)
    return Description(
        region=str(inputs["region"]),
        namespace=str(inputs.get("namespace", "default")),
        name=str(inputs["name"]),
        configuration=_configuration(inputs),
        handler=str(inputs.get("handler", "index.main_handler")),
        asynchronous={
            "RetryNum": int(inputs.get("retryNum", 2)),
            "MsgTTL": int(inputs.get("msgTTL", 21_600)),
        },
        triggers=triggers,
    )


def _configuration(inputs: Mapping[str, Any]) -> dict[str, Any]:
    configuration: dict[str, Any] = {}
    for name, write in _FIELDS.items():
        if inputs.get(name) is not None:
            configuration |= write(inputs[name])
    variables = (inputs.get("environment") or {}).get("variables") or {}
    entries = [{"Key": key, "Value": str(value)} for key, value in sorted(variables.items())]
    return {**configuration, "Environment": {"Variables": entries}}


def _inputs(path: Path) -> dict[str, Any]:
    import yaml

    try:
        inputs = yaml.safe_load(path.read_text("utf-8"))["inputs"]
    except OSError as error:
        raise ConfigError(
            [f"{path.name} cannot be read ({error.strerror}): run the command in a clone"]
        ) from None
    except (yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError):
        raise ConfigError([f"{path.name} is not YAML with a member inputs"]) from None
    lacking = [
        name for name in ("name", "region", "src") if not isinstance(inputs, dict) or not inputs.get(name)
    ]
    if lacking:
        raise ConfigError([f"{path.name}: inputs.{name} is missing" for name in lacking])
    return dict(inputs)


def _without_unused_queue(inputs: dict[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """Leave out a CKafka trigger without any variable set, if there is another trigger."""

    def is_unused(event: Any) -> bool:
        names = {name for text in _texts(event) for name in _REFERENCE.findall(text)}
        may_be = isinstance(event, dict) and not _LEFT_OUT_IF_UNUSED.isdisjoint(event)
        return may_be and bool(names) and not any(variables.get(name) for name in names)

    def is_on(event: Any) -> bool:
        parameters = next(iter(event.values()), None) if isinstance(event, dict) else None
        enable = (parameters or {}).get("parameters", {}).get("enable")
        named = _REFERENCE.fullmatch(enable) if isinstance(enable, str) else None
        return _is_enabled(variables.get(named[1], "") if named else enable)

    events = inputs.get("events") or []
    used = [event for event in events if not is_unused(event)]
    return {**inputs, "events": used if any(map(is_on, used)) else events}


def _is_enabled(value: Any) -> bool:
    return value.strip().lower() not in _OFF if isinstance(value, str) else bool(value)


def extras_of(wanted: Description) -> list[str]:
    """The extras that the function's settings need; without them every event would be a ConfigError."""
    return needed_extras(settings_of(wanted))


def settings_of(wanted: Description) -> dict[str, str]:
    """The function's environment variables."""
    return {entry["Key"]: entry["Value"] for entry in wanted.configuration["Environment"]["Variables"]}


def setting_problems(texts: Mapping[str, str], region: str) -> list[str]:
    """The problems of the function's settings, which its first event would report."""
    # This file is in the deployed function, not here.
    seen_here = {name: text for name, text in texts.items() if name != "MF_CA_FILE"}
    return Settings.collect(seen_here, platform_region=region)[1]


def strays(written: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Settings of this shell that would be deployed although ``.env`` says otherwise, such as those of a local trial.

    If ``.env`` has no setting, as in a pipeline, those of the environment are used.
    """
    if not any(name.startswith(PREFIX) for name in written):
        return []
    return [
        f"{name} is set in this shell, but .env does not have the same value: unset it, or write it into .env"
        for name, value in sorted(environ.items())
        if name.startswith(PREFIX) and value and value != written.get(name)
    ]


def is_required(name: str, variables: Mapping[str, str]) -> bool:
    """Whether a reference to a variable that is not set is a mistake; otherwise the member is left out.

    A setting has a default, a role is needed only to read a secret or an object, and a trigger may stay off.
    """
    if name == "DEPLOY_ROLE":
        return bool(variables.get("MF_SECRET_NAME"))
    return not name.startswith((PREFIX, _SWITCH))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


def _substituted(inputs: dict[str, Any], variables: Mapping[str, str], file: str) -> dict[str, Any]:
    found = {name for text in _texts(inputs) for name in _REFERENCE.findall(text)}
    missing = sorted(name for name in found if not variables.get(name) and is_required(name, variables))
    if missing:
        remedy = f"set it in .env, a copy of .env.example, or delete the lines of {file} that refer to it"
        raise ConfigError([f"{name} is not set: {remedy}" for name in missing])

    def is_left_out(value: Any) -> bool:
        whole = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        return whole is not None and not variables.get(whole[1])

    def substitute(value: Any) -> Any:
        if isinstance(value, str):
            return _REFERENCE.sub(lambda match: variables.get(match[1], ""), value)
        if isinstance(value, dict):
            return {name: substitute(member) for name, member in value.items() if not is_left_out(member)}
        return [substitute(member) for member in value] if isinstance(value, list) else value

    substituted: dict[str, Any] = substitute(inputs)
    return substituted


def _public_access(is_on: bool) -> dict[str, Any]:  # noqa: FBT001 - called with a value of the file
    status = "ENABLE" if is_on else "DISABLE"
    return {"PublicNetConfig": {"PublicNetStatus": status, "EipConfig": {"EipStatus": "DISABLE"}}}


def _cfs(mounts: Any) -> dict[str, Any]:
    owner = {"UserId": "10000", "UserGroupId": "10000"}  # functions run as this user
    return {
        "CfsConfig": {
            "CfsInsList": [
                {
                    **owner,
                    "CfsId": mount["cfsId"],
                    "MountInsId": mount.get("mountInsId", mount["cfsId"]),
                    "LocalMountDir": mount["localMountDir"],
                    "RemoteMountDir": mount.get("remoteMountDir", "/"),
                }
                for mount in mounts
            ]
        }
    }


# Input of the file → parameters of the API.
_FIELDS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "description": lambda value: {"Description": str(value)},
    "runtime": lambda value: {"Runtime": str(value)},
    "memorySize": lambda value: {"MemorySize": int(value)},
    "timeout": lambda value: {"Timeout": int(value)},
    "initTimeout": lambda value: {"InitTimeout": int(value)},
    "role": lambda value: {"Role": str(value)},
    "vpcConfig": lambda value: {"VpcConfig": {"VpcId": value["vpcId"], "SubnetId": value["subnetId"]}},
    "publicAccess": _public_access,
    "layers": lambda value: {
        "Layers": [{"LayerName": str(each["name"]), "LayerVersion": int(each["version"])} for each in value]
    },
    "cls": lambda value: {"ClsLogsetId": value["logsetId"], "ClsTopicId": value["topicId"]},
    "deadLetter": lambda value: {"DeadLetterConfig": {"Type": value["type"], "Name": value["name"]}},
    "cfs": _cfs,
}


def _triggers(events: Any, file: str, problems: list[str]) -> Iterator[Trigger]:
    for number, event in enumerate(events):
        (kind, body), *_ = event.items() if isinstance(event, dict) and event else [("", None)]
        parameters = (body or {}).get("parameters") or {}
        if kind not in _TRIGGERS:
            made = "created in its own console" if kind in ("cls", "apigw") else "unknown to SCF's API"
            problems.append(
                f"{file}: events[{number}] is a trigger of type {kind[:20] or 'none'}, which is {made}"
            )
            continue
        try:
            name, described, argument = _TRIGGERS[kind](parameters)
        except KeyError as error:
            problems.append(f"{file}: events[{number}] ({kind}) lacks {error.args[0]}")
            continue
        enable = parameters.get("enable", False)
        yield Trigger(
            type=kind,
            name=name,
            description=described,
            enabled=_is_enabled(enable),
            # A reference to an unset variable leaves its member out; a set one becomes text.
            is_switched_off="enable" not in parameters
            or (isinstance(enable, str) and not _is_enabled(enable)),
            qualifier=str(parameters.get("qualifier", _ALIAS)),
            argument=argument,
        )


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


_Made = tuple[str, str, str | None]


def _timer(parameters: Mapping[str, Any]) -> _Made:
    return parameters["name"], parameters["cronExpression"], parameters.get("argument")


def _ckafka(parameters: Mapping[str, Any]) -> _Made:
    described = {
        "maxMsgNum": parameters.get("maxMsgNum", 100),
        "offset": parameters.get("offset", "latest"),
        "retry": parameters.get("retry", 10_000),
        "timeOut": parameters.get("timeout", 60),
        "consumerGroupName": parameters.get("consumerGroupName", ""),
    }
    return f"{parameters['instanceId']}-{parameters['topic']}", _compact(described), None


def _cmq(parameters: Mapping[str, Any]) -> _Made:
    return parameters["name"], _compact({"filterType": 1, "filterKey": []}), None


def _cos(parameters: Mapping[str, Any]) -> _Made:
    kept = parameters.get("filter") or {}
    described = {
        "event": parameters["events"],
        "filter": {"Prefix": kept.get("prefix", ""), "Suffix": kept.get("suffix", "")},
    }
    return parameters["bucket"], _compact(described), None


def _http(parameters: Mapping[str, Any]) -> _Made:
    reach = parameters.get("netConfig") or {}
    described = {
        "AuthType": parameters.get("authType", "NONE"),
        "NetConfig": {
            "EnableIntranet": bool(reach.get("enableIntranet", False)),
            "EnableExtranet": bool(reach.get("enableExtranet", False)),
        },
    }
    return parameters.get("name", "url"), _compact(described), None


# These need resources of the user, which a deployment may lack.
_LEFT_OUT_IF_UNUSED = frozenset({"ckafka"})
_TRIGGERS: Mapping[str, Callable[[Mapping[str, Any]], _Made]] = {
    "timer": _timer,
    "ckafka": _ckafka,
    "cmq": _cmq,
    "cos": _cos,
    "http": _http,
}
