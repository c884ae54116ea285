"""What a point costs, in instructions: the same on every machine, however busy it is, so that no change costs more unseen."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.instructions import CountedSubject, count_both, counted_subjects

POINTS = 500
PLACE = "batches of 500"
# Instructions of ours against those of the floor of ``make bench``, as CPython 3.11 has them.
BUDGETS = {
    "no timestamp": 1.32,
    "timestamp in seconds": 1.4,
    "timestamp in ms": 1.38,
    "timestamp as a float": 1.28,
    "RFC 3339": 1.43,
    "id": 1.36,
    "every point a new series": 2.45,
    "envelope of 100": 1.46,
    "list of 100": 1.34,
    "pretty-printed": 1.41,
}
# Instructions to remember an identity in a full store in memory; all of a point are some 75,000.
REMEMBERING = 2_300
# Other versions spend their instructions otherwise.
TOLERANCE = 0.05 if sys.version_info[:2] == (3, 11) else 0.2


@pytest.mark.slow
def test_no_shape_of_a_point_costs_more_than_its_budget(record_property: Callable[[str, str], None]) -> None:
    over = {}
    with counted_subjects([PLACE]) as subjects:
        for shape, budget in BUDGETS.items():
            ours, floor = count_both(subjects[PLACE], POINTS, shape)
            ratio = ours / floor
            record_property(shape, f"{ratio:.2f}")
            if ratio > budget * (1 + TOLERANCE):
                over[shape] = ratio
    assert not over, "make it cheaper, or say in the commit why it costs more and raise the budget"


@pytest.mark.slow
def test_a_point_costs_little_to_remember_although_another_must_be_forgotten_for_it(tmp_path: Path) -> None:
    with CountedSubject("memory_store", tmp_path, capacity=POINTS) as full_store:
        assert full_store.instructions(POINTS, "valid") <= REMEMBERING * (1 + TOLERANCE)
