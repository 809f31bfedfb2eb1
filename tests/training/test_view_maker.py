import os
import sys
import time

import keras
import numpy as np
import pytest

from tfface.data import load_dataset
from tfface.data.crops import Crops
from tfface.errors import UserError
from tfface.models._embedder import load_embedder
from tfface.preprocessing import mtcnn
from tfface.preprocessing.alignment import ALIGN5
from tfface.preprocessing.images import recipe
from tfface.training.view_bank import ViewBank
from tfface.training.view_maker import ViewMaker, ViewProcess, fill_for, sampled, usable, wait_for
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


def test_views_of_an_aligned_recipe_are_around_its_crops(tiny_faces, tiny_embedder, monkeypatch):
    points = (np.array(ALIGN5) / 112 * 40 + 12).astype(np.float32)
    face = mtcnn.Faces(np.array([[12, 12, 40, 40]], np.float32), np.ones(1, np.float32), points[None])
    monkeypatch.setattr(mtcnn, "detect", lambda photographs: [face for _ in photographs])
    dataset, cut = load_dataset(str(tiny_faces)), recipe("align5-112")
    maker = ViewMaker(dataset, np.arange(4), cut, tiny_embedder, PLAIN, 0)
    crops, _ = Crops(dataset, cut, 32)(np.arange(4))
    views = maker.make(0, 0, 4)[0].astype(float)
    # Interpolated twice, of photographs that are noise; a pixel aside they differ by much more.
    assert np.abs(views - crops * 255).mean() < 4
    assert np.abs(views[:, 1:] - crops[:, :-1] * 255).mean() > 8


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


@pytest.fixture
def one(cache):
    return ViewBank({"what": "one"}, 3, 2, 2)


def make(number, start, stop):
    return np.zeros((stop - start, 2, 2, 3), np.uint8), np.full((stop - start, 2), number)


def ended(code):
    process = ViewProcess([sys.executable, "-c", code])
    process._process.wait()
    return process


def test_what_a_growing_process_says_at_its_end(one):
    process = ended("import sys; print('tfface: a note\\nerror: no space left', file=sys.stderr); sys.exit(2)")
    with pytest.raises(UserError, match=r"^no space left$"):
        wait_for(one, 0, process)


def test_a_growing_process_that_dies(one):
    with pytest.raises(UserError, match="ended with -9: the same command goes on"):
        wait_for(one, 0, ended("import os; os.kill(os.getpid(), 9)"))


def test_nobody_grows(one):
    with pytest.raises(UserError, match=r"view 0 of the bank .* is missing"):
        wait_for(one, 0, None)


def test_all_views_in_order(one):
    fill_for(os.getppid(), one, 2, make)
    assert [int(one.answers(number)[0, 0]) for number in range(2)] == [0, 1]


def test_it_ends_with_its_training(one):
    fill_for(os.getppid(), one, 1, make)
    with pytest.raises(UserError, match="the training that these views are for has ended"):
        fill_for(1 if os.getppid() != 1 else 2, one, 2, make)


@pytest.mark.slow
def test_views_of_a_process_are_those_made_here(tiny_faces, tmp_path, monkeypatch):
    """The maker goes to a fresh process, which finds the teacher by name."""
    dataset, teacher = load_dataset(str(tiny_faces)), load_embedder("student", offline=True)
    maker = ViewMaker(dataset, np.arange(4), recipe("whole"), teacher, Augmentation(), 0)
    process = ViewProcess.start(maker, 1)
    wait_for(maker.bank(), 0, process)
    process.stop()
    views, answers = maker.make(0, 0, 4)
    np.testing.assert_array_equal(maker.bank().views(0), views)
    np.testing.assert_allclose(maker.bank().answers(0), answers, atol=1e-3)


def test_a_teacher_that_cannot_be_sent(make_maker):
    with pytest.raises(UserError, match=r"views cannot be made in the background .* `growth` ahead"):
        ViewProcess.start(make_maker(), lambda: None)


def test_stopping_ends_the_process():
    process = ViewProcess([sys.executable, "-c", "import time; time.sleep(60)"])
    begin = time.monotonic()
    process.check()
    process.stop()
    assert time.monotonic() - begin < 10
    assert process._process.poll() is not None


def test_the_teacher_answers_under_tensorflow(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    process = ended("import os, sys; sys.exit(0 if os.environ['KERAS_BACKEND'] == 'tensorflow' else 3)")
    process.check()
