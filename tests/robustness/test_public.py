"""The public functions of robustness, as a notebook calls them."""

import json

import pytest

import tfface
from tfface import attacks
from tfface.errors import UserError


def test_attack_takes_objects_and_returns_a_result(faces, tiny_embedder, tmp_path):
    result = tfface.attack(
        tiny_embedder, faces, attack=attacks.PGD(steps=2), threshold=0.05, count=3, epsilons=(0.1, 0.2)
    )
    assert list(result.error_rates) == [0.1, 0.2] and result.median_epsilon is None
    content = json.loads(json.dumps(result.to_dict()))
    assert content["command"] == "attack" and content["attack_settings"]["steps"] == 2
    assert result._repr_html_().startswith("<table>")
    assert result.plot().axes
    assert set(result.save(tmp_path)) == {"figure1.png", "error_rate.png", "metrics.json"}


def test_attack_searches_the_smallest_epsilon(faces, tiny_embedder):
    result = tfface.attack(tiny_embedder, faces, minimal=True, threshold=0.05, count=3, goal="impersonation")
    assert 0 < result.median_epsilon < 1 and result.error_rates == {}
    assert result.plot().axes


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"steps": 3}, "fgsm takes no `steps`"),
        ({"epsilons": 2.0}, "`epsilons` has 2.0: give numbers from 0 to 1"),
        ({"minimal": True, "epsilons": 0.1}, "leave out `epsilons`, or `minimal`"),
        ({"knowledge": "all"}, "`knowledge` is 'all': give one of both, adaptive, naive"),
        ({"draws": 3}, "add `defense`"),
        ({"jpeg": 0}, "`jpeg` quality 0"),
    ],
)
def test_attack_refuses(faces, tiny_embedder, parameters, message):
    with pytest.raises(UserError, match=message):
        tfface.attack(tiny_embedder, faces, **parameters).to_dict()


def test_certify(faces, tiny_embedder, tmp_path):
    result = tfface.certify(
        tiny_embedder, faces, protocol="all-pairs", count=4, sigma=0.05, samples=40, guess=10, alpha=0.05, radii=0.02
    )
    assert list(result.accuracy) == [0.02]
    assert result.to_dict()["count"] == 4
    assert set(result.save(tmp_path)) == {"certified.png", "certificates.csv", "metrics.json"}
    with pytest.raises(UserError, match="`count` is 1"):
        tfface.certify(tiny_embedder, faces, protocol="all-pairs", count=1)


def test_benchmark_robustness(faces, tiny_embedder):
    result = tfface.benchmark_robustness(
        tiny_embedder,
        faces,
        protocol="all-pairs",
        defense="median",
        goal="dodging",
        count=3,
        steps=2,
        check=0,
        detect=False,
    )
    assert [row["label"] for row in result.rows] == ["no defense", "median"]
    assert all(row["ms"] > 0 for row in result.rows)
    with pytest.raises(UserError, match="`goal` is 'classify': give dodging or impersonation"):
        tfface.benchmark_robustness(tiny_embedder, faces, protocol="all-pairs", goal="classify")


def test_list_defenses():
    found = tfface.list_defenses()
    assert found.to_dict()["jpeg"]["options"].keys() >= {"quality"}
    assert "Guo" in found._repr_html_() or "arxiv" in found._repr_html_()
