"""Filling a store: whole pieces, what was done already, and rows that must be given up."""

from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfface.distributed import rows
from tfface.distributed.executor import LOCAL
from tfface.distributed.rows import Piece, RowJob, fill, pieces
from tfface.errors import UserError
from tfface.utils.cache import Store


@dataclass(frozen=True, eq=False)
class Squares(RowJob):
    store: Store
    bad: tuple[int, ...] = ()
    asked: list = field(default_factory=list)

    def prepare(self):
        self.asked.append("prepare")

    def compute(self, parts, given_up, save):
        for start, stop in parts:
            self.asked.append((start, stop))
            if any(start <= row < stop and row not in given_up for row in self.bad):
                raise ArithmeticError(f"cannot do {start} to {stop}")
            save((start, stop), pa.table({"square": [row * row for row in range(start, stop)]}))
            yield stop - start


def store(rows: int = 32, shard_rows: int = 8) -> Store:
    return Store("things", {"name": "squares"}, rows, shard_rows=shard_rows)


SQUARES = [row * row for row in range(32)]


def test_here_all_is_one_piece_after_one_preparation():
    job = Squares(store())
    fill(job, label="squaring")
    assert job.asked == ["prepare", (0, 8), (8, 16), (16, 24), (24, 32)]
    assert job.store.read()["square"].to_pylist() == SQUARES
    again = Squares(store())
    fill(again, label="squaring")
    assert again.asked == []


def test_here_an_error_is_the_caller_s():
    with pytest.raises(ArithmeticError, match="cannot do 8 to 16"):
        fill(Squares(store(), bad=(9,)), label="squaring")
    assert store().missing() == [(8, 16), (16, 24), (24, 32)]


def test_rows_that_fail_are_found_by_halving_and_the_rest_is_done(giving_up, capsys):
    """Of (8, 16) the halves, of (8, 12) the halves, of (8, 10): row 9 alone; of (24, 32) likewise rows 30 and 31."""
    job, executor = Squares(store(), bad=(9, 30, 31)), giving_up()
    fill(job, label="squaring", executor=executor)
    assert job.store.read()["square"].to_pylist() == SQUARES
    trials = [item.parts[0] for item, _ in executor.items if item.trial]
    assert trials[:4] == [(8, 12), (12, 16), (24, 28), (28, 32)]
    assert {(9, 10), (30, 31), (31, 32)} <= set(trials)
    last = [item for item, apart in executor.items[-2:] if apart]
    assert [(item.parts, item.given_up) for item in last] == [
        (((8, 16),), {9: "cannot do 9 to 10"}),
        (((24, 32),), {30: "cannot do 30 to 31", 31: "cannot do 31 to 32"}),
    ]
    assert capsys.readouterr().err.splitlines() == [
        "tfface: row 9 is given up: cannot do 9 to 10",
        "tfface: row 30 is given up: cannot do 30 to 31",
        "tfface: row 31 is given up: cannot do 31 to 32",
    ]


def test_what_failed_by_chance_is_done_again_and_nothing_is_given_up(giving_up, capsys):
    job, executor = Squares(store()), giving_up(unlucky=2)
    fill(job, label="squaring", executor=executor)
    assert job.store.read()["square"].to_pylist() == SQUARES
    assert not any(item.trial for item, _ in executor.items)
    assert capsys.readouterr().err == ""


def test_a_retried_piece_skips_what_its_first_worker_saved():
    job = Squares(store())
    job.store.save((0, 8), pa.table({"square": SQUARES[:8]}))
    assert sum(job.open()(Piece(((0, 8), (8, 16))))) == 16
    assert job.asked == ["prepare", (8, 16)]


def test_too_many_failures_are_no_matter_of_rows(giving_up, monkeypatch):
    monkeypatch.setattr(rows, "MOST_GIVEN_UP", 3)
    with pytest.raises(UserError, match=r"more than 3 rows of .* fail: cannot do"):
        fill(Squares(store(), bad=tuple(range(32))), label="squaring", executor=giving_up())


def test_rows_that_belong_together_are_not_given_up(giving_up, monkeypatch):
    monkeypatch.setattr(Squares, "separable", False)
    with pytest.raises(UserError, match=r"1 parts of .* fail again and again: cannot do 8 to 16"):
        fill(Squares(store(), bad=(9,)), label="squaring", executor=giving_up())


@given(st.integers(0, 200), st.integers(1, 20), st.one_of(st.none(), st.integers(1, 9)))
def test_pieces_hold_every_shard_once_in_order_and_end_small(count, longest, together):
    missing = [(8 * number, 8 * number + 8) for number in range(count)]
    found = list(pieces(missing, longest, together))
    assert [part for piece in found for part in piece.parts] == missing
    sizes = [len(piece.parts) for piece in found]
    if together is None:
        assert len(found) == (count > 0)
    else:
        assert sizes == sorted(sizes, reverse=True)
        assert max(sizes, default=1) <= longest
        assert set(sizes[-together:]) <= {1}


def test_this_process_is_no_cluster():
    assert LOCAL.together is None
