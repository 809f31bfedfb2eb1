"""Stages of a reproduction: calls of the library that read what others wrote, and the record of those done.

Each stage is named by everything that its result depends on. Its `stage.json` says `complete: false` while it runs and
is written again, last, when it is done: so a killed stage is recognised, and goes on if its inputs are the same.
`reproduction.json` above the stages' folders says of which data set they are.
"""

import contextlib
import functools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from tfface.errors import UserError
from tfface.utils import registry
from tfface.utils.files import cache_dir, digest_of, explain_full_disk, lock, read_json, write_json

FILE = "stage.json"
TOP = "reproduction.json"
FORMAT = 1
Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A file or folder that a stage writes.

    Attributes:
        stage: stage in whose folder it is; empty: beside the stages' folders.
        path: path in that folder; empty for the folder itself.
    """

    stage: str
    path: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, [self.stage, self.path]))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One call of the library.

    Attributes:
        name: name of the stage and, after its number, of its folder.
        function: public function of `tfface`.
        arguments: its arguments, without those that change no result (`settings`); a `Place` stands for its path.
        facts: JSON-able; what its result depends on besides: weights, the data set's version.
        settings: further arguments that change no result, as `offline`.
        measures: its result is saved, as `metrics.json` and pictures.
        writes: files that it writes outside its folder.
        after: stages whose results it reads without naming a file of theirs.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    measures: bool = True
    writes: Sequence[Place] = ()
    after: Sequence[str] = ()

    @property
    def reads(self) -> list[str]:
        """Names of the stages whose results it reads, each once."""
        values = (part for value in self.arguments.values() for part in (value if isinstance(value, list) else [value]))
        places = [part.stage for part in values if isinstance(part, Place)]
        return [name for name in dict.fromkeys([*self.after, *places]) if name not in ("", self.name)]


@dataclass(frozen=True)
class Stages:
    """All stages, each after those that it reads.

    Attributes:
        out: folder of all stages.
        stages: in their order.
        versions: versions of the packages that every result depends on.
    """

    out: Path
    stages: Sequence[Stage]
    versions: Mapping[str, str]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def folder(self, name: str) -> Path:
        """Return a stage's folder: its number and name."""
        number = next(number for number, stage in enumerate(self.stages, start=1) if stage.name == name)
        return self.out / f"{number}-{name}"

    def located(self, place: Place) -> Path:
        """Return the path of a place."""
        return (self.folder(place.stage) if place.stage else self.out) / place.path

    def arguments(self, stage: Stage) -> dict[str, Any]:
        """Return a stage's arguments as its function takes them, but for models, which are named."""

        def path_of(value: Any) -> Any:
            if isinstance(value, list):
                return [path_of(part) for part in value]
            return str(self.located(value)) if isinstance(value, Place) else value

        return {name: path_of(value) for name, value in {**stage.arguments, **stage.settings}.items()}

    def call(self, stage: Stage) -> str:
        """Return the call of a stage, as one would type it in Python."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments(stage).items())
        save = f".save({str(self.folder(stage.name))!r})" if stage.measures else ""
        return f"tfface.{stage.function}({given}){save}"

    @functools.cached_property
    def inputs(self) -> dict[str, Record]:
        """All that the result of each stage depends on, JSON-able; of the stages it reads their digest.

        Places are named by their stage, so that the whole may be moved.
        """

        def named(value: Any) -> Any:
            if isinstance(value, list):
                return [named(part) for part in value]
            return {"place": str(value)} if isinstance(value, Place) else value

        found: dict[str, Record] = {}
        for stage in self.stages:
            found[stage.name] = {
                "function": stage.function,
                "arguments": {name: named(value) for name, value in stage.arguments.items()},
                **stage.facts,
                "versions": dict(self.versions),
                "reads": {name: digest_of(found[name]) for name in stage.reads},
            }
        return found

    def needed_for(self, names: Iterable[str]) -> list[Stage]:
        """Return the named stages and all that these read, in order; all stages where none is named.

        Raises:
            UserError: there is no such stage.
        """
        by_name = {stage.name: stage for stage in self.stages}
        wanted, open_ends = set(), list(names) or list(by_name)
        while open_ends:
            name = open_ends.pop()
            if name not in by_name:
                raise registry.unknown("stage", name, list(by_name), parameter="only")
            if name not in wanted:
                wanted.add(name)
                open_ends += by_name[name].reads
        return [stage for stage in self.stages if stage.name in wanted]


@contextlib.contextmanager
def claim(out: Path, dataset: str) -> Iterator[Record]:
    """Claim a folder for the reproduction of one data set, or to go on with it.

    Yields:
        Content of `reproduction.json`; `save` writes more there.

    Raises:
        UserError: it holds another data set's or other things, cannot be written, or another process writes it.
    """
    # Not in the folder itself: it would stay there, and be copied with it.
    guard = lock(cache_dir("reproductions") / digest_of(str(out.resolve())))
    try:
        guard.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"another process writes {out}: let it end, or choose another `out`", parameter="out") from None
    try:
        yield _begun(out, dataset)
    finally:
        guard.release()


def save(out: Path, top: Record) -> None:
    """Write `reproduction.json`."""
    write_json(out / TOP, top)


def _begun(out: Path, dataset: str) -> Record:
    path = out / TOP
    if not path.exists():
        if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no reproduction: choose another `out`", parameter="out")
        top = {"format": FORMAT, "dataset": dataset}
        save(out, top)
        return top
    top = read_json(path)
    if not isinstance(top, dict) or top.get("format") != FORMAT:
        raise UserError(
            f"{path} is no record that this version reads: delete {out}, or choose another `out`", parameter="out"
        )
    if top.get("dataset") not in (dataset, dataset.partition(" (")[0]):  # an older version left out the folder
        other = top.get("dataset")
        raise UserError(
            f"{out} reproduces the paper on {other}, not on {dataset}: choose another `out`", parameter="out"
        )
    return top


def finished(out: Path, folder: Path, inputs: Record) -> Record | None:
    """Return a stage's record if it is complete, of these inputs, and all its files are there; else None."""
    record = _read(folder)
    if record is None or record.get("complete") is not True or record.get("digest") != digest_of(inputs):
        return None
    try:
        whole = all((out / name).stat().st_size == size for name, size in record["files"].items())
        float(record["seconds"])
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return record if whole else None


def begin(folder: Path, inputs: Record, about: Record) -> None:
    """Mark a stage as begun; files of a run with other inputs are deleted, files of this one stay.

    Args:
        folder: folder of the stage.
        inputs: JSON-able; all that its result depends on.
        about: JSON-able; what a reader wants to know of it.
    """
    left = _read(folder)
    goes_on = left is not None and left.get("complete") is False and left.get("digest") == digest_of(inputs)
    with explain_full_disk(folder):
        if folder.exists() and not goes_on:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, _record(inputs, about, complete=False))


def finish(out: Path, folder: Path, inputs: Record, about: Record, *, seconds: float, also: list[Path]) -> Record:
    """Mark a stage as done, with the sizes of its files.

    Args:
        out: folder of all stages.
        folder: folder of the stage.
        inputs: JSON-able; all that its result depends on.
        about: JSON-able; what a reader wants to know of it.
        seconds: duration.
        also: its files outside its folder.
    """
    own = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    files = {path.relative_to(out).as_posix(): path.stat().st_size for path in [*own, *also]}
    record = {**_record(inputs, about, complete=True), "seconds": seconds, "files": files}
    write_json(folder / FILE, record)
    return record


def _record(inputs: Record, about: Record, *, complete: bool) -> Record:
    return {"format": FORMAT, "complete": complete, **about, "digest": digest_of(inputs), "inputs": inputs}


def _read(folder: Path) -> Record | None:
    """Return a stage's record; None where there is none, or none that can be read."""
    try:
        record = read_json(folder / FILE)
    except UserError:
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None
