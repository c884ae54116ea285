"""``metric-forwarder deploy`` against the API on loopback, which judges each request by the models of the real SDK."""

import io
import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from metric_forwarder.cli.deployment import deployer
from metric_forwarder.cli.deployment.cloud import Account, Cloud, CloudError
from metric_forwarder.cli.deployment.contradictions import contradictions
from metric_forwarder.cli.deployment.description import (
    Description,
    extras_of,
    read_description,
    setting_problems,
    settings_of,
)
from metric_forwarder.cli.deployment.dotenv import read_dotenv
from metric_forwarder.cli.deployment.env_variables import strays, unreferenced
from metric_forwarder.cli.deployment.file_settings import files_of_clone, files_of_zip
from metric_forwarder.cli.deployment.plan import Plan, make_plan
from metric_forwarder.errors import ConfigError
from metric_forwarder.secret import Secret
from support import serverless_file
from support.command_line import child_environ, command, execute
from support.harness import ROOT
from support.scf_api import CERTIFICATE, REGION, SECRET_ID, SECRET_KEY, ScfApi

FILLED = {
    **dict.fromkeys(serverless_file.required(serverless_file.text()), "value"),
    "DEPLOY_ROLE": "value",
    "MF_SECRET_NAME": "value",
    "MF_NAMESPACE": "pc",
    "DEPLOY_REGION": REGION,
    "TENCENT_SECRET_ID": SECRET_ID,
    "TENCENT_SECRET_KEY": SECRET_KEY,
    "DEPLOY_CA_FILE": CERTIFICATE,
}


def package(text: str = "pass\n", *, names: tuple[str, ...] = ("index.py",)) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


@pytest.fixture
def api() -> Iterator[ScfApi]:
    with ScfApi() as running:
        yield running


class Deployer:
    """Deploys as the command does, without waiting."""

    def __init__(self, api: ScfApi, **variables: str) -> None:
        self.variables = {**FILLED, "DEPLOY_API_ENDPOINT": api.endpoint, **variables}
        self.file = ROOT / "serverless.yml"
        self.waited: list[float] = []
        self.steps: list[str] = []
        self.account = Account(
            SECRET_ID, Secret(SECRET_KEY), REGION, endpoint=api.endpoint, ca_file=CERTIFICATE
        )
        self.cloud = Cloud(self.account, "default", "metric-forwarder", self.waited.append)

    def wanted(self) -> Description:
        return read_description(self.file, self.variables)

    def plan(self, built: bytes) -> Plan:
        return make_plan(self.wanted(), built, self.cloud)

    def deploy(self, built: bytes, *, prune: bool = False) -> None:
        self.steps.clear()
        wanted = self.wanted()
        plan = make_plan(wanted, built, self.cloud)
        deployer.deploy(wanted, built, plan, self.cloud, self.steps.append, prune=prune)


# --- from nothing, and again ----------------------------------------------------------------------------------


def test_one_deployment_creates_the_function_its_version_and_its_triggers(api: ScfApi) -> None:
    Deployer(api).deploy(package())
    configuration = api.function["configuration"]
    assert (configuration["Handler"], configuration["Runtime"], configuration["MemorySize"]) == (
        "index.main_handler",
        "Python3.10",
        256,
    )
    assert [
        (trigger["Type"], trigger["Enable"], trigger["Qualifier"]) for trigger in api.function["triggers"]
    ] == [("ckafka", 1, "$DEFAULT")]
    assert api.function["alias"] == "1"
    assert api.function["asynchronous"] == {"RetryConfig": [{"RetryNum": 2}], "MsgTTL": 21_600}


def test_a_second_deployment_changes_nothing(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    before = dict(api.calls)
    assert ours.plan(package()).changes == ()
    ours.deploy(package())
    changed = {action for action, count in api.calls.items() if count > before.get(action, 0)}
    assert not {action for action in changed if not action.startswith(("Get", "List"))}


def test_a_plan_names_each_field_and_changes_nothing(api: ScfApi) -> None:
    Deployer(api).deploy(package())
    before = dict(api.calls)
    api.function["configuration"]["MemorySize"] = 128
    api.function["triggers"][0]["Enable"] = 0
    plan = Deployer(api, MF_NAMESPACE="other").plan(package("changed\n"))
    assert [str(change) for change in plan.changes] == [
        "~ code: another package → this build",
        "~ configuration MemorySize: 128 → 256",
        "~ configuration MF_NAMESPACE: (hidden) → (hidden)",
        "~ trigger ckafka value-value Enable: CLOSE → OPEN",
    ]
    assert not {a for a in api.calls if api.calls[a] > before.get(a, 0) and not a.startswith(("Get", "List"))}


def test_only_what_differs_is_changed_and_published_as_a_new_version(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    ours.deploy(package("changed\n"))
    assert [step.partition(" ")[2] for step in ours.steps] == [
        "upload the code",
        "publish a version and let $DEFAULT lead to it",
    ]
    assert api.function["alias"] == "2"


def test_a_rebuilt_zip_with_the_same_files_is_not_a_change(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.py", "pass\n")
    assert stored.getvalue() != package()
    assert not ours.plan(stored.getvalue()).touches("code")


def test_the_fields_of_the_configuration_are_compared_and_what_is_not_described_is_taken_away(
    api: ScfApi,
) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    configuration = api.function["configuration"]
    configuration |= {
        "Handler": "index.another",
        "MemorySize": 64,
        "Timeout": 3,
        "InitTimeout": 3,
        "Role": "another",
        "Description": "another",
        "ClsTopicId": "another",
        "VpcConfig": {"VpcId": "vpc-another", "SubnetId": "value"},
        "PublicNetConfig": {"PublicNetStatus": "DISABLE", "EipConfig": {"EipStatus": "DISABLE"}},
        "Layers": [{"LayerName": "stray", "LayerVersion": 3, "Status": "Active"}],
        "DeadLetterConfig": {"Type": "topic", "Name": "stray", "FilterType": ""},
        "CfsConfig": {"CfsInsList": [{"CfsId": "cfs-stray", "LocalMountDir": "/mnt/stray"}]},
    }
    api.function["asynchronous"] = {"RetryConfig": [{"RetryNum": 0}], "MsgTTL": 60}
    plan = ours.plan(package())
    assert {change.field for change in plan.changes} == {
        *(
            "Handler",
            "MemorySize",
            "Timeout",
            "InitTimeout",
            "Role",
            "Description",
            "ClsTopicId",
            "VpcConfig",
        ),
        *("PublicNetConfig", "Layers", "DeadLetterConfig", "CfsConfig", "RetryNum", "MsgTTL"),
    }
    ours.deploy(package())
    assert (ours.plan(package()).changes, configuration["Layers"]) == ((), [])


def test_a_version_in_force_with_another_handler_is_not_as_described(api: ScfApi, tmp_path: Path) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    ours.file = tmp_path / "serverless.yml"
    text = (ROOT / "serverless.yml").read_text("utf-8")
    ours.file.write_text(text.replace("index.main_handler", "index.another"), "utf-8")
    api.script = {"PublishVersion": ["UnauthorizedOperation"]}
    with pytest.raises(deployer.HalfDone):
        ours.deploy(package())
    assert [str(change) for change in ours.plan(package()).changes] == [
        "~ version: $DEFAULT leads to 1 → a new one"
    ]
    ours.deploy(package())
    in_force = api.function["versions"][api.function["alias"]]
    assert in_force["configuration"]["Handler"] == "index.another"


def test_another_runtime_is_refused_since_the_api_cannot_change_it(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    api.function["configuration"]["Runtime"] = "Python3.7"
    with pytest.raises(deployer.HalfDone, match="give the function another name"):
        ours.deploy(package("changed\n"))
    assert api.function["alias"] == "1"


def test_the_last_variable_is_taken_away(api: ScfApi, tmp_path: Path) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    ours.file = tmp_path / "serverless.yml"
    lines = (ROOT / "serverless.yml").read_text("utf-8").splitlines()
    ours.file.write_text("\n".join(line for line in lines if not line.startswith("      MF_")), "utf-8")
    ours.deploy(package())
    assert api.function["configuration"]["Environment"] == {"Variables": []}
    assert ours.plan(package()).changes == ()


def test_layers_are_deployed_as_they_are_described(api: ScfApi, tmp_path: Path) -> None:
    described = (ROOT / "serverless.yml").read_text("utf-8")
    (tmp_path / "serverless.yml").write_text(
        described.replace("  msgTTL:", "  layers:\n    - name: certificates\n      version: 2\n  msgTTL:"),
        "utf-8",
    )
    ours = Deployer(api)
    ours.file = tmp_path / "serverless.yml"
    ours.deploy(package())
    assert api.function["configuration"]["Layers"] == [{"LayerName": "certificates", "LayerVersion": 2}]
    assert ours.plan(package()).changes == ()


def test_after_going_back_a_deployment_leads_to_the_newest_version_again(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    ours.deploy(package("changed\n"))
    deployer.point_alias(ours.cloud, "1")
    assert [str(change) for change in ours.plan(package("changed\n")).changes] == [
        "~ version: $DEFAULT leads to 1 → 2"
    ]
    ours.deploy(package("changed\n"))
    assert (api.function["alias"], len(api.function["versions"])) == ("2", 3), (
        "no version is made for nothing"
    )


def test_a_version_whose_reply_was_lost_is_not_published_twice(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    api.polls = 0
    api.lost_replies = ["PublishVersion"]
    ours.deploy(package("changed\n"))
    assert set(api.function["versions"]) == {"$LATEST", "1", "2"}
    assert deployer.previous_version(ours.cloud) == ("2", "1")
    assert ours.plan(package("changed\n")).changes == ()


def test_events_that_reach_another_version_in_part_are_a_difference(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    api.function["routing"] = {"AdditionalVersionWeights": [{"Version": "$LATEST", "Weight": 0.3}]}
    assert [str(change) for change in ours.plan(package()).changes] == [
        "~ version: $DEFAULT leads to 1, and in part to another → 1"
    ]
    ours.deploy(package())
    assert ours.plan(package()).changes == ()


def test_code_is_compared_where_the_api_tells_no_digest(api: ScfApi) -> None:
    api.tells_digests = False
    ours = Deployer(api)
    ours.deploy(package())
    assert ours.plan(package()).changes == ()
    api.script = {"PublishVersion": ["UnauthorizedOperation"]}
    with pytest.raises(deployer.HalfDone):
        ours.deploy(package("changed\n"))
    ours.deploy(package("changed\n"))
    assert (api.function["alias"], ours.plan(package("changed\n")).changes) == ("2", ())


def test_code_that_cannot_be_fetched_counts_as_another_one(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    api.stop_serving_packages()
    assert ours.plan(package()).changes == (), "the digest is enough"
    ours.deploy(package("changed\n"))
    assert api.function["alias"] == "2"


def test_code_whose_download_breaks_off_counts_as_another_one(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    api.breaks_off = True
    ours.deploy(package("changed\n"))
    assert api.function["alias"] == "2"


# --- triggers -------------------------------------------------------------------------------------------------


def test_a_trigger_that_is_not_described_is_left_alone_unless_pruned(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    mine = {
        "TriggerName": "mine",
        "Type": "timer",
        "TriggerDesc": '{"cron":"0 * * * * * *"}',
        "Enable": 1,
        "Qualifier": "$DEFAULT",
    }
    api.function["triggers"].append(mine)
    ours.deploy(package())
    assert mine in api.function["triggers"]
    ours.deploy(package(), prune=True)
    assert mine not in api.function["triggers"]


def test_the_removal_of_a_trigger_is_shown_as_a_change(api: ScfApi, clone: Path) -> None:
    Deployer(api).deploy(package())
    mine = {"TriggerName": "mine", "Type": "timer", "TriggerDesc": "{}", "Enable": 1, "Qualifier": "$DEFAULT"}
    api.function["triggers"].append(mine)
    removal = {"what": "trigger timer mine", "field": "", "now": "", "then": None}
    status, out, _ = run(clone, "--plan", "--prune", "--json")
    assert (status, json.loads(out)) == (0, [removal])
    assert run(clone, "--verify", "--prune")[:2] == (1, "- trigger timer mine\n")
    status, out, _ = run(clone, "--verify")
    assert (status, "? trigger timer mine: not in the description, not changed" in out) == (0, True)
    assert mine in api.function["triggers"]


def test_a_trigger_bound_to_another_version_is_made_again(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    api.function["triggers"][0]["Qualifier"] = "$LATEST"
    ours.deploy(package())
    assert [trigger["Qualifier"] for trigger in api.function["triggers"]] == ["$DEFAULT"]


def test_a_trigger_of_the_same_name_on_another_version_is_one_of_its_own(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    (described,) = api.function["triggers"]
    for triggers in (
        [dict(described, Qualifier="$LATEST"), described],
        [described, dict(described, Qualifier="$LATEST")],
    ):
        api.function["triggers"] = [dict(trigger) for trigger in triggers]
        plan = ours.plan(package())
        assert plan.changes == ()
        assert [str(change) for change in plan.all_changes(prune=True)] == [
            "- trigger ckafka value-value on $LATEST"
        ]
        ours.deploy(package())
        assert len(api.function["triggers"]) == 2
        ours.deploy(package(), prune=True)
        assert api.function["triggers"] == [described]


def test_one_name_may_be_described_on_two_versions(api: ScfApi, tmp_path: Path) -> None:
    ours = Deployer(api)
    ours.file = tmp_path / "serverless.yml"
    text = (ROOT / "serverless.yml").read_text("utf-8")
    on_latest = "    - timer: {parameters: {name: t, cronExpression: 0 * * * * * *, qualifier: $LATEST, enable: true}}\n"
    ours.file.write_text(f"{text}\n{on_latest}{on_latest.replace('$LATEST', '$DEFAULT')}", "utf-8")
    ours.deploy(package())
    assert ours.plan(package()).changes == ()
    timers = [trigger for trigger in api.function["triggers"] if trigger["Type"] == "timer"]
    assert {timer["Qualifier"] for timer in timers} == {"$LATEST", "$DEFAULT"}
    timers[0]["Enable"] = 0
    ours.deploy(package())
    assert [step.partition(" ")[2] for step in ours.steps] == ["change the trigger timer t on $LATEST"]
    assert ours.plan(package()).changes == ()


def with_url(folder: Path, *, reach: str = "true") -> Path:
    """``serverless.yml`` as it is shipped, and a function URL."""
    file = folder / "serverless.yml"
    text = (ROOT / "serverless.yml").read_text("utf-8")
    url = f"{{name: url, authType: CAM, netConfig: {{enableIntranet: {reach}}}, enable: true}}"
    file.write_text(f"{text}\n    - http: {{parameters: {url}}}\n", "utf-8")
    return file


def function_urls(api: ScfApi) -> list[tuple[str, str]]:
    """Names and qualifiers of those that exist."""
    return [
        (each["TriggerName"], each["Qualifier"])
        for each in api.function["triggers"]
        if each["Type"] == "http"
    ]


def test_a_function_url_is_known_again_and_changed_under_the_name_that_the_platform_gave_it(
    api: ScfApi, tmp_path: Path
) -> None:
    ours = Deployer(api, MF_HTTP_AUTH="cam")
    ours.file = with_url(tmp_path)
    ours.deploy(package())
    ((name, _),) = function_urls(api)
    assert name != "url"
    assert ours.plan(package()).all_changes(prune=True) == ()
    ours.file = with_url(tmp_path, reach="false")
    (change,) = ours.plan(package()).changes
    assert (change.what, change.field) == ("trigger http url", "TriggerDesc.NetConfig")
    assert (change.now, change.then) == (
        '{"EnableExtranet": "false", "EnableIntranet": "true"}',
        '{"EnableExtranet": "false", "EnableIntranet": "false"}',
    )
    ours.deploy(package())
    assert ours.plan(package()).all_changes(prune=True) == ()
    assert (function_urls(api), api.calls["DeleteTrigger"]) == ([(name, "$DEFAULT")], 0)


def test_a_function_url_of_another_version_is_left_to_those_who_use_it(api: ScfApi, tmp_path: Path) -> None:
    ours = Deployer(api, MF_HTTP_AUTH="cam")
    ours.file = with_url(tmp_path)
    ours.deploy(package())
    api.function["triggers"][-1] |= {"TriggerName": "hulrzrbh9f", "Qualifier": "$LATEST"}
    ours.deploy(package())
    assert [qualifier for _, qualifier in function_urls(api)] == ["$LATEST", "$DEFAULT"]
    assert [str(change) for change in ours.plan(package()).all_changes(prune=True)] == [
        "- trigger http hulrzrbh9f on $LATEST"
    ]


def test_a_timer_is_switched_on_and_off_by_a_variable(api: ScfApi) -> None:
    Deployer(api).deploy(package())
    assert [trigger["Type"] for trigger in api.function["triggers"]] == ["ckafka"]
    Deployer(api, DEPLOY_ENABLE_REPLAY="true").deploy(package())
    on = {trigger["TriggerName"]: trigger["Enable"] for trigger in api.function["triggers"]}
    assert on == {"value-value": 1, "replay": 1}
    Deployer(api, DEPLOY_ENABLE_REPLAY="false").deploy(package())
    on = {trigger["TriggerName"]: trigger["Enable"] for trigger in api.function["triggers"]}
    assert on == {"value-value": 1, "replay": 0}


@pytest.mark.parametrize("word", ["flase", "none", "ture"])
def test_a_switch_that_is_neither_on_nor_off_is_named(api: ScfApi, word: str) -> None:
    queue = {"DEPLOY_CKAFKA_INSTANCE_ID": "", "DEPLOY_CKAFKA_TOPIC": ""}
    with pytest.raises(ConfigError) as caught:
        Deployer(api, **queue, DEPLOY_ENABLE_HEARTBEAT=word).wanted()
    assert caught.value.problems == (f'DEPLOY_ENABLE_HEARTBEAT is "{word}": set it to true or false',)


@pytest.mark.parametrize(
    ("word", "is_on"), [("Yes", True), ("1", True), ("y", True), ("n", False), ("OFF", False), ("0", False)]
)
def test_the_usual_words_switch_a_timer_on_and_off(api: ScfApi, word: str, is_on: bool) -> None:  # noqa: FBT001 - a parameter of the test
    wanted = Deployer(api, DEPLOY_ENABLE_REPLAY=word).wanted()
    (replay,) = [trigger for trigger in wanted.triggers if trigger.name == "replay"]
    assert (replay.enabled, replay.is_switched_off) == (is_on, not is_on)


def test_without_a_queue_another_trigger_invokes_the_function(api: ScfApi) -> None:
    queue = {"DEPLOY_CKAFKA_INSTANCE_ID": "", "DEPLOY_CKAFKA_TOPIC": ""}
    with pytest.raises(ConfigError, match=r"DEPLOY_CKAFKA_INSTANCE_ID[^\n]*\n[^\n]*DEPLOY_CKAFKA_TOPIC"):
        Deployer(api, **queue).wanted()
    with pytest.raises(ConfigError, match="DEPLOY_CKAFKA_TOPIC"):
        Deployer(api, DEPLOY_ENABLE_HEARTBEAT="true", DEPLOY_CKAFKA_TOPIC="").wanted()
    Deployer(api, **queue, DEPLOY_ENABLE_HEARTBEAT="true").deploy(package())
    assert [trigger["TriggerName"] for trigger in api.function["triggers"]] == ["heartbeat"]


def test_of_a_triggers_description_only_what_differs_is_shown_and_never_a_password(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    described = json.loads(api.function["triggers"][0]["TriggerDesc"])
    api.function["triggers"][0]["TriggerDesc"] = json.dumps({**described, "maxMsgNum": "7"})
    assert [str(change) for change in ours.plan(package()).changes] == [
        "~ trigger ckafka value-value TriggerDesc.maxMsgNum: 7 → 1000"
    ]


def test_a_plan_does_not_show_the_message_of_a_timer_which_may_hold_a_token(
    api: ScfApi, tmp_path: Path
) -> None:
    ours = Deployer(api)
    ours.file = tmp_path / "serverless.yml"
    text = (ROOT / "serverless.yml").read_text("utf-8")
    timer = "    - timer: {parameters: {name: t, cronExpression: 0 * * * * * *, argument: token=old, enable: true}}\n"
    ours.file.write_text(f"{text}\n{timer}", "utf-8")
    ours.deploy(package())
    ours.file.write_text(f"{text}\n{timer.replace('old', 'new')}", "utf-8")
    assert [str(change) for change in ours.plan(package()).changes] == [
        "~ trigger timer t CustomArgument: (hidden) → (hidden)"
    ]


# --- failures -------------------------------------------------------------------------------------------------


def test_throttling_and_a_busy_function_are_waited_out(api: ScfApi) -> None:
    api.script = {
        "CreateFunction": ["RequestLimitExceeded"],
        "PublishVersion": ["FailedOperation.FunctionStatusError"],
        "GetFunction": ["InternalError"],
    }
    ours = Deployer(api)
    ours.deploy(package())
    assert api.function["alias"] == "1"
    assert len(ours.waited) >= 3


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AuthFailure.UnauthorizedOperation", "docs/deploy.md has the policy"),
        ("LimitExceeded.Function", "a quota of the account"),
        ("AuthFailure.TokenFailure", "check TENCENT_TOKEN in .env"),
        ("InvalidParameterValue.Runtime", "correct the value"),
    ],
)
def test_a_failure_half_way_says_what_was_done_and_a_second_run_goes_on(
    api: ScfApi, code: str, remedy: str
) -> None:
    api.script = {"CreateTrigger": [code]}
    ours = Deployer(api)
    with pytest.raises(deployer.HalfDone) as caught:
        ours.deploy(package())
    told = str(caught.value)
    assert "done: create the function, set retries" in told
    assert "failed: create the trigger ckafka value-value" in told
    assert (code in told, remedy in told, "not done: nothing" in told) == (True, True, True)
    assert SECRET_KEY not in told
    ours.deploy(package())
    assert [step.partition(" ")[2] for step in ours.steps] == ["create the trigger ckafka value-value"]


def test_a_function_that_fails_to_be_created_is_reported(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    api.function["failed"] = "CreateFailed"
    with pytest.raises(CloudError, match=r"FailedOperation\.CreateFailed: .* delete it in the console"):
        ours.plan(package())


@pytest.mark.parametrize("action", ["UpdateFunctionCode", "UpdateFunctionConfiguration"])
def test_a_change_that_failed_after_it_was_accepted_is_made_again(api: ScfApi, action: str) -> None:
    Deployer(api).deploy(package())
    ours = Deployer(api, MF_NAMESPACE="another")

    def fail_once(called: str) -> None:
        if called == action and api.calls[action] == 1:
            api.function["failed"] = "UpdateFailed"

    api.interrupt = fail_once
    with pytest.raises(deployer.HalfDone, match="UpdateFailed"):
        ours.deploy(package("changed\n"))
    assert "~ configuration Status: UpdateFailed → Active" in map(
        str, ours.plan(package("changed\n")).changes
    )
    ours.deploy(package("changed\n"))
    assert (api.function["alias"], api.calls[action]) == ("2", 2)
    assert ours.plan(package("changed\n")).changes == ()


def test_a_change_that_failed_before_can_be_made_again(api: ScfApi) -> None:
    ours = Deployer(api)
    ours.deploy(package())
    api.function["failed"] = "UpdateFailed"
    ours.deploy(package("changed\n"))
    assert (api.function["alias"], ours.plan(package("changed\n")).changes) == ("2", ())


WRITES = (
    "CreateFunction",
    "UpdateFunctionCode",
    "UpdateFunctionConfiguration",
    "UpdateFunctionEventInvokeConfig",
    "PublishVersion",
    "UpdateAlias",
    "CreateTrigger",
    "UpdateTrigger",
)


def changed(api: ScfApi) -> Deployer:
    """Deploys with another setting, other retries and another trigger, so that every step has something to do."""
    if api.functions:
        api.function["asynchronous"] = {"RetryConfig": [{"RetryNum": 0}], "MsgTTL": 60}
        api.function["triggers"] = [dict(api.function["triggers"][0], Enable=0)]
    return Deployer(api, MF_NAMESPACE="other")


@pytest.mark.slow
@pytest.mark.parametrize("action", WRITES)
def test_whatever_step_fails_a_second_run_reaches_the_same_end(api: ScfApi, action: str) -> None:
    if action not in ("CreateFunction", "CreateTrigger"):
        Deployer(api).deploy(package())
    ours = changed(api)
    api.script = {action: ["UnauthorizedOperation"]}
    with pytest.raises(deployer.HalfDone, match=f"{action}: UnauthorizedOperation"):
        ours.deploy(package("changed\n"))
    assert ours.plan(package("changed\n")).changes != (), "half a deployment is never taken for a whole one"
    ours.deploy(package("changed\n"))
    assert ours.plan(package("changed\n")).changes == ()
    in_force = api.function["versions"][api.function["alias"]]
    assert in_force["package"] == package("changed\n")
    assert {"Key": "MF_NAMESPACE", "Value": "other"} in in_force["configuration"]["Environment"]["Variables"]
    assert [trigger["Enable"] for trigger in api.function["triggers"]] == [1]


def test_what_the_api_complains_of_is_named_and_its_value_is_not(api: ScfApi) -> None:
    code = "InvalidParameterValue"
    api.script = {"CreateFunction": [code]}
    api.messages[code] = f"VpcConfig SubnetId does not match {SECRET_KEY}"
    with pytest.raises(deployer.HalfDone, match=r"InvalidParameterValue \[SubnetId, VpcConfig\]") as caught:
        Deployer(api).deploy(package())
    assert SECRET_KEY not in str(caught.value)


def test_an_interruption_says_what_was_done(api: ScfApi) -> None:
    # It is pressed while a throttled call waits.
    api.script, api.polls = {"PublishVersion": ["RequestLimitExceeded"]}, 0
    ours = Deployer(api)
    ours.cloud = Cloud(ours.account, "default", "metric-forwarder", interrupted)
    with pytest.raises(deployer.HalfDone, match="interrupted: whether this step was done is not known"):
        ours.deploy(package())


def interrupted(_seconds: float) -> None:
    raise KeyboardInterrupt


def test_a_certificate_that_is_not_trusted_is_reported_at_once(api: ScfApi) -> None:
    waited: list[float] = []
    account = Account(SECRET_ID, Secret(SECRET_KEY), REGION, endpoint=api.endpoint)
    with pytest.raises(
        CloudError, match="untrusted certificate: name the certificates to trust in DEPLOY_CA_FILE"
    ):
        Cloud(account, "default", "metric-forwarder", waited.append).function()
    assert waited == []


def test_without_a_network_the_command_gives_up_soon_and_says_what_it_waits_for() -> None:
    waited: list[float] = []
    said: list[str] = []
    account = Account(SECRET_ID, Secret(SECRET_KEY), REGION, endpoint="127.0.0.1:1")
    with pytest.raises(
        CloudError, match=r"GetFunction: unreachable \(127.0.0.1:1\): check this machine's network"
    ):
        Cloud(account, "default", "metric-forwarder", waited.append, said.append).function()
    assert waited == [1]
    assert said == ["GetFunction: unreachable (127.0.0.1:1); trying again in 1 s"]


def test_an_api_that_stops_answering_is_tried_again_for_longer() -> None:
    with ScfApi() as api:
        ours = Deployer(api)
        ours.cloud.function()
    with pytest.raises(CloudError, match="unreachable"):
        ours.cloud.function()
    assert ours.waited == [1, 2, 4, 8, 16]


def test_throttling_that_does_not_pass_is_reported(api: ScfApi) -> None:
    api.script = {"CreateFunction": ["RequestLimitExceeded"] * 6}
    with pytest.raises(deployer.HalfDone, match=r"RequestLimitExceeded .*: the API is called too often"):
        Deployer(api).deploy(package())
    Deployer(api).deploy(package())


@pytest.mark.slow
def test_a_change_that_never_ends_is_reported_and_taken_up_by_the_next_run(api: ScfApi) -> None:
    ours = Deployer(api)
    api.polls = 1_000
    with pytest.raises(deployer.HalfDone, match=r"FailedOperation\.Creating for 300 s"):
        ours.deploy(package())
    api.function["busy"], api.polls = 1, 1
    ours.deploy(package())
    assert ours.plan(package()).changes == ()


def test_a_wrong_key_is_reported_without_the_key(api: ScfApi) -> None:
    account = Account(SECRET_ID, Secret("another-key"), REGION, endpoint=api.endpoint, ca_file=CERTIFICATE)
    with pytest.raises(CloudError, match="check TENCENT_SECRET_ID") as caught:
        Cloud(account, "default", "metric-forwarder", lambda _: None).function()
    assert "another-key" not in str(caught.value)


# --- the description ------------------------------------------------------------------------------------------


def test_each_reference_to_an_unset_variable_is_counted_and_named_with_its_remedy() -> None:
    lacking = ("DEPLOY_ROLE", "DEPLOY_VPC_ID")
    left = {name: value for name, value in FILLED.items() if name not in lacking}
    with pytest.raises(ConfigError, match="2 settings to correct") as caught:
        read_description(ROOT / "serverless.yml", left)
    remedy = "set it in .env, a copy of .env.example, or delete the lines of serverless.yml that refer to it"
    assert caught.value.problems == tuple(f"{name} is not set: {remedy}" for name in lacking)


def test_without_a_queue_the_remedy_is_another_trigger_and_no_change_of_the_description() -> None:
    left = {name: value for name, value in FILLED.items() if not name.startswith("DEPLOY_CKAFKA_")}
    with pytest.raises(ConfigError) as caught:
        read_description(ROOT / "serverless.yml", left)
    remedy = "leave out all variables of this trigger and switch another one on"
    assert caught.value.problems == tuple(
        f"{name} is not set: set it in .env, a copy of .env.example, or {remedy}"
        for name in ("DEPLOY_CKAFKA_INSTANCE_ID", "DEPLOY_CKAFKA_TOPIC")
    )


def test_a_comment_behind_a_value_of_the_env_file_hides_no_other_mistake(clone: Path) -> None:
    text = (clone / ".env").read_text("utf-8").replace("DEPLOY_VPC_ID=value", "DEPLOY_VPC_ID=")
    text += "\nMF_CONCURRENCY=8 # at once\nMF_MAX_AGE_S='600\nMF_NAMESPCE=pc"
    (clone / ".env").write_text(text, encoding="utf-8")
    done = execute("deploy", "--plan", *files(clone))
    told = [line for line in done.err.splitlines() if line.startswith("  - ")]
    assert [line.split()[1] for line in told] == [
        "MF_CONCURRENCY",
        "MF_MAX_AGE_S",
        "MF_NAMESPCE",
        "DEPLOY_VPC_ID",
    ]
    assert "MF_CONCURRENCY in .env: what follows" in told[0]
    assert "MF_MAX_AGE_S in .env: a quote at one end" in told[1]


def test_one_run_with_the_example_as_it_is_names_all_that_must_be_filled_in() -> None:
    done = execute("deploy", "--plan", f"--env-file={ROOT / '.env.example'}")
    names = [line.split()[1] for line in done.err.splitlines() if line.startswith("  - ")]
    must_be_set = set(serverless_file.required(serverless_file.text())) - {"DEPLOY_REGION"}
    assert names == ["TENCENT_SECRET_ID", *sorted(must_be_set), "MF_REMOTE_WRITE_URL"]
    assert done.status == 2


def test_a_script_for_another_deployer_needs_no_key(tmp_path: Path) -> None:
    done = execute("deploy", f"--tccli={tmp_path}", f"--env-file={ROOT / '.env.example'}")
    assert "MF_REMOTE_WRITE_URL" in done.err
    assert "TENCENT_SECRET_ID" not in done.err


def test_a_trigger_that_the_api_cannot_make_is_a_problem_and_not_left_out(tmp_path: Path) -> None:
    text = "inputs:\n  name: f\n  region: r\n  src: build/package\n  gpu: true\n  events:\n    - cls: {parameters: {topicId: t}}\n    - timer: {parameters: {name: t}}\n"
    (tmp_path / "serverless.yml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_description(tmp_path / "serverless.yml", {})
    assert [
        line in str(caught.value) for line in ("inputs.gpu", "type cls", "(timer) lacks cronExpression")
    ] == [True] * 3


def described(tmp_path: Path, text: str, **variables: str) -> Description:
    path = tmp_path / "serverless.yml"
    path.write_text(f"inputs:\n  name: f\n  region: r\n  src: build/package\n{text}", encoding="utf-8")
    return read_description(path, variables)


def test_a_variable_is_deployed_as_it_is_written_and_not_as_yaml_reads_it(tmp_path: Path) -> None:
    written = {
        "MF_SELF_METRICS": "on",
        "MF_MAX_AGE_S": "0300",
        "MF_LABELS": "12:30:45",
        "MF_NAMESPACE": "2024_01",
        "MF_SCHEMA": "true",
    }
    lines = "".join(f"      {name}: {value}\n" for name, value in written.items())
    found = described(tmp_path, f"  environment:\n    variables:\n      MF_SPOOL:\n{lines}")
    assert settings_of(found) == written, "an empty one is left out, and was the text None"


@pytest.mark.parametrize("off", ["false", "no", "'off'", "${env:SWITCH}"])
def test_what_is_switched_off_by_a_word_is_not_opened_to_the_internet(tmp_path: Path, off: str) -> None:
    reach = f"netConfig: {{enableIntranet: {off}, enableExtranet: {off}}}".replace(
        "${env:SWITCH}", "'${env:SWITCH}'"
    )
    found = described(
        tmp_path,
        f"  publicAccess: {off}\n  events:\n    - http: {{parameters: {{{reach}}}}}\n",
        SWITCH="off",
    )
    assert found.configuration["PublicNetConfig"]["PublicNetStatus"] == "DISABLE"
    assert json.loads(found.triggers[0].description)["NetConfig"] == {
        "EnableExtranet": False,
        "EnableIntranet": False,
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("  environment: {variables: {MF_MAPPING: {each: /a}}}\n", "inputs.environment.variables.MF_MAPPING is not a text"),
        ("  environment: {variables: [a]}\n", "inputs.environment must hold variables"),
        ("  environment: a\n", "inputs.environment must hold variables"),
        ("  timeout: 60s\n", "inputs.timeout has a value that is no whole number from 1 to 900: correct it"),
        ("  timeout: 0.5\n", "inputs.timeout has a value that is no whole number from 1 to 900"),
        ("  timeout: .inf\n", "inputs.timeout has a value that is no whole number from 1 to 900"),
        ("  timeout: 901\n", "inputs.timeout has a value that is no whole number from 1 to 900"),
        ("  initTimeout: 2\n", "inputs.initTimeout has a value that is no whole number from 3 to 300"),
        ("  memorySize: 256.9\n", "inputs.memorySize has a value that is no whole number from 64 to 3072"),
        ("  memorySize: 200\n", "inputs.memorySize has a value that is neither 64 nor a multiple of 128: correct it"),
        ("  layers: [{name: l, version: true}]\n", "inputs.layers has a value that is no whole number from 1"),
        ("  retryNum: two\n", "inputs.retryNum has a value that is no whole number from 0"),
        ("  msgTTL: 0\n", "inputs.msgTTL has a value that is no whole number from 1"),
        ("  events: [timer: {parameters: {name: t, cronExpression: 0 */5 * * *}}]\n", "events[0] (timer) has a cronExpression without seven fields"),
        (f"  events: [timer: {{parameters: {{name: t, cronExpression: 0 * * * * * *, argument: {'é' * 2_049}}}}}]\n", "events[0] (timer) has an argument of more than 4 KB: shorten it"),
        ("  events: [ckafka: {parameters: {instanceId: i, topic: t, offset: lates}}]\n", "events[0] (ckafka) has an offset that is neither latest nor earliest nor a time in milliseconds"),
        ("  events: [ckafka: {parameters: {instanceId: i, topic: t, retry: true}}]\n", "events[0] (ckafka) has a value that is no whole number from 0"),
        ("  events: [ckafka: {parameters: {instanceId: i, topic: t, timeout: 61}}]\n", "events[0] (ckafka) has a value that is no whole number from 1 to 60"),
        ("  vpcConfig: vpc-1\n", "inputs.vpcConfig cannot be read"),
        ("  vpcConfig: {vpcId: vpc-1}\n", "inputs.vpcConfig lacks subnetId"),
        ("  cfs: {localMountDir: /m}\n", "inputs.cfs cannot be read"),
        ("  events: {timer: {}}\n", "inputs.events must be a list"),
        ("  events: [timer: x]\n", "events[0] (timer) cannot be read"),
        ("  events: [timer: {parameters: }]\n", "events[0] (timer) lacks name"),
        ("  events: [timer: {parameters: {name: t, cronExpression: 0 * * * * * *, argument: {replay: true}}}]\n", "events[0] (timer) cannot be read"),
        ("  events: [ckafka: {parameters: {instanceId: i, topic: t, maxMsgNum: many}}]\n", "events[0] (ckafka) has a value that is no whole number from 1 to 10000"),
        ("  events: [cmq: {parameters: {name: q, enable: flase}}]\n", "events[0] (cmq) has a word that is neither on nor off: write true or false"),
        ("  publicAccess: flase\n", "inputs.publicAccess has a word that is neither on nor off: write true or false"),
        ("  events: [http: {parameters: {netConfig: all}}]\n", "events[0] (http) cannot be read"),
        ("  environment: {MF_SPOOL: a}\n", "inputs.environment must hold variables alone"),
        ("  vpcConfig: {vpcId: v, subnetId: s, subnet: s}\n", "inputs.vpcConfig has subnet, which would be ignored: correct it to one of vpcId, subnetId"),
        ("  cfs: [{cfsId: c, localMountDir: /m, userId: 0}]\n", "inputs.cfs has userId, which would be ignored"),
        ("  cfs: [{}]\n", "inputs.cfs lacks cfsId"),
        ("  layers: [{}]\n", "inputs.layers lacks name"),
        ("  layers: [{name: l, version: 1, src: .}]\n", "inputs.layers has src, which would be ignored"),
        ("  type: web\n", "inputs.type is another one than this command deploys: write event"),
        ("  src: ./other\n", "inputs.src is another one than this command deploys: write ./build/package"),
        ("  events: [timer: {name: t, parameters: {name: t, cronExpression: 0 * * * * * *}}]\n", "events[0] (timer) has name, which would be ignored: correct it to one of parameters"),
        ("  events: [{timer: {parameters: {name: t, cronExpression: 0 * * * * * *}}, cmq: {parameters: {name: q}}}]\n", "events[0] holds timer and cmq: begin each trigger with a hyphen"),
        ("  events: [{timer: , parameters: {name: t, cronExpression: 0 * * * * * *}}]\n", "events[0] holds timer and parameters: begin each trigger with a hyphen, and write its members below"),
        ("  events: [ckafka: {parameters: {instanceId: i, topic: t, maxmsgnum: 50}}]\n", "events[0] (ckafka) has maxmsgnum, which would be ignored"),
        ("  events: [cmq: {parameters: {name: q, filterKey: [prod]}}]\n", "events[0] (cmq) has filterKey, which would be ignored"),
        ("  events: [cos: {parameters: {bucket: b, events: e, filter: {Prefix: points/}}}]\n", "events[0] (cos) has Prefix, which would be ignored: correct it to one of prefix, suffix"),
        ("  events: [http: {parameters: {corsConfig: {enable: true}}}]\n", "events[0] (http) has corsConfig, which would be ignored"),
        ("  events: [http: {parameters: {netConfig: {enableextranet: true}}}]\n", "events[0] (http) has enableextranet, which would be ignored"),
        ("  events: [http: {parameters: {authType: cam}}]\n", "events[0] (http) has an authType that is neither NONE nor CAM: write one of the two"),
        ("  events: [cmq: {parameters: {name: q}}, cmq: {parameters: {name: q}}]\n", "events[1] (cmq q) is the same as an earlier one: rename it"),
        ("  events: [cos: {parameters: {bucket: b, events: 'cos:ObjectCreated:Put'}}, cos: {parameters: {bucket: b, events: 'cos:ObjectCreated:Post'}}]\n", "events[1] (cos b) is the same as an earlier one: describe one with all of its events, such as cos:ObjectCreated:*"),
        ("  events: [http: {parameters: {name: a}}, http: {parameters: {name: b}}]\n", "events[1] (http b) is the same as an earlier one: an alias or version has one function URL at most"),
    ],
)  # fmt: skip
def test_a_value_of_another_shape_is_a_problem_with_its_place_and_no_traceback(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        described(tmp_path, text)
    assert f"serverless.yml: {told}" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "auth", "told"),
    [
        ("", "cam", "lets everybody in, and so does the function with MF_HTTP_AUTH=cam: write authType: CAM"),
        ("authType: NONE", " CAM ", "lets everybody in"),
        ("authType: CAM", "", "has authType: CAM, and without MF_HTTP_AUTH=cam the function refuses its clients"),
        ("authType: CAM", "token", "refuses its clients"),
    ],
)  # fmt: skip
def test_a_function_url_must_authenticate_its_clients_exactly_if_the_function_does_not(
    tmp_path: Path, url: str, auth: str, told: str
) -> None:
    event = f"  events:\n    - http: {{parameters: {{{url}}}}}\n"
    found = described(tmp_path, f"{event}  environment: {{variables: {{MF_HTTP_AUTH: '{auth}'}}}}\n")
    (problem,) = contradictions(found, "serverless.yml")
    assert problem.startswith("serverless.yml: the trigger http url ")
    assert told in problem
    other = "token" if auth.strip().lower() == "cam" else "cam"
    found = described(tmp_path, f"{event}  environment: {{variables: {{MF_HTTP_AUTH: {other}}}}}\n")
    assert contradictions(found, "serverless.yml") == []


REPLAY = """timer: {parameters: {name: t, cronExpression: 0 * * * * * *, argument: '{"replay":true}', enable: %s}}"""
SCRAPE = """timer: {parameters: {name: t, cronExpression: 0 * * * * * *, argument: '{"scrape":["http://h:1/metrics"],"keep":["up"]}', enable: %s}}"""
OPEN_URL = "http: {parameters: {name: t, authType: NONE, enable: %s}}"


@pytest.mark.parametrize(
    ("trigger", "variable", "told"),
    [
        pytest.param(REPLAY, "MF_SPOOL: 'redis://h'", "timer t is on: MF_SPOOL is empty, but a replay is asked for", id="replay"),
        pytest.param(SCRAPE, "MF_SCRAPE_HOSTS: h", "timer t is on: MF_SCRAPE_HOSTS is empty, but a timer asks", id="scrape"),
        pytest.param(OPEN_URL, "MF_HTTP_TOKEN: sample-token-of-the-docs", "http t is on: HTTP is closed: set MF_HTTP_TOKEN", id="a token"),
        pytest.param(OPEN_URL, "MF_BRIDGE_ACCOUNTS: own", "http t is on: HTTP is closed: set MF_HTTP_TOKEN", id="the bridge"),
    ],
)  # fmt: skip
def test_a_trigger_is_not_switched_on_without_the_setting_that_all_of_its_events_need(
    tmp_path: Path, trigger: str, variable: str, told: str
) -> None:
    def problems(enable: str, variables: str) -> list[str]:
        text = f"  events:\n    - {trigger % enable}\n  environment: {{variables: {{{variables}}}}}\n"
        return contradictions(described(tmp_path, text), "serverless.yml")

    for other in ("MF_REGION: gz", "MF_HTTP_AUTH: token"):
        (problem,) = problems("true", other)
        assert problem.startswith(f"serverless.yml: the trigger {told}")
    assert problems("true", variable) == []
    assert problems("false", "MF_REGION: gz") == []


def test_a_trigger_in_the_same_item_as_an_unused_queue_does_not_vanish(tmp_path: Path) -> None:
    queue = "ckafka: {parameters: {instanceId: '${env:DEPLOY_CKAFKA_INSTANCE_ID}', topic: t, enable: true}}"
    timer = "timer: {parameters: {name: t, cronExpression: 0 * * * * * *, enable: true}}"
    with pytest.raises(ConfigError, match="DEPLOY_CKAFKA_INSTANCE_ID is not set"):
        described(tmp_path, f"  events:\n    - {{{queue}, {timer}}}\n    - {timer}\n")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("  namespace: metric-${stage}\n", "${stage"),
        ("  environment: {variables: {MF_SECRET_NAME: 'metric-${stage}', MF_RELABEL: '${1}'}}\n", "${stage"),
        ("  role: ${env:DEPLOY_ROLE, 'sEcret'}\n", "${env:DEPLOY_ROLE"),
        ("  events: [timer: {parameters: {name: t, cronExpression: 0 * * * * * *, argument: '${file(a.json)}'}}]\n", "${file"),
    ],
)  # fmt: skip
def test_a_reference_that_cannot_be_resolved_is_not_deployed_as_text(
    tmp_path: Path, text: str, start: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        described(tmp_path, text)
    told = f"serverless.yml: {start}…}} cannot be resolved by this command: write ${{env:NAME}}, or the value itself"
    assert caught.value.problems[0] == told
    assert "sEcret" not in str(caught.value)


def test_a_rule_that_refers_to_a_group_is_deployed_as_it_is_written(tmp_path: Path) -> None:
    rules = '[{"source_labels": ["a"], "target_label": "b", "replacement": "${1}"}]'
    found = described(tmp_path, f"  environment: {{variables: {{MF_RELABEL: '{rules}'}}}}\n")
    assert settings_of(found) == {"MF_RELABEL": rules}


MOUNT = "  cfs: [{cfsId: cfs-1, localMountDir: /mnt/a}]\n"


@pytest.mark.parametrize(
    ("mount", "spool", "remedy"),
    [
        ("", "file:///tmp/spool", "describe one in the lines cfs: of serverless.yml, or use Redis"),
        ("", "file:///mnt/a/spool", "describe one in the lines cfs:"),
        (MOUNT, "file:///tmp/spool", "set it to a folder below /mnt/a, or use Redis"),
        (MOUNT, "file:///var/user/spool", "set it to a folder below /mnt/a"),
        (MOUNT, "file:///mnt/ab", "set it to a folder below /mnt/a"),
        (MOUNT, "file:///mnt/a/../b", "set it to a folder below /mnt/a"),
    ],
)
def test_a_spool_that_would_vanish_with_the_instance_is_not_deployed(
    tmp_path: Path, mount: str, spool: str, remedy: str
) -> None:
    found = described(tmp_path, f"{mount}  environment: {{variables: {{MF_SPOOL: '{spool}'}}}}\n")
    (problem,) = contradictions(found, "serverless.yml")
    assert problem.startswith(
        "MF_SPOOL names a folder that is on no file system, so its points would be lost: "
    )
    assert remedy in problem


@pytest.mark.parametrize(
    "spool", ["file:///mnt/a", "FILE:///mnt/a/b%20c?max_mb=9", "redis://h", "file://[", ""]
)
def test_a_spool_on_a_described_file_system_or_in_redis_is_deployed(tmp_path: Path, spool: str) -> None:
    found = described(tmp_path, f"{MOUNT}  environment: {{variables: {{MF_SPOOL: '{spool}'}}}}\n")
    assert contradictions(found, "serverless.yml") == []


@pytest.mark.parametrize("name", ["DEPLOY_VPC_ID", "MF_NAMESPACE", "MF_LABELS"])
def test_bytes_of_the_shell_that_are_no_text_are_named_and_no_traceback(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_description(ROOT / "serverless.yml", {**FILLED, name: "\udcff"})
    assert f"{name} holds bytes that are not UTF-8: correct it" in caught.value.problems


def test_a_date_that_does_not_exist_is_a_problem_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="looks like a date or a number and is none: write it in quotes"):
        described(tmp_path, "  description: 2026-99-99\n")


@pytest.mark.parametrize("region", ["Guangzhou", "gz", "ap guangzhou", "ap-guangzhou-"])
def test_a_region_without_its_full_name_is_named_by_the_variable_that_sets_it(region: str) -> None:
    texts = {"MF_DESTINATION": "receiver", "MF_SECRET_NAME": "s"}
    told = f'DEPLOY_REGION is "{region}": set it to a full name such as ap-guangzhou'
    assert setting_problems(texts, region) == [told]
    assert setting_problems(texts, "") == [], "that it is not set is reported elsewhere"


def test_numbers_at_the_limits_of_the_api_are_deployed_also_as_texts(tmp_path: Path) -> None:
    queue = "instanceId: i, topic: t, maxMsgNum: 10000, retry: 0, timeout: '60', offset: 1700000000000"
    found = described(
        tmp_path,
        f"  memorySize: ${{env:MEMORY}}\n  timeout: 900\n  initTimeout: 3\n  events: [ckafka: {{parameters: {{{queue}}}}}]\n",
        MEMORY="64",
    )
    limits = ("MemorySize", "Timeout", "InitTimeout")
    assert [found.configuration[name] for name in limits] == [64, 900, 3]
    (trigger,) = found.triggers
    assert {"maxMsgNum": 10_000, "retry": 0, "timeOut": 60, "offset": "1700000000000"}.items() <= json.loads(
        trigger.description
    ).items()


RULES = '[{"action": "drop", "source_labels": ["__name__"], "regex": "go_.*"}]'
MAPPING = '{"name": "/name", "value": "/value"}'
PEM = Path(CERTIFICATE).read_text("utf-8")
SCHEMA = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'


def problems_of(folder: Path, **settings: str) -> list[str]:
    texts = {"MF_DESTINATION": "stdout", **{f"MF_{name}": value for name, value in settings.items()}}
    return setting_problems(texts, REGION, files_of_clone(folder))


@pytest.mark.parametrize(
    ("name", "broken", "told"),
    [
        ("RELABEL", '[{"action": "drp"}]', "MF_RELABEL /0/action must be"),
        ("RELABEL", "[{]", "MF_RELABEL holds no JSON"),
        ("MAPPING", '{"name": "/name"}', "MF_MAPPING "),
        ("MAPPING", "{", "MF_MAPPING is not JSON"),
    ],
)
def test_rules_and_mappings_that_every_event_would_refuse_are_not_deployed(
    tmp_path: Path, name: str, broken: str, told: str
) -> None:
    (problem,) = problems_of(tmp_path, **{name: broken})
    assert problem.startswith(told)
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "a.json").write_text(broken, encoding="utf-8")
    assert problems_of(tmp_path, **{name: "function/a.json"}) == [problem]


@pytest.mark.parametrize(
    ("name", "content"), [("RELABEL", RULES), ("MAPPING", MAPPING), ("SCHEMA", SCHEMA), ("CA_FILE", PEM)]
)
@pytest.mark.parametrize(
    "path", ["function/a", "./function/a", "/var/user/function/a", "/opt/a", "/mnt/cfs/a"]
)
def test_a_file_that_the_function_will_have_is_accepted(
    tmp_path: Path, name: str, content: str, path: str
) -> None:
    (tmp_path / "function").mkdir()
    encoding = "utf-8" if content is PEM else "utf-8-sig"
    (tmp_path / "function" / "a").write_text(content, encoding=encoding)
    assert problems_of(tmp_path, **{name: path}) == []


@pytest.mark.parametrize("path", ["function/.a.json", "function/.hidden/a.json", "function/linked/a.json"])
def test_a_file_that_the_package_leaves_out_is_named_although_the_folder_has_it(
    tmp_path: Path, path: str
) -> None:
    (tmp_path / "function" / ".hidden").mkdir(parents=True)
    (tmp_path / "function" / "linked").symlink_to(tmp_path / "function" / ".hidden")
    (tmp_path / path).write_text(RULES, encoding="utf-8")
    (problem,) = problems_of(tmp_path, RELABEL=path)
    assert (
        "put it into the folder function/ beside serverless.yml and set MF_RELABEL=function/a.json" in problem
    )


@pytest.mark.parametrize("name", ["RELABEL", "MAPPING", "SCHEMA", "CA_FILE"])
@pytest.mark.parametrize("path", ["a.json", "function/../a.json", "/var/user/a.json", "/home/me/a.json"])
def test_a_file_that_the_package_will_not_contain_is_named_with_what_works(
    tmp_path: Path, name: str, path: str
) -> None:
    (tmp_path / "a.json").write_text(RULES, encoding="utf-8")
    (problem,) = problems_of(tmp_path, **{name: path})
    assert (
        f"put it into the folder function/ beside serverless.yml and set MF_{name}=function/a.json" in problem
    )
    assert ("write the JSON itself" in problem) == (name in ("RELABEL", "MAPPING"))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("CA_FILE", b"hello", "names a file that holds no certificates in PEM form: correct it"),
        ("CA_FILE", b"", "names a file that holds no certificates in PEM form"),
        ("RELABEL", b"drop: go_.*", "names a file that holds no JSON in UTF-8"),
        ("MAPPING", b"\xff{}", "names a file that holds no JSON in UTF-8"),
        ("SCHEMA", b'{"type": "text"}', "cannot be used: its file is not a draft-07 schema at type"),
        ("SCHEMA", b"\xff", "cannot be used: its file must hold JSON in UTF-8"),
    ],
)
def test_a_file_of_the_package_is_read_as_the_function_will_read_it(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "a").write_bytes(content)
    (problem,) = problems_of(tmp_path, **{name: "function/a"})
    assert problem.startswith(f"MF_{name} {told}")


@pytest.mark.parametrize("name", ["DEDUPE", "SPOOL"])
def test_the_certificates_of_a_redis_must_be_in_the_package(tmp_path: Path, name: str) -> None:
    url = "rediss://redis.test?ssl_ca_certs=function/ca.pem"
    (problem,) = problems_of(tmp_path, **{name: url})
    assert problem.startswith(
        f"MF_{name}'s ssl_ca_certs names a file that the package does not contain: put it"
    )
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "ca.pem").touch()
    told = f"MF_{name}'s ssl_ca_certs names a file that holds no certificates in PEM form: correct it"
    assert problems_of(tmp_path, **{name: url}) == [told]
    (tmp_path / "function" / "ca.pem").write_text(PEM, encoding="utf-8")
    assert problems_of(tmp_path, **{name: url}) == []
    assert problems_of(tmp_path, **{name: "rediss://redis.test?ssl_ca_certs=/mnt/ca.pem"}) == []


def test_more_variables_than_the_platform_takes_are_refused(tmp_path: Path) -> None:
    # 14 and 6 characters are the other variable, and 10 the name.
    assert problems_of(tmp_path, MAPPING=MAPPING.ljust(4_096 - 14 - 6 - 10)) == []
    (problem,) = problems_of(tmp_path, MAPPING=MAPPING.ljust(4_096 - 14 - 6 - 10 + 1))
    assert problem.startswith("all variables together have 4,097 bytes with their names, and SCF takes 4,096")


def test_of_a_built_package_its_own_files_count(tmp_path: Path) -> None:
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("schema.json", SCHEMA)
    read = files_of_zip(archive)
    assert setting_problems({"MF_DESTINATION": "stdout", "MF_SCHEMA": "schema.json"}, REGION, read) == []
    assert setting_problems({"MF_DESTINATION": "stdout", "MF_SCHEMA": "other.json"}, REGION, read) != []
    assert files_of_zip(tmp_path / "none.zip") is None, "that it is missing is reported elsewhere"
    archive.write_bytes(archive.read_bytes().replace(SCHEMA.encode(), SCHEMA.upper().encode()))
    assert files_of_zip(archive) is None, "that it is damaged is reported elsewhere"


def test_a_broken_rule_ends_the_command_before_it_asks_the_api(clone: Path, api: ScfApi) -> None:
    with (clone / ".env").open("a", encoding="utf-8") as file:
        file.write('\nMF_RELABEL=[{"action": "drp"}]\nMF_SCHEMA=schema.json')
    status, out, err = run(clone)
    assert (status, out, "MF_RELABEL /0/action must be" in err, "MF_SCHEMA names" in err) == (
        2,
        "",
        True,
        True,
    )
    assert not api.calls


def test_the_package_gets_the_extras_that_the_settings_need(tmp_path: Path) -> None:
    path = tmp_path / "serverless.yml"
    head = "inputs:\n  name: f\n  region: r\n  src: build/package\n  environment:\n    variables:\n"
    path.write_text(
        f"{head}      MF_SPOOL: redis://h\n      MF_DESTINATION: remote-write\n", encoding="utf-8"
    )
    assert extras_of(read_description(path, {})) == ["redis", "remote-write"]


def test_a_comment_behind_a_value_of_the_env_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# keys\nA = 'one # two'\nB=three\n", encoding="utf-8")
    assert read_dotenv(tmp_path / ".env") == {"A": "one # two", "B": "three"}
    (tmp_path / ".env").write_text("A='# one'\nB=a#b\nC=\n", encoding="utf-8")
    assert read_dotenv(tmp_path / ".env") == {"A": "# one", "B": "a#b", "C": ""}


@pytest.mark.parametrize("value", ["one # two", "one\t# two", " # two", "#two", "\t#", '"a" # "b'])
def test_a_value_that_would_be_taken_with_its_comment_is_reported(tmp_path: Path, value: str) -> None:
    (tmp_path / ".env").write_text(f"A={value}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r'A in \.env: what follows "#" would become part of the value'):
        read_dotenv(tmp_path / ".env")


@pytest.mark.parametrize("value", ['"sEcret', "'sEcret", 'sEcret"', "sEcret'", "'sEcret\"", '"'])
def test_a_quote_at_one_end_of_a_value_is_reported_without_the_value(tmp_path: Path, value: str) -> None:
    (tmp_path / ".env").write_text(f"A={value}\nB=it's\nC='it\"s'\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_dotenv(tmp_path / ".env")
    told = (
        "A in .env: a quote at one end would become part of the value: write one at both ends, or remove it"
    )
    assert caught.value.problems == (told,)


@pytest.mark.parametrize("line", ["export A=sEcret", "A sEcret", "A: sEcret", "sEcret}'"])
def test_a_line_of_the_env_file_that_would_be_ignored_is_reported_without_its_text(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / ".env").write_text(f"# keys\n\n  # more\nB=1\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\.env: line 5 is not NAME=value") as caught:
        read_dotenv(tmp_path / ".env")
    assert "sEcret" not in str(caught.value)


def test_a_setting_that_this_shell_empties_is_named_if_the_env_file_sets_it() -> None:
    written = {"MF_NAMESPACE": "pc", "MF_LABELS": ""}
    assert strays(written, {"MF_NAMESPACE": "pc", "MF_LABELS": "", "MF_SPOOL": ""}) == []
    (problem,) = strays(written, {"MF_NAMESPACE": ""})
    assert problem.startswith("MF_NAMESPACE is set in this shell")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("MF_BATCH_MAX_POINT", "did you mean MF_BATCH_MAX_POINTS?"),
        ("DEPLOY_ENABLE_HEARTBEET", "did you mean DEPLOY_ENABLE_HEARTBEAT?"),
        ("DEPLOY_CA_FIL", "did you mean DEPLOY_CA_FILE?"),
        ("DEPLOY_CFS_ID", "the lines of serverless.yml that refer to it are comments; uncomment them, or remove it"),
        ("DEPLOY_ZZZ", "serverless.yml does not refer to it; remove it"),
    ],
)  # fmt: skip
def test_a_variable_of_the_env_file_that_the_description_does_not_refer_to_is_named(
    name: str, told: str
) -> None:
    known = {**FILLED, "DEPLOY_API_ENDPOINT": "a.test", "HOME": "/", "MF_ZZZ": ""}
    file = ROOT / "serverless.yml"
    assert unreferenced({**known, name: "500"}, {}, file, ".env") == [
        f"{name} in .env would be ignored: {told}"
    ]


def test_a_setting_that_was_removed_from_the_description_is_named_with_the_line_to_add(
    tmp_path: Path,
) -> None:
    file = tmp_path / "serverless.yml"
    file.write_text("inputs: {name: f, region: r, src: build/package}", encoding="utf-8")
    (problem,) = unreferenced({"MF_SPOOL": "redis://h"}, {}, file, ".env")
    assert problem.endswith("add MF_SPOOL: ${env:MF_SPOOL} to its variables, or remove it")
    assert unreferenced({"MF_SPOOL": "redis://h"}, {}, tmp_path / "none.yml", ".env") == []


def test_a_variable_that_is_referred_to_in_a_form_that_cannot_be_resolved_is_not_said_to_be_ignored(
    tmp_path: Path,
) -> None:
    file = tmp_path / "serverless.yml"
    file.write_text("inputs: {vpcConfig: {vpcId: \"${env:DEPLOY_VPC_ID, 'v'}\"}}", encoding="utf-8")
    assert unreferenced({"DEPLOY_VPC_ID": "vpc-1"}, {}, file, ".env") == []


def test_a_misspelt_setting_of_a_pipeline_that_has_no_env_file_is_named() -> None:
    shell = {**FILLED, "MF_BATCH_MAX_POINT": "500", "MF_ZZZ": "", "DEPLOY_ENV": "of another program"}
    told = "MF_BATCH_MAX_POINT in this shell would be ignored: did you mean MF_BATCH_MAX_POINTS?"
    assert unreferenced({}, shell, ROOT / "serverless.yml", ".env") == [told]
    assert unreferenced({"MF_NAMESPACE": "pc"}, shell, ROOT / "serverless.yml", ".env") == []


def test_settings_that_contradict_the_description_end_a_deployment_and_no_rollback(
    clone: Path, api: ScfApi
) -> None:
    Deployer(api).deploy(package())
    before = dict(api.calls)
    with (clone / ".env").open("a", encoding="utf-8") as file:
        file.write("\nMF_SPOOL=file:///tmp/spool")
    status, _, err = run(clone)
    assert (status, "MF_SPOOL names a folder that is on no file system" in err) == (2, True)
    assert dict(api.calls) == before
    status, _, err = run(clone, "--rollback")
    assert (status, "nothing to go back to" in err) == (1, True)


def test_a_misspelt_variable_ends_the_command_before_it_asks_the_api(clone: Path, api: ScfApi) -> None:
    with (clone / ".env").open("a", encoding="utf-8") as file:
        file.write("\nMF_BATCH_MAX_POINT=500")
    status, out, err = run(clone)
    assert (status, out, "MF_BATCH_MAX_POINT in .env would be ignored" in err) == (2, "", True)
    assert not api.calls


def test_the_first_line_of_an_env_file_counts_behind_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("\ufeffA=1\r\nB=x\u2028y\r\n".encode())
    assert read_dotenv(tmp_path / ".env") == {"A": "1", "B": "x\u2028y"}


def test_an_env_file_in_another_encoding_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("# 部署者\nA=1\n".encode("gbk"))
    with pytest.raises(ConfigError, match=r"\.env is not UTF-8"):
        read_dotenv(tmp_path / ".env")


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path, api: ScfApi) -> Path:
    (tmp_path / "package.zip").write_bytes(package())
    lines = [f"{name}={value}" for name, value in {**FILLED, "DEPLOY_API_ENDPOINT": api.endpoint}.items()]
    (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def files(clone: Path, *, has_package: bool = True) -> list[str]:
    package = ["--package", str(clone / "package.zip")] if has_package else []
    return ["--file", str(ROOT / "serverless.yml"), "--env-file", str(clone / ".env"), *package]


def run(clone: Path, *options: str) -> tuple[int, str, str]:
    done = execute("deploy", *files(clone, has_package="--rollback" not in options), *options)
    return done.status, done.out, done.err


@pytest.mark.slow
def test_the_command_plans_deploys_verifies_and_rolls_back(api: ScfApi, clone: Path) -> None:
    api.polls = 0
    status, planned, _ = run(clone, "--plan")
    lines = planned.splitlines()
    assert (status, lines[0], lines[-1]) == (
        0,
        "+ function: default/metric-forwarder in ap-guangzhou",
        "+ trigger ckafka value-value",
    )
    assert {"+ function MemorySize: 256", "+ function MF_NAMESPACE: (hidden)"} < set(lines)
    assert api.functions == {}
    status, _, progress = run(clone)
    assert (status, progress.splitlines()[:2]) == (
        0,
        ["Asking SCF's API what is deployed in ap-guangzhou …", "1/4 create the function"],
    )
    assert run(clone, "--verify")[:2] == (0, "Nothing to change: the deployed function is as described.\n")
    (clone / "package.zip").write_bytes(package("changed\n"))
    assert run(clone, "--verify")[:2] == (1, "~ code: another package → this build\n")
    assert run(clone)[0] == 0
    # Even with settings that cannot work: they are a reason to go back.
    with (clone / ".env").open("a", encoding="utf-8") as file:
        file.write("\nMF_CONCURRENCY=many")
    assert run(clone)[0] == 2
    status, _, told = run(clone, "--rollback")
    assert (status, told, api.function["alias"]) == (
        0,
        "rolled back: $DEFAULT leads to version 1, was 2\n",
        "1",
    )
    status, _, told = run(clone, "--rollback")
    assert (status, "no version was published before it" in told) == (1, True)
    for shown in (progress, told):
        assert SECRET_KEY not in shown


@pytest.mark.slow
@pytest.mark.parametrize("action", ["CreateFunction", "UpdateFunctionCode", "PublishVersion"])
def test_a_deployment_that_was_killed_is_taken_up_where_it_ended(
    api: ScfApi, clone: Path, action: str
) -> None:
    api.polls = 0
    if action == "UpdateFunctionCode":
        assert run(clone)[0] == 0
        (clone / "package.zip").write_bytes(package("changed\n"))
    with subprocess.Popen(
        command("deploy", *files(clone)), env=child_environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        # The API has carried the action out, and its answer finds nobody.
        api.interrupt = lambda called: process.kill() if called == action else None
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    api.interrupt = lambda _: None
    status, shown, _ = run(clone, "--verify")
    assert (status, "Nothing to change" in shown) == (1, False)
    assert run(clone)[0] == 0
    assert run(clone, "--verify")[0] == 0
    in_force = api.function["versions"][api.function["alias"]]
    assert in_force["package"] == (clone / "package.zip").read_bytes()


@pytest.mark.slow
def test_one_word_chooses_the_destination_whatever_the_env_file_says(api: ScfApi, clone: Path) -> None:
    api.polls = 0
    (clone / "package.zip").write_bytes(package(names=("index.py", "cramjam/__init__.py")))
    with (clone / ".env").open("a", encoding="utf-8") as file:
        file.write("\nMF_DESTINATION=receiver\nMF_REMOTE_WRITE_URL=http://10.0.0.5/w")
    assert run(clone, "--to", "prometheus")[0] == 0
    assert variables(api)["MF_DESTINATION"] == "remote-write"
    assert run(clone, "--to", "receiver")[0] == 0
    assert variables(api)["MF_DESTINATION"] == "receiver"


@pytest.mark.parametrize("name", ["typo.env", "."])
def test_a_named_env_file_must_exist(tmp_path: Path, name: str) -> None:
    done = execute("deploy", "--plan", "--env-file", str(tmp_path / name))
    assert (done.status, "does not exist, or is not a file" in done.err) == (2, True)


def test_only_the_default_env_file_may_be_absent_and_it_may_not_be_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("deploy", "--plan", f"--file={ROOT / 'serverless.yml'}")
    assert "TENCENT_SECRET_ID and TENCENT_SECRET_KEY are not set" in execute(*given).err
    (tmp_path / ".env").mkdir()
    assert ".env does not exist, or is not a file" in execute(*given).err


@pytest.mark.parametrize(
    "options",
    [
        ("--plan", "--verify"),
        ("--plan", "--rollback"),
        ("--plan", "--tccli"),
        ("--verify", "--rollback"),
        ("--verify", "--tccli"),
        ("--rollback", "--tccli"),
        ("--rollback", "--to"),
        ("--rollback", "--prune"),
        ("--rollback", "--package"),
        ("--rollback", "--json"),
        ("--tccli", "--prune"),
        ("--tccli", "--json"),
    ],
    ids=" ".join,
)
def test_two_options_of_which_one_would_be_ignored_are_refused(
    clone: Path, api: ScfApi, options: tuple[str, str]
) -> None:
    folder = clone / "out"
    values = {"--tccli": f"={folder}", "--to": "=receiver", "--package": "=a.zip"}
    given = [option + values.get(option, "") for option in options]
    status, out, err = run(clone, *given)
    told = f"{options[0]} and {options[1]} exclude each other: leave one of them out."
    assert (status, out, told in err) == (2, "", True)
    assert (folder.exists(), dict(api.calls)) == (False, {})


def variables(api: ScfApi) -> dict[str, str]:
    return {
        entry["Key"]: entry["Value"] for entry in api.function["configuration"]["Environment"]["Variables"]
    }


@pytest.mark.parametrize(("target", "options"), [("deploy", ""), ("plan", "--plan ")])
def test_make_hands_the_destination_on(target: str, options: str) -> None:
    command = ["/usr/bin/env", "make", "--no-print-directory", "--dry-run", target, "TO=prometheus"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith(f"metric-forwarder deploy {options}--to prometheus")


@pytest.mark.parametrize("name", ["TENCENT_SECRET_ID", "TENCENT_SECRET_KEY", "TENCENT_TOKEN"])
def test_a_key_that_no_header_can_hold_is_named_without_its_text(clone: Path, api: ScfApi, name: str) -> None:
    with (clone / ".env").open("a", encoding="utf-8") as file:
        file.write(f"\n{name}=AKID密钥0123456789")
    status, _, told = run(clone, "--plan")
    expected = f"{name} holds characters that are never in a key of Tencent Cloud: copy it again"
    assert (status, expected in told, "密钥" in told) == (2, True, False)
    assert (run(clone, "--rollback")[0], dict(api.calls)) == (2, {})


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), ("{}", "not in PEM form")]
)
def test_certificates_that_cannot_be_used_are_named(
    clone: Path, api: ScfApi, content: str | None, reason: str
) -> None:
    path = clone / "ca.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with (clone / ".env").open("a", encoding="utf-8") as file:
        file.write(f"\nDEPLOY_CA_FILE={path}")
    status, _, told = run(clone, "--plan")
    assert (status, f"DEPLOY_CA_FILE names a file that cannot be used ({reason})" in told) == (2, True)
    assert not api.calls


@pytest.mark.parametrize("name", ["TENCENT_SECRET_ID", "TENCENT_SECRET_KEY", "DEPLOY_VPC_ID"])
def test_a_variable_of_the_env_file_that_the_shell_empties_is_said_to_be_hidden(
    clone: Path, name: str
) -> None:
    done = subprocess.run(
        command("deploy", "--plan", *files(clone)),
        env={**child_environ(), name: ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{name} is set to nothing in this shell, which hides the one of .env: unset it" in done.stderr
    assert (done.returncode, "not set" in done.stderr) == (2, False)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"# A text\n", "it is no zip, or a damaged one: run make package", id="text"),
        pytest.param(package().replace(b"pass", b"fail"), "it is no zip, or a damaged one", id="damaged"),
        pytest.param(package(names=("package/index.py",)), "it lacks the module of index.main_handler", id="folder"),
        pytest.param(package(), "the settings need a package that it lacks: run make package EXTRAS=remote-write", id="extra"),
        pytest.param(package("#" * 8_000_000, names=("index.py", "cramjam.so")), "it has 16,000,210 bytes, and the API takes 15,728,640", id="large"),
    ],
)  # fmt: skip
def test_a_package_with_which_every_event_would_fail_is_not_deployed(
    clone: Path, api: ScfApi, content: bytes, told: str
) -> None:
    (clone / "package.zip").write_bytes(content)
    with (clone / ".env").open("a", encoding="utf-8") as file:
        file.write("\nMF_DESTINATION=remote-write\nMF_REMOTE_WRITE_URL=http://10.0.0.5/w")
    status, _, err = run(clone)
    assert (status, f"package.zip cannot be deployed: {told}" in err) == (2, True), err
    assert not api.calls


def test_a_description_outside_of_a_clone_needs_a_built_package(clone: Path, api: ScfApi) -> None:
    (clone / "serverless.yml").write_text(serverless_file.text(), encoding="utf-8")
    done = execute("deploy", f"--file={clone / 'serverless.yml'}", f"--env-file={clone / '.env'}")
    told = f"{clone} is no clone, so no package can be built there: name a built one with --package"
    assert (done.status, told in done.err, dict(api.calls)) == (2, True, {}), done.err


@pytest.mark.slow
def test_without_keys_or_package_it_says_what_to_do(clone: Path) -> None:
    os.remove(clone / "package.zip")  # noqa: PTH107 - a file of the test's own
    assert "run make package first" in run(clone)[2]
    (clone / ".env").write_text(
        "\n".join(f"{name}={value}" for name, value in FILLED.items() if "TENCENT" not in name)
    )
    status, _, told = run(clone)
    assert (status, "put the deployer's key into .env" in told) == (2, True)
