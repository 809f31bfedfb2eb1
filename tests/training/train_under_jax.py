"""Run with KERAS_BACKEND=jax: trains a student through `fitting.train`; prints the first and the last cosine."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import keras
import numpy as np
from conftest import small_network

from tfface.training.checkpoints import Checkpoints
from tfface.training.config import Settings
from tfface.training.fitting import train
from tfface.training.validation import Validation
from tfface.training.view_bank import EpochViews, ViewBank
from tfface.utils.files import cache_dir


def make(number: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    answers = np.random.default_rng(number).standard_normal((stop - start, 4))
    answers /= np.linalg.norm(answers, axis=1, keepdims=True)
    answers[:, 3] = np.abs(answers[:, 3])  # three colours tell the rest
    shades = np.rint(127 + 120 * answers[:, :3]).astype(np.uint8)
    return np.broadcast_to(shades[:, None, None], (stop - start, 8, 8, 3)), answers


assert keras.backend.backend() == "jax"
bank = ViewBank({"what": "colours"}, 16, 8, 4)
bank.fill(0, make)
images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
validation = Validation(images, np.arange(15) % 2 == 0)
for epochs in (10, 30):  # the second goes on from nothing: its schedule is another
    settings = Settings(
        epochs=epochs, batch_size=8, views=1, warmup=1, learning_rate=0.03, relation_weight=1.0, average_epochs=3
    )
    checkpoints = Checkpoints(cache_dir("training", str(epochs)), settings.record())
    batches = EpochViews(bank, views=1, batch_size=8, seed=0)
    train(small_network(), batches, validation, checkpoints, settings, wait_for_view=lambda number: None)
print(checkpoints.history[0]["cosine"], checkpoints.history[-1]["cosine"])
