from tfface.report.hardening import hardening_lines

VALIDATION = {"accuracy": 0.9, "hard_accuracy": 0.45}


def goal(name, median, failed=0):
    settings = {"steps": 20}
    return {
        "goal": name,
        "attacked": 280,
        "median_epsilon": median,
        "ci95": [0.01, None],
        "failed": failed,
        "attack_settings": settings,
        "subjects": "view2-folds-9-10",
        "threshold_source": "each fold from the others",
    }


def entry(preset, sha, *goals):
    return {"preset": preset, "weights_sha256": sha * 8, "goals": list(goals)}


def test_nothing_of_a_student_that_was_not_hardened():
    assert hardening_lines({"settings": {"epochs": 3}}) == []


def test_what_it_withstands_beside_another():
    """0.016 against 0.002 is 8 times, 0.02 against 0.004 is 5; 0.016 is 4.08 of 255."""
    hardening = {"method": "pgd-at", "epsilon": 0.02, "attack_steps": 3, "step_size": 4 / 255, "climb": 5}
    withstands = [
        entry("student/hard", "abc", goal("dodging", 0.016), goal("impersonation", 0.02)),
        entry("student/plain", "def", goal("dodging", 0.002), goal("impersonation", 0.004)),
    ]
    text = "\n".join(
        hardening_lines(
            {
                "settings": {"hardening": hardening},
                "validation": VALIDATION,
                "start": "student/plain",
                "withstands": withstands,
            }
        )
    )
    assert "begun with the weights of student/plain" in text
    assert "3 steps of 4/255 up to 5.1/255" in text
    assert "| student/hard | `abcabcab` | dodging | 280 | 0.0160 (0.0100 to infinite) | 4.08 | 0 |" in text
    assert "Against student/plain: dodging 8.0 times, impersonation 5.0 times." in text
    assert "90.00% and 45.00%" in text


def test_a_median_beyond_all_bounds():
    withstands = [entry("student/hard", "abc", goal("dodging", None, 200), goal("impersonation", 0.02))]
    text = "\n".join(
        hardening_lines(
            {
                "settings": {"hardening": {"method": "noise", "sigma": 0.1}},
                "validation": VALIDATION,
                "withstands": withstands,
            }
        )
    )
    assert "| infinite (0.0100 to infinite) | - | 200 |" in text and "Against" not in text
