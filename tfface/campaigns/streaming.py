"""Trials in fixed batches: crops made on the fly, each batch's results on disk before the next begins."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from tfface.campaigns.batch import attack_batch
from tfface.campaigns.rows import COLUMNS, Rows, TrialStore, from_table
from tfface.campaigns.trial import Trial
from tfface.console import progress

EXAMPLES = 4
"""Attacked subjects of the first batch whose changes are kept as they are, for a picture; successes come first."""


def run_trial(trial: Trial) -> Rows:
    """Attacks all subjects, or takes from the cache what was attacked before."""
    store = TrialStore(trial)

    def compute(missing: Sequence[tuple[int, int]], save: Callable[[tuple[int, int], pa.Table], None]) -> None:
        total = len(store.ranges())
        label = f"{trial.label} on {trial.setting.embedder.preset.name}"
        for start, stop in progress(missing, total=total, done=total - len(missing), label=label, unit="batches"):
            batch = attack_batch(trial, np.arange(start, stop))
            save((start, stop), batch.table(examples=EXAMPLES if start == 0 else 0, pictures=trial.pictures))

    store.fill(compute)
    return from_table(pa.concat_tables(list(store.tables(COLUMNS))), trial.columns)
