"""Manifest of a folder of images: `manifest.json` beside them says how they were made.

One JSON object: `format`, `complete`, `header` (the command, its settings, the data set and recipe
that it began with, its seed; of an attack also the model) and `records`, one for each image: `file`
(relative), `person`, `sha256`, `source` (the key in the data set that it was made of) and whatever
else its maker knows of it. `tfface.data.load(folder)` reads it as a data set.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import filelock

from tfface.errors import UserError
from tfface.utils.files import cache_dir, digest_of, explain_full_disk, lock, read_json, sha256_of, write_json

FILE = "manifest.json"
FORMAT = "tfface-manifest-1"
_OURS, _LOOKED_AT = b'"tfface-manifest-', 2**16
_OUTPUTS: Mapping[str, Sequence[str]] = {
    "metrics.json": [
        "versions started",
        "preset weights_sha256",
        "artifact_sha256",
        "served_model",
        "command dataset",
    ],
    "stage.json": ["complete digest inputs"],
    "reproduction.json": ["format dataset"],
    "figure1.json": ["epsilons rows"],
    "golden.json": ["inputs"],
    "preset.json": ["format input_size embedding_size"],
}
"""Files that commands write into their folders, each with names in it: all of one line are in those that are ours."""


@dataclass(frozen=True)
class Manifest:
    """Record of the making of a folder of images.

    Attributes:
        header: JSON-able; what made it. `recipe` in it means that the images are crops.
        records: one for each image; `file`, `person` and `sha256` are always there.
    """

    header: dict[str, Any]
    records: list[dict[str, Any]]

    @property
    def digest(self) -> str:
        """Digest that changes with anything in the manifest, and so with any byte of any image."""
        return digest_of([self.header, self.records])


def exists(folder: Path) -> bool:
    """Return True where a command wrote this folder, or began to; other programs write a `manifest.json` too."""
    try:
        with (folder / FILE).open("rb") as file:
            return _OURS in file.read(_LOOKED_AT)
    except OSError:
        return False


def is_output(folder: Path, names: Collection[str]) -> bool:
    """Return True for a folder that a command wrote results into: nobody's photographs.

    Args:
        folder: the folder.
        names: of the files in it.
    """
    marks = [(folder / name, lines) for name, lines in _OUTPUTS.items() if name in names]
    return (FILE in names and exists(folder)) or any(_has_names(path, lines) for path, lines in marks)


def _has_names(path: Path, lines: Sequence[str]) -> bool:
    try:
        content = read_json(path)
    except UserError:
        return False
    several = content.get("models") if isinstance(content, dict) else None
    one = several[0] if isinstance(several, list) and several else content
    return isinstance(one, dict) and any(one.keys() >= set(line.split()) for line in lines)


@contextlib.contextmanager
def claim(folder: Path, header: dict[str, Any], people: Iterable[str] = ()) -> Iterator[Manifest | None]:
    """Claim a folder to write images into; until `write`, its manifest says that it is unfinished.

    Args:
        folder: where the images will be.
        header: as `write` takes it.
        people: on the images; each becomes the name of a folder.

    Yields:
        The manifest, where all is done already; None where there is something to do.

    Raises:
        UserError: the folder holds another run or other things, cannot be written, or another process writes it; a
            person's name is no folder's.
    """
    for person in people:
        if not _is_folder_name(person):
            raise UserError(f"no folder can be called {person!r} everywhere: rename that person's folder")
    with explain_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # Not in the folder itself: it would stay there, and be copied with it.
    guard = lock(cache_dir("manifests") / digest_of(str(folder.resolve())))
    try:
        guard.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"another process writes {folder}: let it end, or choose another folder") from None
    try:
        begun = _begun(folder, header)
        if begun is None:
            write_json(folder / FILE, {"format": FORMAT, "complete": False, "header": header, "records": []})
        # What a killed run leaves of the file in hand.
        for rest in folder.rglob(".part-*"):
            rest.unlink(missing_ok=True)
        yield read(folder) if begun else None
    finally:
        guard.release()


def write(folder: Path, header: dict[str, Any], records: Sequence[dict[str, Any]]) -> Manifest:
    """Write the manifest of images that lie in the folder, in one step.

    Args:
        folder: where the images are.
        header: JSON-able; `recipe` in it means that the images are crops.
        records: JSON-able; each with `file` (relative, with `/`) and `person`.

    Returns:
        The manifest as `read` gives it, with each file's `sha256`.

    Raises:
        UserError: a record names no file in the folder, or the folder cannot be written.
    """
    hashed = [{**record, "sha256": _hash(_path(folder, record))} for record in records]
    write_json(folder / FILE, {"format": FORMAT, "complete": True, "header": header, "records": hashed})
    return read(folder)


def read(folder: Path) -> Manifest:
    """Read a folder's manifest, and check it and every file that it names.

    Raises:
        UserError: it cannot be read, is of another format or unfinished; a record leaves the folder,
            or its file is missing, named twice or changed.
    """
    content = _content(folder)
    if not content["complete"]:
        raise UserError(f"{folder} is unfinished: run the command that writes it again ({_made_by(content['header'])})")
    seen: set[str] = set()
    for record in content["records"]:
        path = _path(folder, record)
        if record["file"] in seen:
            raise UserError(f"{folder / FILE} names {record['file']} twice: write it again")
        seen.add(record["file"])
        if _hash(path) != record.get("sha256"):
            raise UserError(f"{path} is not what {FILE} says it was: write the folder again")
    return Manifest(content["header"], content["records"])


def _begun(folder: Path, header: dict[str, Any]) -> bool | None:
    """Return True where the run of this header is complete there; None where nothing is there yet."""
    if not exists(folder):
        if any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise UserError(f"{folder} is not empty: choose another folder")
        return None
    content = _content(folder)
    old, new = content["header"], json.loads(json.dumps(header))
    if old != new:
        name = next(name for name in {**old, **new} if old.get(name) != new.get(name))
        raise UserError(
            f"{folder} holds another run, of {_made_by(old)} with {name} {json.dumps(old.get(name))} and not "
            f"{json.dumps(new.get(name))}: choose another folder"
        )
    return bool(content["complete"])


def _content(folder: Path) -> dict[str, Any]:
    content = read_json(folder / FILE)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{folder / FILE} is no manifest of the format {FORMAT}: write the folder again")
    kinds = {"complete": bool, "header": dict, "records": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if wrong:
        raise UserError(f"{folder / FILE} is damaged (its {wrong[0]}): write the folder again")
    return content


def _path(folder: Path, record: Any) -> Path:
    """Return the file of a record, which must lie in the folder."""
    file, person = (record.get("file"), record.get("person")) if isinstance(record, dict) else (None, None)
    if not (isinstance(file, str) and isinstance(person, str) and file and person and "\0" not in file + person):
        raise UserError(f"{folder / FILE} has a record without file and person: {json.dumps(record)[:100]}")
    relative = PurePosixPath(file)
    path = folder / relative
    outside = relative.is_absolute() or ".." in relative.parts or str(relative) != file
    if outside or not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder / FILE} names {file}, which is not in the folder: nothing is read from there")
    # A person becomes the name of a folder where copies are written.
    if not _is_folder_name(person):
        raise UserError(f"{folder / FILE} names the person {person!r}, which no folder can be called")
    return path


def _is_folder_name(person: str) -> bool:
    return person not in ("", ".", "..") and not set("/\\\0") & set(person)


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path} is named by {FILE} and cannot be read ({error.strerror}): get it again") from error


def _made_by(header: dict[str, Any]) -> str:
    return str(header.get("command", "an unknown command"))
