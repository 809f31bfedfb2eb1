"""The public API: the example of the documentation as it stands, lazy names, results in a notebook."""

import inspect
import json
import subprocess
import sys

import pytest

import tfface
from tfface.utils.public import Result

EXAMPLE = """
import tfface
from tfface import attacks, criteria

embedder = tfface.load_embedder("student/lfw-distilled")
faces = tfface.load_dataset("five_faces")
print(tfface.verify(embedder, A, B).same)
result = tfface.evaluate(embedder, faces, protocol="all-pairs")
print(result.auc, result.eer, result.fixed.accuracy)
pairs = faces.sample_pairs(16, genuine=True, seed=0)
images, references = pairs.crops(embedder)
goal = criteria.Dodging(references, threshold=result.fixed.threshold)
outcome = attacks.PGD(steps=20)(embedder, images, goal, epsilon=4 / 255)
print(outcome.success.mean())
smallest = attacks.minimal_epsilon(attacks.BIM(), embedder, images, goal)
defended = tfface.defenses.apply(embedder, "jpeg:quality=75")
tfface.export(defended, "out", format="tflite")
"""


@pytest.mark.registry
def test_the_example_of_the_documentation(registry_cache, tmp_path, monkeypatch, capsys):
    faces = tfface.load_dataset("five_faces")
    for name, key in (("a.jpg", faces.keys[0]), ("b.jpg", faces.keys[1])):
        (tmp_path / name).write_bytes(faces.read(key))
    monkeypatch.chdir(tmp_path)
    names = {"A": "a.jpg", "B": "b.jpg"}
    exec(compile(EXAMPLE, "example", "exec"), names)
    result, outcome, smallest = names["result"], names["outcome"], names["smallest"]
    assert 0.8 < result.auc < 1
    assert 0 < result.eer < 0.3
    assert 0.5 < result.fixed.accuracy <= 1
    assert names["images"].shape == names["references"].shape == (16, 160, 160, 3)
    # An undefended student loses nearly all pairs to PGD at four grey levels; the smallest epsilons lie below it.
    assert outcome.success.mean() > 0.9
    assert (abs(outcome.images - names["images"]).max() <= 4 / 255 + 1e-6).all()
    assert sorted(smallest.epsilon)[8] < 4 / 255
    written = sorted(path.name for path in (tmp_path / "out").rglob("*.tflite"))
    assert len(written) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] in ("True", "False")
    # The same in a notebook and in `metrics.json`.
    assert json.loads(json.dumps(result.to_dict()))["auc"] == result.auc
    assert result._repr_html_().startswith("<table>")


def test_importing_it_imports_nothing_heavy():
    code = "import sys, tfface; print([m for m in ('numpy', 'tensorflow', 'keras', 'click') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(AttributeError, match=r"module 'tfface' has no attribute 'evalute'; near names: evaluate"):
        tfface.evalute  # noqa: B018


@pytest.mark.parametrize("name", sorted(set(tfface.__all__) - {"__version__"}))
def test_every_public_name_is_there_and_documented(name):
    found = getattr(tfface, name)
    text = inspect.getdoc(found) or ""
    assert text.strip(), f"tfface.{name} has no docstring"
    if inspect.isfunction(found):
        first = text.splitlines()[0]
        assert first.endswith(".") and first[0].isupper(), f"tfface.{name}: {first}"
        assert "Returns:" in text or "Yields:" in text, f"tfface.{name} does not say what it returns"


def test_an_unknown_parameter_is_named():
    with pytest.raises(
        tfface.UserError, match=r"evaluate\(\) takes no parameter 'sed' \(did you mean seed\?\)"
    ) as error:
        tfface.evaluate(sed=1)
    assert error.value.parameter == "sed"


def test_results_are_dataclasses_of_one_base():
    from tfface.evaluation.evaluate import Comparison
    from tfface.evaluation.scoring import Evaluation

    assert issubclass(Evaluation, Result)
    assert issubclass(Comparison, Result)
