"""A data set's name -> images, identities, pairs, as `tf.data`.

Importing this imports neither TensorFlow nor TensorFlow Datasets; preparing a data set does.
"""

from tfface.data.catalogue import describe, load, names, prepare
from tfface.data.dataset import FaceDataset, FolderFaces, TfdsFaces, open_photographs
from tfface.data.pairs import Pairs, read_groups_file, read_pairs_file
from tfface.data.tfdata import check_at_hand, encoded_around

__all__ = [
    "FaceDataset",
    "FolderFaces",
    "Pairs",
    "TfdsFaces",
    "check_at_hand",
    "describe",
    "encoded_around",
    "load",
    "names",
    "open_photographs",
    "prepare",
    "read_groups_file",
    "read_pairs_file",
]
