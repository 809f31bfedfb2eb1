"""VGGFace2: 3.31 million pictures of 9,131 people, from a copy that the user has.

The published layout: `train/n000001/0001_01.jpg`, `test/...`, `train_list.txt`, `test_list.txt`,
and in `bb_landmark/` the loose face boxes, `loose_bb_train.csv` and `loose_bb_test.csv`.
"""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from tfface.data.builder import FacesBuilder
from tfface.errors import Unavailable, UserError

logger = logging.getLogger("tfface.datasets.vggface2")


class Builder(FacesBuilder):
    """VGGFace2; `test`, its smaller split of other people, is the default."""

    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="test", description="500 people, none of them in train."),
        tfds.core.BuilderConfig(name="train", description="8,631 people."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "train/ or test/, train_list.txt or test_list.txt, bb_landmark/loose_bb_*.csv."
    EXPECTED: ClassVar = {"test": (169_396, 500), "train": (3_141_890, 8_631)}
    SOURCE = "--manual-dir or TFFACE_VGGFACE2 (the authors no longer offer it)"
    LICENCE = "research use; see its page"
    HOMEPAGE = "https://github.com/ox-vgg/vgg_face2"
    HAS_BOXES = True

    def faces(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, Path]:
        split = self.builder_config_name
        root = self._root(dl_manager)
        listed = root / f"{split}_list.txt"
        keys = _read_list(listed) if listed.exists() else _read_folder(root / split)
        faces = {key: root / split / key for key in keys}
        missing = [key for key, path in faces.items() if not path.is_file()]
        if missing:
            raise UserError(f"{root / split} lacks {len(missing)} images of {listed.name}, the first {missing[0]}")
        if not faces:
            raise UserError(f"{root / split} holds no images like n000001/0001_01.jpg")
        found = len(faces), len({key.split("/")[0] for key in faces})
        if found != self.expected(split):
            logger.warning(
                f"vggface2/{split}: {found[0]} images of {found[1]} people; published are {self.expected(split)}"
            )
        return faces

    def boxes(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, tuple[float, ...]]:
        path = self._root(dl_manager) / "bb_landmark" / f"loose_bb_{self.builder_config_name}.csv"
        if not path.exists():
            logger.warning(f"vggface2: no {path}, so its images have no face boxes")
            return {}
        return read_boxes(path)

    def _root(self, dl_manager: tfds.download.DownloadManager) -> Path:
        split = self.builder_config_name
        root = self.manual_folder(dl_manager)
        if root is None or not (root / split).is_dir():
            raise Unavailable(
                f"vggface2/{split} is not at hand: name the folder that holds {split}/, {split}_list.txt and"
                f" bb_landmark/loose_bb_{split}.csv with --manual-dir or TFFACE_VGGFACE2"
            )
        return root


def read_boxes(path: Path) -> dict[str, tuple[float, ...]]:
    """Image key to its loose box `x, y, width, height`, in pixels.

    Raises:
        UserError: the file is not in the published format.
    """
    boxes = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        if next(rows, None) != ["NAME_ID", "X", "Y", "W", "H"]:
            raise UserError(f"{path} does not begin with NAME_ID,X,Y,W,H: get the published file")
        for row in rows:
            try:
                name, x, y, width, height = row
                boxes[f"{name}.jpg"] = (float(x), float(y), float(width), float(height))
            except ValueError:
                raise UserError(f"{path}, line {rows.line_num}: not a name and four numbers: {row}") from None
    return boxes


def _read_list(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def _read_folder(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.glob("n*/*.jpg")]
