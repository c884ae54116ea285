"""Keeps what was made from settings until one of the settings that it read has changed.

A warm instance has learned things: what it delivered, how fast a destination takes points. Another log level is no reason
to forget them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from metric_forwarder.settings.settings import Settings

_T = TypeVar("_T")


class _Recorder:
    """Settings that remember which of them were read, and what they held; read later, they are remembered, too."""

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
    """Makes objects, and makes one again only when something that it was made from has changed."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def make(self, name: str, maker: Callable[[Settings], _T], settings: Settings, *parts: object) -> _T:
        """Return what was made under this name, or what ``maker`` makes now.

        Args:
            name: tells it from the others.
            maker: makes it of the settings that it is handed.
            settings: those in force.
            parts: what else it is made from; compared as a whole.
        """
        entry = self._entries.get(name)
        if entry is None or not entry.is_made_from(settings, parts):
            recorder = _Recorder(settings)
            entry = _Entry(recorder, parts, maker(cast("Settings", recorder)))
            self._entries[name] = entry
        return cast("_T", entry.made)
