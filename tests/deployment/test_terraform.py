"""The Terraform module says what serverless.yml says, with arguments that the provider documents."""

import json
import re
from typing import Any

import hcl2
import pytest
import yaml
from tencentcloud.scf.v20180416.models import CreateFunctionRequest

from support.harness import ROOT

FOLDER = ROOT / "deploy" / "terraform"
# From the providers' own reference pages of these resources.
DOCUMENTED = {
    "tencentcloud_scf_function": {
        *("name", "async_run_enable", "cfs_config", "cls_logset_id", "cls_topic_id", "cos_bucket_name"),
        *("cos_bucket_region", "cos_object_name", "description", "dns_cache", "enable_eip_config"),
        *("enable_public_net", "environment", "func_type", "handler", "image_config", "intranet_config"),
        *("l5_enable", "layers", "mem_size", "namespace", "role", "runtime", "subnet_id", "tags", "timeout"),
        *("triggers", "vpc_id", "zip_file"),
    },
    "tencentcloud_scf_function_event_invoke_config": {"async_trigger_config", "function_name", "namespace"},
    "tencentcloud_scf_trigger": {
        *("function_name", "trigger_name", "type", "custom_argument", "description", "enable", "namespace"),
        *("qualifier", "trigger_desc"),
    },
    "local_file": {
        *("content", "content_base64", "directory_permission", "file_permission", "filename"),
        *("sensitive_content", "source"),
    },
}
META = {"count", "for_each"}


def parsed(name: str) -> dict[str, Any]:
    with (FOLDER / name).open(encoding="utf-8") as file:
        decoded: dict[str, Any] = hcl2.load(file)
    return decoded


def unquoted(value: Any) -> Any:
    return value.strip('"') if isinstance(value, str) else value


def resources() -> list[tuple[str, dict[str, Any]]]:
    return [
        (unquoted(kind), {name: value for name, value in body.items() if not name.startswith("__")})
        for resource in parsed("main.tf")["resource"]
        for kind, named in resource.items()
        for body in named.values()
    ]


@pytest.mark.slow
def test_every_argument_is_documented_by_the_provider() -> None:
    assert len(resources()) == 5
    for kind, arguments in resources():
        assert set(arguments) <= DOCUMENTED[kind] | META


@pytest.mark.slow
def test_the_function_is_that_of_the_description() -> None:
    described = yaml.safe_load((ROOT / "serverless.yml").read_text("utf-8"))["inputs"]
    (function,) = [arguments for kind, arguments in resources() if kind == "tencentcloud_scf_function"]
    same = {
        "description": "description",
        "handler": "handler",
        "runtime": "runtime",
        "mem_size": "memorySize",
        "timeout": "timeout",
    }
    assert {name: unquoted(function[name]) for name in same} == {
        name: described[key] for name, key in same.items()
    }


@pytest.mark.slow
def test_the_internet_is_reached_as_described_unless_a_variable_says_otherwise() -> None:
    described = yaml.safe_load((ROOT / "serverless.yml").read_text("utf-8"))["inputs"]
    declared = {
        unquoted(name): body for each in parsed("variables.tf")["variable"] for name, body in each.items()
    }
    assert declared["public_access"]["default"] is described["publicAccess"]


@pytest.mark.slow
def test_asynchronous_events_are_kept_and_retried_as_described() -> None:
    described = yaml.safe_load((ROOT / "serverless.yml").read_text("utf-8"))["inputs"]
    (arguments,) = [each for kind, each in resources() if kind.endswith("event_invoke_config")]
    (written,) = arguments["async_trigger_config"]
    (retry,) = written["retry_config"]
    assert (retry["retry_num"], written["msg_ttl"]) == (described["retryNum"], described["msgTTL"])


@pytest.mark.slow
def test_what_the_provider_cannot_set_is_said_in_the_module_and_on_the_page() -> None:
    default, _of_an_image = re.findall(r"默认 (\d+)s", CreateFunctionRequest.InitTimeout.__doc__ or "")
    assert f"the API's default, {default} seconds" in (FOLDER / "main.tf").read_text("utf-8")
    assert f"the API's default, {default} seconds" in (ROOT / "docs" / "deploy.md").read_text("utf-8")
    assert f"API 的默认值 {default} 秒" in (ROOT / "docs" / "zh" / "deploy.md").read_text("utf-8")


@pytest.mark.slow
def test_a_package_with_other_content_has_another_path_since_the_provider_compares_only_that() -> None:
    by_kind = dict(resources())
    assert "${filesha256(var.package)}" in by_kind["local_file"]["filename"]
    assert by_kind["local_file"]["source"] == "${var.package}"
    assert by_kind["tencentcloud_scf_function"]["zip_file"] == "${local_file.package.filename}"


@pytest.mark.slow
def test_a_timer_is_described_by_its_bare_expression_since_the_provider_reads_that_back() -> None:
    (timer,) = [arguments for _, arguments in resources() if unquoted(arguments.get("type")) == "timer"]
    assert timer["trigger_desc"] == "${each.value.cron}"


@pytest.mark.slow
def test_the_queue_is_consumed_as_described() -> None:
    described = yaml.safe_load((ROOT / "serverless.yml").read_text("utf-8"))["inputs"]["events"][0]["ckafka"][
        "parameters"
    ]
    (trigger,) = [arguments for _, arguments in resources() if unquoted(arguments.get("type")) == "ckafka"]
    text = json.dumps(trigger["trigger_desc"])
    written = dict(re.findall(r"(maxMsgNum|offset|retry|timeOut|consumerGroupName)\W+([\w-]+)", text))
    assert written == {
        "maxMsgNum": str(described["maxMsgNum"]),
        "offset": described["offset"],
        "retry": str(described["retry"]),
        "timeOut": str(described["timeout"]),
        "consumerGroupName": described["consumerGroupName"],
    }


@pytest.mark.slow
def test_every_variable_that_is_used_is_declared_and_the_other_way_round() -> None:
    used = set(re.findall(r"\bvar\.(\w+)", (FOLDER / "main.tf").read_text("utf-8")))
    declared = {unquoted(name) for variable in parsed("variables.tf")["variable"] for name in variable}
    assert used == declared
