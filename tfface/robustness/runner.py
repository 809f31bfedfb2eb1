"""Trials in fixed batches: crops made on the fly, each batch's results on disk before the next begins."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tfface.data.crops import detect_faces
from tfface.distributed.executor import LOCAL, Executor
from tfface.distributed.rows import RowJob, Save, fill
from tfface.robustness.batch import attack_batch
from tfface.robustness.rows import COLUMNS, TrialResults, TrialStore, from_table
from tfface.robustness.trial import Trial
from tfface.utils.cache import Range

EXAMPLES = 4
"""Attacked subjects of the first batch whose changes are kept as they are, for a picture; successes come first."""


@dataclass(frozen=True, eq=False)
class _Attacking(RowJob):
    """What becomes of a trial's subjects, as rows of a store."""

    trial: Trial
    store: TrialStore

    longest = 1

    def units(self, part: Range) -> int:
        return 1

    def prepare(self) -> None:
        self.trial.context.dataset.check_at_hand()
        self.trial.context.victim(self.trial.subjects.goal)

    def compute(self, parts: Sequence[Range], given_up: Mapping[int, str], save: Save) -> Iterator[int]:
        for start, stop in parts:
            batch = attack_batch(self.trial, np.arange(start, stop), given_up)
            examples = EXAMPLES if start == 0 else 0
            save((start, stop), batch.table(examples=examples, pictures=self.trial.pictures))
            yield 1


def run_trial(trial: Trial, *, executor: Executor = LOCAL) -> TrialResults:
    """Attacks all subjects, or takes from the cache what was attacked before.

    Args:
        trial: the attack and its subjects.
        workers: who attacks.
    """
    store = TrialStore(trial)
    if store.missing():
        if trial.context.recipe.source == "mtcnn":
            detect_faces(trial.context.dataset, executor=executor)
        label = f"{trial.label} on {trial.context.embedder.preset.name}"
        fill(_Attacking(trial, store), label=label, unit="batches", executor=executor)
    return from_table(pa.concat_tables(list(store.tables(COLUMNS))), trial.columns)
