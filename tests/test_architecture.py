"""Who may import whom, and what importing may do."""

import ast
import json
import subprocess
import sys
from functools import cache

import pytest

from support.harness import ROOT

PACKAGE = ROOT / "src" / "metric_forwarder"

# From the ground up; a module imports only from its own line or those above it.
LAYERS = (
    {"errors", "secret", "model", "clock", "machine", "times", "uint64", "reporting.log"},
    {
        "put_monitor_data.regions",
        "put_monitor_data.replies",
        "put_monitor_data.return_codes",
        "put_monitor_data.signing",
    },
    {"destinations.table"},
    {"clients.deferred"},
    {"settings", "formats", "reporting.ledger", "clients.http", "clients.background", "clients.reachability"},
    {"clients.redis_commands"},
    {"put_monitor_data.server", "put_monitor_data.claims", "delivery.verdicts"},
    {"credentials", "clients.redis", "clients.secrets_manager"},
    {"triggers.decoding", "triggers.traits"},
    {"bridge.accounts", "bridge.requests"},
    {"triggers", "clients.cos", "jobs", "dedupe.identity", "dedupe.store"},
    {"delivery.batching", "delivery.pacing"},
    {"delivery.destination"},
    {"intake", "destinations", "dedupe", "spool", "scrape"},
    {"delivery"},
    {"reporting", "bridge.replies"},
    {"settlement", "pipeline"},
    {"bootstrap", "doctor"},
    {"cli", "__main__"},
)

HOMES = {
    "certifi": {"clients.http"},
    "urllib3": {"clients.http"},
    "jsonschema": {"intake.explain", "intake.user_schema"},
    "jsonschema_specifications": {"intake.user_schema"},
    "referencing": {"intake.user_schema"},
    "tencentcloud": {"clients.secrets_manager", "cli"},
    "redis": {"clients.redis"},
    "cramjam": {"destinations.remote_write_wire", "formats.snappy", "triggers.zstd"},
    "click": {"cli"},
    "rich": {"cli"},
    "aiohttp": {"cli"},
}


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


# Nothing is parsed while tests are collected: each process that runs some of them collects them all.
@cache
def _nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(MODULES[module].read_text("utf-8"))))


@cache
def _imports(module: str) -> set[str]:
    found = set()
    for node in _nodes(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _layer(module: str) -> int | None:
    parts = module.split(".")
    names = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return next((level for level, layer in enumerate(LAYERS) if names & layer), None)


def _is_command_line(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] == "cli"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_what_stands_before_it(module: str) -> None:
    imported_names = _imports(module)
    own = _layer(module)
    if own is None and not imported_names:
        return  # the docstring of a folder whose modules stand in several layers
    assert own is not None, f"{module} has no layer yet"
    for imported in imported_names:
        if imported.startswith("metric_forwarder."):
            level = _layer(imported.removeprefix("metric_forwarder."))
            assert level is None or level <= own, f"{module} imports {imported}"


@pytest.mark.parametrize("library", HOMES)
def test_a_third_party_library_has_one_home(library: str) -> None:
    users = {
        "cli" if _is_command_line(name) else name
        for name in MODULES
        if any(imported.split(".")[0] == library for imported in _imports(name))
    }
    assert users <= HOMES[library]


# Each reason that a module has to ask the operating system itself: all others are handed a ``Machine``.
ASKS_THE_SYSTEM = {
    "machine": "it is what is handed in",
    "clock": "likewise",
    "clients.http": "real sockets; a world hands in another transport",
    "clients.redis": "real sockets; a world hands in other connections",
    "clients.secrets_manager": "lets one thread at a time import the SDK; a world hands in what reads a secret",
}
SYSTEM = {
    "threading",
    "queue",
    "concurrent",
    "random",
    "secrets",
    "time",
    "asyncio",
    "multiprocessing",
    "sched",
    "uuid",
}


def test_no_module_asks_the_system_for_threads_time_or_chance_by_itself() -> None:
    askers = {
        name
        for name in MODULES
        if not _is_command_line(name)
        and (
            any(imported.split(".")[0] in SYSTEM for imported in _imports(name))
            or any(
                isinstance(node, ast.Attribute) and node.attr in {"urandom", "now", "utcnow"}
                for node in _nodes(name)
            )
        )
    }
    assert askers == set(ASKS_THE_SYSTEM)


# Each module that may name this machine: all others use the one that they are handed.
KNOWS_THE_SYSTEM = {
    "machine": "it is made there",
    "bootstrap": "an instance that is handed no other",
    "intake.making": "an intake that sends nothing",
    "reporting.log": "a log of the command line",
    "spool.files": "a spool that is handed no other",
    "spool.redis": "likewise",
    "triggers.decoding": "a deadline that has passed by any clock",
}
SYSTEMS = {"SystemClock", "Threads", "SystemChance", "system_machine", "standard_output"}


def test_no_other_module_makes_itself_a_machine() -> None:
    makers = {
        name
        for name in MODULES
        if not _is_command_line(name)
        and any(imported.rpartition(".")[2] in SYSTEMS for imported in _imports(name))
    }
    assert makers == set(KNOWS_THE_SYSTEM)


def test_only_the_composition_root_reads_the_environment() -> None:
    readers = {
        name
        for name in MODULES
        if not _is_command_line(name)
        for node in _nodes(name)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and isinstance(node.value, ast.Name) and node.value.id == "os"
    }  # fmt: skip
    assert readers == {"bootstrap"}


WATCH = """
import json, os, socket, sys

class Environment(dict):
    def __getitem__(self, key): seen.append("environ " + key); return super().__getitem__(key)
    def get(self, key, default=None): seen.append("environ " + key); return super().get(key, default)

seen = []
def watch(event, arguments):
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")) and str(arguments[0]).endswith(".json"):
        seen.append("open " + str(arguments[0]))
    elif event.startswith(("socket.", "subprocess.", "os.system")) and event != "socket.__new__":
        seen.append(event)
import urllib3
before = set(sys.modules)
sys.addaudithook(watch)
os.environ = Environment(os.environ)
import index
import logging
json.dump({"seen": seen, "modules": sorted(set(sys.modules) - before), "handlers": len(logging.getLogger().handlers)}, sys.stdout)
"""


def test_importing_the_entry_point_does_no_io_and_reads_no_environment() -> None:
    result = subprocess.run(
        [sys.executable, "-c", WATCH], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    )  # fmt: skip
    told = json.loads(result.stdout)
    assert told["seen"] == []
    assert told["handlers"] == 0
    heavy = (
        "requests",
        "jsonschema",
        "tencentcloud",
        "redis",
        "importlib.metadata",
        "aiohttp",
        "click",
        "rich",
        "pydantic",
        "cramjam",
        "google",
        "metric_forwarder.bridge.",
        "metric_forwarder.clients.cos",
        "metric_forwarder.put_monitor_data.server",
        "metric_forwarder.reporting.protocol_replies",
    )
    assert [name for name in told["modules"] if name.startswith(heavy)] == []


# What only an option opens: the room or the library, and settings that open it.
ROOMS = {
    "metric_forwarder.bridge.requests": {"MF_BRIDGE_ACCOUNTS": "own"},
    "metric_forwarder.spool.files": {"MF_SPOOL": "file:///nonexistent/spool"},
    "metric_forwarder.clients.secrets_manager": {"MF_SECRET_NAME": "key", "MF_SECRET_ID": "", "MF_SECRET_KEY": ""},
    "metric_forwarder.destinations.remote_write": {"MF_DESTINATION": "remote-write", "MF_REMOTE_WRITE_URL": "http://127.0.0.1:1/w"},
    "metric_forwarder.destinations.stdout": {"MF_DESTINATION": "stdout"},
    "metric_forwarder.clients.redis": {"MF_DEDUPE": "redis://127.0.0.1:1", "MF_SPOOL": "redis://127.0.0.1:1"},
    "metric_forwarder.dedupe.shared_pace": {"MF_DEDUPE": "redis://127.0.0.1:1"},
    "metric_forwarder.spool.redis": {"MF_SPOOL": "redis://127.0.0.1:1"},
    "metric_forwarder.reporting.self_metrics_writer": {"MF_SELF_METRICS": "on", "MF_REMOTE_WRITE_URL": "http://127.0.0.1:1/w"},
}  # fmt: skip
# Needed by an event only, or by nothing on the usual road.
NEVER = (
    "importlib.metadata",
    "importlib.resources",
    "zipfile",
    "certifi",
    "jsonschema",
    "referencing",
    "tencentcloud",
    "redis",
    "cramjam",
    "yaml",
    "click",
    "rich",
    "aiohttp",
    "difflib",
    "metric_forwarder.doctor",
    "metric_forwarder.clients.reachability",
    "metric_forwarder.scrape.",
    "metric_forwarder.bridge.",
    "metric_forwarder.spool.",
    "metric_forwarder.clients.cos",
    "metric_forwarder.cli.",
    "metric_forwarder.dedupe.shared_pace",
    "metric_forwarder.reporting.self_metrics",
)
HANDLE = """
import json, sys
import index
point = {"metricName": "up", "namespace": "pc", "dimensions": {}, "value": 1}
for event in (point, {"Type": "Timer", "Message": json.dumps(point), "Time": "", "TriggerName": "t"}):
    try:
        index.main_handler(event, {"time_limit_in_ms": 1500, "request_id": "r"})
    except Exception as error:
        assert type(error).__name__ == "DeliveryIncomplete", error
json.dump(sorted(sys.modules), sys.stderr)
"""


def _loaded(**settings: str) -> set[str]:
    """The modules of a fresh instance after it has handled events; nothing listens where it delivers to."""
    environ = {
        "PYTHONPATH": str(ROOT / "src"),
        "MF_RECEIVER_URL": "http://127.0.0.1:1/v2/index.php",
        "MF_SECRET_ID": "AKIDexample",
        "MF_SECRET_KEY": "example",
        "MF_REGION": "gz",
        "MF_MAX_ATTEMPTS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", HANDLE],
        capture_output=True,
        text=True,
        check=True,
        env={**environ, **settings},
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_without_an_option_none_of_its_rooms_is_open_after_an_event() -> None:
    loaded = _loaded()
    assert [name for name in sorted(loaded) if name.startswith(NEVER)] == []
    assert loaded.isdisjoint(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_an_option_opens_its_own_room_and_no_other(room: str) -> None:
    loaded = _loaded(**ROOMS[room])
    assert room in loaded
    opened_together = {name for name in ROOMS if ROOMS[name].keys() & ROOMS[room].keys()}
    assert loaded & ROOMS.keys() <= opened_together
