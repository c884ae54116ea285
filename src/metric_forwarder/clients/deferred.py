"""Keeps the import of ``urllib3`` from importing ``importlib.metadata``, which takes a twentieth of a cold start."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_NAME = "importlib.metadata"


@contextmanager
def deferred_metadata() -> Iterator[None]:
    """Within this block, ``from importlib.metadata import version`` imports a function that imports the module when it is called.

    ``urllib3`` 2 calls it only when HTTP/2 is switched on (``urllib3/http2/__init__.py``), which nothing does here.
    """
    if _NAME in sys.modules:
        yield
        return
    deferred = sys.modules[_NAME] = _Deferred(_NAME)
    try:
        yield
    finally:
        if sys.modules.get(_NAME) is deferred:
            del sys.modules[_NAME]


class _Deferred(ModuleType):
    """In the place of the module; if anything but ``version`` is read from it, the module is imported at once."""

    @staticmethod
    def version(distribution: str) -> str:
        found: str = importlib.import_module(_NAME).version(distribution)
        return found

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return getattr(importlib.import_module(_NAME), name)
