"""Evaluate how well face embedders tell people apart."""

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.augmentation.changes import Corruption, corruption
from tfface.data.pairs import read_groups_file, read_pairs_file
from tfface.distributed.cluster import executor_at
from tfface.distributed.executor import Executor
from tfface.errors import Unavailable, UserError
from tfface.evaluation.embeddings import embed_dataset, report_failures, with_flip
from tfface.evaluation.inputs import (
    Embedder,
    FaceDataset,
    Pairs,
    Recipe,
    apply,
    as_embedder,
    labels_of,
    load_dataset,
    recipe,
)
from tfface.evaluation.scoring import Evaluation, check_protocol, evaluate_embeddings
from tfface.report.evaluation_tables import comparison_table, paper_table
from tfface.utils.public import Clock, Result, Table, as_list, configured, one_or_many, run_record, suffixes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison(Result):
    """Several evaluations side by side.

    Attributes:
        evaluations: one for each model, data set, recipe and corruption.
    """

    evaluations: Sequence[Evaluation]

    def to_dict(self) -> dict[str, Any]:
        return one_or_many([evaluation.to_dict() for evaluation in self.evaluations])

    def tables(self) -> list[Table]:
        objects = [evaluation.to_dict() for evaluation in self.evaluations]
        settings = {(entry["dataset"], entry["recipe"], entry["corruption"]) for entry in objects}
        return [comparison_table(objects), *([paper_table(objects)] if len(settings) == 1 else [])]

    def plot(self) -> "Figure":
        """Draw the ROC curves of all."""
        from tfface.report.evaluation_plots import plot_roc

        return plot_roc(
            [(evaluation.label, evaluation.curve, evaluation.metrics["auc"]) for evaluation in self.evaluations]
        )

    def save_files(self, folder: Path) -> list[str]:
        from tfface.utils.public import save_figure

        save_figure(self.plot(), folder / "roc.png")
        written = ["roc.png"]
        ends = suffixes([evaluation.label for evaluation in self.evaluations])
        for evaluation, suffix in zip(self.evaluations, ends, strict=True):
            written += evaluation.save_distances(folder, suffix=suffix)
        return written


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Configuration of an evaluation.

    Attributes:
        protocol: `all-pairs`; of LFW also `view1` and `view2`.
        pairs: a pairs file instead of a protocol's pairs.
        recipe: crop recipe; the preset's by default, or `whole` where a data set holds crops. Several are compared.
        flip: add the mirrored photograph's embedding.
        defense: input defenses in front of the model, as `jpeg:quality=75`.
        corrupt: measure under a corruption of each crop, as `rotation:20`; several are compared with the clean run.
        threshold: fixed threshold in the preset's metric, instead of the preset's.
        far: fixed threshold calibrated at this false accept rate (`tfface.calibrate`), instead of the preset's.
        groups: files of image or person to group: error rates by group.
        images_per_person: draw so many images of each person.
        strict: stop if a photograph fails, instead of counting it.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.
        cluster: work on a Ray cluster: `auto`, `ray://HOST:PORT` or `local:N`.
    """

    protocol: str = "all-pairs"
    pairs: str | Path | None = None
    recipe: str | Sequence[str] | None = None
    flip: bool = False
    defense: str | Sequence[str] = ()
    corrupt: str | Sequence[str] = ()
    threshold: float | None = None
    far: float | None = None
    groups: str | Path | Sequence[str | Path] = ()
    images_per_person: int | None = None
    strict: bool = False
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False
    cluster: str | None = None


@configured(EvaluationConfig)
def evaluate(
    embedder: "str | Embedder | Sequence[str | Embedder]" = "facenet",
    dataset: str | Path | FaceDataset | Sequence[str | Path | FaceDataset] = "five_faces",
    *,
    config: EvaluationConfig,
) -> "Evaluation | Comparison":
    """Evaluate how well face embedders tell people apart.

    Args:
        embedder: a model, its name or its file; several are compared.
        dataset: a data set, its name, or a folder with one subfolder per person; several are compared.

    Returns:
        An `Evaluation`; a `Comparison` where there are several.

    Raises:
        UserError: a model, data set, recipe or list cannot be had, or there are no pairs to score.

    Example:
        >>> import tfface
        >>> result = tfface.evaluate("student/lfw-distilled", "five_faces")  # doctest: +SKIP
        >>> round(result.auc, 3)  # doctest: +SKIP
        0.916
    """
    recipes = [recipe(name) for name in dict.fromkeys(as_list(config.recipe))]
    corruptions = list(dict.fromkeys(corruption(text, config.seed) for text in as_list(config.corrupt)))
    embedders = [apply(as_embedder(one, offline=config.offline), as_list(config.defense)) for one in as_list(embedder)]
    for model in embedders if config.threshold is not None or config.far is not None else ():
        model.preset.decide(config.threshold, config.far)  # what cannot be is an error at once
    # Several corruptions are compared with the clean run; one alone is not.
    cases: list[Corruption | None] = [*corruptions] if len(corruptions) == 1 else [None, *corruptions]
    found: list[Evaluation] = []
    with executor_at(config.cluster) as executor:
        for faces, label in _at_hand(as_list(dataset), config):
            run = _Run.of(faces, label, config, executor)
            for model in embedders:
                own = [recipe(faces.own_recipe or model.preset.recipe)]
                for chosen, case in itertools.product(recipes or own, cases):
                    # The same photographs fail under all corruptions.
                    found.append(run.evaluate(model, chosen, case, report=case is cases[0]))
    return found[0] if len(found) == 1 else Comparison(found)


@dataclass(frozen=True)
class _Run:
    """Shared inputs of all evaluations on one data set."""

    faces: FaceDataset
    label: str
    config: EvaluationConfig
    pairs: Pairs | None
    groups: dict[str, str] | None
    executor: Executor

    @classmethod
    def of(cls, faces: FaceDataset, label: str, config: EvaluationConfig, executor: Executor) -> "_Run":
        pairs = read_pairs_file(config.pairs, faces) if config.pairs else None
        if pairs is None:
            check_protocol(faces, config.protocol)
        groups = as_list(config.groups)
        return cls(faces, label, config, pairs, read_groups_file(groups, faces) if groups else None, executor)

    def evaluate(self, embedder: Embedder, recipe: Recipe, case: Corruption | None, *, report: bool) -> Evaluation:
        config, clock = self.config, Clock()
        embeddings = embed_dataset(
            self.faces, embedder, recipe, flip=config.flip, corruption=case, executor=self.executor
        )
        if report:
            report_failures(embeddings.failed, len(self.faces), strict=config.strict)
        evaluation = evaluate_embeddings(
            self.faces,
            embeddings,
            embedder.preset,
            protocol=config.protocol,
            pairs=self.pairs,
            threshold=config.threshold,
            far=config.far,
            recipe=with_flip(recipe.name, flip=config.flip),
            groups=self.groups,
            seed=config.seed,
            executor=self.executor,
        )
        record = run_record("evaluate", embedder, recipe.name, self.faces, config.seed, clock)
        record |= {"dataset": self.label, "flip": config.flip, "corruption": str(case) if case else None}
        return dataclasses.replace(evaluation, record=record)


def _at_hand(
    datasets: Sequence[str | Path | FaceDataset], config: EvaluationConfig
) -> Iterator[tuple[FaceDataset, str]]:
    """Yield the data sets and their labels; of several, one that cannot be had is logged and passed over."""
    found: list[FaceDataset] = []
    for one in datasets:
        try:
            found.append(
                load_dataset(
                    one,
                    manual_dir=config.manual_dir,
                    offline=config.offline,
                    images_per_person=config.images_per_person,
                    seed=config.seed,
                )
            )
        except Unavailable as error:
            if len(datasets) == 1:
                raise
            logger.warning(f"{one} is not at hand and is left out: {error}")
    if not found:
        names = ", ".join(map(str, datasets))
        raise UserError(f"none of {names} is at hand: see the command `datasets list`", parameter="dataset")
    # One that is named twice, by another path, is one.
    each = {(faces.name, faces.version, Path(getattr(faces, "folder", "")).resolve()): faces for faces in found}
    yield from zip(each.values(), labels_of(list(each.values())), strict=True)
