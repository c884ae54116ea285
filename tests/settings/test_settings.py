"""What a setting may hold, and what an error may say of it."""

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.errors import ConfigError
from metric_forwarder.intake.schema import PointSchema
from metric_forwarder.secret import describe_value
from metric_forwarder.settings.settings import SETTINGS, Settings
from support.harness import environ, remote_write_environ

SECRET = "hunter2"
URL_MARKS = frozenset(":/@?#=&%[")
# What URLs are made of, in any order: well-formed, broken in every way, and not at all.
PIECES = st.sampled_from(
    ["http", "https", "redis", "rediss", "file", ":", "://", "/", "//", "@", "?", "#", "&", "%", "%2", "token=", "u", "h",
     "10.0.0.5", ":9090", ":80x", "[", "]", "[::1]", "..", ".", ",", " ", "-", "own", "{", '"', "\\", "\n", "ß", "max_mb="]
)  # fmt: skip


def problems(settings: dict[str, str], **others: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        Settings.read(settings, **others)  # type: ignore[arg-type]
    return raised.value.problems


@pytest.mark.slow
@given(
    name=st.sampled_from([each.name for each in SETTINGS]),
    before=st.lists(PIECES, max_size=6).map("".join),
    within=st.lists(PIECES, max_size=2).map("".join),
    after=st.lists(PIECES, max_size=6).map("".join),
    region=st.lists(PIECES, max_size=3).map("".join),
)
def test_no_error_shows_anything_of_what_may_be_a_url(
    name: str, before: str, within: str, after: str, region: str
) -> None:
    value = f"{before}{SECRET}{within}{SECRET}{after}"
    if not URL_MARKS & set(value):
        value = f"{value}@"
    try:
        settings = Settings.read(
            {**remote_write_environ(), **environ(), name: value}, platform_region=f"{region}:{SECRET}"
        )
        PointSchema(settings.destination, settings.schema)
        told = ""
    except ConfigError as error:
        # As the platform prints it, with what it was raised for.
        told = "".join(traceback.format_exception(error))
    assert SECRET not in told


@pytest.mark.parametrize("shown", ["many", "-1", "1e9", "0.5 s", "prometheus", "ap-mars", "温度", "1,5"])
def test_a_word_or_a_number_is_shown(shown: str) -> None:
    assert describe_value(shown) == f'is "{shown}"'
    for name in ("CONCURRENCY", "MAX_RPS", "UNCERTAIN", "DEDUPE", "REGION"):
        if (name, shown) != ("MAX_RPS", "1e9"):
            assert problems(environ(**{name: shown}))[0].startswith(f'MF_{name} is "{shown}": set it to ')


@pytest.mark.parametrize("hidden", ["tsPHxrAB8fhffaGNmHZDjxxxxxxxxxx", "a/b", "u:p", "http", ""], ids=repr)
def test_what_is_as_long_as_a_key_or_looks_like_a_url_is_not(hidden: str) -> None:
    assert (describe_value(hidden) == "cannot be used") == (hidden != "http")


def test_bounds_are_written_out() -> None:
    (problem,) = problems(environ(MAX_AGE_S="-1"))
    assert problem == 'MF_MAX_AGE_S is "-1": set it to a number of seconds from 0 to 315360000'


# --- hosts --------------------------------------------------------------------------------------------------

NO_HOSTS = pytest.mark.parametrize(
    "host", ["a..b", ".a", "x" * 64, f"{'x' * 64}.internal", "*.a", "☃.net", "[zz]"]
)


@NO_HOSTS
@pytest.mark.parametrize(
    ("name", "scheme", "path"),
    [
        ("RECEIVER_URL", "http", "/v2/index.php"),
        ("REMOTE_WRITE_URL", "https", "/api/v1/write"),
        ("SECRET_ENDPOINT", "https", ""),
        ("DEDUPE", "redis", ""),
        ("SPOOL", "rediss", "/1"),
    ],
)
def test_a_host_that_no_connection_can_be_tried_to_is_a_configuration_error(
    name: str, scheme: str, path: str, host: str
) -> None:
    (problem,) = problems(environ(**{name: f"{scheme}://{host}{path}"}))
    assert problem.startswith(f"MF_{name} ")


@pytest.mark.parametrize("host", ["x" * 63, "a.", "h_", "10.0.0.5:80", "[::1]:80", "bücher.example"])
def test_every_other_host_is_let_be(host: str) -> None:
    assert Settings.read(environ(RECEIVER_URL=f"http://{host}/v2/index.php")).receiver_url


@pytest.mark.parametrize(
    "url",
    ["http://u:80/ss@h/v2", "http://h/v2?", "http://h/v2#", "http://h/a b", "http://h\n/v2", "ftp://h/v2", "http:///v2", "http://h:0/v2"],
    ids=repr,
)  # fmt: skip
def test_a_url_that_could_not_be_sent_to_as_it_is_is_a_configuration_error(url: str) -> None:
    (problem,) = problems(environ(RECEIVER_URL=url))
    assert problem.startswith("MF_RECEIVER_URL cannot be used: set it to http or https://host:port/path")


@pytest.mark.parametrize(
    "spool",
    [
        "file://[x",
        "file:///a%00b",
        "file:///",
        f"file:///a?max_mb={'9' * 5000}",
        "file:///a?max_mb=0",
        "file:///a#b?max_mb=1",
    ],
)
def test_a_spool_that_can_be_no_folder_is_a_configuration_error(spool: str) -> None:
    (problem,) = problems(environ(SPOOL=spool))
    assert problem.startswith("MF_SPOOL cannot be used: set it to file:///folder")


# --- mistakes, headers, certificates ---------------------------------------------------------------------------

EVERY_NAME = pytest.mark.parametrize("name", [each.name for each in SETTINGS])


@EVERY_NAME
@pytest.mark.parametrize("value", ["${env:MF_SECRET_KEY}", "${MF_SECRET_KEY}", "$(cat key)", "{{ key }}"])
def test_a_reference_that_was_not_filled_in_is_a_configuration_error_for_every_setting(
    name: str, value: str
) -> None:
    _, found = Settings.collect({**environ(), name: value})
    told = [problem for problem in found if problem.startswith(f"{name} ")]
    assert told[0].startswith(f"{name} holds a reference that was not filled in: set the variable that it")
    assert value not in "".join(found)


@EVERY_NAME
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_value_in_quotes_is_a_configuration_error_for_every_setting(name: str, quote: str) -> None:
    _, found = Settings.collect({**environ(), name: f"{quote}{SECRET}{quote}"})
    assert f"{name} stands in quotes: remove the quotes" in found
    assert SECRET not in "".join(found)


@pytest.mark.parametrize("name", ["SECRET_ID", "SECRET_KEY", "HTTP_TOKEN"])
@pytest.mark.parametrize("value", [f"{SECRET},{SECRET}", f'{SECRET}"', f"{SECRET} {SECRET}", f"{SECRET}\t;"])
def test_what_is_more_than_one_key_is_a_configuration_error_that_does_not_show_it(
    name: str, value: str
) -> None:
    (problem,) = problems(environ(**{name: value * 3}))
    assert problem.startswith(f"MF_{name} ")
    assert SECRET not in problem


def test_a_value_that_only_holds_such_marks_is_let_be() -> None:
    accounts = '{"ID": "KEY"}'
    read = Settings.read(environ(BRIDGE_ACCOUNTS=accounts, REMOTE_WRITE_PASSWORD='a,b"$1{}'))
    assert read.remote_write_password.reveal() == 'a,b"$1{}'
    assert read.bridge_accounts


def test_headers_are_read_by_name_and_value() -> None:
    read = Settings.read(environ(REMOTE_WRITE_HEADERS=" X-Scope-OrgID=team-a , X-Key = a b=c ,"))
    assert [(name, value.reveal()) for name, value in read.remote_write_headers] == [
        ("X-Scope-OrgID", "team-a"),
        ("X-Key", "a b=c"),
    ]


@pytest.mark.parametrize(
    "value",
    [f"X-{SECRET}", f"X A={SECRET}", f"X={SECRET}\n", f"X={SECRET}\nY: 1", "X=ü", f"={SECRET}", f"authorization={SECRET}",
     f"Content-Type={SECRET}", f"HOST={SECRET}", f"X={SECRET},x={SECRET}"],
    ids=repr,
)  # fmt: skip
def test_a_header_that_cannot_be_sent_or_is_the_forwarders_own_is_a_configuration_error(value: str) -> None:
    if value.endswith("\n"):
        value += ",Y=1\r2"
    (problem,) = problems(environ(REMOTE_WRITE_HEADERS=value))
    assert problem.startswith("MF_REMOTE_WRITE_HEADERS ")
    assert SECRET not in problem


def test_a_remote_write_url_may_have_a_query_and_the_receivers_may_not() -> None:
    url = "http://h/api/v1/write?tenant=a"
    assert Settings.read(remote_write_environ(REMOTE_WRITE_URL=url)).remote_write_url == url
    (problem,) = problems(environ(RECEIVER_URL="http://h/v2/index.php?a"))
    assert problem.startswith("MF_RECEIVER_URL ")


def test_a_file_of_certificates_must_be_one(tmp_path: Path) -> None:
    good = Path(__file__).parents[1] / "support" / "tls_server.pem"
    assert Settings.read(environ(CA_FILE=str(good))).ca_file == str(good)
    other = tmp_path / "notes.txt"
    other.write_text("no certificate", encoding="utf-8")
    for path in (str(other), str(tmp_path), "/nonexistent.pem", "a\0b"):
        (problem,) = problems(environ(CA_FILE=path))
        assert problem == "MF_CA_FILE cannot be read: set it to a file of certificates in PEM form"


# --- region -------------------------------------------------------------------------------------------------

# Regions of Tencent Cloud that the receiver has no code for.
NEWER = pytest.mark.parametrize("region", ["ap-nanjing", "ap-jakarta", "sa-saopaulo", "ap-shenzhen-jxcft"])


@NEWER
def test_where_nothing_needs_the_receivers_code_every_region_does(region: str) -> None:
    assert Settings.read(remote_write_environ(), platform_region=region).region == region
    assert Settings.read(remote_write_environ(REGION=region)).region == region


@NEWER
def test_only_regions_with_a_code_are_sent_to_the_receiver(region: str) -> None:
    (problem,) = problems(environ(REGION=""), platform_region=region)
    assert problem == (
        f'MF_REGION is empty and the platform\'s region is "{region}", for which the receiver has no code: '
        "set it to a region such as gz or ap-guangzhou"
    )
    (problem,) = problems(environ(REGION=region))
    assert problem == f'MF_REGION is "{region}": set it to a region such as gz or ap-guangzhou'
    assert Settings.read(environ(REGION="gz"), platform_region=region).region == "gz"
    assert Settings.read(environ(REGION=""), platform_region=region, to_send=False).region == ""


def test_of_an_unknown_destination_only_its_name_is_a_problem() -> None:
    assert problems({"MF_DESTINATION": "prometheus"}) == (
        'MF_DESTINATION is "prometheus": set it to receiver or remote-write or stdout',
    )


def test_an_invalid_region_is_rejected_for_every_destination() -> None:
    assert problems(remote_write_environ(REGION="moon"))[0].startswith(
        'MF_REGION is "moon": set it to a region'
    )
    assert Settings.read(remote_write_environ(), platform_region="moon").region == ""


def test_a_secret_is_looked_for_in_the_region_of_the_platform_whatever_its_name() -> None:
    secret = {"BRIDGE_ACCOUNTS": "own", "SECRET_NAME": "s"}
    assert Settings.read(remote_write_environ(**secret), platform_region="ap-nanjing").region == "ap-nanjing"
    (problem,) = problems(remote_write_environ(**secret))
    assert problem.startswith("MF_REGION is empty and the platform's region is unknown: set it to")
