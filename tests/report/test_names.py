"""Names in pictures: shown as they are, whatever is in them; letters that no font has are boxes and one note."""

import json
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tfface.preprocessing.decoding import encode_png
from tfface.report.pictures import GalleryPair, draw_contact_sheet, draw_gallery, draw_photographs
from tfface.utils import public
from tfface.utils.public import drawable, plain, save_figure

NAMES = [
    "R$5_a_b$",
    "$",
    "$$",
    r"a\$b",
    r"$\frac{$",
    r"$\undefined$",
    "_under",
    "100%",
    "x^2_3",
    "{}",
    r"\n",
    "#1",
    "&",
]
CJK = ["名前", "김철수", "李 $5_a$", "ไทย", "😀 smile"]


@pytest.fixture(autouse=True)
def strict():
    """What matplotlib warns of is an error."""
    public._note_missing.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def figure_of(names):
    """A figure with each name in every place where a text can be."""
    figure, (left, right) = plt.subplots(1, 2)
    for name in names:
        left.step([0.001, 1], [0, 1], label=f" {name}")
        left.text(0.1, 0.1, name)
        left.annotate(name, (0.1, 0.1))
        figure.text(0, 0, name)
    left.set(xscale="log", yscale="log", title=names[0], xlabel=names[1], ylabel=names[2])
    left.legend(title=names[0])
    right.set_xticks(range(len(names)), labels=names)
    right.set_yticks(range(len(names)), labels=names, rotation=30)
    figure.suptitle(names[0])
    return figure


def texts(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


@pytest.mark.parametrize(("names", "notes"), [(NAMES, 0), (CJK, 1)])
def test_a_figure_shows_them(tmp_path, capsys, names, notes):
    figure = plain(figure_of(names))
    found = texts(figure)
    for name in names:
        assert found.count(drawable(name)[0]) >= 5
    save_figure(figure, tmp_path / "a.png")
    assert plt.imread(tmp_path / "a.png").std() > 0
    # Where no font has them; a machine with fonts of all scripts needs no note.
    assert len(capsys.readouterr().err.splitlines()) in (0, notes)


def test_no_letter_of_theirs_is_missing():
    for name in NAMES:
        assert drawable(name) == (name, ["DejaVu Sans"])


def test_powers_of_ten_stay():
    figure, axes = plt.subplots()
    axes.plot([0.001, 1], [0, 1])
    axes.set_xscale("log")
    assert any("10^{" in text for text in texts(plain(figure)))
    assert any(label.get_parse_math() for label in axes.get_xticklabels())
    plt.close(figure)


def test_a_font_that_has_them(monkeypatch):
    """U+1D81 is in STIX alone of the fonts that matplotlib brings."""
    letter = "\u1d81"
    assert drawable(letter) == ("\u25a1", ["DejaVu Sans"])
    monkeypatch.setattr(public, "_OTHER_FONTS", ("No Such Font", "STIXGeneral"))
    assert drawable(f"a{letter}") == (f"a{letter}", ["DejaVu Sans", "STIXGeneral"])
    assert drawable(f"名{letter}") == (f"\u25a1{letter}", ["DejaVu Sans", "STIXGeneral"])
    figure, axes = plt.subplots()
    axes.set_title(letter)
    assert letter in texts(plain(figure))
    plt.close(figure)
    faces = [np.zeros((32, 32, 3), np.uint8)] * 2
    with_it = draw_gallery("", [GalleryPair(faces, [letter] * 2, ["a"] * 2, "")])
    monkeypatch.setattr(public, "_OTHER_FONTS", ())
    assert (with_it != draw_gallery("", [GalleryPair(faces, [letter] * 2, ["a"] * 2, "")])).any()


def test_the_note_comes_once(capsys):
    for name in ("名前", "名前", "김철수"):
        drawable(name)
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith("tfface: no font of this machine has ") and "名" in note


def test_pictures_show_them(make_photo):
    face = make_photo(0, 0)
    for name in [*NAMES, *CJK]:
        assert draw_gallery(name, [GalleryPair([face, face], [name, name], [name, name], name)]).std() > 0
        assert draw_contact_sheet([name, name], [(name, [face / 255, face / 255])]).std() > 0
        drawn = draw_photographs([encode_png(face)] * 2, [np.array([4, 4, 60, 60])] * 2, f"{name}: distance 0.1")
        assert (drawn[-40:] < 128).any(), "the caption"


def test_commands_end_well(tmp_path, tiny_model, run_cli, make_photo):
    name = "R$5_a_b$ 名"
    folder = tmp_path / name
    for person in range(3):
        for number in range(2):
            path = folder / f"{name}{person}" / f"{name} {number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(make_photo(person, number)))
    shared = ("--dataset", folder, "--model", "tiny", "--recipe", "whole")
    attack = ("attack", "--goal", "dodging", "--count", "2", "--epsilon", "0.1")
    for number, command in enumerate([("evaluate",), attack]):
        out = tmp_path / f"out{number}"
        found = run_cli(*command, *shared, "--out", out)
        assert found.code == 0, found.err
        assert "Glyph" not in found.err and "Traceback" not in found.err
        assert json.loads((out / "metrics.json").read_text())["dataset"] == f"folder:{name}"
