"""Compare what is described with what is deployed, field by field."""

import hashlib
import json
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from metric_forwarder.cli.deployment.cloud import Cloud, described
from metric_forwarder.cli.deployment.description import Description, Trigger

_HIDDEN = "(hidden)"


class Change(NamedTuple):
    """One difference.

    Attributes:
        what: ``function``, ``code``, ``configuration``, ``asynchronous events``, ``trigger ckafka …``.
        field: the field that differs; empty if the whole is new or gone.
        now: what is deployed; None: nothing.
        then: what is described; None: nothing.
    """

    what: str
    field: str
    now: str | None
    then: str | None

    def __str__(self) -> str:
        name = f"{self.what} {self.field}".strip()
        if self.now is None:
            return f"+ {name}{f': {self.then}' if self.then else ''}"
        if self.then is None:
            return f"- {name}{f': {self.now}' if self.now else ''}"
        return f"~ {name}: {self.now} → {self.then}"


class Plan(NamedTuple):
    """Everything that a deployment would change.

    Attributes:
        is_new: there is no such function yet.
        changes: in the order in which they are carried out.
        new_triggers: to create.
        changed_triggers: to create anew or to update.
        unknown_triggers: as ``ListTriggers`` tells them; those that the description does not have.
    """

    is_new: bool
    changes: tuple[Change, ...]
    new_triggers: tuple[Trigger, ...]
    changed_triggers: tuple[Trigger, ...]
    unknown_triggers: tuple[Mapping[str, Any], ...]

    def touches(self, what: str) -> bool:
        return any(change.what == what for change in self.changes)


def make_plan(wanted: Description, package: bytes, cloud: Cloud) -> Plan:
    """Look at what is deployed and compare; changes nothing."""
    deployed = cloud.function()
    if deployed is None:
        changes = [Change("function", "", None, f"{wanted.namespace}/{wanted.name} in {wanted.region}")]
        changes += [Change(f"trigger {trigger.key}", "", None, "") for trigger in wanted.triggers]
        return Plan(True, tuple(changes), wanted.triggers, (), ())
    changes = []
    if not is_same_code(package, *cloud.package_address()):
        changes.append(Change("code", "", "another package", "this build"))
    changes += _configuration_changes(wanted.configuration, deployed)
    told = cloud.asynchronous()
    changes += [
        Change("asynchronous events", name, described(told.get(name)), described(value))
        for name, value in wanted.asynchronous.items()
        if told.get(name) != value
    ]
    return _with_triggers(changes, wanted.triggers, cloud.triggers())


def _with_triggers(
    changes: list[Change], wanted: tuple[Trigger, ...], deployed: list[dict[str, Any]]
) -> Plan:
    there = {f"{trigger['Type']} {trigger['TriggerName']}": trigger for trigger in deployed}
    new = tuple(trigger for trigger in wanted if trigger.key not in there)
    differing = {
        trigger: list(_trigger_changes(trigger, there[trigger.key]))
        for trigger in wanted
        if trigger.key in there
    }
    changed = tuple(trigger for trigger, found in differing.items() if found)
    keys = {trigger.key for trigger in wanted}
    unknown = tuple(trigger for key, trigger in there.items() if key not in keys)
    changes += [Change(f"trigger {trigger.key}", "", None, "") for trigger in new]
    changes += [change for found in differing.values() for change in found]
    return Plan(False, tuple(changes), new, changed, unknown)


def _configuration_changes(wanted: Mapping[str, Any], deployed: Mapping[str, Any]) -> Iterator[Change]:
    for name, value in wanted.items():
        if name == "Environment":
            yield from _variable_changes(value, deployed.get("Environment") or {})
            continue
        now, then = _told(name, deployed), value
        if now != then:
            yield Change("configuration", name, described(now), described(then))
    for name, empty in _LEFT_OUT_MEANS.items():
        if name not in wanted and deployed.get(name) not in (None, "", empty):
            yield Change("configuration", name, described(deployed[name]), None)


# What the absence of a field in the description stands for; another value must be taken away.
_LEFT_OUT_MEANS: Mapping[str, Any] = {"Role": "", "ClsTopicId": "", "ClsLogsetId": ""}


_KEPT = {"VpcConfig": ("VpcId", "SubnetId"), "DeadLetterConfig": ("Type", "Name")}


def _told(name: str, deployed: Mapping[str, Any]) -> Any:
    """A field as the API tells it, without what it adds."""
    value = deployed.get(name)
    if name == "PublicNetConfig" and isinstance(value, dict):
        eip = (value.get("EipConfig") or {}).get("EipStatus", "DISABLE")
        return {"PublicNetStatus": value.get("PublicNetStatus"), "EipConfig": {"EipStatus": eip}}
    if name == "CfsConfig" and isinstance(value, dict):
        kept = ("UserId", "UserGroupId", "CfsId", "MountInsId", "LocalMountDir", "RemoteMountDir")
        return {
            "CfsInsList": [{key: mount.get(key) for key in kept} for mount in value.get("CfsInsList") or []]
        }
    if name in _KEPT and isinstance(value, dict):
        return {key: value.get(key) for key in _KEPT[name]}
    return value


def _variable_changes(wanted: Mapping[str, Any], deployed: Mapping[str, Any]) -> Iterator[Change]:
    """Names alone: a value may be a secret, or hold one."""
    now = {entry["Key"]: entry["Value"] for entry in deployed.get("Variables") or []}
    then = {entry["Key"]: entry["Value"] for entry in wanted["Variables"]}
    for name in sorted({*now, *then}):
        if now.get(name) != then.get(name):
            yield Change(
                "configuration", name, _HIDDEN if name in now else None, _HIDDEN if name in then else None
            )


def _trigger_changes(wanted: Trigger, deployed: Mapping[str, Any]) -> Iterator[Change]:
    fields = {
        "TriggerDesc": (_canonical(deployed.get("TriggerDesc")), _canonical(wanted.description)),
        "Enable": ("OPEN" if deployed.get("Enable") in (1, "OPEN") else "CLOSE", _enable(wanted)),
        "Qualifier": (str(deployed.get("Qualifier")), wanted.qualifier),
        "CustomArgument": (deployed.get("CustomArgument") or "", wanted.argument or ""),
    }
    for name, (now, then) in fields.items():
        if now != then:
            yield Change(f"trigger {wanted.key}", name, now, then)


def _enable(trigger: Trigger) -> str:
    return "OPEN" if trigger.enabled else "CLOSE"


def _canonical(text: Any) -> str:
    """A trigger's description without regard to its spelling; a timer is told as ``{"cron": …}`` and asked for as text."""
    try:
        decoded = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return str(text)
    if isinstance(decoded, dict) and set(decoded) == {"cron"}:
        return str(decoded["cron"])
    return json.dumps(decoded, sort_keys=True)


def is_same_code(package: bytes, address: str, sha256: str) -> bool:
    """Whether the deployed code is this package, by its digest or, where that says something else, by its files."""
    if sha256.lower() == hashlib.sha256(package).hexdigest():
        return True
    return bool(address) and _members(fetch(address)) == _members(package)


def fetch(address: str) -> bytes:
    """Fetch the deployed package from the address that the API gave.

    Raises:
        OSError: it cannot be fetched.
    """
    with urllib.request.urlopen(address, timeout=60) as reply:  # noqa: S310 - the API named it
        content: bytes = reply.read()
    return content


def _members(package: bytes) -> dict[str, int] | None:
    """Names and checksums of the files in a zip; None if it is none."""
    try:
        with zipfile.ZipFile(BytesIO(package)) as archive:
            return {member.filename: member.CRC for member in archive.infolist() if not member.is_dir()}
    except zipfile.BadZipFile:
        return None
