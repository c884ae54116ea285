"""One schedule: what is deployed, what producers send, what fails and when, all of it drawn from the world's choices."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Transport
from metric_forwarder.machine import Machine
from metric_forwarder.model import Point
from metric_forwarder.reporting.ledger import Ledger
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY
from world import oracles
from world.book import Attempt, Book, Event, Made
from world.cloud import Handler, Instance, Platform, Triggers
from world.faults import Faults
from world.receivers import Network, Receiver
from world.scheduler import START, Violation, World, machine_of
from world.situations import note_attempt

_TOKEN = "a-token-of-twenty-or-more-characters"
# After the faults are healed, everything must have come to rest within this time.
_REST_S = 900.0
_HEALED_AFTER_S = (5.0, 1.0, 30.0, 100.0, 200.0)


class Deployment:
    """What is deployed in a schedule; a test hands in one with a broken part."""

    def application(self, environ: dict[str, str], parts: "Parts") -> Handler:
        """The function in an instance."""
        return Application(
            environ,
            transport=lambda _: parts.transport,
            on_settled=parts.on_settled,
            machine=parts.machine,
        )


@dataclass
class Parts:
    """What an instance is made of in this world."""

    machine: Machine
    transport: Transport
    on_settled: Callable[[Sequence[Point], Ledger], None]


class Schedule:
    """One schedule: everything in it is drawn from the world's choices."""

    def __init__(self, world: World, deployment: Deployment) -> None:
        self.world = world
        self.book = Book()
        self._deployment = deployment
        self.faults = Faults(world)
        self.receiver = Receiver(world, self.book, self.faults, {EXAMPLE_SECRET_ID: EXAMPLE_SECRET_KEY})
        self._numbers = 0
        self._secrets = [EXAMPLE_SECRET_KEY, _TOKEN]
        world.switch_one_in = world.weighted(((0, 5), (30, 2), (8, 2)))
        self._settings = self._draw_settings()
        self.limit_s = world.pick((10.0, 3.0, 30.0, 60.0))
        self.platform = Platform(
            world,
            self.book,
            self.faults,
            make=self._make,
            settings=lambda: dict(self._settings),
            limit_s=self.limit_s,
            watch=self._watch,
        )
        self.platform.freezes = not world.one_in(3)
        self.triggers = Triggers(world, self.platform, self.faults, retries=world.pick((3, 1, 20)))

    # --- what is deployed --------------------------------------------------------------------------------------

    def _draw_settings(self) -> dict[str, str]:
        pick = self.world.pick
        drawn = {
            "RECEIVER_URL": "http://receiver.test:8080/v2/index.php",
            "SECRET_ID": EXAMPLE_SECRET_ID,
            "SECRET_KEY": EXAMPLE_SECRET_KEY,
            "REGION": "gz",
            "NAMESPACE": "pc",
            "DEDUPE": self.world.weighted((("memory:", 6), ("off", 1))),
            "UNCERTAIN": pick(("resend", "hold")),
            "CONCURRENCY": pick(("4", "1", "2")),
            "BATCH_MAX_POINTS": pick(("30", "1", "2", "3")),
            "MAX_ATTEMPTS": pick(("4", "1", "2")),
            "REQUEST_TIMEOUT_S": pick(("3", "0.5")),
            "DEDUPE_WINDOW_S": pick(("600", "90")),
            "HTTP_TOKEN": _TOKEN,
            "RECEIVER_METHOD": self.world.weighted((("POST", 4), ("GET", 1))),
        }
        return {f"MF_{name}": value for name, value in drawn.items()}

    def _make(self, instance: Instance) -> Handler:
        network = Network(self.world, self.faults, self.book, self.receiver, instance.process)

        def on_settled(points: Sequence[Point], ledger: Ledger) -> None:
            task = self.world.current
            assert task is not None
            attempt: Attempt = task.owner
            settled = []
            for point in points:
                outcome = ledger.outcome(point.number)
                if outcome is not None:
                    settled.append((int(point.value), outcome))
            attempt.outcomes.update(settled)
            oracles.check_settled(self.book, attempt, settled)

        parts = Parts(machine_of(self.world, instance.process), network, on_settled)
        return self._deployment.application(instance.settings, parts)

    def write(self, text: str) -> int:
        """Take what an instance writes to its log."""
        task = self.world.current
        process = task.process if task is not None else None
        if process is None or process.dead:
            return len(text)
        self.world.note(f"{process.name} writes {text.rstrip()}")
        oracles.check_secrets(text, self._secrets, "log")
        attempt: Attempt | None = task.owner if task is not None else None
        if attempt is not None:
            attempt.log.append(json.loads(text))
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    # --- what producers send -----------------------------------------------------------------------------------

    def _points(self, most: int, series: str) -> list[Made]:
        return [self._point(series) for _ in range(1 + self.world.choose(most))]

    def _point(self, series: str) -> Made:
        choose = self.world.choose
        self._numbers += 1
        number = self._numbers
        kind = self.world.weighted((("good", 24), ("unknown", 2), ("invalid", 1)))
        which = choose(3)
        metric = f"{'unknown' if kind == 'unknown' else 'm'}_{which}"
        body: dict[str, Any] = {
            "metricName": "not a name" if kind == "invalid" else metric,
            "dimensions": {"ip": series},
            "value": number,
        }
        mark = self.world.weighted((("none", 4), ("id", 2), ("time", 2)))
        if mark == "id":
            body["id"] = f"id-{number}"
        if mark == "time":
            body["timestamp"] = START + self.world.now
        made = Made(number, kind, f"{metric}/{series}", mark == "id", mark == "time", body)
        self.book.points[number] = made
        return made

    def _event(self, source: str, series: str, wrap: Callable[[int, list[list[Made]]], Any]) -> Event:
        messages = [self._points(4, series) for _ in range(self.world.weighted(((1, 3), (2, 2), (3, 1))))]
        number = len(self.book.events) + 1
        event = Event(
            number, source, wrap(number, messages), [made for points in messages for made in points]
        )
        self.book.events.append(event)
        return event

    # --- the run -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let producers send until the faults are healed, then let everything come to rest, and judge it."""
        world = self.world
        for partition in range(world.weighted(((1, 4), (2, 2), (0, 1)))):
            self._start_partition(partition)
        for number in range(world.weighted(((0, 3), (1, 2), (2, 1)))):
            event = self._event("async", f"a{number}", _cmq)
            delay_s = world.pick((0.1, 1.0, 30.0))
            self.triggers.start(f"async {number}", partial(self.triggers.asynchronous, event, delay_s))
        for number in range(world.weighted(((0, 4), (1, 2)))):
            with_key = not world.one_in(3)
            event = self._event("http", f"h{number}", partial(_http, with_key=with_key))
            event.has_coordinates = with_key
            self.triggers.start(f"http {number}", partial(self.triggers.http, event, 0.2, retries=2))
        world.sleep(world.pick(_HEALED_AFTER_S))
        self.heal()
        self._come_to_rest()
        oracles.check_at_rest(self.book)

    def _start_partition(self, partition: int) -> None:
        world = self.world
        wrap = partial(_ckafka, partition)
        events = [self._event("ckafka", f"p{partition}", wrap) for _ in range(1 + world.choose(3))]
        gap_s = world.pick((0.1, 5.0, 70.0))
        self.triggers.start(f"partition {partition}", partial(self.triggers.partition, events, gap_s))

    def _come_to_rest(self) -> None:
        until = self.world.now + _REST_S
        while self.triggers.open:
            self.world.sleep(5.0)
            if self.world.now > until:
                waiting = [event.number for event in self.book.events if event.state == "open"]
                raise Violation(oracles.REST, events=waiting, after_s=_REST_S)

    def heal(self) -> None:
        self.faults.heal()
        self.book.healed_at = self.world.now

    def _watch(self, instance: Instance, attempt: Attempt) -> None:
        del instance
        if attempt.report is not None:
            oracles.check_secrets(json.dumps(attempt.report), self._secrets, "report")
        note_attempt(self.world, attempt)
        oracles.check_attempt(attempt)


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


def _http(number: int, messages: list[list[Made]], *, with_key: bool) -> Any:
    headers = {"content-type": "application/json", "authorization": f"Bearer {_TOKEN}"}
    if with_key:
        headers["idempotency-key"] = f"key-{number}"
    points = [made for each in messages for made in each]
    return {"httpMethod": "POST", "path": "/", "queryString": {}, "headers": headers, "body": _body(points)}


def _body(points: list[Made]) -> str:
    return json.dumps([made.body for made in points] if len(points) != 1 else points[0].body)
