"""A data set embedded once: order, failures, the cache, interruptions."""

import dataclasses
import functools
from dataclasses import dataclass, field

import numpy as np
import pytest

from tfface import data
from tfface.data import FolderFaces
from tfface.data.crops import NO_BOX, crop_stream
from tfface.errors import ImageError, UserError
from tfface.evaluation import embeddings
from tfface.evaluation.embeddings import embed_dataset, embed_images, report_failures
from tfface.models._embedder import Embedder
from tfface.preprocessing import mtcnn
from tfface.preprocessing.decoding import decode, encode_png
from tfface.preprocessing.images import NO_FACE, crop_files, crop_resize, recipe
from tfface.utils import files
from tfface.utils.cache import Store

WHOLE = recipe("whole")


@dataclass(frozen=True)
class Counting(Embedder):
    """Remembers the sizes of the batches that it embedded; interrupted at one of them, if asked."""

    batches: list[int] = field(default_factory=list)
    interrupt_at: int | None = None

    def embed(self, images):
        if len(self.batches) == self.interrupt_at:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        return super().embed(images)


@dataclass(frozen=True, eq=False)
class Poisoned(FolderFaces):
    """A folder in which one photograph ends whoever reads it with an error that nothing expects."""

    poison: str = ""

    def encoded(self, start=0, stop=None):
        if self.poison in self.keys[start:stop]:
            raise BufferError("poisoned")
        return super().encoded(start, stop)


@pytest.fixture
def counting(tiny_embedder):
    def make(interrupt_at=None) -> Counting:
        return Counting(tiny_embedder.preset, tiny_embedder.sha256, lambda: tiny_embedder.model, [], interrupt_at)

    return make


@pytest.fixture
def faces(tiny_faces):
    return data.load_dataset(str(tiny_faces))


@pytest.fixture
def small_parts(monkeypatch):
    """Shards of four rows, batches of two."""
    monkeypatch.setattr(embeddings, "Store", functools.partial(Store, shard_rows=4))
    monkeypatch.setattr(embeddings, "BATCH", 2)


def by_hand(embedder, dataset) -> np.ndarray:
    """One photograph after the other, without pipeline or cache."""
    images = [decode(dataset.read(key)) for key in dataset.keys]
    cut = [crop_resize(pixels, WHOLE.box(*pixels.shape[:2]), 32) for pixels in images]
    return embedder.model(np.stack(cut)).numpy()


class TestEmbedDataset:
    def test_rows_are_unit_vectors_in_the_order_of_the_keys(self, faces, tiny_embedder):
        found = embed_dataset(faces, tiny_embedder, WHOLE)
        assert found.vectors.dtype == np.float32
        assert found.vectors.shape == (10, 16)
        assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(np.ones(10), abs=1e-6)
        assert found.vectors == pytest.approx(by_hand(tiny_embedder, faces), abs=1e-6)
        assert found.ok.all()
        assert found.failed == []

    def test_one_person_s_photographs_lie_closer_than_two_people_s(self, faces, tiny_embedder):
        cosine = np.square(embed_dataset(faces, tiny_embedder, WHOLE).vectors @ by_hand(tiny_embedder, faces).T)
        same = np.equal.outer(faces.identities, faces.identities)
        assert cosine[same].min() > cosine[~same].max()

    def test_the_second_time_comes_from_the_cache(self, faces, counting):
        first, second = counting(), counting()
        found = embed_dataset(faces, first, WHOLE)
        again = embed_dataset(faces, second, WHOLE)
        assert (first.batches, second.batches) == ([10], [])
        assert np.array_equal(again.vectors, found.vectors)
        assert again.failed == found.failed

    def test_the_cache_needs_no_model(self, faces, tiny_embedder):
        found = embed_dataset(faces, tiny_embedder, WHOLE)

        def refuse():
            raise AssertionError("built")

        unbuilt = Embedder(tiny_embedder.preset, tiny_embedder.sha256, refuse)
        assert np.array_equal(embed_dataset(faces, unbuilt, WHOLE).vectors, found.vectors)

    @pytest.mark.parametrize("change", ["weights", "preset", "recipe", "data"])
    def test_whatever_the_result_depends_on_makes_it_anew(self, faces, tiny_faces, counting, change):
        embed_dataset(faces, counting(), WHOLE)
        embedder, chosen = counting(), WHOLE
        if change == "weights":
            embedder = dataclasses.replace(embedder, sha256="1" * 64)
        elif change == "preset":
            embedder = dataclasses.replace(embedder, preset=dataclasses.replace(embedder.preset, name="tiny/other"))
        elif change == "recipe":
            chosen = recipe("center-140")
        else:
            (tiny_faces / "cid" / "more.png").write_bytes(encode_png(decode(faces.read("cid/cid 0.jpg"))))
            faces = data.load_dataset(str(tiny_faces))
        assert embed_dataset(faces, embedder, chosen).ok.all()
        assert sum(embedder.batches) == len(faces)

    def test_failures_are_zeros_with_a_reason_and_the_rest_goes_on(self, tiny_faces, tiny_embedder):
        (tiny_faces / "Ann Ames" / "Ann Ames 0.jpg").write_bytes(b"")
        (tiny_faces / "cid" / "page.jpg").write_text("<html>")
        faces = data.load_dataset(str(tiny_faces))
        found = embed_dataset(faces, tiny_embedder, WHOLE)
        assert found.failed == [
            ("Ann Ames/Ann Ames 0.jpg", "is empty (0 bytes)"),
            ("cid/page.jpg", "is no image that can be read"),
        ]
        assert found.ok.tolist() == [False] + [True] * 9 + [False]
        assert not found.vectors[[0, 10]].any()
        assert np.linalg.norm(found.vectors[1:10], axis=1) == pytest.approx(np.ones(9), abs=1e-6)
        # And again from the cache.
        assert embed_dataset(faces, tiny_embedder, WHOLE).failed == found.failed

    def test_flip_adds_the_mirrored_embedding(self, faces, tiny_embedder, counting):
        images = np.stack([image.numpy() for image, _ in crop_stream(faces, WHOLE, 32)])
        total = tiny_embedder.model(images).numpy() + tiny_embedder.model(images[:, :, ::-1]).numpy()
        expected = total / np.linalg.norm(total, axis=1, keepdims=True)
        plain = counting()
        embed_dataset(faces, plain, WHOLE)
        assert embed_dataset(faces, plain, WHOLE, flip=True).vectors == pytest.approx(expected, abs=1e-6)
        assert plain.batches == [10, 10], "the plain embeddings were there"
        assert embed_images(tiny_embedder, images, flip=True) == pytest.approx(expected, abs=1e-6)

    def test_a_failed_image_stays_zero_with_flip(self, tiny_faces, tiny_embedder):
        (tiny_faces / "cid" / "cid 0.jpg").write_bytes(b"")
        found = embed_dataset(data.load_dataset(str(tiny_faces)), tiny_embedder, WHOLE, flip=True)
        assert not found.vectors[9].any()
        assert np.isfinite(found.vectors).all()

    def test_a_poisoned_photograph_is_reported_and_the_rest_goes_on(
        self, faces, tiny_embedder, small_parts, giving_up, capsys
    ):
        plain = embed_dataset(faces, tiny_embedder, WHOLE)
        poison = faces.keys[5]
        fields = {name: getattr(faces, name) for name in ("name", "keys", "identities", "boxes", "folder")}
        poisoned = Poisoned(**fields, version="poisoned", poison=poison)
        found = embed_dataset(poisoned, tiny_embedder, WHOLE, executor=giving_up())
        assert found.failed == [(poison, "poisoned")]
        assert not found.vectors[5].any()
        assert np.array_equal(found.vectors[found.ok], plain.vectors[found.ok])
        assert capsys.readouterr().err == "tfface: row 5 is given up: poisoned\n"

    @pytest.mark.parametrize("flip", [False, True])
    def test_many_embeddings_stay_on_disk(self, faces, tiny_embedder, small_parts, monkeypatch, flip):
        held = embed_dataset(faces, tiny_embedder, WHOLE, flip=flip)
        monkeypatch.setattr(embeddings, "MOST_IN_MEMORY", 100)
        found = embed_dataset(faces, tiny_embedder, WHOLE, flip=flip)
        assert isinstance(found.vectors, np.memmap)
        assert not isinstance(held.vectors, np.memmap)
        assert np.array_equal(found.vectors, held.vectors)
        assert (found.ok.tolist(), found.failed) == (held.ok.tolist(), held.failed)

    def test_an_embedder_is_built_outside_of_the_trace(self, faces, tiny_embedder):
        # Weights that are assigned inside a traced function would never arrive.
        def build():
            model = tiny_embedder.build()
            model.set_weights([np.full_like(weight, 0.01 * index) for index, weight in enumerate(model.get_weights())])
            return model

        fresh = Embedder(tiny_embedder.preset, "2" * 64, build)
        images = np.stack([image.numpy() for image, _ in crop_stream(faces, WHOLE, 32)])
        assert fresh.embed(images) == pytest.approx(build()(images).numpy(), abs=1e-6)

    def test_embeddings_that_are_not_finite_are_refused(self, faces, tiny_embedder):
        def build():
            model = tiny_embedder.build()
            model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
            return model

        with pytest.raises(UserError, match=r"embeddings that are not finite: its weights are damaged"):
            embed_dataset(faces, Embedder(tiny_embedder.preset, "3" * 64, build), WHOLE)


class TestInterruption:
    @pytest.mark.parametrize(
        ("interrupt_at", "again"),
        [(0, [2, 2, 2, 2, 2]), (1, [2, 2, 2, 2, 2]), (2, [2, 2, 2]), (3, [2, 2, 2]), (4, [2])],
    )
    def test_goes_on_at_the_first_missing_shard(
        self, faces, counting, small_parts, cache, monkeypatch, interrupt_at, again
    ):
        with pytest.raises(KeyboardInterrupt):
            embed_dataset(faces, counting(interrupt_at), WHOLE)
        resumed = counting()
        found = embed_dataset(faces, resumed, WHOLE)
        assert resumed.batches == again
        monkeypatch.setenv("TFFACE_CACHE", str(cache / "undisturbed"))
        assert np.array_equal(embed_dataset(faces, counting(), WHOLE).vectors, found.vectors)

    def test_batches_never_straddle_a_shard(self, faces, counting, small_parts, monkeypatch):
        monkeypatch.setattr(embeddings, "BATCH", 3)
        embedder = counting()
        embed_dataset(faces, embedder, WHOLE)
        assert embedder.batches == [3, 1, 3, 1, 2]

    def test_neighbouring_shards_share_a_pipeline(self, faces, counting, small_parts, monkeypatch):
        """Ten rows in shards of four: one pipeline for all; with the middle one at hand, one for each end."""
        opened = []
        encoded = type(faces).encoded
        monkeypatch.setattr(type(faces), "encoded", lambda self, *span: opened.append(span) or encoded(self, *span))
        embed_dataset(faces, counting(), WHOLE)
        assert opened == [(0, 10)]
        (store,) = (files.cache_dir("embeddings")).iterdir()
        for name in ("rows-00000000-00000004.parquet", "rows-00000008-00000010.parquet"):
            (store / name).unlink()
        embed_dataset(faces, counting(), WHOLE)
        assert opened[1:] == [(0, 4), (8, 10)]


@pytest.fixture
def detector(monkeypatch):
    """Finds a face in the middle of every photograph but in those 88 high."""

    def run(photograph):
        return np.array([[0, 16, 24, 48, 56, 0.9, *range(10)]])[: photograph.shape[0] != 88]

    monkeypatch.setattr(mtcnn, "_run", run)


class TestRecipes:
    def test_no_face_is_a_failure_with_its_reason(self, faces, tiny_embedder, detector):
        found = embed_dataset(faces, tiny_embedder, recipe("mtcnn-v1-margin0.25"))
        assert found.failed == [(f"{name}/{name} 1.jpg", NO_FACE) for name in ("Ann Ames", "Bob_Burn", "Zoë Žák")]
        assert found.ok.sum() == 7

    def test_the_face_is_what_is_cut_out(self, faces, detector):
        # 32x32 at (16, 24), both sides grown by a quarter: 4 px each way.
        image, reason = next(iter(crop_stream(faces, recipe("mtcnn-v1-margin0.25"), 40)))
        assert reason.numpy() == b""
        assert image.numpy() * 255 == pytest.approx(decode(faces.read(faces.keys[0]))[20:60, 12:52], abs=1e-3)

    def test_given_boxes(self, faces):
        boxes = np.tile(np.array([10, 20, 30, 40], np.float32), (10, 1))
        boxes[3] = np.nan
        with_boxes = dataclasses.replace(faces, boxes=boxes)
        found = list(crop_stream(with_boxes, recipe("given-margin0.0"), 20))
        assert [reason.numpy().decode() for _, reason in found] == [""] * 3 + [NO_BOX] + [""] * 6
        expected = crop_resize(decode(faces.read(faces.keys[0])), np.array([10, 20, 40, 60], np.float32), 20)
        assert found[0][0].numpy() == pytest.approx(expected.numpy())

    def test_given_boxes_that_nobody_gave(self, faces, tiny_embedder):
        with pytest.raises(UserError, match=r"folder:tiny faces gives no face boxes.* given-margin0\.30 needs"):
            embed_dataset(faces, tiny_embedder, recipe("given-margin0.30"))

    def test_a_part_of_a_data_set(self, faces):
        everything = [image.numpy() for image, _ in crop_stream(faces, WHOLE, 32)]
        part = [image.numpy() for image, _ in crop_stream(faces, WHOLE, 32, start=3, stop=7)]
        assert np.array_equal(part, everything[3:7])


class TestCropFiles:
    def test_as_the_pipeline_does(self, faces):
        found, boxes = crop_files([faces.read(key) for key in faces.keys[:2]], WHOLE, 32)
        assert np.array_equal(found, [image.numpy() for image, _ in crop_stream(faces, WHOLE, 32, stop=2)])
        assert [box.tolist() for box in boxes] == [[0, 0, 64, 80], [0, 0, 64, 88]]

    @pytest.mark.parametrize(("position", "data", "reason"), [(0, b"", "is empty"), (1, b"text", "is no image")])
    def test_the_bad_one_is_told_by_its_position(self, faces, position, data, reason):
        given = [faces.read(faces.keys[0])] * 2
        given[position] = data
        with pytest.raises(ImageError, match=rf"^{position}: {reason}"):
            crop_files(given, WHOLE, 32)

    def test_the_one_without_a_face_is_told_by_its_position(self, faces, detector):
        with pytest.raises(ImageError, match=rf"^1: {NO_FACE}"):
            crop_files([faces.read(key) for key in faces.keys[:2]], recipe("mtcnn-v1-margin0.25"), 32)

    def test_no_data_set_gives_boxes(self, faces):
        with pytest.raises(UserError, match=r"takes boxes from a data set; choose another"):
            crop_files([faces.read(faces.keys[0])], recipe("given-margin0.30"), 32)


FAILED = [(f"ann/{number}.jpg", "is empty (0 bytes)") for number in range(12)]


class TestReportFailures:
    def test_none(self, capsys):
        report_failures([], 5, strict=True)
        assert capsys.readouterr().err == ""

    def test_the_first_ten_are_named_and_the_others_counted(self, capsys):
        report_failures(FAILED, 20, strict=False)
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "tfface: ann/0.jpg is empty (0 bytes)"
        assert lines[9:] == ["tfface: ann/9.jpg is empty (0 bytes)", "tfface: ... and 2 more photographs failed"]

    def test_all(self):
        with pytest.raises(UserError, match=r"^none of the 12 photographs could be used; .*: ann/0.jpg is empty"):
            report_failures(FAILED, 12, strict=False)

    def test_strict(self):
        with pytest.raises(UserError, match=r"^1 of 20 photographs failed and `strict` is set: ann/0.jpg is empty"):
            report_failures(FAILED[:1], 20, strict=True)
