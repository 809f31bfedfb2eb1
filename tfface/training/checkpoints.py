"""Checkpoints of a training: one an epoch, whole or absent, and never of another run."""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import keras
import numpy as np

from tfface.errors import UserError
from tfface.utils.files import atomic_write, lock, read_json, write_json

History = list[dict[str, float]]


class Checkpoints:
    """A training's folder: `state.json`, the last epoch's weights and optimizer, the best student.

    `state.json` is written last and names the files that belong to it, so a kill between two
    writes leaves the epoch before.
    """

    def __init__(self, folder: Path, run: dict[str, Any]) -> None:
        """
        Args:
            folder: of the files.
            run: JSON-able; all that the training depends on.

        Raises:
            UserError: the folder holds another run's.
        """
        self.folder, self.run = folder, run
        self._state: dict[str, Any] = {"history": [], "best": None, "stopped": False}
        if self._file.exists():
            self._state = read_json(self._file)
            self._refuse_others()

    @property
    def _file(self) -> Path:
        return self.folder / "state.json"

    @property
    def history(self) -> History:
        """One record an epoch."""
        return self._state["history"]

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def best_epoch(self) -> int | None:
        """The epoch that ranks highest, from 0; the first of equals."""
        return None if self._state["best"] is None else self._state["best"]["epoch"]

    @property
    def best_weights(self) -> Path:
        """The student's weights at that epoch."""
        return self.folder / self._state["best"]["weights"]

    @property
    def stopped(self) -> bool:
        """True where training stopped early."""
        return bool(self._state["stopped"])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lock other processes out of the same training.

        Raises:
            UserError: another process trains there.
        """
        guard = lock(self.folder / "training")
        try:
            guard.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                f"another process trains in {self.folder}: wait for it, or give another `work`", parameter="work"
            ) from None
        try:
            if self._file.exists():
                self._state = read_json(self._file)
            yield
        finally:
            guard.release()

    def restore(self, model: keras.Model) -> None:
        """Fill model and optimizer from the last epoch, if there was one.

        Raises:
            UserError: the checkpoint is damaged.
        """
        if not self.epochs:
            return
        read_arrays(self.folder / self._state["weights"], _state_of(model))

    def restore_best(self, student: keras.Model) -> None:
        """Fill a student with the weights of the best epoch.

        Raises:
            UserError: they are damaged.
        """
        read_arrays(self.best_weights, student.variables)

    def save(
        self,
        model: keras.Model,
        student: Sequence[keras.Variable],
        record: dict[str, float],
        *,
        stopped: bool = False,
    ) -> None:
        """Save an epoch.

        Args:
            model: with its optimizer.
            student: weights for a preset, in the order of the student's own.
            record: of the epoch; `rank` decides on the best one.
            stopped: this epoch is the last.
        """
        epoch = self.epochs
        best = self._state["best"]
        self.folder.mkdir(parents=True, exist_ok=True)
        latest = f"epoch-{epoch:04d}.npz"
        write_arrays(self.folder / latest, _arrays(_state_of(model)))
        if best is None or rank(record) > rank(self.history[best["epoch"]]):
            best = {"epoch": epoch, "weights": f"best-{epoch:04d}.npz"}
            write_arrays(self.folder / best["weights"], _arrays(student))
        self._state = {
            "run": self.run,
            "weights": latest,
            "best": best,
            "stopped": stopped,
            "history": [*self.history, record],
        }
        write_json(self._file, self._state)
        for path in self.folder.glob("*.npz"):
            if path.name not in (latest, best["weights"]):
                path.unlink()

    def _refuse_others(self) -> None:
        found = self._state.get("run", {})
        for key in sorted(set(found) | set(self.run)):
            if found.get(key) != self.run.get(key):
                raise UserError(
                    f"{self.folder} holds a checkpoint of another run ({key} {found.get(key)!r}, not "
                    f"{self.run.get(key)!r}): give another `work`, or repeat that run's options",
                    parameter="work",
                )


def rank(record: dict[str, float]) -> tuple[bool, float]:
    """Rank an epoch by its validation AUC; of a hardened student by the mean of its plain and its attacked accuracy.

    The accuracy at the best of all thresholds hangs on the few pairs around it, the AUC on all. Epochs recorded by
    earlier versions have no AUC, and are ranked by accuracy.

    An epoch on smaller views ranks below every one at the student's own size, which the student is for.
    """
    if "hard_accuracy" in record:
        value = (record["accuracy"] + record["hard_accuracy"]) / 2
    else:
        value = record.get("auc", record["accuracy"])
    return "small_input" not in record, value


def write_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Write arrays atomically, nothing pickled.

    Through memory: HDF5, which Keras writes, crashes the process when the disk is full.
    """
    buffer = io.BytesIO()
    np.savez(buffer, *arrays, allow_pickle=False)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_arrays(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Fill variables from such a file: all of them, or none.

    Raises:
        UserError: the file is damaged, or is not of these variables.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[f"arr_{index}"] for index in range(len(file.files))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"the checkpoint {path} is damaged: delete {path.parent} and run again ({error})") from error
    if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
        raise UserError(f"the checkpoint {path} is not of this network: delete {path.parent} and run again")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _state_of(model: keras.Model) -> list[keras.Variable]:
    """Return weights, seeds and optimizer: all that the next epoch depends on."""
    return [*model.variables, *model.optimizer.variables]


def _arrays(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]
