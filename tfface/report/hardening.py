"""Section of a model card on a hardened student: its training, and its robustness on held-out people."""

from typing import Any

from tfface.report.evaluation_tables import interval, percent

Metrics = dict[str, Any]

METHODS = {
    "pgd-at": "PGD adversarial training (Madry et al. 2018, https://arxiv.org/abs/1706.06083)",
    "trades": "TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573)",
    "noise": "Gaussian noise (Cohen et al. 2019, https://arxiv.org/abs/1902.02918)",
}
"""Ways to harden, with their papers."""


def hardening_lines(metrics: Metrics) -> list[str]:
    """Write the section, in Markdown; empty for a student that was not hardened."""
    hardening = metrics.get("settings", {}).get("hardening")
    if not hardening:
        return []
    lines = ["## Hardened", "", _trained(metrics, hardening), ""]
    if "withstands" in metrics:
        lines += [*_withstands(metrics["withstands"]), ""]
    if "certified" in metrics:
        lines += [*_certified(metrics), ""]
    return lines


def _trained(metrics: Metrics, hardening: Metrics) -> str:
    validation = metrics["validation"]
    chosen = (
        f"Of its epochs the one was chosen whose accuracy on the validating people's photographs as they are and "
        f"{'under noise' if hardening['method'] == 'noise' else 'under PGD at that epsilon'} was highest in the mean "
        f"({percent(validation['accuracy'])} and {percent(validation['hard_accuracy'])})."
    )
    if hardening["method"] == "noise":
        width = f"of standard deviation {hardening['sigma']:g} on the scale of [0, 1]"
        return f"Trained under {METHODS['noise']} {width}. {chosen}"
    begun = f", begun with the weights of {metrics['start']}" if "start" in metrics else ""
    return (
        f"Trained by {METHODS[hardening['method']]}{begun}: every view is attacked by PGD in L-infinity, "
        f"{hardening['attack_steps']} steps of {_levels(hardening['step_size'])} up to "
        f"{_levels(hardening['epsilon'])}, away from the teacher's answer to the clean view. {chosen}"
    )


def _withstands(entries: list[Metrics]) -> list[str]:
    """Write a table of the smallest epsilons, and by how many times they grew."""
    first = entries[0]["goals"][0]
    steps, where = first["attack_settings"]["steps"], f"{first['subjects']}; {first['threshold_source']}"
    lines = [
        f"The smallest L-infinity change that fools it, found by PGD of {steps} steps through the whole model, on "
        f"pairs of held-out people ({where}); medians over pairs that it gets right unattacked, failed attacks "
        "counted as infinite:",
        "",
        "| | weights | goal | pairs | median epsilon (95%) | of 255 | failed attacks |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        for goal in entry["goals"]:
            median = goal["median_epsilon"]
            lines.append(
                f"| {entry['preset']} | `{entry['weights_sha256'][:8]}` | {goal['goal']} | {goal['attacked']} | "
                f"{_epsilon(median)} ({_bounds(goal['ci95'])}) | {_times(median)} | {goal['failed']} |"
            )
    return [*lines, *_grew(entries)]


def _grew(entries: list[Metrics]) -> list[str]:
    """Write by how many times the medians are larger than the other model's."""
    if len(entries) < 2:
        return []
    own, other = ({goal["goal"]: goal["median_epsilon"] for goal in entry["goals"]} for entry in entries[:2])
    known = [f"{goal} {own[goal] / other[goal]:.1f} times" for goal in own if own[goal] and other[goal]]
    return ["", f"Against {entries[1]['preset']}: {', '.join(known)}."] if known else []


def _certified(metrics: Metrics) -> list[str]:
    """Write a table of the certified accuracy by radius."""
    found = metrics["certified"]
    smoothing = found["smoothing"]
    lines = [
        f"Certified accuracy on {found['count']} pairs of held-out people ({found['subjects']}; "
        f"{found['threshold_source']}), sigma {smoothing['sigma']:g}, {smoothing['samples']:,} noisy copies, alpha "
        f"{smoothing['alpha']:g}; abstentions count as uncertified:",
        "",
        "| L2 radius on the scale of [0, 1] | genuine | impostor | mean of both (95%) |",
        "|---|---|---|---|",
    ]
    for entry in found["certified"]:
        kinds = [percent(entry[kind]["value"]) if entry[kind] else "-" for kind in ("genuine", "impostor")]
        both = entry["accuracy"]
        lines.append(
            f"| {entry['radius']:.3f} | {' | '.join(kinds)} | {percent(both['value'])} ({interval(both['ci95'])}) |"
        )
    call = (
        f'tfface.certify("{metrics["preset"]}", "{metrics["dataset"].split("/")[0]}", '
        f"sigma={smoothing['sigma']:g}, fold_thresholds=True, check=200)"
    )
    return [*lines, "", "```", call, "```"]


def _levels(value: float) -> str:
    return f"{255 * value:.3g}/255"


def _epsilon(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.4f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{255 * value:.2f}"


def _bounds(bounds: list[float | None] | None) -> str:
    return "-" if bounds is None else " to ".join(map(_epsilon, bounds))
