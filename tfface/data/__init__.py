"""A data set's name -> images, identities, pairs, as `tf.data`.

Importing this imports neither TensorFlow nor TensorFlow Datasets; preparing a data set does.
"""

from tfface.data.catalogue import describe, load, names, prepare
from tfface.data.elsewhere import check_at_hand, encoded_around
from tfface.data.faces import FaceDataset, FolderFaces, TfdsFaces, open_photographs
from tfface.data.lists import Pairs, read_groups_file, read_pairs_file

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
