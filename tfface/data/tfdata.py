"""A data set in another process or on another machine, and around images that end whoever reads them."""

import itertools
from collections.abc import Collection
from typing import TYPE_CHECKING

from tfface.data.dataset import FaceDataset, FolderFaces, TfdsFaces
from tfface.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

_LOOKED_AT = 8


def check_at_hand(dataset: FaceDataset) -> None:
    """Looks whether a data set that was opened elsewhere can be read here too.

    Raises:
        UserError: its files are not where they were there.
    """
    if isinstance(dataset, TfdsFaces):
        found = all((dataset.folder / shard).exists() for shard in dataset.shards)
    elif isinstance(dataset, FolderFaces):
        some = dataset.keys[:: max(1, len(dataset) // _LOOKED_AT)]
        found = any((dataset.folder / key).exists() for key in some)
    else:
        found = True
    if not found:
        raise UserError(f"{dataset.folder} does not hold {dataset.name} here: all must see it at that path")  # type: ignore[attr-defined]


def encoded_around(dataset: FaceDataset, start: int, stop: int, given_up: Collection[int] = ()) -> "tf.data.Dataset":
    """As `dataset.encoded(start, stop)`, with no bytes for images that are not to be read.

    Args:
        dataset: whose images.
        start: first index.
        stop: one past the last index.
        given_up: indices of images that are not to be read.
    """
    left_out = [index for index in sorted(given_up) if start <= index < stop]
    if not left_out:
        return dataset.encoded(start, stop)
    import tensorflow as tf

    data = dataset.encoded(start, left_out[0])
    for index, following in itertools.pairwise([*left_out, stop]):
        nothing = tf.data.Dataset.from_tensors({"key": tf.constant(dataset.keys[index]), "image": tf.constant("")})
        data = data.concatenate(nothing).concatenate(dataset.encoded(index + 1, following))
    return data
