"""``serverless.yml`` deploys what is meant: read as YAML, and by Tencent Cloud's own toolkit where Node.js is."""

import json
import re
from typing import Any

import pytest
import yaml

import serverless_file
from harness import ROOT, Harness, outcomes
from metric_forwarder.settings import Settings

SOURCE = serverless_file.text()
ENVIRON = {name: f"value-of-{name}" for name in serverless_file.references(SOURCE)} | {
    "DEPLOY_REGION": "ap-guangzhou",
    "MF_NAMESPACE": "pc",
}
TRIGGERS = {"timer", "ckafka", "cmq", "cos", "cls", "http", "apigw"}


def inputs(source: str = SOURCE) -> dict[str, Any]:
    return serverless_file.load(source, ENVIRON)


def parameters(kind: str) -> dict[str, Any]:
    events = inputs(serverless_file.with_every_trigger())["events"]
    found: dict[str, Any] = next(event[kind]["parameters"] for event in events if kind in event)
    return found


def test_timer_and_ckafka_are_deployed_and_every_other_trigger_is_an_uncommenting_away() -> None:
    assert [kind for event in inputs()["events"] for kind in event] == ["timer", "ckafka"]
    assert {
        kind for event in inputs(serverless_file.with_every_trigger())["events"] for kind in event
    } == TRIGGERS


@pytest.mark.parametrize("kind", sorted(TRIGGERS))
def test_a_trigger_says_that_it_is_open(kind: str) -> None:
    assert parameters(kind)["enable"] is True


def test_a_reference_stands_alone_so_that_an_unset_one_never_becomes_part_of_a_text() -> None:
    active = [line.split("#")[0].strip() for line in SOURCE.split("\n") if not line.lstrip().startswith("#")]
    referring = [line for line in active if "${env:" in line]
    assert len(referring) == len(serverless_file.references(SOURCE))
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


def test_the_heartbeat_of_its_timer_is_a_valid_point(harness: Harness) -> None:
    event = {"Type": "Timer", "TriggerName": "t", "Time": "", "Message": parameters("timer")["argument"]}
    assert outcomes(harness.handle(event)) == {"delivered": 1}


def test_tencents_toolkit_makes_of_it_what_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    told = inputs(serverless_file.with_every_trigger())
    made = serverless_file.made_by_toolkit(told)
    if made is None:
        with capsys.disabled():
            print("\nNo Node.js here: serverless.yml was read as YAML alone.")  # noqa: T201 - somebody should know
        assert told["vpcConfig"].keys() == {"vpcId", "subnetId"}
        assert told["cls"].keys() == {"logsetId", "topicId"}
        assert told["deadLetter"].keys() == {"type", "name"}
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
    variables = {variable["Key"]: variable["Value"] for variable in function["Environment"]["Variables"]}
    assert variables == told["environment"]["variables"]
    check_triggers({trigger["kind"]: trigger for trigger in made["triggers"]})


def check_triggers(triggers: dict[str, dict[str, Any]]) -> None:
    assert triggers.keys() == TRIGGERS
    assert {kind for kind, trigger in triggers.items() if trigger.get("Enable") != "OPEN"} == {"apigw"}
    assert triggers["timer"]["TriggerDesc"] == "0 */5 * * * * *"
    assert triggers["timer"]["CustomArgument"] == parameters("timer")["argument"]
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


def test_the_document_sets_everything_that_the_file_refers_to() -> None:
    set_there = set(re.findall(r"^(\w+)=", DOCUMENT, flags=re.MULTILINE))
    assert set(serverless_file.references(SOURCE)) == set_there - {"TENCENT_SECRET_ID", "TENCENT_SECRET_KEY"}


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


def test_the_documents_first_event_is_a_valid_point(harness: Harness) -> None:
    event = json.loads(re.findall(r"```json\n *(.*?)```", DOCUMENT, flags=re.DOTALL)[1])
    assert outcomes(harness.handle(event)) == {"delivered": 1}
