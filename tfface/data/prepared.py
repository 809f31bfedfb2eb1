"""Data sets prepared by TensorFlow Datasets: built once, indexed, then opened without it.

Beside the records lies `faces.parquet`: each image's key, person, box, and where its bytes are.
It is written last, so that a data set with an index is whole, and one without is made again.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import io
import json
import logging
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from tfface.data.dataset import FaceDataset, Pairs, elements_at, no_images
from tfface.data.pairs import read_pairs_file
from tfface.errors import Unavailable, UserError
from tfface.hub import weights
from tfface.utils import registry
from tfface.utils.files import (
    atomic_write,
    cache_dir,
    check_package_data,
    explain_full_disk,
    lock,
    package_data,
    sha256_of,
    user_path,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow as tf

    from tfface.data.builder import FacesBuilder

logger = logging.getLogger(__name__)

BUILDERS = package_data("datasets")
_INDEX = "faces.parquet"
_FRAME = struct.Struct("<QI")  # a record's length and its checksum; 4 bytes of checksum follow the data


@dataclass(frozen=True, eq=False)
class TfdsFaces(FaceDataset):
    """Data set prepared by TensorFlow Datasets, with an index of where each image's bytes lie.

    Attributes:
        folder: the prepared data set's folder.
        rows: the number of each image in the prepared split.
        shards: the record files' names.
        spans: (N, 3) int64: which shard, the offset of the image's bytes in it, their number.
        pair_lists: the names of the published pair lists.
        find_pairs: a list's name -> its file, fetched if need be.
    """

    folder: Path
    rows: np.ndarray = field(repr=False)
    shards: tuple[str, ...] = field(repr=False)
    spans: np.ndarray = field(repr=False)
    pair_lists: tuple[str, ...] = ()
    find_pairs: Callable[[str], Path] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "folder": self.folder.absolute(), "find_pairs": None}

    def encoded(self, start: int = 0, stop: int | None = None) -> "tf.data.Dataset":
        import tensorflow_datasets as tfds

        rows = self.rows[start:stop]
        if not len(rows):
            return no_images()
        first, last = int(rows[0]), int(rows[-1]) + 1
        data = tfds.builder_from_directory(str(self.folder)).as_dataset(
            split=f"faces[{first}:{last}]",
            shuffle_files=False,
            decoders={"image": tfds.decode.SkipDecoding()},
            # One shard after the other, or the order is lost; the caller decides what to cache.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        data = data.map(lambda example: {"key": example["key"], "image": example["image"]})
        return data if len(rows) == last - first else elements_at(data, rows - first)

    def read(self, key: str) -> bytes:
        shard, offset, length = self.spans[self.position(key)].tolist()
        path = self.folder / self.shards[shard]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                image = file.read(length)
        except OSError as error:
            raise UserError(f"cannot read {path}: prepare {self.name} again ({error})") from error
        if len(image) != length:
            raise UserError(f"{path} is cut short: delete {self.folder} and prepare {self.name} again")
        return image

    def pairs(self, name: str) -> Pairs:
        if name not in self.pair_lists or self.find_pairs is None:
            if not self.pair_lists:
                return super().pairs(name)
            raise UserError(f"{self.name} has no pair list {name!r}: it has {', '.join(self.pair_lists)}")
        return dataclasses.replace(read_pairs_file(self.find_pairs(name), self), name=name)

    def take(self, indices: np.ndarray, label: str) -> "TfdsFaces":
        narrowed = self._taken(indices, label)
        return dataclasses.replace(self, **narrowed, rows=self.rows[indices], spans=self.spans[indices])

    def _is_at_hand(self) -> bool:
        return all((self.folder / shard).exists() for shard in self.shards)


def names() -> list[str]:
    """Return the names of the data sets that have a builder, found without importing it."""
    return sorted(path.parent.name for path in check_package_data(BUILDERS).glob("*/*_dataset_builder.py"))


@functools.cache
def builder_class(name: str) -> "type[FacesBuilder]":
    """Load a data set's builder by its file's path.

    TensorFlow Datasets takes the data set's name from the module's, and has an `lfw` of its own:
    hence the bare module name, and no registration.
    """
    from tensorflow_datasets.core import registered

    module_name = f"{name}_dataset_builder"
    path = BUILDERS / name / f"{module_name}.py"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None  # a path that ends in .py
    module = importlib.util.module_from_spec(spec)
    with registered.skip_registration():
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    module.Builder.pkg_dir_path = path.parent
    return module.Builder


def configs(name: str) -> list[str]:
    """Return a data set's configurations, its default first; none for most."""
    return [config.name for config in builder_class(name).BUILDER_CONFIGS]


def resolve(name: str, config: str) -> str:
    """Return the configuration that is meant: the default where none is named.

    Raises:
        UserError: the data set has no such configuration.
    """
    valid = configs(name)
    if not config:
        return valid[0] if valid else ""
    if config not in valid:
        raise registry.unknown("data set", f"{name}/{config}", [f"{name}/{each}" for each in valid] or [name])
    return config


def folder_of(name: str, config: str) -> Path:
    """Return the folder where a data set's prepared data lie, or will."""
    return cache_dir("datasets").joinpath(name, *filter(None, [config]), str(builder_class(name).VERSION))


def manual_folder(name: str, given: Path | None) -> Path | None:
    """Return the folder of the user's archives: the one given, or the environment's `TFFACE_<NAME>`.

    Raises:
        UserError: it is not there, or is a file that is no archive of this data set.
    """
    variable = f"TFFACE_{name.upper()}"
    named = given or os.environ.get(variable)
    path = user_path(named) if named else None
    if path is None or path.is_dir():
        return path
    if not path.exists():
        raise UserError(f"{path} does not exist: `manual_dir` or {variable} must name the folder of {name}'s files")
    archives = builder_class(name).ARCHIVES
    if path.name not in archives:
        raise UserError(f"{path} is no file of {name}: name the folder that holds {' or '.join(archives) or 'them'}")
    return path.parent


def open_prepared(name: str, config: str, manual_dir: Path | None, *, offline: bool) -> TfdsFaces:
    """Open a data set; it is prepared now if it was not.

    Raises:
        UserError: it cannot be prepared; says what is missing.
    """
    folder = folder_of(name, config)
    table = read_index(folder) or _prepare(name, config, manual_dir, offline=offline)
    return _from_index(name, config, folder, table, manual_dir, offline=offline)


def open_if_prepared(name: str, config: str) -> TfdsFaces | None:
    """Open a data set if it is prepared, else return None; never prepares or fetches anything."""
    folder = folder_of(name, config)
    table = read_index(folder)
    return None if table is None else _from_index(name, config, folder, table, None, offline=True)


def read_index(folder: Path) -> "pa.Table | None":
    """Read the index of a prepared data set; None where it is absent or its records are not whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (folder / _INDEX).exists():
        return None
    try:
        table = pq.read_table(folder / _INDEX, partitioning=None)
        shards = json.loads(table.schema.metadata[b"tfface"])["shards"]
        whole = all((folder / shard).stat().st_size == size for shard, size in shards.items())
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        logger.warning(f"{folder} is damaged and will be prepared again")
    return table if whole else None


def find_pairs(name: str, folder: Path, manual_dir: Path | None, pair_list: str, *, offline: bool) -> Path:
    """Return the file of a published pair list, stored beside the prepared data once it was had.

    Raises:
        UserError: the user's file is not the published one, or there is none and none can be fetched.
    """
    builder = builder_class(name)
    wanted = builder.PAIR_LISTS[pair_list]
    expected = builder.url_infos[wanted.url].checksum
    target = folder / wanted.file
    if target.exists() and sha256_of(target) == expected:
        return target
    own = manual_folder(name, manual_dir)
    if own is not None and (own / wanted.file).exists():
        if sha256_of(own / wanted.file) != expected:
            raise UserError(f"{own / wanted.file} is not the published list (sha256 {expected}): get it again")
        with atomic_write(target) as temporary:
            shutil.copyfile(own / wanted.file, temporary)
        return target
    try:
        download(wanted.url, target, expected, offline=offline)
    except Unavailable as error:
        raise Unavailable(
            f"the pair list {wanted.file} of {name} is not at hand ({error}): put it into a folder and name that with"
            f" `manual_dir` or TFFACE_{name.upper()}"
        ) from error
    return target


def download(url: str, target: Path, sha256: str | None, *, offline: bool) -> Path:
    """Download a data set's file to `target`, its hash checked.

    Raises:
        Unavailable: `offline`, or its host does not have it or does not answer.
    """
    if sha256 and target.exists() and sha256_of(target) == sha256:
        return target
    if offline:
        raise Unavailable("`offline` forbids fetching it")
    logger.warning(f"fetching {target.name} ({url})")
    with tempfile.TemporaryDirectory(dir=cache_dir("datasets"), prefix=".part-") as scratch:
        file = weights.download(url, Path(scratch), sha256=sha256)
        with atomic_write(target) as temporary:
            shutil.move(file, temporary)
    return target


def _prepare(name: str, config: str, manual_dir: Path | None, *, offline: bool) -> "pa.Table":
    folder = folder_of(name, config)
    with _alone(name, config):
        if (table := read_index(folder)) is not None:
            return table
        # What a killed preparation left.
        shutil.rmtree(folder, ignore_errors=True)
        for left in folder.parent.glob("incomplete.*"):
            shutil.rmtree(left, ignore_errors=True)
        logger.warning(f"preparing {'/'.join(filter(None, [name, config]))}, once")
        try:
            with explain_full_disk(folder):
                _build(name, config, manual_folder(name, manual_dir), offline=offline)
                table = _write_index(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    for pair_list in builder_class(name).PAIR_LISTS:
        try:
            find_pairs(name, folder, manual_dir, pair_list, offline=offline)
        except UserError as error:
            logger.warning(str(error))
    return table


@contextlib.contextmanager
def _alone(name: str, config: str) -> Iterator[None]:
    guard = lock(cache_dir("datasets") / "-".join(filter(None, [name, config])))
    try:
        guard.acquire(timeout=0)
    except filelock.Timeout:
        logger.warning(f"another process prepares {name}: waiting for it")
        guard.acquire()
    try:
        yield
    finally:
        guard.release()


def _build(name: str, config: str, manual_dir: Path | None, *, offline: bool) -> None:
    import tensorflow_datasets as tfds

    # What it prints of its own belongs to no result.
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        builder = builder_class(name)(config=config or None, data_dir=cache_dir("datasets"))
        builder.offline = offline
        settings = tfds.download.DownloadConfig(
            manual_dir=manual_dir or cache_dir("manual", name), try_download_gcs=False
        )
        builder.download_and_prepare(download_config=settings)


def _write_index(folder: Path) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    shards = sorted(path.name for path in folder.glob("*.tfrecord*"))
    rows = [row for number, shard in enumerate(shards) for row in _records(folder / shard, number)]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    digest = hashlib.sha256("".join(columns.pop("digest")).encode()).hexdigest()
    facts = {"digest": digest, "shards": {shard: (folder / shard).stat().st_size for shard in shards}}
    table = pa.table(columns).replace_schema_metadata({"tfface": json.dumps(facts)})
    with atomic_write(folder / _INDEX) as temporary:
        pq.write_table(table, temporary)
    return table


def _records(path: Path, shard: int) -> Iterator[dict[str, Any]]:
    """Yield the entries of the index for the records of a shard.

    An image's bytes stand unchanged inside its record, so their place is found by looking.
    """
    import tensorflow as tf

    with path.open("rb") as file:
        while frame := file.read(_FRAME.size):
            length, _ = _FRAME.unpack(frame)
            start = file.tell()
            data = file.read(length)
            file.seek(4, os.SEEK_CUR)
            values = tf.train.Example.FromString(data).features.feature
            image = values["image"].bytes_list.value[0]
            key = values["key"].bytes_list.value[0].decode()
            box = list(values["box"].float_list.value) if "box" in values else None
            yield {
                "key": key,
                "identity": values["identity"].bytes_list.value[0].decode(),
                "shard": shard,
                "offset": start + data.index(image),
                "length": len(image),
                "box": box,
                "digest": f"{key}\n{hashlib.sha256(image).hexdigest()}\n{box}\n",
            }


def _from_index(
    name: str, config: str, folder: Path, table: "pa.Table", manual_dir: Path | None, *, offline: bool
) -> TfdsFaces:
    facts = json.loads(table.schema.metadata[b"tfface"])
    boxes = table["box"].to_pylist()
    spans = np.stack([table[column].to_numpy() for column in ("shard", "offset", "length")], axis=1)
    return TfdsFaces(
        name="/".join(filter(None, [name, config])),
        version=f"{builder_class(name).VERSION}+{facts['digest'][:12]}",
        keys=table["key"].to_pylist(),
        identities=table["identity"].to_pylist(),
        boxes=None if None in boxes else _boxes(boxes),
        folder=folder,
        rows=np.arange(table.num_rows),
        shards=tuple(facts["shards"]),
        spans=spans.astype(np.int64),
        pair_lists=tuple(builder_class(name).PAIR_LISTS),
        find_pairs=lambda pair_list: find_pairs(name, folder, manual_dir, pair_list, offline=offline),
    )


def _boxes(boxes: list[list[float]]) -> np.ndarray | None:
    array = np.array(boxes, np.float32)
    return None if np.isnan(array).all() else array
