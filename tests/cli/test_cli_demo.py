"""``demo``: what ``make run`` shows, and when it fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.cli import live_demo
from metric_forwarder.cli.demo import Demonstration, http_access, is_true, settings_in_force
from metric_forwarder.cli.dry_run import read_event
from metric_forwarder.cli.local_function import Invocation
from metric_forwarder.cli.prometheus_server import find_program
from metric_forwarder.cli.sample_events import TEMPLATES
from receiver_emulator import StoredPoint
from support.command_line import ROOT, child_environ, execute, point, run


def test_the_page_shows_an_event_of_each_kind_in_turn() -> None:
    first = [read_event(event).traits.name for event in islice(live_demo.events(), len(TEMPLATES) + 1)]
    assert first[0] == first[-1] == "timer"
    assert {"ckafka", "cmq", "cls", "eventbridge", "http", "direct"} <= set(first)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ckafka = run("events", "ckafka", "--messages", "3").out
    (tmp_path / "ckafka.json").write_text(ckafka, encoding="utf-8")
    (tmp_path / "ckafka-again.json").write_text(ckafka, encoding="utf-8")
    (tmp_path / "direct.json").write_text(json.dumps([point(5), point("wrong")]), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no event", encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_every_event_of_a_folder_is_shown_and_then_what_arrived(folder: Path) -> None:
    done = execute("demo", str(folder))
    assert (done.status, done.err) == (0, "")
    reports, _, held = done.out.partition("now holds:")
    assert (
        reports.index("ckafka-again.json  ok")
        < reports.index("ckafka.json  ok")
        < reports.index("direct.json")
    )
    assert "3  duplicate" in reports, "one warm instance takes all events"
    assert '"wrong" is not a number' in reports
    held = held.partition("by remote write")[0]
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in held.splitlines() if line.startswith("│")
    ]
    assert ["pc", "load", "ip=10.0.0.1", "5"] in rows
    assert ["pc", "diskusage", "diskname=sda, ip=172.31.58.160", "0.3"] in rows
    assert len(rows) == 4


def test_without_a_folder_samples_of_each_kind_are_shown() -> None:
    done = run("demo")
    assert done.status == 0
    assert all(f"{kind}  ok" in done.out for kind in ("timer", "ckafka", "cmq", "direct"))


def test_an_event_of_an_unknown_kind_is_reported_and_ends_with_status_1(folder: Path) -> None:
    (folder / "odd.json").write_text('{"odd": 1}', encoding="utf-8")
    done = run("demo", str(folder))
    assert done.status == 1
    assert "odd.json  the event is of an unknown kind" in done.out
    assert "Reported and arrived points differ: odd.json" in done.err


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param("none", None, "cannot be read as a folder (No such file", id="no folder"),
        pytest.param("x" * 300, None, "cannot be read as a folder (File name too", id="nobody may look"),
        pytest.param("", None, "has no *.json", id="an empty folder"),
        pytest.param("", "{", "event.json is not JSON", id="a file that is no JSON"),
    ],
)
def test_a_folder_that_cannot_be_used_ends_with_status_2(
    tmp_path: Path, name: str, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "event.json").write_text(content, encoding="utf-8")
    done = run("demo", str(tmp_path / name))
    assert (done.status, done.out) == (2, "")
    assert told in done.err


def test_make_run_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        ["/usr/bin/env", "make", f"VENV={tmp_path}/file/.venv", "run"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=child_environ(),
    )
    assert done.returncode == 2
    assert "work in a clone that you may write to" in done.stderr
    assert "python3-venv" not in done.stderr


def test_ones_own_settings_are_neither_used_nor_lost() -> None:
    done = run("demo", RECEIVER_URL="http://receiver.invalid/v2/index.php", NO_SUCH="setting")
    assert done.status == 0


def test_settings_are_in_force_in_the_place_of_all_others_and_only_for_a_while() -> None:
    before = dict(os.environ)
    with settings_in_force({"MF_REGION": "gz", "MF_NAMESPACE": "outer"}):
        with settings_in_force({"MF_REGION": "sh"}):
            assert {name: text for name, text in os.environ.items() if name.startswith("MF_")} == {
                "MF_REGION": "sh"
            }
        assert (os.environ["MF_REGION"], os.environ["MF_NAMESPACE"]) == ("gz", "outer")
    assert dict(os.environ) == before


@pytest.fixture
def delivered() -> Demonstration:
    stored: StoredPoint = {
        "namespace": "pc",
        "metricName": "load",
        "dimensions": {"ip": "10.0.0.1"},
        "value": 1,
        "receivedAt": 0.0,
    }
    return Demonstration(Invocation({"outcomes": {"delivered": 1}}), [stored])


def test_a_report_is_true_only_of_just_the_points_that_arrived(delivered: Demonstration) -> None:
    stored = delivered.arrived[0]
    other: StoredPoint = {**stored, "value": 2}
    assert is_true(delivered, point())
    assert not is_true(delivered._replace(arrived=[]), point()), "a point was lost"
    assert not is_true(delivered._replace(arrived=[stored, stored]), point()), "a point came twice"
    assert not is_true(delivered._replace(arrived=[other]), point()), "another point came"


@pytest.mark.parametrize(
    ("headers", "access"),
    [
        pytest.param([{}, {"Authorization": "Bearer sample"}], {"MF_HTTP_TOKEN": "sample"}, id="a token"),
        pytest.param([{"authorization": "Basic sample"}], {"MF_HTTP_AUTH": "cam"}, id="no token"),
        pytest.param([None], {"MF_HTTP_AUTH": "cam"}, id="no headers"),
    ],
)
def test_http_clients_are_let_in_by_the_token_they_bring(headers: list[Any], access: dict[str, str]) -> None:
    assert (
        http_access([{"httpMethod": "POST", "headers": given} for given in headers] + [[], "text"]) == access
    )


@pytest.mark.slow
def test_a_prometheus_that_is_installed_gets_the_same_events() -> None:
    done = execute("demo")
    assert (done.status, done.err) == (0, "")
    if find_program() is None and not os.environ.get("CI"):
        assert "Not shown: the second destination" in done.out
        return
    assert "by remote write, holds" in done.out
    assert 'pc_diskusage{diskname="sda", ip="172.31.58.160"}' in done.out


@pytest.mark.slow
def test_a_prometheus_takes_every_sample_event_whatever_its_time() -> None:
    done = execute("demo", str(ROOT / "events"))
    assert (done.status, done.err) == (0, "")
    if find_program() is not None or os.environ.get("CI"):
        delivered, of = re.findall(r"holds (\d+) of (\d+) delivered points", done.out)[0]
        reported = re.findall(r"^ *(\d+) +delivered ", done.out.partition("now holds")[0], re.MULTILINE)
        assert int(delivered) == int(of) == sum(map(int, reported))
        assert "It refused" not in done.out


@pytest.mark.slow
def test_without_a_prometheus_it_says_so(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "metric_forwarder", "demo", str(folder)],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=child_environ() | {"PATH": ""},
    )
    told = done.stdout.partition("Not shown: the second destination")[2]
    assert "It needs the program prometheus" in told
    assert "remote-write" not in told, "what is there is not asked for"


@pytest.mark.slow
def test_the_page_moves_by_itself_and_every_report_is_on_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "metric_forwarder", "demo", "--page", "--port", "0"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=child_environ(),
    ) as process:
        assert process.stdout is not None
        page = process.stdout.readline().split()[-1]
        try:
            first, later = _activity_with(page, reports=1), _activity_with(page, reports=3)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)
    assert process.returncode == 0
    assert len(later["points"]) > len(first["points"]) > 0
    triggers = {report["trigger"] for report in later["reports"]}
    assert len(triggers) > 1
    assert {report["status"] for report in later["reports"]} == {"ok"}


def _activity_with(page: str, *, reports: int) -> Any:
    """What the page shows, once it shows so many reports."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{page}-/activity", timeout=30) as reply:
            activity = json.loads(reply.read())
        if len(activity["reports"]) >= reports:
            return activity
        time.sleep(0.1)
    raise AssertionError(f"there were never {reports} reports")


def test_with_a_page_a_folder_of_events_is_refused(folder: Path) -> None:
    done = run("demo", str(folder), "--page")
    assert done.status == 2
    assert "leave EVENTS_DIR out" in done.err
