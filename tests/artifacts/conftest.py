"""Artifacts of the tiny embedder, made once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfface.artifacts.artifact import Artifact, open_artifact
from tfface.artifacts.making import Calibration, Order, make
from tfface.data import FolderFaces
from tfface.data.folder import open_folder
from tfface.preprocessing.images import recipe


@pytest.fixture(scope="session")
def some_faces(make_photo, tmp_path_factory) -> FolderFaces:
    """Three people of two photographs."""
    root = tmp_path_factory.mktemp("calibration") / "faces"
    for person in range(3):
        (root / f"p{person}").mkdir(parents=True)
        for number in range(2):
            data = cv2.imencode(".jpg", make_photo(person, number)[:, :, ::-1])[1]
            (root / f"p{person}" / f"{number}.jpg").write_bytes(data.tobytes())
    return open_folder(root)


@pytest.fixture(scope="session")
def make_order(tiny_embedder, some_faces) -> Callable[..., Order]:
    def build(format: str, quantization: str = "none", cut: str = "center-140") -> Order:
        return Order(tiny_embedder, recipe(cut), format, quantization, Calibration(some_faces, "anybody"))

    return build


@pytest.fixture(scope="session")
def made(make_order, tmp_path_factory) -> Callable[..., Artifact]:
    """Artifacts by format and quantisation; nobody may write into their folders."""
    out = tmp_path_factory.mktemp("artifacts")
    found: dict[tuple[str, str], Artifact] = {}

    def get(format: str, quantization: str = "none") -> Artifact:
        if (format, quantization) not in found:
            found[format, quantization] = make(make_order(format, quantization), out)
        return found[format, quantization]

    return get


@pytest.fixture
def copied(made, tmp_path) -> Callable[..., Artifact]:
    """A copy of an artifact with all beside it, to be spoiled."""

    def copy(format: str, quantization: str = "none") -> Artifact:
        path = made(format, quantization).path
        folder = Path(shutil.copytree(path.parent, tmp_path / path.parent.name))
        return open_artifact(folder / path.name)

    return copy


@pytest.fixture(scope="session")
def crops() -> np.ndarray:
    """float32 (4, 32, 32, 3) in [0, 1] that are bytes exactly."""
    pixels = np.random.default_rng(5).integers(0, 256, (4, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    return pixels.astype(np.float32) / 255
