"""Lets a program that runs under Valgrind's callgrind choose which part of its work is counted."""

import ctypes
import mmap
import platform
import shutil
from collections.abc import Callable
from typing import TypeVar

# The environment variable that tells a program that its work is counted.
COUNTED = "BENCHMARK_COUNTED"
_Result = TypeVar("_Result")

# How a program calls callgrind: these rotations of a register cancel each other out, and Valgrind recognises them as a call.
# rdi holds the address of the request and is copied to rax; rdx holds the reply.
_CALL = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
_CALLGRIND = ord("C") << 24 | ord("T") << 16
_DUMP, _ZERO, _START = _CALLGRIND, _CALLGRIND + 1, _CALLGRIND + 4


def can_count() -> bool:
    """Return whether this machine can count instructions."""
    return platform.machine() == "x86_64" and shutil.which("valgrind") is not None


def count(work: Callable[[], _Result]) -> _Result:
    """Call ``work`` and let callgrind write a dump that counts this call alone."""
    _request(_START)
    _request(_ZERO)
    result = work()
    _request(_DUMP)
    return result


def _request(request: int) -> None:
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_CALL)
    code = ctypes.c_char.from_buffer(page)
    arguments = (ctypes.c_uint64 * 6)(request)
    ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(ctypes.addressof(code))(ctypes.addressof(arguments))
