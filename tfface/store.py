"""Rows computed once and kept: Parquet shards in a folder, resumable, safe between processes.

Both detected boxes and embeddings are such rows, one an image. A shard covers a fixed range of
rows and appears on disk whole or not at all, so a killed run goes on at its first missing shard
and computes the same batches that an undisturbed run would.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from tfface.console import note
from tfface.errors import UserError
from tfface.files import atomic_write, cache_dir, digest_of, lock, write_json

SHARD_ROWS = 512
"""Rows in a shard; a multiple of every batch size in use, so that batches never straddle shards."""


class Store:
    """The rows of one computation, named by everything that its result depends on."""

    def __init__(self, kind: str, fingerprint: dict[str, Any], rows: int, *, shard_rows: int = SHARD_ROWS) -> None:
        """
        Args:
            kind: the folder of the cache that it lives in (`embeddings`, `boxes`).
            fingerprint: JSON-able; all that the rows depend on (weights, recipe, data set ...).
            rows: how many rows there will be.
            shard_rows: rows in a shard.
        """
        self.fingerprint = {**fingerprint, "rows": rows, "shard_rows": shard_rows}
        self.rows = rows
        self.shard_rows = shard_rows
        self.folder = cache_dir(kind, digest_of(self.fingerprint))

    def ranges(self) -> list[tuple[int, int]]:
        """The row ranges (start, stop) of the shards, in order."""
        return [(start, min(start + self.shard_rows, self.rows)) for start in range(0, self.rows, self.shard_rows)]

    def missing(self) -> list[tuple[int, int]]:
        """The ranges whose shard is not on disk."""
        return [part for part in self.ranges() if not self._shard(part).exists()]

    def fill(
        self, compute: Callable[[Sequence[tuple[int, int]], Callable[[tuple[int, int], pa.Table], None]], None]
    ) -> None:
        """Computes what is missing: `compute(missing, save)` calls `save(range, table)` for each.

        A second process that needs the same rows waits for the first and finds them done.
        """
        if not self.missing():
            return
        guard = lock(self.folder / "rows")
        try:
            guard.acquire(timeout=0)
        except filelock.Timeout:
            note(f"another process prepares {self.folder.parent.name}/{self.folder.name}: waiting for it")
            guard.acquire()
        try:
            missing = self.missing()
            if missing:
                write_json(self.folder / "fingerprint.json", self.fingerprint)
                compute(missing, self._save)
        finally:
            guard.release()

    def read(self) -> pa.Table:
        """All rows, in order.

        Raises:
            UserError: a shard is missing, or is not one.
        """
        tables = []
        for part in self.ranges():
            path = self._shard(part)
            try:
                table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"cannot read {path}: delete it and run again ({error})") from error
            if table.num_rows != part[1] - part[0]:
                raise UserError(f"{path} has {table.num_rows} rows, not {part[1] - part[0]}: delete it and run again")
            tables.append(table)
        return pa.concat_tables(tables)

    def _shard(self, part: tuple[int, int]) -> Path:
        return self.folder / f"rows-{part[0]:08d}-{part[1]:08d}.parquet"

    def _save(self, part: tuple[int, int], table: pa.Table) -> None:
        if table.num_rows != part[1] - part[0]:
            raise ValueError(f"{table.num_rows} rows for the range {part}")
        with atomic_write(self._shard(part)) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)
