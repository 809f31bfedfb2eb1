import pytest

from tfface.serving.patience import TOO_LARGE, Patience, ServerError


class Failing:
    """Fails so often with these codes, then answers."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.codes:
            raise ServerError(self.codes.pop(0), "no")
        return "answer"


@pytest.fixture
def waits():
    return []


@pytest.fixture
def patience(waits):
    # Draws the longest wait that it may.
    return Patience(retries=6, first=0.25, longest=3, pause=waits.append, draw=lambda low, high: high - low)


def test_waits_double_up_to_the_longest(patience, waits):
    action = Failing("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", *["UNAVAILABLE"] * 3)
    assert patience.call(action) == "answer"
    assert waits == [0.25, 0.5, 1, 2, 3, 3]


def test_gives_up_after_its_retries(patience, waits):
    action = Failing(*["UNAVAILABLE"] * 20)
    with pytest.raises(ServerError) as caught:
        patience.call(action)
    assert (action.asked, len(waits), caught.value.attempts) == (7, 6, 7)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL", TOO_LARGE])
def test_what_will_not_pass_is_not_tried_again(patience, waits, code):
    action = Failing("UNAVAILABLE", code)
    with pytest.raises(ServerError, match=code) as caught:
        patience.call(action)
    assert (action.asked, waits, caught.value.attempts) == (2, [0.25], 2)


def test_waits_are_drawn_from_nothing_to_the_bound():
    waits = []
    patience = Patience(retries=200, first=1.0, longest=1.0, pause=waits.append)
    patience.call(Failing(*["UNAVAILABLE"] * 200))
    assert 0 <= min(waits) < 0.2 and 0.8 < max(waits) <= 1
    assert len(set(waits)) == 200
