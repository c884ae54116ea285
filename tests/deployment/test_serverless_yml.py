"""``serverless.yml`` deploys what is meant: read as YAML, and by Tencent Cloud's own toolkit where Node.js is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from metric_forwarder.cli.deploy import deploy
from metric_forwarder.errors import ConfigError
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.settings.settings import Settings
from support import serverless_file
from support.harness import ROOT, Harness, ckafka, make_harness, outcomes, point

SOURCE = serverless_file.text()
EVERYTHING = serverless_file.with_everything()
ENVIRON = {name: f"value-of-{name}" for name in serverless_file.required(EVERYTHING)} | {
    "DEPLOY_REGION": "ap-guangzhou",
    "DEPLOY_ROLE": "value-of-DEPLOY_ROLE",
    "DEPLOY_ENABLE_HEARTBEAT": "true",
    "DEPLOY_ENABLE_REPLAY": "true",
    "MF_NAMESPACE": "pc",
    "MF_SECRET_NAME": "value-of-MF_SECRET_NAME",
}
TRIGGERS = {"timer", "ckafka", "cmq", "cos", "cls", "http", "apigw"}


def inputs(source: str = SOURCE) -> dict[str, Any]:
    return serverless_file.load(source, ENVIRON)


def triggers() -> list[tuple[str, dict[str, Any]]]:
    """Every trigger, those commented out too: its kind and its parameters."""
    return [(kind, event[kind]["parameters"]) for event in inputs(EVERYTHING)["events"] for kind in event]


def parameters(kind: str, name: str | None = None) -> dict[str, Any]:
    return next(told for found, told in triggers() if found == kind and name in (None, told.get("name")))


def test_ckafka_is_deployed_timers_are_switched_on_and_other_triggers_are_an_uncommenting_away() -> None:
    assert [kind for event in inputs()["events"] for kind in event] == ["ckafka", "timer", "timer"]
    switched = [event["timer"]["parameters"] for event in inputs()["events"] if "timer" in event]
    assert [told["enable"] for told in switched] == ["true", "true"]
    without = serverless_file.load(SOURCE, {})["events"]
    assert ["enable" in event["timer"]["parameters"] for event in without if "timer" in event] == [
        False,
        False,
    ]
    assert {kind for kind, _ in triggers()} == TRIGGERS


def test_nothing_is_deployed_that_needs_a_metric_a_file_system_or_a_queue_which_may_not_exist() -> None:
    assert {"deadLetter", "cfs"}.isdisjoint(inputs())
    assert {"deadLetter", "cfs"} <= inputs(EVERYTHING).keys()


@pytest.mark.parametrize(("kind", "told"), triggers(), ids=lambda told: str(told)[:20])
def test_a_trigger_says_that_it_is_open(kind: str, told: dict[str, Any]) -> None:
    assert told["enable"] in (True, "true"), kind


def test_a_reference_stands_alone_so_that_an_unset_one_never_becomes_part_of_a_text() -> None:
    lines = [line for line in EVERYTHING.split("\n") if not line.lstrip().startswith("#")]
    referring = [line for line in (line.split("#")[0].strip() for line in lines) if "${env:" in line]
    assert len(referring) == len(serverless_file.references(EVERYTHING))
    assert [line for line in referring if not line.split(": ", 1)[1].startswith("${env:")] == []
    assert [line for line in referring if not line.endswith("}")] == []


def test_it_is_a_component_of_today_and_not_the_older_plugin() -> None:
    document = yaml.safe_load(SOURCE)
    assert document["component"] == "scf"
    assert {"functions", "provider", "service"}.isdisjoint(document)


def test_what_it_names_is_what_the_package_holds() -> None:
    told = inputs()
    module, function = told["handler"].split(".")
    assert f"def {function}(" in (ROOT / "src" / f"{module}.py").read_text("utf-8")
    assert told["src"] == "./build/package"
    assert told["runtime"] == "Python3.10"


def test_its_limits_leave_room_for_a_slow_start_and_a_slow_receiver() -> None:
    told = inputs()
    assert told["timeout"] >= 30
    assert told["initTimeout"] >= 10
    assert told["memorySize"] % 128 == 0
    assert parameters("ckafka")["retry"] == 10_000


def test_its_settings_are_accepted_and_fit_into_what_the_platform_gives() -> None:
    variables = inputs()["environment"]["variables"]
    assert Settings.read(variables, platform_region="ap-guangzhou").namespace == "pc"
    everything = serverless_file.settings(SOURCE)
    assert sum(len(f"{name}={value};") for name, (_, value) in everything.items()) < 4096


def firing(name: str) -> dict[str, Any]:
    return {
        "Type": "Timer",
        "TriggerName": name,
        "Time": "",
        "Message": parameters("timer", name)["argument"],
    }


def test_the_heartbeat_of_its_timer_is_a_valid_point(harness: Harness) -> None:
    assert outcomes(harness.handle(firing("heartbeat"))) == {"delivered": 1}


def test_the_replay_of_its_timer_delivers_the_spool(tmp_path: Path) -> None:
    spooling = make_harness(SPOOL=tmp_path.as_uri())
    spooling.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
    assert outcomes(spooling.handle(ckafka(point()))) == {"spooled": 1}
    # After a block nothing is sent for a while.
    spooling.clock.sleep(60)
    assert outcomes(spooling.handle(firing("replay"))) == {"delivered": 1}


@pytest.mark.slow
def test_tencents_toolkit_reads_the_file_as_intended(capsys: pytest.CaptureFixture[str]) -> None:
    told = inputs(EVERYTHING)
    made = serverless_file.made_by_toolkit(told)
    if made is None:
        with capsys.disabled():
            print("\nNo Node.js here: serverless.yml was read as YAML alone.")  # noqa: T201 - somebody should know
        assert told["vpcConfig"].keys() == {"vpcId", "subnetId"}
        assert told["cls"].keys() == {"logsetId", "topicId"}
        assert told["deadLetter"].keys() == {"type", "name"}
        assert told["cfs"][0].keys() == {"cfsId", "mountInsId", "localMountDir", "remoteMountDir"}
        assert parameters("ckafka").keys() >= {
            "instanceId",
            "topic",
            "maxMsgNum",
            "offset",
            "retry",
            "timeout",
        }
        return
    function = made["function"]
    assert function["Timeout"] == 60
    assert function["InitTimeout"] == 15
    assert function["MemorySize"] == 256
    assert function["Runtime"] == "Python3.10"
    assert function["Handler"] == "index.main_handler"
    assert function["Type"] == "Event"
    assert function["Role"] == "value-of-DEPLOY_ROLE"
    assert function["VpcConfig"] == {
        "VpcId": "value-of-DEPLOY_VPC_ID",
        "SubnetId": "value-of-DEPLOY_SUBNET_ID",
    }
    assert function["PublicNetConfig"]["PublicNetStatus"] == "ENABLE"
    assert function["ClsLogsetId"] == "value-of-DEPLOY_LOGSET_ID"
    assert function["ClsTopicId"] == "value-of-DEPLOY_LOG_TOPIC_ID"
    assert function["DeadLetterConfig"] == {
        "Type": "value-of-DEPLOY_DEAD_LETTER_TYPE",
        "Name": "value-of-DEPLOY_DEAD_LETTER_NAME",
    }
    assert function["CfsConfig"]["CfsInsList"] == [
        {
            "CfsId": "value-of-DEPLOY_CFS_ID",
            "MountInsId": "value-of-DEPLOY_CFS_ID",
            "LocalMountDir": "/mnt/metric-forwarder",
            "RemoteMountDir": "/",
            "UserGroupId": "10000",
            "UserId": "10000",
        }
    ]
    variables = {variable["Key"]: variable["Value"] for variable in function["Environment"]["Variables"]}
    assert variables == told["environment"]["variables"]
    timers = {trigger["TriggerName"]: trigger for trigger in made["triggers"] if trigger["kind"] == "timer"}
    check_timers(timers)
    check_triggers({trigger["kind"]: trigger for trigger in made["triggers"]})


def check_timers(timers: dict[str, dict[str, Any]]) -> None:
    assert {name: timer["TriggerDesc"] for name, timer in timers.items()} == {
        "heartbeat": "0 */5 * * * * *",
        "replay": "30 */5 * * * * *",
    }
    for name, timer in timers.items():
        assert timer["CustomArgument"] == parameters("timer", name)["argument"]
        assert timer["Enable"] == "OPEN"


def check_triggers(triggers: dict[str, dict[str, Any]]) -> None:
    assert triggers.keys() == TRIGGERS
    assert {kind for kind, trigger in triggers.items() if trigger.get("Enable") != "OPEN"} == {"apigw"}
    ckafka = json.loads(triggers["ckafka"]["TriggerDesc"])
    assert ckafka == {
        "maxMsgNum": 1000,
        "offset": "latest",
        "retry": 10000,
        "timeOut": 10,
        "consumerGroupName": "metric-forwarder",
        "InstanceId": "value-of-DEPLOY_CKAFKA_INSTANCE_ID",
        "Topic": "value-of-DEPLOY_CKAFKA_TOPIC",
    }
    assert json.loads(triggers["cos"]["TriggerDesc"])["filter"] == {"Prefix": "points/", "Suffix": ".json"}
    url = json.loads(triggers["http"]["TriggerDesc"])
    assert url["AuthType"] == "CAM"
    assert url["NetConfig"] == {"EnableIntranet": True, "EnableExtranet": False}
    assert triggers["cls"]["TriggerDesc"]["max_wait"] == 60


DOCUMENT = (ROOT / "docs" / "deploy.md").read_text("utf-8")


WHO_DEPLOYS = {"TENCENT_SECRET_ID", "TENCENT_SECRET_KEY"}


def section(heading: str) -> str:
    return DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def set_in(text: str) -> set[str]:
    return set(re.findall(r"^(\w+)=", text, flags=re.MULTILINE))


def test_the_document_sets_everything_that_the_file_refers_to() -> None:
    told = set_in(section("6. Deploy"))
    assert {*serverless_file.required(SOURCE), "DEPLOY_ROLE"} == {
        name for name in told if name.startswith("DEPLOY_")
    }
    switches = {name for name in serverless_file.references(SOURCE) if name.startswith("DEPLOY_ENABLE_")}
    assert [name for name in switches if f"`{name}=true`" not in DOCUMENT] == []
    assert told >= WHO_DEPLOYS


def test_the_document_names_every_option_of_the_command_that_deploys_and_no_other() -> None:
    shown = set(re.findall(r"metric-forwarder deploy (--[a-z]+)", DOCUMENT))
    own = {option for parameter in deploy.params for option in parameter.opts}
    assert shown <= own
    # What they are for stands in the reference, docs/cli.md.
    assert own - shown == {"--file", "--env-file", "--package", "--json"}


def test_every_variable_of_the_document_is_one_that_is_read() -> None:
    named = set(re.findall(r"\b((?:MF|DEPLOY|TENCENT)_[A-Z_]*[A-Z])\b", DOCUMENT))
    known = {
        *serverless_file.references(EVERYTHING),
        *WHO_DEPLOYS,
        *("DEPLOY_API_ENDPOINT", "DEPLOY_CA_FILE", "TENCENT_TOKEN"),
    }
    assert named <= known


def test_the_figures_of_the_console_way_are_those_of_the_file() -> None:
    told = section("Without the CLI")
    made = inputs()
    for figure in (
        f"memory {made['memorySize']} MB",
        f"timeout {made['timeout']} s",
        f"initialisation timeout {made['initTimeout']} s",
        f"`{made['handler']}`",
    ):
        assert figure in told


def dotenv(heading: str) -> dict[str, str]:
    """What the document tells to write into ``.env``, with something in each place that is left to the reader."""
    lines = re.findall(r"^(\w+)=(.*)$", section(heading), flags=re.MULTILINE)
    return {name: value.replace("…", "x") for name, value in lines}


def test_the_document_deploys_for_prometheus_by_the_env_file_alone() -> None:
    written = dotenv("Deploy for Prometheus")
    assert {name for name in written if name.startswith("DEPLOY_")} == set(serverless_file.required(SOURCE))
    told = serverless_file.load(SOURCE, written)
    assert "role" not in told
    settings = Settings.read(told["environment"]["variables"], platform_region="ap-guangzhou")
    assert (settings.destination, settings.secret_name) == ("remote-write", "")


EXAMPLE = (ROOT / ".env.example").read_text("utf-8")


@pytest.mark.parametrize("way", ["remote-write", "receiver"])
def test_the_example_of_an_env_file_serves_either_destination(way: str) -> None:
    common, _, ways = EXAMPLE.partition("# ==== remote-write")
    prometheus, _, receiver = ways.partition("# ==== receiver")
    text = re.sub(
        r"^# (?=\w+=)", "", common + (prometheus if way == "remote-write" else receiver), flags=re.MULTILINE
    )
    written = {name: value or "x" for name, value in re.findall(r"^(\w+)=(.*)$", text, flags=re.MULTILINE)}
    if "MF_REMOTE_WRITE_URL" in written:
        written["MF_REMOTE_WRITE_URL"] = "http://10.0.0.5:9090/api/v1/prom/write"
    assert set(serverless_file.required(SOURCE)) <= written.keys()
    variables = serverless_file.load(SOURCE, written)["environment"]["variables"]
    assert Settings.read(variables, platform_region=written["DEPLOY_REGION"]).destination == way


def test_an_example_that_is_not_filled_in_cannot_be_deployed_and_the_error_names_the_address() -> None:
    values = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, flags=re.MULTILINE))
    filled = {name: value or "x" for name, value in values.items() if name.startswith("DEPLOY_")}
    with pytest.raises(ConfigError, match="MF_REMOTE_WRITE_URL is empty: set it to the endpoint"):
        Settings.read({**values, **filled}, platform_region="ap-guangzhou")


def test_the_example_of_an_env_file_explains_itself_in_both_languages() -> None:
    comments = [
        line for line in EXAMPLE.split("\n") if line.startswith("# ") and not re.match(r"# \w+=", line)
    ]
    chinese = [line for line in comments if re.search(r"[\u4e00-\u9fff]", line)]
    assert len(comments) == 2 * len(chinese)


def test_no_comment_of_the_document_becomes_part_of_a_value() -> None:
    assert re.findall(r"^\w+=.* #", DOCUMENT, flags=re.MULTILINE) == []


def test_the_document_keeps_points_in_a_folder_of_the_file_system_that_is_mounted() -> None:
    spool = re.findall(r"`MF_SPOOL=file://(\S+)`", section("Keep what cannot be delivered"))
    (mounted,) = inputs(EVERYTHING)["cfs"]
    assert [path.startswith(mounted["localMountDir"] + "/") for path in spool] == [True]
    assert "`DEPLOY_CFS_ID=" in section("Keep what cannot be delivered")
    assert "DEPLOY_CFS_ID" in serverless_file.references(EVERYTHING)


def test_the_document_says_of_every_trigger_what_it_needs() -> None:
    assert [kind for kind in TRIGGERS if f"\n| {kind} |" not in DOCUMENT] == []


def test_the_documents_policy_allows_the_two_readings_and_nothing_on_everything() -> None:
    policy = json.loads(re.findall(r"```json\n(.*?)```", DOCUMENT, flags=re.DOTALL)[0])
    actions = [action for statement in policy["statement"] for action in statement["action"]]
    assert actions == ["ssm:GetSecretValue", "name/cos:GetObject"]
    assert all(
        resource.startswith("qcs::")
        for statement in policy["statement"]
        for resource in statement["resource"]
    )


def policies() -> list[dict[str, Any]]:
    """The deployer's policy, and that of the deployer who uses the Serverless CLI."""
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", section("Rights"), flags=re.DOTALL)]


def test_the_deployers_policy_reaches_one_function_and_passes_one_role() -> None:
    deployer, client = policies()
    reached = {
        action: statement["resource"] for statement in deployer["statement"] for action in statement["action"]
    }
    told = inputs()
    (function,) = reached["scf:*"]
    assert function.endswith(f":namespace/{told['namespace']}/function/{told['name']}")
    on_everything = {action for action, resources in reached.items() if resources == ["*"]}
    assert [action for action in on_everything if not re.match(r"\w+:(Describe|Get|get|List)", action)] == []
    for policy, role in ((deployer, "metric-forwarder"), (client, "SLS_QcsRole")):
        passed = [each["resource"] for each in policy["statement"] if each["action"] == ["cam:PassRole"]]
        assert [resource.rpartition("/")[2] for (resource,) in passed] == [role]


def test_the_document_says_of_every_trigger_that_the_command_makes_what_right_it_needs() -> None:
    rows = re.findall(r"^\| ([a-z, ]+) \|", section("Rights"), flags=re.MULTILINE)
    named = {name.strip() for row in rows for name in row.split(",")}
    # API Gateway's triggers are not made any more.
    assert TRIGGERS - {"apigw"} <= named


def test_the_documents_first_event_is_a_valid_point(harness: Harness) -> None:
    event = json.loads(re.findall(r"```json\n *(.*?)```", section("7. The first point"), flags=re.DOTALL)[0])
    assert outcomes(harness.handle(event)) == {"delivered": 1}
