"""Carry a plan out, step by step; roll back; verify.

Every step can be repeated: if one fails, the steps before it stay done, and the next run continues from there.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from metric_forwarder.cli.deployment.cloud import Cloud, CloudError
from metric_forwarder.cli.deployment.description import Description
from metric_forwarder.cli.deployment.plan import LEFT_OUT_MEANS, ChangedTrigger, Plan, deployed_key
from metric_forwarder.cli.deployment.triggers import Trigger

# ``UpdateTrigger`` accepts these; others are deleted and created again.
UPDATABLE = ("timer", "ckafka", "http")
# Fixed when the function is created.
_UNCHANGEABLE = "Runtime"

Progress = Callable[[str], None]


class Step(NamedTuple):
    """One step, and its name to print."""

    name: str
    run: Callable[[], None]


class HalfDone(Exception):
    """A step failed or was interrupted; the text says what was done before it, what was not, and why."""

    def __init__(self, done: list[str], failed: str, left: list[str], reason: str) -> None:
        lines = [f"failed: {failed}", f"  {reason}"]
        lines.insert(0, f"done: {', '.join(done) or 'nothing'}")
        lines.append(f"not done: {', '.join(left) or 'nothing'}")
        lines.append("Run it again when the cause is gone: it continues from there.")
        super().__init__("\n".join(lines))


def deploy(
    wanted: Description, package: bytes, plan: Plan, cloud: Cloud, progress: Progress, *, prune: bool = False
) -> None:
    """Change the deployed function to what is described, and publish it as a version that ``$DEFAULT`` leads to.

    Triggers that are not described stay, unless ``prune`` removes them.

    Raises:
        HalfDone: a step failed.
    """
    if not plan.is_new and any(change.field == _UNCHANGEABLE for change in plan.changes):
        reason = "the API cannot change it: give the function another name, or delete it in the console"
        raise HalfDone([], "change the runtime", ["everything else"], reason)
    steps = [*_steps(wanted, package, plan, cloud), *_trigger_steps(plan, cloud, prune=prune)]
    for number, step in enumerate(steps):
        progress(f"{number + 1}/{len(steps)} {step.name}")
        try:
            step.run()
        except (CloudError, KeyboardInterrupt) as error:
            names = [each.name for each in steps]
            reason = str(error) or "interrupted: whether this step was done is not known"
            raise HalfDone(names[:number], step.name, names[number + 1 :], reason) from None


def _steps(wanted: Description, package: bytes, plan: Plan, cloud: Cloud) -> Iterator[Step]:
    code = {"ZipFile": base64.b64encode(package).decode("ascii")}
    if plan.is_new:
        yield Step("create the function", lambda: _create(wanted, code, cloud))
    if plan.touches("code"):
        yield Step(
            "upload the code",
            lambda: _change(cloud, "UpdateFunctionCode", {"Code": code, "Handler": wanted.handler}),
        )
    if plan.touches("configuration"):
        yield Step(
            "change the configuration",
            lambda: _change(
                cloud, "UpdateFunctionConfiguration", reconfiguration(wanted.configuration, plan.removed)
            ),
        )
    if plan.is_new or plan.touches("asynchronous events"):
        yield Step(
            "set retries and lifetime of asynchronous events",
            lambda: _change(cloud, "UpdateFunctionEventInvokeConfig", asynchronous(wanted)),
        )
    if plan.is_new or plan.touches("code") or plan.touches("configuration"):
        yield Step("publish a version and let $DEFAULT lead to it", lambda: publish(cloud))
    elif plan.touches("version"):
        ready = plan.ready_version
        yield Step(
            "let $DEFAULT lead to the described version"
            if ready
            else "publish a version and let $DEFAULT lead to it",
            partial(point_alias, cloud, ready) if ready else partial(publish, cloud),
        )


def _trigger_steps(plan: Plan, cloud: Cloud, *, prune: bool) -> Iterator[Step]:
    """Triggers come last, so that no event reaches a half-changed function."""
    for unknown in plan.unknown_triggers if prune else ():
        yield Step(f"remove the trigger {deployed_key(unknown)}", partial(_remove, unknown, cloud))
    for changed in plan.changed_triggers:
        yield Step(f"change the trigger {changed.wanted.key}", partial(_update, changed, cloud))
    for new in plan.new_triggers:
        yield Step(f"create the trigger {new.key}", partial(_add, new, cloud))


def asynchronous(wanted: Description) -> dict[str, Any]:
    """The parameters of ``UpdateFunctionEventInvokeConfig``, without name and namespace."""
    retries, lifetime_s = wanted.asynchronous["RetryNum"], wanted.asynchronous["MsgTTL"]
    return {"AsyncTriggerConfig": {"RetryConfig": [{"RetryNum": retries}], "MsgTTL": lifetime_s}}


def creation(wanted: Description, code: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of ``CreateFunction``, without name and namespace."""
    return {**wanted.configuration, "Handler": wanted.handler, "Type": "Event", "Code": code}


def _create(wanted: Description, code: Mapping[str, str], cloud: Cloud) -> None:
    cloud.call("CreateFunction", creation(wanted, code))
    cloud.settle()


def _change(cloud: Cloud, action: str, parameters: Mapping[str, Any]) -> None:
    # This change may repair an earlier one that failed.
    cloud.wait_until_idle()
    cloud.call(action, parameters)
    cloud.settle()


def reconfiguration(configuration: Mapping[str, Any], removed: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters of ``UpdateFunctionConfiguration``, without name and namespace.

    Args:
        configuration: the described configuration.
        removed: parameters to take away.
    """
    changed = {name: value for name, value in configuration.items() if name != _UNCHANGEABLE}
    if not changed["Environment"]["Variables"]:
        # Tencent Cloud's own toolkit removes the last variable in this way.
        changed["Environment"] = {"Variables": [{"Key": "", "Value": ""}]}
    return {**changed, **{name: LEFT_OUT_MEANS[name] for name in removed}}


def publish(cloud: Cloud) -> None:
    """Publish ``$LATEST`` as a version, and let ``$DEFAULT`` lead to it."""
    cloud.settle()
    version = cloud.publish("metric-forwarder deploy")
    cloud.settle()
    point_alias(cloud, version)


def point_alias(cloud: Cloud, version: str) -> None:
    cloud.call("UpdateAlias", {"Name": "$DEFAULT", "FunctionVersion": version})


def previous_version(cloud: Cloud) -> tuple[str | None, str | None]:
    """The current version, and the one published before it."""
    current = cloud.alias()
    numbers = [str(version["Version"]) for version in cloud.versions()]
    older = [number for number in numbers if current in numbers and int(number) < int(current or 0)]
    return current, older[0] if older else None


def trigger_request(trigger: Trigger) -> dict[str, Any]:
    """The parameters of ``CreateTrigger`` and ``UpdateTrigger``, without the function's."""
    asked: dict[str, Any] = {
        "TriggerName": trigger.name,
        "Type": trigger.type,
        "TriggerDesc": trigger.description,
        "Enable": "OPEN" if trigger.enabled else "CLOSE",
        "Qualifier": trigger.qualifier,
    }
    return asked if trigger.argument is None else {**asked, "CustomArgument": trigger.argument}


def _add(trigger: Trigger, cloud: Cloud) -> None:
    cloud.settle()
    cloud.call("CreateTrigger", trigger_request(trigger))


def _update(changed: ChangedTrigger, cloud: Cloud) -> None:
    wanted, deployed = changed
    # A trigger is identified by its version too, so that cannot be updated.
    if wanted.type in UPDATABLE and deployed.get("Qualifier") == wanted.qualifier:
        cloud.settle()
        # The platform names a function URL itself.
        name = deployed["TriggerName"]
        cloud.call("UpdateTrigger", {**trigger_request(wanted), "TriggerName": name})
        return
    _remove(deployed, cloud)
    _add(wanted, cloud)


def _remove(trigger: Mapping[str, Any], cloud: Cloud) -> None:
    cloud.settle()
    cloud.call(
        "DeleteTrigger",
        {
            "TriggerName": trigger["TriggerName"],
            "Type": trigger["Type"],
            "TriggerDesc": trigger.get("TriggerDesc"),
            "Qualifier": trigger.get("Qualifier"),
        },
    )
