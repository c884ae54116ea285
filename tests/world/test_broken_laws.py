"""The world finds what is broken on purpose: a part that breaks a law is handed in, through a port that takes any such part."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import pytest

from metric_forwarder.clients.http import Failure, HttpReply, HttpRequest, Transport
from metric_forwarder.clients.redis import Connect, Connection, Script
from metric_forwarder.dedupe.redis_scripts import CLAIM
from metric_forwarder.put_monitor_data.server import encode_reply
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.spool.file_system import Files
from world import oracles
from world.campaign import run_seed
from world.schedule import Deployment

pytestmark = pytest.mark.slow
SEEDS = 1000


class Believing:
    """A transport that takes each reply of a receiver for a success."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def send(self, request: HttpRequest, timeout_s: float) -> HttpReply | Failure:
        reply = self._inner.send(request, timeout_s)
        is_refusal = isinstance(reply, HttpReply) and b'"code":1' in reply.body
        return HttpReply(200, {}, encode_reply(None)) if is_refusal else reply


class RefusedCountAsDelivered(Deployment):
    def transport(self, network: Transport) -> Transport:
        return Believing(network)


class Forgetful:
    """A connection for which nobody ever holds a lease."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.timeout_s = inner.timeout_s

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        answer = self._inner.run(script, keys, *arguments)
        is_claim = script is CLAIM and isinstance(answer, bytes)
        return answer.replace(b"h", b"o") if is_claim else answer

    def close(self) -> None:
        self._inner.close()


class LeasesAreForgotten(Deployment):
    settings = MappingProxyType({"MF_DEDUPE": "redis://redis.test:6379/0"})

    def connect(self, connect: Connect) -> Connect:
        def forgetful(address: RedisAddress, timeout_s: float, most_bytes: int) -> Connection:
            return Forgetful(connect(address, timeout_s, most_bytes))

        return forgetful


class Careless:
    """A file system which, where a sync fails, drops what was written and says that all is well."""

    def __init__(self, inner: Files) -> None:
        self._inner = inner

    def sync(self, file: BinaryIO) -> None:
        try:
            self._inner.sync(file)
        except OSError:
            file.truncate(0)

    def names(self, folder: Path) -> list[str]:
        return self._inner.names(folder)

    def status(self, path: Path) -> os.stat_result:
        return self._inner.status(path)

    def is_folder(self, path: Path) -> bool:
        return self._inner.is_folder(path)

    def make_folder(self, path: Path) -> None:
        self._inner.make_folder(path)

    def open(self, path: Path, flags: int) -> BinaryIO:
        return self._inner.open(path, flags)

    def sync_folder(self, path: Path) -> None:
        self._inner.sync_folder(path)

    def lock(self, file: BinaryIO) -> None:
        self._inner.lock(file)

    def touch(self, path: Path) -> None:
        self._inner.touch(path)

    def age(self, path: Path) -> None:
        self._inner.age(path)

    def rename(self, path: Path, new: Path) -> None:
        self._inner.rename(path, new)

    def remove(self, path: Path) -> None:
        self._inner.remove(path)


class RecordsAreDroppedWhereASyncFails(Deployment):
    settings = MappingProxyType({"MF_SPOOL": "file:///mnt/spool"})

    def files(self, files: Files) -> Files:
        return Careless(files)


@pytest.mark.parametrize(
    ("deployment", "law"),
    [
        (RefusedCountAsDelivered(), oracles.DELIVERED),
        (LeasesAreForgotten(), oracles.TWICE),
        (RecordsAreDroppedWhereASyncFails(), oracles.ACCOUNTED),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Deployment) else "",
)
def test_a_law_that_is_broken_on_purpose_is_found_within_a_thousand_seeds(
    deployment: Deployment, law: str
) -> None:
    found = (run_seed(seed, deployment).violation for seed in range(SEEDS))
    assert next(violation.law for violation in found if violation is not None) == law
