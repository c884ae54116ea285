"""The settings of ``serverless.yml`` are those that the code declares."""

from metric_forwarder.settings.settings import SETTINGS
from support import serverless_file


def test_serverless_yml_takes_every_setting_from_the_environment_and_leaves_it_out_if_it_is_not_set() -> None:
    told = serverless_file.settings(serverless_file.text())
    assert told == {each.name: (True, f"${{env:{each.name}}}") for each in SETTINGS}
    assert serverless_file.load(serverless_file.text(), {})["environment"]["variables"] == {}
