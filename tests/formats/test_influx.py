"""What influx line protocol becomes; see docs/formats.md."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.formats.influx import decode
from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample, Reading, Sample

HINT = FormatHint()


def readings(text: str | bytes, precision: str = "ns") -> list[Reading]:
    return list(decode(text, FormatHint(precision)))


def samples(text: str, precision: str = "ns") -> list[tuple[Any, ...]]:
    return [tuple(reading[1:5]) for reading in readings(text, precision) if isinstance(reading, Sample)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("m f=1", ("m_f", {}, 1.0, None)),
        ("m value=1", ("m", {}, 1.0, None)),
        ("prometheus,job=a up=1", ("up", {"job": "a"}, 1.0, None)),
        ("  m,a=b   f=1   1700000000000000001 \t\r", ("m_f", {"a": "b"}, 1.0, 1_700_000_000_000_000_001)),
        ("m f=-1.5e-3 -7", ("m_f", {}, -0.0015, -7)),
        ("m f=-9223372036854775808i", ("m_f", {}, -(2**63), None)),
        ("m f=18446744073709551615u", ("m_f", {}, 2**64 - 1, None)),
        ("m f=TRUE", ("m_f", {}, 1, None)),
        ("m f=F", ("m_f", {}, 0, None)),
        (r"my\ cpu\,0,host\ name=a\=b\,c f\=1=2", ("my_cpu_0_f_1", {"host_name": "a=b,c"}, 2.0, None)),
        (r"m,path=C:\dir\new f=1", ("m_f", {"path": r"C:\dir\new"}, 1.0, None)),
        ('m,a="b" f=1', ("m_f", {"a": '"b"'}, 1.0, None)),
        ("m,z=1,a=2 f=1", ("m_f", {"a": "2", "z": "1"}, 1.0, None)),
        ("m,a-b=2,a.b=1 f=1", ("m_f", {"a_b": "2;1"}, 1.0, None)),
        ("1m f=1", ("_1m_f", {}, 1.0, None)),
        ("温度,城市=广州 value=1", ("__", {"__": "广州"}, 1.0, None)),
    ],
)
def test_a_line_becomes_a_sample(line: str, expected: tuple[Any, ...]) -> None:
    assert samples(line) == [expected]


def test_each_field_is_a_sample_and_names_its_place() -> None:
    found = readings('cpu,host=a idle=1.5,up=t,os="linux",n=2i 7\n')
    assert [(type(reading), reading.where) for reading in found] == [
        (Sample, "line 1 field idle"),
        (Sample, "line 1 field up"),
        (FilteredSample, "line 1 field os"),
        (Sample, "line 1 field n"),
    ]


@pytest.mark.parametrize(
    ("precision", "nanoseconds"),
    [("ns", 1), ("n", 1), ("us", 10**3), ("u", 10**3), ("ms", 10**6), ("s", 10**9), ("m", 6 * 10**10), ("h", 36 * 10**11)],
)  # fmt: skip
def test_a_time_has_the_unit_that_it_was_given(precision: str, nanoseconds: int) -> None:
    assert samples("m f=1 3", precision)[0][3] == 3 * nanoseconds


def test_an_unknown_precision_is_reported_and_nothing_is_read() -> None:
    (found,) = readings("m f=1 3", "years")
    assert isinstance(found, InvalidSample)
    assert found.rule == "precision"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("m", "syntax"),
        ("m ", "syntax"),
        ("m f=1 2 3", "syntax"),
        ("m f=1 1.5", "timestamp"),
        ("m f=1 9223372036854775808", "timestamp"),
        ("m,a= f=1", "tag"),
        ("m,a f=1", "tag"),
        ("m,=b f=1", "tag"),
        ("m, f=1", "tag"),
        ("m,a=b=c f=1", "tag"),
        ("m,a=1,a=2 f=1", "tag"),
        ("_m f=1", "name"),
        ("m,_a=b f=1", "name"),
        (",a=b f=1", "name"),
        ("m,a=\ud800 f=1", "encoding"),
        ("m," + ",".join(f"t{number}=1" for number in range(101)) + " f=1", "size"),
        ('m f="open', "syntax"),
        ('m f="open,g=1 5', "syntax"),
    ],
)
def test_a_line_that_breaks_the_format_costs_one_sample_and_says_why(line: str, rule: str) -> None:
    before, found, after = readings(f"a b=1\n{line}\nc d=2\n")
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert isinstance(found, InvalidSample)
    assert (found.where, found.rule, found.raw) == ("line 2", rule, line.strip())


@pytest.mark.parametrize(
    "field",
    ["f", "f=", "=1", "f=x", "f=nan", "f=inf", "f=1e999", "f=1_0", "f=0x1", "f=1ii", "f=-1u", "f=1.5i", "_f=1",
     "f=9223372036854775808i", "f=18446744073709551616u", 'f="a"b', "f=tRUE", "f==1"],
)  # fmt: skip
def test_a_bad_field_costs_one_sample_and_its_neighbours_go(field: str) -> None:
    first, found, last = readings(f"m,a=b x=1,{field},y=2 5")
    assert isinstance(first, Sample)
    assert isinstance(last, Sample)
    assert isinstance(found, InvalidSample)
    # What is kept of it can be mended and sent again.
    assert found.raw == f"m,a=b {field} 5"


def test_a_quoted_text_may_hold_commas_spaces_quotes_and_line_breaks() -> None:
    text = 'm f="a, b=\\"c\\"\nd",g=1 5\r\nn h=2 6\n'
    assert [reading.where for reading in readings(text)] == [
        "line 1 field f",
        "line 1 field g",
        "line 3 field h",
    ]
    assert samples(text) == [("m_g", {}, 1.0, 5), ("n_h", {}, 2.0, 6)]


def test_a_forgotten_quote_does_not_swallow_the_lines_behind_it() -> None:
    found = readings('m f="open\nn g="closed",h=1\no i=2\n')
    assert [type(reading) for reading in found] == [InvalidSample, FilteredSample, Sample, Sample]


def test_of_equal_series_and_times_the_last_value_counts_and_the_others_are_reported() -> None:
    found = readings("m,a=1,b=2 f=1,g=1 5\nm,b=2,a=1 f=2 5\nm,a=1,b=2 f=3 6\nm,a=1,b=2 f=4,f=5 7")
    assert [type(reading) for reading in found] == [FilteredSample] + [Sample] * 3 + [FilteredSample, Sample]
    assert [reading.value for reading in found if isinstance(reading, Sample)] == [1.0, 2.0, 3.0, 5.0]


def test_comments_and_blank_lines_are_not_samples() -> None:
    assert readings("# a comment\n\n  \r\n  # another\n") == []


def test_one_bad_line_among_a_thousand_costs_one_sample() -> None:
    lines = [f"cpu,host=h{number} usage={number}.5 {number}" for number in range(1000)]
    lines[499] = "cpu,host=h499 usage=499.5 yesterday"
    found = readings("\n".join(lines))
    assert [reading.where for reading in found if not isinstance(reading, Sample)] == ["line 500"]
    assert len(found) == 1000


@given(st.text(alphabet='ab1i=",\\ \n#\t.-\réu_\ud800', max_size=80))
def test_whatever_the_text_nothing_raises_and_every_line_has_a_reading(text: str) -> None:
    found = readings(text)
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    if '"' not in text:
        told = {reading.where.split(" field ")[0] for reading in found}
        assert told == {
            f"line {number}" for number, line in enumerate(lines, 1) if line and not line.startswith("#")
        }


_NAME = st.text(alphabet="ab,= 0", min_size=1, max_size=4).map(lambda text: f"x{text}x")


@given(
    _NAME,
    st.dictionaries(_NAME, _NAME, max_size=4),
    st.dictionaries(_NAME, st.integers(-9, 9), min_size=1, max_size=4),
)
def test_what_is_written_as_the_reference_says_is_read_back(
    measurement: str, tags: dict[str, str], fields: dict[str, int]
) -> None:  # fmt: skip
    def escaped(text: str) -> str:
        return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")

    head = [measurement.replace(",", "\\,").replace(" ", "\\ ")]
    head += [f"{escaped(name)}={escaped(value)}" for name, value in tags.items()]
    line = f"{','.join(head)} {','.join(f'{escaped(name)}={value}i' for name, value in fields.items())} 5"
    assert [value for _, _, value, _ in samples(line)] == list(fields.values())
    joined = sorted(";".join(sorted(tags.values())))
    assert all(sorted(";".join(labels.values())) == joined for _, labels, _, _ in samples(line))


def _cpu_seconds(text: str) -> float:
    began = time.process_time()
    for _ in decode(text, HINT):
        pass
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    "piece",
    ["m,a=", '"', 'm f="', "\\", '\\"', ",", "=", "#", "m f=1\n", "#\n", " ", 'm f="\n', 'x y=1",f="\n', "m f=1,", 'f="\n",', "m,a=b f=1,"],
)  # fmt: skip
def test_reading_takes_time_in_proportion_to_the_text(piece: str) -> None:
    small, large = piece * (20_000 // len(piece)), piece * (320_000 // len(piece))
    # Sixteen times the text; a quadratic reader would take 256 times as long.
    fastest = min(_cpu_seconds(small) for _ in range(3))
    assert _cpu_seconds(large) < 64 * fastest + 0.05
