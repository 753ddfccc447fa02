"""What several dashboards show."""

from source.panels import (
    ANY_IS_BAD,
    ANY_WANTS_A_LOOK,
    BAD,
    GOOD,
    GUARD,
    colored,
    column,
    graph,
    mapping,
    now,
    override,
    query,
    stat,
    stats,
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
        [
            query(
                f"max by (instance, channel) (storage_guard_outbox_oldest_seconds{{{GUARD}}})",
                "{{channel}} {{instance}}",
            )
        ],
        "s",
        size,
        usual=60,
        none="no channel is configured",
    )
