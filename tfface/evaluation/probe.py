"""Find out how a model's file is to be fed: under which colour order, scale and crop it tells people apart best."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfface.data.crops import Crops, faces_known
from tfface.data.pairs import Drawn, draw_pairs
from tfface.evaluation.inputs import Embedder, FaceDataset, Model, Source, as_embedder, load_dataset, recipe
from tfface.metrics.intervals import Estimate, IdentityAuc
from tfface.models._files import FileEmbedder, WrappedEmbedder, write_record
from tfface.models._input_format import COLOURS, SCALES, InputFormat, are_probabilities
from tfface.report.evaluation_tables import feed_text, probe_remarks, probe_tables
from tfface.utils.progress import progress
from tfface.utils.public import Clock, Result, Table, UserError, as_list, configured, run_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPES = ("mtcnn-v1-margin0.20", "mtcnn-v1-margin0.50", "align5-112", "align5-144", "dlib-chip-padding0.25")
"""Crops that embedders are fed: two boxes of a detector, and three alignments, from tight to wide."""
_USUAL_SCALES = ("-1..1", "127.5/128", "0..1", "per-image", "imagenet", "0..255")
_BATCH = 32
_LISTS: dict[str, Sequence[str]] = {"all-pairs": (), "view1": ("view1-train", "view1-test")}
_FEW = 64
"""Of so few photographs there is no first round."""
HOPELESS = 0.1
"""Combinations so far behind the best in the first round, and by more than chance, are dropped."""


class Feed(NamedTuple):
    """One way of feeding a model."""

    recipe: str
    colour: str
    scale: str


@dataclass(frozen=True)
class FeedResult:
    """Verdict on one way of feeding a model.

    Attributes:
        feed: recipe, colour order and scale.
        auc: area under the ROC with its interval by identity; None where the model gave no embeddings.
        behind: by how much the best is ahead, with the paired interval by identity.
        verdict: `best`, `tie` (the interval of the difference contains 0), `worse`, `dropped` (after a first round on
            a part of the photographs) or `failed`.
        reason: why it failed.
    """

    feed: Feed
    auc: Estimate | None
    behind: Estimate | None
    verdict: str
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of `metrics.json`."""
        return {
            **self.feed._asdict(),
            "auc": self.auc and self.auc.value,
            "ci95": self.auc and self.auc.ci95,
            "behind": self.behind and self.behind.value,
            "behind_ci95": self.behind and self.behind.ci95,
            "verdict": self.verdict,
            **({"reason": self.reason} if self.reason else {}),
        }


@dataclass(frozen=True)
class Probe(Result):
    """Ways of feeding a model, ranked by how well it tells people apart.

    Attributes:
        feeds: all that were tried, best first.
        chosen: the most usual of those nearest to the best; None where none tells people apart.
        facts: what ran on what, the number of photographs, people and pairs, what the embeddings look like; JSON-able.
        remarks: what the numbers can and cannot carry.
        written: the record beside the model's file; None where none was written.
    """

    feeds: Sequence[FeedResult]
    chosen: Feed | None
    facts: dict[str, Any]
    remarks: Sequence[str] = ()
    written: Path | None = None

    @property
    def best(self) -> FeedResult:
        """The one with the largest area under the ROC."""
        return self.feeds[0]

    @property
    def ties(self) -> list[FeedResult]:
        """Those that cannot be told apart from the best, best first."""
        return [result for result in self.feeds if result.verdict == "tie"]

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.facts,
            "chosen": self.chosen and self.chosen._asdict(),
            "feeds": [result.to_dict() for result in self.feeds],
            "remarks": list(self.remarks),
            "written": self.written and str(self.written),
        }

    def tables(self) -> list[Table]:
        return probe_tables(self.to_dict())

    def plot(self) -> "Figure":
        """Draw the area under the ROC of all combinations."""
        from tfface.report.evaluation_plots import plot_feeds

        return plot_feeds(self.to_dict(), SCALES)

    def save_files(self, folder: Path) -> list[str]:
        from tfface.utils.public import save_figure

        save_figure(self.plot(), folder / "grid.png")
        return ["grid.png"]


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Configuration of a probe.

    Attributes:
        protocol: `all-pairs`; of LFW also `view1`.
        recipes: crop recipes to try; by default boxes and alignments, or the one of a data set that holds crops.
        scales: scales to try, as `-1..1`; all that are known by default.
        photographs: largest number of photographs, drawn by people.
        write: write what was found into the record beside the model's file.
        seed: random seed of that draw.
        manual_dir: folder of data set archives at hand.
        offline: never touch a network.
    """

    protocol: str = "all-pairs"
    recipes: str | Sequence[str] | None = None
    scales: str | Sequence[str] | None = None
    photographs: int = 300
    write: bool = True
    seed: int = 0
    manual_dir: str | Path | None = None
    offline: bool = False


@configured(ProbeConfig)
def probe(embedder: Model | Path, dataset: Source = "five_faces", *, config: ProbeConfig) -> Probe:
    """Find out how a model is to be fed, by how well it tells people apart.

    Every colour order is tried with every scale and crop recipe. Where the photographs are many, combinations that are
    far behind on a first part of them are dropped. Intervals are by identity; those of differences from the best are
    paired, each at 95%.

    Args:
        embedder: a model's file; of a preset or a wrapped function nothing is written.
        dataset: labelled photographs: a data set, its name, or a folder with one subfolder per person.

    Returns:
        The combinations, ranked; the record beside the model's file is written where one tells people apart.

    Raises:
        UserError: the model or the data set cannot be had, or there are no pairs of a kind.

    Example:
        >>> import tfface
        >>> found = tfface.probe("my.keras", "photographs")  # doctest: +SKIP
        >>> found.chosen  # doctest: +SKIP
        Feed(recipe='align5-112', colour='rgb', scale='-1..1')
    """
    clock = Clock()
    fed = _Fed(as_embedder(str(embedder) if isinstance(embedder, Path) else embedder, offline=config.offline))
    faces = load_dataset(dataset, manual_dir=config.manual_dir, offline=config.offline)
    if config.protocol not in _LISTS:
        raise UserError(f"`protocol`: {config.protocol!r} is unknown; valid: {', '.join(_LISTS)}", parameter="protocol")
    run = _Run(draw_pairs(faces, _LISTS[config.protocol], config.photographs, config.seed), fed)
    run.try_out(_feeds(config, faces, fed), config.seed)
    results = run.results()
    chosen = _choose(results)
    record = run_record("probe", fed.embedder, chosen.recipe if chosen else "", faces, config.seed, clock)
    found = Probe(results, chosen, record | run.facts(results[0].feed) | {"current": fed.current})
    found = dataclasses.replace(found, remarks=probe_remarks(found.to_dict()))
    return _written(fed.embedder, found) if config.write else found


def _feeds(config: ProbeConfig, faces: FaceDataset, fed: "_Fed") -> list[Feed]:
    """List the ways of feeding to try; the model's own recipe is among them."""
    current = fed.current["recipe"] if fed.current else None
    usual = [faces.own_recipe] if faces.own_recipe else [*RECIPES, *([current] if current else [])]
    names = [recipe(name).name for name in as_list(config.recipes) or usual]
    scales = as_list(config.scales) or SCALES
    for scale in scales:
        if scale not in SCALES:
            raise UserError(f"`scales`: {scale!r} is unknown; valid: {', '.join(SCALES)}", parameter="scales")
    return [Feed(*parts) for parts in itertools.product(dict.fromkeys(names), COLOURS, dict.fromkeys(scales))]


class _Fed:
    """Model with its input format left open; a preset is seen from outside of its own input layers."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.size = embedder, embedder.preset.input_size
        self.own = own = getattr(embedder, "input_format", InputFormat())
        self.current = Feed(embedder.preset.recipe, own.colour, own.scale)._asdict() if own.scale else None

    def outputs(self, images: np.ndarray, feed: Feed) -> np.ndarray:
        """Return what the model answers to crops, float32 (N, D), as it is."""
        fed = dataclasses.replace(self.own, colour=feed.colour, scale=feed.scale)
        if isinstance(self.embedder, FileEmbedder | WrappedEmbedder):
            return self.embedder.raw(images, fed)
        return self.embedder.embed(fed.array(images))


class _Run:
    """Embeddings of drawn photographs under many ways of feeding a model."""

    def __init__(self, drawn: Drawn, fed: _Fed) -> None:
        self.drawn, self.fed = drawn, fed
        self.faces, self.pairs = drawn.faces, drawn.pairs
        self.people = np.unique(self.faces.identities, return_inverse=True)[1]
        self.usable = np.zeros(len(self.faces), bool)
        self.unusable: dict[str, str] = {}
        self.first_round = len(self.faces)
        self.vectors: dict[Feed, np.ndarray] = {}
        self.failed: dict[Feed, str] = {}
        self.dropped: dict[Feed, tuple[IdentityAuc, Estimate]] = {}

    def try_out(self, feeds: Sequence[Feed], seed: int) -> None:
        """Embed the photographs under each feed; those that are hopeless on the first of them are dropped."""
        # A model that gives no vectors says so before faces are looked for.
        self.fed.outputs(np.zeros((1, self.fed.size, self.fed.size, 3), np.float32), feeds[0])
        every = np.arange(len(self.faces))
        drawn = [self.pairs.sample(max(10, len(every) // 20), genuine=kind, seed=seed) for kind in (True, False)]
        first = np.unique([*(part.first for part in drawn), *(part.second for part in drawn)])
        if len(every) <= _FEW or len(first) > 0.7 * len(every):
            self._embed(feeds, every, f"probing {len(feeds)} combinations")
            return
        self.first_round = len(first)
        self._embed(feeds, first, f"probing {len(feeds)} combinations on a part")
        areas = self._areas()
        best = max(areas.values(), key=lambda area: area.value)
        behind = {feed: (area, best.minus(area)) for feed, area in areas.items()}
        self.dropped = {feed: both for feed, both in behind.items() if both[1].value > HOPELESS and both[1].low > 0}
        left = [feed for feed in feeds if feed in areas and feed not in self.dropped]
        self._embed(left, np.setdiff1d(every, first), f"probing the {len(left)} left")

    def _embed(self, feeds: Sequence[Feed], indices: np.ndarray, label: str) -> None:
        chunks = [indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH)]
        for _ in progress(self._steps(feeds, chunks), total=len(feeds) * len(chunks), label=label, unit="batches"):
            pass

    def _steps(self, feeds: Sequence[Feed], chunks: Sequence[np.ndarray]) -> Iterator[None]:
        self.usable[np.concatenate(chunks)] = True
        for name, alike in itertools.groupby(feeds, key=lambda feed: feed.recipe):
            own, crops = list(alike), self._crops(name)
            for chunk in chunks:
                images, reasons = crops(chunk)
                good = np.array([not reason for reason in reasons])
                self.usable[chunk[~good]] = False
                self.unusable |= {self.faces.keys[row]: why for row, why in zip(chunk, reasons, strict=True) if why}
                for feed in own:
                    if feed not in self.failed and good.any():
                        self._embed_batch(feed, chunk[good], images[good])
                    yield

    def _crops(self, name: str) -> Callable[[np.ndarray], tuple[np.ndarray, list[str]]]:
        """Return what crops photographs; faces that were found in the whole data set are not looked for again."""
        source, chosen = self.drawn.source, recipe(name)
        if len(source) > len(self.faces) and faces_known(source):
            crops = Crops(source, chosen, self.fed.size)
            return lambda indices: crops(self.drawn.rows[indices])
        return Crops(self.faces, chosen, self.fed.size)

    def _embed_batch(self, feed: Feed, indices: np.ndarray, images: np.ndarray) -> None:
        try:
            found = self.fed.outputs(images, feed)
        except UserError as error:
            self.failed[feed] = str(error)
            return
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            self.failed[feed] = "some embeddings are zero or no numbers"
            return
        rows = self.vectors.setdefault(feed, np.zeros((len(self.faces), found.shape[1]), np.float32))
        rows[indices] = found / lengths

    def _kept(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return first, second and truth of the pairs of photographs that every recipe could crop."""
        pairs = self.pairs
        kept = self.usable[pairs.first] & self.usable[pairs.second]
        return pairs.first[kept], pairs.second[kept], pairs.same[kept]

    def _areas(self) -> dict[Feed, IdentityAuc]:
        """Measure the area under the ROC of the feeds that are left, all over the same pairs.

        Raises:
            UserError: no feed, or no pairs of both kinds, are left.
        """
        first, second, same = self._kept()
        if len(set(same)) < 2:
            key, why = next(iter(self.unusable.items()), ("", ""))
            raise UserError(
                f"no genuine or no impostor pairs are left; the first photograph that fails: {key} {why}; "
                "where photographs are crops already, give whole as one of `recipes`"
            )
        areas = {}
        for feed in [feed for feed in self.vectors if feed not in self.dropped and feed not in self.failed]:
            distances = 1 - (self.vectors[feed] @ self.vectors[feed].T)[first, second]
            areas[feed] = IdentityAuc.of(distances, same, self.people[first], self.people[second])
        if not areas:
            raise UserError(f"no combination gives embeddings: {next(iter(self.failed.values()))}")
        return areas

    def results(self) -> list[FeedResult]:
        """Rank the feeds: those of all photographs, then those of the first round, then those that failed."""
        areas = self._areas()
        order = sorted(areas, key=lambda feed: (-areas[feed].value, _unusual(feed)))
        found = []
        for feed in order:
            behind = areas[order[0]].minus(areas[feed])
            verdict = "best" if feed == order[0] else "worse" if behind.low > 0 else "tie"
            found.append(FeedResult(feed, areas[feed].estimate, behind, verdict))
        for feed, (area, behind) in sorted(self.dropped.items(), key=lambda item: -item[1][0].value):
            found.append(FeedResult(feed, area.estimate, behind, "dropped"))
        return [*found, *(FeedResult(feed, None, None, "failed", why) for feed, why in self.failed.items())]

    def facts(self, feed: Feed) -> dict[str, Any]:
        """Return counts, and what the model's outputs look like under a feed."""
        _, _, same = self._kept()
        some = np.flatnonzero(self.usable)[:_BATCH]
        outputs = self.fed.outputs(self._crops(feed.recipe)(some)[0], feed)
        lengths = np.linalg.norm(outputs, axis=1)
        return {
            "protocol": self.pairs.name,
            "photographs": int(self.usable.sum()),
            "failed_photographs": len(self.unusable),
            "people": len(np.unique(self.people[self.usable])),
            "genuine_pairs": int(same.sum()),
            "impostor_pairs": int((~same).sum()),
            "first_round": self.first_round,
            "embedding": {
                "dimension": outputs.shape[1],
                "lengths": [float(value) for value in np.quantile(lengths, [0, 0.5, 1])],
                "unit": bool(np.allclose(lengths, 1, atol=1e-3)),
                "class_probabilities": are_probabilities(outputs),
            },
        }


def _unusual(feed: Feed) -> int:
    """Return how far a feed is from what most models take: the places in the lists, added up."""
    lists = zip(feed, (RECIPES, COLOURS, _USUAL_SCALES), strict=True)
    return sum(known.index(value) if value in known else len(known) for value, known in lists)


def _choose(results: Sequence[FeedResult]) -> Feed | None:
    """Choose the most usual feed of those near the best; None where the best tells nobody apart.

    Near are ties behind by no more than a quarter of the width of their interval, for many people one standard error
    (the rule of Breiman et al., Classification and Regression Trees, 1984, for choosing among what is equally good).
    """
    best = results[0]
    if best.auc is None or best.auc.low <= 0.5:
        return None
    ties = [(result.feed, result.behind) for result in results if result.verdict == "tie" and result.behind]
    near = [feed for feed, behind in ties if behind.value <= (behind.high - behind.low) / 4]
    return min([best.feed, *near], key=_unusual)


def _written(embedder: Embedder, found: Probe) -> Probe:
    """Write what was found beside the model's file; say where, or what to pass instead."""
    if found.chosen is None or not isinstance(embedder, FileEmbedder):
        return found
    facts, chosen = found.to_dict(), found.chosen._asdict()
    kept = ("dataset", "dataset_version", "protocol", "photographs", "people", "genuine_pairs", "impostor_pairs")
    source = {name: facts[name] for name in kept} | {"best": found.best.to_dict()}
    own = {**embedder.input_format.to_dict(), "input_size": embedder.preset.input_size}
    changes = {**own, **chosen, "probe": {**source, "ties": [result.to_dict() for result in found.ties]}}
    remarks, path = list(found.remarks), None
    if (embedder.preset.threshold is not None or embedder.preset.thresholds) and chosen != facts["current"]:
        changes |= {"threshold": None, "threshold_source": None, "thresholds": []}
        remarks.append(f"its threshold was of another feed and is removed: run `tfface calibrate {embedder.path}`")
    try:
        path = write_record(embedder.path, changes)
        remarks.append(f"wrote {path}: {feed_text(chosen)}")
    except (OSError, UserError) as error:
        why = getattr(error, "strerror", None) or error
        advice = f"give {embedder.path}:{feed_text(chosen)} as the model"
        remarks.append(f"the record beside {embedder.path} cannot be written ({why}): {advice}")
    return dataclasses.replace(found, remarks=remarks, written=path)
