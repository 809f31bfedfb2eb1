"""From names and numbers to attacks."""

import pytest

from tfface.attacks.pgd import PGD
from tfface.errors import UserError
from tfface.robustness.experiment import attack_grid


def grid(names, norms=(), **settings):
    return attack_grid(names, norms, settings)


def test_each_attack_in_each_norm():
    found = grid(["fgsm", "pgd"], ["l2", "linf"])
    assert [(name, attack.norm) for name, attack in found] == [
        ("fgsm", "l2"),
        ("fgsm", "linf"),
        ("pgd", "l2"),
        ("pgd", "linf"),
    ]


def test_a_setting_goes_where_it_belongs():
    found = dict(grid(["fgsm", "pgd"], steps=7, restarts=3))
    assert (found["pgd"].steps, found["pgd"].restarts) == (7, 3)
    assert found["fgsm"].steps == 1


def test_an_attack_as_an_object():
    """Of several norms it is made in each; a hyperparameter that is given is set in it too."""
    found = grid([PGD(steps=3)], ["l2"], step_size=0.5)
    assert found == [("pgd", PGD(norm="l2", steps=3, alpha=0.5))]


def test_an_attack_has_a_norm_of_its_own():
    assert [(name, attack.norm) for name, attack in grid(["cw", "fgsm"])] == [("cw", "l2"), ("fgsm", "linf")]


def test_a_norm_that_one_of_several_does_not_know(capsys):
    assert [name for name, _ in grid(["cw", "fgsm"], ["linf"])] == ["fgsm"]
    assert "cw knows no norm linf" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "norms", "settings", "message"),
    [
        (["fgsm"], [], {"steps": 3}, "fgsm takes no `steps`: `steps` is of apgd, bim, cw, dim, fmn, mim, pgd"),
        (["pgd"], [], {"queries": 3}, "pgd takes no `queries`: `queries` is of square"),
        (
            ["pdg"],
            [],
            {},
            "unknown attack 'pdg'.*did you mean pgd.*apgd, bim, .*, tim, vmi",
        ),
        (["pgd"], ["l3"], {}, "unknown norm 'l3'; valid: linf, l2"),
        (["cw"], ["linf"], {}, "knows no norm 'linf'"),
    ],
)
def test_what_is_refused(names, norms, settings, message):
    with pytest.raises(UserError, match=message):
        grid(names, norms, **settings)
