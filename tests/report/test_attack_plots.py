"""Pictures of attacks: what they are made of, and that they are written."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tfface.preprocessing.decoding import decode
from tfface.report.attack_plots import (
    label_of,
    noise_factor,
    plot_error_rates,
    plot_figure_1,
    plot_smallest,
    write_figure_1,
)
from tfface.report.attack_tables import Example, ExampleAnswer
from tfface.utils.public import save_figure


def example(size: float = 0.02, taken_for: str | None = None) -> Example:
    noise = np.stack([np.full((16, 16, 3), size / 2), np.full((16, 16, 3), -size)]).astype(np.float32)
    answers = [ExampleAnswer(distance, distance <= 0.4, taken_for) for distance in (0.1, 0.3, 0.6)]
    grey = np.full((16, 16, 3), 0.5, np.float32)
    return Example("Ann", "Bob", grey, grey, (0.01, 0.02), noise, 0.4, answers[0], tuple(answers[1:]))


@pytest.mark.parametrize(("size", "factor"), [(0.02, 20), (0.01, 50), (0.0051, 50), (0.4, 1), (0.9, 1), (0.0, 5000)])
def test_noise_is_enlarged_up_to_the_edge_of_the_scale(size, factor):
    """0.5 / 0.02 is 25: 20 is the largest round factor below it."""
    assert noise_factor([example(size / 2), example(size)]) == factor


def test_figure_1_says_what_it_shows(tmp_path, monkeypatch):
    words = []
    monkeypatch.setattr(plt.Axes, "set_xlabel", lambda self, text, **_: words.append(text))
    save_figure(plot_figure_1("fgsm", [example(), example(taken_for="Zoë")]), tmp_path / "figure1.png")
    assert words[:4] == [
        "Ann\n0.100, limit 0.400: match",
        "noise x 20\nlargest change 0.0200",
        "adversarial\n0.600, limit 0.400: no match",
        "reference\nBob",
    ]
    assert words[4] == "Ann\nhead: Zoë\n0.100, limit 0.400: match"
    assert decode((tmp_path / "figure1.png").read_bytes()).std() > 10


def test_figure_1_by_epsilon(tmp_path):
    """Noise of -0.02, 20 times enlarged, is 0.1 of the scale: 25.5, to the even 26."""
    write_figure_1(tmp_path, [example(), example(taken_for="Zoë")])
    content = json.loads((tmp_path / "figure1.json").read_text())
    assert (content["epsilons"], content["noise_factor"]) == ([0, 0.01, 0.02], 20)
    first, second = content["rows"]
    assert first["verdicts"] == [True, True, False]
    assert first["distances"] == [0.1, 0.3, 0.6]
    assert second["verdicts"][0] == "taken for Zoë"

    def level(name: str) -> int:
        (value,) = np.unique(decode((tmp_path / name).read_bytes()))
        return int(value)

    assert level(first["clean"]) == level(first["reference"]) == level(first["adversarial"][0]) == 128
    assert [level(name) for name in first["noise"]] == [128, 178, 26]
    assert level(first["adversarial"][2]) == round(0.48 * 255)


ENTRY = {
    "preset": "tiny/random",
    "goal": "classify",
    "attack": "fgsm",
    "norm": "linf",
    "surrogate": None,
    "results": [
        {"epsilon": 0.02, "error_rate": 0.9, "ci95": [0.8, 0.95]},
        {"epsilon": 0.01, "error_rate": 0.6, "ci95": [0.5, 0.7]},
        {"epsilon": 0.03, "error_rate": None, "ci95": None},
    ],
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_curves_go_by_epsilon_beside_the_papers():
    drawn = plot_error_rates([ENTRY, {**ENTRY, "norm": "l2", "goal": "dodging"}])
    linf, l2 = drawn.axes
    ours, paper = linf.get_lines()
    assert ours.get_xydata().tolist() == [[0.01, 0.6], [0.02, 0.9]]
    assert paper.get_xydata().tolist() == [[0.01, 0.68], [0.015, 0.89], [0.02, 1.0]]
    assert [line.get_label() for line in l2.get_lines()] == ["dodging fgsm"]


def test_failures_are_in_no_epsilons_share():
    """0.01 and 0.1 of four: a half is the most; and where all failed there is a word of it."""
    curves = [("one", "linf", np.array([0.1, np.inf, 0.01, np.inf])), ("two", "linf", np.full(3, np.inf))]
    (axes,) = plot_smallest(curves).axes
    assert axes.get_lines()[0].get_xydata().tolist() == [[0.01, 0], [0.01, 0.25], [0.1, 0.5], [1, 0.5]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "one: failed on 2 of 4",
        "two: failed on all 3",
    ]


def test_a_label_tells_entries_apart():
    assert label_of(ENTRY, [ENTRY]) == "classify fgsm"
    other = {**ENTRY, "preset": "other", "surrogate": "third"}
    assert label_of(other, [ENTRY, other]) == "classify fgsm via third other"
