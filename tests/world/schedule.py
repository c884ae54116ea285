"""One schedule: what is deployed, what producers send, what fails and when, all of it drawn from the world's choices."""

import gzip
import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from metric_forwarder.bootstrap import Application, Outside
from metric_forwarder.clients.http import Transport
from metric_forwarder.clients.redis import Connect
from metric_forwarder.clients.secrets_manager import ReadSecret
from metric_forwarder.clock import Deadline
from metric_forwarder.credentials import Credentials
from metric_forwarder.machine import Machine
from metric_forwarder.model import Outcome, Point
from metric_forwarder.put_monitor_data.server import RequestLimits
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.secret import Secret
from metric_forwarder.spool.file_system import Files
from metric_forwarder.triggers.decoding import ObjectName, ObjectSource, StoredObject, Unreadable
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY
from world import oracles
from world.book import Attempt, Book, Event, Made
from world.cloud import Handler, Instance, Platform, Triggers
from world.faults import (
    OF_DISKS,
    OF_RECEIVERS,
    OF_REDIS_SPOOLS,
    OF_SECRETS,
    OF_SPOOLS,
    OF_STORES,
    Faults,
)
from world.focus import draw_focus
from world.litter import is_others_file_kept
from world.manners import check_manners
from world.receivers import Network, Prometheus, Receiver
from world.scheduler import START, Violation, World, machine_of
from world.situations import note_attempt
from world.spool_laws import check_acknowledged, check_spool
from world.stores import FOLDER, RedisServer, Shared, SharedDisk
from world.truths import check_degraded, check_poison, check_truths

_PASSWORD = "a-password-for-remote-write"
_REDIS = "redis://:a-password-for-redis@redis.test:6379/0"
_ROLE = {
    "TENCENTCLOUD_SECRETID": "role",
    "TENCENTCLOUD_SECRETKEY": "a-key-of-the-role",
    "TENCENTCLOUD_SESSIONTOKEN": "t",
}
_NEW_KEY = "a-key-that-replaces-the-other"
_TOKEN = "a-token-of-twenty-or-more-characters"
# After the faults are healed, everything must have come to rest within this time: an instance that was refused often may be slow for
# a quarter of an hour, and without deduplication its event gets no further before. An event at which the destination fails is tried
# for eleven minutes.
_REST_S = 1500.0
_MOST_REPLAYS = 15
# Longer than an instance that stands still can keep others from a replay.
_MOST_REPLAYS_BESIDE_FROZEN = 35
# Faults of Redis besides a connection that breaks and data that is lost.
_OF_AN_ILL_REDIS = tuple(
    kind for kind in OF_STORES + OF_REDIS_SPOOLS if kind not in ("redis resets", "redis loses")
)
_HEALED_AFTER_S = (5.0, 1.0, 30.0, 100.0, 200.0)


class Deployment:
    """What is deployed in a schedule; a test hands in one with a broken part.

    Attributes:
        settings: these are set, whatever the schedule drew.
    """

    settings: Mapping[str, str] = MappingProxyType({})

    def application(self, environ: dict[str, str], parts: "Parts") -> Handler:
        """The function in an instance."""
        return Application(
            environ,
            transport=lambda: parts.transport,
            objects=parts.objects,
            on_settled=parts.on_settled,
            machine=parts.machine,
            outside=Outside(parts.connect, parts.files, parts.read_secret),
        )

    def transport(self, network: Transport) -> Transport:
        """The way from an instance to the destination."""
        return network

    def connect(self, connect: Connect) -> Connect:
        """How an instance connects to Redis."""
        return connect

    def files(self, files: Files) -> Files:
        """The file system of an instance."""
        return files


@dataclass
class Parts:
    """What an instance is made of in this world."""

    machine: Machine
    transport: Transport
    objects: ObjectSource
    connect: Connect
    files: Files
    read_secret: ReadSecret
    on_settled: Callable[[Sequence[Point], Ledger], None]


class Schedule:
    """One schedule: everything in it is drawn from the world's choices."""

    def __init__(self, world: World, deployment: Deployment) -> None:
        self.world = world
        self.book = Book()
        self._deployment = deployment
        self.faults = Faults(world)
        self._focus = focus = draw_focus(world)
        is_remote_write = world.choose(4) == 3
        self.is_remote_write = is_remote_write if focus.is_remote_write is None else focus.is_remote_write
        self.server = self._draw_server()
        self.redis = RedisServer(world, self.book, self.faults)
        self.disk = SharedDisk(world, self.book, self.faults)
        self._credentials = Credentials(EXAMPLE_SECRET_ID, Secret(EXAMPLE_SECRET_KEY))
        self._shared: list[Shared] = []
        self._numbers = 0
        self._marks: dict[str, str] = {}
        self._asked_for: ObjectName | None = None
        self._secrets = [
            EXAMPLE_SECRET_KEY,
            _TOKEN,
            _PASSWORD,
            _NEW_KEY,
            "a-password-for-redis",
            "a-key-of-the-role",
        ]
        world.switch_one_in = focus.switch_one_in or world.weighted(((0, 5), (30, 2), (8, 2)))
        # Some seeds are about a spool: points that cannot be delivered for a while, and what befalls their records.
        spools = (("", 10), (f"file://{FOLDER}", 3), (_REDIS, 2))
        self._spool_in_focus = "" if "SPOOL" in focus.settings else world.weighted(spools)
        self._settings = self._draw_settings()
        self.faults.draw(self._left_out(), self._in_focus())
        self.faults.add(focus.faults)
        self._new_settings: dict[str, str] = {}
        self.limit_s = focus.limit_s or world.pick((10.0, 3.0, 30.0, 60.0))
        self.platform = Platform(
            world,
            self.book,
            self.faults,
            make=self._make,
            settings=self._settings_now,
            limit_s=self.limit_s,
            watch=self._watch,
        )
        self.platform.freezes = self.book.freezes = not world.one_in(3)
        self.platform.shares_instances = self._brings("several events at once", 16)
        self.platform.look_s = 0.03 if self._brings("a slow processor", 0) else 0.0
        self.triggers = Triggers(world, self.platform, self.faults, retries=world.pick((3, 1, 20)))

    def _brings(self, what: str, one_in: int) -> bool:
        """Whether something happens: in its focus always, otherwise once in so many schedules; 0: never."""
        return what in self._focus.brings or self.world.one_in(one_in)

    @property
    def settings(self) -> dict[str, str]:
        """The environment that instances begin with."""
        return dict(self._settings)

    def _draw_server(self) -> Receiver | Prometheus:
        if not self.is_remote_write:
            return Receiver(self.world, self.book, self.faults, {EXAMPLE_SECRET_ID: EXAMPLE_SECRET_KEY})
        prometheus = Prometheus(self.world, self.book, self.faults)
        prometheus.is_partial = self.world.choose(2) == 1
        prometheus.window_ms = self.world.pick((0, 600_000))
        return prometheus

    # --- what is deployed --------------------------------------------------------------------------------------

    def _draw_settings(self) -> dict[str, str]:
        drawn = {**self._fixed_settings(), **self._draw_tunings(), **self._focus.settings}
        named = {f"MF_{name}": value for name, value in drawn.items()}
        return {**_ROLE, **named, **self._deployment.settings}

    def _left_out(self) -> tuple[str, ...]:
        """The kinds of fault that could not strike what is deployed."""
        settings = self._settings
        has_redis = _REDIS in (settings["MF_DEDUPE"], settings["MF_SPOOL"])
        return (
            *self._focus.spares,
            *(() if has_redis else OF_STORES),
            *(() if settings["MF_SPOOL"].startswith("file:") else OF_DISKS),
            *(() if "MF_SECRET_NAME" in settings else OF_SECRETS),
            *(OF_SPOOLS if not settings["MF_SPOOL"] else ()),
            *(OF_REDIS_SPOOLS if settings["MF_SPOOL"] != _REDIS else ()),
            *(OF_RECEIVERS if self.is_remote_write else ()),
        )

    def _in_focus(self) -> tuple[tuple[Sequence[str], Sequence[int]], ...]:
        """Kinds of fault of each of which this seed has one, since together they are rare; and how often they may strike."""
        if not self._spool_in_focus:
            return ()
        of_spool = OF_STORES + 3 * OF_REDIS_SPOOLS if self._spool_in_focus == _REDIS else OF_DISKS
        kind, one_in = self.world.pick((("outage", 1), ("unreachable", 2), ("status before", 2)))
        # A spool has many operations: with few failures among them, most of its work succeeds.
        rates = (8, 3, 40, 150)
        return ((kind,), (one_in,)), (of_spool + OF_SPOOLS, rates), ((*of_spool, "kill", "cold start"), rates)

    def _fixed_settings(self) -> dict[str, str]:
        """What stays the same when settings are changed."""
        weighted = self.world.weighted
        common = {
            "NAMESPACE": "pc",
            "HTTP_TOKEN": _TOKEN,
            "DEDUPE": weighted((("memory:", 5), (_REDIS, 5), ("off", 1))),
            "SPOOL": self._spool_in_focus or weighted((("", 6), (_REDIS, 2), (f"file://{FOLDER}", 3))),
            "DEDUPE_WINDOW_S": self.world.pick(("600", "90")),
        }
        if self.is_remote_write:
            return {
                **common,
                "DESTINATION": "remote-write",
                "REMOTE_WRITE_URL": "http://prometheus.test:9090/api/v1/write",
                "REMOTE_WRITE_PASSWORD": _PASSWORD,
                "REMOTE_WRITE_CHECK": weighted((("on", 3), ("off", 1))),
            }
        key = {"SECRET_ID": EXAMPLE_SECRET_ID, "SECRET_KEY": EXAMPLE_SECRET_KEY}
        return {
            **common,
            **self.world.weighted(((key, 3), ({"SECRET_NAME": "monitor"}, 1))),
            "RECEIVER_URL": "http://receiver.test:8080/v2/index.php",
            "REGION": "gz",
            "RECEIVER_METHOD": weighted((("POST", 4), ("GET", 1))),
        }

    def _draw_tunings(self) -> dict[str, str]:
        pick = self.world.pick
        return {
            "UNCERTAIN": pick(("resend", "hold")),
            "CONCURRENCY": pick(("4", "1", "2")),
            "BATCH_MAX_POINTS": pick(("30", "1", "2", "3")),
            "MAX_ATTEMPTS": pick(("4", "1", "2")),
            "REQUEST_TIMEOUT_S": pick(("3", "0.5")),
            "LOG_LEVEL": pick(("INFO", "DEBUG")),
        }

    def _settings_now(self) -> dict[str, str]:
        """The environment of the next invocation: while settings are changed, that of the old version or of the new one."""
        if self._new_settings and self.world.one_in(2):
            self.world.met("two versions side by side")
            return {**self._settings, **self._new_settings}
        return dict(self._settings)

    def _arrange_faults(self) -> None:
        """Let the faults of the world begin that this seed has."""
        world, faults, server = self.world, self.faults, self.server
        if faults.begins("receiver clock"):
            server.skew_s = world.pick((10_000.0, -10_000.0, 100.0))
        if faults.begins("outage"):
            server.is_down = True
            world.after(world.pick((1e9, 3.0, 40.0)), lambda: setattr(server, "is_down", False))
        self._arrange_faults_of_spool()
        if faults.begins("new settings"):
            tunings = self._draw_tunings()
            world.after(world.pick((0.3, 20.0)), partial(self._begin_new_settings, tunings))
        if isinstance(server, Receiver):
            self._arrange_faults_of(server)
        elif not (faults.of_requests or faults.has("new settings") or faults.has("pause")) and (
            faults.has("impostor") or world.one_in(4)
        ):
            server.impostor = world.pick(("takes anything", "refuses anything", "wrong path"))
            world.met(f"at the URL is what {server.impostor}")
            # An endpoint that answers too late to prove anything is believed in the end.
            self._settings |= {"MF_REMOTE_WRITE_CHECK": "on", "MF_REQUEST_TIMEOUT_S": "3"}

    def _arrange_faults_of_spool(self) -> None:
        world, faults = self.world, self.faults
        is_redis = self._settings["MF_SPOOL"] == _REDIS
        if faults.has("odd entries"):
            for _ in range(1 + world.choose(3)):
                world.after(
                    world.pick((0.0, 3.0, 30.0, 90.0)), self.redis.litter if is_redis else self.disk.litter
                )
        if faults.has("small redis"):
            self.redis.shrink()
        if self._spool_in_focus and not is_redis:
            self.disk.prepare()

    def _arrange_faults_of(self, receiver: Receiver) -> None:
        world, faults = self.world, self.faults
        if faults.begins("quota"):
            receiver.quota = world.pick((1.0, 0.3, 5.0))
        if faults.begins("small requests"):
            receiver.limits = RequestLimits(
                max_bytes=world.pick((None, 420)), max_points=world.pick((2, None, 1))
            )
        if faults.begins("key changed"):
            world.after(world.pick((0.2, 30.0)), partial(self._change_key, receiver))
            world.after(world.pick((0.3, 31.0, 60.0)), self._rotate_secret)

    def _change_key(self, receiver: Receiver) -> None:
        if not self.faults.healed:
            receiver.accounts[EXAMPLE_SECRET_ID] = _NEW_KEY

    def _rotate_secret(self) -> None:
        if isinstance(self.server, Receiver) and self.server.accounts[EXAMPLE_SECRET_ID] != _NEW_KEY:
            return
        self.world.met("the secret was rotated")
        self._credentials = Credentials(EXAMPLE_SECRET_ID, Secret(_NEW_KEY))
        for shared in self._shared:
            shared.credentials = self._credentials

    def _begin_new_settings(self, tunings: dict[str, str]) -> None:
        if not self.faults.healed:
            self._new_settings = {f"MF_{name}": value for name, value in tunings.items()}

    def _heal(self) -> None:
        """Let nothing fail from now on; what people must correct is corrected."""
        if self.faults.strikes("disk crashes") and self.platform.kill_idle():
            self.disk.crash()
        self.faults.heal()
        self.book.healed_at = self.world.now
        self._settings.update(self._new_settings)
        self._new_settings = {}
        self.server.is_down = False
        self.redis.heal()
        if isinstance(self.server, Prometheus) and self.server.impostor:
            self.server.impostor = ""
            # What it refused just now may be asked about when the endpoint is the right one again.
            for request in self.book.requests:
                request.refused = request.refused or "just before the endpoint changed"
        self.disk.heal()
        if isinstance(self.server, Receiver):
            self.server.quota = None
            if self.server.accounts[EXAMPLE_SECRET_ID] != EXAMPLE_SECRET_KEY:
                self.world.met("the key was changed")
                self._rotate_secret()
                if "MF_SECRET_KEY" in self._settings:
                    self._settings["MF_SECRET_KEY"] = _NEW_KEY

    def _make(self, instance: Instance) -> Handler:
        network = Network(self.world, self.faults, self.book, self.server, instance.process)

        def on_settled(points: Sequence[Point], ledger: Ledger) -> None:
            task = self.world.current
            assert task is not None
            attempt: Attempt = task.owner
            settled = []
            for point in points:
                outcome = ledger.outcome(point.number)
                if point.identity is not None:
                    self.book.identities[int(point.value)].add(point.identity)
                if outcome is not None:
                    settled.append((int(point.value), outcome))
            attempt.settle(settled)
            oracles.check_settled(self.book, attempt, settled)

        shared = Shared(self.world, self.faults, self.redis, instance.process)
        shared.credentials = self._credentials
        self._shared.append(shared)
        files = self._deployment.files(self.disk.mount(instance.process))
        parts = Parts(
            machine_of(self.world, instance.process),
            self._deployment.transport(network),
            self,
            self._deployment.connect(shared.connect),
            files,
            shared.read_secret,
            on_settled,
        )
        return self._deployment.application(instance.settings, parts)

    def write(self, text: str) -> int:
        """Take what an instance writes to its log."""
        task = self.world.current
        process = task.process if task is not None else None
        if process is None or process.dead:
            return len(text)
        self.world.note(f"{process.name} writes {text.rstrip()}")
        oracles.check_secrets(text, self._secrets, "log")
        if '"ERROR"' not in text and self.faults.strikes("log fails"):
            raise OSError("the log is closed")
        attempt: Attempt | None = task.owner if task is not None else None
        if attempt is not None:
            attempt.log.append(json.loads(text))
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    # --- what producers send -----------------------------------------------------------------------------------

    def _points(self, most: int, series: str) -> list[Made]:
        return [self._point(series) for _ in range(1 + self.world.choose(most))]

    def _point(self, series: str, kind: str = "") -> Made:
        choose = self.world.choose
        self._numbers += 1
        number = self._numbers
        kind = kind or self.world.weighted((("good", 48), ("unknown", 4), ("invalid", 2), ("ahead", 1)))
        which = choose(3)
        metric = f"{'unknown' if kind == 'unknown' else 'm'}_{which}"
        body: dict[str, Any] = {
            "metricName": "not a name" if kind == "invalid" else metric,
            "dimensions": {"ip": series},
            "value": number,
        }
        mark = self._mark_of(f"{series}/{which}")
        if mark == "id":
            body["id"] = f"id-{number}"
        if mark == "constant":
            body["id"] = "an-id"
        if mark == "time":
            body["timestamp"] = round(START + self.world.now + number / 1000, 3)
        if kind == "ahead":
            # So far ahead of every clock that it must be refused, or it would silence its series.
            body["timestamp"] = START + self.world.now + 7200
            kind, mark = "invalid", "time"
        if kind == "good" and self._may_be_poison() and self.world.one_in(3):
            self.world.met("a point at which the destination always fails")
            self.book.poison.add(number)
        made = Made(number, kind, f"{metric}/{series}", mark in ("id", "constant"), mark == "time", body)
        self.book.points[number] = made
        return made

    def _may_be_poison(self) -> bool:
        """One point of a schedule; a spool would keep it for ever."""
        return self.faults.has("poison") and not self._settings["MF_SPOOL"] and not self.book.poison

    def _mark_of(self, series: str) -> str:
        """What the points of a series bring with them: one producer writes them all."""
        if series not in self._marks:
            self._marks[series] = self.world.weighted((("none", 4), ("id", 2), ("time", 2), ("constant", 1)))
        return self._marks[series]

    def _event(self, source: str, series: str, wrap: Callable[[int, list[list[Made]]], Any]) -> Event:
        messages = [self._points(3, series) for _ in range(self.world.weighted(((1, 5), (2, 2), (3, 1))))]
        return self._event_of(source, messages, wrap)

    def _event_of(
        self, source: str, messages: list[list[Made]], wrap: Callable[[int, list[list[Made]]], Any]
    ) -> Event:
        number = len(self.book.events) + 1
        event = Event(
            number, source, wrap(number, messages), [made for points in messages for made in points]
        )
        event.poisoned_series = self._poisoned_series(event)
        self.book.events.append(event)
        return event

    def _poisoned_series(self, event: Event) -> int:
        return len({made.series for made in event.points if made.number in self.book.poison})

    # --- the run -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let producers send until the faults are healed, then let everything come to rest, and judge it."""
        world = self.world
        self._arrange_faults()
        for partition in range(world.weighted(((1, 6), (2, 1), (0, 2)))):
            self._start_partition(partition)
        more = world.choose(5) if self._spool_in_focus else 0
        for number in range(more + world.weighted(((0, 4), (1, 2), (2, 1)))):
            event = self._event("async", f"a{number}", _cmq)
            delay_s = world.pick((0.1, 1.0, 30.0))
            self.triggers.start(f"async {number}", partial(self.triggers.asynchronous, event, delay_s))
        for number in range(world.weighted(((0, 4), (1, 2)))):
            with_key = not world.one_in(3)
            event = self._event("http", f"h{number}", partial(_http, with_key=with_key))
            event.has_coordinates = with_key
            if world.one_in(3):
                # As collectd does: the password is sent only where a reply asks for it.
                del event.body["headers"]["authorization"]
                event.password = "Basic " + b64encode(f"collectd:{_TOKEN}".encode()).decode()
            self.triggers.start(f"http {number}", partial(self.triggers.http, event, 0.2, retries=2))
        self._start_letters()
        self._start_logs()
        if self._brings("other batches", 10):
            self._start_other_batch()
        if self._settings["MF_SPOOL"]:
            is_often = self._spool_in_focus or "frequent replays" in self._focus.brings
            every_s = world.pick((60.0, 5.0, 0.7)) if is_often else 60.0
            self.triggers.start("replays", partial(self._replay_again_and_again, every_s))
            if self._spool_in_focus and world.choose(2):
                begin_s = world.pick((0.002, 0.0, 0.02, 1.0))
                self.triggers.start("more replays", partial(self._replay_again_and_again, every_s, begin_s))
        if self._brings("a twin", 4):
            self._start_twin()
        if self._brings("a steady stream", 0):
            self._start_stream()
        healed_after_s = world.pick(_HEALED_AFTER_S[2:] if self._spool_in_focus else _HEALED_AFTER_S)
        world.sleep(self._focus.healed_after_s or healed_after_s)
        self._heal()
        self._come_to_rest()
        self._empty_spool()
        oracles.check_at_rest(self.book)
        check_poison(self.book)

    def _start_letters(self) -> None:
        """Now and then a dead letter that a person hands in again, and a message that pretends to be one."""
        world = self.world
        if world.one_in(5):
            event = self._event("letter", "l", _letter)
            self.triggers.start("letter", partial(self.triggers.asynchronous, event, 0.3))
        if world.one_in(12):
            self._numbers += 1
            made = Made(self._numbers, "invalid", "", False, False, {})
            event = Event(len(self.book.events) + 1, "async", _disguised_object(), [made])
            self.book.events.append(event)
            self.triggers.start("disguised", partial(self.triggers.asynchronous, event, 0.4))

    def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
        """Be asked for an object, which no event of the platform names."""
        del deadline
        self._asked_for = name
        raise Unreadable("is not there")

    def _start_stream(self) -> None:
        """Events that come one after the other for ten minutes, whatever becomes of the others."""
        for number in range(30):
            event = self._event("async", f"s{number}", _cmq)
            self.triggers.start(f"stream {number}", partial(self.triggers.asynchronous, event, 20.0 * number))

    def _start_twin(self) -> None:
        """A producer sends points of another event once more, while that one may be under way."""
        world = self.world
        if not self.book.events:
            return
        first = world.pick(self.book.events)
        points = [made for made in first.points if made.kind != "invalid"]
        if not points:
            return
        number = len(self.book.events) + 1
        event = Event(number, "async", _cmq(number, [points]), points)
        self.book.events.append(event)
        self.book.twins.update(made.number for made in points)
        delay_s = world.pick((0.1, 0.5, 65.0))
        self.triggers.start(f"twin {number}", partial(self.triggers.asynchronous, event, delay_s))

    def _start_logs(self) -> None:
        """Readings in a log, each with the time of its line: some lines have the same second."""
        count = 2 if self._brings("logs", 12) else self.world.choose(2)
        for _ in range(count):
            event = self._event("async", "c", partial(_cls, self.world.pick((0, 1))))
            event.is_dated = True
            delay_s = self.world.pick((0.1, 0.4, 3.0))
            self.triggers.start(f"logs {event.number}", partial(self.triggers.asynchronous, event, delay_s))

    def _start_other_batch(self) -> None:
        """CKafka delivers records of an event once more, with new ones behind them, as after a change of its consumers."""
        world = self.world
        events = [event for event in self.book.events if event.source in ("ckafka", "connector")]
        if not events:
            return
        first = world.pick(events)
        number = len(self.book.events) + 1
        partition = first.body["Records"][0]["Ckafka"]["partition"]
        points = self._points(3, f"p{partition}")
        body = {"Records": first.body["Records"] + _ckafka(partition, number, [points])["Records"]}
        event = Event(number, "connector", body, [*first.points, *points])
        event.poisoned_series = self._poisoned_series(event)
        self.book.events.append(event)
        self.book.twins.update(made.number for made in first.points)
        world.met("records came again in another batch")
        gap_s = world.pick((0.1, 0.11, 0.15, 0.5, 5.0))
        self.triggers.start(f"other batch {number}", partial(self.triggers.partition, [event], gap_s))

    def _start_partition(self, partition: int) -> None:
        world = self.world
        wrap = partial(_ckafka, partition)
        events = [
            self._event("ckafka", f"p{partition}", wrap)
            for _ in range(world.weighted(((1, 4), (2, 2), (3, 1))))
        ]
        if self._brings("many messages", 0):
            world.met("an event of many messages")
            count = world.pick((240, 300))
            messages = [[self._point(f"p{partition}", "good") for _ in range(2)] for _ in range(count)]
            events.append(self._event_of("ckafka", messages, wrap))
        # A spool would keep them for ever.
        if self._brings("many that fail", 0) and not self._settings["MF_SPOOL"]:
            world.met("an event with several points at which the destination always fails")
            points = [self._point(f"p{partition}-{each}", "good") for each in range(world.pick((4, 6)))]
            good = world.pick(points)
            self.book.poison.update(made.number for made in points if made is not good)
            events.append(self._event_of("ckafka", [points], wrap))
        if self._brings("many refused", 0):
            kinds = 60 * ("unknown",) + 60 * ("good",)
            messages = [[self._point(f"p{partition}", world.pick(kinds))] for _ in range(len(kinds))]
            events.append(self._event_of("ckafka", messages, wrap))
        gap_s = world.pick((0.1, 5.0, 70.0))
        if world.one_in(5):
            world.met("a connector with batches side by side")
            for event in events:
                event.source = "connector"
                deliver = partial(self.triggers.partition, [event], gap_s)
                self.triggers.start(f"connector {event.number}", deliver)
            return
        self.triggers.start(f"partition {partition}", partial(self.triggers.partition, events, gap_s))

    def _replay_again_and_again(self, every_s: float, begin_s: float = 0.0) -> None:
        self.world.sleep(begin_s)
        for _ in range(_MOST_REPLAYS):
            self.world.sleep(every_s)
            if self.faults.healed:
                return
            self.triggers.timer(self._replay_event())

    def _replay_event(self) -> Event:
        number = len(self.book.events) + 1
        body = {"Type": "Timer", "TriggerName": "replay", "Time": f"{number}", "Message": '{"replay": true}'}
        event = Event(number, "replay", body, [])
        self.book.events.append(event)
        return event

    def _empty_spool(self) -> None:
        """Replay until no point waits any more; then only dead letters are left."""
        if not self._settings["MF_SPOOL"]:
            return
        most = _MOST_REPLAYS
        if self.world.choose(2) and not self.faults.has("clock jump"):
            # An instance that stands still may keep its lock as long as its lease lasts.
            most = _MOST_REPLAYS_BESIDE_FROZEN
        else:
            # The platform gives up instances in the end, and with them whatever a thread of theirs still holds.
            self.platform.kill_idle()
        while not set(waiting := self._waiting()) <= self._without_room(waiting):
            if most == 0:
                raise Violation(oracles.REST, spooled=waiting)
            self.triggers.timer(self._replay_event())
            self.world.sleep(60.0)
            # On a slow processor a replay may have time for one request.
            got_further = self.platform.look_s and len(self._waiting()) < len(waiting)
            most -= not got_further
        # Those for which there was no room stay where they are, and each replay says so.
        self.book.dead_letters.update(self._records("dead"), waiting)
        if not is_others_file_kept(self.disk.disk):
            raise Violation(oracles.ACCOUNTED, file="of another function")

    def _without_room(self, waiting: list[int]) -> set[int]:
        """Points that the destination refuses now, in a Redis that is too full to take them as dead letters."""
        if not self.redis.model.was_full:
            return set()
        refused = (Outcome.REJECTED, Outcome.STALE, Outcome.INVALID)
        last = self.book.attempts[-1]
        report = last.report if last.event.source == "replay" else None
        # What is invalid by now is no ``Point``: only the report of its replay counts it.
        # And where what is refused stays, it may take all the time of each replay.
        if (
            report
            and not report["outcomes"][Outcome.DELIVERED]
            and any(report["outcomes"][each] for each in refused)
        ):
            return set(waiting)
        return {
            number
            for attempt in self.book.attempts
            for number, outcome in attempt.outcomes.items()
            if attempt.event.source == "replay" and outcome in refused
        }

    def _waiting(self) -> list[int]:
        return self._records("points")

    def _records(self, kind: str) -> list[int]:
        """The points whose records are in the spool."""
        is_redis = self._settings["MF_SPOOL"] == _REDIS
        lines = self.redis.records(kind) if is_redis else self.disk.records(kind)
        oracles.check_secrets(b"".join(lines).decode("utf-8", "replace"), self._secrets, "spool")
        return [number for line in lines for number in _numbers_in(line)]

    def _come_to_rest(self) -> None:
        until = self.world.now + _REST_S
        while self.triggers.open:
            self.world.sleep(5.0)
            if self.world.now > until:
                waiting = [event.number for event in self.book.events if event.state == "open"]
                raise Violation(oracles.REST, events=waiting, after_s=_REST_S)

    def _watch(self, instance: Instance, attempt: Attempt) -> None:
        if attempt.event.source == "replay":
            attempt.left_in_spool.update(self._waiting())
        if attempt.report is not None:
            oracles.check_secrets(json.dumps(attempt.report), self._secrets, "report")
        attempt.skew_s = attempt.skew_s or self.server.skew_s
        note_attempt(self.world, attempt)
        oracles.check_attempt(attempt)
        if self._asked_for is not None:
            raise Violation(oracles.SECRETS, where="a signed request for an object that a message names")
        if not self.world.switch_one_in and not any(map(self.faults.has, _OF_AN_ILL_REDIS)):
            check_degraded(self.book, attempt, instance.process)
        check_truths(self.book, attempt, instance.process, self.server.skew_s)
        check_manners(self.book, attempt)
        check_spool(self.book, attempt, instance.process)
        for synced_at, lines in self.disk.records_beside_rows():
            left = [number for line in lines for number in _numbers_in(line)]
            check_acknowledged(self.book, attempt, synced_at, left, 0.7 if self.world.switch_one_in else 0.02)


def _ckafka(partition: int, number: int, messages: list[list[Made]]) -> Any:
    return {
        "Records": [
            {
                "Ckafka": {
                    "topic": "metrics",
                    "partition": partition,
                    "offset": number * 100 + place,
                    "msgKey": "None",
                    "msgBody": _body(points),
                }
            }
            for place, points in enumerate(messages)
        ]
    }


def _cmq(number: int, messages: list[list[Made]]) -> Any:
    return {
        "Records": [
            {
                "CMQ": {
                    "type": "topic",
                    "topicOwner": 1,
                    "topicName": "t",
                    "msgId": f"{number}-{place}",
                    "msgBody": _body(points),
                }
            }
            for place, points in enumerate(messages)
        ]
    }


def _cls(second: int, number: int, messages: list[list[Made]]) -> Any:
    """Logs of CLS of one second, one for each message."""
    records = [
        {"timestamp": f"{round(START + second)}000000", "content": _body(points)} for points in messages
    ]
    text = json.dumps({"topic_id": f"{number}", "topic_name": "logs", "records": records}).encode()
    return {"clslogs": {"data": b64encode(gzip.compress(text, mtime=0)).decode()}}


def _letter(number: int, messages: list[list[Made]]) -> Any:
    """A dead letter of an event of CKafka."""
    return {
        "RequestId": f"{number}",
        "ErrorCode": -1,
        "ErrorMessage": "timed out",
        "Body": {"ClientContext": json.dumps(_ckafka(9, number, messages))},
    }


def _disguised_object() -> Any:
    """A message that looks like the dead letter of an event about an object."""
    bucket = {"name": "b", "appid": "1250000000", "region": "gz", "cosRegion": "ap-guangzhou"}
    cos = {"cosBucket": bucket, "cosObject": {"key": "/1250000000/b/o.json", "size": 9}}
    event = {"Records": [{"cos": cos, "event": {"eventName": "cos:ObjectCreated:Put"}}]}
    letter = {"RequestId": "1", "Body": {"ClientContext": json.dumps(event)}}
    content = {
        "type": "topic",
        "topicOwner": 1,
        "topicName": "t",
        "msgId": "d",
        "msgBody": json.dumps(letter),
    }
    return {"Records": [{"CMQ": content}]}


def _http(number: int, messages: list[list[Made]], *, with_key: bool) -> Any:
    headers = {"content-type": "application/json", "authorization": f"Bearer {_TOKEN}"}
    if with_key:
        headers["idempotency-key"] = f"key-{number}"
    points = [made for each in messages for made in each]
    return {"httpMethod": "POST", "path": "/", "queryString": {}, "headers": headers, "body": _body(points)}


def _numbers_in(line: bytes) -> list[int]:
    """The numbers of the points in a record of the spool; what somebody else left there has none."""
    try:
        return _numbers(json.loads(line)["payload"])
    except (ValueError, LookupError, TypeError):
        return []


def _numbers(payload: Any) -> list[int]:
    """The numbers of the points in a spooled payload: a point, or the text of one or of an envelope."""
    decoded = json.loads(payload) if isinstance(payload, str) else payload
    points = decoded.get("points", [decoded]) if isinstance(decoded, dict) else decoded
    return [point["value"] for point in points or () if isinstance(point, dict)]


def _body(points: list[Made]) -> str:
    return json.dumps([made.body for made in points] if len(points) != 1 else points[0].body)
