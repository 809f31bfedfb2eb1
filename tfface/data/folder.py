"""Data sets in folders: one subfolder per person, or a folder that a command wrote with its manifest.

`docs/reliability.md` says what is read and what is left out.
"""

import dataclasses
import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data import manifest
from tfface.data.dataset import FaceDataset, no_images
from tfface.errors import ImageError, UserError
from tfface.utils.cache import content_digests
from tfface.utils.files import OWN_PICTURE, digest_of, natural_key

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


IMAGE_SUFFIXES = _words(
    ".jpg .jpeg .jpe .jfif .jif .pjpeg .mpo .png .apng .bmp .dib .gif .webp .avif .avifs .jp2 .j2k .j2c .jpc .jpf .jpx"
    " .pbm .pgm .ppm .pnm .tif .tiff .ras"
)
"""Of files that the decoder reads."""
UNREAD_SUFFIXES = _words(
    ".heic .heif .hif .jxl .dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .psd .tga .pcx .sgi .qoi",
)
"""Of photographs that the decoder does not read: they fail, and are counted, as damaged ones are."""
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"\x00\x00\x00\x0cjP  ")
_BRANDS = (b"WEBP", b"avif", b"heic", b"heix", b"mif1", b"msf1")
_DEVICE_FOLDERS = _words(
    "@eadir @recycle @recently-snapshot @tmp #recycle #snapshot $recycle.bin recycler recycled lost+found __macosx"
    " .picasaoriginals .trash .trashes .@__thumb .appledouble .stversions .fseventsd .spotlight-v100 lost.dir found.000"
) | {"system volume information", "network trash folder", "temporary items"}
"""In lower case: the folders of network storage, operating systems and photo programs."""
_LOOKED_AT = 8
_NAMED = 3


@dataclass(frozen=True, eq=False)
class FolderFaces(FaceDataset):
    """Folder with one subfolder per person, read in place.

    Attributes:
        folder: the folder.
        digests: SHA-256 of each photograph when the folder was opened; empty where it could not be read. None at all:
            they are not compared.
    """

    folder: Path
    digests: Sequence[str] = field(default=(), repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "folder": self.folder.absolute()}

    def encoded(self, start: int = 0, stop: int | None = None) -> "tf.data.Dataset":
        import tensorflow as tf

        keys = self.keys[start:stop]
        if not keys:
            return no_images()
        data = tf.data.Dataset.from_tensor_slices(keys)

        def read(key: "tf.Tensor") -> "dict[str, tf.Tensor]":
            image = tf.numpy_function(self._read_or_nothing, [key], tf.string)
            return {"key": key, "image": tf.ensure_shape(image, ())}

        return data.map(read, tf.data.AUTOTUNE)

    def read(self, key: str) -> bytes:
        index = self.position(key)
        path, expected = self.folder / key, self.digests[index] if self.digests else None
        try:
            data = path.read_bytes()
        except OSError as error:
            kind = ImageError if expected == "" else UserError
            raise kind(f"cannot read {path}: {error.strerror}") from error
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            raise UserError(f"{path} is not as it was when {self.name} was opened: open it again, or run again")
        return data

    @property
    def unreadable(self) -> dict[int, str]:
        return {
            index: f"cannot be read ({_why_unreadable(self.folder / key)})"
            for index, (key, digest) in enumerate(zip(self.keys, self.digests or self.keys, strict=True))
            if not digest
        }

    def check_unchanged(self) -> None:
        if self._changed:
            raise UserError(self._changed[0])

    @functools.cached_property
    def _changed(self) -> list[str]:
        """Errors of photographs that changed, as this process met them."""
        return []

    def _read_or_nothing(self, key: bytes) -> bytes:
        """Read a photograph; one that cannot be read gives no bytes, which is no image, so that it fails alone."""
        try:
            return self.read(key.decode())
        except ImageError:
            return b""
        except UserError as error:
            self._changed.append(str(error))
            return b""

    def take(self, indices: np.ndarray, label: str) -> "FolderFaces":
        digests = [self.digests[index] for index in indices] if self.digests else ()
        return dataclasses.replace(self, **self._taken(indices, label), digests=digests)

    def _is_at_hand(self) -> bool:
        return any((self.folder / key).exists() for key in self.keys[:: max(1, len(self) // _LOOKED_AT)])


def open_folder(path: Path) -> FolderFaces:
    """Open a folder of faces: the first folder below it is the person, at any depth below that.

    Links are followed, those that lead back excepted. Hidden files, files of other kinds, folders of devices, folders
    that a command of tfface wrote and images of nobody (beside the person folders) are left out; all but the first two
    are counted in the log.

    Raises:
        UserError: no such folder, or no person in it has an image.
    """
    found = _look(path, "a folder with one subfolder of images per person")
    keys = [key for key in found.keys if "/" in key]
    loose = [key for key in found.keys if "/" not in key]
    if not keys:
        what = f"{len(loose)} images but no person's subfolder with images" if loose else "no images"
        raise UserError(f"{path} holds {what}: put each person's images into a subfolder of their own{found.hint()}")
    found.report()
    if loose:
        text = "images lie outside of any person's subfolder and are left out"
        logger.warning(f"{path}: {_listed(loose, text)}")
    return _told_of_twins(_folder_faces(path, keys))


def open_manifest(path: Path) -> FolderFaces:
    """Open a folder that a command wrote: its images and their people are those of its manifest.

    Raises:
        UserError: see `tfface.data.manifest.read`.
    """
    found = manifest.read(path)
    if not found.records:
        raise UserError(f"{path} holds no images: its {manifest.FILE} lists none")
    records = {record["file"]: record for record in found.records}
    keys = sorted(records, key=natural_key)
    faces = FolderFaces(
        name=f"folder:{path.resolve().name}",
        version=f"manifest-{found.digest}",
        keys=keys,
        identities=[records[key]["person"] for key in keys],
        boxes=None,
        folder=path,
        digests=[records[key]["sha256"] for key in keys],
        own_recipe="whole" if found.header.get("recipe") else None,
    )
    return _told_of_twins(faces)


def _told_of_twins(faces: FolderFaces) -> FolderFaces:
    """Return the data set; log photographs of one content, which make pairs of a photograph with itself."""
    places_of: dict[str, list[int]] = {}
    for index, digest in enumerate(faces.digests):
        places_of.setdefault(digest, []).append(index)
    twice: list[str] = []
    shared: list[str] = []
    for digest, places in places_of.items():
        if digest and len(places) > 1:
            alone = len({faces.identities[place] for place in places}) == 1
            (twice if alone else shared).append(" = ".join(faces.keys[place] for place in places[:2]))
    if twice:
        text = "photographs are there more than once under one person: a genuine pair of each has distance 0"
        logger.warning(f"{faces.folder}: {_listed(twice, text)}")
    if shared:
        text = "photographs are there under more than one person: an impostor pair of each has distance 0"
        logger.warning(f"{faces.folder}: {_listed(shared, text)}")
    return faces


def open_photographs(path: Path) -> FolderFaces:
    """Open every image below a folder; the person is the first folder, or nobody ("").

    Raises:
        UserError: no such folder, or no image in it.
    """
    found = _look(path, "a folder of images")
    if not found.keys:
        raise UserError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}){found.hint()}")
    found.report()
    return _folder_faces(path, found.keys)


def _folder_faces(path: Path, keys: list[str]) -> FolderFaces:
    keys = sorted(keys, key=_checked_key)
    digests = content_digests(path, keys, _digest)
    drawn = [key for key, digest in zip(keys, digests, strict=True) if digest == _DRAWN]
    if drawn:
        logger.warning(f"{path}: {_listed(drawn, 'pictures that tfface drew are left out')}")
    if len(drawn) == len(keys):
        raise UserError(f"{path} holds no photographs, only pictures that tfface drew ({drawn[0]})")
    kept = [(key, digest) for key, digest in zip(keys, digests, strict=True) if digest != _DRAWN]
    return FolderFaces(
        name=f"folder:{path.resolve().name}",
        version=f"files-{digest_of(kept)}",
        keys=[key for key, _ in kept],
        identities=[key.split("/")[0] if "/" in key else "" for key, _ in kept],
        boxes=None,
        folder=path,
        digests=[digest for _, digest in kept],
    )


_DRAWN = "drawn"


def _digest(path: Path) -> str:
    """Return a file's SHA-256, or that tfface drew it: a plot is no photograph, wherever it lies."""
    data = path.read_bytes()
    return _DRAWN if OWN_PICTURE in data[:200] else hashlib.sha256(data).hexdigest()


def _why_unreadable(path: Path) -> str:
    try:
        path.open("rb").close()
    except OSError as error:
        return str(error.strerror)
    return "it could not be when the folder was opened"


def _checked_key(key: str) -> tuple:
    try:
        key.encode()
    except UnicodeEncodeError:
        raise UserError(f"the file name {key!r} is not UTF-8: rename the file") from None
    return natural_key(key)


def _listed(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} {what} ({shown})"


@dataclass
class _Look:
    """A look through a folder: the photographs below it, and what is left out.

    Attributes:
        root: the folder.
        keys: photographs, as paths relative to it.
        left_out: why -> paths relative to it.
    """

    root: Path
    keys: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def report(self) -> None:
        """Log what is left out."""
        for why, names in self.left_out.items():
            logger.warning(f"{self.root}: {_listed(names, why)}")

    def hint(self) -> str:
        """Return what is left out, as the end of an error."""
        return "".join(f"; {_listed(names, why)}" for why, names in self.left_out.items())

    def leave(self, why: str, name: str) -> None:
        self.left_out.setdefault(why, []).append(name)

    def below(self, prefix: str, around: tuple[Any, ...], seen: set[Any]) -> None:
        """Look through a folder.

        Args:
            prefix: path of the folder relative to the root, with a `/` at its end; empty for the root.
            around: identities of the folders around it.
            seen: identities of the folders that were seen below the same folder of the root.
        """
        try:
            # What a folder holds itself comes before what it links to.
            entries = sorted(os.scandir(self.root / prefix), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            if not prefix:
                raise UserError(f"cannot read the folder {self.root}: {error.strerror}") from error
            self.leave("folders that cannot be read are left out", f"{prefix[:-1]}: {error.strerror}")
            return
        if prefix and manifest.is_output(self.root / prefix, {entry.name for entry in entries}):
            self.leave("folders that a command wrote are left out", prefix[:-1])
            return
        for entry in entries:
            name = prefix + entry.name
            if _is_folder(entry):
                self._folder(entry, name, around, seen if prefix else set())
            elif not entry.name.startswith("."):
                self._file(entry, name)

    def _folder(self, entry: os.DirEntry, name: str, around: tuple[Any, ...], seen: set[Any]) -> None:
        if entry.name.lower() in _DEVICE_FOLDERS or entry.name.lower().startswith(".trash-"):
            self.leave("folders of devices and bins are left out", name)
        elif entry.name.startswith("."):
            return
        elif (own := _identity(self.root / name)) in around:
            self.leave("links to a folder around them are left out", name)
        elif own not in seen:
            seen.add(own)
            self.below(f"{name}/", (*around, own), seen)

    def _file(self, entry: os.DirEntry, name: str) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in IMAGE_SUFFIXES or suffix in UNREAD_SUFFIXES:
            if _is_file_or_dangling(entry):
                self.keys.append(name)
        elif _holds_photograph(self.root / name):
            self.leave("files that hold a photograph and are not called one are left out", name)


def _look(path: Path, wanted: str) -> _Look:
    try:
        if not path.is_dir():
            raise UserError(f"{path} is not a folder: give {wanted}")
        own = _identity(path)
    except OSError as error:
        raise UserError(f"cannot read the folder {path}: {error.strerror}") from error
    found = _Look(path)
    found.below("", (own,), set())
    return found


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file_or_dangling(entry: os.DirEntry) -> bool:
    """Return True for a file or a link that leads nowhere; False for a socket, a pipe or a device."""
    try:
        return entry.is_file() or not Path(entry.path).exists()
    except OSError:
        return True


def _holds_photograph(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head.startswith(_MAGIC) or head[8:] in _BRANDS
