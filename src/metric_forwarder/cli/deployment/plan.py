"""Compares the description with the deployed function, field by field."""

import hashlib
import http.client
import json
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from metric_forwarder.cli.deployment.cloud import Cloud, described
from metric_forwarder.cli.deployment.description import Description
from metric_forwarder.cli.deployment.triggers import Trigger, trigger_key

_HIDDEN = "(hidden)"


class Change(NamedTuple):
    """One difference.

    Attributes:
        what: ``function``, ``code``, ``configuration``, ``asynchronous events``, ``trigger ckafka …``.
        field: the field that differs; empty if all of it is new or gone.
        now: the deployed value; None: nothing.
        then: the described value; None: nothing.
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
        changes: in the order in which they are carried out, without the removal of ``unknown_triggers``.
        new_triggers: to create.
        changed_triggers: to update, or to delete and create again.
        unknown_triggers: those that are not described, as ``ListTriggers`` returns them.
        removed: parameters of the configuration that are deployed but not described.
        ready_version: the newest published version, if it and ``$LATEST`` are as described.
    """

    is_new: bool
    changes: tuple[Change, ...]
    new_triggers: tuple[Trigger, ...]
    changed_triggers: "tuple[ChangedTrigger, ...]"
    unknown_triggers: tuple[Mapping[str, Any], ...]
    removed: tuple[str, ...] = ()
    ready_version: str | None = None

    def touches(self, what: str) -> bool:
        return any(change.what == what for change in self.changes)

    def all_changes(self, *, prune: bool) -> tuple[Change, ...]:
        """The changes, and if triggers that are not described are to be removed, their removals."""
        removals = (
            Change(f"trigger {deployed_key(trigger)}", "", "", None) for trigger in self.unknown_triggers
        )
        return (*self.changes, *(removals if prune else ()))


def make_plan(wanted: Description, package: bytes, cloud: Cloud) -> Plan:
    """Read what is deployed and compare it; changes nothing."""
    deployed = cloud.function()
    if deployed is None:
        changes = [Change("function", "", None, f"{wanted.namespace}/{wanted.name} in {wanted.region}")]
        changes += [
            Change("function", name, None, described(value))
            for name, value in wanted.configuration.items()
            if name != "Environment"
        ]
        variables = _variable_changes(wanted.configuration["Environment"], {})
        changes += [change._replace(what="function") for change in variables]
        compared = _compare_triggers(wanted.triggers, [])
        return Plan(True, (*changes, *compared.changes), compared.new, (), ())
    status = cloud.wait_until_idle()
    changes = []
    if status != "Active":
        # The API may show the new values all the same, and does not say which change failed: both are made again.
        changes += [Change(what, "Status", status, "Active") for what in ("code", "configuration")]
    address, sha256 = cloud.package_address()
    if not is_same_code(package, address, sha256):
        changes.append(Change("code", "", "another package", "this build"))
    # The handler is changed together with the code.
    if deployed.get("Handler") not in (None, wanted.handler):
        changes.append(Change("code", "Handler", described(deployed["Handler"]), wanted.handler))
    changes += _configuration_changes(wanted.configuration, deployed)
    removed = tuple(_removed(wanted.configuration, deployed))
    changes += [
        Change("configuration", name, described(returned_field(name, deployed)), None) for name in removed
    ]
    ready = None
    if not changes:
        ready = _ready_version(wanted, package, sha256, cloud)
        changes += _version_changes(ready, cloud)
    told = cloud.asynchronous()
    changes += [
        Change("asynchronous events", name, described(told.get(name)), described(value))
        for name, value in wanted.asynchronous.items()
        if told.get(name) != value
    ]
    compared = _compare_triggers(wanted.triggers, cloud.triggers())
    return Plan(
        is_new=False,
        changes=(*changes, *compared.changes),
        new_triggers=compared.new,
        changed_triggers=compared.changed,
        unknown_triggers=compared.unknown,
        removed=removed,
        ready_version=ready,
    )


def _ready_version(wanted: Description, package: bytes, latest_sha256: str, cloud: Cloud) -> str | None:
    """The newest published version, if it equals ``$LATEST``; an earlier deployment may have ended before the alias."""
    newest = next(iter(cloud.versions()), None)
    if newest is None:
        return None
    number = str(newest["Version"])
    published = cloud.function(number)
    if published is None:
        return None
    address, sha256 = cloud.package_address(number)
    # If the API gives no digest, the code itself is compared.
    is_same = sha256 == latest_sha256 if sha256 and latest_sha256 else is_same_code(package, address, sha256)
    if not is_same:
        return None
    differs = (
        published.get("Handler") not in (None, wanted.handler)
        or any(_configuration_changes(wanted.configuration, published))
        or any(_removed(wanted.configuration, published))
    )
    return None if differs else number


def _version_changes(ready: str | None, cloud: Cloud) -> Iterator[Change]:
    """Compare the version that ``$DEFAULT`` leads to, since events reach it and not ``$LATEST``."""
    in_force = cloud.alias()
    if ready is None or in_force != ready:
        yield Change("version", "", f"$DEFAULT leads to {in_force or 'nothing'}", ready or "a new one")
    elif cloud.is_traffic_split():
        yield Change("version", "", f"$DEFAULT leads to {in_force}, and in part to another", ready)


class ChangedTrigger(NamedTuple):
    """A described trigger, and the deployed one that is to become it, as ``ListTriggers`` returns it."""

    wanted: Trigger
    deployed: Mapping[str, Any]


class _ComparedTriggers(NamedTuple):
    changes: tuple[Change, ...]
    new: tuple[Trigger, ...]
    changed: tuple[ChangedTrigger, ...]
    unknown: tuple[Mapping[str, Any], ...]


def _compare_triggers(wanted: tuple[Trigger, ...], deployed: list[dict[str, Any]]) -> _ComparedTriggers:
    pairs, unknown = _pair_triggers(wanted, deployed)
    new = tuple(trigger for trigger in wanted if trigger not in pairs and not trigger.is_switched_off)
    differing = [
        (ChangedTrigger(trigger, pairs[trigger]), tuple(_trigger_changes(trigger, pairs[trigger])))
        for trigger in wanted
        if trigger in pairs
    ]
    return _ComparedTriggers(
        changes=(
            *(Change(f"trigger {trigger.key}", "", None, "") for trigger in new),
            *(change for _, found in differing for change in found),
        ),
        new=new,
        changed=tuple(trigger for trigger, found in differing if found),
        unknown=unknown,
    )


def _pair_triggers(
    wanted: tuple[Trigger, ...], deployed: list[dict[str, Any]]
) -> tuple[dict[Trigger, Mapping[str, Any]], tuple[Mapping[str, Any], ...]]:
    """The deployed trigger of each described one, and those that are left.

    One on another qualifier is taken if there is none on the described one: it is to be moved there. Otherwise both would
    bring the same events.
    """
    left = list(deployed)
    pairs: dict[Trigger, Mapping[str, Any]] = {}
    for is_same_qualifier in (True, False):
        for trigger in wanted:
            found = next(
                (
                    each
                    for each in left
                    if _is_same_trigger(trigger, each)
                    and (each.get("Qualifier") == trigger.qualifier or not is_same_qualifier)
                ),
                None,
            )
            if trigger not in pairs and found is not None:
                pairs[trigger] = found
                left.remove(found)
    return pairs, tuple(left)


def _is_same_trigger(wanted: Trigger, deployed: Mapping[str, Any]) -> bool:
    """Whether both are the same trigger, or would be on the same qualifier."""
    if wanted.type != deployed["Type"]:
        return False
    if wanted.type == "http":
        # The platform names a function URL itself. Each alias or version has one at most, which identifies it.
        return wanted.qualifier == deployed.get("Qualifier")
    return wanted.name == str(deployed["TriggerName"])


def deployed_key(trigger: Mapping[str, Any]) -> str:
    """What identifies a deployed trigger, as it is shown."""
    return trigger_key(trigger["Type"], trigger["TriggerName"], str(trigger.get("Qualifier")))


def _configuration_changes(wanted: Mapping[str, Any], deployed: Mapping[str, Any]) -> Iterator[Change]:
    for name, value in wanted.items():
        if name == "Environment":
            yield from _variable_changes(value, deployed.get("Environment") or {})
            continue
        now, then = returned_field(name, deployed), value
        if now != then:
            yield Change("configuration", name, described(now), described(then))


# The value that a field has if it is not described; another value is removed by sending this one. Other fields stay as they are
# deployed: the platform gives its own log topic to a function without one, and has its own defaults for public access, memory
# and time limits.
LEFT_OUT_MEANS: Mapping[str, Any] = {
    "Description": "",
    "Role": "",
    "VpcConfig": {"VpcId": "", "SubnetId": ""},
    "DeadLetterConfig": {"Type": "", "Name": "", "FilterType": ""},
    "CfsConfig": {"CfsInsList": []},
    # An empty name and 0 are the documented way to remove the last layer.
    "Layers": [{"LayerName": "", "LayerVersion": 0}],
}


def _removed(wanted: Mapping[str, Any], deployed: Mapping[str, Any]) -> Iterator[str]:
    return (
        name
        for name, empty in LEFT_OUT_MEANS.items()
        if name not in wanted and not _is_nothing(returned_field(name, deployed), empty)
    )


def _is_nothing(value: Any, empty: Any) -> bool:
    if isinstance(value, dict):
        return not any(value.values())
    return not value or value == empty


# Fields of which only the described members are compared, since the API adds others.
_KEPT = {"VpcConfig": ("VpcId", "SubnetId"), "DeadLetterConfig": ("Type", "Name")}


def returned_field(name: str, deployed: Mapping[str, Any]) -> Any:
    """A field as the API returns it, without the members that it adds."""
    value = deployed.get(name)
    if name == "Layers":
        return [{key: layer.get(key) for key in ("LayerName", "LayerVersion")} for layer in value or []]
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
    """Only names are shown, since a value may be a secret."""
    now = {entry["Key"]: entry["Value"] for entry in deployed.get("Variables") or []}
    then = {entry["Key"]: entry["Value"] for entry in wanted["Variables"]}
    for name in sorted({*now, *then}):
        if now.get(name) != then.get(name):
            yield Change(
                "configuration", name, _HIDDEN if name in now else None, _HIDDEN if name in then else None
            )


def _trigger_changes(wanted: Trigger, deployed: Mapping[str, Any]) -> Iterator[Change]:
    fields = {
        **_description_fields(deployed.get("TriggerDesc"), wanted.description),
        "Enable": ("OPEN" if deployed.get("Enable") in (1, "OPEN") else "CLOSE", _enable(wanted)),
        "Qualifier": (str(deployed.get("Qualifier")), wanted.qualifier),
        "CustomArgument": (deployed.get("CustomArgument") or "", wanted.argument or ""),
    }
    for name, values in fields.items():
        now, then = values
        if now == then:
            continue
        if name == "CustomArgument":
            # A timer's message may hold a token, such as that of a scraped target.
            now, then = (_HIDDEN if value else "" for value in values)
        yield Change(f"trigger {wanted.key}", name, now, then)


def _enable(trigger: Trigger) -> str:
    return "OPEN" if trigger.enabled else "CLOSE"


def _description_fields(told: Any, wanted: str) -> dict[str, tuple[str, str]]:
    """The described members of a trigger: their deployed and their described values.

    The API returns more members than were described, some of them secret, and numbers as texts.
    """
    now, then = _decoded(told), _decoded(wanted)
    if not isinstance(then, dict):
        # A timer's is sent as text and returned as ``{"cron": …}``.
        return {"TriggerDesc": (str(now.get("cron") if isinstance(now, dict) else now), str(then))}
    members = now if isinstance(now, dict) else {}
    return {
        f"TriggerDesc.{name}": (_plain(_of_same_members(members.get(name), value)), _plain(value))
        for name, value in then.items()
    }


def _of_same_members(now: Any, then: Any) -> Any:
    """An object with the described members only: the API adds the addresses of a function URL to its ``NetConfig``."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {name: now.get(name) for name in then}
    return now


def _decoded(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text


def _plain(value: Any) -> str:
    """A value of a trigger's description as text: the API returns 10 as ``"10"``, and true as ``"true"``."""
    if isinstance(value, dict):
        return json.dumps({name: _plain(member) for name, member in sorted(value.items())})
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_same_code(package: bytes, address: str, sha256: str) -> bool:
    """Whether the deployed code is this package, by its digest, or if that differs, by its files.

    Code that cannot be fetched counts as different: uploading it again does no harm.
    """
    if sha256.lower() == hashlib.sha256(package).hexdigest():
        return True
    if not address.startswith(("https://", "http://")):
        return False
    try:
        return _members(_fetch(address)) == _members(package)
    except (OSError, http.client.HTTPException):
        return False


def _fetch(address: str) -> bytes:
    """Fetch the deployed package from the address that the API gave.

    Raises:
        OSError: it cannot be fetched.
        HTTPException: the reply breaks off, or is not HTTP.
    """
    with urllib.request.urlopen(address, timeout=60) as reply:  # noqa: S310 - https or http, and the API named it
        content: bytes = reply.read()
    return content


def _members(package: bytes) -> dict[str, int] | None:
    """Names and checksums of the files in a zip; None if it is not a zip."""
    try:
        with zipfile.ZipFile(BytesIO(package)) as archive:
            return {member.filename: member.CRC for member in archive.infolist() if not member.is_dir()}
    except zipfile.BadZipFile:
        return None
