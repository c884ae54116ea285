"""``emulator``, the command line as a whole, and what people see on a terminal."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from metric_forwarder.cli import display
from metric_forwarder.cli.commands import forwarder
from metric_forwarder.cli.local_function import Invocation
from support.command_line import ROOT, child_environ, command, execute, on_terminal, point, run


@contextmanager
def _running(*options: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The command as a process: what it prints at its start, and the settings it says to export."""
    arguments = [sys.executable, "-m", "metric_forwarder", "emulator", "--port", "0", *options]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, encoding="utf-8", env=child_environ()
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("  export METRIC_FORWARDER_PAGE="):
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended before it listened"
        exported = dict(
            line.removeprefix("  export ").strip().split("=", 1) for line in lines if "  export MF_" in line
        )
        try:
            yield "".join(lines), {name.removeprefix("MF_"): value for name, value in exported.items()}
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    assert process.returncode == 0


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return reply.read().decode()


@pytest.mark.slow
def test_what_it_prints_at_its_start_is_all_that_is_needed_to_send_to_it() -> None:
    with _running() as (welcome, settings):
        sent = run("send", "--namespace", "pc", "--metric", "m", "--value", "1", **settings)
        base = settings["RECEIVER_URL"].removesuffix("/v2/index.php")
        assert sent.status == 0
        assert json.loads(_get(f"{base}/-/points"))[0]["metricName"] == "m"
        assert f"{base}/ (a page)" in welcome
        assert "<html" in _get(f"{base}/")
        assert "the key is an example" in welcome


@pytest.mark.slow
def test_its_limits_are_options() -> None:
    with _running("--max-name-length", "3") as (_, settings):
        done = run(
            "invoke", "-", given=json.dumps([point(), point(metricName="abc", dimensions={})]), **settings
        )
    assert done.printed["outcomes"] | {"delivered": 1, "rejected": 1} == done.printed["outcomes"]
    assert done.printed["errors"][0]["code"] == 1020


@pytest.mark.slow
def test_an_account_of_ones_own_is_known_and_its_key_is_not_repeated(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text('{"pc": {"load": ["ip"]}}', encoding="utf-8")
    with _running("--account", "mine:my:key", "--catalogue", str(catalogue)) as (welcome, settings):
        known = run("invoke", "-", given=json.dumps(point()), **(settings | {"SECRET_KEY": "my:key"}))
        unknown = run(
            "invoke", "-", given=json.dumps(point(metricName="x")), **(settings | {"SECRET_KEY": "my:key"})
        )
    assert settings["SECRET_ID"] == "mine"
    assert "my:key" not in welcome
    assert (known.status, unknown.status) == (0, 1)
    assert unknown.printed["errors"][0]["code"] == 1019


@pytest.mark.slow
def test_a_taken_port_ends_with_status_2_and_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = execute("emulator", "--port", str(port))
    assert done.status == 2
    assert (
        f"port {port} cannot be listened on (Address already in use): choose another with --port" in done.err
    )
    assert "Traceback" not in done.err


def test_make_emulator_takes_another_port() -> None:
    command = ["/usr/bin/env", "make", "--dry-run", "emulator", "PORT=8081"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "metric-forwarder emulator --port 8081 " in done.stdout


@pytest.mark.parametrize("command", ["emulator", "serve"])
@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machines_is_reported_with_the_right_option(
    command: str, host: str
) -> None:
    done = run(command, "--host", host, "--port", "0", SECRET_ID="a", SECRET_KEY="b", REGION="gz")
    assert (done.status, done.out) == (2, "")
    assert f"{host} port 0 cannot be listened on (" in done.err
    assert "set --host to an address of this machine" in done.err
    assert "--port 0" not in done.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(("--account", "only-a-secret"), "ID:KEY", id="an account without a key"),
        pytest.param(("--port", "70000"), "70000", id="no port"),
        pytest.param(("--catalogue", "/nonexistent"), "/nonexistent cannot be read", id="no such catalogue"),
        pytest.param(("--max-body-bytes", "0"), "0", id="a limit of nothing"),
    ],
)
def test_wrong_options_end_with_status_2(options: tuple[str, ...], told: str) -> None:
    done = run("emulator", *options)
    assert done.status == 2
    assert told in done.err
    assert "only-a-secret" not in done.err


@pytest.mark.parametrize("content", ["[]", '{"pc": []}', '{"pc": {"load": "ip"}}', '{"pc": {"load": [1]}}'])
def test_the_error_for_a_catalogue_of_another_form_says_what_would_be_right(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text(content, encoding="utf-8")
    done = run("emulator", "--catalogue", str(path))
    assert done.status == 2
    assert '{"pc": {"diskusage": ["diskname", "ip"]}}' in done.err


# --- the command line as a whole ----------------------------------------------------------------------------


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from metric_forwarder.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({name.split('.')[0] for name in sys.modules} & {'rich', 'aiohttp', 'requests', "
        "'jsonschema'}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=child_environ(),
    )
    assert done.stderr == "[]\n"
    assert all(f"  {name} " in done.stdout for name in forwarder.commands)


@pytest.mark.parametrize("command", forwarder.commands)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.status == 0
    assert f"  Example:\n    {'echo' if command == 'check' else 'metric-forwarder'} " in done.out


def test_the_version_is_reported() -> None:
    done = run("--version")
    assert done.status == 0
    assert done.out.startswith("metric-forwarder ")


def test_without_its_extra_the_command_line_says_which_one_it_needs() -> None:
    # Without the site module there is no third-party package.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "metric_forwarder", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env=child_environ(),
    )
    assert done.returncode == 2
    assert "the package click" in done.stderr
    assert "pip install -e '.[cli]'" in done.stderr


@pytest.mark.slow
def test_the_exit_status_says_what_was_delivered_if_standard_output_is_closed() -> None:
    with _running() as (_, settings):
        done = execute("send", "--namespace=pc", "--metric=m", "--value=1", streams=">&-", **settings)
    assert done.status == 0
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_standard_input_that_is_closed_is_empty() -> None:
    done = execute("check", "-", streams="<&-")
    assert done.status == 2
    assert done.err == "Error: standard input is empty: it must hold a payload or a trigger event\n"


# The second does not fit into a buffer.
@pytest.mark.parametrize(
    "words",
    [("schema",), ("events", "ckafka", "--points", str(ROOT / "README.md"))],
    ids=["a little", "much"],
)
def test_standard_output_that_cannot_be_written_ends_with_status_2_and_one_line(words: tuple[str]) -> None:
    done = execute(*words, streams=">/dev/full")
    assert done.status == 2
    assert done.err == (
        "Error: standard output cannot be written (No space left on device): send it elsewhere\n"
    )


def test_output_whose_reader_has_gone_ends_in_silence() -> None:
    assert execute("schema", streams="| head -n 1") == (0, "{\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_lacks_is_escaped_and_json_stays_json(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "points.json").write_text('{"city": "京😀é"}', encoding="utf-8")
    # Without a PATH the demonstration finds no Prometheus, which takes its time.
    environ = child_environ() | {"PYTHONIOENCODING": encoding, "PATH": ""}
    events = on_terminal(command("events", "direct", "--points", str(tmp_path / "points.json")), environ)
    assert events.printed == {"city": "京😀é"}
    assert [on_terminal(command(word), environ).status for word in ("--help", "demo")] == [0, 0]


def test_nothing_outside_the_command_line_imports_it() -> None:
    package = ROOT / "src" / "metric_forwarder"
    users = {
        path.name
        for path in [*package.rglob("*.py"), ROOT / "src" / "index.py"]
        if re.search(r"metric_forwarder\.cli\b", path.read_text("utf-8"))
        and package / "cli" not in path.parents
    }
    assert users == {"__main__.py"}


# --- on a terminal ------------------------------------------------------------------------------------------


def _shown(invocation: Invocation, title: str = "") -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None, markup=False)
    display.print_invocation(console, invocation, title)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _report(**changes: Any) -> dict[str, Any]:
    outcomes = dict.fromkeys(
        (
            "delivered",
            "duplicate",
            "filtered",
            "invalid",
            "stale",
            "rejected",
            "spooled",
            "uncertain",
            "undelivered",
        ),
        0,
    )
    return {
        "status": "partial",
        "trigger": "ckafka",
        "requestId": "r",
        "received": 3,
        "outcomes": outcomes | {"delivered": 1, "invalid": 1, "undelivered": 1},
        "requests": {"sent": 2, "retried": 1, "returnCodes": {"0": 1, "1006": 1}},
        "dedupe": "memory",
        "durationMs": 12,
        "errors": [
            {
                "outcome": "invalid",
                "source": "t/0@1",
                "pointer": "/value",
                "rule": "type",
                "code": None,
                "message": "no",
            }
        ],
        "errorsOmitted": 4,
        "filtered": [],
    } | changes


def test_a_report_shows_the_outcomes_that_occurred_the_requests_and_the_errors() -> None:
    shown = _shown(Invocation(_report(), raised=True), "event.json")
    assert "event.json  partial  3 points received by the trigger ckafka  raised" in shown
    assert "1  delivered" in shown
    assert "stale" not in shown
    assert "2 requests (1 repeated): code 0 × 1, code 1006 × 1; dedupe memory, 12 ms" in shown  # noqa: RUF001 - a sign for people
    assert "t/0@1" in shown
    assert "and 4 more errors" in shown


def _errors(*sources: str) -> dict[str, Any]:
    error = _report()["errors"][0]
    return _report(errors=[{**error, "source": source, "message": "no number at all"} for source in sources])


def test_what_errors_say_alike_is_said_once_with_how_often() -> None:
    shown = _shown(Invocation(_errors("t/0@1", "t/0@2", "t/0@3")))
    assert shown.count("no number at all") == 1
    assert "3 times: no number" in shown
    assert "t/0@1 and 2 more" in shown


def test_a_narrow_terminal_gets_a_list_whose_words_are_whole() -> None:
    console = Console(file=io.StringIO(), width=40)
    long = "host-metrics/0@1043"
    display.print_errors(console, _errors(long, "t/0@2")["errors"])
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert f"invalid  {long} /value (type)" in " ".join(line.strip() for line in lines)
    assert "┃" not in console.file.getvalue()
    assert sum("no number at all" in line for line in lines) == 2, "of a check each is told"


def test_an_http_reply_shows_its_status_and_a_refusal_its_reason() -> None:
    assert "answered with HTTP 207" in _shown(Invocation(_report(), http_status=207))
    refusal = {"status": "refused", "message": "HTTP is closed"}
    assert "HTTP is closed" in _shown(Invocation(refusal, http_status=401))


def test_what_a_producer_wrote_cannot_move_the_cursor_or_pass_for_markup() -> None:
    hostile = "\x1b[2J[red]a\u202eb\ud800\r\n"
    error = {
        "outcome": "invalid",
        "source": hostile,
        "pointer": "",
        "rule": "r",
        "code": None,
        "message": "m",
    }
    shown = _shown(Invocation(_report(errors=[error])), hostile)
    assert "\\x1b[2J[red]a\\u202eb\\ud800\\r\\n" in shown
    assert not {"\x1b", "\r", "\u202e"} & set(shown)


def test_half_a_surrogate_pair_can_be_printed_as_json() -> None:
    payload = json.dumps({"metricName": "m", "dimensions": {}, "value": 1, "\ud800": 1})
    done = run("check", "-", given=payload)
    assert done.status == 1
    assert done.printed[0]["errors"][0]["pointer"] == "/\ud800"


def test_of_many_values_the_newest_are_shown() -> None:
    console = Console(file=io.StringIO(), width=120)
    display.print_series(console, [{**point(number), "receivedAt": 0} for number in range(20)])
    assert isinstance(console.file, io.StringIO)
    assert "(12 more) … 12, 13, 14, 15, 16, 17, 18, 19" in console.file.getvalue()
    assert os.linesep in console.file.getvalue()


@pytest.mark.parametrize(
    ("option", "given", "told"),
    [
        ("--latency", "abc", "'abc' is not a valid number."),
        ("--clock-offset", "abc", "'abc' is not a valid number."),
        ("--clock-offset", "nan", "'nan' is not a finite number."),
        ("--latency", "-1", "-1.0 is not in the range"),
        ("--max-name-length", "1.5", "'1.5' is not a valid whole number."),
    ],
)
def test_a_wrong_number_is_reported_in_plain_words(option: str, given: str, told: str) -> None:
    done = run("emulator", option, given)
    assert done.status == 2
    assert told in done.err
