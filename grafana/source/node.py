"""The dashboard of one guard."""

from source.panels import (
    BAD,
    COLORED,
    GOOD,
    GUARD,
    STATES,
    TREE,
    VOLUME,
    colored,
    column,
    dashboard,
    graph,
    mapping,
    override,
    query,
    row,
    rows,
    stat,
    state,
    table,
    timeline,
)
from source.shared import (
    ENFORCING,
    KNOWN,
    RUNBOOK,
    UP,
    alerts_firing,
    first_full,
    not_given_back,
    oldest_message,
    recorded_and_given_back,
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
            "The state of the volume. Reclaiming: the guard is at work, or would be if it did not only observe. Exhausted: "
            "nothing eligible is left. Blind: it cannot be judged, and nothing is deleted.",
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
                override("byFrameRefID", "B", custom_lineStyle={"fill": "dash", "dash": [8, 8]}, custom_fillOpacity=0)
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
