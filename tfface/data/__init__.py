"""Data sets of faces by name or folder: images, people and pairs, as `tf.data`."""

from tfface.utils import registry

_NAMES = {
    "FaceDataset": "tfface.data.dataset",
    "FolderFaces": "tfface.data.folder",
    "TfdsFaces": "tfface.data.prepared",
    "open_photographs": "tfface.data.folder",
    "Pairs": "tfface.data.dataset",
    "read_groups_file": "tfface.data.pairs",
    "read_pairs_file": "tfface.data.pairs",
    "describe_dataset": "tfface.data.catalogue",
    "list_datasets": "tfface.data.catalogue",
    "load_dataset": "tfface.data.catalogue",
    "names": "tfface.data.catalogue",
    "prepare_dataset": "tfface.data.catalogue",
}
__all__ = list(_NAMES)
__getattr__ = registry.attach(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
