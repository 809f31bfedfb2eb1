"""Base class of the builders in `datasets/`. Imports TensorFlow Datasets, so only they import this."""

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfface.errors import UserError
from tfface.utils.files import natural_key
from tfface.utils.progress import progress


@dataclass(frozen=True)
class PairList:
    """Published list of pairs; its sha256 stands in the builder's checksums.tsv."""

    file: str
    url: str


class FacesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of one split `faces`, in natural order, of encoded images with a key and a person.

    A builder says where its data come from in the class attributes, and what they are in `faces`.

    Attributes:
        EXPECTED: configuration name ("" where there are none) to (images, people), as published.
        SOURCE: where the data come from, in a few words.
        LICENCE: what is known of it.
        HOMEPAGE: the data set's page.
        PAIR_LISTS: the published lists of pairs.
        ARCHIVES: file names that `manual_dir` may name itself, instead of their folder.
        HAS_BOXES: whether examples have a `box`: x, y, width, height in pixels.
        offline: set by the caller to forbid any download.
    """

    VERSION = tfds.core.Version("1.0.0")
    EXPECTED: ClassVar[Mapping[str, tuple[int, int]]]
    SOURCE: ClassVar[str]
    LICENCE: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    PAIR_LISTS: ClassVar[Mapping[str, PairList]] = {}
    ARCHIVES: ClassVar[tuple[str, ...]] = ()
    HAS_BOXES: ClassVar[bool] = False
    offline = False

    @abc.abstractmethod
    def faces(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, bytes | Path]:
        """Return key (`<person>/<file>`) to the image's encoded bytes or its file, in any order."""

    def boxes(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, tuple[float, ...]]:
        """Return key to face box, where the data set has them."""
        return {}

    @classmethod
    def expected(cls, config: str) -> tuple[int, int]:
        """Return (images, people) as published."""
        return cls.EXPECTED[config if cls.BUILDER_CONFIGS else ""]

    def check_counts(self, keys: Mapping[str, Any], source: object) -> None:
        """Refuse data that are not all of the published data set.

        Raises:
            UserError: the numbers of images or people differ.
        """
        found = len(keys), len({key.split("/")[0] for key in keys})
        expected = self.expected(self.builder_config_name)
        if found != expected:
            raise UserError(
                f"{source} holds {found[0]} images of {found[1]} people where {self.name} has {expected[0]} of"
                f" {expected[1]}: get it whole again"
            )

    @property
    def builder_config_name(self) -> str:
        return self.builder_config.name if self.builder_config else ""

    def manual_folder(self, dl_manager: tfds.download.DownloadManager) -> Path | None:
        """Return the folder of the user's archives, or None where there is none or it is empty."""
        try:
            return Path(dl_manager.manual_dir)
        except AssertionError:
            return None

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(),
            "identity": tfds.features.Text(),
            "key": tfds.features.Text(),
        }
        if self.HAS_BOXES:
            features["box"] = tfds.features.Tensor(shape=(4,), dtype=np.float32)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            license=self.LICENCE,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        faces = self.faces(dl_manager)
        return {"faces": self._generate_examples(faces, self.boxes(dl_manager))}

    def _generate_examples(
        self, faces: Mapping[str, bytes | Path], boxes: Mapping[str, tuple[float, ...]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        keys = sorted(faces, key=natural_key)
        for row, key in enumerate(progress(keys, total=len(keys), label=f"preparing {self.name}")):
            example = {"image": _bytes(faces[key]), "identity": key.split("/")[0], "key": key}
            if self.HAS_BOXES:
                example["box"] = boxes.get(key, (float("nan"),) * 4)
            yield row, example


def _bytes(image: bytes | Path) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return image.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {image}: {error.strerror}") from error
