"""A release is prepared from a clean tree, and carries what SECURITY.md says."""

import datetime as dt
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tomli
import yaml

import package_locks
import release
from support.harness import ROOT

TODAY = dt.date(2026, 12, 1)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the files that a release changes."""
    for name in (*release.VERSIONED, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.name", "tester")
    git(tmp_path, "config", "user.email", "tester@example.org")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["/usr/bin/env", "git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def test_a_release_writes_its_version_and_date_and_is_tagged(clone: Path) -> None:
    release.prepare(clone, "9.8.7", TODAY)
    assert '\nversion = "9.8.7"\n' in (clone / "pyproject.toml").read_text("utf-8")
    assert '\n__version__ = "9.8.7"\n' in (clone / "src/metric_forwarder/__init__.py").read_text("utf-8")
    assert "## [Unreleased]\n\n## [9.8.7] - 2026-12-01\n" in (clone / "CHANGELOG.md").read_text("utf-8")
    assert git(clone, "tag") == "v9.8.7\n"
    assert git(clone, "status", "--porcelain") == ""


def test_a_dirty_tree_is_refused_and_left_alone(clone: Path) -> None:
    (clone / "stray").touch()
    with pytest.raises(package_locks.Refused, match="uncommitted"):
        release.prepare(clone, "9.8.7", TODAY)
    assert git(clone, "tag") == ""


def test_an_invalid_version_is_refused(clone: Path) -> None:
    with pytest.raises(package_locks.Refused, match=r"like 1\.2\.3"):
        release.prepare(clone, "v1", TODAY)


def test_the_notes_are_the_newest_released_section() -> None:
    changelog = (
        "# C\n\n## [Unreleased]\n\n- later\n\n## [2.0.0] - 2026-01-01\n\n- new\n\n## [1.0.0]\n\n- old\n"
    )
    assert release.notes(changelog) == "- new\n"


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_hash_and_says_its_version(path: Path) -> None:
    uses = re.findall(r"uses: (.+)", path.read_text("utf-8"))
    assert uses
    assert [use for use in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[0-9.]+", use)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_workflow_asks_for_the_rights_it_needs_and_names_targets_that_exist(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] in ({}, {"contents": "read"})
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    made = {
        word
        for job in workflow["jobs"].values()
        for step in job["steps"]
        for line in re.findall(r"^make (.+)$", step.get("run", ""), re.MULTILINE)
        for word in line.split()
    }
    assert made <= targets


def test_the_matrix_is_the_same_for_the_classifiers_for_tox_and_for_the_forge() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    classified = [
        found[1]
        for each in project["project"]["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each))
    ]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    assert project["tool"]["tox"]["env_list"] == classified
    assert workflow["jobs"]["versions"]["strategy"]["matrix"]["python"] == classified


@pytest.mark.slow
def test_the_list_of_what_is_inside_names_every_locked_package_with_its_hash(tmp_path: Path) -> None:
    release.write_sbom(tmp_path / "sbom.json")
    listed = {
        component["name"].lower(): component
        for component in json.loads((tmp_path / "sbom.json").read_text("utf-8"))["components"]
    }
    locks = "\n".join(path.read_text("utf-8") for path in (ROOT / "tools").glob("requirements*.lock"))
    names = {name.lower() for name in re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", locks, re.MULTILINE)}
    assert names <= set(listed)
    assert all("sha256" in json.dumps(listed[name]).lower().replace("-", "") for name in names)
