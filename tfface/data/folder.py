"""Data sets in folders: one subfolder per person, or a folder that a command wrote with its manifest."""

import dataclasses
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data import manifest
from tfface.data.dataset import FaceDataset, no_images
from tfface.errors import UserError
from tfface.utils.files import digest_of, natural_key

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".pgm", ".tif", ".tiff"})
_LOOKED_AT = 8


@dataclass(frozen=True, eq=False)
class FolderFaces(FaceDataset):
    """Folder with one subfolder per person, read in place."""

    folder: Path

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "folder": self.folder.absolute()}

    def encoded(self, start: int = 0, stop: int | None = None) -> "tf.data.Dataset":
        import tensorflow as tf

        keys = self.keys[start:stop]
        if not keys:
            return no_images()
        data = tf.data.Dataset.from_tensor_slices((keys, [str(self.folder / key) for key in keys]))

        def read(key: "tf.Tensor", path: "tf.Tensor") -> "dict[str, tf.Tensor]":
            return {"key": key, "image": tf.ensure_shape(tf.numpy_function(_read_or_nothing, [path], tf.string), ())}

        return data.map(read, tf.data.AUTOTUNE)

    def read(self, key: str) -> bytes:
        path = self.folder / self.keys[self.position(key)]
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error

    def take(self, indices: np.ndarray, label: str) -> "FolderFaces":
        return dataclasses.replace(self, **self._taken(indices, label))

    def _is_at_hand(self) -> bool:
        return any((self.folder / key).exists() for key in self.keys[:: max(1, len(self) // _LOOKED_AT)])


def open_folder(path: Path) -> FolderFaces:
    """Open a folder of faces: the first folder below it is the person, at any depth below that.

    Hidden files, those of other kinds than images and images of nobody (beside the person
    folders) are left out; the last are counted on stderr.

    Raises:
        UserError: no such folder, or no person in it has an image.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: give a folder with one subfolder of images per person")
    loose = sum(_is_image(entry) for entry in path.iterdir() if entry.is_file())
    people = (entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    keys = [file.relative_to(path).as_posix() for person in people for file in _images_below(person)]
    if not keys:
        found = f"{loose} images but no person's subfolder with images" if loose else "no images"
        raise UserError(f"{path} holds {found}: put each person's images into a subfolder of their own")
    if loose:
        logger.warning(f"{path}: {loose} images lie outside of any person's subfolder and are left out")
    return _folder_faces(path, keys)


def open_manifest(path: Path) -> FolderFaces:
    """Open a folder that a command wrote: its images and their people are those of its manifest.

    Raises:
        UserError: see `tfface.data.manifest.read`.
    """
    found = manifest.read(path)
    if not found.records:
        raise UserError(f"{path} holds no images: its {manifest.FILE} lists none")
    people = {record["file"]: record["person"] for record in found.records}
    keys = sorted(people, key=natural_key)
    return FolderFaces(
        name=f"folder:{path.resolve().name}",
        version=f"manifest-{found.digest}",
        keys=keys,
        identities=[people[key] for key in keys],
        boxes=None,
        folder=path,
        own_recipe="whole" if found.header.get("recipe") else None,
    )


def open_photographs(path: Path) -> FolderFaces:
    """Open every image below a folder; the person is the first folder, or nobody ("").

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: give a folder of images")
    keys = [file.relative_to(path).as_posix() for file in _images_below(path)]
    if not keys:
        raise UserError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return _folder_faces(path, keys)


def _folder_faces(path: Path, keys: list[str]) -> FolderFaces:
    keys.sort(key=_checked_key)
    stats = [(path / key).stat() for key in keys]
    facts = [[key, stat.st_size, stat.st_mtime_ns] for key, stat in zip(keys, stats, strict=True)]
    return FolderFaces(
        name=f"folder:{path.resolve().name}",
        version=f"files-{digest_of(facts)}",
        keys=keys,
        identities=[key.split("/")[0] if "/" in key else "" for key in keys],
        boxes=None,
        folder=path,
    )


def _checked_key(key: str) -> tuple:
    try:
        key.encode()
    except UnicodeEncodeError:
        raise UserError(f"the file name {key!r} is not UTF-8: rename the file") from None
    return natural_key(key)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _images_below(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        # A person's folder may be a link; links further down are not followed, since they can loop.
        if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
            yield from _images_below(entry)
        elif _is_image(entry) and entry.is_file():
            yield entry


def _read_or_nothing(path: bytes) -> bytes:
    """Read a file; one that cannot be read gives no bytes, which is no image, so that it fails alone."""
    try:
        return Path(os.fsdecode(path)).read_bytes()
    except OSError as error:
        logger.warning(f"cannot read {os.fsdecode(path)}: {error.strerror}")
        return b""
