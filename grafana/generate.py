#!/usr/bin/env python3
"""Writes dashboards/*.json. `--check` writes nothing and fails where one is not what would be written.

Numbers of the guard's configuration stand in no dashboard: marks come from the metrics that export them.
"""

import json
import pathlib
import sys

from panels import (
    ANY_IS_BAD,
    ANY_WANTS_A_LOOK,
    BAD,
    COLORED,
    GOOD,
    GUARD,
    LOOK,
    PLAIN,
    STATES,
    TREE,
    VOLUME,
    WORK,
    column,
    dashboard,
    graph,
    mapping,
    now,
    override,
    query,
    row,
    rows,
    stat,
    state,
    stats,
    steps,
    table,
    timeline,
)

# Where the operations guide can be read; README.md says how to put one's own address in its place.
RUNBOOK = "https://storage-guard.example.org/docs/operations.md"

NODE = "/d/storage-guard-node?var-instance=${__data.fields.Guard:percentencode}&${__url_time_range}"
FAILURES = "/d/storage-guard-orphans?var-instance=${__data.fields.Guard:percentencode}&${__url_time_range}"

# Guards that answered within a week: one that is down is no longer seen in its own metrics.
KNOWN = f"and on (job, instance) last_over_time(storage_guard_build_info{{{GUARD}}}[7d])"

NEVER_FULL = mapping({"Infinity": ("not filling up", None)})
UP = {1: ("up", GOOD), 0: ("down", BAD)}
NEVER = mapping({0: ("never", None)})
ENFORCING = {1: ("enforce", None), 0: ("observe", None)}


def colored(series):
    """Fixed colours for series by their names."""
    return [override("byName", name, color={"mode": "fixed", "fixedColor": color}) for name, color in series]


def leading_to(url, title):
    """The column with the guard's name, as a link."""
    return column("Guard", links=[{"title": title, "url": url, "targetBlank": False}])


def alerts_firing():
    """How many alerts fire, by severity."""

    def of(severity):
        return now(f'sum(storage_guard_alerts_firing{{{GUARD}, severity="{severity}"}})', severity)

    return stats(
        "Alerts firing",
        "Alerts that guards raise themselves. The fleet's dashboard lists them; the operations guide has a paragraph for each.",
        [of("critical"), of("warning")],
        thresholds=ANY_WANTS_A_LOOK,
        none="no guard",
        overrides=[override("byName", "critical", thresholds=ANY_IS_BAD)],
    )


def not_given_back(selector):
    """Bytes that deletions should have freed."""
    return stat(
        "Space not given back",
        "Bytes of recordings that were chosen, and whose space did not come back: still open, locked, failed, or shared with "
        "a snapshot. `storage-guard failures list` names files, causes and holders.",
        f"sum(storage_guard_unreclaimed_bytes{{{selector}}})",
        unit="bytes",
        thresholds=ANY_WANTS_A_LOOK,
    )


def first_full():
    """When the first volume would be full."""
    return stat(
        "First volume full in",
        "When the first volume would be full if nothing were deleted, at the inflow that scans measured. A guard that enforces "
        "deletes long before; where it only observes, this is the time that is left.",
        f"min(storage_guard_volume_seconds_until_full{{{GUARD}}})",
        unit="s",
        mappings=NEVER_FULL,
    )


def recorded_and_given_back(selector, size):
    """Inflow against what deletions gave back."""
    return graph(
        "Inflow and given back",
        "What is recorded, as scans see it, against what deletions gave back, as measured on the volumes. Over some hours the "
        "two are alike on volumes that are at their marks; where inflow stays above, volumes fill.",
        [
            query(f"sum(rate(storage_guard_inflow_bytes_total{{{selector}}}[$__rate_interval]))", "recorded"),
            query(f"sum(rate(storage_guard_reclaimed_bytes_total{{{GUARD}}}[$__rate_interval]))", "given back"),
        ],
        "binBps",
        size,
        interval="5m",
        overrides=colored([("recorded", "blue"), ("given back", "green")]),
    )


def oldest_message(size):
    """Whether alerts get out."""
    return graph(
        "Oldest message that waits",
        "For each channel the age of the oldest message that is not delivered yet. 0 when none waits. It grows while a "
        "channel does not work: see DeliveryFailing in the operations guide.",
        [query(f"max by (instance, channel) (storage_guard_outbox_oldest_seconds{{{GUARD}}})", "{{channel}} {{instance}}")],
        "s",
        size,
        usual=60,
        none="no channel is configured",
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
            "Volumes with less available than their exported high mark. Normal for as long as a run takes; then VolumePressure "
            "is raised.",
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
            "The state of each volume. Reclaiming is the guard at work, and ends at the low mark; exhausted and blind want a "
            "person.",
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
            {"severity": "Severity", "alert": "Alert", "instance": "Guard", "Value": "How many", "Value #A": "How many"},
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


# The marks of a volume, drawn as lines from the metrics that export them: letter of the query, mark, colour.
MARKS = (("B", "low", "blue"), ("C", "high", "orange"), ("D", "critical", "red"))


def mark_lines(metric, marks):
    """Queries for the marks, and overrides that draw them dashed."""
    queries = [query(f'{metric}{{{VOLUME}, mark="{mark}"}}', mark + " {{instance}}") for _, mark, _ in marks]
    lines = [
        override(
            "byFrameRefID",
            letter,
            color={"mode": "fixed", "fixedColor": color},
            custom_lineStyle={"fill": "dash", "dash": [8, 8]},
            custom_fillOpacity=0,
        )
        for letter, _, color in marks
    ]
    return queries, [override("byFrameRefID", "A", color={"mode": "fixed", "fixedColor": "green"}), *lines]


def of_volume():
    """What is told of one volume; the row is repeated for each."""
    marks, mark_styles = mark_lines("storage_guard_volume_watermark_bytes", MARKS)
    inode_marks, inode_styles = mark_lines("storage_guard_volume_watermark_inodes", MARKS[:2])
    return [
        row("Volume $volume", repeat="volume"),
        graph(
            "Available space and marks",
            "What a recorder can still write, and the marks as the guard exports them. Reclaiming begins when the line falls "
            "below *high*, or earlier if the volume would soon be full (`full_within`), and ends above *low*; below *critical* "
            "recordings are deleted that should have been kept longer. Nothing is drawn while the volume is blind.",
            [query(f"storage_guard_volume_available_bytes{{{VOLUME}}}", "available {{instance}}"), *marks],
            "bytes",
            (16, 9),
            overrides=mark_styles,
        ),
        timeline(
            "Pressure",
            "The state of the volume. Reclaiming is the guard at work; exhausted: nothing eligible is left; blind: it cannot be "
            "judged, and nothing is deleted.",
            [query(state(VOLUME, "job, instance, volume"), "{{instance}}")],
            STATES,
            (8, 9),
        ),
        graph(
            "Deleted and given back",
            "The ledger. *Deleted*: allocated bytes of recordings that were looked for and are gone. *Given back*: what came "
            "back, as measured on the volume. Where they part, space is held open, shared with a snapshot, or lost: see "
            "SpaceNotReclaimed.",
            [
                query(
                    f"sum by (instance) (rate(storage_guard_expected_bytes_total{{{VOLUME}}}[$__rate_interval]))",
                    "deleted {{instance}}",
                ),
                query(
                    f"sum by (instance) (rate(storage_guard_reclaimed_bytes_total{{{VOLUME}}}[$__rate_interval]))",
                    "given back {{instance}}",
                ),
            ],
            "binBps",
            (8, 7),
            interval="1m",
            overrides=[
                override("byFrameRefID", "A", color={"mode": "fixed", "fixedColor": "orange"}, custom_fillOpacity=0),
                override("byFrameRefID", "B", color={"mode": "fixed", "fixedColor": "green"}, custom_fillOpacity=40),
            ],
        ),
        graph(
            "Seconds until full",
            "When the volume would be full if nothing were deleted, at the inflow that scans measured. What is longer than 30 "
            "days, or never, is drawn as 30 days.",
            [query(f"clamp_max(storage_guard_volume_seconds_until_full{{{VOLUME}}}, 30 * 86400)", "{{instance}}")],
            "s",
            (8, 7),
        ),
        graph(
            "Used by others",
            "Used by what is a recording of no guarded tree, and by what was recorded since the last scan. The guard cannot free "
            "it; where it grows, `storage-guard status` names the largest directories.",
            [query(f"storage_guard_volume_foreign_bytes{{{VOLUME}}}", "{{instance}}")],
            "bytes",
            (8, 7),
        ),
        graph(
            "Runs, by result",
            "Runs that ended. Reached low: done. Exhausted: nothing eligible was left. Stalled: deletions gave nothing back, so "
            "the run stopped. Cancelled: by a person or the end of the program.",
            [
                query(
                    f"sum by (result) (increase(storage_guard_runs_total{{{VOLUME}}}[$__rate_interval]))", "{{result}}"
                )
            ],
            "short",
            (8, 7),
            bars=True,
            stacked=True,
            interval="1m",
            overrides=colored(
                [
                    ("reached_low", "green"),
                    ("exhausted", "red"),
                    ("stalled", "orange"),
                    ("cancelled", "blue"),
                    ("failed", "dark-red"),
                ]
            ),
        ),
        graph(
            "Run duration",
            "How long the runs took that ended then, together. VolumePressure is raised when a run takes three times as long as "
            "the one before, and more than half an hour.",
            [
                query(
                    "sum by (instance) "
                    f"(increase(storage_guard_run_duration_seconds_sum{{{VOLUME}}}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            "s",
            (8, 7),
            bars=True,
            stacked=True,
            interval="1m",
        ),
        graph(
            "Free inodes and marks",
            "Inodes, and their marks as the guard exports them. 0 on filesystems that do not fix their number.",
            [query(f"storage_guard_volume_inodes_free{{{VOLUME}}}", "free {{instance}}"), *inode_marks],
            "short",
            (8, 7),
            overrides=inode_styles,
        ),
    ]


def of_trees():
    """What is told of all trees of a guard."""
    return [
        row("Trees"),
        graph(
            "Recordings",
            "Allocated bytes of what each tree's layout recognises as a recording.",
            [query(f"storage_guard_tree_bytes{{{TREE}}}", "{{tree}} {{instance}}")],
            "bytes",
            (8, 7),
        ),
        recorded_and_given_back(TREE, (8, 7)),
        graph(
            "Retention promised and achieved",
            "Of the stream that is worst off in each tree: how long it is to be kept (dashed), and how far back it reaches. A "
            "young stream reaches back no further than its first recording. 0 is promised where no `keep` is configured.",
            [
                query(f"storage_guard_retention_achieved_seconds{{{TREE}}}", "achieved {{tree}} {{instance}}"),
                query(f"storage_guard_retention_promised_seconds{{{TREE}}}", "promised {{tree}} {{instance}}"),
            ],
            "s",
            (8, 7),
            overrides=[
                override(
                    "byFrameRefID", "B", custom_lineStyle={"fill": "dash", "dash": [8, 8]}, custom_fillOpacity=0
                )
            ],
        ),
        graph(
            "Spared, by reason",
            "Recordings that no plan takes. If a volume is exhausted, the reason is here.",
            [query(f"sum by (reason) (storage_guard_spared_bytes{{{TREE}}})", "{{reason}}")],
            "bytes",
            (8, 7),
            stacked=True,
        ),
        graph(
            "Oldest recording",
            "How old the oldest recording of each tree is.",
            [query(f"time() - (storage_guard_tree_oldest_timestamp_seconds{{{TREE}}} > 0)", "{{tree}} {{instance}}")],
            "s",
            (8, 7),
            none="no recordings",
        ),
        graph(
            "Scan duration",
            "How long the scans took that ended then, on average. It grows with the number of files.",
            [
                query(
                    f"sum by (instance, tree) (rate(storage_guard_scan_duration_seconds_sum{{{TREE}}}[$__rate_interval])) / "
                    f"sum by (instance, tree) (rate(storage_guard_scan_duration_seconds_count{{{TREE}}}[$__rate_interval]))",
                    "{{tree}} {{instance}}",
                )
            ],
            "s",
            (8, 7),
            interval="5m",
            points="always",
        ),
    ]


def of_guard():
    """What is told of the guard itself."""
    return [
        row("The guard itself"),
        graph(
            "Age of the last probe, scan and run",
            "How long ago each last succeeded, on the volume or tree where it is longest ago. Probes and scans come at their "
            "intervals; a run comes when it is needed, and is not shown before the first.",
            [
                query(
                    f"time() - (storage_guard_last_success_timestamp_seconds{{{GUARD}, "
                    'task=~"probe|scan|reclaim"} > 0)',
                    "{{task}} {{instance}}",
                )
            ],
            "s",
            (8, 7),
        ),
        graph(
            "Messages, by result",
            "Attempts to deliver alerts. Retried: it failed and comes again. Dropped: it was given up, and nobody was told.",
            [
                query(
                    "sum by (channel, result) "
                    f"(increase(storage_guard_notifications_total{{{GUARD}}}[$__rate_interval]))",
                    "{{channel}} {{result}}",
                )
            ],
            "short",
            (8, 7),
            bars=True,
            stacked=True,
            interval="1m",
            none="no channel is configured",
            overrides=[
                override("byRegexp", "/ sent$/", color={"mode": "fixed", "fixedColor": "green"}),
                override("byRegexp", "/ retried$/", color={"mode": "fixed", "fixedColor": "orange"}),
                override("byRegexp", "/ dropped$/", color={"mode": "fixed", "fixedColor": "red"}),
            ],
        ),
        oldest_message((8, 7)),
        table(
            "Configuration",
            "Which program runs, and since when its configuration is in force. If the file that was loaded last has a problem, "
            "it is rejected, and the one before stays.",
            [
                rows("job, instance", f"storage_guard_config_last_reload_successful{{{GUARD}}}"),
                rows("job, instance", f"1000 * storage_guard_config_last_reload_success_timestamp_seconds{{{GUARD}}}"),
                rows("job, instance, version, revision", f"storage_guard_build_info{{{GUARD}}}"),
            ],
            {
                "instance": "Guard",
                "Value #A": "Loaded last",
                "Value #B": "In force since",
                "version": "Version",
                "revision": "Revision",
            },
            (24, 5),
            overrides=[
                column(
                    "Loaded last",
                    mappings=mapping({1: ("in force", GOOD), 0: ("rejected", BAD)}),
                    custom_cellOptions=COLORED,
                ),
                column("In force since", unit="dateTimeFromNow"),
            ],
        ),
    ]


def node():
    """One guard: its volumes, its trees, itself."""
    head = [
        stat(
            "Guard",
            "Whether Prometheus reaches the guard. With several chosen: all of them.",
            f"min(up{{{GUARD}}} {KNOWN})",
            mappings=mapping(UP),
            none="no guard",
        ),
        stat(
            "Mode",
            "Enforce: recordings are deleted where a tree allows it. Observe: nothing is.",
            f"max(storage_guard_enforcing{{{GUARD}}})",
            mappings=mapping(ENFORCING),
        ),
        stat(
            "Pressure now",
            "The worst state of its volumes.",
            f"max({state(VOLUME, 'job, instance, volume')})",
            mappings=mapping(STATES),
        ),
        first_full(),
        alerts_firing(),
        not_given_back(GUARD),
    ]
    return dashboard(
        "storage-guard-node",
        "storage-guard: one guard",
        "One guard: its volumes against their marks, its runs and their ledger, its trees, and itself.",
        ["job", "instance", "volume", "tree"],
        head + of_volume() + of_trees() + of_guard(),
        RUNBOOK,
    )


def counted(title, description, label, metric, size, colors=()):
    """What was counted, in bars by a label."""
    return graph(
        title,
        description,
        [query(f"sum by ({label}) (increase({metric}[$__rate_interval]))", f"{{{{{label}}}}}")],
        "short",
        size,
        bars=True,
        stacked=True,
        interval="1m",
        overrides=colored(colors),
    )


def orphans():
    """What should not be there, and what could not be deleted."""
    by = "job, instance, tree"
    since = f"storage_guard_oldest_retry_timestamp_seconds{{{TREE}}}"
    panels = [
        stat(
            "Deletions waiting",
            "Deletions that failed and are tried again, with growing pauses, until they succeed or a person closes them: "
            "`storage-guard failures list`.",
            f"sum(storage_guard_deletions_waiting{{{TREE}}})",
            thresholds=ANY_WANTS_A_LOOK,
        ),
        stat(
            "Oldest retry",
            "For how long the oldest of them has been failing.",
            f"max((time() - {since}) * ({since} > bool 0))",
            unit="s",
            mappings=mapping({0: ("none", None)}),
        ),
        not_given_back(TREE),
        stat(
            "Caps tripped",
            "The guard wanted to delete more than a cap allows, and waits for a person: `storage-guard plan`, then "
            "`storage-guard cap acknowledge`.",
            f"sum(storage_guard_cap_tripped{{{TREE}}})",
            thresholds=ANY_IS_BAD,
        ),
        stat(
            "Leftovers",
            "Unfinished or temporary files that nobody touches any more. By default they are reported, not deleted.",
            f'sum(storage_guard_orphan_bytes{{{TREE}, kind="leftover"}})',
            unit="bytes",
        ),
        stat(
            "Missing recordings",
            "Entries of a catalogue without a file, though the guard did not delete it. 0 without a catalogue.",
            f"sum(storage_guard_missing_files{{{TREE}}})",
            thresholds=ANY_WANTS_A_LOOK,
        ),
        table(
            "Trees, worst first",
            "Every tree: what waits and since when, what did not come back, what is left over, and whether a cap waits for a "
            "person.",
            [
                rows(by, f"storage_guard_deletions_waiting{{{TREE}}}"),
                rows(by, f"1000 * {since}"),
                rows(by, f"sum by ({by}) (storage_guard_unreclaimed_bytes{{{TREE}}})"),
                rows(by, f"storage_guard_cap_tripped{{{TREE}}}"),
                rows(by, f'storage_guard_orphan_bytes{{{TREE}, kind="leftover"}}'),
                rows(by, f"storage_guard_missing_files{{{TREE}}}"),
                rows(by, f"storage_guard_tree_files{{{TREE}}}"),
                rows(by, f"storage_guard_tree_bytes{{{TREE}}}"),
            ],
            {
                "instance": "Guard",
                "tree": "Tree",
                "Value #A": "Waiting",
                "Value #B": "Failing since",
                "Value #C": "Not given back",
                "Value #D": "Caps",
                "Value #E": "Leftovers",
                "Value #F": "Missing",
                "Value #G": "Recordings",
                "Value #H": "Bytes",
            },
            (24, 7),
            sort=[("Caps", True), ("Waiting", True), ("Not given back", True)],
            overrides=[
                leading_to(NODE, "This guard"),
                column("Waiting", thresholds=steps((PLAIN, None), (LOOK, 1)), custom_cellOptions=COLORED),
                column("Failing since", unit="dateTimeFromNow", mappings=mapping({0: ("–", None)})),
                column(
                    "Not given back",
                    unit="bytes",
                    thresholds=steps((PLAIN, None), (LOOK, 1)),
                    custom_cellOptions=COLORED,
                ),
                column("Caps", mappings=mapping({0: ("–", None), 1: ("tripped", BAD)}), custom_cellOptions=COLORED),
                column("Leftovers", unit="bytes"),
                column("Bytes", unit="bytes"),
            ],
        ),
        counted(
            "Deletions, by outcome",
            "Attempts to delete a recording. Verified: looked for and not found. Already gone: somebody else was first. Kept: it "
            "changed or was protected meanwhile. Failed: it is tried again.",
            "outcome",
            f"storage_guard_deletions_total{{{TREE}}}",
            (12, 8),
            [("verified", "green"), ("already_gone", "blue"), ("kept", "purple"), ("failed", "orange")],
        ),
        counted(
            "Failures, by cause",
            "Failed attempts to delete a recording. In use and locked go away by themselves or by `chattr -i`; permission, "
            "read-only and I/O want a person.",
            "cause",
            f"storage_guard_deletion_failures_total{{{TREE}}}",
            (12, 8),
            [
                ("in_use", "yellow"),
                ("locked", "orange"),
                ("permission", "red"),
                ("read_only", "dark-red"),
                ("io", "light-red"),
                ("too_many_files", "purple"),
                ("busy", "blue"),
                ("changed", "green"),
                ("unknown", "text"),
            ],
        ),
        graph(
            "Deletions waiting, by tree",
            "Failed deletions that are tried again.",
            [query(f"storage_guard_deletions_waiting{{{TREE}}}", "{{tree}} {{instance}}")],
            "short",
            (12, 8),
        ),
        graph(
            "Space not given back, by cause",
            "Held open: deleted, and a process still has it open. Locked: immutable, or in use. Failed: the deletion failed. "
            "Shared: a snapshot or a reflink copy has the same blocks.",
            [query(f"sum by (cause) (storage_guard_unreclaimed_bytes{{{TREE}}})", "{{cause}}")],
            "bytes",
            (12, 8),
            stacked=True,
            overrides=colored(
                [("held_open", "yellow"), ("locked", "orange"), ("failed", "red"), ("shared", "purple")]
            ),
        ),
        counted(
            "Deletions, by trigger",
            "Verified deletions, by what wanted them.",
            "trigger",
            f'storage_guard_deletions_total{{{TREE}, outcome="verified"}}',
            (8, 8),
            [("pressure", "blue"), ("retention", "green"), ("operator", "purple")],
        ),
        graph(
            "Orphans, by kind",
            "Recordings that should not be there. Leftover: unfinished, and nobody touches it. Uncatalogued: a trusted catalogue "
            "does not know it; absent without a catalogue.",
            [query(f"sum by (kind) (storage_guard_orphan_bytes{{{TREE}}})", "{{kind}}")],
            "bytes",
            (8, 8),
            stacked=True,
        ),
        timeline(
            "Caps",
            "Whether a cap tripped, for each tree. Until a person acknowledges, retention deletes nothing there, and pressure "
            "only as much as flows in.",
            [query(f"storage_guard_cap_tripped{{{TREE}}}", "{{tree}} {{cap}} {{instance}}")],
            {0: ("not tripped", GOOD), 1: ("waits for a person", BAD)},
            (8, 8),
        ),
    ]
    return dashboard(
        "storage-guard-orphans",
        "storage-guard: orphans and failures",
        "What should not be there, what could not be deleted, and whose space did not come back.",
        ["job", "instance", "tree"],
        panels,
        RUNBOOK,
    )


def main():
    """Writes, or checks, each dashboard."""
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit("usage: generate.py [--check]")
    folder = pathlib.Path(__file__).parent / "dashboards"
    written = {f"{one['uid']}.json": json.dumps(one, indent=2, ensure_ascii=False) + "\n" for one in (fleet(), node(), orphans())}
    if check:
        there = {path.name: path.read_text() for path in folder.glob("*.json")}
        stale = sorted(name for name in there.keys() | written.keys() if there.get(name) != written.get(name))
        sys.exit(f"not as generate.py writes it: {', '.join(stale)}" if stale else 0)
    for name, text in written.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
