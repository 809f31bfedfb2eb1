from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import layers

from tfface.data import FaceDataset, Pairs
from tfface.errors import UserError
from tfface.models._layers import UnitNorm
from tfface.training.view_bank import ViewBank


@dataclass(frozen=True, eq=False)
class ListedFaces(FaceDataset):
    """People and numbers of photographs, without any photograph."""

    listed: Pairs | None = None

    def encoded(self, start=0, stop=None):
        raise NotImplementedError

    def read(self, key):
        raise NotImplementedError

    def pairs(self, name):
        if self.listed is None:
            return super().pairs(name)
        assert name == "view2"
        return self.listed

    def take(self, indices, label):
        return ListedFaces(name=self.name, **self._taken(indices, label))


@pytest.fixture(scope="session")
def listed():
    """A data set of {person: photographs}."""

    def make(counts: dict[str, int], name: str = "made-up", pairs: Pairs | None = None) -> ListedFaces:
        keys = [f"{person}/{number}.jpg" for person, count in counts.items() for number in range(count)]
        return ListedFaces(name, "1", keys, [key.split("/")[0] for key in keys], None, pairs)

    return make


def small_network(size: int = 8, dimension: int = 4, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(6, 3, strides=2, use_bias=False)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Dense(dimension)(layers.Flatten()(x))
    return keras.Model(inputs, UnitNorm()(x))


@pytest.fixture(scope="session")
def network():
    """A network of 8 px in a few hundred weights."""
    return small_network


def unit_rows(random: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    vectors = random.standard_normal((rows, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def bank(cache):
    """16 photographs in 2 views of 8 px; the answer is the colour of a view, so that it can be learned."""
    filled = ViewBank({"what": "colours"}, 16, 8, 4)

    def make(number, start, stop):
        random = np.random.default_rng([number, start])
        answers = unit_rows(random, stop - start, 4)
        answers[:, 3] = np.abs(answers[:, 3])  # three colours tell the rest
        shades = np.rint(127 + 120 * answers[:, :3]).astype(np.uint8)
        return np.broadcast_to(shades[:, None, None], (stop - start, 8, 8, 3)), answers

    for number in range(2):
        filled.fill(number, make)
    return filled


@pytest.fixture
def hinted_bank(cache):
    """As `bank`, in one view; after each answer come two hints, which are its first values times 5 and 50."""
    filled = ViewBank({"what": "colours"}, 16, 8, 6, hints=2)

    def make(number, start, stop):
        answers = unit_rows(np.random.default_rng(start), stop - start, 4)
        answers[:, 3] = np.abs(answers[:, 3])
        shades = np.rint(127 + 120 * answers[:, :3]).astype(np.uint8)
        views = np.broadcast_to(shades[:, None, None], (stop - start, 8, 8, 3))
        return views, np.hstack([answers, answers[:, :2] * (5, 50)])

    filled.fill(0, make)
    return filled


@pytest.fixture
def user_error():
    def check(match):
        return pytest.raises(UserError, match=match)

    return check
