"""What is done: `stage.json` in each stage's folder, and `reproduction.json` above them.

A stage's file says `complete: false` while it runs and is written again, last, when it is done; so a
killed stage is known for one, and goes on if it is still asked for in the same way.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from tfface.errors import UserError
from tfface.utils.files import cache_dir, digest_of, explain_full_disk, lock, read_json, write_json

FILE = "stage.json"
TOP = "reproduction.json"
FORMAT = 1
Record = dict[str, Any]


@contextlib.contextmanager
def claim(out: Path, dataset: str) -> Iterator[Record]:
    """Takes a folder for the reproduction of one data set, or to go on with it.

    Yields:
        What `reproduction.json` holds; `save` keeps more there.

    Raises:
        UserError: it holds another data set's or other things, cannot be written, or another process writes it.
    """
    # Not in the folder itself: it would stay there, and be copied with it.
    guard = lock(cache_dir("reproductions") / digest_of(str(out.resolve())))
    try:
        guard.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"another process writes {out}: let it end, or choose another --out") from None
    try:
        yield _begun(out, dataset)
    finally:
        guard.release()


def save(out: Path, top: Record) -> None:
    """Writes `reproduction.json`."""
    write_json(out / TOP, top)


def _begun(out: Path, dataset: str) -> Record:
    path = out / TOP
    if not path.exists():
        if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no reproduction: choose another --out")
        top = {"format": FORMAT, "dataset": dataset}
        save(out, top)
        return top
    top = read_json(path)
    if not isinstance(top, dict) or top.get("format") != FORMAT:
        raise UserError(f"{path} is no record that this version reads: delete {out}, or choose another --out")
    if top.get("dataset") != dataset:
        raise UserError(f"{out} reproduces the paper on {top.get('dataset')}, not on {dataset}: choose another --out")
    return top


def finished(out: Path, folder: Path, inputs: Record) -> Record | None:
    """A stage's record, if it is complete, of these inputs, and all that it wrote is there; else None."""
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
    """Marks a stage as begun; what another run left in its folder goes, what this one left stays.

    Args:
        folder: the stage's.
        inputs: all that its result depends on.
        about: what a reader wants to know of it.
    """
    left = _read(folder)
    goes_on = left is not None and left.get("complete") is False and left.get("digest") == digest_of(inputs)
    with explain_full_disk(folder):
        if folder.exists() and not goes_on:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, _record(inputs, about, complete=False))


def finish(out: Path, folder: Path, inputs: Record, about: Record, *, seconds: float, also: list[Path]) -> Record:
    """Marks a stage as done, with the sizes of all that it wrote.

    Args:
        out: the folder of all.
        folder: the stage's.
        inputs: all that its result depends on.
        about: what a reader wants to know of it.
        seconds: that it took.
        also: files that it wrote elsewhere in `out`.
    """
    own = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    files = {path.relative_to(out).as_posix(): path.stat().st_size for path in [*own, *also]}
    record = {**_record(inputs, about, complete=True), "seconds": seconds, "files": files}
    write_json(folder / FILE, record)
    return record


def _record(inputs: Record, about: Record, *, complete: bool) -> Record:
    return {"format": FORMAT, "complete": complete, **about, "digest": digest_of(inputs), "inputs": inputs}


def _read(folder: Path) -> Record | None:
    """A stage's record; None where there is none, or none that can be read."""
    try:
        record = read_json(folder / FILE)
    except UserError:
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None
