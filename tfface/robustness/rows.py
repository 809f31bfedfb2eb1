"""What became of each subject of a trial, and where it is kept."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tfface.robustness.trial import Trial
from tfface.utils.cache import Store

BATCH = 32
"""Subjects in a batch, and rows in a shard: a killed run loses at most one batch."""
SEARCH_BATCH = 64
"""The same where the smallest epsilon is searched for: an image that is done makes room for another."""


@dataclass(frozen=True, eq=False)
class TrialResults:
    """What became of each subject (N), at each of the trial's epsilons (E).

    Attributes:
        failed: (N,) why a photograph could not be cropped; empty where it could.
        clean: (N,) by how much the goal was reached before the attack; NaN where cropping failed.
        epsilon: (N, E) the budget; of a search the smallest that succeeded, infinite where none did.
        success: (N, E) bool.
        margin: (N, E) by how much the goal is reached; NaN where nothing was attacked.
        change: (N, E) the distance from the clean image, in epsilon's unit.
        vectors: (N, E, D) embeddings of the adversarial images; None with pairs.
    """

    failed: list[str]
    clean: np.ndarray
    epsilon: np.ndarray
    success: np.ndarray
    margin: np.ndarray
    change: np.ndarray
    vectors: np.ndarray | None

    @property
    def cropped(self) -> np.ndarray:
        """(N,) bool: all photographs of the subject could be cropped."""
        return np.array([not reason for reason in self.failed], bool)

    @property
    def already_wrong(self) -> np.ndarray:
        """(N,) bool: the model gave the attacker's answer before any attack."""
        return self.cropped & (self.clean > 0)

    @property
    def attacked(self) -> np.ndarray:
        """(N,) bool: those that rates are taken of."""
        return self.cropped & ~self.already_wrong


class TrialStore(Store):
    """The rows of a trial, one a subject."""

    def __init__(self, trial: Trial) -> None:
        size = SEARCH_BATCH if trial.minimal else BATCH
        super().__init__("attacks", trial.fingerprint(), len(trial.subjects), shard_rows=size)


COLUMNS = ["failed", "clean", "epsilon", "success", "margin", "change", "vectors"]
"""All but pictures."""


def from_table(table: pa.Table, columns: int) -> TrialResults:
    """The rows of stored tables.

    Args:
        table: of all subjects.
        columns: adversarial images of each.
    """

    def matrix(name: str) -> np.ndarray:
        flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(table.num_rows, columns)

    vectors = None
    if table.num_rows and table["vectors"].null_count == 0:
        flat = table["vectors"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        vectors = flat.reshape(table.num_rows, columns, -1)
    return TrialResults(
        table["failed"].to_pylist(),
        table["clean"].to_numpy(),
        matrix("epsilon"),
        matrix("success").astype(bool),
        matrix("margin"),
        matrix("change"),
        vectors,
    )
