"""Labeled Faces in the Wild: 13,233 pictures of 5,749 people, with published lists of pairs.

The addresses and hashes of lfw.tgz, lfw-funneled.tgz and the pair lists (checksums.tsv) are those
that scikit-learn's `sklearn/datasets/_lfw.py` publishes; the MD5 of lfw-deepfunneled.tgz is
torchvision's (`torchvision/datasets/lfw.py`). The LFW authors' own host no longer answers.
"""

import gzip
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar

import tensorflow_datasets as tfds

from tfface.data.builder import FacesBuilder, PairList
from tfface.data.prepared import download
from tfface.errors import Unavailable, UserError
from tfface.hub import packages
from tfface.utils.files import cache_dir, md5_of, sha256_of

logger = logging.getLogger("tfface.datasets.lfw")

_FIGSHARE = "https://ndownloader.figshare.com/files/"
DEEPFUNNELED_MD5 = "68331da3eb755a505a502b5aacb3c201"
PAIR_FILES = "pairs.txt, pairsDevTrain.txt and pairsDevTest.txt"
# Configuration: archive, the folder that it unpacks to, its address.
LAYOUT = {
    "deepfunneled": (
        "lfw-deepfunneled.tgz",
        "lfw-deepfunneled",
        "http://vis-www.cs.umass.edu/lfw/lfw-deepfunneled.tgz",
    ),
    "funneled": ("lfw-funneled.tgz", "lfw_funneled", _FIGSHARE + "5976015"),
    "original": ("lfw.tgz", "lfw", _FIGSHARE + "5976018"),
}


class Builder(FacesBuilder):
    """LFW as published: unaligned, funneled, and deep-funneled (the default)."""

    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="deepfunneled", description="Aligned by deep funneling (Huang et al., 2012)."),
        tfds.core.BuilderConfig(name="funneled", description="Aligned by funneling (Huang et al., 2007)."),
        tfds.core.BuilderConfig(name="original", description="Not aligned."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"lfw-deepfunneled.tgz, lfw-funneled.tgz or lfw.tgz, and {PAIR_FILES} beside it."
    EXPECTED = dict.fromkeys(LAYOUT, (13233, 5749))
    SOURCE = "--manual-dir or TFFACE_LFW; original and funneled also from figshare"
    LICENCE = "none stated; research use"
    HOMEPAGE = "http://vis-www.cs.umass.edu/lfw/"
    PAIR_LISTS: ClassVar = {
        "view1-train": PairList("pairsDevTrain.txt", _FIGSHARE + "5976012"),
        "view1-test": PairList("pairsDevTest.txt", _FIGSHARE + "5976009"),
        "view2": PairList("pairs.txt", _FIGSHARE + "5976006"),
    }
    ARCHIVES = tuple(archive for archive, _, _ in LAYOUT.values())
    IMAGE_SIZE = (250, 250)

    def faces(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, bytes]:
        source = self._source(self.manual_folder(dl_manager))
        faces = read_folder(source) if source.is_dir() else read_archive(source)
        self.check_counts(faces, source)
        for key, image in faces.items():
            if jpeg_size(image) != self.IMAGE_SIZE:
                raise UserError(f"{source}: {key} is no whole JPEG of {self.IMAGE_SIZE[0]}x{self.IMAGE_SIZE[1]} pixels")
        return faces

    def _source(self, manual: Path | None) -> Path:
        """The archive or the unpacked folder of this configuration.

        Raises:
            Unavailable: neither is at hand, and it cannot be fetched.
        """
        archive, folder, url = LAYOUT[self.builder_config_name]
        if manual is not None:
            if (manual / archive).is_file():
                self._tell_hash(manual / archive, url)
                return manual / archive
            others = {name for _, name, _ in LAYOUT.values()} - {folder}
            for candidate in (manual / folder, manual):
                if candidate.name not in others and _holds_people(candidate):
                    return candidate
        try:
            return self._fetch(archive, url)
        except Unavailable as error:
            raise Unavailable(
                f"lfw/{self.builder_config_name} cannot be had ({error}): get {archive} and name its folder with"
                f" --manual-dir or TFFACE_LFW; for the pair lists, put {PAIR_FILES} beside it"
            ) from error

    def _fetch(self, archive: str, url: str) -> Path:
        target = cache_dir("downloads", "lfw") / archive
        if url in self.url_infos:
            return download(url, target, self.url_infos[url].checksum, offline=self.offline)
        if not target.exists() or md5_of(target) != DEEPFUNNELED_MD5:
            download(url, target, None, offline=self.offline)
            if md5_of(target) != DEEPFUNNELED_MD5:
                target.unlink()
                raise Unavailable(f"{url} sent a file with another hash than the published one")
        return target

    def _tell_hash(self, archive: Path, url: str) -> None:
        """A copy packed anew is judged by what it holds; say so, since its hash is not the published one."""
        if url in self.url_infos:
            published = sha256_of(archive) == self.url_infos[url].checksum
        else:
            published = md5_of(archive) == DEEPFUNNELED_MD5
        if not published:
            logger.warning(
                f"{archive.name} (sha256 {sha256_of(archive)[:16]}) is not packed as published: judged by its images"
            )


def read_archive(archive: Path) -> dict[str, bytes]:
    """`<person>/<file>` to JPEG, of an archive read to its end.

    Raises:
        UserError: the archive is damaged or cut short.
    """
    try:
        # To the end first: the checksum stands there, and tarfile takes a cut for the end.
        with gzip.open(archive) as stream:
            while stream.read(1 << 20):
                pass
        members = packages.read_members(archive, _is_face)
        return {"/".join(PurePosixPath(name).parts[-2:]): image for name, image in members}
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is damaged or not whole: get it again ({error})") from error


def read_folder(folder: Path) -> dict[str, bytes]:
    """`<person>/<file>` to JPEG, of an unpacked archive."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in folder.glob("*/*") if _is_face(str(path))}


def jpeg_size(image: bytes) -> tuple[int, int] | None:
    """Width and height as the frame header says; None unless it is a JPEG with both of its ends."""
    if image[:2] != b"\xff\xd8" or image[-2:] != b"\xff\xd9":
        return None
    at = 2
    while at + 9 <= len(image) and image[at] == 0xFF:
        marker = image[at + 1]
        # Every start-of-frame marker; 0xC4, 0xC8 and 0xCC are tables in the same range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(image[at + 7 : at + 9], "big"), int.from_bytes(image[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(image[at + 2 : at + 4], "big")
    return None


def _is_face(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == ".jpg" and not path.name.startswith(".") and len(path.parts) >= 2


def _holds_people(folder: Path) -> bool:
    return folder.is_dir() and any((person / f"{person.name}_0001.jpg").exists() for person in folder.iterdir())
