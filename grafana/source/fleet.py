"""The dashboard of all guards."""

from source.panels import (
    ANY_IS_BAD,
    BAD,
    COLORED,
    GOOD,
    GUARD,
    LOOK,
    PLAIN,
    STATES,
    WORK,
    column,
    dashboard,
    graph,
    mapping,
    query,
    rows,
    stat,
    state,
    steps,
    table,
    timeline,
)
from source.shared import (
    ENFORCING,
    FAILURES,
    KNOWN,
    NEVER,
    NEVER_FULL,
    NODE,
    RUNBOOK,
    UP,
    alerts_firing,
    first_full,
    leading_to,
    not_given_back,
    oldest_message,
    recorded_and_given_back,
)


def fleet():
    """All guards: which volume, which guard, how bad."""
    by = "job, instance, volume"
    size = f"storage_guard_volume_size_bytes{{{GUARD}}}"
    available = f"storage_guard_volume_available_bytes{{{GUARD}}}"
    free = f"storage_guard_volume_free_bytes{{{GUARD}}}"
    high = f'storage_guard_volume_watermark_bytes{{{GUARD}, mark="high"}}'
    room = f"({available} - on ({by}) {high}) / on ({by}) {size}"
    panels = [
        stat(
            "Guards down",
            "Guards that answered Prometheus within the last week and do not now. Recording goes on without them, and "
            "nothing is deleted.",
            f"sum(1 - up{{{GUARD}}} {KNOWN})",
            thresholds=ANY_IS_BAD,
            none="no guard",
        ),
        alerts_firing(),
        stat(
            "Over the high mark",
            "Volumes with less available than their exported high mark. Normal for as long as a run takes; where the guard only "
            "observes, until somebody makes room.",
            f"sum({available} < bool on ({by}) {high})",
            thresholds=steps((GOOD, None), (WORK, 1)),
            none="no volume",
        ),
        stat(
            "Exhausted or blind",
            "Exhausted: above the low mark, and nothing eligible is left to delete. Blind: the guard cannot judge the volume, "
            "and deletes nothing there. Both want a person.",
            f'sum(storage_guard_volume_pressure{{{GUARD}, state=~"exhausted|blind"}})',
            thresholds=ANY_IS_BAD,
            none="no volume",
        ),
        not_given_back(GUARD),
        first_full(),
        table(
            "Volumes, worst first",
            "Every volume. *Room above high* is what is available beyond the high mark, as a share of the volume; below 0 the "
            "mark is crossed. *Used* is what `df` shows. *By others* is used by what is a recording of no tree. A blind volume shows "
            "its state only. The guard's name leads to its dashboard.",
            [
                rows(by, state(GUARD, by)),
                rows(by, room),
                rows(by, f"({size} - {free}) / ({size} - {free} + {available})"),
                rows(by, available),
                rows(by, f"storage_guard_volume_seconds_until_full{{{GUARD}}}"),
                rows(by, f"storage_guard_volume_foreign_bytes{{{GUARD}}}"),
            ],
            {
                "instance": "Guard",
                "volume": "Volume",
                "Value #A": "State",
                "Value #B": "Room above high",
                "Value #C": "Used",
                "Value #D": "Available",
                "Value #E": "Full in",
                "Value #F": "By others",
            },
            (24, 8),
            sort=[("State", True), ("Room above high", False)],
            overrides=[
                leading_to(NODE, "This guard"),
                column("State", mappings=mapping(STATES), custom_cellOptions=COLORED),
                column(
                    "Room above high",
                    unit="percentunit",
                    decimals=1,
                    thresholds=steps((LOOK, None), (PLAIN, 0)),
                    custom_cellOptions=COLORED,
                ),
                column("Used", unit="percentunit", decimals=1),
                column("Available", unit="bytes"),
                column("Full in", unit="s", mappings=NEVER_FULL),
                column("By others", unit="bytes"),
            ],
        ),
        timeline(
            "Pressure",
            "The state of each volume. Reclaiming is the guard at work, and ends at the low mark (where it only observes, it "
            "would be at work); exhausted and blind want a person.",
            [query(state(GUARD, by), "{{instance}} {{volume}}")],
            STATES,
            (12, 8),
        ),
        graph(
            "Room above the high mark",
            "What is available beyond the exported high mark, as a share of the volume. The dashed line at 0 is the mark: where "
            "a line falls below it, reclaiming begins. A saw-tooth is healthy; a line that stays below is not.",
            [query(room, "{{instance}} {{volume}}")],
            "percentunit",
            (12, 8),
            line="dashed",
            thresholds=steps(("transparent", None), (LOOK, 0)),
            least=None,
        ),
        table(
            "Alerts firing now",
            "Alerts that the guards themselves raise. The operations guide has a paragraph for each, with what to do.",
            [rows("instance, alert, severity", f"storage_guard_alerts_firing{{{GUARD}}} > 0")],
            {
                "severity": "Severity",
                "alert": "Alert",
                "instance": "Guard",
                "Value": "How many",
                "Value #A": "How many",
            },
            (10, 7),
            sort=[("Severity", False)],
            none="no alert is firing",
            overrides=[
                leading_to(NODE, "This guard"),
                column(
                    "Severity",
                    mappings=mapping(
                        {"critical": ("critical", BAD), "warning": ("warning", LOOK), "info": ("info", WORK)}
                    ),
                    custom_cellOptions=COLORED,
                ),
            ],
        ),
        recorded_and_given_back(GUARD, (7, 7)),
        oldest_message((7, 7)),
        table(
            "Guards",
            "Every guard that answered within the last week. *Configuration* is rejected if the file that was loaded last has a "
            "problem; the one before stays in force. *Probed* and *scanned* are of the volume or tree where it is longest ago.",
            [
                rows("job, instance", f"up{{{GUARD}}} {KNOWN}"),
                rows("job, instance", f"storage_guard_enforcing{{{GUARD}}}"),
                rows("job, instance", f"storage_guard_config_last_reload_successful{{{GUARD}}}"),
                rows("job, instance", f'1000 * storage_guard_last_success_timestamp_seconds{{{GUARD}, task="probe"}}'),
                rows("job, instance", f'1000 * storage_guard_last_success_timestamp_seconds{{{GUARD}, task="scan"}}'),
                rows("job, instance", f"sum by (job, instance) (storage_guard_deletions_waiting{{{GUARD}}})"),
                rows("job, instance, version, revision", f"storage_guard_build_info{{{GUARD}}}"),
            ],
            {
                "instance": "Guard",
                "Value #A": "Answers",
                "Value #B": "Mode",
                "Value #C": "Configuration",
                "Value #D": "Probed",
                "Value #E": "Scanned",
                "Value #F": "Deletions waiting",
                "version": "Version",
            },
            (24, 7),
            sort=[("Answers", False)],
            overrides=[
                leading_to(FAILURES, "Its orphans and failures"),
                column("Answers", mappings=mapping(UP), custom_cellOptions=COLORED),
                column("Mode", mappings=mapping(ENFORCING)),
                column(
                    "Configuration",
                    mappings=mapping({1: ("in force", None), 0: ("rejected", BAD)}),
                    custom_cellOptions=COLORED,
                ),
                column("Probed", unit="dateTimeFromNow", mappings=NEVER),
                column("Scanned", unit="dateTimeFromNow", mappings=NEVER),
            ],
        ),
    ]
    return dashboard(
        "storage-guard-fleet",
        "storage-guard: fleet",
        "All guards of a fleet: which volumes are worst, what fires, and whether space comes back.",
        ["job", "instance"],
        panels,
        RUNBOOK,
    )
