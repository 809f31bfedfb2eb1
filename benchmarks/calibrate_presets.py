"""Measures the thresholds that presets are shipped with, at stated false accept rates, on all pairs of people of LFW.

    TFFACE_LFW=DIR PYTHONPATH=. python benchmarks/calibrate_presets.py [--write] [PRESET ...]

Presets that were trained here on LFW: the people of View 2's fold 8, who validated them. Others: the people of View 1's
training list, many of whom View 2 shares. It is what `tfface calibrate PRESET --people fold8` (or `view1-train`) with
`--far 0.001 --far 0.01` measures. With --write the presets in `saved_models/` get them: their records, the held-out
people's accuracy at the new threshold, and their cards. Of the others the rows are printed, as their files give them to
`view1_thresholds`.
"""

import argparse
import json

import tfface
from tfface.evaluation.calibrate import OWN_FARS
from tfface.evaluation.embeddings import embed_dataset
from tfface.metrics.distances import FarThreshold
from tfface.models._embedder import SAVED_MODELS, Embedder, all_presets, as_embedder
from tfface.preprocessing.images import recipe
from tfface.report.distillation import model_card
from tfface.training.comparison import heldout_metrics
from tfface.training.distillation import released_preset
from tfface.training.split import split_people
from tfface.utils.files import read_json, write_json


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("presets", nargs="*")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lfw = tfface.load_dataset("lfw")
    shared = _shared(lfw)
    for name in options.presets or [preset.name for preset in all_presets() if preset.identities_seen]:
        model = as_embedder(name)
        trained = bool(model.preset.identities_seen)
        people = "fold8" if trained else "view1-train"
        found = tfface.calibrate(model, lfw, far=OWN_FARS, people=people, write=False)
        print(json.dumps(found.to_dict()["thresholds"]))
        if not trained:
            print(f"{found.metrics['identities']:,} people, of whom View 2 shares {shared:,}")
            for row in found.thresholds:
                print((row.far, row.threshold, row.low, row.high, row.impostors_beyond))
        elif options.write:
            _release(lfw, model, found.thresholds)


def _shared(lfw: tfface.data.FaceDataset) -> int:
    """Return the number of people of View 1's training list who are in View 2 too."""
    people = [
        {lfw.identities[index] for index, chosen in enumerate(lfw.whose(part)) if chosen}
        for part in ("view1-train", "view2")
    ]
    return len(people[0] & people[1])


def _release(lfw: tfface.data.FaceDataset, model: Embedder, rows: tuple[FarThreshold, ...]) -> None:
    """Write the thresholds into a preset's record, and the held-out people's accuracy at its own beside it."""
    folder = SAVED_MODELS / model.preset.name
    metrics = read_json(folder / "metrics.json")
    people = metrics["validation"]["people"]
    best = (model.preset.metric, metrics["validation"]["threshold"], f"best balanced accuracy on {people}")
    preset = released_preset(model.preset, rows, best, people)
    preset.write(folder)
    split, cut = split_people(lfw), recipe(preset.recipe)
    for part, one in (
        ("heldout", Embedder(preset, model.sha256, model.build)),
        ("heldout_teacher", metrics["teacher"]),
    ):
        judged = as_embedder(one)
        found = embed_dataset(lfw, judged, cut)
        metrics[part] = heldout_metrics(lfw, found, judged.preset, split, seed=metrics["seed"])
    write_json(folder / "metrics.json", metrics)
    (folder / "README.md").write_text(model_card(metrics, preset.to_dict()))


if __name__ == "__main__":
    main()
