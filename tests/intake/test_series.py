"""The series that an instance knows, for two events at once."""

import threading

from metric_forwarder.intake.series import SeriesCache
from metric_forwarder.model import Series


def test_a_series_is_visible_to_another_event_only_once_it_is_prepared() -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def prepare_series(series: Series) -> None:
        if threading.current_thread() is slow:
            begun.set()
            may_go_on.wait(10)
        series.encoded_prefix = b"prepared"

    cache = SeriesCache(prepare_series)
    found: list[object] = []
    slow = threading.Thread(target=lambda: found.append(cache.for_event().find("pc", "m", {"a": "b"})))
    slow.start()
    assert begun.wait(10)
    other = cache.for_event().find("pc", "m", {"a": "b"})
    assert isinstance(other, Series)
    assert other.encoded_prefix == b"prepared"
    may_go_on.set()
    slow.join()
    assert found == [other], "the points of both have one series"
