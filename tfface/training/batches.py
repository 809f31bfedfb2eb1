"""Batches of one epoch from the view bank."""

from typing import Any

import keras
import numpy as np

from tfface.training.bank import ViewBank, view_of_epoch
from tfface.training.centers import drawn_to_centers
from tfface.training.jitter import jittered


class EpochViews(keras.utils.PyDataset):
    """(views uint8, answers float32) of one epoch, in an order drawn from (seed, epoch).

    Every batch has the same size, since the relations inside a batch depend on it; the few
    photographs left over are others in each epoch.
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
            bank: what to read.
            views: how many view numbers to go through.
            batch_size: photographs in a batch; at most as many as there are.
            seed: of the order.
            epoch: the one to begin with; its view number must be whole.
            jitter: how much each view is changed once more, as `tfface.training.jitter` says.
            people: (N,) int, whose photograph each is, from 0 without gaps; wanted by `center_weight` alone.
            center_weight: how far answers are drawn to their person's, as `tfface.training.centers` says.
            **options: of `keras.utils.PyDataset`.
        """
        super().__init__(**options)
        self.bank, self.views, self.batch_size, self.seed = bank, views, batch_size, seed
        self.jitter = jitter
        self.people, self.center_weight = people, center_weight
        self.start(epoch)

    def start(self, epoch: int) -> None:
        """Turns to an epoch, whose view number must be whole."""
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
