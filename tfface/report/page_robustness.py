"""The report's section on defenses: one table, a heat map, error against epsilon, what detection gives."""

from tfface.report.page_cells import HEADLINES, pictures
from tfface.report.page_parts import Block, Notes, Section, Table
from tfface.report.page_runs import Run
from tfface.report.robustness_tables import detection_table, detection_title, remarks, table, title


def robustness_section(runs: list[Run]) -> Section:
    """Each run's table of defenses, its pictures, and why what is broken is.

    Raises:
        UserError: a run is of another schema.
    """
    blocks: list[Block] = []
    for run in runs:
        columns, rows = run.view(table)
        last = len(columns) - 1
        blocks.append(Table(f"{run.label}: {run.view(title)}", columns, rows, words=frozenset({last})))
        if broken := run.view(remarks):
            blocks.append(Notes(broken))
        columns, rows = run.view(detection_table)
        if rows:
            blocks.append(Table(f"{run.label}: {run.view(detection_title)}", columns, rows, words=frozenset({1, 2})))
    titles = {
        "heat_map": "smallest epsilons by defense and attacker",
        "error_against_epsilon": "error against epsilon",
        "detection": "ROC of detection",
    }
    return Section(
        "defenses",
        "What makes it harder to fool",
        "Each defense before the model, attacked by who does not know it (naive), by who does (white box), and through "
        "another model (transfer). A defense that only looks good to the naive is broken, whatever its numbers.",
        [*blocks, *pictures(runs, titles, "plot")],
        [
            (
                f"{sum(row['verdict']['status'] == 'broken' for row in run.metrics['rows'])}",
                f"defenses broken: {run.label}",
            )
            for run in runs[:HEADLINES]
        ],
    )
