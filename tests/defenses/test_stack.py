import dataclasses

import numpy as np
import pytest

from tfface import data
from tfface.defenses._defense import parse
from tfface.defenses._stack import apply
from tfface.errors import UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.preprocessing.images import recipe

STACK = ["noise:sigma=0.05,copies=4", "bit-depth:bits=3", "resize-pad"]


def test_no_defense_is_the_embedder_itself(tiny_embedder):
    assert apply(tiny_embedder, []) is tiny_embedder
    assert tiny_embedder.defense == () and tiny_embedder.defense_record == {}


def test_an_image_passes_through_in_order_and_copies_are_averaged(tiny_embedder, images):
    noise, bits, resize = map(parse, STACK)
    seen = np.asarray(resize(bits(noise(images))))
    mean = tiny_embedder.embed(seen).reshape(3, 4, -1).mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    found = apply(tiny_embedder, STACK)
    np.testing.assert_allclose(found.embed(images), expected, atol=1e-5)
    np.testing.assert_allclose(found.embed(images[1:2]), expected[1:2], atol=1e-5)
    reversed_ = apply(tiny_embedder, STACK[::-1]).embed(images)
    assert np.abs(reversed_ - expected).max() > 1e-3


def test_draw_0_of_one_copy_is_the_deployed_models(tiny_embedder, images):
    embedder = apply(tiny_embedder, ["resize-pad", "noise:copies=1"])
    drawn = embedder.drawn_model([images, np.zeros(3, "int32")])
    np.testing.assert_allclose(drawn, embedder.embed(images), atol=1e-6)


def test_the_same_defenses_by_another_seed_draw_others(tiny_embedder, images):
    first, again, other = (apply(tiny_embedder, [f"noise:seed={seed}"]).embed(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first - other).max(axis=1) > 1e-4).all()


def test_embeddings_are_kept_apart_by_defense(tiny_embedder, tiny_faces):
    dataset, whole = data.load_dataset(str(tiny_faces)), recipe("whole")
    calls = []

    class Counting(type(tiny_embedder)):
        def embed(self, images):
            calls.append(len(images))
            return super().embed(images)

    def vectors(defense, sha256="0" * 64):
        embedder = Counting(tiny_embedder.preset, sha256, lambda: tiny_embedder.model, defense=defense)
        return embed_dataset(dataset, embedder, whole).vectors

    vectors(())
    once = len(calls)
    vectors(("jpeg:quality=75,real=1",))
    assert len(calls) == 2 * once
    vectors(("jpeg:quality=75,real=1",))
    vectors(())
    assert len(calls) == 2 * once


def test_another_process_makes_it_anew(tiny_embedder, images):
    embedder = apply(tiny_embedder, STACK)
    make, arguments = embedder.__reduce__()
    assert arguments == (tiny_embedder, embedder.defense)
    again = make(*arguments)
    assert again.defense == embedder.defense
    np.testing.assert_allclose(again.embed(images), embedder.embed(images), atol=1e-6)


def test_refuses_an_unknown_part(tiny_embedder):
    with pytest.raises(UserError, match="unknown defense 'blur'"):
        apply(tiny_embedder, ["jpeg", "blur"])


def test_fields_of_artifacts_still_follow_in_order(tiny_embedder):
    assert [field.name for field in dataclasses.fields(tiny_embedder)] == ["preset", "sha256", "build", "defense"]
