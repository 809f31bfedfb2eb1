"""Weights of presets: sources in order, SHA-256, cache.

A file is used only after its hash was checked. A hash that nobody published is recorded when the file is first
downloaded, and enforced ever after.
"""

import http.client
import logging
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import tenacity

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
        member: name of the weights in it, when the file is a zip.
        md5: MD5 of the file, where its publisher names one and no SHA-256 is known.
    """

    url: str
    member: str = ""
    md5: str = ""

    def describe(self) -> str:
        """Return the address."""
        return self.url


@dataclass(frozen=True)
class PackageSource:
    """A member of an archive on a package registry."""

    package: packages.Package
    member: str

    def describe(self) -> str:
        """Return the package's name and version."""
        return f"{'npm ' if self.package.kind == 'npm' else ''}package {self.package.requirement}"


@dataclass(frozen=True)
class BundledSource:
    """A file that comes with the project."""

    path: Path

    def describe(self) -> str:
        """Return that it is bundled."""
        return "bundled with tfface"


class WeightsUnavailable(Unavailable):
    """Weights of a preset that no source has.

    Attributes:
        reason: the preset, and the reason for each source.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason


Source = UrlSource | PackageSource | BundledSource


@dataclass(frozen=True)
class WeightsFile:
    """Path and hash of weights at hand."""

    path: Path
    sha256: str


def cached_path(name: str, file_name: str) -> Path:
    """Return the place of a preset's weights in the cache; the name's slash makes a folder."""
    return cache_dir("weights", *name.split("/")) / file_name


def status(name: str, file_name: str, sources: Sequence[Source], sha256: str | None) -> str:
    """Return `bundled`, `cached`, `damaged` or `absent`, without fetching anything."""
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
    """Find or fetch the weights of a preset: bundled, cached, or from the first source that answers.

    Args:
        name: name of the preset (`facenet/msceleb`).
        file_name: name of the file in the cache.
        sources: sources, tried in this order.
        sha256: published hash; None records it at first use.
        offline: never touch a network.

    Raises:
        UserError: the file at hand is not the one the hash names.
        WeightsUnavailable: no source has them; says why for each, and how to supply the file.
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
        f"supply {file_name} as `file` (tfface weights fetch {name}; tfface.fetch_weights({name!r}, file=FILE))",
    )


def inspect(name: str, file_name: str, sha256: str | None, given: Path) -> WeightsFile:
    """Check the hash of the user's own copy of a preset's weights, where one is known.

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
    """Copy the user's copy of a preset's weights into the cache.

    Raises:
        UserError: it is no file, or not the one the hash names.
    """
    inspect(name, file_name, sha256, given)
    path = cached_path(name, file_name)
    with lock(path), atomic_write(path) as temporary:
        shutil.copyfile(given, temporary)
    return _checked(name, path, _record(path, sha256))


def _bring(source: Source, path: Path, sha256: str | None, *, offline: bool) -> None:
    """Write the file of a source to `path`, once its hash was checked."""
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
        raise Unavailable("not cached, and `offline` forbids fetching")
    file = download(source.url, folder, sha256=None if source.member else sha256)
    if source.md5 and md5_of(file) != source.md5:
        raise Unavailable("what came has another MD5 than the published one")
    if not source.member:
        return file
    if not zipfile.is_zipfile(file) or source.member not in packages.members(file):
        raise Unavailable(f"it sent no zip file that holds {source.member}")
    return packages.extract_member(file, source.member, folder / "member")


def ask(url: str) -> str:
    """Ask a server for the content type of an address; 10 seconds without an answer are a refusal.

    A host that did not answer is not asked again in this process.

    Raises:
        Unavailable: it does not answer, or refuses.
    """
    import requests

    host = urlsplit(url).netloc
    if host in _silent_hosts:
        raise Unavailable(_silent_hosts[host])
    try:
        with requests.get(url, timeout=ANSWER_SECONDS, stream=True) as answer:
            if not answer.ok:
                raise Unavailable(f"{host} answers {answer.status_code} {answer.reason}")
            return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    except requests.RequestException as error:
        cause = _first_cause(error)
        if isinstance(cause, http.client.HTTPException):
            raise Unavailable(f"{host} answers with something else than HTTP") from error
        _silent_hosts[host] = f"{host} cannot be reached ({cause})"
        raise Unavailable(_silent_hosts[host]) from error


def _first_cause(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error


class _BrokenOff(Unavailable):
    """A download that ended before its end."""


def download(url: str, folder: Path, *, sha256: str | None = None) -> Path:
    """Download a file into `folder`, hash checked; a download that breaks off is tried a second time.

    Raises:
        Unavailable: the server does not answer within 10 seconds, refuses, or sends a web page or other bytes.
    """
    host = urlsplit(url).netloc
    if ask(url) == "text/html":
        raise Unavailable(f"{host} sent a web page, not the file")
    logger.warning(f"fetching {url}")
    file = _retrieve(url, folder, sha256)
    with file.open("rb") as content:
        # Whatever it was announced as: a hash that nobody published would be recorded for it.
        if content.read(256).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise Unavailable(f"{host} sent a web page, not the file")
    return file


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(_BrokenOff),
    stop=tenacity.stop_after_attempt(2),
    wait=tenacity.wait_fixed(0.5),
    reraise=True,
)
def _retrieve(url: str, folder: Path, sha256: str | None) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.ERROR)  # it logs what `download` does
    host, name = urlsplit(url).netloc, url.rsplit("/", 1)[-1]
    source = pooch.HTTPDownloader(timeout=ANSWER_SECONDS, progressbar=sys.stderr.isatty())
    try:
        with explain_full_disk(folder):
            return Path(pooch.retrieve(url, sha256 and f"sha256:{sha256}", name, folder, downloader=source))
    except ValueError as error:
        raise Unavailable(f"{host} sent a file with another hash than the published one") from error
    except (requests.RequestException, OSError) as error:
        raise _BrokenOff(f"the download from {host} broke off ({_first_cause(error)})") from error


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _expected(path: Path, sha256: str | None) -> str | None:
    """Return the published hash, else the one recorded at first use, else None."""
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
            f"{path} has sha256 {found}, but {name} is {expected}: delete it and fetch it again "
            f"(tfface weights fetch {name})"
        )
    return WeightsFile(path, found)
