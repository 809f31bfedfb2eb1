"""Load, list, prepare and describe data sets: known ones by name, folders by path."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfface.data import crops as _crops  # noqa: F401 - sampled pairs are cropped by it
from tfface.data import manifest, prepared
from tfface.data.dataset import FaceDataset
from tfface.data.folder import open_folder, open_manifest
from tfface.data.prepared import TfdsFaces
from tfface.utils import registry
from tfface.utils.public import Result, Table, UserError, user_path

logger = logging.getLogger(__name__)

_NAMED = 10


def names() -> list[str]:
    """Return the names of the known data sets, sorted."""
    return prepared.names()


@dataclass(frozen=True)
class DatasetDescription(Result):
    """Facts about one data set, whether it is prepared or not.

    Attributes:
        facts: JSON-able: name, version, images, people, pair_sets, source, licence ...
    """

    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.facts

    def tables(self) -> list[Table]:
        facts = self.facts
        rows = [
            ["version", facts["version"]],
            ["images", f"{facts['images']:,}"],
            ["people", f"{facts['people']:,}"],
            ["people with two or more", _count(facts["people_with_two_or_more"])],
            *([f"pairs of {name}", _pairs(counts)] for name, counts in facts["pair_sets"].items()),
        ]
        return [Table([facts["name"], ""], rows)]


@dataclass(frozen=True)
class DatasetList(Result):
    """Known data sets.

    Attributes:
        datasets: a description of each configuration.
    """

    datasets: list[DatasetDescription]

    def to_dict(self) -> dict[str, Any]:
        return {"datasets": [entry.facts for entry in self.datasets]}

    def tables(self) -> list[Table]:
        rows = []
        for facts in (entry.facts for entry in self.datasets):
            label = facts["name"] + (" (default)" if facts["is_default"] else "")
            state = "prepared" if facts["prepared"] else "not prepared"
            rows.append([label, f"{facts['images']:,}", f"{facts['people']:,}", state, facts["source"]])
        return [Table(["data set", "images", "people", "state", "where from"], rows)]


def load_dataset(
    name: str | Path | FaceDataset,
    *,
    manual_dir: str | Path | None = None,
    offline: bool = False,
    images_per_person: int | None = None,
    seed: int = 0,
) -> FaceDataset:
    """Load a data set by name (`five_faces`, `lfw`, `lfw/funneled`) or by the path of a folder.

    A named one is prepared on first use, and opened without TensorFlow from then on.

    Args:
        name: the data set; a folder has one subfolder per person, or the manifest of a command that wrote it.
            A data set that is loaded already is taken as it is.
        manual_dir: the folder of archives at hand, or one archive (also `TFFACE_LFW` and the like).
        offline: never touch a network.
        images_per_person: draw so many images of each person.
        seed: of that draw.

    Returns:
        The data set: photographs by key, the person of each, published pairs.

    Raises:
        UserError: no such data set, or it cannot be had.

    Example:
        >>> import tfface
        >>> faces = tfface.load_dataset("five_faces")  # doctest: +SKIP
        >>> len(faces)  # doctest: +SKIP
        118
    """
    folder = None if manual_dir is None else Path(manual_dir)
    dataset = name if isinstance(name, FaceDataset) else _open(str(name), folder, offline=offline)
    return dataset if images_per_person is None else dataset.sample(images_per_person, seed)


def labels_of(datasets: Sequence[FaceDataset]) -> list[str]:
    """Return names that tell data sets apart: of folders of one name, with as many folders above as that takes."""
    labels = [dataset.name for dataset in datasets]
    for place, dataset in enumerate(datasets):
        same = [other for other in datasets if other.name == dataset.name and other is not dataset]
        ways = [f"folder:{_end_of(dataset, count)}" for count in range(2, len(_parts(dataset)) + 1)]
        taken = [{f"folder:{_end_of(other, count)}" for other in same} for count in range(2, len(ways) + 2)]
        alone = [way for way, others in zip(ways, taken, strict=True) if way not in others]
        if same:
            labels[place] = alone[0] if alone else f"{dataset.name} {dataset.version}"
    return labels


def _parts(dataset: FaceDataset) -> tuple[str, ...]:
    folder = getattr(dataset, "folder", None)
    return folder.resolve().parts if folder is not None and dataset.name.startswith("folder:") else ()


def _end_of(dataset: FaceDataset, count: int) -> str:
    return "/".join(_parts(dataset)[-count:]).replace("//", "/")


def list_datasets() -> DatasetList:
    """List every known data set and configuration: its size, whether it is prepared, where it comes from.

    Returns:
        Every known data set and whether it is prepared.

    Example:
        >>> import tfface
        >>> [entry.facts["name"] for entry in tfface.list_datasets().datasets][:2]  # doctest: +SKIP
        ['five_faces', 'lfw/deepfunneled']
    """
    found = []
    for name in names():
        configs = prepared.configs(name)
        for config in configs or [""]:
            facts = _facts(name, config)
            found.append(DatasetDescription({**facts, "is_default": config == configs[0] if configs else False}))
    return DatasetList(found)


def prepare_dataset(name: str, *, manual_dir: str | Path | None = None, offline: bool = False) -> DatasetDescription:
    """Prepare a known data set, unless it is prepared already.

    Args:
        name: `five_faces`, `lfw`, `lfw/funneled` ...
        manual_dir: folder of archives at hand, or one archive (also `TFFACE_LFW` and the like).
        offline: never touch a network.

    Returns:
        Counts and sources of the prepared data set.

    Raises:
        UserError: no such data set, or it cannot be had.
    """
    base, config = _split(name)
    prepared.open_prepared(base, config, None if manual_dir is None else Path(manual_dir), offline=offline)
    return describe_dataset(name)


def describe_dataset(name: str | Path) -> DatasetDescription:
    """Describe a data set without preparing it; until it is prepared, counts are the published ones.

    Args:
        name: of a known data set, or the path of a folder with one subfolder per person.

    Returns:
        Counts, sources and licence.

    Raises:
        UserError: no such data set.
    """
    name = str(name)
    if _is_folder(name):
        faces = _open_path(name)
        reasons = [f"{faces.keys[index]} {reason}" for index, reason in faces.unreadable.items()]
        for reason in reasons[:_NAMED]:
            logger.warning(reason)
        if reasons:
            logger.warning(f"{len(reasons)} of {len(faces)} photographs cannot be read")
        return DatasetDescription({**_counts(faces), "source": "a folder of yours"})
    return DatasetDescription(_facts(*_split(name)))


def _facts(base: str, config: str) -> dict[str, Any]:
    builder = prepared.builder_class(base)
    images, people = builder.expected(config)
    found = prepared.open_if_prepared(base, config)
    counts = (
        _counts(found)
        if found
        else {
            "name": "/".join(filter(None, [base, config])),
            "version": str(builder.VERSION),
            "images": images,
            "people": people,
            "people_with_two_or_more": None,
            "pair_sets": dict.fromkeys(builder.PAIR_LISTS),
        }
    )
    return {
        **counts,
        "configs": prepared.configs(base),
        "prepared": found is not None,
        "folder": str(found.folder) if found else None,
        "source": builder.SOURCE,
        "licence": builder.LICENCE,
        "homepage": builder.HOMEPAGE,
        "citation": (prepared.BUILDERS / base / "CITATIONS.bib").read_text().strip(),
    }


def _open(name: str, manual_dir: Path | None, *, offline: bool) -> FaceDataset:
    if _is_folder(name):
        return _open_path(name)
    base, config = _split(name)
    return prepared.open_prepared(base, config, manual_dir, offline=offline)


def _open_path(name: str) -> FaceDataset:
    path = user_path(name)
    return open_manifest(path) if manifest.exists(path) else open_folder(path)


def _is_folder(name: str) -> bool:
    """Return True for a path that does not begin with a known name: `./lfw` is the folder of that name."""
    if name.split("/")[0] in names():
        return False
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def _split(name: str) -> tuple[str, str]:
    """Return a data set's name and configuration.

    Raises:
        UserError: there is no such data set or configuration.
    """
    base, _, config = name.partition("/")
    if base not in names():
        raise registry.unknown("data set", name, [*names(), "or the path of a folder with one subfolder per person"])
    return base, prepared.resolve(base, config)


def _counts(dataset: FaceDataset) -> dict[str, Any]:
    images_of = Counter(dataset.identities)
    return {
        "name": dataset.name,
        "version": dataset.version,
        "images": len(dataset),
        "people": len(images_of),
        "people_with_two_or_more": sum(count > 1 for count in images_of.values()),
        "pair_sets": {name: _pair_counts(dataset, name) for name in _pair_lists(dataset)},
    }


def _pair_lists(dataset: FaceDataset) -> tuple[str, ...]:
    return dataset.pair_lists if isinstance(dataset, TfdsFaces) else ()


def _pair_counts(dataset: FaceDataset, name: str) -> dict[str, int] | None:
    """Return the numbers of pairs and folds; None for a list that is not at hand."""
    try:
        pairs = dataset.pairs(name)
    except UserError:
        return None
    return {"pairs": len(pairs), "folds": int(pairs.fold.max()) + 1}


def _count(number: int | None) -> str:
    return "known once prepared" if number is None else f"{number:,}"


def _pairs(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "not at hand"
    return f"{counts['pairs']:,}" + (f" in {counts['folds']} folds" if counts["folds"] > 1 else "")
