"""The script for ``tccli`` is run with the real ``tccli``, against the API on loopback."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metric_forwarder.cli.deployment.cloud import Account, Cloud
from metric_forwarder.cli.deployment.description import Description, read_description
from metric_forwarder.cli.deployment.plan import make_plan
from metric_forwarder.cli.deployment.tccli import write_commands
from metric_forwarder.secret import Secret
from support import serverless_file
from support.harness import ROOT
from support.scf_api import CERTIFICATE, REGION, SECRET_ID, SECRET_KEY, ScfApi

VARIABLES = {
    **dict.fromkeys(serverless_file.required(serverless_file.text()), "value"),
    "DEPLOY_REGION": REGION,
    "MF_DESTINATION": "remote-write",
    "MF_REMOTE_WRITE_URL": "http://10.0.0.5/w",
    "MF_REMOTE_WRITE_PASSWORD": "pa$$word 'quoted' \"twice\"",
}
TCCLI = "tccli==3.1.189.1"
# Its dependency on the whole SDK would take 380 MB; it works with these parts of it.
PARTS = (
    *("tencentcloud-sdk-python-common==3.1.195", "tencentcloud-sdk-python-scf==3.1.100"),
    *("tencentcloud-sdk-python-cvm==3.1.178", "cos-python-sdk-v5==1.9.44", "crcmod==1.7"),
    *("jmespath==1.1.0", "pycryptodome==4.4.0", "six==1.17.0", "xmltodict==1.0.4"),
)


def described(file: Path = ROOT / "serverless.yml", **more: str) -> Description:
    return read_description(file, {**VARIABLES, **more})


def test_only_the_owner_can_read_the_files_with_secrets(tmp_path: Path) -> None:
    script = write_commands(described(), b"zip", tmp_path / "out")
    assert "quoted" not in script.read_text("utf-8")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert modes.pop("deploy.sh") == 0o700
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_folder_that_holds_other_things_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(OSError, match="holds other files"):
        write_commands(described(), b"zip", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.fixture(scope="module")
def tccli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program; installed once into ``build/``, beside and not into the environment of the tests."""
    folder = ROOT / "build" / TCCLI.replace("==", "-")
    if not (folder / "done").exists():
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--upgrade"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), TCCLI, *PARTS],
            check=False,
            capture_output=True,
        )
        if done.returncode != 0:
            assert not os.environ.get("CI"), "tccli could not be installed"
            pytest.skip("tccli could not be installed: is a package index reachable?")
        (folder / "done").touch()
    programs = tmp_path_factory.mktemp("bin")
    # Its SDK trusts what this package names, and cannot be told otherwise.
    (programs / "certifi.py").write_text(f"def where():\n    return {CERTIFICATE!r}\n", encoding="utf-8")
    program = programs / "tccli"
    # It copies the list of all services once for each of them, which takes longer than the call itself.
    only_scf = "from tccli import services as s; s.SERVICE_VERSIONS = {'scf': s.SERVICE_VERSIONS['scf']}"
    run_it = f"import sys; {only_scf}; from tccli.main import main; sys.exit(main())"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={programs}:{folder} exec {sys.executable} -W ignore -c "{run_it}" "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    return programs


@pytest.fixture
def api() -> Iterator[ScfApi]:
    with ScfApi(polls=0) as running:
        yield running


def run(script: Path, api: ScfApi, tccli: Path, home: Path) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": f"{tccli}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(home),
        "SCF_ENDPOINT": api.endpoint,
        "TENCENTCLOUD_SECRET_ID": SECRET_ID,
        "TENCENTCLOUD_SECRET_KEY": SECRET_KEY,
    }
    return subprocess.run([str(script)], env=environ, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_script_deploys_what_the_command_would_deploy_and_can_be_run_again(
    api: ScfApi, tccli: Path, tmp_path: Path
) -> None:
    script = write_commands(described(), b"first", tmp_path / "out")
    done = run(script, api, tccli, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (
        0,
        "",
        [
            *("CreateFunction", "UpdateFunctionEventInvokeConfig", "PublishVersion", "UpdateAlias"),
            *("CreateTrigger", "deployed: version 1 is in force"),
        ],
    )
    account = Account(SECRET_ID, Secret(SECRET_KEY), REGION, endpoint=api.endpoint, ca_file=CERTIFICATE)
    cloud = Cloud(account, "default", "metric-forwarder", lambda _: None)
    assert make_plan(described(), b"first", cloud).changes == ()

    api.function["triggers"][0]["Enable"] = 0
    write_commands(described(), b"second", tmp_path / "out")
    api.script = {"UpdateFunctionCode": ["UnauthorizedOperation"]}
    failed = run(script, api, tccli, tmp_path)
    assert failed.returncode != 0
    assert "UnauthorizedOperation" in failed.stdout + failed.stderr
    assert run(script, api, tccli, tmp_path).returncode == 0
    assert make_plan(described(), b"second", cloud).changes == ()


@pytest.mark.slow
def test_a_function_url_is_updated_under_the_name_that_the_platform_gave_it(
    api: ScfApi, tccli: Path, tmp_path: Path
) -> None:
    file = tmp_path / "serverless.yml"
    text = (ROOT / "serverless.yml").read_text("utf-8")
    url = "    - http: {parameters: {authType: CAM, netConfig: {enableIntranet: true}, enable: true}}\n"
    file.write_text(f"{text}\n{url}", "utf-8")
    script = write_commands(described(file), b"zip", tmp_path / "out")
    assert run(script, api, tccli, tmp_path).returncode == 0
    before = [dict(trigger) for trigger in api.function["triggers"]]
    api.function["triggers"][-1]["Enable"] = 0
    again = run(script, api, tccli, tmp_path)
    assert (again.returncode, again.stderr.count("UpdateTrigger")) == (0, 2)
    assert api.function["triggers"] == before


@pytest.mark.slow
def test_a_timer_that_is_switched_off_again_is_disabled(api: ScfApi, tccli: Path, tmp_path: Path) -> None:
    on = write_commands(described(DEPLOY_ENABLE_REPLAY="true"), b"zip", tmp_path / "out")
    assert run(on, api, tccli, tmp_path).returncode == 0
    off = write_commands(described(), b"zip", tmp_path / "out")
    assert run(off, api, tccli, tmp_path).returncode == 0
    enabled = {trigger["TriggerName"]: trigger["Enable"] for trigger in api.function["triggers"]}
    assert enabled == {"value-value": 1, "replay": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "refused"),
    [
        ("CreateFunction", "GetFunction"),
        ("UpdateAlias", "ListTriggers"),
        ("CreateFunction", "PublishVersion"),
    ],
)
def test_a_call_that_fails_ends_the_script_with_its_own_reason(
    api: ScfApi, tccli: Path, tmp_path: Path, after: str, refused: str
) -> None:
    def throttle(action: str) -> None:
        if action == after:
            api.script[refused] = ["RequestLimitExceeded"]

    api.interrupt = throttle
    script = write_commands(described(), b"zip", tmp_path / "out")
    failed = run(script, api, tccli, tmp_path)
    assert failed.returncode != 0
    assert "RequestLimitExceeded" in failed.stderr.splitlines()[-1]
