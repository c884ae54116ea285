"""The contents of the function's package: which files of the installed packages and of our own sources are in it."""

import fnmatch
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Imports only modules of the package that need no other package: this runs before anything is installed.
sys.path.insert(0, str(ROOT / "src"))

from metric_forwarder.cli.deployment.file_settings import user_files  # noqa: E402
from metric_forwarder.settings.extras import EXTRAS  # noqa: E402

SOURCES = ("index.py", "metric_forwarder")
ALL_EXTRAS = tuple(EXTRAS)

# Names of files and folders, in any folder: the function imports none of them.
LEFT_OUT = (
    "__pycache__",
    "*.pyc",
    "*.pyi",
    "py.typed",
    "__main__.py",
    "*.dist-info",
    "bin",
    "tests",
    "benchmarks",
    "emscripten",  # urllib3 inside a browser
)
# Likewise, by path.
LEFT_OUT_PATHS = (
    # Command lines, and the modules that only they need.
    "metric_forwarder/cli",
    "charset_normalizer/cli",
    "idna/cli.py",
    "jsonschema/cli.py",
    "requests/help.py",
    # Compiled copies of two modules, which guess the encoding of a text: nothing here needs that.
    "charset_normalizer/*.so",
    # For names of hosts that are not ASCII; all hosts here are.
    "idna/codec.py",
    "idna/uts46data.py",
    # Other ways to connect.
    "urllib3/contrib/pyopenssl.py",
    "urllib3/contrib/socks.py",
    "urllib3/http2/connection.py",
    "tencentcloud/common/*_async.py",
    "tencentcloud/common/http/*_async.py",
)
# Modules for invalid points, MF_SCHEMA, a key in Secrets Manager, MF_MAPPING, the patterns of MF_RELABEL, Prometheus's protobuf, the
# bridge, scraping and the doctor: there is no room for their bytecode in the budget of the zip.
NOT_COMPILED = (
    "attr/*",
    "attrs/*",
    "charset_normalizer/*",
    "idna/idnadata.py",
    "jsonschema/*",
    "jsonschema_specifications/*",
    "metric_forwarder/bridge/*",
    "metric_forwarder/clients/cos.py",
    "metric_forwarder/clients/reachability.py",
    "metric_forwarder/clients/secrets_manager.py",
    "metric_forwarder/doctor.py",
    "metric_forwarder/formats/mapping*.py",
    "metric_forwarder/formats/prometheus_protobuf.py",
    "metric_forwarder/intake/explain.py",
    "metric_forwarder/intake/re2.py",
    "metric_forwarder/intake/user_schema.py",
    "metric_forwarder/put_monitor_data/server.py",
    "metric_forwarder/scrape/*",
    "metric_forwarder/spool/redis_check.py",
    "referencing/*",
    "rpds/*",
    "tencentcloud/*",
    "typing_extensions.py",
)
LICENCES = "THIRD_PARTY_LICENSES.txt"
LICENCE_FILES = ("LICEN[CS]E*", "COPYING*", "NOTICE*")


def copy_contents(installed: Path, folder: Path) -> None:
    """Copy what the function needs, of the installed packages and of our own sources."""
    _copy(installed, folder, _relevant(installed))
    (folder / LICENCES).write_text(licences(installed), encoding="utf-8")
    sources = ROOT / "src"
    _copy(sources, folder, (path for path in _relevant(sources) if path.parts[0] in SOURCES))

    copy_user_files(ROOT, folder)


def copy_user_files(clone: Path, folder: Path) -> None:
    """Copy the user's own files that settings name, such as a schema."""
    _copy(clone, folder, map(Path, user_files(clone)))


def _relevant(root: Path) -> Iterator[Path]:
    """Yield the files of a folder that the function needs, relative to the folder."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not _is_left_out(relative):
            yield relative


def _is_left_out(relative: Path) -> bool:
    """Return whether a file, by its path in the package, is left out."""
    if any(_matches(part, LEFT_OUT) for part in relative.parts):
        return True
    return any(_matches(place.as_posix(), LEFT_OUT_PATHS) for place in (relative, *relative.parents))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _copy(source: Path, target: Path, relatives: Iterable[Path]) -> None:
    for relative in relatives:
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, target / relative)


def licences(installed: Path) -> str:
    """Return the licences of the packages, since their own metadata is left out."""
    texts = []
    for metadata in sorted(installed.glob("*.dist-info")):
        files = sorted(
            {path for pattern in LICENCE_FILES for path in metadata.rglob(pattern) if path.is_file()}
        )
        name = metadata.name.removesuffix(".dist-info")
        texts += [f"==== {name}: {path.name} ====\n\n{path.read_text('utf-8').strip()}\n" for path in files]
        if not files:
            named = re.search(
                r"^License(?:-Expression)?: (.+)$", (metadata / "METADATA").read_text("utf-8"), re.MULTILINE
            )
            licence = named[1] if named else "not named"
            texts.append(f"==== {name}: METADATA ====\n\n{licence} (the package holds no text of it)\n")
    return "\n".join(texts)


def extras_of(names: Iterable[str]) -> list[str]:
    """Return the extras whose packages are among these files of a package."""
    folders = {name.partition("/")[0] for name in names}
    return [name for name, extra in EXTRAS.items() if extra.module in folders]


def files_to_compile(folder: Path, extras: Sequence[str]) -> list[str]:
    """Return the paths of the modules whose bytecode the package holds, relative to ``folder``."""
    left_out = list(NOT_COMPILED)
    for name, extra in EXTRAS.items():
        if name not in extras:
            left_out += extra.needed_by
    sources = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.py"))]
    return [path for path in sources if not _matches(path, left_out)]
