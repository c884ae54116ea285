"""The settings of ``serverless.yml`` are those that the code declares."""

from metric_forwarder.settings.settings import SETTINGS
from support import serverless_file

DEFAULTS = {each.name: each.default for each in SETTINGS}


def test_serverless_yml_holds_every_setting_and_comments_out_those_at_their_default() -> None:
    told = serverless_file.settings(serverless_file.text())
    assert told.keys() == DEFAULTS.keys()
    for name, (in_force, value) in told.items():
        assert value in ({f"${{env:{name}}}"} if in_force else {f"${{env:{name}}}", DEFAULTS[name]}), name
