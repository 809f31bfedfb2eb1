"""Against dlib itself (the wheel `dlib-bin`) and against a file that is written here, number by number."""

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from tfface.errors import UserError
from tfface.hub import packages
from tfface.models import _embedder
from tfface.models import dlib as own
from tfface.models._layers import PaddedAdd
from tfface.preprocessing.images import crop_photograph, recipe

PRESET = own.PRESETS[0]


class Writer:
    """dlib's `serialize`, as its source has it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def __call__(self, *integers: int) -> None:
        for value in integers:
            content = abs(value).to_bytes(max(1, (abs(value).bit_length() + 7) // 8), "little")
            self.parts.append(bytes([len(content) | (0x80 if value < 0 else 0)]) + content)

    def text(self, value: str) -> None:
        self(len(value))
        self.parts.append(value.encode())

    def real(self, value: float) -> None:
        mantissa, exponent = math.frexp(value)
        self(int(mantissa * 2**24), exponent - 24)

    def tensor(self, values: np.ndarray, *shape: int) -> None:
        self(2, *shape)
        self.parts.append(values.astype("<f4").tobytes())


def write_network(seed: int = 0) -> tuple[bytes, dict[str, np.ndarray]]:
    """A file of the published layout with random weights, and some of the weights that must come out of it."""
    random, write, kept = np.random.default_rng(seed), Writer(), {}
    write(1)
    write.text("loss_metric_2")
    write.real(0.04)
    write.real(0.6)
    write(*own._saved_versions())
    write.text("input_rgb_image_sized")
    for value in own.MEAN:
        write.real(value)
    write(150, 150)
    channels, first = 3, True
    for layer in own._saved_layers():
        write.text(layer.kind)
        if layer.kind == "con_4":
            filters, size = layer.settings[:2]
            kernel = random.normal(0, 0.05, (filters, channels, size, size)).astype(np.float32)
            bias = random.normal(size=filters).astype(np.float32)
            write.tensor(np.concatenate([kernel.ravel(), bias]), kernel.size + filters, 1, 1, 1)
            write(*layer.settings, 1, *kernel.shape, 1, 1, filters, 1, 1)
            channels = filters
            kept[layer.name] = [kernel, bias]
            last = layer.name
        elif layer.kind == "affine_":
            gamma, beta = random.normal(1, 0.1, (2, channels)).astype(np.float32)
            write.tensor(np.concatenate([gamma, beta]), 2 * channels, 1, 1, 1)
            write(1, 1, channels, 1, 1, 1, 1, channels, 1, 1, 0)
            kept[last] += [gamma, beta]
        elif layer.kind == "fc_2":
            kernel = random.normal(0, 0.05, (256, 128)).astype(np.float32)
            write(128, 256)
            write.tensor(kernel, 256, 128, 1, 1)
            write(1, 256, 128, 1, 1, 1, 0, 0, 0, 0, 1)
            kept["raw"] = [kernel]
        else:
            write(*layer.settings)
        if layer.kind in ("con_4", "fc_2"):
            for rate in (1.0, 1.0, 1.0, 0.0):
                write.real(rate)
        write.parts.append(b"110")
        for _ in range(3):
            write(2, 0, 0, 0, 0)
        if first:
            write(1)
            first = False
    return b"".join(write.parts), kept


@pytest.fixture(scope="module")
def written() -> tuple[bytes, dict[str, list[np.ndarray]]]:
    return write_network()


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return own.build(PRESET)


def test_weights_come_out_of_a_file_as_they_went_in(written, network, tmp_path):
    data, kept = written
    path = tmp_path / "random.dat"
    path.write_bytes(data)
    own.load_weights(network, path)
    assert {layer.name for layer in network.layers if layer.weights} == set(kept)
    for name in ("conv1", "stage2_block1_conv1", "stage5_block1_conv2"):
        kernel, bias, gamma, beta = kept[name]
        found_kernel, found_bias = network.get_layer(name).get_weights()
        # By hand: gamma * (kernel . pixels + bias) + beta, for one filter and one channel.
        np.testing.assert_allclose(found_kernel[:, :, 1, 5], gamma[5] * kernel[5, 1], rtol=1e-6)
        np.testing.assert_allclose(found_bias[5], gamma[5] * bias[5] + beta[5], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(network.get_layer("raw").get_weights()[0], kept["raw"][0])


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    place = data.index(old)
    return data[:place] + new + data[place + len(old) :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "it is empty"),
        (lambda data: data[:1000], "it is cut short at 1,000 bytes"),
        (lambda data: data[:-1], "it is cut short"),
        (lambda data: data + b"x", "it has 1 bytes too many"),
        (lambda data: b"<!DOCTYPE html><html>" + data, "it is damaged at byte 0, or no file of dlib's"),
        (lambda data: patched(data, b"loss_metric_2", b"loss_mmod_xyz"), "it holds no network of dlib's"),
        (lambda data: patched(data, b"\x01\x02\x01\x02\x01\x02", b"\x01\x02\x01\x01\x01\x02"), "another network"),
        (lambda data: patched(data, b"input_rgb_image_sized", b"input_rgb_image_cubic"), "its input is"),
        (lambda data: patched(data, b"max_pool_2", b"avg_pool_2"), "its layer 4 is 'avg_pool_2', not max_pool_2"),
        (lambda data: patched(data, b"max_pool_2\x01\x03", b"max_pool_2\x01\x04"), r"layer 4 is max_pool_2\(4, 3, 2"),
        (lambda data: patched(data, b"affine_\x01\x02", b"affine_\x01\x03"), "no tensor of version 2"),
    ],
)
def test_damage_and_other_networks_are_refused(written, network, tmp_path, damage, reason):
    before = network.get_layer("raw").get_weights()[0]
    path = tmp_path / "bad.dat"
    path.write_bytes(damage(written[0]))
    with pytest.raises(ValueError, match=reason):
        own.load_weights(network, path)
    np.testing.assert_array_equal(network.get_layer("raw").get_weights()[0], before)


def test_weights_that_are_no_numbers(written, network, tmp_path):
    data = bytearray(written[0])
    place = data.index(b"con_4") + 20
    data[place : place + 400] = np.full(100, np.nan, "<f4").tobytes()
    (tmp_path / "nan.dat").write_bytes(data)
    with pytest.raises(ValueError, match="its layer 1, con_4, has weights that are no numbers"):
        own.load_weights(network, tmp_path / "nan.dat")


def test_a_file_cut_anywhere_is_refused_in_one_line(written, tmp_path):
    data = written[0]
    file = tmp_path / "cut.dat"
    file.write_bytes(data[: len(data) // 2])
    embedder = _embedder.load_file(dataclasses.replace(PRESET, name="dlib/cut"), file)
    with pytest.raises(UserError, match=r"cut\.dat does not hold the weights of dlib/cut: it is cut short") as caught:
        _ = embedder.model
    assert "\n" not in str(caught.value)
    # Every place of the small parts: header, settings and state of the first layers.
    for length in [*range(400), *range(19_300, 19_450)]:
        with pytest.raises(ValueError, match=r"it is (cut short|empty)"):
            own._read(data[:length])


def test_a_damaged_byte_is_refused_or_is_a_weight(written):
    """Nothing but ValueError is raised, whatever stands in the header and in the settings of layers."""
    data, random = written[0], np.random.default_rng(0)
    for place in [*range(0, 334, 12), *range(len(data) - 131_200, len(data) - 131_050, 10)]:
        changed = bytearray(data)
        changed[place] = random.integers(256)
        try:
            own._read(bytes(changed))
        except ValueError as error:
            assert "\n" not in str(error)


def test_another_embedding_size_is_refused(written, tmp_path):
    (tmp_path / "x.dat").write_bytes(written[0])
    with pytest.raises(ValueError, match=r"its layer raw has shape \(256, 128\), not \(256, 64\)"):
        own.load_weights(own.resnet(embedding_size=64), tmp_path / "x.dat")


def test_padded_add_fills_with_zeros_below_right_and_after_the_channels():
    large, small = np.ones((1, 2, 3, 2), np.float32), np.full((1, 3, 2, 1), 5, np.float32)
    found = np.asarray(PaddedAdd()([large, small]))
    # 3 rows, 3 columns and 2 channels: the larger of both.
    np.testing.assert_array_equal(found[0, :, :, 0], [[6, 6, 1], [6, 6, 1], [5, 5, 0]])
    np.testing.assert_array_equal(found[0, :, :, 1], [[1, 1, 1], [1, 1, 1], [0, 0, 0]])


def test_sides_are_those_of_dlib():
    """150 to 72 by a 7x7 convolution, 35 by the pool, then 17, 8, 4 (a block of 3 beside a shortcut of 4) and 2."""
    model = own.resnet()
    sides = [model.get_layer(f"stage{stage}_block1_add").output.shape[1:] for stage in range(1, 6)]
    assert sides == [(35, 35, 32), (17, 17, 64), (8, 8, 128), (4, 4, 256), (2, 2, 256)]
    assert model.get_layer("stage4_block1_conv2").output.shape[1:] == (3, 3, 256)
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == 29


@pytest.fixture(scope="module")
def published(fetched_weights) -> Path:
    return fetched_weights("dlib/resnet-v1")


@pytest.fixture(scope="module")
def real(published) -> _embedder.Embedder:
    return _embedder.load_file(PRESET, published)


@pytest.fixture(scope="module")
def chips(from_registries) -> np.ndarray:
    """uint8 (3, 150, 150, 3): the middle of a photograph of each of three people."""
    (archive,) = [path for _, path in from_registries if "keras-facenet" in path.name]
    people: dict[str, np.ndarray] = {}
    for name, data in packages.read_members(archive, lambda name: "/train/" in name and name.endswith(".jpg")):
        person = name.split("/")[-2]
        if person not in people:
            people[person] = crop_photograph(data, recipe("center-140"), 150)[0]
    return np.ascontiguousarray(np.round(255 * np.stack(list(people.values())[:3])), np.uint8)


@pytest.mark.registry
class TestPublished:
    def test_raw_numbers_are_those_of_dlib(self, published, real, chips):
        peer = pytest.importorskip("dlib")
        network = peer.face_recognition_model_v1(str(published))
        theirs = np.array([network.compute_face_descriptor(chip) for chip in chips])
        raw = keras.Model(real.model.input, real.model.get_layer("raw").output)
        ours = np.asarray(raw(chips / np.float32(255)))
        apart = np.linalg.norm(theirs[:, None] - theirs, axis=-1)[np.triu_indices(len(chips), 1)].min()
        print(f"largest difference {np.abs(ours - theirs).max():.2e}; people {apart:.2f} apart at least")
        assert apart > 0.3
        np.testing.assert_allclose(ours, theirs, atol=1e-4)

    def test_is_no_other_network(self, published, network, tmp_path):
        assert len(own._read(published.read_bytes())) == 30
        (tmp_path / "cut.dat").write_bytes(published.read_bytes()[:-1000])
        with pytest.raises(ValueError, match="it is cut short at 22,465,066 bytes"):
            own.load_weights(network, tmp_path / "cut.dat")

    def test_one_step_along_the_gradient_makes_two_people_more_alike(self, real, chips):
        import tensorflow as tf

        images, other = tf.constant(chips[:1] / np.float32(255)), real.embed(chips[1:2] / np.float32(255))
        with tf.GradientTape() as tape:
            tape.watch(images)
            cosine = tf.reduce_sum(real.model(images) * other)
        stepped = np.clip(images + 0.02 * np.sign(tape.gradient(cosine, images)), 0, 1)
        after = float((real.embed(stepped) * other).sum())
        print(f"cosine {float(cosine):.3f}, after FGSM at 0.02 {after:.3f}")
        assert after > float(cosine) + 0.03
