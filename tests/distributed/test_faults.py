"""Nodes that die, processes that end, images that kill: the results are those of an undisturbed run."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
import pytest

from tfface import data
from tfface.distributed.rows import RowJob, fill
from tfface.errors import UserError
from tfface.evaluation import embeddings
from tfface.evaluation.embeddings import embed_dataset
from tfface.metrics.all_pairs import all_pairs
from tfface.models._embedder import Embedder, load_embedder
from tfface.preprocessing.images import recipe
from tfface.utils.cache import Store

pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
pytestmark = pytest.mark.cluster


@dataclass(frozen=True, eq=False)
class Squares(RowJob):
    """The squares of the rows' numbers, and whom it took down."""

    store: Store
    raises: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    seconds: float = 0
    lacking: str = ""

    def prepare(self):
        if self.lacking:
            raise UserError(self.lacking)

    def compute(self, parts, given_up, save):
        for start, stop in parts:
            squares = [None if row in given_up else self.square(row) for row in range(start, stop)]
            time.sleep(self.seconds)
            reasons = [given_up.get(row, "") for row in range(start, stop)]
            save(
                (start, stop), pa.table({"square": squares, "failed": reasons, "process": [os.getpid()] * len(reasons)})
            )
            yield stop - start

    def square(self, row):
        if row in self.ends:
            os._exit(3)
        if row in self.raises:
            raise ArithmeticError(f"{row} has no square")
        return row * row


class SquaresByTasks(Squares):
    whole_node = False
    longest = 1


def store(name: str, rows: int, shard_rows: int = 4) -> Store:
    return Store("things", {"name": name}, rows, shard_rows=shard_rows)


def remove_a_node(nodes, when: Callable[[], bool]) -> threading.Thread:
    """Kills a node as soon as something holds."""

    def watch():
        deadline = time.monotonic() + 120
        while not when() and time.monotonic() < deadline:
            time.sleep(0.02)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def begun(kept: Store) -> bool:
    return any(kept.folder.glob("rows-*.parquet"))


@pytest.mark.slow
def test_rows_that_raise_and_rows_that_end_the_process_are_given_up_alone(pool, capfd):
    job = Squares(store("poison", 22), raises=(13,), ends=(6,))
    fill(job, label="squaring", executor=pool)
    table = job.store.read()
    assert table["square"].to_pylist() == [None if row in (6, 13) else row * row for row in range(22)]
    reasons = {row: reason for row, reason in enumerate(table["failed"].to_pylist()) if reason}
    assert reasons.keys() == {6, 13}
    assert reasons[13] == "ArithmeticError: 13 has no square"
    assert reasons[6].startswith("the process that did it ended")
    assert [line.split(":")[1].strip() for line in capfd.readouterr().err.splitlines()] == [
        "row 6 is given up",
        "row 13 is given up",
    ]

    # Where nothing can be given up, it is one line; and what a node lacks is told with its address.
    hopeless = SquaresByTasks(store("hopeless", 4), raises=(1,))
    hopeless.__class__.separable = False
    with pytest.raises(UserError, match=r"fail again and again: ArithmeticError: 1 has no square"):
        fill(hopeless, label="squaring", executor=pool)
    with pytest.raises(UserError, match=r"^node 127\.0\.0\.1: no weights here$"):
        fill(Squares(store("lacking", 4), lacking="no weights here"), label="squaring", executor=pool)


@pytest.mark.parametrize("kind", [Squares, SquaresByTasks])
def test_a_node_that_dies_takes_nothing_with_it(nodes, pool, kind):
    job = kind(store("killed", 60), seconds=0.3)
    killer = remove_a_node(nodes, lambda: begun(job.store))
    fill(job, label="squaring", executor=pool)
    killer.join()
    table = job.store.read()
    assert table["square"].to_pylist() == [row * row for row in range(60)]
    assert len(set(table["process"].to_pylist())) >= 2, "it was not one alone"


@pytest.mark.slow
def test_scoring_survives_a_node_to_the_bit(nodes, pool, monkeypatch):
    generator = np.random.default_rng(0)
    identities = generator.integers(0, 300, 6000)
    vectors = generator.standard_normal((300, 32))[identities] + generator.standard_normal((6000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    made = []
    monkeypatch.setattr(
        "tfface.metrics.all_pairs.Store", lambda *args, **named: made.append(Store(*args, **named)) or made[0]
    )
    killer = remove_a_node(nodes, lambda: bool(made) and begun(made[0]))
    found = all_pairs(vectors, identities, seed=0, tile=128, executor=pool)
    killer.join()
    alone = all_pairs(vectors, identities, seed=0, tile=128)
    for region, scores in alone.regions.items():
        for kind in ("genuine", "impostor"):
            ours, theirs = (getattr(one, kind).tally for one in (found.regions[region], scores))
            np.testing.assert_array_equal(ours.histogram, theirs.histogram)
            assert ours.cosine == pytest.approx(theirs.cosine, rel=1e-12)
            assert ours.euclidean == pytest.approx(theirs.euclidean, rel=1e-12)
    for name in ("closest_impostors", "farthest_genuine", "genuine_pairs"):
        for field in ("first", "second", "distance"):
            np.testing.assert_array_equal(getattr(getattr(found, name), field), getattr(getattr(alone, name), field))
    assert found.total.impostor.count + found.total.genuine.count == 6000 * 5999 // 2


@pytest.mark.slow
def test_embedding_survives_a_node(nodes, pool, tmp_path, make_photo, monkeypatch):
    made: list[Store] = []
    monkeypatch.setattr(embeddings, "Store", lambda *args: made.append(Store(*args, shard_rows=4)) or made[-1])
    for person in range(5):
        (tmp_path / "faces" / f"p{person}").mkdir(parents=True)
        for number in range(8):
            pixels = make_photo(person, number, 40, 40)[:, :, ::-1]
            (tmp_path / "faces" / f"p{person}" / f"{number}.jpg").write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    faces = data.load_dataset(str(tmp_path / "faces"))
    embedder, whole = load_embedder("student", offline=True), recipe("whole")
    killer = remove_a_node(nodes, lambda: bool(made) and begun(made[0]))
    found = embed_dataset(faces, embedder, whole, executor=pool)
    killer.join()
    assert found.ok.all()
    monkeypatch.setenv("TFFACE_CACHE", str(tmp_path / "another"))
    alone = embed_dataset(faces, embedder, whole)
    np.testing.assert_allclose(found.vectors, alone.vectors, atol=1e-6)


@pytest.mark.slow
def test_a_node_with_other_weights_is_named(pool, tiny_faces):
    student = load_embedder("student", offline=True)
    other = Embedder(student.preset, "0" * 64, student.build)
    with pytest.raises(UserError, match=r"^node 127\.0\.0\.1: student/.* has weights .* here, not 000000000000: share"):
        embed_dataset(data.load_dataset(str(tiny_faces)), other, recipe("whole"), executor=pool)
