"""Views of all training photographs on disk, each with the teacher's embedding, and batches of them.

View number K of all photographs is one file of bytes, `views-KKK.npy` (N, S, S, 3), and one of answers,
`answers-KKK.npy` (N, D) float16, which is written last: a number is complete when it is there. Work in progress is
saved by parts of 512 photographs, so a kill loses at most one part.
"""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import keras
import numpy as np

from tfface.errors import UserError
from tfface.metrics.distances import unit
from tfface.training.views import jittered
from tfface.utils.files import atomic_write, cache_dir, digest_of, explain_full_disk, lock, write_json

PART = 512
"""Photographs in a part; a multiple of the batches that the teacher embeds."""

Make = Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]
"""(view number, start, stop) -> views uint8 (stop - start, S, S, 3), the teacher's answers (stop - start, D)."""


class ViewBank:
    """Views and the teacher's answers on disk, named by everything that they depend on."""

    def __init__(self, fingerprint: dict[str, Any], rows: int, size: int, dimension: int, *, hints: int = 0) -> None:
        """
        Args:
            fingerprint: JSON-able: teacher's weights, recipe, data set version, seed, augmentation ...
            rows: training photographs, N.
            size: side of a view in pixels, S: the teacher's.
            dimension: length of the teacher's answers, D.
            hints: number of values at the end of an answer that are features, no embedding (`tfface.training.losses`).
        """
        self.fingerprint = {**fingerprint, "rows": rows, "size": size, "dimension": dimension}
        self.fingerprint.update({"hints": hints} if hints else {})
        self.hints = hints
        self.rows, self.size, self.dimension = rows, size, dimension
        self.folder = cache_dir("views", digest_of(self.fingerprint))

    @property
    def bytes_per_view(self) -> int:
        """Size of one view number on disk."""
        return self.rows * (3 * self.size**2 + 2 * self.dimension)

    def ready(self, number: int) -> bool:
        """Tell whether a view number is complete."""
        return self._answers(number).exists()

    def views(self, number: int) -> np.ndarray:
        """Map a view number into memory; only what is read is loaded.

        Returns:
            uint8 (N, S, S, 3).

        Raises:
            UserError: the file is damaged.
        """
        return self._read(self._views(number), (self.rows, self.size, self.size, 3), map_it=True)

    def answers(self, number: int) -> np.ndarray:
        """Read the teacher's answers to a view number.

        Returns:
            float16 (N, D): unit vectors, and hints after them.

        Raises:
            UserError: the file is damaged.
        """
        return self._read(self._answers(number), (self.rows, self.dimension))

    def fill(self, number: int, make: Make, *, wait_seconds: float = -1) -> bool:
        """Make a view number, unless it is complete; a killed run resumes at its last part.

        Args:
            number: of the view.
            make: computes one part.
            wait_seconds: time to wait for another process that fills this bank; below 0 for ever.

        Returns:
            True if it is complete now; False where the other process is still at work.
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
        """Count the photographs of a view number that are made."""
        if self.ready(number):
            return self.rows
        return min(PART * len(list(self.folder.glob(f"part-{number:03d}-*.npy"))), self.rows)

    def wait(self, number: int, check: Callable[[], None], *, seconds: float = 0.5) -> None:
        """Wait until a view number is complete; `check` raises if nobody will make it."""
        while not self.ready(number):
            check()
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


class EpochViews(keras.utils.PyDataset):
    """(views uint8, answers float32) of one epoch, in an order drawn from (seed, epoch).

    Every batch has the same size, since the relations inside a batch depend on it; the few photographs left over are
    others in each epoch.
    """

    def __init__(
        self,
        bank: ViewBank,
        *,
        views: int,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        jitter: float = 0.0,
        people: np.ndarray | None = None,
        center_weight: float = 0.0,
        **options: Any,
    ) -> None:
        """
        Args:
            bank: views and answers.
            views: number of views to go through.
            batch_size: photographs in a batch; at most as many as there are.
            seed: of the order.
            epoch: first epoch; its view number must be complete.
            jitter: size of the random changes per epoch (`tfface.training.views.jittered`).
            people: (N,) int, the person on each photograph, from 0 without gaps; needed by `center_weight` alone.
            center_weight: weight of the person's center in the answers (`drawn_to_centers`).
            **options: of `keras.utils.PyDataset`.
        """
        super().__init__(**options)
        self.bank, self.views, self.batch_size, self.seed = bank, views, batch_size, seed
        self.jitter = jitter
        self.people, self.center_weight = people, center_weight
        self.start(epoch)

    def start(self, epoch: int) -> None:
        """Turn to an epoch, whose view number must be complete."""
        number = view_of_epoch(epoch, self.views, self.seed)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.bank.rows)
        answers = self.bank.answers(number)
        if self.center_weight:
            assert self.people is not None, "centers are of people"
            drawn, hints = np.split(answers, [self.bank.dimension - self.bank.hints], axis=1)
            answers = np.hstack([drawn_to_centers(drawn, self.people, self.center_weight), hints])
        # One assignment, so that a thread that reads ahead sees either epoch wholly.
        self._epoch = (self.bank.views(number), answers, order, epoch)

    def __len__(self) -> int:
        return self.bank.rows // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        views, answers, order, epoch = self._epoch
        # In the order of the file: the disk is read forwards, and in a batch the order is nothing.
        rows = np.sort(order[index * self.batch_size : (index + 1) * self.batch_size])
        seen = views[rows]
        if self.jitter:
            seen = jittered(seen, self.jitter, np.random.default_rng([self.seed, epoch, index]))
        return seen, answers[rows].astype(np.float32)


def views_within(bank: ViewBank, wanted: int, gigabytes: float) -> int:
    """Return the number of views to make: as many as wanted, if they fit on disk.

    Args:
        bank: for the views.
        wanted: number of views.
        gigabytes: disk space for them.

    Raises:
        UserError: not even one view of each photograph fits.
    """
    fit = int(gigabytes * 1e9 // bank.bytes_per_view)
    if fit < 1:
        raise UserError(
            f"`bank_gb` {gigabytes:g} does not hold one view of each of the {bank.rows} photographs "
            f"({bank.bytes_per_view / 1e9:.2f} GB): give more",
            parameter="bank_gb",
        )
    return min(wanted, fit)


def view_of_epoch(epoch: int, views: int, seed: int) -> int:
    """Return the view number of an epoch: unseen ones first, then always one that was used least.

    It depends on nothing but its arguments, so a resumed run sees the same views.
    """
    turn, place = divmod(epoch, views)
    return place if turn == 0 else int(np.random.default_rng([seed, turn]).permutation(views)[place])


def drawn_to_centers(answers: np.ndarray, people: np.ndarray, weight: float) -> np.ndarray:
    """Move the teacher's answers towards the mean of their person's, and scale them to length 1 again.

    The answers to photographs of one person lie around a center; what sets them apart from it (pose, light, the view's
    distortions) is what verification should not depend on. It is the idea of center loss (Wen et al. 2016,
    https://doi.org/10.1007/978-3-319-46478-7_31), with centers of the teacher instead of learned ones.

    Args:
        answers: (N, D) unit vectors.
        people: (N,) int, the person on each photograph; from 0, without gaps.
        weight: 0 leaves them as they are, at 1 all of one person are the same.

    Returns:
        float32 (N, D). A person with one photograph keeps its answer.
    """
    answers = answers.astype(np.float32)
    sums = np.zeros((people.max() + 1, answers.shape[1]), np.float32)
    np.add.at(sums, people, answers)
    return unit((1 - weight) * answers + weight * unit(sums)[people])


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
