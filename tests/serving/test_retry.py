import pytest

from tfface.serving.connection import TOO_LARGE, Retry, ServerError


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
def retry(waits, monkeypatch):
    # Draws the longest wait that it may.
    monkeypatch.setattr("random.uniform", lambda low, high: high - low)
    return Retry(retries=6, first=0.25, longest=3, pause=waits.append)


def test_waits_double_up_to_the_longest(retry, waits):
    action = Failing("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", *["UNAVAILABLE"] * 3)
    assert retry.call(action) == "answer"
    assert waits == [0.25, 0.5, 1, 2, 3, 3]


def test_gives_up_after_its_retries(retry, waits):
    action = Failing(*["UNAVAILABLE"] * 20)
    with pytest.raises(ServerError) as caught:
        retry.call(action)
    assert (action.asked, len(waits), caught.value.attempts) == (7, 6, 7)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL", TOO_LARGE])
def test_what_will_not_pass_is_not_tried_again(retry, waits, code):
    action = Failing("UNAVAILABLE", code)
    with pytest.raises(ServerError, match=code) as caught:
        retry.call(action)
    assert (action.asked, waits, caught.value.attempts) == (2, [0.25], 2)


def test_waits_are_drawn_from_nothing_to_the_bound():
    waits = []
    retry = Retry(retries=200, first=1.0, longest=1.0, pause=waits.append)
    retry.call(Failing(*["UNAVAILABLE"] * 200))
    assert 0 <= min(waits) < 0.2 and 0.8 < max(waits) <= 1
    assert len(set(waits)) == 200
