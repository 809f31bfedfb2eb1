"""Tables of `attack`, from entries as `metrics.json` holds them."""

import pytest

from tfface.report.attack_tables import attack_tables, check_table, figure_title, number

HEAD = {
    "preset": "tiny/random",
    "dataset": "faces",
    "recipe": "whole",
    "seed": 0,
    "metric": "cosine",
    "threshold": 0.4,
    "threshold_source": "preset: chosen",
    "threshold_errors": {"far": 0.00019, "tar": 0.9719, "genuine": 242244, "impostor": 87294052, "measured_on": "all"},
    "attack": "fgsm",
    "norm": "linf",
    "goal": "dodging",
    "subjects": "view2",
    "count": 100,
    "failed_crops": 0,
    "judged": "8-bit",
    "surrogate": None,
}
RATE = {"epsilon": 0.01, "attacked": 98, "already_wrong": 2, "error_rate": 0.5, "ci95": [0.4, 0.6]}
SMALLEST = {"attacked": 90, "already_wrong": 10, "failed": 50, "median_epsilon": None, "ci95": [0.02, None]}


@pytest.fixture
def printed():
    """The tables of entries as (title, columns, rows), and the notes."""

    def run(*objects, checks=False):
        tables = [check_table(objects[0])] if checks else attack_tables(objects)
        return [(one.title, one.columns, one.rows) for one in tables], "".join(tables[-1].notes)

    return run


def cells(table) -> list[dict[str, str]]:
    """Rows by column; of columns of one name the last."""
    return [dict(zip(table[1], row, strict=True)) for row in table[2]]


def test_a_threshold_is_never_without_its_source_and_errors(printed):
    (thresholds, _), _ = printed({**HEAD, "results": [RATE]})
    assert cells(thresholds) == [
        {
            "preset": "tiny/random",
            "threshold": "cosine 0.4000",
            "source": "preset: chosen",
            "FAR": "0.019%",
            "TAR": "97.19%",
            "measured on": "all: 87,294,052 impostor, 242,244 genuine",
        }
    ]
    (unknown, _), _ = printed({**HEAD, "threshold_errors": None, "results": [RATE]})
    assert (cells(unknown)[0]["FAR"], cells(unknown)[0]["measured on"]) == ("-", "not measured")


def test_rates_and_searches_of_a_grid(printed):
    l2 = {**HEAD, "norm": "l2", "results": [{**RATE, "l2": 2.771, "rms255": 2.55}]}
    search = {**HEAD, "surrogate": "other/one", **SMALLEST}
    (_, rates, searches), notes = printed({**HEAD, "results": [RATE]}, l2, search)
    first, second = cells(rates)
    assert (first["epsilon"], first["attacked"], first["already wrong"]) == ("0.01", "98", "2")
    assert (first["error rate"], first["95% interval"]) == ("50.00%", "40.00 to 60.00")
    assert (first["L2 norm"], second["L2 norm"], second["255 x rms"]) == ("-", "2.771", "2.550")
    (row,) = cells(searches)
    assert (row["attack"], row["failed"]) == ("fgsm via other/one", "50")
    assert (row["median epsilon"], row["95% interval"]) == ("infinite", "0.0200 to infinite")
    assert "judged 8-bit" in rates[0] and notes == ""


def test_the_papers_table(printed):
    clean = {"images": 212, "pairs": 24934, "images_matched": 0.9953, "ci95": [0.97, 1], "pairs_matched": 0.9727}
    entry = {
        **HEAD,
        "goal": "classify",
        "failed_crops": 3,
        "head": {"people": ["a", "b"], "train": 639, "copies": 261, "test": 212},
        "clean": {"error_rate": 0.0, "ci95": [0, 0.0178], "similarity": clean},
        "results": [
            {**RATE, "similarity": {**clean, "images": 144, "images_matched": 0.0417}},
            {**RATE, "epsilon": 0.3, "similarity": None},
        ],
    }
    (_, _, table), notes = printed(entry)
    rows = [row[:4] + row[4:6] for row in table[2]]
    assert rows == [
        ["clean", "0.00%", "0.00 to 1.78", "-", "212", "99.53%"],
        ["0.01", "50.00%", "40.00 to 60.00", "68%", "144", "4.17%"],
        ["0.3", "50.00%", "40.00 to 60.00", "-", "0", "-"],
    ]
    assert "3 of 100 subjects of classify are left out" in notes
    assert "median distance" in notes
    (_, _, other), _ = printed({**entry, "attack": "pgd"})
    assert other[2][1][3] == "-", "the paper's figures are FGSM's"
    search = {key: value for key, value in entry.items() if key != "results"}
    (_, _, smallest), _ = printed({**search, **SMALLEST, "similarity": clean})
    assert smallest[2][1][0] == "smallest"


def test_checks_and_what_follows(printed):
    rows = [
        {"check": "grows", "passed": False, "measured": "1 of 2"},
        {"check": "FGSM", "passed": None, "measured": "-"},
    ]
    check = {"masks_gradients": True, "attacked": 2, "rows": rows}
    ((_, _, printed_rows),), words = printed({**HEAD, "check": check}, checks=True)
    assert printed_rows == [["grows", "FAILED", "1 of 2"], ["FGSM", "-", "-"]]
    assert "seems to mask its gradients" in words


def test_titles_and_numbers():
    assert figure_title({**HEAD, "results": [RATE]}).startswith("fgsm (linf, epsilon 0.01), goal dodging, on tiny/")
    assert "the smallest epsilon" in figure_title({**HEAD, **SMALLEST})
    assert (number(None), number(float("inf")), number(0.01234)) == ("infinite", "infinite", "0.0123")
