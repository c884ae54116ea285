"""``make deploy`` calls the Serverless CLI that is there, once everything it would leave out in silence is set."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import serverless_file
from harness import ROOT

EVERYTHING = dict.fromkeys(serverless_file.references(serverless_file.text()), "x")


class Checkout:
    """A copy of what ``make deploy`` works with, and a PATH that holds the given clients alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "deploy.py", folder / "tools")
        shutil.copy(ROOT / "serverless.yml", folder)

    def install(self, client: str, status: int = 0) -> None:
        script = self.bin / client
        script.write_text(f'#!/bin/sh\necho "$0 $@ in $PWD"\nexit {status}\n', encoding="utf-8")
        script.chmod(0o755)

    def deploy(self, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.folder / "tools" / "deploy.py")]
        return subprocess.run(
            command, env={"PATH": str(self.bin), **environ}, capture_output=True, text=True, check=False
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path.resolve())


@pytest.mark.parametrize("client", ["scf", "serverless", "sls"])
def test_the_cli_that_is_there_deploys_from_the_projects_folder(checkout: Checkout, client: str) -> None:
    checkout.install(client)
    result = checkout.deploy(**EVERYTHING)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{checkout.bin / client} deploy in {checkout.folder}\n"


def test_the_clis_failure_is_the_failure_of_make_deploy(checkout: Checkout) -> None:
    checkout.install("scf", status=7)
    assert checkout.deploy(**EVERYTHING).returncode == 7


def test_without_a_cli_it_says_what_to_install_and_what_to_do_instead(checkout: Checkout) -> None:
    result = checkout.deploy(**EVERYTHING)
    assert result.returncode == 2
    assert "npm install --global" in result.stderr
    assert "docs/deploy.md" in result.stderr


def test_what_is_not_set_is_named_before_anything_is_deployed(checkout: Checkout) -> None:
    checkout.install("scf")
    left = {name: value for name, value in EVERYTHING.items() if name not in {"DEPLOY_ROLE", "MF_NAMESPACE"}}
    result = checkout.deploy(**left, DEPLOY_ROLE="")
    assert (result.returncode, result.stdout) == (2, "")
    assert ": DEPLOY_ROLE, MF_NAMESPACE\n" in result.stderr


def test_a_dotenv_file_sets_as_well_as_the_environment(checkout: Checkout) -> None:
    checkout.install("scf")
    lines = ["# keys", "", *(f"{name} = 'value'" for name in EVERYTHING)]
    (checkout.folder / ".env").write_text("\n".join(lines), encoding="utf-8")
    assert checkout.deploy().returncode == 0


def test_a_commented_line_asks_for_nothing(checkout: Checkout) -> None:
    assert "MF_SECRET_KEY" in serverless_file.text()
    assert "MF_SECRET_KEY" not in EVERYTHING
    checkout.install("scf")
    assert checkout.deploy(**EVERYTHING).returncode == 0
