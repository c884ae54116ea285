"""Standard output as the destination: a pipe gets the points, one JSON object a line, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metric_forwarder.bootstrap import Application
from support.command_line import child_environ, execute, run
from support.fakes import FakeClock
from support.harness import ckafka, outcomes, point, report_of

EVENT = ckafka(
    point(0.5, timestamp=1_700_000_000),
    point(2, metric="größe", dimensions={"weg": "a\nb"}, namespace="pc"),
    point("3"),
)


@pytest.mark.slow
def test_invoke_prints_each_point_on_a_line_and_the_report_on_standard_error() -> None:
    done = execute("invoke", "-", given=json.dumps(EVENT), DESTINATION="stdout")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.status == 1, "one of them is invalid"
    assert [(line["metricName"], line["value"]) for line in lines] == [("diskusage", 0.5), ("größe", 2)]
    assert lines[0] == {
        "metricName": "diskusage",
        "dimensions": {"ip": "10.0.0.1"},
        "value": 0.5,
        "timestamp": 1_700_000_000_000,
    }
    assert (lines[1]["namespace"], lines[1]["dimensions"]) == ("pc", {"weg": "a\nb"})
    assert '"delivered": 2' in done.err
    assert '"event":"report"' in done.err


def test_send_check_and_doctor_need_no_other_setting(tmp_path: Path) -> None:
    sent = run("send", "--metric", "up", "--value", "1", DESTINATION="stdout")
    assert (sent.status, json.loads(sent.out)["metricName"]) == (0, "up")
    file = tmp_path / "event.json"
    file.write_text(json.dumps(EVENT), encoding="utf-8")
    checked = run("check", str(file), DESTINATION="stdout")
    assert (checked.status, json.loads(checked.out)[0]["valid"]) == (1, 2)
    examined = run("doctor", DESTINATION="stdout")
    assert (examined.status, examined.err) == (0, "")
    assert "connection" not in examined.out


def test_what_is_printed_can_be_sent_again() -> None:
    first = run("invoke", "-", given=json.dumps(ckafka(point())), DESTINATION="stdout")
    again = run("invoke", "-", given=first.out, DESTINATION="stdout")
    assert again.out == first.out


def test_in_the_function_points_and_log_share_a_stream_and_are_distinguished_by_how_a_line_begins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = report_of(Application({"MF_DESTINATION": "stdout"}, FakeClock()), EVENT)
    assert outcomes(report) == {"delivered": 2, "invalid": 1}
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith('{"metricName":') for line in lines] == [True, True, False]
    assert lines[2].startswith('{"level":')


@pytest.mark.slow
def test_a_pipe_that_is_closed_leaves_the_points_undelivered() -> None:
    script = "import sys; from metric_forwarder.cli import main; sys.argv = ['mf', 'invoke', '-']; main()"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(ckafka(point())).encode(),
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        env=child_environ(DESTINATION="stdout"),
    )
    os.close(writer)
    assert b'"undelivered": 1' in done.stderr
    assert b"standard output cannot be written (BrokenPipeError)" in done.stderr
