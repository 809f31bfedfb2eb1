import errno

import numpy as np
import pytest

from tfface.training import bank as module
from tfface.training.bank import ViewBank, view_of_epoch, views_within


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART", 4)


def values(number, start, stop):
    """Every row bears its view and its place."""
    rows = np.arange(start, stop)
    views = np.broadcast_to((10 * number + rows)[:, None, None, None], (len(rows), 2, 2, 3))
    return views.astype(np.uint8), np.stack([rows, np.full(len(rows), number)], axis=1)


@pytest.fixture
def empty(cache):
    return ViewBank({"teacher": "made-up"}, 10, 2, 2)


def test_what_is_filled_is_read(empty):
    assert not empty.ready(1)
    assert empty.fill(1, values)
    views, answers = values(1, 0, 10)
    np.testing.assert_array_equal(empty.views(1), views)
    np.testing.assert_array_equal(empty.answers(1), answers)
    assert empty.answers(1).dtype == np.float16
    assert not empty.ready(0)
    assert sorted(path.suffix for path in empty.folder.iterdir()) == [".json", ".lock", ".npy", ".npy"]


def test_a_killed_process_loses_one_part(empty):
    made = []

    def until_row_8(number, start, stop):
        if start >= 8:
            raise KeyboardInterrupt
        made.append(start)
        return values(number, start, stop)

    with pytest.raises(KeyboardInterrupt):
        empty.fill(0, until_row_8)
    assert not empty.ready(0)
    assert empty.done(0) == 8

    def rest(number, start, stop):
        made.append(start)
        return values(number, start, stop)

    assert empty.fill(0, rest)
    assert made == [0, 4, 8]
    np.testing.assert_array_equal(empty.views(0), values(0, 0, 10)[0])
    np.testing.assert_array_equal(empty.answers(0), values(0, 0, 10)[1])


def test_two_processes_do_not_collide(empty):
    other = ViewBank({"teacher": "made-up"}, 10, 2, 2)
    inner = []

    def meanwhile(number, start, stop):
        inner.append(other.fill(0, values, wait_seconds=0))
        return values(number, start, stop)

    assert empty.fill(0, meanwhile)
    assert inner == [False] * 3
    assert other.fill(0, lambda *_: pytest.fail("it is made already"))


def test_other_settings_are_another_bank(empty):
    empty.fill(0, values)
    assert not ViewBank({"teacher": "another"}, 10, 2, 2).ready(0)
    assert not ViewBank({"teacher": "made-up"}, 9, 2, 2).ready(0)
    assert ViewBank({"teacher": "made-up"}, 10, 2, 2).ready(0)


def test_a_full_disk_is_one_line_and_loses_nothing(empty, user_error, monkeypatch):
    def full(number, start, stop):
        if start == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return values(number, start, stop)

    saved = module._save
    monkeypatch.setattr(module, "_save", lambda path, array: full(0, int(path.stem[-7:]), 0) and saved(path, array))
    with user_error("no space left to write"), module.explain_full_disk(empty.folder):
        empty.fill(0, values)
    monkeypatch.undo()
    monkeypatch.setattr(module, "PART", 4)
    assert empty.done(0) == 4
    assert empty.fill(0, values)
    np.testing.assert_array_equal(empty.views(0), values(0, 0, 10)[0])


@pytest.mark.parametrize("kind", ["views", "answers"])
def test_a_damaged_file_names_itself(empty, user_error, kind):
    empty.fill(0, values)
    path = empty.folder / f"{kind}-000.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with user_error(f"cannot read .*{kind}-000.npy: delete"):
        getattr(empty, kind)(0)


def test_waiting_ends_when_the_view_is_whole_or_its_maker_fails(empty):
    asked = []

    def made_at_the_third_look():
        asked.append(1)
        if len(asked) == 3:
            empty.fill(0, values)

    empty.wait(0, made_at_the_third_look, seconds=0)
    assert len(asked) == 3

    def failed():
        raise RuntimeError("the maker failed")

    with pytest.raises(RuntimeError):
        empty.wait(1, failed, seconds=0)


def test_as_many_views_as_fit(user_error):
    """A view of 1,000 photographs of 100 px and answers of 50 takes 1,000 x (30,000 + 100) bytes: 30.1 MB."""
    bank = ViewBank({}, 1000, 100, 50)
    assert bank.bytes_per_view == 30_100_000
    assert views_within(bank, 14, 0.1) == 3
    assert views_within(bank, 2, 0.1) == 2
    with user_error("--bank-gb 0.03 does not hold one view of each of the 1000"):
        views_within(bank, 14, 0.03)


def test_unseen_views_come_first_then_those_used_least():
    numbers = [view_of_epoch(epoch, 5, seed=7) for epoch in range(20)]
    assert numbers[:5] == [0, 1, 2, 3, 4]
    for turn in range(4):
        assert sorted(numbers[5 * turn : 5 * turn + 5]) == [0, 1, 2, 3, 4]
    assert len({tuple(numbers[5 * turn : 5 * turn + 5]) for turn in range(4)}) > 1
