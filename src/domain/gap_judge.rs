//! What became of one recording, or of a hole between two, by all that is known of it.

use super::deletion::{Attempt, RuleKind, Seq, Trigger};
use super::gap::{Done, Evidence, Extent, Finding, GapVerdict, Presence, Proof, ProofSource, Trace};
use super::gap_story::{Act, Deed, Stop};
use super::journal::Intent;
use super::path::RelPath;
use super::units::{Bytes, Timestamp};

pub(super) fn shown(path: Option<&RelPath>) -> String {
    path.map_or_else(String::new, |path| format!("`{}`", path.show().0))
}

/// What became of several recordings, which have one fate.
pub(super) fn plural(finding: &Finding) -> String {
    match (finding.verdict, &finding.done) {
        (GapVerdict::Recorded, _) => "they are there".to_owned(),
        (GapVerdict::Quarantined, _) => format!("they are {ASIDE}"),
        (GapVerdict::Archived, Some(done)) => archived("they were", done),
        (GapVerdict::Deleted, Some(done)) => deleted("they were", done),
        (GapVerdict::Removed, _) => format!("they are known and not there; {ELSE}"),
        (GapVerdict::Archived | GapVerdict::Deleted | GapVerdict::NeverRecorded | GapVerdict::Unknown, _) => {
            "nobody can tell what became of them".to_owned()
        }
    }
}

const ASIDE: &str = "set aside as orphans; `storage-guard orphans restore` puts them back until they are deleted";
const ELSE: &str = "this guard did not delete it: somebody else did or moved it away";

/// In which run and by whose wish something was done.
fn by_whom(intended: &Intent) -> String {
    let job = intended.job.map(|job| format!(", job {job}")).unwrap_or_default();
    let Intent { target, who, run, .. } = intended;
    format!("rule {} ({}), trigger {}, run {run}{job}, wanted by {who}", target.rule, target.reason, target.trigger)
}

fn deleted(they: &str, done: &Done) -> String {
    format!("{they} deleted by this guard at {}: {}", done.at, by_whom(&done.intended))
}

/// How it is told that recordings went to an archive: what the intent says of where is its reason.
fn archived(they: &str, done: &Done) -> String {
    format!(
        "{they} archived, and then deleted here at {}: {}; `storage-guard archive list` shows where, and `archive restore` brings it back",
        done.at,
        by_whom(&done.intended)
    )
}

/// What became of one recording.
pub(super) fn fate(evidence: &Evidence, extent: &Extent<'_>) -> Finding {
    let trace = extent.trace;
    let (verdict, done, summary) = judge(evidence, trace);
    let path = shown(Some(&trace.path));
    let mut proofs: Vec<Proof> = Vec::new();
    match &trace.presence {
        Presence::There { unfinished, remarks } => {
            let state =
                if *unfinished { "it is there, and not finished: being written, or left over" } else { "it is there" };
            proofs.push(Proof::new(ProofSource::Disk, None, state));
            proofs.extend(remarks.iter().map(|text| Proof::new(ProofSource::Guard, None, text.clone())));
        }
        Presence::Absent => proofs.push(Proof::new(ProofSource::Disk, None, "it was looked for, and is not there")),
        Presence::Unclear(why) => {
            proofs.push(Proof::new(ProofSource::Disk, None, format!("it cannot be looked for: {why}")));
        }
    }
    proofs.extend(trace.deeds.iter().map(|deed| Proof::entry(deed.seq, deed.at, words_of(deed))));
    if let Some(run) = done.as_ref().and_then(|done| done.run.as_ref()) {
        let text = format!("the run ended, {} came back: {}", run.reclaimed, run.text);
        proofs.push(Proof::entry(run.seq, run.at, text));
    }
    proofs.extend(trace.witnesses.iter().cloned());
    if verdict == GapVerdict::Unknown {
        proofs.extend(evidence.doubts.iter().map(|text| Proof::new(ProofSource::Guard, None, text.clone())));
    }
    Finding {
        verdict,
        from: trace.begin,
        to: extent.end,
        estimated: trace.end.is_none(),
        files: 1,
        path: Some(trace.path.clone()),
        last: None,
        bytes: trace.bytes,
        done,
        summary: format!("{path} {summary}"),
        proofs,
    }
}

/// The verdict on one recording, the deletion that explains it, and what is said of it.
fn judge(evidence: &Evidence, trace: &Trace) -> (GapVerdict, Option<Done>, String) {
    match &trace.presence {
        Presence::There { unfinished: false, .. } => return (GapVerdict::Recorded, None, "is there".to_owned()),
        Presence::There { unfinished: true, .. } => {
            return (GapVerdict::Recorded, None, "is there, and not finished".to_owned());
        }
        Presence::Unclear(why) => {
            let text = format!("cannot be looked for ({why}), so nobody can tell whether it is there");
            return (GapVerdict::Unknown, None, text);
        }
        Presence::Absent => {}
    }
    let intent_of = |wanted: Seq| {
        trace.deeds.iter().find_map(|deed| match &deed.act {
            Act::Intended(intent) if deed.seq == wanted => Some(intent.as_ref()),
            Act::Intended(_)
            | Act::Ended { .. }
            | Act::Restored { .. }
            | Act::Closed { .. }
            | Act::Row { .. }
            | Act::CopyRemoved { .. } => None,
        })
    };
    let failed = trace.deeds.iter().any(|deed| matches!(&deed.act, Act::Ended { attempt: Attempt::Failed { .. }, .. }));
    // Of what was archived nothing is left once its copy was removed too.
    let mut copy: Option<&Deed> = None;
    // What was done last counts; rows, copies and closed failures do not touch the file.
    for deed in trace.deeds.iter().rev() {
        match &deed.act {
            Act::Row { .. } | Act::Closed { .. } => {}
            Act::CopyRemoved { .. } => copy = copy.or(Some(deed)),
            Act::Intended(_) => {
                let text = format!("is not there, and its deletion was begun at {} and has no outcome yet", deed.at);
                return (GapVerdict::Unknown, None, text);
            }
            Act::Restored { how, .. } if how.is_empty() => break,
            Act::Restored { how, .. } => {
                let text = format!("was set aside, and is in quarantine no more: {how}; {ELSE}");
                return (GapVerdict::Removed, None, text);
            }
            Act::Ended { intent, attempt } => match attempt {
                Attempt::Verified { .. } => {
                    let Some(intended) = intent_of(*intent) else { continue };
                    let run = evidence.runs.get(&intended.run).cloned();
                    let intended = intended.clone();
                    let done = Done { outcome: deed.seq, at: deed.at, intent: *intent, intended, run };
                    return match done.intended.target.trigger {
                        Trigger::Archive => match copy {
                            Some(copy) => {
                                let text = format!("{}; {}, at {}", archived("was", &done), words_of(copy), copy.at);
                                (GapVerdict::Deleted, Some(done), text)
                            }
                            None => (GapVerdict::Archived, Some(done.clone()), archived("was", &done)),
                        },
                        Trigger::Pressure
                        | Trigger::Retention
                        | Trigger::Orphan
                        | Trigger::Leftover
                        | Trigger::Operator
                        | Trigger::Gateway => (GapVerdict::Deleted, Some(done.clone()), deleted("was", &done)),
                    };
                }
                Attempt::AlreadyGone if failed => {
                    let text = "is not there: it was gone when its deletion, which had failed before, was tried again; \
                                that earlier attempt may have done it after all, or somebody else";
                    return (GapVerdict::Unknown, None, text.to_owned());
                }
                Attempt::AlreadyGone => {
                    let text = format!("was gone before this guard came to delete it, at {}; {ELSE}", deed.at);
                    return (GapVerdict::Removed, None, text);
                }
                Attempt::Kept { .. } if attempt.is_quarantined() => {
                    let text = format!("is {ASIDE}; since {}", deed.at);
                    return (GapVerdict::Quarantined, None, text);
                }
                Attempt::Failed { cause, .. } => {
                    let text = format!(
                        "is not there, and its deletion failed at {} ({cause}): that attempt may have done it after all, or somebody else did",
                        deed.at
                    );
                    return (GapVerdict::Unknown, None, text);
                }
                // It stayed where it was.
                Attempt::Kept { .. } => break,
            },
        }
    }
    if !evidence.doubts.is_empty() {
        let text = "was known and is not there; whether this guard deleted it cannot be told";
        return (GapVerdict::Unknown, None, text.to_owned());
    }
    let seen = !trace.deeds.is_empty() || trace.witnesses.iter().any(|proof| proof.source == ProofSource::Disk);
    let text = if seen {
        format!("was there and is not; {ELSE}")
    } else {
        // Recorders tell of files that they could not rename, too.
        format!("was told of and is not there; {ELSE}, or its recorder never kept it")
    };
    (GapVerdict::Removed, None, text)
}

/// What an entry of the journal says, for people.
fn words_of(deed: &Deed) -> String {
    match &deed.act {
        Act::Intended(intent) => {
            let what = if intent.target.rule == RuleKind::Quarantine {
                "it was to be set aside"
            } else {
                "it was to be deleted"
            };
            let again = intent.retry_of.map(|of| format!("; another attempt at {}", of.0)).unwrap_or_default();
            format!("{what}: {}{again}", by_whom(intent))
        }
        Act::Ended { attempt, .. } => match attempt {
            Attempt::Verified { freed, open, .. } => {
                let open = if *open { "; a process held it open" } else { "" };
                format!("it was deleted, looked for and not found, {freed}{open}")
            }
            Attempt::AlreadyGone => "it was gone before".to_owned(),
            Attempt::Kept { .. } if attempt.is_quarantined() => "it was set aside".to_owned(),
            Attempt::Kept { why } => format!("it was kept: {why}"),
            Attempt::Failed { cause, error, holder } => {
                let holder = holder.as_ref().map(|holder| format!(", held by {holder}")).unwrap_or_default();
                format!("its deletion failed: {cause} ({error}){holder}")
            }
        },
        Act::Restored { who, how } if how.is_empty() => format!("it was put back from quarantine, by {who}"),
        Act::Restored { who, how } => format!("it is in quarantine no more: {how}, by {who}"),
        Act::Closed { who, why } => format!("its deletion is not tried again: {why}, by {who}"),
        Act::Row { who, what } => format!("{what}, by {who}"),
        Act::CopyRemoved { what } => format!("its copy was removed {what}"),
    }
}

/// What is to be said of a hole, part by part: where recording was stopped by us, and where it was not.
pub(super) fn holes(evidence: &Evidence, extents: &[Extent<'_>], from: Timestamp, to: Timestamp) -> Vec<Finding> {
    let mut stops: Vec<&Stop> = evidence.stops.iter().collect();
    stops.sort_by_key(|stop| stop.stopped.1);
    let mut out = Vec::new();
    let mut reached = from;
    for stop in stops {
        let (begin, end) = (stop.stopped.1, stop.released.map_or(Timestamp::from_millis(i64::MAX), |(_, at)| at));
        let inside = if from == to { begin <= from && from < end } else { begin < to && reached < end };
        if !inside {
            continue;
        }
        if begin > reached {
            out.push(hole(evidence, extents, reached, begin, None));
        }
        let until = end.min(to);
        out.push(hole(evidence, extents, reached.max(begin), until, Some(stop)));
        reached = until.max(reached);
    }
    if out.is_empty() || reached < to {
        out.push(hole(evidence, extents, reached, to, None));
    }
    out
}

/// What is to be said of a hole.
fn hole(evidence: &Evidence, extents: &[Extent<'_>], from: Timestamp, to: Timestamp, stop: Option<&Stop>) -> Finding {
    let before = |extent: &&Extent<'_>| extent.trace.begin <= from && extent.end <= from;
    let after = |extent: &&Extent<'_>| extent.trace.begin >= to && extent.trace.begin > from;
    let heard = |extent: &&Extent<'_>| extent.trace.heard.is_some();
    let mut proofs = Vec::new();
    if let Some(stop) = stop {
        let text = format!("recording was stopped by media server {}: {}", stop.media_server, stop.why);
        proofs.push(Proof::entry(stop.stopped.0, stop.stopped.1, text));
        if let Some((seq, at)) = stop.released {
            proofs.push(Proof::entry(seq, at, "recording is not stopped by us any more"));
        }
    }
    let neighbour = |extent: Option<&Extent<'_>>, none: &str, side: &str| match extent {
        Some(extent) => neighbour(extent, side),
        None => vec![Proof::new(ProofSource::Guard, None, none)],
    };
    proofs.extend(neighbour(extents.iter().rev().find(before), "no recording before it is known", "before it"));
    proofs.extend(neighbour(extents.iter().find(after), "no recording after it is known", "after it"));
    let mut wanting: Vec<String> = evidence.doubts.clone();
    if stop.is_none() {
        wanting.extend(evidence.deaf.iter().cloned());
        let sides = (extents.iter().rev().filter(before).find(heard), extents.iter().filter(after).find(heard));
        match sides {
            (Some(_), Some(next)) => {
                let until = next.trace.heard.unwrap_or(to).max(to);
                match listened(&evidence.starts, from, until) {
                    Ok((seq, at)) => {
                        proofs.push(Proof::entry(seq, at, "the guard was started, and not again until that was told"));
                    }
                    Err(why) => wanting.push(why),
                }
            }
            (before, after) => {
                let side = match (before.is_some(), after.is_some()) {
                    (false, true) => "before it",
                    (true, false) => "after it",
                    _ => "before and after it",
                };
                wanting.push(format!(
                    "no hook is known that told of a recording {side}, so that none came proves nothing"
                ));
            }
        }
    }
    proofs.extend(wanting.iter().map(|text| Proof::new(ProofSource::Guard, None, text.clone())));
    proofs.extend(evidence.context.iter().cloned());
    let verdict = if wanting.is_empty() { GapVerdict::NeverRecorded } else { GapVerdict::Unknown };
    let summary = match (verdict, stop) {
        (GapVerdict::NeverRecorded, Some(stop)) => format!(
            "nothing was recorded, because this guard had recording stopped from {} on: {}",
            stop.stopped.1, stop.why
        ),
        (GapVerdict::NeverRecorded, None) => {
            "nothing was recorded: hooks told of recordings before and after it and of none between, and there is no file, no row and no deletion"
                .to_owned()
        }
        (_, Some(stop)) => format!(
            "nobody can tell for certain; recording was stopped by this guard from {} on, and no recording is known",
            stop.stopped.1
        ),
        (_, None) => "nobody can tell: no file, no row, no hook and no deletion of it is known".to_owned(),
    };
    Finding {
        verdict,
        from,
        to,
        estimated: false,
        files: 0,
        path: None,
        last: None,
        bytes: Bytes::ZERO,
        done: None,
        summary,
        proofs,
    }
}

/// It is about something beside the file itself.
fn beside(deed: &Deed) -> bool {
    matches!(deed.act, Act::Row { .. } | Act::CopyRemoved { .. })
}

/// The recording beside a hole, and by whom it is known.
fn neighbour(extent: &Extent<'_>, side: &str) -> Vec<Proof> {
    let trace = extent.trace;
    let path = shown(Some(&trace.path));
    let until = if trace.end.is_some() { "to" } else { "to, at the latest," };
    let what = format!("{side}: {path}, from {} {until} {}", trace.begin, extent.end);
    let last = trace.deeds.iter().rev().find(|deed| !beside(deed));
    let mut out = match (&trace.presence, last) {
        (Presence::There { .. }, _) => vec![Proof::new(ProofSource::Disk, None, format!("{what}, which is there"))],
        (_, Some(deed)) => vec![Proof::entry(deed.seq, deed.at, format!("{what}: {}", words_of(deed)))],
        (_, None) => vec![Proof::new(ProofSource::Guard, None, format!("{what}, which is not there"))],
    };
    out.extend(trace.witnesses.iter().cloned());
    let rows = trace.deeds.iter().filter(|deed| beside(deed));
    out.extend(rows.map(|deed| Proof::entry(deed.seq, deed.at, words_of(deed))));
    out
}

/// The start of the process that ran all the while from one moment to another.
fn listened(starts: &[(Seq, Timestamp)], from: Timestamp, until: Timestamp) -> Result<(Seq, Timestamp), String> {
    let started = starts.iter().rev().find(|(_, at)| *at <= from);
    let again = starts.iter().find(|(_, at)| *at > from && *at <= until);
    match (started, again) {
        (_, Some((seq, at))) => Err(format!(
            "the guard was started again at {at} (journal {}): it did not run all the while, and a hook may have been lost",
            seq.0
        )),
        (None, None) => {
            Err("no start of the guard before it is on record: nobody can tell whether it listened then".to_owned())
        }
        (Some(start), None) => Ok(*start),
    }
}
