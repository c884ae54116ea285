"""The optional packages: one row for each, which bootstrap, ``doctor``, the deployment and the packaging read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from metric_forwarder.errors import ConfigError


class Extra(NamedTuple):
    """An optional package; its name in the table is that of ``pyproject.toml``.

    Attributes:
        package: as it is installed.
        module: as it is imported.
        asked_for: the settings that need it, each with the beginnings of such values; ``""`` is any value.
        needed_by: the modules of this package that nothing imports without it, as patterns of paths.
    """

    package: str
    module: str
    asked_for: Mapping[str, tuple[str, ...]]
    needed_by: tuple[str, ...]

    def is_asked_for(self, texts: Mapping[str, str]) -> bool:
        """Whether these settings (variable → text) need it."""
        return any(
            text and text.lower().startswith(beginnings)
            for name, beginnings in self.asked_for.items()
            if (text := texts.get(name, "").strip())
        )


EXTRAS: Mapping[str, Extra] = {
    "redis": Extra(
        "redis",
        "redis",
        {"MF_DEDUPE": ("redis:", "rediss:"), "MF_SPOOL": ("redis:", "rediss:")},
        (
            "metric_forwarder/*/redis.py",
            "metric_forwarder/clients/redis_commands.py",
            "metric_forwarder/dedupe/redis_*.py",
            "metric_forwarder/dedupe/shared_pace.py",
        ),
    ),
    "remote-write": Extra(
        "cramjam",
        "cramjam",
        {"MF_DESTINATION": ("remote-write",), "MF_SELF_METRICS": ("on",)},
        (
            "metric_forwarder/destinations/remote_write*.py",
            "metric_forwarder/reporting/self_metrics*.py",
            "metric_forwarder/triggers/zstd.py",
        ),
    ),
}


def needed_extras(texts: Mapping[str, str]) -> list[str]:
    """The extras that these settings (variable → text) need."""
    return [name for name, extra in EXTRAS.items() if extra.is_asked_for(texts)]


def missing(name: str, setting: str) -> str:
    """The error message for a setting that needs a package that is not installed."""
    return (
        f"{setting} needs the package {EXTRAS[name].package}, which is not installed: make deploy adds it to the function, "
        f"make package EXTRAS={name} to a package for the console; in a clone: .venv/bin/pip install -e '.[{name}]'"
    )


@contextmanager
def imports_of(name: str, setting: str) -> Iterator[None]:
    """Import a module that needs the extra in this block: if the package is missing, a ``ConfigError`` names the setting."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not name or (error.name or "").partition(".")[0] != EXTRAS[name].module:
            raise
        raise ConfigError([missing(name, setting)]) from None
