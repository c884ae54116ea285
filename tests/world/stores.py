"""What instances share: one Redis, and the Secrets Manager, each reached over a network that fails."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from metric_forwarder.clients.redis import Connection, RedisUnavailable, Script, explain
from metric_forwarder.clients.secrets_manager import SecretReference
from metric_forwarder.credentials import Credentials
from metric_forwarder.dedupe.identity import DIGEST_BYTES
from metric_forwarder.dedupe.redis import CLAIM, RELEASE, REMEMBER
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.secret import Secret
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.spool.file_system import Files
from metric_forwarder.spool.files import FileSpool
from world.book import Book
from world.disk import Disk
from world.faults import Faults
from world.redis_model import RedisModel
from world.scheduler import START, Killed, Process, World

FOLDER = Path("/mnt/spool")
FUNCTION = "default/forwarder"
_FILE_S = 0.0002
_LATENCIES_S = (0.0005, 0.01, 0.04)
_STUCK_S = 300.0
_OUTAGES_S = (2.0, 0.2, 30.0, 100.0)
_OF_DEDUPE = (CLAIM, REMEMBER, RELEASE)
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

    def befall(self, process: Process) -> None:
        """Let a fault of the server, or of one instance's way to it, begin with a call."""
        world, faults = self._world, self._faults
        if faults.strikes("redis down"):
            self.down_until = world.now + world.pick(_OUTAGES_S)
        if faults.strikes("cut off from redis"):
            self._cut_off_until[process.name] = world.now + world.pick(_OUTAGES_S)
            world.met("an instance was cut off from Redis alone")
        if faults.strikes("redis read-only"):
            self.model.read_only = True
            world.after(world.pick(_OUTAGES_S), lambda: setattr(self.model, "read_only", False))
        if faults.strikes("redis full"):
            self.model.full = True
            world.after(world.pick(_OUTAGES_S), lambda: setattr(self.model, "full", False))

    def lose(self) -> None:
        """Perhaps fail over, restart empty or evict after a call: what was written may be gone."""
        world = self._world
        if not self._faults.strikes("redis loses"):
            return
        self._book.store_losses.append(world.now)
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
        """Write down that the windows of these keys begin again, if they are remembered."""
        if script in (CLAIM, REMEMBER):
            for key in keys:
                self._book.renewals[key[-DIGEST_BYTES:]].append(self._world.now)

    def is_reachable(self, process: Process) -> bool:
        if self._faults.healed:
            return True
        return self._world.now >= max(self.down_until, self._cut_off_until.get(process.name, 0.0))

    def records(self, kind: str) -> list[bytes]:
        """The lines of the spool's stream of this kind: ``points`` or ``dead``."""
        keys = [key for key in self.model.keys() if key.endswith(kind.encode())]  # noqa: SIM118 - no dict
        return [fields[1] for key in keys for _, fields in self.model.xrange(key, b"-", b"+")]

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
        if is_reset and world.choose(2) == 0:
            raise explain(redis.ConnectionError())
        answer = server.model.run(script, keys, *arguments)
        server.note_renewal(script, keys)
        world.note(f"{self._process.name} asks Redis: {answer!r:.60}")
        server.lose()
        world.sleep(world.pick(_LATENCIES_S))
        if is_reset:
            world.met("Redis acted and its answer was lost")
            raise explain(redis.ConnectionError())
        if script in _OF_DEDUPE and faults.strikes("redis garbage"):
            return world.pick(_GARBAGE)
        return answer

    def _hang(self) -> None:
        """Do not answer within the timeout, or, as with a name server, for much longer."""
        world = self._world
        task = world.current
        assert task is not None
        is_stuck = world.choose(3) == 2
        task.is_stuck = is_stuck
        world.met("Redis hung for longer than its timeout" if is_stuck else "Redis did not answer in time")
        world.sleep(_STUCK_S if is_stuck else self.timeout_s)
        task.is_stuck = False
        raise explain(redis.TimeoutError())

    def close(self) -> None:
        """Nothing is kept open."""


class SharedDisk:
    """A file system that all instances have mounted, and what befalls it."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self.disk = Disk(lambda: START + world.now, world.choose)
        self._room = self.disk.free

    def mount(self, process: Process) -> Files:
        """The files as an instance sees them."""
        mount = self.disk.mount(lambda name: self._step(process, name))
        process.at_death.append(mount.kill)
        return mount

    def _step(self, process: Process, name: str) -> None:
        world, faults = self._world, self._faults
        if process.dead:
            raise Killed
        world.sleep(_FILE_S)
        if name in ("read", "status", "names"):
            return
        if faults.strikes("disk full"):
            world.met("the disk of the spool was full")
            self.disk.free = world.pick((0, 100))
            world.after(world.pick(_OUTAGES_S), self.heal)
        if faults.strikes("disk hangs"):
            world.met("the disk of the spool hung")
            task = world.current
            assert task is not None
            task.is_stuck = True
            world.sleep(world.pick((2.0, _STUCK_S)))
            task.is_stuck = False
        if name.startswith("sync") and faults.strikes("sync fails"):
            world.met("a sync failed")
            raise OSError(errno.EIO, "input/output error")
        if faults.strikes("disk fails"):
            raise OSError(errno.EIO, "input/output error")

    def heal(self) -> None:
        self.disk.free = self._room

    def crash(self) -> None:
        """Let the machine of the disk crash; whoever had mounted it is gone."""
        self._world.met("the disk of the spool crashed")
        self.disk.crash()

    def spool(self) -> FileSpool:
        """The spool as a person finds it at the end."""
        return FileSpool(FOLDER, FUNCTION, files=self.disk.mount())


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
            task = world.current
            assert task is not None
            task.is_stuck = True
            world.sleep(10 * timeout_s)
            task.is_stuck = False
        return self.credentials


__all__ = ["FOLDER", "FUNCTION", "RedisLink", "RedisServer", "RedisUnavailable", "Shared", "SharedDisk"]
