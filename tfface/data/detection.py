"""The faces of a data set's photographs, found once and cached."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tfface.data.dataset import FaceDataset
from tfface.data.tfdata import check_at_hand, encoded_around
from tfface.distributed.executor import LOCAL, Executor
from tfface.distributed.rows import RowJob, Save, fill
from tfface.errors import ImageError
from tfface.preprocessing import mtcnn
from tfface.preprocessing.images import decode
from tfface.preprocessing.mtcnn import DETECTOR, Faces, choose_face
from tfface.utils.cache import Range, Store

_SHARD_ROWS = 256


@dataclass(frozen=True)
class FaceTable:
    """What was found in each photograph of a data set, in the order of its keys.

    Attributes:
        failed: why a photograph could not be read; empty where it could.
        sizes: int (N, 2): height, width.
        faces: the faces of each.
    """

    failed: list[str]
    sizes: np.ndarray
    faces: list[Faces]

    def main_face(self, index: int) -> np.ndarray | None:
        """(x, y, width, height) of the face that a photograph is of; None where there is none."""
        boxes = self.faces[index].boxes
        chosen = choose_face(boxes, *self.sizes[index])
        return None if chosen is None else boxes[chosen]


@dataclass(frozen=True, eq=False)
class _Finding(RowJob):
    """Faces of a data set's photographs, as rows of a store."""

    dataset: FaceDataset
    store: Store

    longest = 2  # a part takes a core some ten seconds

    @classmethod
    def of(cls, dataset: FaceDataset) -> "_Finding":
        fingerprint = {"detector": DETECTOR, "dataset": dataset.name, "version": dataset.version}
        return cls(dataset, Store("boxes", fingerprint, len(dataset.keys), shard_rows=_SHARD_ROWS))

    def units(self, part: Range) -> int:
        return 1

    def prepare(self) -> None:
        check_at_hand(self.dataset)

    def compute(self, parts: Sequence[Range], given_up: Mapping[int, str], save: Save) -> Iterator[int]:
        for start, stop in parts:
            save((start, stop), _face_rows(self.dataset, start, stop, given_up))
            yield 1


def find_faces(dataset: FaceDataset) -> FaceTable:
    """The faces of all photographs of a data set, from the cache where they were found before."""
    detect_faces(dataset)
    return known_faces(dataset, 0, len(dataset))


def detect_faces(dataset: FaceDataset, *, executor: Executor = LOCAL) -> None:
    """Finds the faces of all photographs of a data set that were not looked at before.

    Args:
        dataset: whose photographs.
        workers: who looks.
    """
    fill(_Finding.of(dataset), label="finding faces", unit="parts", executor=executor)


def known_faces(dataset: FaceDataset, start: int, stop: int) -> FaceTable:
    """The faces found before in the photographs from `start` to before `stop`."""
    return _face_table(_Finding.of(dataset).store.read(start, stop))


def _face_rows(dataset: FaceDataset, start: int, stop: int, given_up: Mapping[int, str]) -> pa.Table:
    failed: list[str] = []
    sizes: list[tuple[int, int]] = []

    def readable() -> Iterator[np.ndarray]:
        elements = encoded_around(dataset, start, stop, given_up).as_numpy_iterator()
        for index, element in enumerate(elements, start=start):
            try:
                if index in given_up:
                    raise ImageError(given_up[index])
                pixels = decode(element["image"])
            except ImageError as error:
                failed.append(str(error))
                sizes.append((0, 0))
                continue
            failed.append("")
            sizes.append((pixels.shape[0], pixels.shape[1]))
            yield pixels

    found = iter(mtcnn.detect(readable()))
    nothing = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
    faces = [nothing if reason else next(found) for reason in failed]
    flat = pa.list_(pa.float32())
    return pa.table(
        {
            "failed": pa.array(failed, pa.string()),
            "height": pa.array([size[0] for size in sizes], pa.int32()),
            "width": pa.array([size[1] for size in sizes], pa.int32()),
            "boxes": pa.array([face.boxes.ravel() for face in faces], flat),
            "confidences": pa.array([face.confidences for face in faces], flat),
            "landmarks": pa.array([face.landmarks.ravel() for face in faces], flat),
        }
    )


def _face_table(table: pa.Table) -> FaceTable:
    def arrays(column: str, *shape: int) -> list[np.ndarray]:
        return [np.asarray(value.values, np.float32).reshape(shape) for value in table[column]]

    faces = [
        Faces(*parts)
        for parts in zip(arrays("boxes", -1, 4), arrays("confidences", -1), arrays("landmarks", -1, 5, 2), strict=True)
    ]
    sizes = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1)
    return FaceTable(table["failed"].to_pylist(), sizes, faces)
