import dataclasses

import numpy as np
import pytest

from tfface.models import facenet
from tfface.models._embedder import Embedder
from tfface.training.students import fill_from, student_of

TEACHER = next(preset for preset in facenet.PRESETS if preset.embedding_size == 128)


def make(architecture, teacher=TEACHER, **options):
    return student_of(architecture, teacher, name="test", recipe="whole", **options)


@pytest.mark.parametrize(
    ("architecture", "size", "config"),
    [
        ("student", 160, {}),
        ("resnet50", 112, {"projection": 128}),
        ("deepface", 152, {"projection": 128}),
        ("facenet", 160, {}),
    ],
)
def test_students_have_their_teachers_embedding_size(architecture, size, config):
    preset = make(architecture).preset
    assert (preset.name, preset.input_size, preset.embedding_size) == (f"{architecture}/test", size, 128)
    assert preset.config == config


def test_the_papers_student_sees_160_pixels_whatever_its_teacher_sees():
    preset = make("student", dataclasses.replace(TEACHER, input_size=112, embedding_size=192)).preset
    assert (preset.input_size, preset.embedding_size) == (160, 192)


def test_fresh_weights_are_drawn_from_the_seed():
    student = make("student", dataclasses.replace(TEACHER, embedding_size=16), input_size=140)
    first, same, other = (student.network(seed).get_weights()[0] for seed in (0, 0, 1))
    assert (first == same).all() and (first != other).any()
    assert student.network(0).output_shape == (None, 16)


def test_another_size_and_no_projection(user_error):
    with user_error(
        "student resnet50 gives 2048 values where its teacher facenet/msceleb gives 128: leave `projection` on"
    ):
        make("resnet50", projection=False)


def test_a_network_without_a_projection_of_another_size(user_error, monkeypatch):
    from tfface.models import student

    monkeypatch.setattr(student, "build", lambda preset: student.inception_resnet_simple(input_size=140))
    with user_error("student student gives 128 values where its teacher gives 64"):
        make("student", dataclasses.replace(TEACHER, embedding_size=64)).network(0)


def test_an_input_too_small_for_the_network(user_error):
    with user_error("student cannot be built for 32 pixels"):
        make("student", input_size=32).network(0)


def test_an_unknown_student(user_error):
    with user_error("unknown student 'studnt' .did you mean student"):
        make("studnt")


def seen_by(people, network):
    preset = dataclasses.replace(make("student").preset, identities_seen=frozenset(people))
    return Embedder(preset, "0" * 64, lambda: network)


def test_it_begins_with_a_presets_weights(network):
    student, start = network(seed=1), network(seed=2)
    fill_from(student, seen_by({"Ann"}, start), {"Bob"})
    for one, other in zip(student.get_weights(), start.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_preset_that_does_not_fit(network, user_error):
    with user_error("it has seen 1 of the people held out for the test \\(Bob ...\\): take a preset of the same split"):
        fill_from(network(), seen_by({"Ann", "Bob"}, network()), {"Bob", "Cid"})
    with user_error("it does not say whom it was trained on"):
        fill_from(network(), seen_by((), network()), {"Bob"})
    with user_error("its weights are not those of the student"):
        fill_from(network(), seen_by({"Ann"}, network(dimension=5)), {"Bob"})
