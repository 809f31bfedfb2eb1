"""Matrices on disk: any slice, any order, and what a cut file is."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.errors import UserError
from tfface.utils import cache
from tfface.utils.cache import FlatRows, chunks_of, reordered, write_rows


def matrix(rows: int = 10, columns: int = 3) -> np.ndarray:
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)


def test_slices_are_those_of_the_array(tmp_path):
    found = write_rows(tmp_path / "x.f32", [matrix()[:4], matrix()[4:]], (10, 3))
    for rows in (slice(None), slice(2, 5), slice(9, 20), slice(4, 4), slice(0, 1)):
        np.testing.assert_array_equal(found[rows], matrix()[rows])
    np.testing.assert_array_equal(found.mapped(), matrix())
    assert len(found) == 10
    found[:1]  # opens the file, which does not go to another process
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found))[:], matrix())


def test_a_cut_or_absent_file_is_named(tmp_path):
    path = tmp_path / "x.f32"
    write_rows(path, [matrix()[:9]], (10, 3))
    with pytest.raises(UserError, match=r"x\.f32 is cut short"):
        FlatRows(path, (10, 3))[5:]
    with pytest.raises(UserError, match=r"cannot read .*y\.f32: No such file"):
        FlatRows(tmp_path / "y.f32", (10, 3))[5:]


@settings(max_examples=30)
@given(st.permutations(range(12)), st.integers(0, 12), st.integers(1, 5), st.booleans())
def test_any_order_is_written_as_indexing_gives_it(tmp_path_factory, order, kept, chunk, mapped):
    folder = tmp_path_factory.mktemp("rows")
    rows, order = matrix(12), np.array(order[:kept], np.int64)
    source = write_rows(folder / "source.f32", [rows], rows.shape).mapped() if mapped else rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CHUNK", chunk)
        assert [start for start, _ in chunks_of(source)] == list(range(0, 12, chunk))
        found = reordered(folder, source, order)
    np.testing.assert_array_equal(found[:], rows[order])


def test_a_file_is_named_by_its_content_and_written_once(tmp_path):
    first = reordered(tmp_path, matrix(), np.array([2, 0, 1]))
    stamp = first.path.stat().st_mtime_ns
    assert reordered(tmp_path, matrix(), np.array([2, 0, 1])).path.stat().st_mtime_ns == stamp
    other = [reordered(tmp_path, matrix() + 1, np.array([2, 0, 1])), reordered(tmp_path, matrix(), np.array([2, 1, 0]))]
    assert len({one.path for one in (first, *other)}) == 3
    first.path.write_bytes(b"cut")
    np.testing.assert_array_equal(reordered(tmp_path, matrix(), np.array([2, 0, 1]))[:], matrix()[[2, 0, 1]])
