"""Keeps objects that were made from settings until a setting that they read has changed.

A warm instance has learned which points it delivered and how fast the destination accepts points. Another log level must
not make it forget this.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from metric_forwarder.settings.settings import Settings

_T = TypeVar("_T")


class _Recorder:
    """Settings that record which of them were read, now or later, and their values."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.held: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        value = self.held[name] = getattr(self.settings, name)
        return value


class _Entry(NamedTuple):
    recorder: _Recorder
    parts: tuple[object, ...]
    made: Any

    def is_made_from(self, settings: Settings, parts: tuple[object, ...]) -> bool:
        return (
            len(parts) == len(self.parts)
            and all(old is new or old == new for old, new in zip(self.parts, parts, strict=True))
            and all(getattr(settings, name) == value for name, value in self.recorder.held.items())
        )


class Kept:
    """Makes objects, and makes one again only if something that it was made from has changed."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def make(self, name: str, maker: Callable[[Settings], _T], settings: Settings, *parts: object) -> _T:
        """Return the object of this name; make it if there is none, or if it is outdated.

        Args:
            name: identifies the object.
            maker: makes the object from the settings that it is given.
            settings: the current ones.
            parts: everything else that it is made from; compared as a whole.
        """
        entry = self._entries.get(name)
        if entry is None or not entry.is_made_from(settings, parts):
            recorder = _Recorder(settings)
            entry = _Entry(recorder, parts, maker(cast("Settings", recorder)))
            self._entries[name] = entry
        return cast("_T", entry.made)
