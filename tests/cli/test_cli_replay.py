"""``replay``: the spool is redelivered now, until it is empty or nothing of it moves."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.cli.replay import merge, replay_all
from metric_forwarder.model import Outcome
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.store import SpoolRecord
from receiver_emulator import Emulator
from support.command_line import child_environ, command, on_terminal, point, run, settings_for
from support.redis_server import RedisServer

FUNCTION = "default/metric-forwarder"
# What moves a terminal's cursor, or colours.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def spooling(receiver: Emulator, spool: str) -> dict[str, str]:
    return {**settings_for(receiver), "SPOOL": spool, "MAX_ATTEMPTS": "1"}


def fill(receiver: Emulator, settings: dict[str, str], *events: Any) -> None:
    """Leave in the spool what these events hold."""
    receiver.fault("code", 1002, times=None)
    for event in events:
        assert run("invoke", "-", given=json.dumps(event), **settings).status == 1
    receiver.clear_faults()


def counted(report: dict[str, Any]) -> dict[str, int]:
    assert report["received"] == sum(report["outcomes"].values())
    return {name: count for name, count in report["outcomes"].items() if count}


def test_what_was_spooled_is_delivered_and_the_report_printed(receiver: Emulator, tmp_path: Path) -> None:
    settings = spooling(receiver, tmp_path.as_uri())
    fill(receiver, settings, [point(1), point(2)], [point(3)])
    done = run("replay", **settings)
    assert (done.status, counted(done.printed)) == (0, {"delivered": 3})
    assert sorted(p["value"] for p in receiver.points()) == [1, 2, 3]
    again = run("replay", **settings)
    assert (again.status, again.printed["status"]) == (0, "empty")


def test_a_replay_stops_when_nothing_can_be_delivered_and_says_how_much_remains(
    receiver: Emulator, tmp_path: Path
) -> None:
    settings = spooling(receiver, tmp_path.as_uri())
    fill(receiver, settings, [point(1), point(2)])
    receiver.fault("code", 1002, times=None)
    done = run("replay", **settings)
    assert (done.status, counted(done.printed)) == (1, {"spooled": 2})
    assert "2 records are still in the spool" in done.err
    (file,) = tmp_path.glob("points-*.jsonl")
    file.with_suffix(".ack").write_text("0\n")
    assert "1 record is still in the spool" in run("replay", **settings).err


def test_it_goes_on_while_something_moves(receiver: Emulator, tmp_path: Path) -> None:
    settings = spooling(receiver, tmp_path.as_uri())
    fill(receiver, settings, [point(n, namespace=f"n{n}") for n in range(6)])
    receiver.fault("code", 1003, times=1, match={"namespace": "n5"})
    done = run("replay", **settings, CONCURRENCY="1")
    assert (done.status, counted(done.printed)) == (0, {"delivered": 6})
    assert len(receiver.points()) == 6


def test_dead_letters_are_tried_if_asked_and_counted_once(receiver: Emulator, tmp_path: Path) -> None:
    settings = spooling(receiver, tmp_path.as_uri())
    fill(receiver, settings, [point(1, namespace=""), point("2")])
    mended = {**settings, "NAMESPACE": "pc"}
    assert counted(run("replay", **mended).printed) == {}
    done = run("replay", "--dead-letters", **mended)
    assert (done.status, counted(done.printed)) == (1, {"invalid": 2})
    assert "2 records are still in the spool" in done.err


def test_while_another_replay_runs_it_says_so_and_has_not_succeeded(
    receiver: Emulator, tmp_path: Path
) -> None:
    settings = spooling(receiver, tmp_path.as_uri())
    fill(receiver, settings, [point(1)])
    other = FileSpool(tmp_path, FUNCTION).replay(dead_letters=False)
    next(other)
    done = run("replay", **settings)
    assert (done.status, counted(done.printed)) == (1, {})
    assert "another replay of this spool is running" in done.printed["errors"][0]["message"]


def test_without_a_spool_it_is_a_configuration_error(receiver: Emulator) -> None:
    done = run("replay", **settings_for(receiver))
    assert (done.status, done.out) == (2, "")
    assert "MF_SPOOL is empty" in done.err
    assert "file:///" in done.err


@pytest.mark.parametrize("missing", ["mistyped", "file", "file/below"])
def test_a_missing_folder_is_reported_and_not_made(receiver: Emulator, tmp_path: Path, missing: str) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run("replay", **spooling(receiver, (tmp_path / missing).as_uri()))
    assert (done.status, done.out) == (2, "")
    assert f"no folder {tmp_path / missing}: mount it, or correct the path" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_spool_that_the_function_cannot_read_is_not_a_success(
    receiver: Emulator, redis_server: RedisServer
) -> None:
    rights = ["~mf:*", "-@all", "+eval", "+evalsha", "+xlen", "+ping", "+auth", "+select"]
    redis_server.command("ACL", "SETUSER", "counts", "on", ">s3cret", *rights)
    url = f"redis://counts:s3cret@127.0.0.1:{redis_server.port}"
    done = run("replay", **spooling(receiver, url))
    assert (done.status, done.printed["status"]) == (1, "failed")
    assert "the spool in Redis failed" in done.printed["errors"][0]["message"]


def test_records_of_another_function_are_reported(receiver: Emulator, tmp_path: Path) -> None:
    settings = spooling(receiver, tmp_path.as_uri())
    fill(receiver, settings, [point(1)])
    done = run("replay", "--function", "default/another", **settings)
    assert (done.status, counted(done.printed)) == (1, {})
    assert f"{FUNCTION}, not of default/another" in done.err
    assert counted(run("replay", **settings).printed) == {"delivered": 1}


def test_a_spool_in_redis_is_that_of_one_function(receiver: Emulator, redis_server: RedisServer) -> None:
    settings = spooling(receiver, redis_server.url())
    fill(receiver, settings, [point(1), point(2)])
    done = run("replay", "--function", "default/another", **settings)
    assert (done.status, counted(done.printed)) == (0, {})
    assert "None is of default/another" in done.err
    assert "check --function" in done.err
    assert counted(run("replay", **settings).printed) == {"delivered": 2}


@pytest.mark.parametrize("name", ["metric-forwarder", "/metric-forwarder", "default/", "a/b/c", ""])
def test_a_malformed_function_name_ends_with_status_2(receiver: Emulator, tmp_path: Path, name: str) -> None:
    done = run("replay", "--function", name, **spooling(receiver, tmp_path.as_uri()))
    assert (done.status, done.out) == (2, "")
    assert f"{name!r} is not of the form NAMESPACE/NAME" in done.err


def test_a_spool_that_cannot_be_reached_is_reported(receiver: Emulator) -> None:
    done = run("replay", **spooling(receiver, "redis://127.0.0.1:1/0"))
    assert done.status == 2
    assert "the spool in Redis failed" in done.err


def test_on_a_terminal_a_bar_and_a_table_are_shown(receiver: Emulator, tmp_path: Path) -> None:
    settings = spooling(receiver, tmp_path.as_uri())
    fill(receiver, settings, [point(1), point(2)])
    done = on_terminal(command("replay"), child_environ(**settings), term="xterm", columns=110)
    assert done.status == 0, done.err
    shown = done.out
    assert "Redelivering" in shown
    assert "100%" in shown
    assert "\nok  2 points received by the trigger timer" in ESCAPES.sub("", shown), "it begins a line"
    assert '"event"' not in shown


# --- rounds ---------------------------------------------------------------------------------------------------


def report(status: str, **outcomes: int) -> dict[str, Any]:
    counts = {outcome.value: outcomes.get(outcome.value, 0) for outcome in Outcome}
    errors = [
        {"outcome": name}
        for name, count in counts.items()
        for _ in range(count)
        if name not in ("delivered", "duplicate", "filtered")
    ]
    requests = {"sent": 2, "retried": 1, "returnCodes": {"0": 1, "1002": 1}}
    return {"status": status, "received": sum(counts.values()), "outcomes": counts, "requests": requests, "dedupe": "redis", "durationMs": 5, "errors": errors, "errorsOmitted": 0, "filtered": []}  # fmt: skip


def test_of_two_rounds_each_record_is_counted_where_it_ended() -> None:
    first, second = report("partial", delivered=2, spooled=3, rejected=1), report("ok", delivered=3)
    both = merge(first, second, dead_letters=False)
    assert (both["status"], counted(both)) == ("partial", {"delivered": 5, "rejected": 1})
    assert both["errors"] == [{"outcome": "rejected"}]
    assert both["requests"] == {"sent": 4, "retried": 2, "returnCodes": {"0": 2, "1002": 2}}
    assert both["durationMs"] == 10
    dead = merge(report("partial", delivered=1, invalid=2), report("failed", invalid=2), dead_letters=True)
    assert counted(dead) == {"delivered": 1, "invalid": 2}
    many = {**report("failed", rejected=15), "errorsOmitted": 9, "dedupe": "degraded"}
    told = merge(many, report("failed", rejected=15), dead_letters=False)
    assert (len(told["errors"]), told["errorsOmitted"], told["dedupe"]) == (20, 19, "degraded")
    unread = {**report("failed"), "errors": [{"outcome": "undelivered"}]}
    assert merge(report("failed", spooled=1), unread, dead_letters=False)["status"] == "failed"


def test_the_reasons_for_filtering_of_two_rounds_are_added_up() -> None:
    text = {"source": "a", "pointer": "", "rule": "text", "message": "no number", "count": 2}
    rule = {"source": "b", "pointer": "", "rule": "drop", "message": "rule 1", "count": 1}
    first = {**report("ok", filtered=2), "filtered": [text]}
    second = {**report("ok", filtered=3), "filtered": [{**text, "source": "c", "count": 2}, rule]}
    both = merge(first, second, dead_letters=False)
    assert (both["status"], both["filtered"]) == ("ok", [{**text, "count": 4}, rule])


def test_rounds_end_when_the_spool_is_empty_or_nothing_was_taken_out_twice(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    records = [SpoolRecord({"n": n}, "s", None, None, "undelivered", "") for n in range(3)]
    spool.write(records, records[:1])
    assert (spool.waiting(dead_letters=False), spool.waiting(dead_letters=True)) == (3, 4)

    def rounds() -> Iterator[dict[str, Any]]:
        for receipts in ([0], [], [1], [], [], [2]):
            for chunk in spool.replay(dead_letters=False):
                chunk.acknowledge(receipts)
                chunk.close()
            yield report("partial", delivered=len(receipts), spooled=3 - len(receipts))

    replayed = replay_all(spool, rounds(), 3, dead_letters=False)
    assert (replayed.left, replayed.report["outcomes"]["delivered"]) == (1, 2)
    (tmp_path / "points-torn.jsonl").write_text("torn", encoding="utf-8")
    assert spool.waiting(dead_letters=False) == 2
