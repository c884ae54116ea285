"""What others leave where a spool is: torn files, files of other functions, folders and keys of other kinds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from redis.exceptions import ResponseError

from metric_forwarder.dedupe.redis import key_prefix
from world.disk import Disk
from world.redis_model import RedisModel

FOLDER = Path("/mnt/spool")
FUNCTION = "default/forwarder"
_OURS = "default%2Fforwarder"
_OTHERS = FOLDER / "points-000000000000002-0123456789ab-0000000.default%2Fother.jsonl"
_OTHERS_CONTENT = b"records of another function\n"
_GARBAGE = (b"", b"not a record\n", b"{}\n", b"\x00\xff\x00", b"[" * 99)


def make_spool_folder(disk: Disk) -> None:
    """Have the folder of the spool, whose name a crash may undo, on a disk that is mounted for good."""
    disk.make_folder(FOLDER.parent)
    disk.sync_folder(FOLDER.parent.parent)
    disk.make_folder(FOLDER)


def litter_folder(choose: Callable[[int], int], disk: Disk) -> str:
    """Leave something in the folder of a spool; return what."""
    make_spool_folder(disk)
    kinds: tuple[tuple[str, Callable[[], Path | None], bytes | None], ...] = (
        ("a file that is not of this spool", _odd_name, _GARBAGE[choose(len(_GARBAGE))]),
        ("a torn file", _odd_name, _torn(disk)),
        ("a folder with a file's name", _odd_name, None),
        ("rows that make no sense", lambda: _free_rows(disk), _GARBAGE[choose(len(_GARBAGE))]),
        ("a folder in place of rows", lambda: _free_rows(disk), None),
        ("a folder in place of the lock", lambda: FOLDER / ".lock", None),
        ("a file of another function", lambda: _OTHERS, _OTHERS_CONTENT),
    )
    what, place, content = kinds[choose(len(kinds))]
    path = place()
    if path is None or str(path) in disk.all_names():
        return ""
    node = disk.add(path, is_folder=content is None)
    # A full disk takes no part of it.
    if content and disk.free >= len(content):
        disk.write(node, 0, content)
        # It has been there for long: no crash tears it.
        disk.sync(node)
    return what


def is_others_file_kept(disk: Disk) -> bool:
    """Whether the file of another function is as it was, if there is one."""
    return disk.contents().get(str(_OTHERS), _OTHERS_CONTENT) in (b"", _OTHERS_CONTENT)


def _odd_name() -> Path:
    return FOLDER / f"points-000000000000001-0123456789ab-0000000.{_OURS}.jsonl"


def _torn(disk: Disk) -> bytes:
    """The first half of a file of the spool, or of a header if there is none."""
    whole = [content for path, content in disk.contents().items() if path.endswith(f"{_OURS}.jsonl")]
    return whole[0][: len(whole[0]) // 2] if whole else b'{"format":"metric-'


def _free_rows(disk: Disk) -> Path | None:
    """The name of the acknowledged rows of a file that has none yet."""
    files = [Path(path) for path in disk.contents() if path.endswith(f"{_OURS}.jsonl")]
    names = disk.all_names()
    return next(
        (path.with_suffix(".ack") for path in files if str(path.with_suffix(".ack")) not in names), None
    )


def spool_key(name: bytes) -> bytes:
    """A key of the spool in Redis."""
    return key_prefix(f"{FUNCTION} spool") + name


def litter_redis(choose: Callable[[int], int], model: RedisModel) -> str:
    """Leave something under the keys of a spool in Redis; return what."""
    held = set(model.keys())
    kinds: Mapping[str, tuple[bytes, Callable[[bytes], object]]] = {
        "an entry that is not a record": (b"points", lambda key: model.xadd(key, b"r", b"not a record")),
        "an entry with other fields": (b"points", lambda key: model.xadd(key, b"x", json.dumps({}).encode())),
        "a text in place of the points": (b"points", lambda key: key in held or model.set(key, b"x")),
        "a text in place of the dead letters": (b"dead", lambda key: key in held or model.set(key, b"x")),
        "a text in place of what is set aside": (b"aside", lambda key: key in held or model.set(key, b"x")),
        "a stream in place of the lease": (b"replay", lambda key: key in held or model.xadd(key, b"x", b"y")),
        "a lease without an end": (b"replay", lambda key: key in held or model.set(key, b"x")),
    }
    what = list(kinds)[choose(len(kinds))]
    name, leave = kinds[what]
    try:
        leave(spool_key(name))
    except ResponseError:
        return "a server that takes nothing"
    return what
