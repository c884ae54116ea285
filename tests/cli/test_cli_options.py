"""What all commands have in common: quiet, verbose, settings from a file, interrupts, and what a terminal shows."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from receiver_emulator import Emulator
from support.command_line import child_environ, command, execute, point, run, settings_for


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def event_file(tmp_path: Path) -> Path:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(point(1)), encoding="utf-8")
    return path


# --- JSON Lines ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_line_of_a_file_of_json_lines_is_an_event_for_one_instance(receiver: Emulator) -> None:
    ckafka = json.loads(run("events", "ckafka", "--messages", "2").out)
    lines = [point(1), ckafka, [point(2), point("wrong")], ckafka]
    done = run("invoke", "-", given="\n".join(map(json.dumps, lines)) + "\n\n", **settings_for(receiver))
    reports = [json.loads(line) for line in done.out.splitlines()]
    assert done.status == 1
    assert [report["trigger"] for report in reports] == ["direct", "ckafka", "direct", "ckafka"]
    assert [report["status"] for report in reports] == ["ok", "ok", "partial", "ok"]
    assert reports[3]["outcomes"]["duplicate"] == 3, "one instance, which remembers"


def test_a_line_of_an_unknown_kind_is_reported_and_the_others_get_their_reports(receiver: Emulator) -> None:
    lines = f'{json.dumps(point(1))}\n{{"odd": 1}}\n{json.dumps(point("wrong"))}\n'
    done = run("invoke", "-", given=lines, **settings_for(receiver))
    assert (done.status, len(done.out.splitlines())) == (2, 2)
    assert "line 2: the event is of an unknown kind" in done.err


def test_a_line_separator_of_unicode_in_a_string_ends_no_line(receiver: Emulator) -> None:
    lines = [
        json.dumps(point(value, dimensions={"ip": "a\u2028b\x85c"}), ensure_ascii=False) for value in (1, 2)
    ]
    done = run("invoke", "-", given="\r\n".join(lines), **settings_for(receiver))
    assert done.status == 0, done.err
    assert [point["value"] for point in receiver.points()] == [1, 2]


def test_a_line_that_is_not_json_is_named_before_anything_is_sent(receiver: Emulator) -> None:
    done = run("invoke", "-", given=f"{json.dumps(point(1))}\n{{\n", **settings_for(receiver))
    assert (done.status, done.out) == (2, "")
    assert "line 2 is not JSON by itself" in done.err
    assert receiver.requests() == []


# --- quiet, verbose, settings from a file -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("value", [1, "wrong"], ids=["delivered", "invalid"])
def test_quiet_leaves_only_the_exit_status(receiver: Emulator, tmp_path: Path, value: object) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps(point(value)), encoding="utf-8")
    done = execute("invoke", "--quiet", str(event), **settings_for(receiver))
    assert (done.status, done.out, done.err) == (0 if value == 1 else 1, "", "")


def test_check_is_quiet_too() -> None:
    assert run("check", "--quiet", "-", given=json.dumps(point(1)))[:2] == (0, "")
    assert run("check", "--quiet", "-", given=json.dumps(point("wrong")))[:2] == (1, "")


def test_doctor_is_quiet_too_and_speaks_json(receiver: Emulator) -> None:
    quiet = run("doctor", "--quiet", **settings_for(receiver))
    assert (quiet.status, quiet.out) == (0, "")
    found = run("doctor", "--json", **settings_for(receiver)).printed
    assert found["status"] == "ok"
    assert {"settings", "answer", "clock"} <= {check["name"] for check in found["checks"]}
    receiver.fault("status", 404, times=None)
    assert run("doctor", "--quiet", **settings_for(receiver)).status == 1


@pytest.mark.slow
def test_the_demonstration_as_json_holds_each_report_and_what_arrived(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps([point(5), point("wrong")]), encoding="utf-8")
    done = execute("demo", "--json", str(tmp_path))
    (row,) = done.printed["events"]
    assert (done.status, done.err, done.printed["ok"]) == (0, "", True)
    assert (row["name"], row["report"]["outcomes"]["delivered"], row["asReported"]) == ("one.json", 1, True)
    assert [arrived["value"] for arrived in done.printed["received"]] == [5]


def test_verbose_logs_each_request_and_only_while_the_command_runs(receiver: Emulator) -> None:
    given = json.dumps(point(1))
    done = run("invoke", "--verbose", "-", given=given, **settings_for(receiver), DEDUPE="off")
    (request,) = (line for line in map(json.loads, done.err.splitlines()) if line["event"] == "request")
    assert (request["points"], request["attempt"], request["reply"]) == (1, 1, "0")
    again = run("invoke", "-", given=given, **settings_for(receiver), DEDUPE="off")
    assert '"request"' not in again.err.replace('"requests"', "")


def test_settings_come_from_a_file_and_what_is_exported_is_stronger(
    receiver: Emulator, tmp_path: Path
) -> None:
    exported = settings_for(receiver)
    file = tmp_path / "settings.env"
    lines = [f"MF_{name}={value}" for name, value in exported.items()]
    file.write_text("\n".join(["# where points go", *lines, 'MF_NAMESPACE="from_file"', "OTHER=1"]), "utf-8")
    bare = {name: value for name, value in point(1).items() if name != "namespace"}
    from_file = run("invoke", "--env-file", str(file), "-", given=json.dumps(bare))
    assert from_file.status == 0
    assert receiver.points()[-1]["namespace"] == "from_file"
    run("invoke", "--env-file", str(file), "-", given=json.dumps({**bare, "value": 2}), NAMESPACE="exported")
    assert receiver.points()[-1]["namespace"] == "exported"
    assert "MF_NAMESPACE" not in os.environ
    assert "OTHER" not in os.environ


@pytest.mark.parametrize("content", [None, b"MF_REGION=gz # a comment\n", b"\xff\xfe"], ids=["missing", "comment", "binary"])  # fmt: skip
def test_a_file_of_settings_that_cannot_be_used_ends_with_status_2(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "settings.env"
    if content is not None:
        file.write_bytes(content)
    done = run("doctor", "--env-file", str(file))
    assert done.status == 2
    assert "settings.env" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_the_emulator_logs_each_request_once_if_asked_to_a_head_included() -> None:
    with subprocess.Popen(
        command("emulator", "--port", "0", "--verbose"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=child_environ(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().split()[4]
        settings = {"RECEIVER_URL": f"{url}/v2/index.php", "SECRET_ID": "AKIDexampleexampleexample0000000000"}
        settings |= {"SECRET_KEY": "exampleexampleexampleexample0000", "REGION": "gz"}
        run("send", "--namespace", "pc", "--metric", "m", "--value", "1", **settings)
        for path in ("/v2/index.php?Signature=not-to-be-logged", "/"):
            subprocess.run(["curl", "-sI", f"{url}{path}"], check=True, capture_output=True)  # noqa: S607 - of this machine
        process.send_signal(signal.SIGINT)
        log = process.stderr.read()
        process.wait(timeout=20)
    lines = [json.loads(line) for line in log.splitlines()]
    assert [(line["method"], line["path"], line["code"], line["points"]) for line in lines] == [
        ("POST", "/v2/index.php", 0, 1),
        ("HEAD", "/v2/index.php", 1000, None),
    ], "the page, which is no request of the protocol, is not counted"
    assert "not-to-be-logged" not in log


# --- on a terminal ------------------------------------------------------------------------------------------


class Terminal:
    """A program whose standard output and error are a terminal."""

    def __init__(self, *arguments: str, term: str = "xterm", **settings: str) -> None:
        self._ours, theirs = pty.openpty()
        environ = {**child_environ(**settings), "TERM": term, "COLUMNS": "120"}
        self.process = subprocess.Popen(
            command(*arguments), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environ
        )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, text: str, within_s: float = 30) -> None:
        """Read until the text was shown; fails if that takes too long, or the program ends before."""
        deadline = time.monotonic() + within_s
        while text not in self.shown:
            assert self._read(deadline - time.monotonic()), self.shown

    def finish(self) -> int:
        """Read to the end; return the exit status."""
        while self._read(30):
            pass
        os.close(self._ours)
        return self.process.wait(timeout=60)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], max(0.0, seconds))[0]:
            return False
        try:
            read = os.read(self._ours, 65536)
        except OSError:  # how Linux tells that the other end has closed
            return False
        self.shown += read.decode(errors="backslashreplace")
        return bool(read)


@pytest.mark.slow
def test_what_takes_time_shows_that_it_is_at_work_and_leaves_no_trace_of_it(event_file: Path) -> None:
    with Emulator() as receiver:
        receiver.fault("delay", 2.0)
        terminal = Terminal("invoke", str(event_file), **settings_for(receiver))
        terminal.wait_for("the function is running")
        terminal.wait_for("0:00:01")
        assert terminal.finish() == 0
    last = terminal.shown.rpartition("the function is running")[2]
    assert "delivered" in last
    assert '"event":"report"' not in terminal.shown, "the report is shown once"


@pytest.mark.slow
def test_a_line_of_the_log_stays_one_line_beside_what_shows_that_it_is_at_work(
    receiver: Emulator, tmp_path: Path
) -> None:
    event = tmp_path / "http.json"
    event.write_text(execute("events", "http").out, encoding="utf-8")
    terminal = Terminal("invoke", str(event), **settings_for(receiver))
    assert terminal.finish() == 1
    line = next(line for line in terminal.shown.splitlines() if '"event":"refused"' in line)
    assert json.loads(line[line.index("{") :])["statusCode"] == 401


@pytest.mark.slow
def test_a_pipe_gets_no_progress_line(receiver: Emulator, event_file: Path) -> None:
    receiver.fault("delay", 0.5)
    done = execute("invoke", str(event_file), **settings_for(receiver))
    assert done.printed["status"] == "ok"
    assert "at work" not in done.err


@pytest.mark.slow
def test_an_interrupt_ends_a_command_with_status_130_and_without_a_traceback(event_file: Path) -> None:
    with Emulator() as receiver:
        receiver.fault("hang", times=None)
        terminal = Terminal("invoke", "--time-limit", "60", str(event_file), **settings_for(receiver))
        terminal.wait_for("the function is running")
        deadline = time.monotonic() + 30
        while not receiver.requests():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        terminal.process.send_signal(signal.SIGINT)
        started = time.monotonic()
        status = terminal.finish()
        took_s = time.monotonic() - started
    assert status == 130, terminal.shown
    assert "Interrupted." in terminal.shown
    assert "Traceback" not in terminal.shown
    assert took_s < 40, "long before the time limit"


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_the_script_that_completes_commands(shell: str) -> None:
    done = subprocess.run(
        command(), env={**child_environ(), "_METRIC_FORWARDER_COMPLETE": f"{shell}_source"}, capture_output=True,
        encoding="utf-8", check=True,
    )  # fmt: skip
    assert "_METRIC_FORWARDER_COMPLETE" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "path"), [("emulator", "/-/limits"), ("serve", "/healthz")])
def test_a_program_can_read_where_a_server_listens(receiver: Emulator, name: str, path: str) -> None:
    with subprocess.Popen(
        command(name, "--port", "0", "--json"),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=child_environ(**settings_for(receiver)),
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        with urlopen(said["url"] + path, timeout=20) as reply:
            assert reply.status == 200
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    assert process.returncode == 0
    if name == "emulator":
        assert said["exports"]["MF_RECEIVER_URL"] == f"{said['url']}/v2/index.php"
    else:
        assert (said["page"], said["open"]) == (None, {"payloads": False, "bridge": False})
