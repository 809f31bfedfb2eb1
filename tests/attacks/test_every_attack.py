"""One table: every registered attack, in every norm that it knows, for every goal."""

import json

import numpy as np
import pytest

from tfface.attacks._attack import run
from tfface.attacks._criteria import GOALS
from tfface.attacks._victim import Batch
from tfface.utils import registry

# Settings under which an attack is quick; a new attack is tested as it stands.
QUICK = {
    "pgd": {"steps": 4, "restarts": 2},
    "bim": {"steps": 4},
    "mim": {"steps": 3},
    "cw": {"steps": 30, "searches": 3, "initial_constant": 1.0},
    "square": {"queries": 25},
    "apgd": {"steps": 8},
    "fmn": {"steps": 30},
    "dim": {"steps": 3},
    "tim": {"steps": 3, "kernel": 3},
    "si_ni": {"steps": 3, "copies": 2},
    "vmi": {"steps": 3, "neighbours": 2},
}
ATTACKS = {name: registry.load("attacks", name).ATTACK for name in registry.names("attacks")}
ROWS = [(name, norm, goal) for name, attack in ATTACKS.items() for norm in attack.norms for goal in GOALS]
EPSILON = np.array([0.05, 0.2, 0.01, 0.05, 1.0, 0.1], np.float32)

rows = pytest.mark.parametrize(("name", "norm", "goal"), ROWS)


def test_the_table_is_whole():
    assert set(ATTACKS) == {
        *("fgsm", "bim", "pgd", "mim", "cw", "square"),
        *("apgd", "fmn", "dim", "tim", "si_ni", "vmi"),
    }
    assert len(ROWS) == 3 * (2 * 11 + 1)


@pytest.fixture
def attack(name, norm):
    return ATTACKS[name](norm=norm, **QUICK.get(name, {}))


def succeeded(goal, outputs, targets):
    """The goal in plain numpy."""
    if goal == "classify":
        return outputs.argmax(axis=1) != targets
    distance = 1 - np.sum(outputs * targets[:, :-1], axis=1)
    return distance > targets[:, -1] if goal == "dodging" else distance <= targets[:, -1]


@rows
def test_keeps_its_budget_and_is_judged_honestly(attack, norm, goal, victims, images, targets):
    found = run(attack, victims[goal], images, targets[goal], EPSILON, seed=1)
    assert found.images.dtype == np.float32
    assert found.images.min() >= 0 and found.images.max() <= 1
    change = np.abs(found.images - images).reshape(len(images), -1)
    measured = change.max(axis=1) if norm == "linf" else np.sqrt((change**2).mean(axis=1))
    assert (measured <= EPSILON + 1e-6).all()
    np.testing.assert_allclose(found.distance, measured, atol=1e-6)
    outputs = np.asarray(victims[goal].model(found.images))
    np.testing.assert_array_equal(found.success, succeeded(goal, outputs, targets[goal]))
    np.testing.assert_array_equal(found.success, found.margin > 0)
    # Else nothing was shown.
    assert found.success.any()


@rows
def test_the_batch_leaves_no_trace_and_a_seed_repeats(attack, goal, victims, images, targets):
    def attacked(places):
        return run(attack, victims[goal], images[places], targets[goal][places], EPSILON[places], seed=1, keys=places)

    every = np.arange(len(images))
    whole = attacked(every)
    np.testing.assert_array_equal(attacked(every).images, whole.images)
    for places in ([4], [3, 0, 5]):
        part = attacked(np.array(places))
        np.testing.assert_array_equal(part.success, whole.success[places])
        # Kernels may round otherwise at another batch size, which a large budget scales up.
        change = np.abs(part.images - whole.images[places]).max(axis=(1, 2, 3))
        assert (change <= np.maximum(1e-5, 1e-4 * EPSILON[places])).all()


@rows
def test_epsilon_zero_changes_nothing(attack, goal, victims, images, targets):
    found = run(attack, victims[goal], images[:2], targets[goal][:2], 0)
    np.testing.assert_array_equal(found.images, images[:2])
    assert not found.success.any()


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if not attack.deterministic])
def test_seed_key_and_restart_alone_decide(name, victims, images, targets):
    attack = ATTACKS[name](**QUICK[name])
    twice = [0, 0]

    def perturbed(seed, keys, restart):
        whole = Batch.checked(victims["classify"], images, targets["classify"], 0.01, seed=seed)
        return attack.perturb(victims["classify"], whole.of(twice, keys=np.array(keys), restart=restart))

    first = perturbed(0, [3, 3], 0)
    np.testing.assert_array_equal(first[0], first[1])
    for other in (perturbed(1, [3, 3], 0)[0], perturbed(0, [4, 4], 0)[0], perturbed(0, [3, 3], 1)[0]):
        assert (other != first[0]).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_describes_itself(name):
    attack = ATTACKS[name]()
    assert json.loads(json.dumps(attack.record()))["norm"] == attack.norm
    assert attack.title
    assert "https://" in attack.paper
    assert hash(attack) == hash(ATTACKS[name]())
