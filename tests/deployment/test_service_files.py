"""The Dockerfile and the systemd unit start what there is."""

import json
import re
import shlex
import shutil
import subprocess

import pytest

from metric_forwarder.cli.serve import serve
from support.harness import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
SYSTEMD_ANALYZE = shutil.which("systemd-analyze") or ""
UNIT = (ROOT / "deploy" / "metric-forwarder.service").read_text("utf-8")


def _commands() -> list[list[str]]:
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE, re.MULTILINE)
    (arguments,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    (started,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    return [json.loads(entry) + json.loads(arguments), shlex.split(started)]


@pytest.mark.parametrize("command", _commands(), ids=["Dockerfile", "unit"])
def test_the_command_is_serve_with_options_that_it_has(command: list[str]) -> None:
    assert (command[0].rpartition("/")[2], command[1]) == ("metric-forwarder", "serve")
    chosen = serve.make_context("serve", command[2:]).params
    assert (chosen["host"], chosen["port"]) == ("0.0.0.0", 9000)


def test_the_image_is_built_from_files_that_are_there_and_let_in() -> None:
    let_in = re.findall(r"^!(.+)$", (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sorted(source.removeprefix("./") for source in copied) == sorted(let_in)
    assert all((ROOT / source).exists() for source in let_in)


def test_a_stop_waits_longer_than_a_request_may_take() -> None:
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(timeout) > serve.make_context("serve", []).params["time_limit_s"]


@pytest.mark.skipif(not SYSTEMD_ANALYZE, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit_but_the_program_that_is_not_installed() -> None:
    done = subprocess.run(
        [SYSTEMD_ANALYZE, "verify", str(ROOT / "deploy" / "metric-forwarder.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "metric-forwarder.service" in line]
    assert [line for line in complaints if "is not executable" not in line] == []
