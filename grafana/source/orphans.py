"""The dashboard of orphans and failures."""

from source.panels import (
    ANY_IS_BAD,
    ANY_WANTS_A_LOOK,
    BAD,
    COLORED,
    GOOD,
    GUARD,
    LOOK,
    PLAIN,
    TREE,
    colored,
    column,
    dashboard,
    graph,
    mapping,
    query,
    rows,
    stat,
    steps,
    table,
    timeline,
)
from source.shared import NODE, RUNBOOK, leading_to, not_given_back


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
        stat(
            "Uncatalogued",
            "Recordings that are proven to be in no catalogue of their tree: somebody forgot them. Nothing is shown without a "
            "catalogue, and before one was compared. `storage-guard orphans list` names them.",
            f'sum(storage_guard_orphan_bytes{{{TREE}, kind="uncatalogued"}} >= 0)',
            unit="bytes",
            thresholds=ANY_WANTS_A_LOOK,
            none="not known",
        ),
        stat(
            "Catalogues not trusted",
            "Catalogues that are not believed, or were not read yet. Nothing is called an orphan by them: "
            "`storage-guard catalogue list` says why.",
            f"sum(1 - storage_guard_catalogue_trusted{{{GUARD}}})",
            thresholds=ANY_WANTS_A_LOOK,
            none="no catalogue",
        ),
        timeline(
            "Catalogues",
            "Whether each catalogue is believed. While it is not, nothing is called an orphan by it, and what was last known of "
            "it stays.",
            [query(f"storage_guard_catalogue_trusted{{{GUARD}}}", "{{catalogue}} {{instance}}")],
            {0: ("not trusted", LOOK), 1: ("trusted", GOOD)},
            (16, 4),
        ),
        table(
            "Trees, worst first",
            "Every tree: what waits and since when, what did not come back, what is in no catalogue or left over, and whether a "
            "cap waits for a person.",
            [
                rows(by, f"storage_guard_deletions_waiting{{{TREE}}}"),
                rows(by, f"1000 * {since}"),
                rows(by, f"sum by ({by}) (storage_guard_unreclaimed_bytes{{{TREE}}})"),
                rows(by, f"storage_guard_cap_tripped{{{TREE}}}"),
                rows(by, f'storage_guard_orphan_bytes{{{TREE}, kind="leftover"}}'),
                rows(by, f"storage_guard_missing_files{{{TREE}}}"),
                rows(by, f"storage_guard_tree_files{{{TREE}}}"),
                rows(by, f"storage_guard_tree_bytes{{{TREE}}}"),
                rows(by, f'storage_guard_orphan_bytes{{{TREE}, kind="uncatalogued"}} >= 0'),
            ],
            {
                "instance": "Guard",
                "tree": "Tree",
                "Value #A": "Waiting",
                "Value #B": "Failing since",
                "Value #C": "Not given back",
                "Value #D": "Caps",
                "Value #I": "Uncatalogued",
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
                column("Uncatalogued", unit="bytes"),
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
            overrides=colored([("held_open", "yellow"), ("locked", "orange"), ("failed", "red"), ("shared", "purple")]),
        ),
        counted(
            "Deletions, by trigger",
            "Verified deletions, by what wanted them.",
            "trigger",
            f'storage_guard_deletions_total{{{TREE}, outcome="verified"}}',
            (8, 8),
            [
                ("pressure", "blue"),
                ("retention", "green"),
                ("operator", "purple"),
                ("gateway", "yellow"),
                ("archive", "text"),
                ("leftover", "orange"),
                ("orphan", "red"),
            ],
        ),
        graph(
            "Orphans, by kind",
            "Recordings that should not be there. Leftover: unfinished, and nobody touches it. Uncatalogued: it is proven that no "
            "catalogue knows it; absent without a catalogue, and before one was compared.",
            [query(f"sum by (kind) (storage_guard_orphan_bytes{{{TREE}}} >= 0)", "{{kind}}")],
            "bytes",
            (8, 8),
            stacked=True,
        ),
        timeline(
            "Caps",
            "Whether a cap tripped, for each tree. Until a person acknowledges, retention (`run_share`) or what is done with "
            "orphans (`orphan_share`) deletes nothing there, and with `run_share` pressure only as much as flows in.",
            [query(f"storage_guard_cap_tripped{{{TREE}}}", "{{tree}} {{cap}} {{instance}}")],
            {0: ("not tripped", GOOD), 1: ("waits for a person", BAD)},
            (8, 8),
        ),
        graph(
            "Rows, by catalogue",
            "Rows for trees of the guard, when the catalogue was last read and believed. A sudden fall is what the guard does not "
            "believe (`max_drop`).",
            [query(f"storage_guard_catalogue_rows{{{GUARD}}}", "{{catalogue}} {{instance}}")],
            "short",
            (12, 8),
            none="no catalogue",
        ),
        graph(
            "Missing recordings, by tree",
            "Entries of a catalogue without a file, though the guard did not delete it: who watches such a recording gets an error.",
            [query(f"storage_guard_missing_files{{{TREE}}}", "{{tree}} {{instance}}")],
            "short",
            (12, 8),
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
