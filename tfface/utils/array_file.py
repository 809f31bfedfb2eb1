"""Matrices too large for memory: float32 rows in one flat file, read where they are needed.

Reading is by explicit offsets and not by a memory map, so that a process holds no more than it reads.
"""

import functools
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfface.errors import UserError
from tfface.utils.configured import fields_of
from tfface.utils.files import atomic_write

MOST_IN_MEMORY = 2**28
"""Bytes of a matrix up to which it is held in memory; a larger one stays on disk."""
CHUNK = 65_536
"""Rows read at once."""
_LEFT_OUT = -2  # no neighbour of the first place


@dataclass(frozen=True, eq=False)
class FlatRows:
    """Rows of a file of float32 numbers; a slice is read when it is indexed, by any thread.

    Attributes:
        path: the file.
        shape: rows and columns.
    """

    path: Path
    shape: tuple[int, int]

    def __getstate__(self) -> dict[str, object]:
        return fields_of(self)  # an open file stays in its process

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        found = np.empty((max(stop - start, 0), self.shape[1]), np.float32)
        place, data = start * self.shape[1] * 4, _bytes_of(found)
        while data:
            count = os.preadv(self._file, [data], place)
            if not count:
                raise UserError(f"{self.path} is cut short: delete it and run again")
            place, data = place + count, data[count:]
        return found

    @functools.cached_property
    def _file(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from error

    def mapped(self) -> np.ndarray:
        """Return all rows as a memory map."""
        return np.memmap(self.path, np.float32, "r", shape=self.shape)


def write_rows(path: Path, chunks: Iterable[np.ndarray], shape: tuple[int, int]) -> FlatRows:
    """Write rows that come in order, some at a time."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, np.float32).tobytes())
    return FlatRows(path, shape)


def chunks_of(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over (first row, rows) in order, some at a time; a memory map is read past it."""
    source: np.ndarray | FlatRows = rows
    if isinstance(rows, np.memmap) and rows.offset == 0 and rows.dtype == np.float32 and rows.ndim == 2:
        whole = np.prod(rows.shape) * 4 == Path(str(rows.filename)).stat().st_size
        source = FlatRows(Path(str(rows.filename)), (rows.shape[0], rows.shape[1])) if whole else rows
    for start in range(0, len(rows), CHUNK):
        yield start, source[start : start + CHUNK]


def reordered(folder: Path, rows: np.ndarray, order: np.ndarray) -> FlatRows:
    """Write `rows[order]` to a file named by its content, unless it is there.

    Args:
        folder: folder of the file.
        rows: (N, D) float32.
        order: (M,) places in `rows`, each at most once.
    """
    digest = hashlib.sha256(np.ascontiguousarray(order, np.int64).tobytes())
    for _, chunk in chunks_of(rows):
        digest.update(np.ascontiguousarray(chunk, np.float32).tobytes())
    shape = (len(order), rows.shape[1])
    path = (folder / f"rows-{digest.hexdigest()[:32]}.f32").absolute()
    if not path.exists() or path.stat().st_size != shape[0] * shape[1] * 4:
        with atomic_write(path) as temporary, temporary.open("rb+") as file:
            file.truncate(shape[0] * shape[1] * 4)
            _scatter(file.fileno(), rows, order)
    return FlatRows(path, shape)


def _scatter(file: int, rows: np.ndarray, order: np.ndarray) -> None:
    """Write each row to its place; rows that stay neighbours go together."""
    places = np.full(len(rows), _LEFT_OUT, np.int64)
    places[order] = np.arange(len(order))
    width = rows.shape[1] * 4
    for start, chunk in chunks_of(rows):
        own = places[start : start + len(chunk)]
        data = _bytes_of(np.ascontiguousarray(chunk, np.float32))
        edges = [0, *(np.flatnonzero(np.diff(own) != 1) + 1).tolist(), len(own)]
        for first, last in itertools.pairwise(edges):
            if own[first] >= 0:
                _write_all(file, data[first * width : last * width], int(own[first]) * width)


def _bytes_of(rows: np.ndarray) -> memoryview:
    return rows.reshape(-1).view(np.uint8).data


def _write_all(file: int, data: memoryview, place: int) -> None:
    while data:
        count = os.pwrite(file, data, place)
        place, data = place + count, data[count:]
