import pytest
from click.testing import CliRunner

from tfface.cli.datasets import command


def run(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_list_shows_every_configuration_and_its_state():
    result = run("list")
    assert result.exit_code == 0
    rows = [line for line in result.output.splitlines() if "not prepared" in line]
    assert [row.split()[1] for row in rows] == [
        "five_faces",
        "lfw/deepfunneled",
        "lfw/funneled",
        "lfw/original",
        "orl_faces",
        "vggface2/test",
        "vggface2/train",
    ]
    assert "lfw/deepfunneled (default)" in result.output
    assert "13,233" in result.output


def test_describe_tells_counts_licence_and_citation():
    result = run("describe", "lfw")
    assert result.exit_code == 0
    for text in (
        "13,233",
        "5,749",
        "pairs of view2",
        "not at hand",
        "licence: none stated; research use",
        "homepage: http://vis-www.cs.umass.edu/lfw/",
        "@techreport{LFWTech",
    ):
        assert text in result.output


def test_describe_a_folder(tmp_path):
    for name in ("Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    result = run("describe", tmp_path / "set")
    assert result.exit_code == 0
    assert "folder:set" in result.output and "source: a folder of yours" in result.output
    numbers = [line.split("│")[2].strip() for line in result.output.splitlines() if line.startswith("│")]
    assert numbers[1:] == ["3", "2", "1"]  # images, people, people with two or more


def test_prepare_describes_what_came_of_it(monkeypatch, tmp_path):
    from tfface.data import prepared

    asked = []
    monkeypatch.setattr(prepared, "open_prepared", lambda *given, **options: asked.append((given, options)))
    result = run("prepare", "orl_faces", "--offline", "--manual-dir", tmp_path)
    assert result.exit_code == 0
    assert asked == [(("orl_faces", "", tmp_path), {"offline": True})]
    assert "400" in result.output


def test_prepare_what_cannot_be_had_says_which_files():
    result = run("prepare", "lfw", "--offline")
    assert result.exit_code != 0
    assert "get lfw-deepfunneled.tgz" in result.output


@pytest.mark.parametrize("arguments", [("describe", "nosuch"), ("prepare", "nosuch"), ("prepare", ".")])
def test_an_unknown_name_lists_the_valid_ones(arguments):
    result = run(*arguments)
    assert result.exit_code != 0
    assert "valid: five_faces, lfw, orl_faces, vggface2" in " ".join(result.output.split())
