import keras
import numpy as np
import pytest

from tfface.data import load_dataset
from tfface.preprocessing.images import recipe
from tfface.training.maker import ViewMaker, sampled, usable
from tfface.training.views import PLAIN, Augmentation


@pytest.fixture
def make_maker(tiny_faces, tiny_embedder):
    def make(augmentation=PLAIN, seed=0, **options):
        dataset = load_dataset(str(tiny_faces))
        return ViewMaker(dataset, np.arange(8), recipe("whole"), tiny_embedder, augmentation, seed, **options)

    return make


def test_the_teacher_sees_the_very_view(make_maker, tiny_embedder):
    views, answers = make_maker(Augmentation()).make(0, 2, 7)
    assert (views.shape, views.dtype) == ((5, 32, 32, 3), np.uint8)
    expected = tiny_embedder.embed(views.astype(np.float32) / 255)
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_hints_come_after_the_answers(make_maker, tiny_embedder):
    """What the teacher's last dense layer is given: its embedding is that layer of it, scaled to length 1."""
    maker = make_maker(hints=True)
    answers = maker.make(0, 0, 8)[1]
    size = tiny_embedder.preset.embedding_size
    np.testing.assert_allclose(answers[:, :size], make_maker().make(0, 0, 8)[1], atol=1e-5)
    dense = [layer for layer in tiny_embedder.model.layers if isinstance(layer, keras.layers.Dense)][-1]
    features = keras.Model(tiny_embedder.model.input, dense.input)(maker.make(0, 0, 8)[0].astype("float32") / 255)
    np.testing.assert_allclose(answers[:, size:], features, atol=1e-4)
    bank = maker.bank()
    assert (bank.dimension, bank.hints) == (answers.shape[1], answers.shape[1] - size)
    assert bank.folder != make_maker().bank().folder


def test_parts_do_not_matter(make_maker):
    maker = make_maker(Augmentation())
    views, _ = maker.make(1, 0, 8)
    np.testing.assert_array_equal(np.concatenate([maker.make(1, 0, 3)[0], maker.make(1, 3, 8)[0]]), views)


def test_the_bank_is_named_by_all_that_views_depend_on(make_maker):
    folders = {
        maker.bank().folder
        for maker in (make_maker(), make_maker(Augmentation()), make_maker(seed=1), make_maker(fast=True))
    }
    assert len(folders) == 4
    assert make_maker().bank().folder in folders


def test_answers_in_bfloat16_are_close_and_leave_the_teacher_alone(make_maker, tiny_embedder):
    views, answers = make_maker(fast=True).make(0, 0, 8)
    np.testing.assert_allclose(answers, make_maker().make(0, 0, 8)[1], atol=0.02)
    images = views.astype(np.float32) / 255
    np.testing.assert_allclose(tiny_embedder.embed(images), tiny_embedder.model(images), atol=1e-6)


def test_unreadable_photographs_are_left_out(tiny_faces, capsys):
    damaged = sorted(tiny_faces.glob("*/*.jpg"))[1]
    damaged.write_bytes(damaged.read_bytes()[:40])
    dataset = load_dataset(str(tiny_faces))
    kept = usable(dataset, recipe("whole"), np.arange(10))
    assert [key for index, key in enumerate(dataset.keys) if index not in kept] == ["Ann Ames/Ann Ames 1.jpg"]
    assert "1 of 10 photographs" in capsys.readouterr().err


def test_a_trial_is_a_seeded_draw():
    indices = np.arange(10, 40)
    drawn = sampled(indices, 5, seed=0)
    assert len(set(drawn)) == 5 and set(drawn) <= set(indices) and sorted(drawn) == drawn.tolist()
    assert drawn.tolist() == sampled(indices, 5, seed=0).tolist() != sampled(indices, 5, seed=1).tolist()
    assert sampled(indices, None, seed=0) is indices
