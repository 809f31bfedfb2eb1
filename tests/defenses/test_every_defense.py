"""One table: every registered defense, as it stands and as a layer of a model."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.defenses._defense import Defense, parse
from tfface.defenses._stack import apply
from tfface.errors import UserError
from tfface.utils import registry

NAMES = [name.replace("_", "-") for name in registry.names("defenses")]
QUICK = {"noise": "noise:copies=3"}
"""Settings under which a defense is quick; a new one is tested as it stands."""

every = pytest.mark.parametrize("text", [QUICK.get(name, name) for name in NAMES])


def test_the_table_is_whole():
    assert NAMES == ["bit-depth", "jpeg", "median", "noise", "resize-pad"]


@every
def test_images_of_a_batch_leave_no_trace_on_each_other(text, images):
    defense = parse(text)
    whole = np.asarray(defense(images))
    assert whole.shape == (3 * defense.copies, 32, 32, 3)
    assert whole.dtype == np.float32
    assert (whole[: defense.copies] != images[:1]).any()
    own = slice(defense.copies, 2 * defense.copies)
    np.testing.assert_array_equal(np.asarray(defense(images[1:2])), whole[own])
    np.testing.assert_array_equal(np.asarray(defense(images[[2, 1]]))[defense.copies :], whole[own])


@every
def test_has_a_gradient_that_tells_where_to_go(text, images):
    """Uphill of how like another image the defended one is, that likeness grows: BPDA is good for something."""
    defense, other, start = parse(text), images[1:2], tf.constant(images[:1])

    def likeness(values):
        return -tf.reduce_mean(tf.square(tf.convert_to_tensor(defense(values)) - other))

    with tf.GradientTape() as tape:
        tape.watch(start)
        before = likeness(start)
    gradient = tape.gradient(before, start)
    assert np.isfinite(gradient).all()
    assert likeness(start + 0.1 * tf.sign(gradient)) > before + 1e-3


@every
def test_says_what_it_is(text):
    kind = type(parse(text))
    record = json.loads(json.dumps(parse(text).record()))
    assert record["name"] == text.split(":")[0]
    assert {record["deterministic"], record["differentiable"]} <= {True, False}
    assert set(record["options"]) == set(kind.options)
    assert kind.title and "https://" in kind.paper
    assert all(level.default is not None for level in kind.options.values())


@every
def test_a_text_and_a_file_bring_it_back(text, tiny_embedder, images, tmp_path):
    embedder = apply(tiny_embedder, [text])
    assert apply(tiny_embedder, embedder.defense).defense == embedder.defense == (str(parse(text)),)
    vectors = embedder.embed(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    embedder.model.save(tmp_path / "defended.keras")
    loaded = keras.models.load_model(tmp_path / "defended.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(images), vectors, atol=1e-6)


@every
def test_only_what_is_random_draws(text, tiny_embedder, images):
    embedder = apply(tiny_embedder, [text])
    assert embedder.random is not parse(text).deterministic
    first, second = (embedder.drawn_model([images, np.full(3, draw, "int32")]).numpy() for draw in (1, 2))
    assert (np.abs(first - second).max(axis=1) > 1e-5).all() == embedder.random
    if not embedder.random:
        np.testing.assert_allclose(first, embedder.embed(images), atol=1e-6)


@every
@pytest.mark.parametrize("end", ["low", "high"])
def test_keeps_its_options_in_range(text, end):
    kind = type(parse(text))
    for name, level in kind.options.items():
        bound, beyond = (level.low, level.low - 1) if end == "low" else (level.high, level.high + 1)
        assert getattr(kind(**{name: bound}), name) == bound
        with pytest.raises(UserError, match=rf"{name}={beyond} is none: {name} takes a .*number"):
            kind(**{name: beyond})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jpg", r"^unknown defense 'jpg' \(did you mean jpeg\?\); valid: bit-depth, jpeg, median, noise, resize-pad$"),
        ("base", "^unknown defense 'base'.*; valid: bit-depth"),
        ("", "^unknown defense ''; valid: bit-depth"),
        ("jpeg:speed=3", r"jpeg has no option 'speed'; it has quality \(1 to 100 of the encoder, else 75\)"),
        ("jpeg:75", "jpeg has no option '75'"),
        ("jpeg:", "give options as jpeg:option=number"),
        ("jpeg:quality=high", "quality=high is none"),
        ("jpeg:quality=", "quality= is none"),
        ("jpeg:quality=nan", "quality=nan is none"),
        ("bit-depth:bits=4.5", "bits=4.5 is none: bits takes a whole number"),
        ("median:window=3,window=5", "window is given twice"),
    ],
)
def test_refuses_what_is_none(text, said):
    with pytest.raises(UserError, match=said):
        parse(text)


def test_underscores_spaces_and_defaults():
    assert str(parse("bit_depth: bits = 4")) == str(parse("bit-depth:bits=4")) == "bit-depth:bits=4"
    assert str(parse("jpeg")) == "jpeg:quality=75,real=1"


def test_an_abstract_defense_defends_nothing(images):
    with pytest.raises(NotImplementedError):
        Defense().call(images)
