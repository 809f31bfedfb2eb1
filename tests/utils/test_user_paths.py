"""Rights of written files, homes in paths, names that are too long."""

import inspect
import os
import pathlib
import stat
from pathlib import Path

import click
import pytest

import tfface
from tfface.cli import _command
from tfface.errors import UserError
from tfface.utils import files, registry
from tfface.utils.public import save_figure


@pytest.fixture
def umask():
    """Set the umask of this process for a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755), (0o002, 0o664, 0o775)]
)
class TestUmask:
    def test_of_every_writer(self, umask, tmp_path, mask, file, folder):
        import matplotlib.pyplot as plt

        umask(mask)
        place = tmp_path / "new"
        files.write_json(place / "a.json", {})
        files.write_csv(place / "a.csv", ["a"], [[1]])
        save_figure(plt.figure(), place / "a.png")
        with files.atomic_write(place / "moved.bin") as temporary:
            other = tmp_path / "private"
            other.write_bytes(b"")
            other.chmod(0o400)
            other.replace(temporary)
        assert {rights(path) for path in place.iterdir()} == {file}
        assert rights(place) == folder

    def test_of_a_command_and_its_cache(
        self, umask, tiny_faces, tiny_model, run_cli, tmp_path, cache, mask, file, folder
    ):
        umask(mask)
        out = tmp_path / "e.npz"
        assert run_cli("embed", tiny_faces, "--model", "tiny", "--recipe", "whole", "--out", out).code == 0
        kept = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert {rights(path) for path in [out, *kept]} == {file}
        assert {rights(path) for path in cache.rglob("*") if path.is_dir()} == {folder}
        assert not any(rights(path) & mask for path in cache.rglob("*"))


class TestHome:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        return tmp_path

    @pytest.mark.parametrize(
        ("given", "found"), [("~/a", "{home}/a"), ("~", "{home}"), ("a/~/b", "a/~/b"), ("/~/b", "/~/b")]
    )
    def test_is_expanded_at_the_beginning(self, home, given, found):
        assert files.user_path(given) == Path(found.format(home=home))

    def test_of_the_cache(self, home, monkeypatch):
        monkeypatch.setenv("TFFACE_CACHE", "~/cache")
        assert files.cache_dir("boxes") == home / "cache" / "boxes"
        monkeypatch.delenv("TFFACE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
        assert files.cache_dir("boxes") == home / "xdg" / "tfface" / "boxes"

    def test_every_path_of_every_command(self):
        """An option or argument with a path of click's own would leave it to the shell."""
        found = []
        for name in registry.names("cli"):
            command = registry.load("cli", name).command
            every = [command, *getattr(command, "commands", {}).values()]
            found += [
                f"{name} {param.name}"
                for one in every
                for param in one.params
                if isinstance(param.type, click.Path | click.File) and not isinstance(param.type, _command.FilePath)
            ]
        assert found == []

    @pytest.mark.parametrize("option", ["--out={home}/out", "--out=~/out"])
    def test_of_an_output_folder(self, home, tiny_faces, tiny_model, run_cli, option, monkeypatch):
        monkeypatch.chdir(home)
        (home / "pairs.csv").write_text("a;b;same\n")
        arguments = ("--model", "tiny", "--recipe", "whole", option.format(home=home))
        assert run_cli("evaluate", "--dataset=~/tiny faces", *arguments).code == 0
        assert (home / "out" / "metrics.json").exists() and not (home / "~").exists()
        said = run_cli("evaluate", "--dataset=~/tiny faces", "--pairs=~/pairs.csv", *arguments)
        assert said.err == f"error: {home}/pairs.csv holds no pairs\n"

    NAMES_OR_PATHS = ("dataset", "calibration", "name", "embedder")

    def paths_of_functions(self):
        for name in sorted(tfface.__all__):
            function = getattr(tfface, name)
            if inspect.isfunction(function):
                for parameter in inspect.signature(function).parameters.values():
                    if "Path" in str(parameter.annotation) and parameter.name not in self.NAMES_OR_PATHS:
                        yield name, parameter.name

    def test_every_path_of_every_public_function(self, home, tiny_faces, tiny_model, make_photo, monkeypatch):
        """Of each the message shows the home's path, or the file is there."""
        known = {
            *(("attack", one) for one in ("pairs", "head", "save", "manual_dir")),
            *(("augment", one) for one in ("out", "manual_dir")),
            *(("benchmark_robustness", one) for one in ("certified", "manual_dir")),
            *(("certify", one) for one in ("pairs", "manual_dir")),
            *(("check_golden", one) for one in ("artifact", "golden")),
            *(("distill", one) for one in ("saved_models", "work", "manual_dir")),
            *(("evaluate", one) for one in ("pairs", "groups", "manual_dir")),
            *(("export", one) for one in ("out", "manual_dir")),
            *(("retrain", one) for one in ("head", "manual_dir")),
            *(("reproduce", one) for one in ("out", "manual_dir")),
            *(("write_report", one) for one in ("folders", "out")),
            *((name, "manual_dir") for name in ("calibrate", "load_dataset", "mine", "prepare_dataset", "probe")),
            *(("verify", one) for one in ("first", "second")),
            ("embed", "folder"),
            ("fetch_weights", "file"),
        }
        assert set(self.paths_of_functions()) <= known, "a new path: expand it by `user_path`, and add it here"
        faces = str(tiny_faces)
        absent = {
            "pairs": lambda: tfface.evaluate(tiny_model, faces, pairs="~/none"),
            "groups": lambda: tfface.evaluate(tiny_model, faces, groups="~/none"),
            "manual_dir": lambda: tfface.load_dataset("lfw", manual_dir="~/none", offline=True),
            "dataset": lambda: tfface.load_dataset("~/none"),
            "folder": lambda: tfface.embed("~/none", embedder=tiny_model),
            "file": lambda: tfface.fetch_weights("facenet/msceleb", file="~/none"),
            "artifact": lambda: tfface.check_golden("~/none"),
            "folders": lambda: tfface.write_report("~/none", "~/report.html"),
            "head": lambda: tfface.retrain(tiny_model, faces, head="~/none"),
            "pairs of attack": lambda: tfface.attack(tiny_model, faces, pairs="~/none", recipe="whole"),
        }
        for name, call in absent.items():
            with pytest.raises((UserError, OSError)) as error:
                call()
            assert f"{home}/none" in str(error.value), f"{name}: {error.value}"
        tfface.augment(faces, out="~/copies", recipe="whole", copies=1, size=32)
        assert (home / "copies" / "manifest.json").exists()
        tfface.evaluate(tiny_model, faces, recipe="whole").save("~/saved")
        assert (home / "saved" / "metrics.json").exists() and not Path("~").exists()
        photograph = next(tiny_faces.rglob("*.jpg")).relative_to(home)
        assert tfface.verify(tiny_model, f"~/{photograph}", f"~/{photograph}", recipe="whole").distance < 1e-6


class TestNoHome:
    """No HOME, and no entry of the user among those that the system knows."""

    @pytest.fixture(autouse=True)
    def homeless(self, monkeypatch):
        def expanduser(path):
            if str(path).startswith("~"):
                raise RuntimeError("Could not determine home directory.")
            return path

        monkeypatch.setattr(pathlib.Path, "expanduser", expanduser)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def test_is_one_line(self, refused, monkeypatch, tiny_faces, tiny_model):
        monkeypatch.delenv("TFFACE_CACHE")
        said = refused("evaluate", "--dataset", tiny_faces, "--model", "tiny", "--recipe", "whole")
        assert said.startswith("error: the home folder in ~/.cache/tfface")
        assert said.endswith("is not known: set HOME, or TFFACE_CACHE for the cache")

    def test_does_not_matter_with_a_cache(self, run_cli, tiny_faces, tiny_model):
        assert run_cli("evaluate", "--dataset", tiny_faces, "--model", "tiny", "--recipe", "whole").code == 0

    def test_of_another(self, refused, tmp_path):
        said = refused("evaluate", "--dataset", tmp_path, "--out", "~nobody-at-all/x")
        assert "the home folder in ~nobody-at-all/x is not known: give the whole path" in said


@pytest.mark.parametrize("command", ["evaluate", "mine", "attack", "certify"])
def test_a_name_that_is_too_long_is_refused_before_the_work(refused, command, tmp_path):
    said = refused(command, "--out", tmp_path / ("x" * 256))
    assert said == "error: Invalid value for '--out': xxxxxxxxxxxxxxxxxxxx... is too long for the name of a file."
