"""The sections of the HTML report, each from the runs of one command.

What a section reads of `metrics.json` is the project's schema; further keys are passed over.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfface.report.distillation import comparison_rows
from tfface.report.evaluation_tables import PAPER_COLUMNS, paper_row, percent
from tfface.report.page_attacks import attack_section, robustness_section
from tfface.report.page_runs import (
    HEADLINES,
    Block,
    Notes,
    Run,
    Section,
    TableBlock,
    count,
    pictures,
    rate,
    remarks,
)
from tfface.utils.files import natural_key, read_json

Metrics = dict[str, Any]
_PEOPLE = 10
RETRAINED = {
    "clean": "clean photographs",
    "augmented": "augmented photographs",
    "adversarial_old_head": "adversarial images made with the old head",
    "adversarial_new_head": "adversarial images made with the new head",
}


def sections(runs: Sequence[Run]) -> list[Section]:
    """Return the sections that there is data for, in the order of the paper's loop; the list of runs comes last."""
    makers: dict[str, Callable[[list[Run]], Section]] = {
        "evaluate": _evaluation,
        "mine": _mining,
        "attack": attack_section,
        "retrain": _retraining,
        "benchmark-robustness": robustness_section,
        "distill": _distillation,
        "export": _exports,
    }
    made = [
        maker(chosen)
        for command, maker in makers.items()
        if (chosen := [run for run in runs if run.command == command])
    ]
    return [*made, _provenance(runs)]


def _evaluation(runs: list[Run]) -> Section:
    plain = [run for run in runs if not run.view(_changed)]
    blocks: list[Block] = [
        TableBlock(
            "The paper's Table 1 and ours (distances: mean/variance, Euclidean)",
            ["run", *PAPER_COLUMNS],
            [[run.label, *run.view(paper_row)] for run in plain],
            paper=frozenset(index + 1 for index, name in enumerate(PAPER_COLUMNS) if name.startswith("paper")),
            words=frozenset({1}),
        ),
        TableBlock(
            "Verification",
            ["run", "data set", "crop", "images", "at the fixed threshold", "calibrated", "AUC", "EER", "TAR at FAR"],
            [[run.label, *run.view(_verification)] for run in runs],
            words=frozenset({1, 2}),
        ),
        *pictures(runs, {"roc": "ROC", "distances": "distances of pairs"}, "plot"),
        *remarks(runs),
    ]
    return Section(
        "models",
        "How good it is",
        "How well each embedder tells people apart: accuracy is the mean of genuine and impostor accuracy; "
        "a calibrated threshold is never chosen on the pairs that it is judged on.",
        blocks if plain else blocks[1:],
        [
            (percent(run.metrics["calibrated"]["accuracy"]), f"accuracy, calibrated: {run.label}")
            for run in runs
            if run.metrics["calibrated"]
        ][:HEADLINES],
    )


def _changed(metrics: Metrics) -> bool:
    """Tell if the model saw changed photographs; the paper's figures are of unchanged ones."""
    made = str(metrics["dataset_version"]).startswith("manifest-")
    return bool(metrics.get("corruption") or metrics.get("defense") or made)


def _verification(metrics: Metrics) -> list[str]:
    calibrated, fixed = metrics["calibrated"], metrics["fixed"]
    fars = metrics["tar_at_far"]
    far = "0.001" if "0.001" in fars else next(reversed(fars), None)
    flip = "+flip" if metrics.get("flip") else ""
    seen = " under ".join(filter(None, [metrics["recipe"] + flip, metrics.get("corruption")]))
    behind = f"{' and '.join(metrics['defense'])} before it" if metrics.get("defense") else ""
    return [
        f"{metrics['dataset']}, {metrics['protocol']}",
        ", ".join(filter(None, [seen, behind])),
        f"{metrics['images'] - metrics['failed_images']:,} of {metrics['images']:,}",
        *(f"{rate(one, 'accuracy')} at {one['threshold']:.3f}" if one else "-" for one in (fixed, calibrated)),
        f"{metrics['auc']:.4f}",
        percent(metrics["eer"]),
        f"{rate(fars[far], 'value')} at {float(far):.1%}" if far else "-",
    ]


def _mining(runs: list[Run]) -> Section:
    kinds = ("false_positives", "false_negatives")

    def people(metrics: Metrics) -> list[list[str]]:
        return [
            [person["person"], f"{person['images']:,}", *(f"{person[kind]:,}" for kind in kinds)]
            for person in metrics["people"][:_PEOPLE]
        ]

    def counts(metrics: Metrics) -> list[str]:
        found = [metrics[kind] for kind in kinds]
        return [
            f"{metrics['dataset']}, {metrics['protocol']}",
            f"{metrics['metric']} {metrics['threshold']:.4f} ({metrics['threshold_source']})",
            *(f"{entry['count']:,} of {entry['pairs']:,} ({percent(entry['rate'], 3)})" for entry in found),
        ]

    table = TableBlock(
        "Wrong pairs",
        ["run", "data set", "threshold", "false positives", "false negatives"],
        [[run.label, *run.view(counts)] for run in runs],
        words=frozenset({1, 2}),
    )
    hardest = [
        TableBlock(
            f"The people with the most errors: {run.label}",
            ["person", "photographs", "false positives", "false negatives"],
            rows,
        )
        for run in runs
        if (rows := run.view(people))
    ]
    titles = {kind: kind.replace("_", " ") for kind in kinds}
    return Section(
        "mining",
        "What it gets wrong",
        "Impostor pairs taken for one person and genuine pairs taken for two, worst first. A false positive counts "
        "for both of its people; the people with the most errors are those to augment.",
        [table, *hardest, *pictures(runs, titles, "gallery"), *remarks(runs)],
        [
            (f"{sum(run.metrics[kind]['count'] for kind in kinds):,}", f"wrong pairs: {run.label}")
            for run in runs[:HEADLINES]
        ],
    )


def _retraining(runs: list[Run]) -> Section:
    def cells(metrics: Metrics) -> list[list[str]]:
        return [[rate(metrics[when].get(name), "error_rate") for when in ("before", "after")] for name in RETRAINED]

    columns = [run.view(cells) for run in runs]
    blocks: list[Block] = [
        TableBlock(
            "Error rates (95% interval) before and after",
            ["test set", *(f"{run.label}: {when}" for run in runs for when in ("before", "after"))],
            [
                [name, *(cell for run_cells in columns for cell in run_cells[place])]
                for place, name in enumerate(RETRAINED.values())
            ],
        )
    ]
    for run in runs:
        if claims := run.view(_claims):
            names = ["claim", "paper", "ours", "holds"]
            blocks.append(
                TableBlock(f"The paper's claims: {run.label}", names, claims, frozenset({1}), frozenset({1, 2, 3}))
            )
    return Section(
        "retraining",
        "How it is defended",
        "The head retrained on augmented and adversarial images, judged on four sets.",
        [*blocks, *pictures(runs, {"": ""}, "photo"), *remarks(runs)],
    )


def _claims(metrics: Metrics) -> list[list[str]]:
    holds = {True: "yes", False: "no", None: "-"}
    return [
        [str(row["claim"]), *(str(row.get(name) or "-") for name in ("paper", "ours")), holds[row.get("holds")]]
        for row in metrics.get("claims") or []
    ]


def _distillation(runs: list[Run]) -> Section:
    blocks: list[Block] = [
        TableBlock(
            "Students",
            ["run", "teacher", "student", "weights", "people trained on"],
            [[run.label, *run.view(_student)] for run in runs],
            words=frozenset({1, 2}),
        )
    ]
    for run in runs:
        if "misses" in run.metrics:
            names = ["Euclidean distances of unit vectors", "paper", run.metrics["teacher"], run.metrics["preset"]]
            blocks.append(
                TableBlock(f"Student and teacher: {run.label}", names, run.view(comparison_rows), paper=frozenset({1}))
            )
    return Section(
        "distillation",
        "A small student",
        "A student with a fraction of the teacher's weights, trained to give the teacher's embeddings; "
        "held-out people were in neither training nor any choice.",
        [*blocks, *pictures(runs, {"curves": "training curves"}, "plot")],
        [
            (run.view(lambda metrics: f"{metrics['speedup']:.1f} times"), f"the teacher's speed: {run.label}")
            for run in runs
            if "speedup" in run.metrics
        ][:HEADLINES],
    )


def _student(metrics: Metrics) -> list[str]:
    names = [str(metrics["teacher"]), str(metrics["student"])]
    return [*names, *(count(metrics.get(name)) for name in ("parameters", "train_identities"))]


def _exports(runs: list[Run]) -> Section:
    def artifacts(metrics: Metrics) -> list[list[str]]:
        keras = {"path": "the Keras model", "format": "keras", **metrics["keras"]} if metrics.get("keras") else None
        return [_artifact(entry) for entry in [keras, *metrics["artifacts"]] if entry is not None]

    return Section(
        "exports",
        "What is shipped",
        "The exported files: their size, the time of one image, how near their embeddings are to the model's own.",
        [
            TableBlock(
                "Artifacts",
                ["run", "file", "format", "quantization", "MB", "ms", "cosine: least", "mean", "accuracy"],
                [[run.label, *row] for run in runs for row in run.view(artifacts)],
                words=frozenset({1, 2, 3}),
            )
        ],
    )


def _artifact(entry: Metrics) -> list[str]:
    def shown(name: str, pattern: str, unit: float = 1) -> str:
        return "-" if entry.get(name) is None else format(entry[name] / unit, pattern)

    judged = entry.get("evaluate") or {}
    accuracy = judged.get("calibrated") or judged.get("fixed")
    path = Path(str(entry["path"]))
    return [
        path.parent.name if path.name.isdecimal() else path.name,  # a version of a SavedModel
        str(entry["format"]),
        str(entry.get("quantization") or "none"),
        shown("bytes", ".1f", 1e6),
        shown("ms", ".1f"),
        shown("embedding_cosine_min", ".4f"),
        shown("embedding_cosine_mean", ".4f"),
        rate(accuracy, "accuracy"),
    ]


def _provenance(runs: Sequence[Run]) -> Section:
    def row(metrics: Metrics) -> list[str]:
        texts = [str(metrics.get(name) or "-") for name in ("preset", "weights_sha256", "recipe")]
        dataset = " ".join(str(metrics[name]) for name in ("dataset", "dataset_version") if metrics.get(name)) or "-"
        seed = "-" if metrics.get("seed") is None else str(metrics["seed"])
        return [metrics["command"], *texts, dataset, seed, metrics["started"], f"{metrics['seconds']:.0f}"]

    def versions(metrics: Metrics) -> str:
        return ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())

    labels: dict[str, list[str]] = {}
    for run in runs:
        labels.setdefault(run.view(versions), []).append(run.label)
    lines = [f"{text}: {'all runs' if len(labels) == 1 else ', '.join(own)}" for text, own in labels.items()]
    names = ["run", "command", "preset", "weights (SHA-256)", "crop", "data set", "seed", "started", "seconds"]
    rows = [[run.label, *run.view(row)] for run in runs]
    table = TableBlock("Runs", names, rows, words=frozenset({1, 2, 3, 4, 5, 7}))
    lead = "Every figure above depends on these. Each run's metrics.json holds all of its own."
    return Section("runs", "What was run", lead, [table, Notes(lines), *_stages(runs)])


def _stages(runs: Sequence[Run]) -> list[Block]:
    """Show the calls of a reproduction's stages, and the models that it was without."""
    above = dict.fromkeys(run.folder.parent for run in runs if "stage" in run.stage)
    # Not all stages measure something.
    paths = [path for folder in above for path in folder.glob("*/stage.json")]
    paths.sort(key=lambda path: natural_key(path.as_posix()))
    stages = {path.parent: found for path in paths if isinstance(found := read_json(path), dict)}
    if not stages:
        return []
    rows = [[folder.name, str(stage.get("call", stage.get("command_line")))] for folder, stage in stages.items()]
    absent = dict.fromkeys(
        f"{name} is left out: {why}" for stage in stages.values() for name, why in (stage.get("absent") or {}).items()
    )
    table = TableBlock("Stages", ["stage", "call"], rows, words=frozenset({1}))
    return [table, *([Notes(list(absent))] if absent else [])]
