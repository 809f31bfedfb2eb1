"""The view bank: views of all training photographs on disk, each with the teacher's answer.

View number K of all photographs is one file of bytes, `views-KKK.npy` (N, S, S, 3), and one of
answers, `answers-KKK.npy` (N, D) float16, which is written last: a number is whole when it is
there. Work in progress is kept by parts of 512 photographs, so a kill loses at most one part.
"""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from tfface.errors import UserError
from tfface.utils.files import atomic_write, cache_dir, digest_of, explain_full_disk, lock, write_json

PART = 512
"""Photographs in a part; a multiple of the batches that the teacher answers."""

Make = Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]
"""(view number, start, stop) -> views uint8 (stop - start, S, S, 3), the teacher's answers (stop - start, D)."""


class ViewBank:
    """Views and answers, named by everything that they depend on."""

    def __init__(self, fingerprint: dict[str, Any], rows: int, size: int, dimension: int, *, hints: int = 0) -> None:
        """
        Args:
            fingerprint: JSON-able: teacher's weights, recipe, data set version, seed, augmentation ...
            rows: training photographs, N.
            size: side of a view in pixels, S: the teacher's.
            dimension: of the teacher's answers, D.
            hints: how many of those, at their end, are no embedding but what `tfface.training.hints` says.
        """
        self.fingerprint = {**fingerprint, "rows": rows, "size": size, "dimension": dimension}
        self.fingerprint.update({"hints": hints} if hints else {})
        self.hints = hints
        self.rows, self.size, self.dimension = rows, size, dimension
        self.folder = cache_dir("views", digest_of(self.fingerprint))

    @property
    def bytes_per_view(self) -> int:
        """What one view number takes on disk."""
        return self.rows * (3 * self.size**2 + 2 * self.dimension)

    def ready(self, number: int) -> bool:
        """Whether a view number is whole."""
        return self._answers(number).exists()

    def views(self, number: int) -> np.ndarray:
        """uint8 (N, S, S, 3), mapped into memory: what is not read is not loaded.

        Raises:
            UserError: it is damaged.
        """
        return self._read(self._views(number), (self.rows, self.size, self.size, 3), map_it=True)

    def answers(self, number: int) -> np.ndarray:
        """float16 (N, D): unit vectors, and hints after them.

        Raises:
            UserError: they are damaged.
        """
        return self._read(self._answers(number), (self.rows, self.dimension))

    def fill(self, number: int, make: Make, *, wait_seconds: float = -1) -> bool:
        """Makes a view number, unless it is whole; goes on from the part that a kill left.

        Args:
            number: which.
            make: computes one part.
            wait_seconds: how long to wait for another process that grows this bank; below 0 for ever.

        Returns:
            Whether it is whole now: False where the other process is still at it.
        """
        if self.ready(number):
            return True
        guard = lock(self.folder / "growth")
        try:
            guard.acquire(timeout=wait_seconds)
        except filelock.Timeout:
            return False
        try:
            if not self.ready(number):
                self._make(number, make)
        finally:
            guard.release()
        return True

    def done(self, number: int) -> int:
        """Photographs of a view number that are made."""
        if self.ready(number):
            return self.rows
        return min(PART * len(list(self.folder.glob(f"part-{number:03d}-*.npy"))), self.rows)

    def wait(self, number: int, still_growing: Callable[[], None], *, seconds: float = 0.5) -> None:
        """Returns when a view number is whole; `still_growing` raises if nobody will make it."""
        while not self.ready(number):
            still_growing()
            time.sleep(seconds)

    def _make(self, number: int, make: Make) -> None:
        write_json(self.folder / "fingerprint.json", self.fingerprint)
        header = _header((self.rows, self.size, self.size, 3))
        stride = 3 * self.size**2
        with explain_full_disk(self._views(number)):
            self._views(number).touch()
        for start in range(0, self.rows, PART):
            if self._part(number, start).exists():
                continue
            stop = min(start + PART, self.rows)
            views, answers = make(number, start, stop)
            # Written, not mapped: a full disk is an error here, and a crash in a mapping.
            with explain_full_disk(self._views(number)), self._views(number).open("rb+") as file:
                file.write(header)
                file.seek(len(header) + start * stride)
                file.write(np.ascontiguousarray(views, np.uint8).tobytes())
            _save(self._part(number, start), answers.astype(np.float16))
        parts = [self._part(number, start) for start in range(0, self.rows, PART)]
        _save(self._answers(number), np.concatenate([np.load(part, allow_pickle=False) for part in parts]))
        for part in parts:
            part.unlink()

    def _read(self, path: Path, shape: tuple[int, ...], *, map_it: bool = False) -> np.ndarray:
        try:
            found = np.load(path, mmap_mode="r" if map_it else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"cannot read {path}: delete {self.folder} and run again ({error})") from error
        if found.shape != shape:
            raise UserError(f"{path} has shape {found.shape}, not {shape}: delete {self.folder} and run again")
        return found

    def _views(self, number: int) -> Path:
        return self.folder / f"views-{number:03d}.npy"

    def _answers(self, number: int) -> Path:
        return self.folder / f"answers-{number:03d}.npy"

    def _part(self, number: int, start: int) -> Path:
        return self.folder / f"part-{number:03d}-{start:07d}.npy"


def views_within(bank: ViewBank, wanted: int, gigabytes: float) -> int:
    """How many view numbers to make: as many as wanted, if they fit.

    Raises:
        UserError: not even one does.
    """
    fit = int(gigabytes * 1e9 // bank.bytes_per_view)
    if fit < 1:
        raise UserError(
            f"--bank-gb {gigabytes:g} does not hold one view of each of the {bank.rows} photographs "
            f"({bank.bytes_per_view / 1e9:.2f} GB): give more"
        )
    return min(wanted, fit)


def view_of_epoch(epoch: int, views: int, seed: int) -> int:
    """The view number of an epoch: those not yet seen come first, then always one that was used least.

    It depends on nothing but its arguments, so a resumed run sees the same views.
    """
    turn, place = divmod(epoch, views)
    return place if turn == 0 else int(np.random.default_rng([seed, turn]).permutation(views)[place])


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
