"""A few attacked photographs to look at, with what the model says of them: the paper's Figure 1."""

from dataclasses import dataclass

import numpy as np

from tfface.metrics.distances import from_cosine
from tfface.paper.table2 import Similarity
from tfface.robustness.results import pair_distances
from tfface.robustness.rows import TrialResults, TrialStore
from tfface.robustness.trial import Trial


@dataclass(frozen=True)
class ExampleAnswer:
    """What the model says of a photograph.

    Attributes:
        distance: to the reference, in the preset's metric.
        matches: it takes the two for one person.
        taken_for: whom the head sees; None without a head.
    """

    distance: float
    matches: bool
    taken_for: str | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """One attacked photograph beside what it was made of.

    Attributes:
        person: who is on it.
        compared: who is on the reference.
        clean: (H, W, 3) float32 in [0, 1].
        reference: (H, W, 3) likewise.
        epsilons: E budgets; of a search the smallest that succeeded.
        noise: (E, H, W, 3) what was added, signed.
        limit: the distance up to which the two match.
        before: the answer to the clean photograph.
        after: the answer at each epsilon.
    """

    person: str
    compared: str
    clean: np.ndarray
    reference: np.ndarray
    epsilons: tuple[float, ...]
    noise: np.ndarray
    limit: float
    before: ExampleAnswer
    after: tuple[ExampleAnswer, ...]


def examples(trial: Trial, rows: TrialResults, similarity: Similarity | None = None) -> list[Example]:
    """The examples that a trial kept, those that succeed first.

    Args:
        trial: what was done.
        rows: what became of it.
        similarity: of the goal `classify`: with whom photographs are compared.
    """
    kept = next(TrialStore(trial).tables(["noise"]))["noise"].to_pylist() if len(trial.subjects) else []
    numbers = np.array([number for number, changes in enumerate(kept) if changes], int)
    numbers = numbers[np.argsort(~rows.success[numbers, -1], kind="stable")]
    if not len(numbers):
        return []
    subjects, dataset = trial.subjects, trial.context.dataset
    if subjects.second is None:
        assert similarity is not None, "this goal compares with training photographs"
        compared = np.array([similarity.typical(index) for index in subjects.first[numbers]])
    else:
        compared = subjects.second[numbers]
    clean, _ = trial.context.crops(subjects.first[numbers])
    references, _ = trial.context.crops(compared)
    found = []
    for place, number in enumerate(numbers.tolist()):
        noise = np.stack([np.frombuffer(change, np.float16) for change in kept[number]]).astype(np.float32)
        limit, before, *after = (
            _pair_answers(trial, rows, number)
            if similarity is None or subjects.second is not None
            else _head_answers(trial, rows, number, int(compared[place]), similarity)
        )
        found.append(
            Example(
                dataset.identities[subjects.first[number]],
                dataset.identities[compared[place]],
                clean[place],
                references[place],
                tuple(rows.epsilon[number].tolist()),
                noise.reshape(-1, *clean[place].shape),
                limit,
                before,
                tuple(after),
            )
        )
    return found


def _pair_answers(trial: Trial, rows: TrialResults, number: int) -> tuple:
    """The limit, and the answers before and at each epsilon.

    The verdict is the one that was counted: a distance at the threshold itself may round to either side.
    """
    limits, genuine = trial.subjects.limits, trial.subjects.goal == "dodging"
    assert limits is not None, "pairs have thresholds"
    after = pair_distances(trial, rows.margin)[number].tolist()
    answers = [
        ExampleAnswer(distance, genuine != success)
        for distance, success in zip(after, rows.success[number].tolist(), strict=True)
    ]
    limit = float(from_cosine(float(limits[number]), trial.context.embedder.preset.metric))
    return limit, ExampleAnswer(float(pair_distances(trial, rows.clean)[number]), genuine), *answers


def _head_answers(trial: Trial, rows: TrialResults, number: int, compared: int, similarity: Similarity) -> tuple:
    """The same for a head: whom it sees, and the distance to a training photograph."""
    head, metric = trial.context.head, similarity.threshold.metric
    assert head is not None and rows.vectors is not None, "this goal has a head and keeps embeddings"
    vectors = [*similarity.clean_vectors(trial.subjects.first[[number]]), *rows.vectors[number]]
    answers = []
    for vector in vectors:
        distance = similarity.distance(vector, compared)
        name = head.people[int(np.argmax(head.logits(vector[None])[0]))]
        answers.append(ExampleAnswer(float(from_cosine(distance, metric)), distance <= similarity.limit, name))
    return similarity.threshold.value, *answers
