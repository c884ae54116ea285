"""Which points are sent last, and which are rejected without being sent."""

from threading import Lock

from metric_forwarder.delivery.suspects import ENOUGH, Suspects
from metric_forwarder.delivery.verdicts import Action, Concern, Verdict
from metric_forwarder.model import Message, Point, Series

_ONE_POINT = Verdict(Action.SPLIT, "code 1", "refused")
_NAMES = Verdict(Action.SPLIT, "code 2", "refused", concern=Concern.NAMES)


def _point(series: Series) -> Point:
    return Point(0, series, 1, None, None, Message("s", None), "", None, 0, b"")


def _series(metric: str, host: str = "a") -> Series:
    return Series("pc", metric, {"host": host})


def test_a_series_is_suspect_from_its_fourth_refusal_and_others_of_its_metric_are_not() -> None:
    suspects, point, other = Suspects(Lock()), _point(_series("cpu")), _point(_series("cpu", "b"))
    for _ in range(3):
        suspects.note_refused(point, _ONE_POINT)
    assert not suspects.is_suspect(point)
    suspects.note_refused(point, _ONE_POINT)
    assert suspects.is_suspect(point)
    assert not suspects.is_suspect(other)


def test_a_metric_is_suspect_from_its_fourth_refusal_over_names_in_a_series_never_refused_too() -> None:
    suspects, unsent = Suspects(Lock()), _point(_series("cpu"))
    for _ in range(3):
        suspects.note_refused(_point(_series("cpu")), _NAMES)
    assert not suspects.is_suspect(unsent)
    suspects.note_refused(_point(_series("cpu")), _NAMES)
    assert suspects.is_suspect(unsent)
    assert not suspects.is_suspect(_point(_series("memory")))


def test_a_metric_of_which_a_point_was_taken_is_never_presumed_refused() -> None:
    suspects, unsent = Suspects(Lock()), _point(_series("cpu"))
    for _ in range(ENOUGH - 1):
        suspects.note_refused(_point(_series("cpu")), _NAMES)
    assert suspects.presumed(unsent) is None
    suspects.note_refused(_point(_series("cpu")), _NAMES)
    assert suspects.presumed(unsent) is not None
    suspects.note_taken([_point(_series("cpu"))])
    assert suspects.presumed(unsent) is None
    assert suspects.by_metric([unsent]) == ([], [unsent])


def test_only_points_of_suspect_metrics_are_sent_by_metric() -> None:
    suspects, refused, other = Suspects(Lock()), _point(_series("cpu")), _point(_series("memory"))
    for _ in range(4):
        suspects.note_refused(_point(_series("cpu")), _NAMES)
    assert suspects.by_metric([other, refused]) == ([[refused]], [other])
