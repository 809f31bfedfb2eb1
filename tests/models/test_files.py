"""Models of one's own: every format gives back its network's embeddings; what is no embedder is refused in a line."""

import io
import json
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest

import tfface
from tfface.attacks import FGSM, PGD, Square
from tfface.attacks._criteria import Dodging
from tfface.errors import UserError
from tfface.models import _files
from tfface.models._embedder import as_embedder, load_embedder
from tfface.models._input_format import SCALES, InputFormat, read_record, write_record
from tfface.utils.files import digest_of_tree, write_json

SIDE = 32


def build(size=SIDE, outputs=8, seed=3, shape=None, **options):
    """A small network of bare images, whose vectors are not of unit length."""
    inputs = keras.Input(shape or (size, size, 3), **options)
    draw = keras.initializers.GlorotUniform(seed=seed)
    x = keras.layers.Conv2D(6, 5, strides=3, activation="tanh", kernel_initializer=draw, name="first")(inputs)
    x = keras.layers.Flatten(name="flat")(keras.layers.AveragePooling2D(3)(x))
    return keras.Model(inputs, keras.layers.Dense(outputs, kernel_initializer=draw, name="vectors")(x))


def to_tflite(model, path):
    import tensorflow as tf

    folder = path.with_suffix(".folder")
    model.export(folder, verbose=False)
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert())


def to_onnx(model, path):
    tf2onnx = pytest.importorskip("tf2onnx")
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, output_path=str(path))


WRITERS = {
    "own.keras": lambda model, path: model.save(path),
    "own.h5": lambda model, path: model.save(path),
    "own": lambda model, path: model.export(path, verbose=False),
    "own.tflite": to_tflite,
    "own.onnx": to_onnx,
}


@pytest.fixture(scope="module")
def network():
    return build()


@pytest.fixture(scope="module")
def written(tmp_path_factory, network):
    """Write the network once in each format."""
    folder, done = tmp_path_factory.mktemp("own"), {}

    def write(name):
        if name not in done:
            done[name] = folder / name
            WRITERS[name](network, done[name])
        return done[name]

    return write


@pytest.fixture
def images(make_images):
    return make_images(3, SIDE)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("scale", "colour"), [("0..1", "rgb"), ("127.5/128", "bgr")])
def test_every_format_answers_as_the_network(written, network, images, unit, name, scale, colour):
    embedder = load_embedder(f"{written(name)}:scale={scale},colour={colour}")
    fed = InputFormat(colour, scale).array(images)
    want = unit(network(fed))
    np.testing.assert_allclose(embedder.embed(images), want, atol=1e-5)
    np.testing.assert_allclose(embedder.model(images), want, atol=1e-5)
    np.testing.assert_allclose(unit(embedder.raw(images)), want, atol=1e-5)
    assert (embedder.preset.input_size, embedder.preset.embedding_size) == (SIDE, 8)
    assert embedder.preset.threshold is None


@pytest.mark.parametrize("name", WRITERS)
def test_gradients_where_there_are_some_and_a_line_where_there_are_none(written, network, images, name):
    embedder = load_embedder(written(name), scale="0..1")
    goal = Dodging(embedder.embed(images), threshold=1e-4)
    if name in ("own.keras", "own.h5", "own"):
        same = tfface.wrap(network, SIDE)
        ours, theirs = (PGD(steps=3)(one, images, goal, epsilon=0.02) for one in (same, embedder))
        np.testing.assert_allclose(ours.images, theirs.images, atol=1e-6)
    else:
        assert Square(queries=30)(embedder, images, goal, epsilon=0.3).success.all()
        with pytest.raises(UserError, match=rf"FGSM follows gradients, and {name} gives none: take Square"):
            FGSM()(embedder, images, goal, epsilon=0.1)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_keras_prepares_images_as_numpy_does(images, scale, layout):
    prepared = InputFormat("bgr", scale, layout)
    inputs = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(inputs, prepared.prepare(inputs))
    np.testing.assert_allclose(model(images), prepared.array(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "white"),
    [
        ("-1..1", [1, 1, 1]),
        ("127.5/128", [127.5 / 128] * 3),
        ("0..255", [255] * 3),
        ("imagenet", [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("imagenet-means", [255 - 123.68, 255 - 116.779, 255 - 103.939]),
        ("vggface2-means", [255 - 131.0912, 255 - 103.8827, 255 - 91.4953]),
        ("per-image", [0, 0, 0]),
    ],
)
def test_white_on_every_scale(scale, white):
    found = InputFormat("rgb", scale).array(np.ones((1, 4, 4, 3), np.float32))
    np.testing.assert_allclose(found[0, 0, 0], white, rtol=1e-5, atol=1e-3)


def test_a_record_beside_the_file_says_how_it_is_fed(tmp_path, written, images):
    path = tmp_path / "own.keras"
    path.write_bytes(written("own.keras").read_bytes())
    with pytest.raises(UserError, match=r"nothing says how own\.keras is fed: run `tfface probe .*own\.keras`"):
        load_embedder(path).embed(images)
    record = write_record(path, {"scale": "-1..1", "colour": "bgr", "recipe": "whole", "threshold": 0.5})
    assert record.name == "own.keras.tfface.json"
    embedder = load_embedder(path)
    assert (embedder.input_format.scale, embedder.input_format.colour) == ("-1..1", "bgr")
    assert (embedder.preset.recipe, embedder.preset.threshold) == ("whole", 0.5)
    given = load_embedder(f"{path}:colour=rgb")
    assert (given.input_format.scale, given.input_format.colour) == ("-1..1", "rgb")
    assert given.fingerprint() != embedder.fingerprint()
    write_record(path, {"metric": "euclidean"})
    assert read_record(path)["threshold"] == 0.5


def test_a_record_by_hand_is_read_and_never_written(tmp_path, written):
    path = tmp_path / "own.keras"
    path.write_bytes(written("own.keras").read_bytes())
    by_hand = tmp_path / "own.keras.tfface.toml"
    by_hand.write_text('scale = "0..255"\nrecipe = "center-140"\n')
    assert load_embedder(path).input_format.scale == "0..255"
    write_record(path, {"recipe": "whole"})
    assert load_embedder(path).preset.recipe == "whole"
    assert by_hand.read_text() == 'scale = "0..255"\nrecipe = "center-140"\n'
    by_hand.write_text("scale = ")
    with pytest.raises(UserError, match=r"cannot read .*own\.keras\.tfface\.toml as TOML"):
        load_embedder(path)


def test_the_record_of_another_file_is_refused(tmp_path, written):
    path = tmp_path / "own.keras"
    path.write_bytes(written("own.keras").read_bytes())
    write_record(path, {"scale": "0..1"})
    build(seed=9).save(path)
    with pytest.raises(UserError, match=r"own\.keras\.tfface\.json is the record of another file than own\.keras"):
        load_embedder(path)
    write_record(path, {"scale": "-1..1"})
    assert load_embedder(path).input_format.scale == "-1..1"


def test_other_weights_are_another_model(tmp_path):
    path = tmp_path / "own.keras"
    found = set()
    for seed in (1, 2):
        build(seed=seed).save(path)
        found.add(load_embedder(path, scale="0..1").fingerprint()["weights_sha256"])
    assert len(found) == 2


def test_a_fixed_batch_is_padded(tmp_path, images, unit):
    import tensorflow as tf

    model = build(batch_size=2)
    model.save(tmp_path / "two.keras")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    (tmp_path / "two.tflite").write_bytes(converter.convert())
    for name in ("two.keras", "two.tflite"):
        embedder = load_embedder(tmp_path / name, scale="0..1")
        want = np.concatenate([model(images[:2]), model(images[[2, 2]])[:1]])
        np.testing.assert_allclose(embedder.embed(images), unit(want), atol=1e-5)


def test_channels_first_and_several_outputs_of_onnx(tmp_path, images, unit):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["image"], ["largest"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("means", "largest")],
    )
    path = tmp_path / "means.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), path)
    with pytest.raises(UserError, match=r"it has 2 outputs, means, largest: name one by `output`"):
        load_embedder(path, scale="0..1")
    embedder = load_embedder(path, scale="0..1", output="means", colour="bgr")
    assert embedder.input_format.layout == "nchw"
    np.testing.assert_allclose(embedder.embed(images), unit(images.mean((1, 2))[:, ::-1]), atol=1e-5)
    np.testing.assert_allclose(
        load_embedder(path, scale="0..1", output="1").embed(images), unit(images.max((1, 2))), atol=1e-5
    )


def test_an_exported_artifact_says_itself_how_it_is_fed(tmp_path, written, images):
    path = tmp_path / "s.tflite"
    path.write_bytes(written("own.tflite").read_bytes())
    preset = {"recipe": "whole", "metric": "euclidean", "threshold": 0.9, "threshold_source": "there"}
    sidecar = {"artifact": "tflite", "sha256": digest_of_tree(path), "preset": preset, "signatures": ["embed_float"]}
    write_json(tmp_path / "s.tflite.json", sidecar)
    output = next(iter(_files.inspect(path).outputs))
    embedder = load_embedder(path, output=output)
    assert embedder.input_format.scale == "0..1"
    assert (embedder.preset.metric, embedder.preset.threshold) == ("euclidean", 0.9)
    write_json(tmp_path / "s.tflite.json", {**sidecar, "sha256": "0" * 64})
    with pytest.raises(UserError, match=r"s\.tflite is not what was exported"):
        load_embedder(path)


def test_wrapped_functions(images, unit):
    embedder = tfface.wrap(lambda batch: batch.mean((1, 2)), SIDE, scale="0..255", colour="bgr", name="means")
    np.testing.assert_allclose(embedder.embed(images), unit(images.mean((1, 2))[:, ::-1]), atol=1e-6)
    np.testing.assert_allclose(embedder.model(images), embedder.embed(images), atol=1e-6)
    assert not embedder.differentiable
    other = tfface.wrap(lambda batch: batch.max((1, 2)), SIDE)
    assert other.sha256 != embedder.sha256
    with pytest.raises(UserError, match="a function of this process and cannot be sent"):
        pickle.dumps(embedder)


def test_wrapped_tensorflow_functions_give_gradients_on_request(images):
    import tensorflow as tf

    embedder = tfface.wrap(lambda batch: tf.reduce_mean(batch, (1, 2)), SIDE, differentiable=True)
    goal = Dodging(embedder.embed(images), threshold=1e-6)
    assert FGSM()(embedder, images, goal, epsilon=0.2).images.std() > 0
    assert PGD(steps=5)(embedder, images, goal, epsilon=0.2).success.all()


def test_defenses_stand_in_front_of_any_model(written, images):
    embedder = tfface.defenses.apply(load_embedder(written("own.tflite"), scale="0..1"), "bit-depth:bits=3")
    assert not embedder.differentiable
    assert np.abs(embedder.embed(images) - embedder.undefended.embed(images)).max() > 1e-4
    np.testing.assert_allclose(np.linalg.norm(embedder.embed(images), axis=1), 1, atol=1e-5)


def test_another_process_opens_the_file_itself(written, images):
    embedder = load_embedder(written("own.keras"), scale="-1..1")
    again = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_allclose(again.embed(images), embedder.embed(images), atol=1e-6)


def refused_keras(change):
    """Write a `.keras` file with a change in its description."""

    def write(path):
        buffer = io.BytesIO()
        build().save(path)
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                new.writestr(name, json.dumps(change(json.loads(data))) if name == "config.json" else data)
        path.write_bytes(buffer.getvalue())

    return write


def with_lambda(config):
    config["config"]["layers"][1] |= {"class_name": "Lambda", "config": {"name": "evil"}}
    return config


def with_module(config):
    config["config"]["layers"][1] |= {"class_name": "system", "module": "os", "config": {"name": "evil"}}
    return config


def with_pickle(path):
    build().save(path)
    with zipfile.ZipFile(path, "a") as bundle:
        bundle.writestr("payload.pkl", b"\x80\x04.")


def linked_h5(path):
    build().save(path)
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")


def softmax(path):
    model = build()
    keras.Model(model.input, keras.layers.Dense(5, activation="softmax", name="people")(model.output)).save(path)


def two_inputs(path):
    inputs = [keras.Input((SIDE, SIDE, 3)) for _ in range(2)]
    keras.Model(inputs, keras.layers.Flatten()(keras.layers.Add()(inputs))).save(path)


def rank_4(path):
    inputs = keras.Input((SIDE, SIDE, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)).save(path)


def free(path):
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))).save(path)


def constant(value):
    def write(path):
        model = build()
        model.layers[-1].set_weights([np.full((shape := model.layers[-1].kernel.shape), value), np.full(8, value)])
        assert shape[1] == 8
        model.save(path)

    return write


BAD = {
    "text.keras": (lambda path: path.write_text("no model"), r"it is no Keras model"),
    "text.h5": (lambda path: path.write_text("no model"), r"it is no Keras model"),
    "text.tflite": (lambda path: path.write_text("no model"), r"LiteRT cannot read it"),
    "text.onnx": (lambda path: path.write_text("no model"), r"onnxruntime cannot read it"),
    "lambda.keras": (refused_keras(with_lambda), r"its layer evil is a Lambda, which runs code of the file"),
    "module.keras": (refused_keras(with_module), r"its layer evil is a os\.system, which this project does not know"),
    "pickle.keras": (with_pickle, r"it holds payload\.pkl, which no Keras file does"),
    "linked.h5": (linked_h5, r"its entry elsewhere points to another file"),
    "weights.weights.h5": (lambda path: build().save_weights(path), r"weights without their network"),
    "softmax.keras": (softmax, r"its last layer people gives class probabilities.* give `output=vectors`"),
    "two.keras": (two_inputs, r"it has 2 inputs"),
    "rank4.keras": (rank_4, r"answers with the shape .*, not one vector an image: name another `output`"),
    "free.keras": (free, r"takes images of any size: say which"),
    "oblong.keras": (lambda path: build(shape=(32, 28, 3)).save(path), r"takes 32x28 pixels, and crops are square"),
    "grey.keras": (lambda path: build(shape=(32, 32, 1)).save(path), r"not three colours"),
    "nan.keras": (constant(np.nan), r"gives embeddings that are not finite"),
    "zero.keras": (constant(0.0), r"gives embeddings that are zero"),
    "vector.keras": (
        lambda path: keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]).save(path),
        r"its input has the shape \(None, 5\), not images",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_embedder_is_refused_in_one_line(tmp_path, name):
    write, reason = BAD[name]
    write(tmp_path / name)
    with pytest.raises(UserError, match=reason) as caught:
        load_embedder(tmp_path / name, scale="0..1").open()
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_layer_before_the_classes_can_be_taken(tmp_path, images, unit):
    softmax(tmp_path / "people.keras")
    embedder = load_embedder(f"{tmp_path / 'people.keras'}:scale=0..1,output=vectors")
    np.testing.assert_allclose(embedder.embed(images), unit(build()(images)), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing.onnx", r"nothing\.onnx does not exist: give a \.keras"),
        ("own.keras:scala=1", r"'scala=1' is no fact of a model; valid: scale, colour"),
        ("own.keras:scale=7", r"unknown scale '7' of a model's input; valid: 0\.\.1"),
        ("own.keras:scale=0..1,colour=grey", r"unknown colour 'grey'"),
        ("own.keras:scale=0..1,size=64", r"takes 32 pixels a side, not 64"),
        ("own.keras:scale=0..1,output=x", r"it has no output 'x'"),
    ],
)
def test_texts_that_name_no_model(written, monkeypatch, text, reason):
    monkeypatch.chdir(written("own.keras").parent)
    with pytest.raises(UserError, match=reason):
        load_embedder(text)


def test_an_onnx_file_without_its_data(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    weights.data_location = TensorProto.EXTERNAL
    weights.ClearField("raw_data")
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "missing.bin"
    node = helper.make_node("MatMul", ["image", "w"], ["out"])
    spec = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIDE, SIDE, 3]) for name in ("image", "out")]
    graph = helper.make_graph([node], "g", spec[:1], spec[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    (tmp_path / "cut.onnx").write_bytes(model.SerializeToString())
    assert onnx
    with pytest.raises(UserError, match=r"cut\.onnx: onnxruntime cannot read it: .*missing\.bin"):
        load_embedder(tmp_path / "cut.onnx", scale="0..1")


def test_a_model_object_is_to_be_wrapped(network):
    with pytest.raises(UserError, match=r"a Functional is no embedder: wrap it by `tfface\.wrap`"):
        as_embedder(network)


def test_a_bare_name_takes_no_facts():
    with pytest.raises(UserError, match="student is no file: scale are facts of a model of one's own"):
        load_embedder("student", scale="0..1")


def test_the_command_line_takes_a_path(written, tiny_faces, run_cli, tmp_path):
    model = f"{written('own.tflite')}:scale=0..1,recipe=whole"
    out = ("--out", tmp_path / "o")
    result = run_cli("evaluate", "--model", model, "--dataset", tiny_faces, "--threshold", "0.1", *out)
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert metrics["preset"] == "own.tflite"
    assert metrics["input_format"]["scale"] == "0..1"
    line = run_cli("attack", "--model", model, "--dataset", tiny_faces, "--attack", "pgd", "--threshold", "0.1").err
    assert "PGD follows gradients, and own.tflite gives none: take --attack square, or name a --surrogate" in line
    result = run_cli(
        *("attack", "--model", model, "--dataset", tiny_faces, "--attack", "square", "--queries", "5"),
        *("--threshold", "0.1", "--count", "2", "--epsilon", "0.1"),
    )
    assert result.code == 0, result.err
