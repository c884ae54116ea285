"""What instances share: one Redis, and the Secrets Manager, each reached over a network that fails."""

import errno
import json
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from metric_forwarder.clients.redis import Connection, RedisUnavailable, Script, SetEach, explain
from metric_forwarder.clients.secrets_manager import SecretReference
from metric_forwarder.credentials import Credentials
from metric_forwarder.dedupe.identity import DIGEST_BYTES
from metric_forwarder.dedupe.redis_scripts import CLAIM, CONFIRM, LEASE, RELEASE, REMEMBER
from metric_forwarder.dedupe.shared_pace import PACE
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.secret import Secret
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.spool.file_system import Files
from world.book import Book
from world.disk import Disk
from world.faults import Faults
from world.litter import FOLDER, litter_folder, litter_redis, make_spool_folder, spool_key
from world.redis_model import RedisModel
from world.scheduler import START, Killed, Process, World

_FILES_S = (0.0002, 0.002)
_LATENCIES_S = (0.0005, 0.01, 0.04)
_STUCK_S = 300.0
_OUTAGES_S = (2.0, 0.2, 30.0, 100.0)
_EVER_S = 1e9
_OF_DEDUPE = (LEASE, CLAIM, CONFIRM, REMEMBER, RELEASE, PACE)
_GARBAGE: tuple[Any, ...] = (b"", b"xx", 7, None, [b"x"], b"\xff\xff\xff", b"zzzzzz")


class RedisServer:
    """The Redis of the world, and what befalls it.

    Attributes:
        down_until: until then it takes no connection.
    """

    def __init__(self, world: World, book: Book, faults: Faults) -> None:
        self._world = world
        self._book = book
        self._faults = faults
        self.model = RedisModel(lambda: (START + world.now) * 1000)
        self.down_until = 0.0
        self._cut_off_until: dict[str, float] = {}
        self._most_of_others: int | None = None

    def befall(self, process: Process) -> None:
        """Let a fault of the server, or of one instance's way to it, begin with a call."""
        world, faults = self._world, self._faults
        if faults.strikes("killed at redis"):
            world.met("an instance was killed at a call of Redis")
            world.die_here()
        if faults.strikes("redis down"):
            self.down_until = world.now + self._outage_s()
        if faults.strikes("cut off from redis"):
            self._cut_off_until[process.name] = world.now + self._outage_s()
            world.met("an instance was cut off from Redis alone")
        if faults.strikes("redis read-only"):
            self.model.read_only = True
            world.after(self._outage_s(), lambda: setattr(self.model, "read_only", False))
        if faults.strikes("redis full"):
            self.model.full = True
            world.after(self._outage_s(), lambda: setattr(self.model, "full", False))

    def trouble(self, lasts_s: float = 0.0) -> None:
        """Note that a call fails, or takes so long."""
        self._book.trouble_spool("redis", self._world.now, lasts_s)

    def _outage_s(self) -> float:
        lasts_s: float = self._world.pick(_OUTAGES_S)
        self._book.trouble_spool("redis", self._world.now, lasts_s)
        return lasts_s

    def litter(self) -> None:
        """Let somebody leave something under the keys of the spool."""
        self._world.met(f"in Redis there was {litter_redis(self._world.choose, self.model)}")
        self._book.trouble_spool("odd entries", self._world.now, _EVER_S)

    def shrink(self) -> None:
        """Have room for the reserve of a spool and little more; perhaps another program fills the rest once."""
        world = self._world
        self._book.trouble_spool("no room", world.now, _EVER_S)
        self.model.max_bytes = 2**20 + world.pick((3000, 1000, 10_000))
        # A server that forgets the reserve alone, and is full then, cannot be helped.
        if world.choose(2) and not self._faults.has("redis loses"):
            world.after(world.pick((3.0, 30.0, 70.0)), self._fill)

    def _fill(self) -> None:
        """Let another program take the memory that is free now, and later what others free, but not what a reserve takes."""
        model = self.model
        reserved = model.memory_usage(spool_key(b"reserve"))
        if self._most_of_others is None:
            # A reserve that was given up, because the memory was full before, would be taken by this.
            if model.was_full or model.max_bytes is None:
                return
            self._world.met("another program filled Redis")
            self._most_of_others = model.max_bytes + 1 - reserved
        model.take(self._most_of_others - (model.used() - reserved))
        self._world.after(5.0, self._fill)

    def lose(self) -> None:
        """Perhaps fail over, restart empty or evict after a call: what was written may be gone."""
        world = self._world
        if not self._faults.strikes("redis loses"):
            return
        self._book.store_losses.append(world.now)
        self._book.trouble_spool("redis", world.now, _EVER_S)
        how = world.choose(3)
        if how == 0:
            world.met("Redis lost its last writes")
            self.model.lose(1 + world.choose(4))
        elif how == 1:
            world.met("Redis evicted a key")
            self.model.evict(world.choose)
        else:
            world.met("Redis forgot everything")
            self.model.flush()

    def note_renewal(self, script: Script, keys: Sequence[bytes]) -> None:
        """Write down that the windows of these keys begin again, if they are remembered; other keys say nothing."""
        if script in (CLAIM, CONFIRM, REMEMBER):
            for key in keys:
                self._book.renewals[key[-DIGEST_BYTES:]].append(self._world.now)

    def is_reachable(self, process: Process) -> bool:
        if self._faults.healed:
            return True
        return self._world.now >= max(self.down_until, self._cut_off_until.get(process.name, 0.0))

    def records(self, kind: str) -> list[bytes]:
        """The lines of the spool's stream of this kind: ``points`` or ``dead``."""
        return self.model.texts(kind.encode())

    def heal(self) -> None:
        self.model.read_only = self.model.full = False


class RedisLink:
    """One instance's connection: a ``Connection``."""

    def __init__(
        self, world: World, faults: Faults, server: RedisServer, process: Process, timeout_s: float
    ) -> None:
        self._world = world
        self._faults = faults
        self._server = server
        self._process = process
        self.timeout_s = timeout_s

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        world, faults, server = self._world, self._faults, self._server
        if self._process.dead:
            raise Killed
        world.point()
        server.befall(self._process)
        if not server.is_reachable(self._process):
            world.sleep(0.001)
            world.met("Redis was not there")
            raise explain(redis.ConnectionError())
        if faults.strikes("redis hangs"):
            self._hang()
        world.sleep(world.pick(_LATENCIES_S))
        is_reset = faults.strikes("redis resets")
        if is_reset:
            server.trouble()
            self._note_broken()
        if is_reset and world.choose(2) == 0:
            if isinstance(script, SetEach):
                server.model.run(script, keys[: world.choose(len(keys) + 1)], *arguments)
            raise explain(redis.ConnectionError())
        answer = server.model.run(script, keys, *arguments)
        server.note_renewal(script, keys)
        world.note(f"{self._process.name} asks Redis: {answer!r:.60}")
        server.lose()
        world.sleep(world.pick(_LATENCIES_S))
        if is_reset:
            world.met("Redis acted and its answer was lost")
            raise explain(redis.ConnectionError())
        if script is PACE:
            world.met(f"the shared pace: {answer.split()[0].decode()}")
        if script in _OF_DEDUPE and faults.strikes("redis garbage"):
            return world.pick(_GARBAGE)
        return answer

    def _note_broken(self) -> None:
        task = self._world.current
        if task is not None and task.owner is not None:
            task.owner.broken_connections += 1

    def _hang(self) -> None:
        """Do not answer within the timeout, or, as with a name server, for much longer."""
        world = self._world
        is_stuck = world.choose(3) == 2
        self._server.trouble(_STUCK_S)
        world.met("Redis hung for longer than its timeout" if is_stuck else "Redis did not answer in time")
        if is_stuck:
            world.hang(_STUCK_S)
        else:
            world.sleep(self.timeout_s)
        raise explain(redis.TimeoutError())

    def close(self) -> None:
        """Nothing is kept open."""


class SharedDisk:
    """A file system that all instances have mounted, and what befalls it."""

    def __init__(self, world: World, book: Book, faults: Faults) -> None:
        self._world = world
        self._book = book
        self._faults = faults
        self.disk = Disk(lambda: START + world.now, world.choose)
        self._room = self.disk.free
        self._file_s = _FILES_S[0]
        self._stays_until = 0.0

    def mount(self, process: Process) -> Files:
        """The files as an instance sees them."""
        mount = self.disk.mount(lambda name: self._step(process, name))
        process.at_death.append(mount.kill)
        return mount

    def prepare(self) -> None:
        """Be what a network file system may be: slow, with the folder already there, with locks that have no effect."""
        self._file_s = self._world.pick(_FILES_S)
        if self._world.choose(3) == 2:
            make_spool_folder(self.disk)
        # Some mounts accept locks that keep nobody out.
        self.disk.locks_work = not self._world.one_in(4)
        self._book.has_no_locks = not self.disk.locks_work

    def _step(self, process: Process, name: str) -> None:
        world, faults = self._world, self._faults
        if process.dead:
            raise Killed
        world.sleep(self._file_s)
        if name in ("read", "status", "names"):
            if faults.strikes("reads fail"):
                self._fail("reads")
            return
        if faults.strikes("killed at a file"):
            world.met("an instance was killed at a file operation")
            world.die_here()
        if faults.strikes("disk full"):
            world.met("the disk of the spool was full")
            self.disk.free = world.pick((0, 100, 1))
            lasts_s = world.pick(_OUTAGES_S)
            self._book.trouble_spool("full", world.now, lasts_s)
            world.after(lasts_s, self.heal)
        if faults.strikes("disk hangs"):
            self._hang()
        if name == "remove" and faults.strikes("files stay"):
            world.met("a file of the spool could not be removed")
            lasts_s = world.pick(_OUTAGES_S)
            self._book.trouble_spool("a file stays", world.now, lasts_s)
            self._stays_until = world.now + lasts_s
        if name == "remove" and world.now < self._stays_until:
            raise PermissionError(errno.EACCES, "permission denied")
        if name.startswith("sync") and faults.strikes("sync fails"):
            world.met("a sync failed")
            self._fail("sync")
        if faults.strikes("disk fails"):
            self._fail(name)

    def _fail(self, what: str) -> None:
        self._book.trouble_spool(what, self._world.now)
        raise OSError(errno.EIO, "input/output error")

    def _hang(self) -> None:
        world = self._world
        world.met("the disk of the spool hung")
        lasts_s = world.pick((2.0, _STUCK_S))
        # A thread may be frozen on top of that.
        self._book.trouble_spool("hangs", world.now, _EVER_S)
        world.hang(lasts_s)

    def heal(self) -> None:
        self.disk.free = self._room

    def crash(self) -> None:
        """Let the machine of the disk crash; whoever had mounted it is gone."""
        self._world.met("the disk of the spool crashed")
        self._book.trouble_spool("crash", self._world.now, _EVER_S)
        self.disk.crash()

    def litter(self) -> None:
        """Let somebody leave something in the folder of the spool."""
        what = litter_folder(self._world.choose, self.disk)
        if what:
            self._world.met(f"in the folder of the spool there was {what}")
        if what == "a folder in place of rows":
            # Nobody can write rows there until somebody removes it.
            self._book.trouble_spool(what, self._world.now, _EVER_S)

    def records(self, kind: str) -> list[bytes]:
        """The records in the folder that are not acknowledged, by what its files hold, whatever the spool makes of them."""
        contents = self.disk.contents()
        return [
            line
            for path, content in contents.items()
            if path.startswith(f"{FOLDER}/{kind}-") and path.endswith(".jsonl")
            for line in _open_records(content, contents.get(path.removesuffix("jsonl") + "ack", b""))
        ]

    def records_beside_rows(self) -> Iterator[tuple[float, list[bytes]]]:
        """Of each file whose acknowledged rows are synced: when they were, and the records that they do not name."""
        contents = self.disk.contents()
        for path, rows in contents.items():
            synced_s = self.disk.synced_s(path)
            if path.startswith(f"{FOLDER}/points-") and path.endswith(".ack") and synced_s is not None:
                content = contents.get(path.removesuffix("ack") + "jsonl", b"")
                yield synced_s - START, list(_open_records(content, rows))


def _open_records(content: bytes, rows: bytes) -> Iterator[bytes]:
    lines = content.splitlines()
    try:
        is_whole = json.loads(lines.pop(0))["count"] == len(lines)
    except (ValueError, LookupError, TypeError):
        return
    done = {int(row) for row in rows[: rows.rfind(b"\n") + 1].split(b"\n") if row.isdigit()}
    if is_whole:
        yield from (line for place, line in enumerate(lines) if place not in done)


class Shared:
    """What is handed to an instance as the outside: makes its connections, reads its secret."""

    def __init__(self, world: World, faults: Faults, server: RedisServer, process: Process) -> None:
        self._world = world
        self._faults = faults
        self._server = server
        self._process = process
        self.credentials = Credentials("", Secret(""))

    def connect(self, _address: RedisAddress, timeout_s: float, _most_bytes: int) -> Connection:
        return RedisLink(self._world, self._faults, self._server, self._process, timeout_s)

    def read_secret(
        self, _reference: SecretReference, _role: list[str], timeout_s: float
    ) -> Credentials | Verdict:
        world = self._world
        world.point()
        world.sleep(0.02)
        if self._faults.strikes("secret fails"):
            world.met("the secret could not be read")
            return Verdict(Action.RETRY, "secret", "the secret could not be read: a fault")
        if self._faults.strikes("secret hangs"):
            world.hang(10 * timeout_s)
        return self.credentials


__all__ = ["FOLDER", "RedisLink", "RedisServer", "RedisUnavailable", "Shared", "SharedDisk"]
