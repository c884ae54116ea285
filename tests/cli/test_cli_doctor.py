"""``doctor``: each line is ok, or says what to do; no point is ever sent."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.doctor import CHECKS
from metric_forwarder.errors import ConfigError
from receiver_emulator import EXAMPLE_SECRET_KEY, Emulator, EmulatorOptions
from support.answering_server import AnsweringServer, Reply, remote_write
from support.command_line import child_environ, execute, point, run, settings_for
from support.redis_server import PASSWORD, RedisServer


@pytest.fixture
def receiver() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def _lines(out: str) -> dict[str, tuple[bool, str]]:
    """Name → whether it is ok, and what was said."""
    found = {}
    for line in out.splitlines():
        verdict, name, said = line[:6].strip(), *line[7:].split(maxsplit=1)
        assert verdict in {"ok", "to do"}
        found[name] = (verdict == "ok", said)
    return found


def test_where_all_is_well_every_line_is_ok_and_nothing_is_stored(receiver: Emulator) -> None:
    done = execute("doctor", **settings_for(receiver))
    assert (done.status, done.err) == (0, "")
    lines = _lines(done.out)
    assert set(lines) == {"settings", *(check.name for check in CHECKS)}
    assert all(is_ok for is_ok, _ in lines.values())
    assert "1004" in lines["answer"][1]
    assert receiver.points() == []
    assert {request["method"] for request in receiver.requests()} == {"GET"}


def test_no_secret_is_printed(receiver: Emulator) -> None:
    assert EXAMPLE_SECRET_KEY not in execute("doctor", **settings_for(receiver)).out


def test_settings_that_cannot_be_used_end_with_status_2_and_all_problems() -> None:
    done = run("doctor", REGION="moon", CONCURRENCY="0")
    assert done.status == 2
    assert all(name in done.err for name in ("MF_SECRET_ID", "MF_SECRET_KEY", "MF_REGION", "MF_CONCURRENCY"))


def test_a_schema_that_cannot_be_used_ends_with_status_2(receiver: Emulator) -> None:
    done = run("doctor", **settings_for(receiver), SCHEMA="/nonexistent.json", CONCURRENCY="x")
    assert done.status == 2
    assert "2 settings to correct" in done.err
    assert "MF_SCHEMA" in done.err


UNUSABLE = {
    "rules": {"RELABEL": '[{"action":"nope"}]'},
    "rules that are no JSON": {"RELABEL": "nowhere.json"},
    "a mapping": {"MAPPING": "{}"},
    "all": {"RELABEL": "[1]", "MAPPING": "[]", "SCHEMA": "/nonexistent.json", "CONCURRENCY": "x"},
}


@pytest.mark.parametrize("bad", UNUSABLE.values(), ids=UNUSABLE)
def test_what_every_event_would_refuse_ends_with_status_2_and_the_words_of_the_event(
    receiver: Emulator, bad: dict[str, str]
) -> None:
    settings = {**settings_for(receiver), **bad}
    done = run("doctor", **settings)
    with pytest.raises(ConfigError) as refused:
        Application({f"MF_{name}": value for name, value in settings.items()}).handle({"doctor": True}, {})
    assert (done.status, done.out) == (2, "")
    assert done.err == f"Error: {refused.value}\n"
    assert all(f"MF_{name}" in done.err for name in bad)


def test_the_platforms_region_does_as_well(receiver: Emulator) -> None:
    settings = {name: value for name, value in settings_for(receiver).items() if name != "REGION"}
    assert run("doctor", **settings).status == 2
    assert run("doctor", **settings, REGION="ap-shanghai").out.count("sh (ap-shanghai)") == 1


def test_an_unknown_name_is_reported_and_the_checks_that_need_it_are_not_run(receiver: Emulator) -> None:
    settings = settings_for(receiver) | {"RECEIVER_URL": "http://receiver.invalid:8080/v2/index.php"}
    done = run("doctor", **settings)
    lines = _lines(done.out)
    assert done.status == 1
    assert lines["name"][1].startswith("receiver.invalid has no address here: correct MF_RECEIVER_URL")
    assert lines["connection"][1] == "not checked: name must be ok first"
    assert lines["clock"][1] == "not checked: answer must be ok first"


def test_a_closed_port_is_reported(receiver: Emulator) -> None:
    settings = settings_for(receiver)
    receiver.stop()
    lines = _lines(run("doctor", **settings).out)
    assert lines["name"][0]
    assert "Connection refused" in lines["connection"][1]


def test_another_server_behind_the_address_is_reported(receiver: Emulator) -> None:
    receiver.fault("status", 404, times=None)
    done = run("doctor", **settings_for(receiver))
    assert done.status == 1
    assert "HTTP 404, and no return code" in _lines(done.out)["answer"][1]


def test_a_path_that_is_not_the_receivers_is_reported_with_the_right_ones(receiver: Emulator) -> None:
    done = run("doctor", **(settings_for(receiver) | {"RECEIVER_URL": f"{receiver.base_url}/foo"}))
    is_ok, said = _lines(done.out)["answer"]
    assert (done.status, is_ok) == (1, False)
    assert said.startswith("1001 to an empty request: ")
    assert "/v2/index.php or /report.cgi" in said


@pytest.mark.parametrize(
    ("code", "ok", "told"),
    [
        pytest.param(1009, True, "the receiver answers", id="another word for nothing"),
        pytest.param(1008, False, "lift the block", id="a refusal"),
        pytest.param(0, False, "another server answers", id="a success"),
    ],
)
def test_only_a_return_code_for_an_empty_request_is_ok(
    receiver: Emulator, code: int, told: str, *, ok: bool
) -> None:
    receiver.fault("code", code, times=None)
    is_ok, said = _lines(run("doctor", **settings_for(receiver)).out)["answer"]
    assert is_ok is ok
    assert told in said


def test_a_server_that_accepts_connections_and_never_answers_is_reported(receiver: Emulator) -> None:
    receiver.fault("reset", times=None)
    done = run("doctor", **settings_for(receiver))
    assert "no HTTP answer" in _lines(done.out)["answer"][1]


@pytest.mark.parametrize(("offset_s", "side"), [(3600.0, "behind"), (-3600.0, "ahead of")])
def test_a_clock_that_is_wrong_is_reported(offset_s: float, side: str) -> None:
    with Emulator(EmulatorOptions(clock_offset_s=offset_s)) as receiver:
        done = run("doctor", **settings_for(receiver))
    is_ok, said = _lines(done.out)["clock"]
    assert (done.status, is_ok) == (1, False)
    assert f"60 minutes {side} the destination's" in said


def test_the_same_text_as_id_and_key_is_reported_and_not_repeated(receiver: Emulator) -> None:
    done = run("doctor", **(settings_for(receiver) | {"SECRET_ID": "pasted-key", "SECRET_KEY": "pasted-key"}))
    assert not _lines(done.out)["credentials"][0]
    assert "pasted-key" not in done.out


def test_a_redis_that_is_not_there_is_reported_without_its_password(receiver: Emulator) -> None:
    settings = settings_for(receiver) | {
        "DEDUPE": "redis://:s3cret@127.0.0.1:1/0",
        "SPOOL": "redis://:s3cret@127.0.0.1:1/0",
    }
    done = run("doctor", **settings)
    lines = _lines(done.out)
    assert done.status == 1
    assert not lines["dedupe"][0]
    assert not lines["spool"][0]
    assert "no connection to Redis" in lines["dedupe"][1]
    assert "s3cret" not in done.out + done.err


@pytest.mark.slow
def test_a_redis_without_tls_is_told_of_it_if_it_is_asked_for_tls(
    receiver: Emulator, redis_server: RedisServer
) -> None:
    url = redis_server.url().replace("redis://", "rediss://")
    is_ok, said = _lines(run("doctor", **(settings_for(receiver) | {"DEDUPE": url})).out)["dedupe"]
    assert not is_ok
    assert "whether TLS is on there" in said


def test_a_redis_that_is_there_is_ok(receiver: Emulator, redis_server: RedisServer) -> None:
    lines = _lines(run("doctor", **(settings_for(receiver) | {"DEDUPE": redis_server.url()})).out)
    assert lines["dedupe"][0]
    assert PASSWORD not in lines["dedupe"][1]


def spool_user(server: RedisServer, *commands: str) -> str:
    """The URL of a user who may do what deduplication needs, and these."""
    allowed = ["auth", "select", "ping", "time", "eval", "evalsha", "get", "set", "del", *commands]
    server.command(
        "ACL", "SETUSER", "forwarder", "on", ">s3cret", "~mf:*", "-@all", *(f"+{name}" for name in allowed)
    )
    return f"redis://forwarder:s3cret@127.0.0.1:{server.port}/0"


def test_the_error_for_a_redis_user_who_may_not_spool_names_the_rights(
    receiver: Emulator, redis_server: RedisServer
) -> None:
    url = spool_user(redis_server)
    lines = _lines(run("doctor", **settings_for(receiver), DEDUPE=url, SPOOL=url).out)
    assert lines["dedupe"][0]
    assert not lines["spool"][0]
    assert "for a spool XADD" in lines["spool"][1]


def test_a_redis_user_who_may_not_ask_for_the_time_is_named_with_what_it_costs(
    receiver: Emulator, redis_server: RedisServer
) -> None:
    url = spool_user(redis_server)
    redis_server.command("ACL", "SETUSER", "forwarder", "-time")
    lines = [
        line
        for line in run("doctor", **settings_for(receiver), DEDUPE=url).out.splitlines()
        if "dedupe" in line
    ]
    assert any("may not ask for the time" in line and "allow it TIME" in line for line in lines)


def test_a_redis_that_takes_the_spool_is_ok_with_what_waits_and_nothing_is_left_behind(
    receiver: Emulator, redis_server: RedisServer
) -> None:
    url = spool_user(redis_server, "xadd", "xdel", "xlen", "xrange", "xrevrange", "memory|usage")
    settings = settings_for(receiver) | {"SPOOL": url, "MAX_ATTEMPTS": "1"}
    receiver.fault("code", 1002, times=None)
    run("invoke", "-", given=json.dumps([point(1), point(2), point("3")]), **settings)
    receiver.clear_faults()
    before = lasting_keys(redis_server)
    is_ok, said = _lines(run("doctor", **settings).out)["spool"]
    assert is_ok
    assert said.endswith("of default/metric-forwarder 2 points wait, 1 dead letter")
    redis_server.command("ACL", "SETUSER", "forwarder", "-xlen")
    assert not _lines(run("doctor", **settings).out)["spool"][0]
    assert lasting_keys(redis_server) == before


def lasting_keys(server: RedisServer) -> set[bytes]:
    with server.client() as client:
        # -2: it has expired since it was listed.
        return {key for key in client.scan_iter() if client.ttl(key) == -1}


@pytest.mark.parametrize(
    ("path", "ok", "told"),
    [
        pytest.param("there", True, "there can be written; of default/metric-forwarder 1 point waits, 0 dead letters; there are also records of a/b", id="a folder"),
        pytest.param("new/spool", True, "new/spool does not exist yet: it will be made below {}", id="a new one"),
        pytest.param("file/spool", False, "{}/file cannot be written: mount it, or", id="a file on the way"),
        pytest.param("file", False, "file cannot be written: mount it, or", id="a file"),
        pytest.param("x" * 300, False, "cannot be read (File name too long): mount it, or", id="nobody may look"),
        pytest.param("/no-such-mount/x", False, "/no-such-mount/x does not exist", id="nothing is mounted"),
    ],
)  # fmt: skip
def test_a_spools_folder_is_reported_with_whether_it_is_there(
    receiver: Emulator, tmp_path: Path, path: str, told: str, *, ok: bool
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "points-1.jsonl").touch()
    (tmp_path / "there" / "points-1.a%2Fb.jsonl").touch()
    (tmp_path / "file").write_text("in the way")
    done = run("doctor", **settings_for(receiver), SPOOL=(tmp_path / path).as_uri())
    is_ok, said = _lines(done.out)["spool"]
    assert is_ok is ok
    assert told.format(tmp_path) in said
    assert not (tmp_path / "new").exists()


def test_a_key_is_not_called_right_before_the_receiver_has_seen_it(receiver: Emulator) -> None:
    lines = _lines(run("doctor", **(settings_for(receiver) | {"SECRET_KEY": "wrong"})).out)
    assert (
        "whether the receiver accepts them (only those of the main account) shows only"
        in lines["credentials"][1]
    )


def test_an_invalid_key_is_reported(receiver: Emulator) -> None:
    lines = _lines(run("doctor", **(settings_for(receiver) | {"SECRET_ID": "me"})).out)
    assert "AKID" in lines["credentials"][1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("HTTP_TOKEN", "t-1", id="a token that can be guessed"),
        pytest.param("SPOOL", "file://[x", id="a spool that is no URL"),
        pytest.param("SECRET_KEY", "${env:MF_SECRET_KEY}", id="a reference that was not filled in"),
        pytest.param("SECRET_KEY", '"exampleexample"', id="a key in quotes"),
        pytest.param("SECRET_KEY", "one,two", id="two keys"),
        pytest.param("SPOOL", "file:///a%00b", id="a spool that is no folder"),
    ],
)
def test_a_setting_that_could_only_fail_later_ends_with_status_2(
    receiver: Emulator, name: str, text: str
) -> None:
    done = run("doctor", **(settings_for(receiver) | {name: text}))
    assert done.status == 2
    assert f"MF_{name} " in done.err
    assert text not in done.err


def test_a_secret_that_cannot_be_read_is_reported(receiver: Emulator) -> None:
    settings = {
        name: value for name, value in settings_for(receiver).items() if not name.startswith("SECRET")
    }
    lines = _lines(run("doctor", **settings, SECRET_NAME="key").out)
    assert not lines["credentials"][0]
    assert "role" in lines["credentials"][1]


def remote_write_to(url: str) -> dict[str, str]:
    return {"DESTINATION": "remote-write", "REMOTE_WRITE_URL": url}


def test_for_remote_write_its_own_endpoint_is_examined_and_no_key_is_asked_for() -> None:
    with AnsweringServer(remote_write) as endpoint:
        done = run("doctor", **remote_write_to(f"{endpoint.url}/api/v1/write"))
    lines = _lines(done.out)
    assert done.status == 0
    assert all(lines[name][0] for name in ("connection", "answer", "clock"))
    assert not {"credentials", "region"} & set(lines)
    gone = run("doctor", **remote_write_to("http://prometheus.invalid/api/v1/write"))
    assert "correct MF_REMOTE_WRITE_URL" in _lines(gone.out)["name"][1]


REMOTE_WRITE_ANSWERS: dict[str, tuple[int, dict[str, str], str]] = {
    "wrong password": (401, {}, "check MF_REMOTE_WRITE_USER and MF_REMOTE_WRITE_PASSWORD"),
    "no permission": (403, {}, "check MF_REMOTE_WRITE_USER and MF_REMOTE_WRITE_PASSWORD"),
    "not paid": (402, {}, "pay the destination's bill"),
    "wrong path": (404, {}, "check MF_REMOTE_WRITE_URL"),
    "redirection": (302, {"Location": "/"}, "check MF_REMOTE_WRITE_URL"),
    "nothing to store": (400, {}, "HTTP 400 to a request without points: check MF_REMOTE_WRITE_URL"),
    "unwell": (503, {}, "check the destination's health"),
    "success to what no remote write can read": (204, {}, "that remote write cannot read"),
}


@pytest.mark.parametrize(
    ("status", "headers", "said"), REMOTE_WRITE_ANSWERS.values(), ids=REMOTE_WRITE_ANSWERS
)
def test_what_a_remote_write_endpoint_answers_is_reported_with_what_to_do(
    receiver: Emulator, status: int, headers: dict[str, str], said: str
) -> None:
    receiver.fault("status", status, times=None, headers=headers)
    settings = remote_write_to(receiver.url) | {
        "REMOTE_WRITE_USER": "1250",
        "REMOTE_WRITE_PASSWORD": "s3cret",
    }
    done = run("doctor", **settings)
    lines = _lines(done.out)
    assert done.status == 1
    assert not lines["answer"][0]
    assert said in lines["answer"][1]
    assert lines["clock"][1] == "not checked: answer must be ok first"
    assert "s3cret" not in done.out + done.err


def test_a_remote_write_endpoint_that_gives_no_answer_is_reported(receiver: Emulator) -> None:
    receiver.fault("reset", times=None)
    for url in (receiver.url, receiver.url.replace("http://", "https://")):
        done = run("doctor", **remote_write_to(url))
        assert (
            "MF_REMOTE_WRITE_URL may have the wrong port, or the wrong one of http"
            in _lines(done.out)["answer"][1]
        )


ELSEWHERE = {
    "a page for people": Reply(200, b"<!doctype html><title>Sign in</title>", "text/html"),
    "a page that is called plain text": Reply(200, b"  <html>"),
    "an error of another service": Reply(200, b'{"code": 1002, "message": "wrong path"}', "application/json"),
}


@pytest.mark.parametrize("reply", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_success_with_an_error_in_its_text_is_reported(reply: Reply) -> None:
    with AnsweringServer(lambda _path, _body: reply) as server:
        lines = _lines(run("doctor", **remote_write_to(f"{server.url}/api/v1/write")).out)
    assert not lines["answer"][0]
    assert "check MF_REMOTE_WRITE_URL" in lines["answer"][1]


def test_a_clock_far_from_the_remote_write_endpoints_is_reported() -> None:
    with AnsweringServer(remote_write, clock_offset_s=3600.0) as endpoint:
        done = run("doctor", **remote_write_to(f"{endpoint.url}/api/v1/write"))
    is_ok, said = _lines(done.out)["clock"]
    assert (done.status, is_ok) == (1, False)
    assert "60 minutes behind the destination's" in said


WITHOUT_PACKAGES = """
import sys
sys.modules["cramjam"] = None
from metric_forwarder.cli import main
sys.argv = ["metric-forwarder", "doctor"]
main()
"""


def test_packages_that_settings_need_and_are_missing_are_reported_with_their_extras(
    receiver: Emulator,
) -> None:
    environ = child_environ(**remote_write_to(receiver.url), SCRAPE_HOSTS="127.0.0.1")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES], capture_output=True, text=True, check=False, env=environ
    )
    lines = _lines(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert "make package EXTRAS=remote-write to" in lines["answer"][1]
    assert lines["scrape"][0]


def test_hosts_to_scrape_that_can_be_reached_are_ok(receiver: Emulator) -> None:
    address = receiver.base_url.removeprefix("http://")
    hosts = f"{address},localhost"
    is_ok, said = _lines(run("doctor", **settings_for(receiver), SCRAPE_HOSTS=hosts).out)["scrape"]
    assert is_ok
    assert said.startswith(f"open to {address}, localhost")
    # A connection is all that a target sees of it.
    assert {request["path"] for request in receiver.requests()} == {"/v2/index.php"}


def test_each_host_to_scrape_that_cannot_be_reached_is_reported(receiver: Emulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"127.0.0.1:{listener.getsockname()[1]}"
    hosts = f"node.invalid,{closed},127.0.0.1"
    done = run("doctor", **settings_for(receiver), SCRAPE_HOSTS=hosts)
    is_ok, said = _lines(done.out)["scrape"]
    assert (done.status, is_ok) == (1, False)
    assert said.startswith(
        f"node.invalid has no address here, {closed} accepts no connection (Connection refused): correct MF_SCRAPE_HOSTS"
    )


@pytest.mark.slow
def test_many_hosts_to_scrape_that_keep_silent_are_looked_at_side_by_side(receiver: Emulator) -> None:
    with ExitStack() as open_sockets:
        hosts = [open_sockets.enter_context(silent_host()) for _ in range(8)]
        done = run("doctor", **settings_for(receiver), SCRAPE_HOSTS=",".join(hosts))
    said = _lines(done.out)["scrape"][1]
    # One after the other they would take 24 s, and all together are given 10.
    assert all(f"{host} accepts no connection (no answer in time)" in said for host in hosts)


@contextmanager
def silent_host() -> Iterator[str]:
    """A port whose queue of connections is full: it answers nothing to another one."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address):
            yield f"127.0.0.1:{address[1]}"
