"""The package of the function: the same bytes each time, small, without what it does not need, and it runs."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from package import python_310
from package_contents import copy_user_files
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator
from support.harness import CONTEXT, ROOT, ckafka, environ, point
from support.secrets_manager_server import ROLE, SecretsManagerServer

MAX_BYTES = 1_800_000
FORBIDDEN = re.compile(
    r"(^|/)(tests?|benchmarks|bin|cli|receiver_emulator|[^/]*\.dist-info)/|\.pyi$|/__main__\.py$"
)


class Package(NamedTuple):
    """What one run of the build made."""

    folder: Path
    archive: Path


def build(place: Path, *options: str) -> Package:
    package = Package(place / "package", place / "metric-forwarder.zip")
    paths = [f"--folder={package.folder}", f"--zip={package.archive}"]
    subprocess.run(
        [sys.executable, str(ROOT / "tools" / "package.py"), "build", *paths, *options], check=True
    )
    return package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return build(tmp_path_factory.mktemp("package"))


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as packed:
        return packed.namelist()


# Like the function's own, and able to run what is compiled in the package.
PYTHON = python_310() if (platform.system(), platform.machine()) == ("Linux", "x86_64") else None


with_python_310 = pytest.mark.skipif(
    PYTHON is None and not os.environ.get("CI"),
    reason="needs CPython 3.10 on x86-64 Linux, as the function has",
)


def run_bare(folder: Path, code: str, given: object) -> str:
    """Run code with the package alone; what it printed."""
    assert PYTHON
    result = subprocess.run(
        [PYTHON, "-I", "-S", "-B", "-c", code, str(folder)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.slow
def test_built_twice_it_is_the_same_bytes(package: Package, tmp_path: Path) -> None:
    assert build(tmp_path).archive.read_bytes() == package.archive.read_bytes()


@pytest.mark.slow
def test_its_entries_depend_on_names_and_contents_alone(package: Package) -> None:
    with zipfile.ZipFile(package.archive) as packed:
        entries = packed.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


@pytest.mark.slow
def test_it_stays_within_its_budget(package: Package) -> None:
    assert package.archive.stat().st_size <= MAX_BYTES


@pytest.mark.slow
def test_it_holds_the_forwarder_and_the_licences_and_nothing_for_developers(package: Package) -> None:
    held = names(package.archive)
    assert [name for name in held if FORBIDDEN.search(name)] == []
    assert {"index.py", "metric_forwarder/schemas/receiver.json", "THIRD_PARTY_LICENSES.txt"} <= set(held)
    own = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "metric_forwarder").rglob("*.py")
    }
    assert {name for name in own if not FORBIDDEN.search(name)} <= set(held)


@pytest.mark.slow
def test_the_folder_and_the_zip_hold_the_same(package: Package) -> None:
    unpacked = sorted(
        path.relative_to(package.folder).as_posix() for path in package.folder.rglob("*") if path.is_file()
    )
    assert names(package.archive) == unpacked  # fmt: skip


@pytest.mark.slow
def test_what_is_compiled_in_it_is_compiled_for_the_function(package: Package) -> None:
    compiled = [name for name in names(package.archive) if name.endswith(".so")]
    assert compiled
    assert [name for name in compiled if not name.endswith(".cpython-310-x86_64-linux-gnu.so")] == []


INVOKE = """
import json, sys
sys.path[:0] = [sys.argv[1]]
import index
event, context, environ = json.load(sys.stdin)
import os
os.environ.update(environ)
print(json.dumps(index.main_handler(event, context)))
"""


@pytest.mark.slow
@with_python_310
def test_unpacked_it_delivers_with_a_bare_python(
    package: Package, tmp_path: Path, emulator: Emulator
) -> None:
    with zipfile.ZipFile(package.archive) as packed:
        packed.extractall(tmp_path)
    secret = json.dumps({"SecretId": EXAMPLE_SECRET_ID, "SecretKey": EXAMPLE_SECRET_KEY})
    with SecretsManagerServer(secret) as manager:
        key = {"SECRET_ID": "", "SECRET_KEY": "", "SECRET_NAME": "monitor", "SECRET_VERSION": "v1"}
        given = environ(RECEIVER_URL=emulator.url, SECRET_ENDPOINT=manager.endpoint, **key) | ROLE
        # The invalid point takes jsonschema, the key Tencent Cloud's SDK: every dependency is at work.
        printed = run_bare(tmp_path, INVOKE, [ckafka(point(1), point(2), point("3")), CONTEXT, given])
    report = json.loads(printed.splitlines()[-1])
    assert (report["outcomes"]["delivered"], report["outcomes"]["invalid"]) == (2, 1)
    assert [stored["value"] for stored in emulator.points()] == [1, 2]


def test_the_files_of_the_folder_function_are_packed_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("function/schema.json", "function/tests/ca.pem", "function/.schema.json.swp", "other.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}", encoding="utf-8")
    copy_user_files(tmp_path, tmp_path / "package")
    packed = [path for path in (tmp_path / "package").rglob("*") if path.is_file()]
    assert sorted(path.relative_to(tmp_path / "package").as_posix() for path in packed) == [
        "function/schema.json",
        "function/tests/ca.pem",
    ]


def with_files(package: Package, folder: Path, files: Mapping[str, str]) -> Path:
    """Copy the package into ``folder``, with these files in its folder ``function``; returns that folder."""
    shutil.copytree(package.folder, folder, dirs_exist_ok=True)
    (folder / "function").mkdir()
    for name, text in files.items():
        (folder / "function" / name).write_text(text, encoding="utf-8")
    return folder / "function"


@pytest.mark.slow
@with_python_310
def test_a_setting_finds_a_file_of_the_package_wherever_the_function_starts(
    package: Package, tmp_path: Path
) -> None:
    rules = '[{"target_label": "packed", "replacement": "yes"}]'
    with_files(package, tmp_path, {"schema.json": '{"required": ["site"]}', "rules.json": rules})
    files = {"SCHEMA": "function/schema.json", "RELABEL": "function/rules.json"}
    given = environ(DESTINATION="stdout", **files)
    printed = run_bare(tmp_path, INVOKE, [ckafka(point(1), {**point(2), "site": "gz"}), CONTEXT, given])
    report = json.loads(printed.splitlines()[-1])
    assert (report["outcomes"]["delivered"], report["outcomes"]["invalid"]) == (1, 1)
    assert '"packed":"yes"' in printed


CERTIFICATES = """
import json, sys
sys.path[:0] = [sys.argv[1]]
from metric_forwarder.settings.readers import dedupe
print(dedupe(json.load(sys.stdin)).ca_file)
"""


@pytest.mark.slow
@with_python_310
def test_the_certificates_of_a_redis_are_found_in_the_package_wherever_the_function_starts(
    package: Package, tmp_path: Path
) -> None:
    folder = with_files(package, tmp_path, {"ca.pem": ""})
    url = "rediss://redis.test?ssl_ca_certs=function/ca.pem"
    assert run_bare(tmp_path, CERTIFICATES, url).strip() == str(folder / "ca.pem")


# A module whose bytecode stands beside it and is that of its source is not compiled.
COMPILED = """
import sys
compiled = []
def spy(event, arguments):
    if event == "compile" and arguments[1] is not None:
        compiled.append(str(arguments[1]))
sys.addaudithook(spy)
"""
SHOWN = """
print(json.dumps([name for name in compiled if str(name).startswith(sys.argv[1])]))
"""


def compiled_by_an_event(folder: Path, emulator: Emulator) -> list[str]:
    """The modules of a package that Python compiles to handle an event of valid points."""
    given = [ckafka(point(1)), CONTEXT, environ(RECEIVER_URL=emulator.url)]
    names: list[str] = json.loads(run_bare(folder, COMPILED + INVOKE + SHOWN, given).splitlines()[-1])
    return [Path(name).relative_to(folder).as_posix() for name in names]


@pytest.mark.slow
@with_python_310
def test_what_an_event_of_valid_points_loads_is_compiled_already(
    package: Package, emulator: Emulator
) -> None:
    assert compiled_by_an_event(package.folder, emulator) == []


@pytest.mark.slow
@with_python_310
def test_a_file_that_is_edited_where_it_is_deployed_is_compiled_again(
    package: Package, tmp_path: Path, emulator: Emulator
) -> None:
    folder = tmp_path / "edited"
    shutil.copytree(package.folder, folder)
    edited = folder / "metric_forwarder" / "errors.py"
    before = edited.stat()
    edited.write_text(edited.read_text("utf-8") + "# changed\n", encoding="utf-8")
    os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert compiled_by_an_event(folder, emulator) == ["metric_forwarder/errors.py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "file", "module"),
    [
        ("redis", "redis/client.py", "dedupe/__pycache__/redis.cpython-310.pyc"),
        ("remote-write", "cramjam/__init__.py", "destinations/__pycache__/remote_write.cpython-310.pyc"),
    ],
)
def test_an_extra_brings_what_its_option_needs(
    package: Package, tmp_path: Path, extra: str, file: str, module: str
) -> None:
    with_extra = set(names(build(tmp_path, f"--extras={extra}").archive))
    without = set(names(package.archive))
    assert with_extra > without
    assert file in with_extra
    # Bytecode is made where a Python 3.10 is.
    assert (f"metric_forwarder/{module}" in with_extra - without) == (PYTHON is not None)


def verify(archive: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "package.py"), "verify", f"--zip={archive}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_zip_is_verified_by_building_it_again(package: Package, tmp_path: Path) -> None:
    assert verify(package.archive).returncode == 0
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(package.archive) as original, zipfile.ZipFile(changed, "w") as packed:
        for entry in original.infolist():
            text = original.read(entry)
            if entry.filename != "THIRD_PARTY_LICENSES.txt":
                packed.writestr(entry, text + b"#" if entry.filename == "index.py" else text)
        packed.writestr("stray.py", b"")
    result = verify(changed)
    assert result.returncode == 1
    assert result.stderr.partition("differs from what these sources and locks give:\n")[2].splitlines() == [
        "missing: THIRD_PARTY_LICENSES.txt",
        "other: index.py",
        "only in it: stray.py",
    ]


@pytest.mark.slow
def test_a_zip_with_an_extra_that_was_not_named_is_verified_with_the_command_that_names_it(
    tmp_path: Path,
) -> None:
    result = verify(build(tmp_path, "--extras=redis").archive)
    assert result.returncode == 1
    assert result.stderr.endswith("If it was built with redis, say so: make verify EXTRAS=redis\n")


@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="needs a Python that is not the function's")
def test_without_python_310_the_remedy_works_where_none_is_on_the_path(tmp_path: Path) -> None:
    code = "import pathlib, sys, package; package.compile_ahead(pathlib.Path(sys.argv[1]), [])"
    environment = {"PYTHONPATH": str(ROOT / "tools"), "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No Python 3.10 was found" in done.stderr
    assert "PYTHON=/path/to/python3.10" in done.stderr


def test_a_missing_or_broken_zip_is_reported(tmp_path: Path) -> None:
    missing = tmp_path / "missing.zip"
    result = verify(missing)
    assert (result.returncode, f"there is no {missing}" in result.stderr) == (2, True)


@pytest.mark.slow
def test_the_zip_holds_the_licence_of_every_locked_package(package: Package) -> None:
    told = (package.folder / "THIRD_PARTY_LICENSES.txt").read_text("utf-8")
    licensed = {
        re.sub(r"[-_.]+", "-", name).lower()
        for name in re.findall(r"^==== ([\w.]+)-[\d.post]+: ", told, re.MULTILINE)
    }
    locked = re.findall(
        r"^([a-z0-9-]+)==", (ROOT / "tools" / "requirements.lock").read_text("utf-8"), re.MULTILINE
    )
    assert set(locked) == licensed
    assert "not named" not in told


def test_an_extra_that_is_not_locked_is_refused_by_name(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "tools" / "package.py"),
        "build",
        "--extras=tea",
        f"--folder={tmp_path / 'f'}",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # fmt: skip
    assert result.returncode == 2
    assert "requirements-tea.lock" in result.stderr
    assert "redis" in result.stderr


LOCKS = sorted((ROOT / "tools").glob("requirements*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.stem for lock in LOCKS])
def test_a_lock_names_exact_versions_with_hashes_and_no_index(lock: Path) -> None:
    lines = [line for line in lock.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines
    assert [
        line
        for line in lines
        if not re.fullmatch(r"[a-z0-9-]+==[0-9]+(\.[0-9]+)*(\.post[0-9]+)? --hash=sha256:[0-9a-f]{64}", line)
    ] == []


@pytest.mark.slow
@with_python_310
def test_the_package_can_say_what_stands_in_the_way_of_delivery(package: Package, emulator: Emulator) -> None:
    given = environ(RECEIVER_URL=emulator.url, SCRAPE_HOSTS="127.0.0.1:1")
    printed = run_bare(package.folder, INVOKE, [{"doctor": True}, CONTEXT, given])
    found = json.loads(printed.splitlines()[-1])
    assert [check["name"] for check in found["checks"] if not check["ok"]] == ["scrape"]
