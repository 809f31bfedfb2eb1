"""Pictures of attacks: the paper's Figure 1, error against epsilon, smallest epsilons."""

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tfface.preprocessing.decoding import encode_png
from tfface.report.attack_tables import Example, ExampleAnswer, how
from tfface.report.paper import TABLE_2
from tfface.utils.files import atomic_write, write_json

Metrics = dict[str, Any]
_GREY = 0.5


def noise_factor(examples: Sequence[Example]) -> int:
    """Return the factor that enlarges noise: the largest of 1, 2, 5, 10, 20 ... that the largest change bears."""
    largest = max(float(np.abs(example.noise).max()) for example in examples)
    steps = [digit * 10**power for power in range(4) for digit in (1, 2, 5)]
    return max(step for step in steps if step == 1 or step * largest <= _GREY)


def plot_figure_1(title: str, examples: Sequence[Example]) -> plt.Figure:
    """Draw the paper's Figure 1 at the last epsilon: clean photograph, noise, adversarial photograph, reference.

    Args:
        title: of the figure.
        examples: one a row.
    """
    factor = noise_factor([_last(example) for example in examples])
    figure, grid = plt.subplots(len(examples), 4, figsize=(10.5, 3.1 * len(examples) + 0.7), layout="constrained")
    for axes, example in zip(np.atleast_2d(grid), examples, strict=True):
        noise = example.noise[-1]
        panels = [
            (example.clean, f"{example.person}\n{_words(example.before, example.limit)}"),
            (_GREY + factor * noise, f"noise x {factor}\nlargest change {np.abs(noise).max():.4f}"),
            (example.clean + noise, f"adversarial\n{_words(example.after[-1], example.limit)}"),
            (example.reference, f"reference\n{example.compared}"),
        ]
        for axis, (image, caption) in zip(axes, panels, strict=True):
            axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(caption, fontsize=8.5)
    figure.suptitle(textwrap.fill(title, 100, break_on_hyphens=False), fontsize="medium")
    return figure


def write_figure_1(folder: Path, examples: Sequence[Example]) -> None:
    """Write the same by epsilon, one PNG an image, with `figure1.json` that holds the model's answers.

    Args:
        folder: output folder.
        examples: one a row, all with the same epsilons.
    """
    factor = noise_factor(examples)
    rows = []
    for number, example in enumerate(examples):
        noise = [np.zeros_like(example.clean), *example.noise]
        answers = [example.before, *example.after]

        def write(name: str, image: np.ndarray, number: int = number) -> str:
            file = f"{number}-{name}.png"
            with atomic_write(folder / file) as temporary:
                temporary.write_bytes(encode_png(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)))
            return file

        rows.append(
            {
                "person": example.person,
                "compared": example.compared,
                "clean": write("clean", example.clean),
                "reference": write("reference", example.reference),
                "threshold": example.limit,
                "adversarial": [write(f"adversarial-{at}", example.clean + part) for at, part in enumerate(noise)],
                "noise": [write(f"noise-{at}", _GREY + factor * part) for at, part in enumerate(noise)],
                "distances": [answer.distance for answer in answers],
                "verdicts": [
                    answer.matches if answer.taken_for is None else f"taken for {answer.taken_for}"
                    for answer in answers
                ],
            }
        )
    write_json(
        folder / "figure1.json", {"epsilons": [0.0, *examples[0].epsilons], "noise_factor": factor, "rows": rows}
    )


def plot_error_rates(objects: Sequence[Metrics]) -> plt.Figure:
    """Draw error rates against epsilon with their intervals, a panel for each norm.

    Args:
        objects: entries of `metrics.json` with `results`.
    """
    norms = sorted({entry["norm"] for entry in objects}, reverse=True)
    figure, panels = plt.subplots(1, len(norms), figsize=(6.5 * len(norms), 4.4), layout="constrained", squeeze=False)
    for axes, norm in zip(panels[0], norms, strict=True):
        for entry in objects:
            if entry["norm"] == norm:
                _curve(axes, entry, label_of(entry, objects))
        if any((entry["goal"], entry["attack"], norm) == ("classify", "fgsm", "linf") for entry in objects):
            axes.plot(*zip(*TABLE_2.items(), strict=True), "kx", label="the paper's Table 2 (FGSM)")
        unit = "largest change of a value" if norm == "linf" else "root mean square of the change"
        axes.set(ylim=(-0.02, 1.02), xlabel=f"epsilon ({norm}: {unit})", ylabel="error rate of attacked photographs")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        _legend(axes)
    figure.suptitle("Error rate against epsilon, 95% intervals", fontsize="medium")
    return figure


def plot_smallest(curves: Sequence[tuple[str, str, np.ndarray]]) -> plt.Figure:
    """Draw the share of attacked photographs that an epsilon is enough for; failures are in no epsilon's share.

    Args:
        curves: (label, norm, (N,) smallest epsilons, infinite where the attack failed) of each.
    """
    norms = sorted({norm for _, norm, _ in curves}, reverse=True)
    figure, panels = plt.subplots(1, len(norms), figsize=(6.5 * len(norms), 4.4), layout="constrained", squeeze=False)
    for axes, norm in zip(panels[0], norms, strict=True):
        for label, own, epsilons in curves:
            if own == norm and len(epsilons):
                _distribution(axes, label, epsilons)
        axes.set(xscale="log", ylim=(-0.02, 1.02), xlabel=f"epsilon ({norm})", ylabel="share of attacked fooled")
        axes.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":")
        axes.grid(alpha=0.3, which="both")
        _legend(axes)
    figure.suptitle("Smallest epsilon that succeeds", fontsize="medium")
    return figure


def label_of(entry: Metrics, objects: Sequence[Metrics]) -> str:
    """Label an entry by its goal and attack, and its preset where there are several."""
    words = [entry["goal"], how(entry)]
    if len({other["preset"] for other in objects}) > 1:
        words.append(entry["preset"])
    return " ".join(words)


def _curve(axes: plt.Axes, entry: Metrics, label: str) -> None:
    results = sorted((found for found in entry["results"] if found["ci95"]), key=lambda found: found["epsilon"])
    if not results:
        return
    epsilons = [found["epsilon"] for found in results]
    low, high = zip(*(found["ci95"] for found in results), strict=True)
    (line,) = axes.plot(epsilons, [found["error_rate"] for found in results], "o-", markersize=4, label=label)
    axes.fill_between(epsilons, low, high, alpha=0.15, color=line.get_color())


def _distribution(axes: plt.Axes, label: str, epsilons: np.ndarray) -> None:
    found = np.sort(epsilons[np.isfinite(epsilons)])
    failed = len(epsilons) - len(found)
    if not len(found):
        axes.plot([], [], label=f"{label}: failed on all {len(epsilons)}")
        return
    share = np.arange(1, len(found) + 1) / len(epsilons)
    # From zero to the first, and on to epsilon 1, where all that is left has failed.
    values = np.maximum(np.concatenate([found[:1], found, [1.0]]), 1e-6)
    heights = np.concatenate([[0], share, share[-1:]])
    axes.step(values, heights, where="post", label=f"{label}: failed on {failed} of {len(epsilons)}")


def _legend(axes: plt.Axes) -> None:
    """Put the legend below the panel: curves may run anywhere in it."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _last(example: Example) -> Example:
    return dataclasses.replace(example, noise=example.noise[-1:])


def _words(answer: ExampleAnswer, limit: float) -> str:
    verdict = f"{answer.distance:.3f}, limit {limit:.3f}: {'match' if answer.matches else 'no match'}"
    return verdict if answer.taken_for is None else f"head: {answer.taken_for}\n{verdict}"
