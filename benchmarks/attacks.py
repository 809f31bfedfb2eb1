"""python benchmarks/attacks.py [--model facenet|student] [--batch 32] [--rounds 3] [--parts step,peers,search]

Attacks against the bare network, against Foolbox and ART, and against the plain search, by turns in
one process on the same model, batch and images:

- step: an FGSM step over a compiled forward pass (`fgsm_to_forward`);
- peers: PGD of 20 steps on a six-class head over the embedder, `run` with its judgement against
  Foolbox's and ART's PGD (`foolbox_to_pgd`, `art_to_pgd`);
- search: the smallest epsilon that parts a genuine pair, against the search that sends the whole
  batch through every level of the grid and every bisection (`plain_to_minimal`), for FGSM and BIM.

`student` is the small network with fresh weights. Images are LFW's where it can be had, else those
of orl_faces. The last line is one JSON object with the ratios of the median seconds.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfface.utils import tensorflow_logs

tensorflow_logs.install()

STEPS = 20
EPSILON = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="facenet")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default="step,peers,search")
    options = parser.parse_args()
    model, threshold = network(options.model)
    images, references = genuine_pairs(options.batch, model.input_shape[1])
    result: dict[str, Any] = {"model": options.model, "batch": options.batch}
    for part in options.parts.split(","):
        result |= PARTS[part](model, threshold, images, references, options.rounds)
    print(json.dumps(result))


def network(name: str) -> tuple[Any, float | None]:
    """An embedder, and its preset's threshold as a cosine distance."""
    from tfface.models import student
    from tfface.models._embedder import load_embedder

    if name == "student":
        return student.inception_resnet_simple(), None
    embedder = load_embedder(name, offline=True)
    return embedder.model, embedder.preset.threshold


def genuine_pairs(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of the first two photographs of each of the first people who have two."""
    from tfface.data.catalogue import load_dataset
    from tfface.data.crops import crop_stream
    from tfface.errors import UserError
    from tfface.preprocessing.images import recipe

    try:
        dataset, crop = load_dataset("lfw"), recipe("center-140")
    except UserError:
        dataset, crop = load_dataset("orl_faces"), recipe("whole")
    names = np.array(dataset.identities)
    first = [np.flatnonzero(names == name)[:2] for name in dict.fromkeys(dataset.identities)]
    chosen = np.array([places for places in first if len(places) == 2][:count])
    both = [
        np.stack([image.numpy() for image, _ in crop_stream(dataset.take(column, "benchmark"), crop, size)])
        for column in chosen.T
    ]
    return both[0], both[1]


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def by_turns(ways: dict[str, Callable[[], object]], rounds: int, *, warm: bool = True) -> dict[str, float]:
    """The median seconds of each way; whatever else the machine does falls on all alike."""
    if warm:
        for way in ways.values():
            way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(seconds(way))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:14s} {medians[name]:8.3f} s   (rounds: {', '.join(f'{value:.3f}' for value in values)})")
    return medians


def step(model: Any, threshold: float | None, images: np.ndarray, references: np.ndarray, rounds: int) -> dict:
    """One FGSM step over one forward pass."""
    from tfface.attacks._criteria import Dodging
    from tfface.attacks._victim import Batch, Victim
    from tfface.attacks.fgsm import FGSM

    victim = Victim(model, Dodging())
    batch = Batch.checked(victim, images, victim.targets(references, 0.4), EPSILON)
    times = by_turns(
        {
            "forward": lambda: victim.outputs(images).numpy(),
            "fgsm": lambda: FGSM().perturb(victim, batch),
        },
        max(5, rounds),
    )
    return {"fgsm_to_forward": round(times["fgsm"] / times["forward"], 3)}


def peers(model: Any, threshold: float | None, images: np.ndarray, references: np.ndarray, rounds: int) -> dict:
    """PGD on a head of six classes, against two other packages."""
    import foolbox
    import keras
    import tensorflow as tf
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    from tfface.attacks._attack import run
    from tfface.attacks._criteria import Misclassification
    from tfface.attacks._victim import Victim
    from tfface.attacks.pgd import PGD

    inputs = keras.Input(model.input_shape[1:])
    head = keras.Model(inputs, keras.layers.Dense(6)(model(inputs)))
    head.trainable = False
    victim = Victim(head, Misclassification())
    labels = victim.targets(np.argmax(victim.outputs(images), axis=1))
    bounded = foolbox.TensorFlowModel(head, bounds=(0, 1))
    theirs = foolbox.attacks.LinfPGD(steps=STEPS, rel_stepsize=2.5 / STEPS)
    classifier = TensorFlowV2Classifier(
        model=head,
        nb_classes=6,
        input_shape=images.shape[1:],
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    settings: dict[str, Any] = {"eps": EPSILON, "eps_step": EPSILON * 2.5 / STEPS, "max_iter": STEPS}
    art = ProjectedGradientDescent(classifier, num_random_init=1, batch_size=len(images), verbose=False, **settings)
    batch, answers = tf.constant(images), tf.constant(labels)
    run(PGD(steps=1), victim, images, labels, EPSILON)  # traces what the peers run eagerly
    times = by_turns(
        {
            "pgd": lambda: run(PGD(steps=STEPS), victim, images, labels, EPSILON),
            "foolbox": lambda: theirs(bounded, batch, answers, epsilons=EPSILON),
            "art": lambda: art.generate(images, labels),
        },
        rounds,
        warm=False,
    )
    return {f"{name}_to_pgd": round(times[name] / times["pgd"], 2) for name in ("foolbox", "art")}


def search(model: Any, threshold: float | None, images: np.ndarray, references: np.ndarray, rounds: int) -> dict:
    """The smallest epsilon of every pair, with FGSM and BIM."""
    from tfface.attacks._criteria import Dodging
    from tfface.attacks._victim import Victim
    from tfface.attacks.bim import BIM
    from tfface.attacks.fgsm import FGSM

    victim = Victim(model, Dodging())
    if threshold is None:
        # Fresh weights see hardly a difference: a pair counts as parted a little beyond its distance.
        distances = 1 - np.sum(victim.outputs(images).numpy() * victim.outputs(references).numpy(), axis=1)
        limits = 1.5 * distances
    else:
        limits = np.full(len(images), threshold)
    targets = victim.targets(references, limits)
    genuine = ~victim.assess(images, targets)[0]
    images, targets = images[genuine], targets[genuine]
    victim.gradient(images, targets)  # traced before the clock runs
    return {"plain_to_minimal": {a.title: against_plain(a, victim, images, targets, rounds) for a in (FGSM(), BIM())}}


def against_plain(attack: Any, victim: Any, images: np.ndarray, targets: np.ndarray, rounds: int) -> float:
    """How many times longer the plain search takes."""
    from tfface.attacks._minimal import search_minimal

    found = {}

    def plain() -> None:
        found["plain"] = plain_search(attack, victim, images, targets)

    def minimal() -> None:
        found["minimal"] = search_minimal(attack, victim, images, targets, batch_size=len(images)).epsilon

    times = by_turns({"plain": plain, "minimal": minimal}, rounds, warm=False)
    apart = np.abs(found["plain"] - found["minimal"])
    print(
        f"{attack.title}: {len(images)} pairs, median epsilon {np.median(found['minimal']):.5f}, "
        f"plain search {np.median(found['plain']):.5f}, at most {apart[np.isfinite(apart)].max():.5f} apart"
    )
    return round(times["plain"] / times["minimal"], 2)


def plain_search(attack: Any, victim: Any, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Every image through every level of the grid and every bisection."""
    from tfface.attacks._attack import run
    from tfface.attacks._bracket import START
    from tfface.attacks._minimal import TOLERANCE

    low, high = np.zeros(len(images)), np.full(len(images), np.inf)
    level = START
    while level < 2:  # 1/510, 2/510 ... 256/510, 1
        success = run(attack, victim, images, targets, min(level, 1.0)).success
        low = np.where(np.isinf(high) & ~success, min(level, 1.0), low)
        high = np.where(np.isinf(high) & success, min(level, 1.0), high)
        level *= 2
    while (np.isfinite(high) & (high - low > TOLERANCE)).any():
        middle = np.where(np.isfinite(high), (low + high) / 2, 1.0)
        success = run(attack, victim, images, targets, middle).success
        low, high = np.where(success, low, middle), np.where(success & np.isfinite(high), middle, high)
    return high


PARTS: dict[str, Callable[..., dict]] = {"step": step, "peers": peers, "search": search}

if __name__ == "__main__":
    main()
