"""Groups of tiles: each tile once, the same results from disk as from memory, and only what is missing is done."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.metrics import all_pairs as all_pairs_module
from tfface.metrics.all_pairs import TileGroups, all_pairs, arrange
from tfface.metrics.identity_errors import error_counts
from tfface.metrics.pair_merging import REGIONS, Merger
from tfface.metrics.pair_tiles import tile_plan


def clustered(images: int, people: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    identities = generator.integers(0, people, images)
    vectors = generator.standard_normal((people, 16))[identities] + 0.6 * generator.standard_normal((images, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), identities


def same_bits(one, other):
    for region in REGIONS:
        for kind in ("genuine", "impostor"):
            ours, theirs = (getattr(part.regions[region], kind).tally for part in (one, other))
            np.testing.assert_array_equal(ours.histogram, theirs.histogram)
            for total in ("cosine", "cosine_squares", "euclidean"):
                assert getattr(ours, total) == getattr(theirs, total)
    for name in ("closest_impostors", "farthest_genuine", "genuine_pairs"):
        for field in ("first", "second", "distance"):
            np.testing.assert_array_equal(getattr(getattr(one, name), field), getattr(getattr(other, name), field))


@settings(max_examples=40)
@given(st.integers(0, 300), st.integers(1, 20), st.data())
def test_groups_hold_every_tile_once(rows, tile, data):
    plan = tile_plan(rows, tile, boundary=data.draw(st.integers(0, rows)))
    region = data.draw(st.sampled_from([None, "a", "b"]))
    groups = TileGroups(plan, region)
    found = [part for group in groups.all() for part in groups.tiles(group)]
    assert sorted(found) == [part for part in plan if region in (None, part.region)]
    assert all(any(True for _ in groups.tiles(group)) for group in groups.all())
    numbers = [part.number for part in plan]
    assert numbers == list(range(len(plan)))


@pytest.fixture
def on_disk(monkeypatch):
    """Everything is too large for memory."""
    monkeypatch.setattr(all_pairs_module, "MOST_IN_MEMORY", 0)


def test_scores_from_disk_equal_those_from_memory_to_the_bit(monkeypatch):
    embeddings, identities = clustered(900, 60)
    images = np.random.default_rng(1).permutation(900)[:700]
    inputs = {"identities": identities[images], "images": images, "seed": 3, "tile": 100, "worst": 17}
    memory = all_pairs(embeddings, **inputs)
    arrangement = arrange(identities[images], seed=3)
    counted = error_counts(embeddings, arrangement, [0.3, 0.8], images=images, region="b", tile=100)
    monkeypatch.setattr(all_pairs_module, "MOST_IN_MEMORY", 0)
    same_bits(memory, all_pairs(embeddings, **inputs))
    for one, other in zip(
        counted, error_counts(embeddings, arrangement, [0.3, 0.8], images=images, region="b", tile=100), strict=True
    ):
        for name in ("genuine_pairs", "genuine_errors", "impostor_pairs", "impostor_errors"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_only_missing_groups_are_scored_again(on_disk, cache, monkeypatch):
    embeddings, identities = clustered(300, 30)
    first = all_pairs(embeddings, identities, seed=0, tile=64)
    kept = sorted(cache.glob("pair-scores/*/rows-*.parquet"))
    assert len(kept) == len(TileGroups(tile_plan(300, 64, boundary=arrange(identities, seed=0).boundary)).all())
    kept[2].unlink()
    scored = []
    score = all_pairs_module.score_tile
    monkeypatch.setattr(
        all_pairs_module, "score_tile", lambda *args, **named: scored.append(args[2]) or score(*args, **named)
    )
    same_bits(first, all_pairs(embeddings, identities, seed=0, tile=64))
    assert [part.number for part in scored] == [2]


@pytest.mark.parametrize("change", ["seed", "worst", "identities", "vectors", "tile"])
def test_whatever_scores_depend_on_makes_them_anew(on_disk, cache, change):
    embeddings, identities = clustered(200, 30)
    all_pairs(embeddings, identities, seed=0, tile=64)
    inputs = {"embeddings": embeddings, "identities": identities, "seed": 0, "tile": 64, "worst": 100}
    other = {"seed": 1, "worst": 5, "identities": identities // 2, "vectors": 0, "tile": 50}[change]
    if change == "vectors":
        inputs["embeddings"] = -embeddings
    else:
        inputs[change] = other
    found = all_pairs(**inputs)
    assert len(list(cache.glob("pair-scores/*"))) == 2
    assert found.total.impostor.count + found.total.genuine.count == 200 * 199 // 2


def test_mergers_hold_all_that_they_merged():
    embeddings, identities = clustered(200, 20)
    arrangement = arrange(identities, seed=0)
    rows, plan = embeddings[arrangement.order], tile_plan(200, 32, boundary=arrangement.boundary)
    results = [all_pairs_module.score_tile(rows, arrangement.codes, part, worst=9) for part in plan]
    whole, parts = Merger(worst=9), [Merger(worst=9) for _ in range(3)]
    for number, result in enumerate(results):
        whole.add(result)
        parts[number % 3].add(result)
    together = Merger(worst=9)
    for part in reversed(parts):
        together.absorb(part.arrays())
    same_bits(whole.summary(), together.summary())
    nothing = Merger()
    nothing.absorb(Merger().arrays())
    assert nothing.summary().total.impostor.count == 0
