"""Reads files and standard input as text and as JSON; if that fails, the command ends with status 2."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

STDIN = "-"


class Unusable(click.ClickException):
    """An error in usage or configuration; nothing was done."""

    exit_code = 2


def unlistenable(host: str, port: int, error: OSError) -> Unusable:
    """The error message for an address that cannot be listened on; it names another port or address."""
    remedy = (
        "choose another with --port, or --port 0 for a free one"
        if error.errno in (errno.EADDRINUSE, errno.EACCES)
        else "set --host to an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
    )
    # asyncio's own text repeats the address; a name that is not found has no errno of the system.
    code = error.errno or 0
    reason = os.strerror(code) if code in errno.errorcode else error.strerror
    return Unusable(f"{host} port {port} cannot be listened on ({reason}): {remedy}")


def read_bytes(path: str) -> bytes:
    """Read a file, or standard input for ``-``.

    Raises:
        Unusable: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise Unusable(
            f"{_name(path)} cannot be read ({error.strerror}): name another file, or - for standard input"
        ) from None


def read_text(path: str) -> str:
    """Read a file, or standard input for ``-``.

    Raises:
        Unusable: it cannot be read, or is not UTF-8.
    """
    return as_text(read_bytes(path), path)


def as_text(content: bytes, path: str, remedy: str = "save it with that encoding") -> str:
    """Decode what was read from ``path``; ``remedy`` ends the error message.

    Raises:
        Unusable: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable(f"{_name(path)} is not UTF-8 at byte {error.start}: {remedy}") from None


def read_json(path: str) -> Any:
    """Read a file of JSON, or standard input for ``-``.

    Raises:
        Unusable: it cannot be read, or is not JSON.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, path: str, remedy: str = "correct it", *, content: str = "JSON") -> Any:
    """Decode what was read from ``path``; ``content`` is what it must hold, and ``remedy`` ends the error message.

    Raises:
        Unusable: it is not JSON.
    """
    if not text.strip():
        raise Unusable(f"{_name(path)} is empty: it must hold {content}")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno} column {error.colno}"
    except (ValueError, RecursionError):
        reason = "it is nested too deeply, or has too long a number"
    raise Unusable(f"{_name(path)} is not JSON ({reason}): {remedy}")


def _name(path: str) -> str:
    return "standard input" if path == STDIN else path
