"""``make serverless`` calls the Serverless CLI that is there, once everything it would leave out in silence is set."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import serverless_file
from support.harness import ROOT

EVERYTHING = {
    **dict.fromkeys(serverless_file.required(serverless_file.text()), "value"),
    "DEPLOY_REGION": "ap-guangzhou",
    "DEPLOY_ROLE": "value",
    "MF_SECRET_NAME": "value",
    "MF_NAMESPACE": "pc",
}


class Checkout:
    """A copy of what ``make serverless`` works with, and a PATH that holds the given clients alone."""

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

    def write_dotenv(self, *lines: str) -> None:
        (self.folder / ".env").write_text("\n".join(lines), encoding="utf-8")

    def deploy(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.folder / "tools" / "deploy.py"), *arguments]
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


def test_the_clis_failure_is_the_failure_of_make_serverless(checkout: Checkout) -> None:
    checkout.install("scf", status=7)
    assert checkout.deploy(**EVERYTHING).returncode == 7


def test_without_a_cli_it_says_what_to_install_and_what_to_do_instead(checkout: Checkout) -> None:
    result = checkout.deploy(**EVERYTHING)
    assert result.returncode == 2
    assert "npm install --global" in result.stderr
    assert "docs/deploy.md" in result.stderr


def test_what_is_not_set_is_named_before_anything_is_deployed(checkout: Checkout) -> None:
    checkout.install("scf")
    left = {name: value for name, value in EVERYTHING.items() if name not in {"DEPLOY_ROLE", "DEPLOY_VPC_ID"}}
    result = checkout.deploy(**left, DEPLOY_ROLE="")
    assert (result.returncode, result.stdout) == (2, "")
    assert ": DEPLOY_ROLE, DEPLOY_VPC_ID\n" in result.stderr


def test_a_function_that_reads_no_secret_needs_no_role(checkout: Checkout) -> None:
    checkout.install("scf")
    left = {
        name: value for name, value in EVERYTHING.items() if name not in {"DEPLOY_ROLE", "MF_SECRET_NAME"}
    }
    written = {"MF_DESTINATION": "remote-write", "MF_REMOTE_WRITE_URL": "http://10.0.0.5/w"}
    assert checkout.deploy("check", "remote-write", **left, **written).returncode == 0


def test_settings_that_cannot_work_are_reported_before_anything_is_deployed(checkout: Checkout) -> None:
    checkout.install("scf")
    result = checkout.deploy(**EVERYTHING, MF_DESTINATION="remote-write", MF_CONCURRENCY="many")
    assert (result.returncode, result.stdout) == (2, "")
    assert "MF_REMOTE_WRITE_URL is empty" in result.stderr
    assert 'MF_CONCURRENCY is "many"' in result.stderr


def test_settings_of_this_shell_are_not_deployed_where_the_env_file_says_otherwise(
    checkout: Checkout,
) -> None:
    checkout.install("scf")
    checkout.write_dotenv(*(f"{name}='{value}'" for name, value in EVERYTHING.items()))
    assert checkout.deploy(MF_NAMESPACE="pc").returncode == 0
    result = checkout.deploy(MF_NAMESPACE="home", MF_RECEIVER_URL="http://127.0.0.1:8080/v2/index.php")
    assert (result.returncode, result.stdout) == (2, "")
    assert "MF_NAMESPACE is set in this shell" in result.stderr
    assert "MF_RECEIVER_URL is set in this shell" in result.stderr


def test_a_dotenv_file_sets_as_well_as_the_environment(checkout: Checkout) -> None:
    checkout.install("scf")
    checkout.write_dotenv("# keys", "", *(f"{name} = '{value}'" for name, value in EVERYTHING.items()))
    assert checkout.deploy().returncode == 0


def test_a_comment_behind_a_value_is_reported_since_the_cli_would_deploy_it(checkout: Checkout) -> None:
    checkout.install("scf")
    checkout.write_dotenv("TENCENT_SECRET_ID=x            # who deploys", "QUOTED='a # b'", "HASH=a#b")
    result = checkout.deploy(**EVERYTHING)
    assert (result.returncode, result.stdout) == (2, "")
    assert "TENCENT_SECRET_ID in .env" in result.stderr
    assert "a line of its own" in result.stderr
    assert "QUOTED" not in result.stderr
    assert "HASH" not in result.stderr
    assert "who deploys" not in result.stderr, "a value may be a key"


def test_what_the_cli_does_not_read_is_not_set(checkout: Checkout) -> None:
    checkout.install("scf")
    checkout.write_dotenv(
        "export DEPLOY_REGION=gz",
        *(f"{name}={value}" for name, value in EVERYTHING.items() if name != "DEPLOY_REGION"),
    )
    result = checkout.deploy()
    assert result.returncode == 2
    assert ": DEPLOY_REGION\n" in result.stderr


def test_everything_in_the_way_is_reported_at_once_and_a_check_alone_deploys_nothing(
    checkout: Checkout,
) -> None:
    result = checkout.deploy("check", "")
    assert result.returncode == 2
    assert "npm install --global" in result.stderr
    assert "DEPLOY_REGION" in result.stderr
    checkout.install("scf")
    result = checkout.deploy("check", "", **EVERYTHING)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_make_serverless_looks_for_what_is_in_the_way_before_it_spends_time_on_a_package() -> None:
    command = ["/usr/bin/env", "make", "--dry-run", "serverless", "EXTRAS=redis"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    steps = [line.split("tools/")[1] for line in done.stdout.splitlines() if "tools/" in line]
    assert steps == ['deploy.py check "redis"', 'package.py build --extras "redis"', "deploy.py"]


@pytest.mark.parametrize(
    ("setting", "extra"),
    [
        ({"MF_DESTINATION": "remote-write", "MF_REMOTE_WRITE_URL": "http://10.0.0.5/w"}, "remote-write"),
        ({"MF_DEDUPE": "redis://:sEcret@10.0.0.5"}, "redis"),
        ({"MF_SPOOL": "rediss://h"}, "redis"),
        ({"MF_SCRAPE_HOSTS": "10.0.0.5:9100"}, None),
        ({"MF_SPOOL": "file:///mnt/spool"}, None),
    ],
)
def test_a_package_without_what_the_settings_need_is_not_built(
    checkout: Checkout, setting: dict[str, str], extra: str | None
) -> None:
    checkout.install("scf")
    known = {**EVERYTHING, **setting}
    without = checkout.deploy("check", "remote-write" if extra == "redis" else "", **known)
    wanted = "redis,remote-write" if extra == "redis" else extra
    assert (without.returncode, f"make serverless EXTRAS={wanted}\n" in without.stderr) == (
        (2, True) if extra else (0, False)
    )
    assert "sEcret" not in without.stderr
    assert checkout.deploy("check", wanted or "", **known).returncode == 0


def test_a_value_that_stands_in_the_file_itself_counts_and_a_comment_does_not(checkout: Checkout) -> None:
    checkout.install("scf")
    file = checkout.folder / "serverless.yml"
    text = file.read_text("utf-8")
    line = "      MF_DEDUPE: ${env:MF_DEDUPE}\n"
    file.write_text(text.replace(line, "      MF_DEDUPE: 'rediss://h' # the same\n"), "utf-8")
    assert "EXTRAS=redis" in checkout.deploy("check", "", **EVERYTHING).stderr
    file.write_text(text.replace(line, "      # MF_DEDUPE: redis://h\n"), "utf-8")
    assert checkout.deploy("check", "", **EVERYTHING).returncode == 0


def test_a_misspelt_variable_of_the_env_file_is_named(checkout: Checkout) -> None:
    checkout.install("scf")
    checkout.write_dotenv(
        *(f"{name}={value}" for name, value in EVERYTHING.items()), "MF_BATCH_MAX_POINT=500"
    )
    result = checkout.deploy()
    assert (result.returncode, result.stdout) == (2, "")
    assert "MF_BATCH_MAX_POINT in .env would be ignored: did you mean MF_BATCH_MAX_POINTS?" in result.stderr
