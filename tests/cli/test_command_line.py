"""The command line: exit codes, one line for what a user can mend, and what the small commands write."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from tfface import cli
from tfface.errors import Unavailable, UserError
from tfface.hub import weights
from tfface.models import _embedder, facenet
from tfface.preprocessing.decoding import decode

ROOT = Path(__file__).parents[2]


class TestMain:
    def test_help_lists_every_command_file(self, run_cli):
        result = run_cli("--help")
        assert (result.code, result.err) == (0, "")
        for path in (ROOT / "tfface" / "cli").glob("*.py"):
            if not path.stem.startswith("_"):
                assert re.search(rf"^  {path.stem.replace('_', '-')}  +\w", result.out, re.MULTILINE), path

    def test_version(self, run_cli):
        assert run_cli("--version").out == "tfface, version 0.1.0\n"

    @pytest.mark.parametrize("arguments", [[], ["weights"]])
    def test_nothing_asked_shows_the_help(self, run_cli, arguments):
        result = run_cli(*arguments)
        assert result.code == 2
        assert result.err.startswith("Usage: ")
        assert "\nCommands:\n" in result.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["veryfy"], "error: unknown command 'veryfy' (did you mean verify?); valid: "),
            (["verify", "--bogus"], "error: No such option '--bogus'."),
            (["verify"], "error: Missing argument 'FIRST'."),
            (["verify", "/nowhere.jpg", "x"], "error: Invalid value for 'FIRST': File '/nowhere.jpg' does not exist."),
            (
                ["embed", "/nowhere", "--out", "x"],
                "error: Invalid value for 'FOLDER': Directory '/nowhere' does not exist.",
            ),
            (["embed", "."], "error: Missing option '--out'."),
            (["weights", "fetch", "facenett"], "error: unknown model 'facenett' (did you mean facenet?); valid: "),
            (
                ["weights", "fetch", "facenet/vggface"],
                "error: unknown preset 'facenet/vggface' (did you mean facenet/vggface2?);",
            ),
            (["weights", "check", "resnet50/x"], "error: unknown preset 'resnet50/x'"),
        ],
    )
    def test_bad_usage(self, refused, arguments, message):
        assert refused(*arguments).startswith(message)

    def run_command(self, monkeypatch, run_cli, error):
        @click.command()
        def command():
            raise error

        monkeypatch.setattr(cli.cli, "get_command", lambda context, name: command)
        return run_cli("anything")

    @pytest.mark.parametrize(
        "error",
        [UserError("the\n thing  is bad"), Unavailable("the thing is bad"), click.ClickException("the thing\nis bad")],
    )
    def test_what_a_user_can_mend_is_one_line(self, monkeypatch, run_cli, error):
        result = self.run_command(monkeypatch, run_cli, error)
        assert (result.code, result.out, result.err) == (2, "", "error: the thing is bad\n")

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
    def test_ctrl_c(self, monkeypatch, run_cli, error):
        result = self.run_command(monkeypatch, run_cli, error)
        assert result.code == 130
        # A terminal shows ^C at the start of the line that is cut off.
        assert result.err.strip() == "stopped: the same command goes on from here"

    def test_a_defect_keeps_its_traceback(self, monkeypatch, run_cli):
        with pytest.raises(ZeroDivisionError):
            self.run_command(monkeypatch, run_cli, ZeroDivisionError())

    def test_a_reader_that_went_away_is_no_error(self):
        done = subprocess.run(
            f"{sys.executable} cli.py --help | head -c 5; exit ${{PIPESTATUS[0]}}",
            cwd=ROOT,
            shell=True,
            executable="/bin/bash",
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "Usage", "")


@pytest.fixture
def pair(tiny_faces):
    return tiny_faces / "Ann Ames" / "Ann Ames 0.jpg", tiny_faces / "Ann Ames" / "Ann Ames 1.jpg"


class TestVerify:
    def test_says_distance_threshold_and_verdict(self, run_cli, tiny_model, pair):
        result = run_cli("verify", *pair)
        assert (result.code, result.err) == (0, "")
        for part in ("Ann Ames 0.jpg, Ann Ames 1.jpg", "tiny/random", "whole", "cosine", "0.2000", "same person"):
            assert part in result.out

    def test_two_people(self, run_cli, tiny_model, pair, tiny_faces):
        result = run_cli("verify", pair[0], tiny_faces / "Bob_Burn" / "Bob_Burn 0.jpg", "--threshold", "0.000001")
        assert "different people" in result.out

    def test_writes_numbers_and_a_picture(self, run_cli, tiny_model, pair, tmp_path):
        assert run_cli("verify", *pair, "--out", tmp_path / "out").code == 0
        found = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert found["preset"] == "tiny/random"
        assert found["weights_sha256"] == "0" * 64
        assert (found["command"], found["recipe"], found["metric"]) == ("verify", "whole", "cosine")
        assert found["same"] is True
        assert found["boxes"] == [[0, 0, 64, 80], [0, 0, 64, 88]]
        assert 0 < found["distance"] < found["threshold"] == 0.2
        # Two photographs scaled to a height of 320 and 6 px of frame around each, above a strip of 40.
        assert decode((tmp_path / "out" / "verify.png").read_bytes()).shape[0] == 320 + 12 + 40

    def test_names_are_shown_as_they_stand(self, run_cli, tiny_model, pair, tmp_path):
        odd = tmp_path / "me[red] :smile: ünï.jpg"
        odd.write_bytes(pair[0].read_bytes())
        assert "me[red] :smile: ünï.jpg" in run_cli("verify", odd, pair[1]).out

    @pytest.mark.parametrize("threshold", ["-1", "nought", "nan"])
    def test_a_threshold_is_a_number_from_zero(self, refused, tiny_model, pair, threshold):
        assert "'--threshold'" in refused("verify", *pair, "--threshold", threshold)


class TestEmbed:
    def test_arrays_without_pickles(self, run_cli, tiny_model, tiny_faces, tmp_path):
        (tiny_faces / "cid" / "bad.jpg").write_bytes(b"")
        result = run_cli("embed", tiny_faces, "--out", tmp_path / "x.npz")
        assert (result.code, result.err) == (
            0,
            "tfface: cid/bad.jpg is empty (0 bytes)\ntfface: 1 of 11 photographs failed\n",
        )
        assert "10 embeddings of 16 values by tiny/random, 1 photographs failed" in result.out
        with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
            assert found["embeddings"].shape == (10, 16)
            assert found["embeddings"].dtype == np.float32
            assert found["keys"].tolist() == sorted(found["keys"].tolist())
            assert "Zoë Žák/Zoë Žák 2.jpg" in found["keys"]
            assert found["failed_keys"].tolist() == ["cid/bad.jpg"]
            assert found["failed_reasons"].tolist() == ["is empty (0 bytes)"]
            assert (str(found["preset"]), str(found["recipe"])) == ("tiny/random", "whole")
            assert str(found["weights_sha256"]) == "0" * 64

    def test_nothing_failed(self, run_cli, tiny_model, tiny_faces, tmp_path):
        assert run_cli("embed", tiny_faces, "--out", tmp_path / "x.npz").code == 0
        with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
            assert found["failed_keys"].shape == (0,)

    def test_strict(self, run_cli, tiny_model, tiny_faces, tmp_path):
        (tiny_faces / "cid" / "bad.jpg").write_bytes(b"")
        result = run_cli("embed", tiny_faces, "--out", tmp_path / "x.npz", "--strict")
        assert result.code == 2
        last = result.err.splitlines()[-1]
        assert last.startswith("error: 1 of 11 photographs failed and --strict is set: cid/bad.jpg")
        assert not (tmp_path / "x.npz").exists()

    def test_the_file_s_kind_is_asked_for(self, refused, tiny_model, tiny_faces, tmp_path):
        assert refused("embed", tiny_faces, "--out", tmp_path / "x.csv").endswith("x.csv must end in .npz")


@pytest.fixture
def preset(monkeypatch):
    """FaceNet's only preset is a small one with a hash that nobody published."""
    one = dataclasses.replace(facenet.PRESETS[0], name="facenet/small", sources=(), file_name="small.h5", sha256=None)
    monkeypatch.setattr(facenet, "PRESETS", (one,))

    def fill(model, path):
        if Path(path).read_bytes() != b"the weights":
            raise ValueError("wrong shapes\nof many layers")

    monkeypatch.setattr(facenet, "build", lambda preset: TinyNetwork())
    monkeypatch.setattr(facenet, "load_weights", fill)
    return one


class TinyNetwork:
    trainable = True

    def count_params(self):
        return 1234567


class TestWeights:
    def test_list_knows_every_preset(self, run_cli):
        result = run_cli("weights", "list")
        assert (result.code, result.err) == (0, "")
        for found in _embedder.all_presets():
            assert found.name in result.out

    def test_a_copy_is_taken_and_checked(self, run_cli, preset, tmp_path):
        (tmp_path / "mine.h5").write_bytes(b"the weights")
        sha256 = hashlib.sha256(b"the weights").hexdigest()
        result = run_cli("weights", "fetch", "facenet/small", "--from", tmp_path / "mine.h5")
        assert result.code == 0
        assert result.out.endswith(f"small.h5 sha256 {sha256}\n")
        result = run_cli("weights", "check", "facenet/small")
        assert result.code == 0
        assert re.search(rf"facenet/small .*cached, whole.*{sha256[:16]}.*1,234,567", result.out)

    def test_a_copy_that_does_not_load_is_not_taken(self, refused, preset, tmp_path):
        (tmp_path / "mine.h5").write_bytes(b"other weights")
        message = refused("weights", "fetch", "facenet/small", "--from", tmp_path / "mine.h5")
        assert message.endswith("mine.h5 does not hold the weights of facenet/small: wrong shapes of many layers")
        assert weights.status(preset.name, preset.file_name, (), None) == "absent"

    def test_the_whole_name_is_asked_for(self, refused, preset, tmp_path):
        (tmp_path / "mine.h5").write_bytes(b"the weights")
        assert refused("weights", "fetch", "facenet", "--from", tmp_path / "mine.h5") == (
            "error: name the whole preset: facenet/small"
        )

    def test_a_copy_that_is_not_there(self, refused, preset):
        message = refused("weights", "fetch", "facenet/small", "--from", "/nowhere.h5")
        assert message == "error: /nowhere.h5 is not a file"

    def test_absent_ones_are_told_when_asked_for(self, run_cli, preset):
        result = run_cli("weights", "check", "facenet/small")
        assert result.code == 2
        assert result.err == "error: facenet/small is absent: fetch them with tfface weights fetch NAME\n"

    def test_damaged_ones_are_told(self, run_cli, preset, cache):
        path = cache / "weights" / "facenet" / "small" / "small.h5"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"the weights")
        weights.obtain(preset.name, preset.file_name, (), None)
        path.write_bytes(b"half")
        result = run_cli("weights", "check", "facenet/small")
        assert result.code == 2
        assert result.err.splitlines()[-1].startswith("error: facenet/small is damaged")

    def test_offline_says_how_to_supply_them(self, refused, preset):
        message = refused("weights", "fetch", "facenet/small", "--offline")
        assert message.startswith("error: the weights of facenet/small cannot be had")
        assert message.endswith(
            "(tfface weights fetch facenet/small; tfface.fetch_weights('facenet/small', file=FILE))"
        )


def test_doctor_offline_asks_nobody(run_cli, monkeypatch, cache):
    def refuse(*arguments, **options):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    (cache / "weights").mkdir()
    (cache / "weights" / "x").write_bytes(bytes(1_500_000))
    result = run_cli("doctor", "--offline")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"weights +│ +1 +│ +1\.5", result.out)
    for name in ("tensorflow", "facenet/msceleb: absent", "five_faces", "lfw", "prepared on first use"):
        assert name in result.out
    assert "Reachable" not in result.out


def test_the_first_preset_that_can_be_had_is_used_and_said(monkeypatch, capsys):
    """`--model facenet` falls from vggface2 to msceleb where only that can be fetched."""

    def obtain(name, file_name, sources, sha256, offline):
        if name != "facenet/msceleb":
            raise weights.WeightsUnavailable(f"the weights of {name} cannot be had", "supply them")
        return weights.WeightsFile(Path("x.h5"), sha256)

    monkeypatch.setattr(weights, "obtain", obtain)
    assert _embedder.locate("facenet")[0].name == "facenet/msceleb"
    assert capsys.readouterr().err == (
        "tfface: `embedder` facenet falls to facenet/msceleb: the weights of facenet/vggface2 cannot be had\n"
    )
    with pytest.raises(Unavailable, match=r"facenet/vggface2 cannot be had"):
        _embedder.locate("facenet/vggface2")
