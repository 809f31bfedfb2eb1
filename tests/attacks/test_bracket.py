import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.attacks._bracket import START, Bracket


def search(margin: Callable[[float], float], tolerance: float = 1e-4) -> tuple[Bracket, list[float]]:
    bracket, tried = Bracket(tolerance, margin(0.0)), []
    while not bracket.done:
        tried.append(bracket.probe())
        found = margin(tried[-1])
        bracket.tell(tried[-1], success=found > 0, margin=found, reach=tried[-1])
    return bracket, tried


@settings(max_examples=60, deadline=None)
@given(root=st.floats(1e-5, 0.999), bend=st.floats(0.1, 5), tolerance=st.sampled_from([1e-2, 1e-4, 1e-5]))
def test_closes_in_on_a_root_and_is_never_much_slower_than_bisection(root, bend, tolerance):
    bracket, tried = search(lambda epsilon: (epsilon / root) ** bend - 1, tolerance)
    assert bracket.low <= root <= bracket.high
    assert bracket.high - bracket.low <= tolerance
    grid = max(0, math.ceil(math.log2(root / START))) + 1
    width = START * max(1.0, 2.0 ** (grid - 2))
    assert len(tried) <= min(grid, 10) + max(0, math.ceil(math.log2(width / tolerance))) + 1


def test_the_grid_doubles_from_half_a_grey_level_to_one():
    bracket, tried = search(lambda epsilon: -1.0)
    assert tried == pytest.approx(
        [1 / 510, 2 / 510, 4 / 510, 8 / 510, 16 / 510, 32 / 510, 64 / 510, 128 / 510, 256 / 510, 1]
    )
    assert math.isinf(bracket.high)


def test_a_straight_line_takes_three_probes_in_the_bracket():
    # 0.02 is between 8/510 and 16/510: four failures, one success, then one guess and one look at each side at most.
    _, tried = search(lambda epsilon: epsilon - 0.02)
    assert len(tried) <= 5 + 4
    assert abs(tried[-1] - 0.02) < 1e-4


def test_the_first_success_counts():
    # Succeeds from 0.1 to 0.2 and again from 0.5: bisection between 0 and 1 would end at 0.5.
    bracket, _ = search(lambda epsilon: 1.0 if 0.1 < epsilon < 0.2 or epsilon > 0.5 else -1.0)
    assert bracket.high == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.0])
def test_odd_margins_do_no_harm(odd):
    bracket = Bracket(1e-4, odd)
    while not bracket.done:
        epsilon = bracket.probe()
        assert bracket.low < epsilon <= 1
        bracket.tell(epsilon, success=epsilon > 0.3, margin=odd, reach=odd)
    assert 0.3 < bracket.high < 0.3001
