"""Files that are whole or absent: atomic writes, hashes, locks, the cache folder."""

import codecs
import contextlib
import csv
import dataclasses
import errno
import hashlib
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from tfface.errors import UserError

OWN_PICTURE = b"tEXtSoftware\0tfface"
"""In the head of each PNG file that shows results; a folder of photographs leaves such files out."""


def cache_path(*parts: str) -> Path:
    """Return a path in the cache folder (`TFFACE_CACHE`, else `~/.cache/tfface`); nothing is made."""
    root = os.environ.get("TFFACE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tfface")
    return user_path(root).joinpath(*parts)


def cache_dir(*parts: str) -> Path:
    """Return the cache folder or a folder in it, made if absent."""
    folder = cache_path(*parts)
    with explain_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def user_path(path: str | Path) -> Path:
    """Return a path that a user gave; `~` at its beginning is a home folder.

    Raises:
        UserError: whose home is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        advice = "set HOME, or TFFACE_CACHE for the cache" if str(path).startswith("~/") else "give the whole path"
        raise UserError(f"the home folder in {path} is not known: {advice}") from error


def package_data(name: str) -> Path:
    """Locate a folder that travels with the package: inside it when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / name
    beside = package.parent
    is_checkout = (beside / "pyproject.toml").is_file() and (beside / "cli.py").is_file()
    return beside / name if is_checkout and not inside.is_dir() else inside


def check_package_data(folder: Path) -> Path:
    """Return a folder of `package_data`.

    Raises:
        UserError: this installation of tfface came without it.
    """
    if not folder.is_dir():
        raise UserError(f"this installation of tfface lacks its data: {folder} is missing; install tfface again")
    return folder


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_tree(path: Path) -> str:
    """Return the SHA-256 of a file, or of the listing of a folder's files with theirs."""
    if path.is_file():
        return sha256_of(path)
    files = {file.relative_to(path).as_posix(): sha256_of(file) for file in path.rglob("*") if file.is_file()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def md5_of(path: str | Path) -> str:
    """Return the MD5 of a file, for publishers who name nothing better."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def digest_of(value: Any) -> str:
    """Return a short stable digest of a JSON-able value, for naming cache entries."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turn a disk's refusals into one line that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = f"no space left to write {path}: free some, or set TFFACE_CACHE or the output folder elsewhere"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"cannot write {path}: set TFFACE_CACHE or the output folder to one that you may write"
        elif error.errno in (errno.EEXIST, errno.ENOTDIR):
            reason = f"cannot write {path}: a file stands where a folder is needed"
        elif error.errno == errno.EISDIR:
            reason = f"cannot write {path}: a folder stands where a file is needed"
        elif error.errno == errno.ENAMETOOLONG:
            reason = f"cannot write {path}: the name is too long"
        else:
            raise
        raise UserError(reason) from error


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it, once whole and on disk.

    A reader sees the old file or the new one, never a part; a failure leaves the old one.
    """
    path = user_path(path)
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept, since many writers choose their format by it.
        temporary = path.with_name(f".part-{secrets.token_hex(8)}{path.suffix}")
        # Its rights are what the user's umask leaves, whatever is moved over it.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        rights = os.fstat(handle).st_mode & 0o777
        os.close(handle)
        try:
            yield temporary
            temporary.chmod(rights)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, with a final newline."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file with a header, atomically."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


_SEPARATORS = "\t;,"


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Read the lines of a text file that are not blank, with their numbers from 1.

    UTF-8, or UTF-16 with a byte order mark, as spreadsheets write it; lines end as any system ends them.

    Raises:
        UserError: the file cannot be read, or is no text.
    """
    try:
        data = Path(path).read_bytes()
        text = data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return [(number, line) for number, line in enumerate(re.split("\r\n|\n|\r", text), start=1) if line.strip()]


def split_lines(lines: Sequence[tuple[int, str]]) -> list[tuple[int, list[str]]]:
    """Split lines of a CSV file into cells at tabs, semicolons or commas, whichever cuts all lines alike.

    A first line `sep=;`, by which some spreadsheets tell, is obeyed and left out.

    >>> split_lines([(1, "image;x"), (2, '"a;b, c.jpg";1,5')])
    [(1, ['image', 'x']), (2, ['a;b, c.jpg', '1,5'])]
    """
    told = re.fullmatch(r'"?sep=(.)"?', lines[0][1].strip()) if lines else None
    lines = lines[1:] if told else lines
    ways = {mark: [_cells(line, mark) for _, line in lines] for mark in (told[1] if told else _SEPARATORS)}
    counts = {mark: {len(cells) for cells in rows} for mark, rows in ways.items()}
    # Where none does, the one that the first line has: the reader then finds the line that is wrong.
    fitting = [mark for mark, found in counts.items() if len(found) == 1 and found != {1}]
    first = [mark for mark, rows in ways.items() if rows and len(rows[0]) > 1]
    chosen = next(iter([*fitting, *first, *ways]))
    return [(number, cells) for (number, _), cells in zip(lines, ways[chosen], strict=True)]


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    except csv.Error:
        return [line]


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as JSON: {error}") from error


class _Lock(filelock.FileLock):
    """A file lock that explains in one line why the disk refuses it."""

    def acquire(self, *args: Any, **options: Any) -> Any:
        with explain_full_disk(Path(self.lock_file)):
            return super().acquire(*args, **options)


def lock(path: str | Path) -> filelock.FileLock:
    """Return a lock between processes beside `path`; the system frees it when its holder dies."""
    path = Path(path)
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return _Lock(path.with_name(path.name + ".lock"))


def natural_key(path: str) -> tuple[list[list[int | str]], str]:
    """Return a key that sorts `s2/10.png` after `s2/9.png`, and a person's images together; ties by the text itself.

    >>> sorted(["s2/10.png", "s10/1.png", "s2/9.png"], key=natural_key)
    ['s2/9.png', 's2/10.png', 's10/1.png']
    """
    parts = [
        [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r"(\d+)", part))]
        for part in path.split("/")
    ]
    return parts, path


_LONGEST_NAME = 120


def file_names(names: Sequence[str], longest: int = _LONGEST_NAME) -> list[str]:
    """Return a file name for each text: short, and distinct on file systems that ignore case or spell accents anew.

    Args:
        names: texts.
        longest: bytes of a file name at most.

    >>> file_names(["lfw/a b", "lfw/a-b", "LFW/a-b"])
    ['lfw-a-b', 'lfw-a-b-2', 'LFW-a-b-3']
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem = cut_to_bytes(re.sub(r"[^\w.]", "-", unicodedata.normalize("NFC", name)), longest)
        number, one = 1, stem
        while folded(one) in taken:
            number += 1
            one = f"{stem}-{number}"
        taken.add(folded(one))
        found.append(one)
    return found


def folded(name: str) -> str:
    """Return a name as the least exact file systems compare it: without case, accents spelled in one way."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def cut_to_bytes(text: str, longest: int) -> str:
    """Return the beginning of a text that takes up at most so many bytes."""
    return text.encode()[:longest].decode(errors="ignore")


def fields_of(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass without cached properties: its state as another process gets it."""
    return {entry.name: getattr(instance, entry.name) for entry in dataclasses.fields(instance)}
