"""A changed setting changes what it is about, and nothing else is forgotten."""

import pytest

from metric_forwarder.bootstrap import Application, Outside
from metric_forwarder.clients.http import HttpReply
from metric_forwarder.clients.redis import Connection, RedisUnavailable
from metric_forwarder.clients.secrets_manager import SecretReference
from metric_forwarder.credentials import Credentials
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.secret import Secret
from metric_forwarder.settings.kept import Kept
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.settings.settings import Settings
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY
from support.fakes import FakeClock, InProcessPrometheus, InProcessReceiver, machine_of
from support.harness import ckafka, environ, outcomes, point, remote_write_environ, report_of

EVENT = ckafka(point())


@pytest.mark.parametrize(
    "changed",
    [
        {"LOG_LEVEL": "WARN"},
        {"SECRET_KEY": "another"},
        {"MAX_ATTEMPTS": "2"},
        {"CONCURRENCY": "1"},
        {"BATCH_MAX_POINTS": "7"},
        {"HTTP_AUTH": "cam"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_was_delivered_is_still_known_after_a_setting_that_has_nothing_to_do_with_it(
    changed: dict[str, str],
) -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    settings = environ()
    application = Application(settings, clock, lambda: receiver)
    assert outcomes(report_of(application, EVENT)) == {"delivered": 1}
    settings.update(environ(**changed))
    assert outcomes(report_of(application, EVENT)) == {"duplicate": 1}


def test_a_redis_that_failed_is_left_alone_also_after_another_log_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    asked: list[float] = []

    def refuse(address: RedisAddress, timeout_s: float, max_reply_bytes: int) -> Connection:
        del address, timeout_s, max_reply_bytes
        asked.append(clock.monotonic())
        raise RedisUnavailable("no connection")

    settings = environ(DEDUPE="redis://redis.test")
    application = Application(
        settings, transport=lambda: receiver, machine=machine_of(clock), outside=Outside(redis=refuse)
    )
    levels = ("INFO", "DEBUG", "ERROR")
    for level in levels:
        settings["MF_LOG_LEVEL"] = level
        assert report_of(application, EVENT)["dedupe"] == "degraded"
    assert len(asked) == 1
    clock.sleep(60)
    capsys.readouterr()
    report_of(application, EVENT)
    assert (len(asked), capsys.readouterr().out) == (2, "")


def test_a_key_of_secrets_manager_is_not_read_again_after_another_number_of_requests_at_once() -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    read: list[str] = []

    def read_secret(reference: SecretReference, role: list[str], timeout_s: float) -> Credentials:
        assert (role, timeout_s > 0) == (["role", "a key", ""], True)
        read.append(reference.name)
        return Credentials(EXAMPLE_SECRET_ID, Secret(EXAMPLE_SECRET_KEY))

    role = {"TENCENTCLOUD_SECRETID": "role", "TENCENTCLOUD_SECRETKEY": "a key"}
    settings = role | environ(SECRET_ID="", SECRET_KEY="", SECRET_NAME="one", SECRET_VERSION="v1")
    application = Application(
        settings,
        transport=lambda: receiver,
        machine=machine_of(clock),
        outside=Outside(read_secret=read_secret),
    )
    changes: tuple[dict[str, str], ...] = (
        {},
        {"MF_CONCURRENCY": "1"},
        {"MF_CONCURRENCY": "2"},
        {"MF_SECRET_NAME": "other"},
    )
    for number, changed in enumerate(changes):
        settings.update(changed)
        report = report_of(application, ckafka(point(number), first_offset=number))
        assert outcomes(report) == {"delivered": 1}
    assert read == ["one", "other"]


@pytest.mark.parametrize("changed", ["MAX_ATTEMPTS", "CONCURRENCY", "REQUEST_TIMEOUT_S", "BATCH_MAX_POINTS"])
def test_a_destination_that_refused_everything_is_left_alone_whatever_else_changes(changed: str) -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    settings = environ()
    application = Application(settings, clock, lambda: receiver)
    receiver.refuse_if = lambda _: ReturnCode.CLIENT_BLOCKED
    assert report_of(application, EVENT)["requests"]["sent"] == 1
    settings[f"MF_{changed}"] = "2"
    assert report_of(application, EVENT)["requests"]["sent"] == 0
    settings["MF_SECRET_KEY"] = "corrected"
    assert report_of(application, EVENT)["requests"]["sent"] == 1


def test_a_pause_that_was_asked_for_is_kept_also_with_another_password() -> None:
    clock = FakeClock()
    prometheus = InProcessPrometheus(clock)
    settings = remote_write_environ(REMOTE_WRITE_USER="u", REMOTE_WRITE_PASSWORD="old")
    application = Application(settings, clock, lambda: prometheus)
    assert outcomes(report_of(application, point(1))) == {"delivered": 1}
    prometheus.script.append(HttpReply(503, {"Retry-After": "600"}, b""))
    assert outcomes(report_of(application, point(2))) == {"undelivered": 1}
    asked = len(prometheus.proofs)
    settings["MF_REMOTE_WRITE_PASSWORD"] = "new"
    report = report_of(application, point(3))
    assert report["errors"][0]["rule"] == "retry-after"
    assert len(prometheus.proofs) == asked
    clock.sleep(60)
    assert outcomes(report_of(application, point(4))) == {"delivered": 1}


def test_another_window_or_region_starts_with_an_empty_memory() -> None:
    for changed in ({"DEDUPE_WINDOW_S": "700"}, {"REGION": "sh"}):
        clock = FakeClock()
        receiver = InProcessReceiver(clock)
        settings = environ()
        application = Application(settings, clock, lambda one=receiver: one)  # type: ignore[misc]
        report_of(application, EVENT)
        settings.update(environ(**changed))
        assert outcomes(report_of(application, EVENT)) == {"delivered": 1}


def test_settings_that_were_wrong_meanwhile_make_nothing_forgotten() -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    settings = environ()
    application = Application(settings, clock, lambda: receiver)
    report_of(application, EVENT)
    settings["MF_CONCURRENCY"] = "many"
    with pytest.raises(Exception, match="MF_CONCURRENCY"):
        report_of(application, EVENT)
    settings["MF_CONCURRENCY"] = "4"
    assert outcomes(report_of(application, EVENT)) == {"duplicate": 1}


def test_an_object_is_made_again_when_a_setting_that_it_read_or_a_part_has_changed() -> None:
    kept, made = Kept(), []

    def maker(settings: Settings) -> int:
        made.append(settings.concurrency)
        return len(made)

    def number(part: object, **settings: str) -> int:
        return kept.make("thing", maker, Settings.read(environ(**settings)), part)

    assert [number("a"), number("a", LOG_LEVEL="WARN"), number("a", CONCURRENCY="2")] == [1, 1, 2]
    assert [number("b", CONCURRENCY="2"), number("b", CONCURRENCY="2")] == [3, 3]


def test_a_setting_that_was_read_only_later_counts_as_well() -> None:
    kept = Kept()

    def number(**settings: str) -> object:
        return kept.make("thing", lambda read: lambda: read.concurrency, Settings.read(environ(**settings)))

    later = number()
    assert callable(later)
    assert number(CONCURRENCY="2") is later
    later()
    assert number(CONCURRENCY="2") is not later
