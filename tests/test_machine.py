"""What an instance asks of its machine and of what lies outside can be handed in; real threads keep what is promised."""

import io
import json
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application, Outside
from metric_forwarder.clients.background import SerialWorker
from metric_forwarder.clients.http import HttpTransport
from metric_forwarder.clients.reachability import unreachable
from metric_forwarder.clients.redis import Script
from metric_forwarder.clients.secrets_manager import SecretReference
from metric_forwarder.clock import Deadline, SystemClock
from metric_forwarder.credentials import Credentials, FixedCredentials
from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.destinations.parts import Parts
from metric_forwarder.destinations.server_clock import make_server_clocks
from metric_forwarder.doctor import DoctorContext, examine
from metric_forwarder.machine import Empty, Machine, SystemChance, Threads
from metric_forwarder.secret import Secret
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.settings.settings import Settings
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY
from support.fakes import FakeClock, InProcessReceiver, machine_of
from support.harness import ckafka, environ, outcomes, point, report_of

PATIENCE_S = 30


# --- futures and workers ----------------------------------------------------------------------------------------


def test_a_result_is_handed_over_and_an_error_is_raised_where_the_result_is_asked_for() -> None:
    worker = SerialWorker("test", Threads())
    assert worker.submit(lambda: 7).result(PATIENCE_S) == 7
    failed = worker.submit(lambda: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result(PATIENCE_S)
    assert isinstance(failed.error(), ValueError)
    worker.dismiss()


def test_a_result_is_waited_for_no_longer_than_one_chooses() -> None:
    held = threading.Event()
    worker = SerialWorker("test", Threads())
    future = worker.submit(lambda: held.wait(PATIENCE_S))
    with pytest.raises(TimeoutError):
        future.result(0.01)
    assert worker.is_busy
    held.set()
    assert future.result(PATIENCE_S)
    worker.dismiss()


class TracedJob:
    """A job that can be waited for, and says which thread ran it."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.name = self.thread.name
        self.ended.set()


def waits(event: threading.Event) -> None:
    event.wait()


def run_job(threads: Threads, name: str) -> TracedJob:
    job = TracedJob()
    threads.start(name, job)
    assert job.ended.wait(PATIENCE_S)
    return job


def test_a_thread_that_has_ended_its_job_runs_a_later_one_under_its_name() -> None:
    threads = Threads(kept_s=1)
    first = run_job(threads, "first")
    # It may not wait yet when the next job comes.
    later = next(job for job in iter(lambda: run_job(threads, "later"), None) if job.thread is first.thread)
    assert (first.name, later.name) == ("first", "later")


def test_a_job_that_hangs_holds_up_no_other_one() -> None:
    threads, opened = Threads(), threading.Event()
    threads.start("hanging", partial(waits, opened))
    for _ in range(20):
        run_job(threads, "other")
    opened.set()


def test_a_thread_without_a_job_holds_nothing_of_the_last_one_and_ends() -> None:
    threads = Threads(kept_s=0.01)
    job = run_job(threads, "job")
    left, held = job.thread, weakref.ref(job)
    del job
    left.join(PATIENCE_S)
    assert not left.is_alive()
    assert held() is None


@pytest.fixture
def short_turns() -> Iterator[None]:
    """Threads interrupt one another fifty times as often, so that as many orders are met in less time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 50)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.slow
@pytest.mark.usefixtures("short_turns")
def test_no_job_and_no_thread_is_lost_where_a_job_comes_while_a_thread_gives_up_waiting() -> None:
    threads = Threads(kept_s=0)
    jobs = [run_job(threads, "job") for _ in range(1000)]
    for job in jobs:
        job.thread.join(PATIENCE_S)
    assert not any(job.thread.is_alive() for job in jobs)


class CountedThreads(Threads):
    """Starts many jobs from several threads at once, and knows the threads that ran them."""

    def __init__(self, kept_s: float) -> None:
        super().__init__(kept_s)
        self.ran: set[threading.Thread] = set()

    def run_many(self, count: int) -> None:
        ended = [threading.Event() for _ in range(count)]
        for event in ended:
            self.start("job", partial(self._run, event))
        for event in ended:
            assert event.wait(PATIENCE_S)

    def _run(self, ended: threading.Event) -> None:
        self.ran.add(threading.current_thread())
        ended.set()


@pytest.mark.usefixtures("short_turns")
def test_every_thread_ends_though_others_take_the_jobs_in_the_moment_in_which_its_time_is_up() -> None:
    threads = CountedThreads(kept_s=1e-5)
    callers = [threading.Thread(target=threads.run_many, args=(500,)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for thread in threads.ran:
        thread.join(PATIENCE_S)
    assert not [thread for thread in threads.ran if thread.is_alive()]


def test_a_short_wait_for_a_queue_ends_when_its_time_is_up() -> None:
    def wait_often() -> None:
        answers = Threads().queue()
        for _ in range(20_000):
            answers.put(1)
            assert answers.get(timeout=None) == 1
            with pytest.raises(Empty):
                answers.get(timeout=1e-6)

    worker = SerialWorker("test", Threads())
    worker.submit(wait_often).result(6 * PATIENCE_S)
    worker.dismiss()


def test_chance_is_within_its_ceiling_and_no_token_repeats() -> None:
    chance = SystemChance()
    assert all(0 <= chance.below(3) <= 3 for _ in range(100))
    assert len({chance.token(8) for _ in range(100)}) == 100


# --- an instance whose surroundings are handed in -----------------------------------------------------------------


class Ledger:
    """A connection to a Redis in which every identity is free; knows what it was asked."""

    timeout_s = 0.5

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[bytes], tuple[bytes | int, ...]]] = []

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        self.asked.append((keys, arguments))
        return b"o" * len(keys) if "table.concat(claims)" in script.source else None

    def close(self) -> None:
        """There is nothing to drop."""


def test_an_instance_writes_its_log_where_its_machine_says(capsys: pytest.CaptureFixture[str]) -> None:
    streams = [io.StringIO(), io.StringIO()]
    for stream in streams:
        clock = FakeClock()
        receiver = InProcessReceiver(clock)
        machine = Machine(clock, Threads(), SystemChance(), lambda stream=stream: stream)  # type: ignore[misc]  # bound now
        application = Application(environ(), transport=lambda r=receiver: r, machine=machine)  # type: ignore[misc]  # bound now
        report_of(application, ckafka(point(), "no payload"))
    assert all(json.loads(line) for stream in streams for line in stream.getvalue().splitlines())
    assert all("invalid" in stream.getvalue() for stream in streams)
    assert capsys.readouterr().out == ""


def test_points_printed_as_the_destination_go_where_the_machine_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.StringIO()
    machine = Machine(FakeClock(), Threads(), SystemChance(), lambda: stream)
    report_of(Application({"MF_DESTINATION": "stdout"}, machine=machine), point(7))
    assert json.loads(stream.getvalue().splitlines()[0])["value"] == 7
    assert capsys.readouterr().out == ""


def test_identities_are_claimed_over_the_connection_that_is_handed_in() -> None:
    clock, redis = FakeClock(), Ledger()
    receiver = InProcessReceiver(clock)
    made: list[tuple[RedisAddress, float, int]] = []

    def connect(address: RedisAddress, timeout_s: float, max_reply_bytes: int) -> Ledger:
        made.append((address, timeout_s, max_reply_bytes))
        return redis

    application = Application(
        environ(DEDUPE="redis://redis.test"),
        transport=lambda: receiver,
        machine=machine_of(clock),
        outside=Outside(redis=connect),
    )
    assert outcomes(report_of(application, ckafka(point()))) == {"delivered": 1}
    assert [address.host for address, *_ in made] == ["redis.test"]
    assert redis.asked


def test_the_key_is_read_by_what_is_handed_in() -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)

    def read(reference: SecretReference, role: list[str], timeout_s: float) -> Credentials | Verdict:
        assert (reference.name, role[0]) == ("monitor", "role")
        assert timeout_s > 0
        return Credentials(EXAMPLE_SECRET_ID, Secret(EXAMPLE_SECRET_KEY))

    variables = environ(SECRET_ID="", SECRET_KEY="", SECRET_NAME="monitor", SECRET_VERSION="v1")
    variables |= {"TENCENTCLOUD_SECRETID": "role", "TENCENTCLOUD_SECRETKEY": "of the function"}
    application = Application(
        variables,
        transport=lambda: receiver,
        machine=machine_of(clock),
        outside=Outside(read_secret=read),
    )
    assert outcomes(report_of(application, ckafka(point()))) == {"delivered": 1}


# --- a machine with few threads -------------------------------------------------------------------------------


class FewThreads(Threads):
    """Starts so many threads, and no more."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self._left = left

    def start(self, name: str, run: Callable[[], None]) -> None:
        if not self._left:
            raise RuntimeError("can't start new thread")
        self._left -= 1
        super().start(name, run)


@pytest.mark.parametrize(("threads", "reason"), [(0, "no thread could be started"), (1, "refused")])
def test_hosts_are_looked_at_with_as_many_threads_as_there_are(threads: int, reason: str) -> None:
    machine = Machine(SystemClock(), FewThreads(threads), SystemChance())
    found = unreachable(["127.0.0.1:1", "127.0.0.2:1"], machine, PATIENCE_S, PATIENCE_S)
    assert sorted(found) == ["127.0.0.1:1", "127.0.0.2:1"]
    assert all(reason in why for why in found.values())


def test_the_doctor_says_that_no_thread_could_be_started() -> None:
    machine = Machine(SystemClock(), FewThreads(0), SystemChance())
    settings = Settings.read({"MF_DESTINATION": "stdout"})
    nobody = FixedCredentials(Credentials("", Secret("")))
    parts = Parts(nobody, HttpTransport, machine, make_server_clocks())
    context = DoctorContext(settings, parts, "default/f")
    found = examine(context, Deadline(machine.clock, machine.clock.monotonic() + PATIENCE_S))
    assert found["status"] == "failed"
    assert "raise the function's memory" in found["checks"][-1]["detail"]
