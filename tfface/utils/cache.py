"""Cache of computed rows: Parquet shards in a folder, resumable, safe between processes.

Boxes, embeddings, attacks and counted pairs are such rows. A shard covers a fixed range of rows and appears on disk
whole or not at all, its SHA-256 beside it, so a killed run goes on at its first missing shard and computes the same
batches that an undisturbed run would.
"""

import functools
import hashlib
import io
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfface.errors import UserError
from tfface.utils.files import atomic_write, cache_dir, digest_of, fields_of, lock, read_json, sha256_of, write_json
from tfface.utils.progress import progress

logger = logging.getLogger(__name__)

SHARD_ROWS = 512
"""Rows in a shard; a multiple of every batch size in use, so that batches never straddle shards."""

Range = tuple[int, int]
"""The first row and the one after the last."""


class Fingerprinted(Protocol):
    """A model, data set or the like that says what cached results depend on."""

    def fingerprint(self) -> dict[str, Any]: ...


def cached(kind: str, fingerprint: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the cached result of a computation too small for a store of rows, computed first if absent.

    Args:
        kind: folder of the cache.
        fingerprint: JSON-able; all that the result depends on.
        compute: the computation, JSON-able.
    """
    path = cache_dir(kind) / f"{digest_of(fingerprint)}.json"
    with lock(path):
        if not path.exists():
            write_json(path, compute())
    found: dict[str, Any] = read_json(path)
    return found


_CLOCK_TICK = 2 * 10**9
"""Nanoseconds in which some disks tell two changes of a file apart."""
_DIGESTS = pa.schema(
    [
        ("name", pa.string()),
        *((fact, pa.int64()) for fact in ("size", "mtime", "ctime", "inode")),
        ("digest", pa.string()),
    ]
)


def content_digests(folder: Path, names: Sequence[str], digest: Callable[[Path], str]) -> list[str]:
    """Return a digest of each file's content; of a file that is as it was the last time, from the cache.

    A file is as it was while its size, inode and times of change (mtime, and ctime, which no program can set back) are.
    One that changed within the clock's tick before it was read is read again the next time.

    Args:
        folder: folder of the files.
        names: of files, relative to the folder.
        digest: reads a file; raises OSError where it cannot be read.

    Returns:
        Digests; empty for files that cannot be read.
    """
    known = _known_digests(folder)

    def one(name: str) -> tuple[tuple[int, ...], str, bool]:
        try:
            state = _state(folder / name)
            if (found := known.get((name, *state))) is not None:
                return state, found, True
            started = time.time_ns()
            found = digest(folder / name)
            settled = state == _state(folder / name) and max(state[1:3]) < started - _CLOCK_TICK
        except OSError:
            return (), "", False
        return state, found, settled

    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(one, names))
    kept = {(name, *row[0]): row[1] for name, row in zip(names, rows, strict=True) if row[2]}
    # Another way to look at the folder sees more of it, or less.
    asked = set(names)
    others = {state: found for state, found in known.items() if state[0] not in asked}
    if len(others) <= len(names):
        kept |= others
    if kept != known:
        _keep_digests(folder, kept)
    return [found for _, found, _ in rows]


def _state(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & (2**63 - 1)


def _digests_file(folder: Path) -> Path:
    return cache_dir("folders") / f"{digest_of(str(folder.resolve()))}.parquet"


def _known_digests(folder: Path) -> dict[tuple, str]:
    try:
        columns = pq.read_table(_digests_file(folder), schema=_DIGESTS, partitioning=None).to_pydict()
    except (UserError, OSError, pa.ArrowException):
        return {}
    *state, digests = columns.values()
    return dict(zip(zip(*state, strict=True), digests, strict=True))


def _keep_digests(folder: Path, kept: dict[tuple, str]) -> None:
    columns = zip(*((*state, found) for state, found in kept.items()), strict=True) if kept else [()] * len(_DIGESTS)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, _DIGESTS.types, strict=True)]
    try:
        with atomic_write(_digests_file(folder)) as temporary:
            pq.write_table(pa.table(arrays, schema=_DIGESTS), temporary)
    except (UserError, OSError) as error:
        logger.debug(f"digests of {folder} are not kept: {error}")


class Store:
    """Rows of one computation, named by everything that its result depends on."""

    def __init__(self, kind: str, fingerprint: dict[str, Any], rows: int, *, shard_rows: int = SHARD_ROWS) -> None:
        """
        Args:
            kind: folder of the cache (`embeddings`, `boxes`).
            fingerprint: JSON-able; all that the rows depend on (weights, recipe, data set ...).
            rows: number of rows.
            shard_rows: number of rows in a shard.
        """
        self.fingerprint = {**fingerprint, "rows": rows, "shard_rows": shard_rows}
        self.rows = rows
        self.shard_rows = shard_rows
        # Whole, since a worker of a cluster may stand in another folder.
        self.folder = cache_dir(kind, digest_of(self.fingerprint)).absolute()

    def ranges(self, start: int = 0, stop: int | None = None) -> list[Range]:
        """Return the row ranges (start, stop) of the shards that hold rows from `start` to `stop`, in order."""
        stop = self.rows if stop is None else stop
        first = start - start % self.shard_rows
        return [(row, min(row + self.shard_rows, self.rows)) for row in range(first, stop, self.shard_rows)]

    def has(self, part: Range) -> bool:
        """Return True if a range's shard is on disk."""
        return self._shard(part).exists()

    def missing(self) -> list[Range]:
        """Return the ranges whose shard is not on disk."""
        return [part for part in self.ranges() if not self.has(part)]

    def fill(self, compute: Callable[[Sequence[Range], Callable[[Range, pa.Table], None]], None]) -> None:
        """Compute the missing ranges: `compute(missing, save)` calls `save(range, table)` for each.

        A second process that needs the same rows waits for the first and finds them done.
        """
        if not self.missing():
            return
        guard = lock(self.folder / "rows")
        try:
            guard.acquire(timeout=0)
        except filelock.Timeout:
            logger.warning(f"another process prepares {self.folder.parent.name}/{self.folder.name}: waiting for it")
            guard.acquire()
        try:
            missing = self.missing()
            if missing:
                write_json(self.folder / "fingerprint.json", self.fingerprint)
                compute(missing, self.save)
        finally:
            guard.release()

    def compute_missing(self, compute: Callable[[int, int], pa.Table], *, label: str, unit: str = "batches") -> None:
        """Compute the missing shards one after the other, with progress.

        Args:
            compute: makes the rows from `start` to before `stop`.
            label: title of the progress, as a gerund.
            unit: plural of a shard.
        """

        def fill(missing: Sequence[Range], save: Callable[[Range, pa.Table], None]) -> None:
            total = len(self.ranges())
            for part in progress(missing, total=total, done=total - len(missing), label=label, unit=unit):
                save(part, compute(*part))

        self.fill(fill)

    def read(self, start: int = 0, stop: int | None = None) -> pa.Table:
        """Return the rows, in order.

        Args:
            start: first row.
            stop: row after the last; None for the end.

        Raises:
            UserError: a shard is missing or damaged.
        """
        table = pa.concat_tables(self.tables(start=start, stop=stop))
        stop = self.rows if stop is None else stop
        return table if (start, stop) == (0, self.rows) else table.slice(start % self.shard_rows, stop - start)

    def tables(
        self, columns: Sequence[str] | None = None, *, start: int = 0, stop: int | None = None
    ) -> Iterator[pa.Table]:
        """Iterate over the shards, so that they never stand in memory together.

        Args:
            columns: names of columns; None for all.
            start: first row.
            stop: row after the last; None for the end.

        Raises:
            UserError: a shard is missing or damaged.
        """
        return (self._table(part, columns) for part in self.ranges(start, stop))

    def save(self, part: Range, table: pa.Table) -> None:
        """Write a range's shard, after the file with its hash: a shard that is there has one."""
        if table.num_rows != part[1] - part[0]:
            raise ValueError(f"{table.num_rows} rows for the range {part}")
        with atomic_write(self._shard(part)) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)
            with atomic_write(self._hash(part)) as file:
                file.write_text(sha256_of(temporary) + "\n")

    def _table(self, part: Range, columns: Sequence[str] | None) -> pa.Table:
        path = self._shard(part)
        try:
            # Of some columns each page proves itself; pictures in others are not read for it.
            source = path if columns else io.BytesIO(path.read_bytes())
            table = pq.read_table(source, columns=columns, partitioning=None, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"cannot read {path}: delete it and run again ({error})") from error
        if table.num_rows != part[1] - part[0]:
            raise UserError(f"{path} has {table.num_rows} rows, not {part[1] - part[0]}: delete it and run again")
        if isinstance(source, io.BytesIO) and not self._is_as_written(part, source):
            raise UserError(f"cannot read {path}: delete it and run again (it is not what was written)")
        return table

    def _is_as_written(self, part: Range, data: io.BytesIO) -> bool:
        try:
            expected = self._hash(part).read_text().strip()
        except FileNotFoundError:
            return True  # an older version wrote none
        return hashlib.sha256(data.getbuffer()).hexdigest() == expected

    def _shard(self, part: Range) -> Path:
        return self.folder / f"rows-{part[0]:08d}-{part[1]:08d}.parquet"

    def _hash(self, part: Range) -> Path:
        return self._shard(part).with_suffix(".sha256")


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
