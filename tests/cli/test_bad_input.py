"""Bad input through the command line: one line on stderr that names the thing, exit code 2, nothing lost."""

import dataclasses
import errno
import io
import os
import shutil
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import cv2
import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from tfface.data import FolderFaces
from tfface.models import facenet
from tfface.preprocessing import mtcnn
from tfface.preprocessing.decoding import encode_png
from tfface.utils import registry
from tfface.utils.files import read_json

ROOT = Path(__file__).parents[2]


def jpeg(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def huge_png() -> bytes:
    """A PNG whose header claims 20,000 x 20,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(100)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


NOISE = np.random.default_rng(0).integers(0, 256, (120, 100, 3)).astype(np.uint8)
WHOLE_JPEG, WHOLE_PNG = jpeg(NOISE), encode_png(NOISE)
BAD = {
    "cut.jpg": (WHOLE_JPEG[: len(WHOLE_JPEG) // 2], "is cut short or damaged"),
    "almost whole.jpg": (WHOLE_JPEG[:-20], "is cut short or damaged"),
    "cut.png": (WHOLE_PNG[: len(WHOLE_PNG) // 2], "is cut short or damaged"),
    "empty.jpg": (b"", "is empty (0 bytes)"),
    "text.jpg": (b"my holiday\n" * 100, "is no image that can be read"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "is no image that can be read"),
    "dot.png": (encode_png(NOISE[:1, :1]), "is 1x1 pixels, too small for a face (at least 16 a side)"),
    "bomb.png": (huge_png(), "claims 20000x20000 pixels, more than 134 million: refused unread"),
}
GOOD = {
    "grey.jpg": cv2.imencode(".jpg", NOISE[:, :, 0])[1].tobytes(),
    "deep.png": cv2.imencode(".png", NOISE.astype(np.uint16) * 257)[1].tobytes(),
    "alpha.png": cv2.imencode(".png", np.dstack([NOISE, NOISE[:, :, 0]]))[1].tobytes(),
    "ünï çødé, and spaces.jpg": WHOLE_JPEG,
}


def cmyk() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).convert("CMYK").save(buffer, "JPEG")
    return buffer.getvalue()


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


GOOD["cmyk.jpg"], GOOD["moving.gif"] = cmyk(), animation()


@pytest.fixture
def good(tmp_path) -> Path:
    path = tmp_path / "good.png"
    path.write_bytes(WHOLE_PNG)
    return path


@pytest.mark.parametrize("name", BAD)
def test_verify_names_the_bad_photograph(refused, tiny_model, good, tmp_path, name):
    (tmp_path / name).write_bytes(BAD[name][0])
    for pair in ([tmp_path / name, good], [good, tmp_path / name]):
        assert refused("verify", *pair, "--out", tmp_path / "out") == f"error: {tmp_path / name}: {BAD[name][1]}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", GOOD)
def test_verify_reads_every_kind_of_image(run_cli, tiny_model, good, tmp_path, name):
    (tmp_path / name).write_bytes(GOOD[name])
    result = run_cli("verify", tmp_path / name, good)
    assert (result.code, result.err) == (0, "")


def test_a_bomb_is_not_decoded(refused, tiny_model, good, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("decoded")

    (tmp_path / "bomb.png").write_bytes(huge_png())
    monkeypatch.setattr("cv2.imdecode", refuse)
    assert "refused unread" in refused("verify", tmp_path / "bomb.png", good)


def test_a_folder_goes_on_past_every_bad_photograph(run_cli, tiny_model, tmp_path):
    folder = tmp_path / "mixed"
    for number, (name, data) in enumerate([*((name, data) for name, (data, _) in BAD.items()), *GOOD.items()]):
        path = folder / f"person {number % 3}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    result = run_cli("embed", folder, "--out", tmp_path / "x.npz")
    assert result.code == 0
    assert len(result.err.splitlines()) == len(BAD) + 1
    assert result.err.endswith(f"tfface: {len(BAD)} of {len(BAD) + len(GOOD)} photographs failed\n")
    for name, (_, reason) in BAD.items():
        assert f"/{name} {reason}\n" in result.err
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert {Path(key).name for key in found["keys"]} == set(GOOD)
        assert {Path(key).name for key in found["failed_keys"]} == set(BAD)


def test_a_folder_of_bad_photographs_only(run_cli, tiny_model, tmp_path):
    (tmp_path / "bad" / "ann").mkdir(parents=True)
    (tmp_path / "bad" / "ann" / "empty.jpg").write_bytes(b"")
    result = run_cli("embed", tmp_path / "bad", "--out", tmp_path / "x.npz")
    assert result.code == 2
    assert result.err.splitlines()[-1] == (
        "error: none of the 1 photographs could be used; the first: ann/empty.jpg is empty (0 bytes)"
    )
    assert not (tmp_path / "x.npz").exists()


def test_an_empty_folder(refused, tiny_model, tmp_path):
    (tmp_path / "empty" / "nobody").mkdir(parents=True)
    for command in (
        ["embed", tmp_path / "empty", "--out", tmp_path / "x.npz"],
        ["evaluate", "--dataset", tmp_path / "empty"],
    ):
        assert refused(*command).startswith(f"error: {tmp_path / 'empty'} holds no images")


def test_photographs_that_vanish_while_they_are_read(run_cli, tiny_model, tiny_faces, tmp_path, monkeypatch):
    encoded = FolderFaces.encoded

    def vanish(self, *arguments):
        shutil.rmtree(tiny_faces / "cid", ignore_errors=True)
        return encoded(self, *arguments)

    monkeypatch.setattr(FolderFaces, "encoded", vanish)
    result = run_cli("embed", tiny_faces, "--out", tmp_path / "x.npz")
    # Were it counted as failed, the cache would remember that of a folder in which it is.
    gone = tiny_faces / "cid" / "cid 0.jpg"
    assert (result.code, result.err) == (2, f"error: cannot read {gone}: No such file or directory\n")
    result = run_cli("embed", tiny_faces, "--out", tmp_path / "x.npz")
    assert result.code == 0
    assert "9 embeddings" in result.out


def test_a_person_with_one_photograph_counts_for_impostors(run_cli, tiny_model, tiny_faces, tmp_path):
    result = run_cli("evaluate", "--dataset", tiny_faces, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    found = read_json(tmp_path / "out" / "metrics.json")
    # Three people of three photographs and one of one: 10 * 9 / 2 pairs, of which 3 * 3 are genuine.
    assert (found["genuine"]["count"], found["impostor"]["count"]) == (9, 36)


def test_no_face_in_the_picture(refused, tiny_model, good, monkeypatch):
    monkeypatch.setattr(mtcnn, "_run", lambda photograph: np.zeros((0, 16)))
    message = refused("verify", good, good, "--recipe", "mtcnn-v1-margin0.25")
    assert message == f"error: {good}: no face found in it"


def test_unknown_names_list_the_valid_ones(refused, good):
    for name, valid in [
        ("vgg", ", ".join([*registry.names("models"), "deepface:<Name>"])),
        ("facenet/x", "facenet/vggface2, facenet/msceleb"),
        ("deepface:x", "ArcFace, "),
    ]:
        assert f"; valid: {valid}" in refused("verify", good, good, "--model", name)


def test_unknown_data_sets_and_recipes_list_the_valid_ones(refused, tiny_model, good):
    assert "(did you mean five_faces?); valid: five_faces, lfw" in refused("evaluate", "--dataset", "five_face")
    assert "valid: whole, center-N" in refused("verify", good, good, "--recipe", "mtcnn")


class TestWeightFiles:
    """Weights of FaceNet's real architecture, supplied by the user: what a download can be."""

    @pytest.fixture
    def supply(self, refused, monkeypatch, tmp_path):
        preset = dataclasses.replace(
            facenet.PRESETS[0], name="facenet/own", sources=(), sha256=None, file_name="own.h5"
        )
        monkeypatch.setattr(facenet, "PRESETS", (preset,))

        def run(data: bytes) -> str:
            path = tmp_path / "own.h5"
            path.write_bytes(data)
            message = refused("weights", "fetch", "facenet/own", "--from", path)
            assert str(path) in message
            assert len(message) < 600
            return message

        return run

    @pytest.mark.parametrize("data", [b"", b"<html>", b"\x89HDF\r\n\x1a\n" + bytes(500)])
    def test_no_hdf5_file(self, supply, data):
        assert "does not hold the weights of facenet/own" in supply(data)

    def test_cut_short(self, supply, tmp_path):
        with h5py.File(tmp_path / "whole.h5", "w") as file:
            file["model_weights/x/kernel"] = np.zeros((100, 100))
        data = (tmp_path / "whole.h5").read_bytes()
        assert "does not hold the weights of facenet/own" in supply(data[: len(data) // 2])

    def test_wrong_shapes(self, supply, tmp_path):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="Bottleneck")])
        model.save_weights(tmp_path / "other.weights.h5")
        assert "does not hold the weights of facenet/own" in supply((tmp_path / "other.weights.h5").read_bytes())

    def test_wrong_hash(self, refused, tmp_path):
        (tmp_path / "own.h5").write_bytes(b"x")
        message = refused("weights", "fetch", "facenet/msceleb", "--from", tmp_path / "own.h5")
        assert message.startswith(f"error: {tmp_path / 'own.h5'} has sha256 2d711642")
        assert "is 6acdd8fb3a3fb2b54257abdd1879246a3fcbe18fbe53a41c751e141abe63a0af" in message
        assert message.endswith(": get the published file again")


def disk_full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestDisks:
    def embed(self, tiny_faces, tmp_path) -> list:
        return ["embed", tiny_faces, "--out", tmp_path / "x.npz"]

    def test_full_while_the_cache_is_written(
        self, refused, run_cli, tiny_model, tiny_faces, tmp_path, monkeypatch, cache
    ):
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", disk_full)
            assert refused(*self.embed(tiny_faces, tmp_path)).startswith(f"error: no space left to write {cache}")
        assert not [path for path in cache.rglob("*") if path.name.startswith(".part-")]
        # The same command, once there is space.
        assert run_cli(*self.embed(tiny_faces, tmp_path)).code == 0

    def test_full_while_the_result_is_written(self, refused, run_cli, tiny_model, tiny_faces, tmp_path, monkeypatch):
        assert run_cli(*self.embed(tiny_faces, tmp_path)).code == 0
        before = (tmp_path / "x.npz").read_bytes()
        monkeypatch.setattr("pathlib.Path.replace", disk_full)
        message = refused(*self.embed(tiny_faces, tmp_path))
        assert message.startswith(f"error: no space left to write {tmp_path / 'x.npz'}")
        assert (tmp_path / "x.npz").read_bytes() == before

    def test_a_cache_that_is_a_file(self, refused, tiny_model, tiny_faces, tmp_path, monkeypatch):
        (tmp_path / "cache").write_text("")
        monkeypatch.setenv("TFFACE_CACHE", str(tmp_path / "cache"))
        message = refused(*self.embed(tiny_faces, tmp_path))
        assert message.startswith(f"error: cannot write {tmp_path / 'cache'}")
        assert message.endswith("a file stands where a folder is needed")

    def test_results_where_a_file_stands(self, refused, tiny_model, good, tmp_path):
        (tmp_path / "out").write_text("")
        message = refused("verify", good, good, "--out", tmp_path / "out")
        assert message == f"error: Invalid value for '--out': Directory '{tmp_path / 'out'}' is a file."
        message = refused("verify", good, good, "--out", tmp_path / "out" / "below")
        assert "a file stands where a folder is needed" in message

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs to take another user's place")
    def test_a_cache_of_somebody_else(
        self, refused, run_cli, tiny_model, tiny_faces, tmp_path, monkeypatch, tmp_path_factory
    ):
        cache = tmp_path_factory.mktemp("root-s")
        result = tmp_path_factory.mktemp("result")
        monkeypatch.setenv("TFFACE_CACHE", str(cache))
        run_cli(*self.embed(tiny_faces, tmp_path))
        for path in (cache, *tiny_faces.parents, *cache.parents):
            # Processes of pytest-xdist have a folder of their own below pytest's.
            if any(part.startswith("pytest-") for part in path.parts):
                path.chmod(0o755)
        result.chmod(0o777)
        os.seteuid(65534)
        try:
            # What is cached is enough to go on with ...
            found = run_cli("embed", tiny_faces, "--out", result / "x.npz")
            # ... and what is not cannot be added.
            message = refused("embed", tiny_faces, "--out", result / "x.npz", "--recipe", "center-140")
        finally:
            os.seteuid(0)
        assert (found.code, found.err) == (0, "")
        assert message.startswith(f"error: cannot write {cache}")

    def test_a_real_limit_of_the_system(self, tmp_path, tiny_faces):
        # In a process of its own, since the limit cannot be lifted again.
        code = f"""
            import resource, signal, sys
            sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
            import conftest
            from tfface import cli
            from tfface.models import _embedder as base
            base.load_embedder = lambda name, offline=False: base.Embedder(conftest.TINY, "0" * 64, conftest.build_tiny)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            sys.argv = ["cli.py", "embed", {str(tiny_faces)!r}, "--out", "x.npz"]
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            sys.exit(cli.main())
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: no space left to write ")
        assert "Traceback" not in done.stderr
