from tfface.report.robustness_plots import plot_curves, plot_heat_map
from tfface.report.robustness_tables import attack_columns, certified, remarks, table
from tfface.utils.public import save_figure


def attack(goal, knowledge, median, epsilons, attacked=4):
    return {
        "goal": goal,
        "attack": "pgd",
        "norm": "linf",
        "knowledge": knowledge,
        "attacked": attacked,
        "median_epsilon": median,
        "ci95": [0.01, None] if attacked else None,
        "epsilons": epsilons,
    }


def line(label, status, attacks, **more):
    return {
        "label": label,
        "attacks": attacks,
        "accuracy": {"accuracy": 0.93, "ci95": [0.92, 0.94]},
        "detection": {},
        "certified": None,
        "verdict": {"status": status, "why": ["the reason"] if status == "broken" else [], "gains": {"dodging": 1.25}},
        **more,
    }


METRICS = {
    "preset": "tiny/random",
    "rows": [
        line("no defense", "undefended", [attack("dodging", "white box", 0.02, [0.01, 0.02, 0.03])], ms=1.25),
        line(
            "jpeg",
            "broken",
            [attack("dodging", "white box", 0.02, [0.01, 0.03]), attack("dodging", "naive", None, [])],
            certified={"radius": 0.5, "accuracy": {"value": 0.6}},
        ),
        line("none attacked", "no gain", [attack("dodging", "white box", None, [], attacked=0)]),
    ],
}


def test_the_table_by_hand():
    columns, rows = table(METRICS)
    assert columns == [
        "defense",
        "accuracy",
        "dodging, naive",
        "dodging, white box",
        "certified",
        "ms an image",
        "verdict",
    ]
    assert rows[0][1:] == [
        "93.00% (92.00 to 94.00)",
        "-",
        "0.0200 (0.0100 to infinite)",
        "-",
        "1.2",
        "undefended (1.2x)",
    ]
    assert rows[1][2] == "infinite (0.0100 to infinite)"
    assert rows[1][4:6] == ["60.00% at L2 0.5", "-"]
    assert rows[2][3] == "-"
    assert remarks(METRICS) == ["jpeg is broken: the reason"]
    assert certified(METRICS["rows"][0]) == "-"


def test_naive_comes_before_those_who_know():
    assert attack_columns(METRICS) == [("dodging", "pgd", "linf", "naive"), ("dodging", "pgd", "linf", "white box")]


def test_pictures_bear_what_failed_and_what_was_not_attacked(tmp_path):
    save_figure(plot_heat_map(METRICS), tmp_path / "map.png")
    save_figure(plot_curves(METRICS), tmp_path / "curves.png")
    assert all((tmp_path / name).stat().st_size > 5_000 for name in ("map.png", "curves.png"))
