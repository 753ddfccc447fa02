//! `journal`, `cap`, `failures`: what was done, what waits for a person, what has not succeeded.

use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};

use super::args::{Cap, Failures, Journal, Look};
use super::exit::{Failure, complain, print, print_json};
use super::gaps;
use super::reclaim::who;
use super::source::{Access, Local, PAGE, Source, call, escaped};
use crate::domain::deletion::{Outcome, Seq};
use crate::domain::journal::JournalQuery;
use crate::domain::units::{Bytes, Timestamp};
use crate::server::PageQuery;

/// `journal`.
pub(super) fn journal(command: Journal) -> Result<(), Failure> {
    match command {
        Journal::List { look, of_tree, stream, since, outcome } => {
            let since = since.as_deref().map(time).transpose()?;
            if let Some(word) = outcome.as_deref().filter(|word| Outcome::from_word(word).is_none()) {
                return Err(Failure::Usage(format!(
                    "`{word}` is no outcome; use verified, already_gone, failed or kept"
                )));
            }
            let query = JournalQuery {
                tree: of_tree,
                stream,
                since,
                outcome: outcome.as_deref().and_then(Outcome::from_word),
                ..JournalQuery::default()
            };
            let entries = all(&look, &query)?;
            if look.json { print_json(&json!({"items": entries, "next": null})) } else { print(&list(&entries)) }
        }
        Journal::Verify(look) => verify(&look),
        Journal::Explain { look, what, time: None, .. } => explain(&look, &what),
        Journal::Explain { look, what: stream, time: Some(time), to, of_tree } => {
            let (to, tree) = (to.as_deref(), of_tree.as_deref());
            gaps::explain(&look, &gaps::Asked { stream: &stream, time: &time, to, tree })
        }
    }
}

fn time(text: &str) -> Result<Timestamp, Failure> {
    let at: jiff::Timestamp =
        text.parse().map_err(|_| Failure::Usage(format!("`{text}` is no time; write it as 2026-11-22T12:21:41Z")))?;
    Ok(Timestamp::from_millis(at.as_millisecond()))
}

/// All entries that match, page by page.
fn all(look: &Look, query: &JournalQuery) -> Result<Vec<Value>, Failure> {
    let source = Source::open(&look.place, Access::Read)?;
    let mut out: Vec<Value> = Vec::new();
    let mut after = 0;
    loop {
        let page: Value = match &source {
            Source::Remote(client) => {
                let mut path = format!("/api/v1/journal?limit={PAGE}&cursor={after}");
                let words = [
                    ("tree", query.tree.clone()),
                    ("stream", query.stream.clone()),
                    ("since", query.since.map(|at| at.to_string())),
                    ("outcome", query.outcome.map(|outcome| outcome.to_string())),
                ];
                for (name, text) in words {
                    if let Some(text) = text {
                        path.push_str(&format!("&{name}={}", escaped(&text)));
                    }
                }
                call(client, Method::GET, &path, None)?
            }
            Source::Local(local) => {
                let query = JournalQuery { after: Seq(after), limit: PAGE, ..query.clone() };
                let page = local.hub.journal(&query).map_err(|refusal| Failure::failed(refusal.message))?;
                serde_json::to_value(page)?
            }
        };
        out.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next"].as_str().and_then(|next| next.parse().ok()) {
            Some(next) => after = next,
            None => return Ok(out),
        }
    }
}

pub(super) fn word<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_default()
}

fn list(entries: &[Value]) -> String {
    let mut out = String::new();
    for entry in entries {
        let what = match word(entry, "kind") {
            "restored" => {
                format!(
                    "restored from quarantine: `{}` in {}, {}",
                    word(entry, "path"),
                    word(entry, "tree"),
                    word(entry, "note")
                )
            }
            "deletion" => {
                let aside = word(entry, "rule") == "quarantine";
                format!(
                    "{} {}: `{}` in {}, {}, {}",
                    if aside { "quarantine" } else { word(entry, "trigger") },
                    match entry["outcome"].as_str() {
                        Some("kept") if aside && word(entry, "note") == "quarantined" => "set aside",
                        Some(outcome) => outcome,
                        None => "open",
                    },
                    word(entry, "path"),
                    word(entry, "tree"),
                    Bytes(entry["bytes"].as_u64().unwrap_or(0)),
                    word(entry, "reason")
                )
            }
            kind @ ("recording_stopped" | "recording_released") => {
                // Media server, virtual host, app, stream and why have a line each.
                let lines: Vec<&str> = word(entry, "note").splitn(5, '\n').collect();
                match lines.as_slice() {
                    [server, vhost, app, stream, why] => {
                        format!("{kind}: stream {app}/{stream} ({vhost}) of media server {server}: {why}")
                    }
                    _ => format!("{kind}: {}", lines.join(" ")),
                }
            }
            kind => {
                let tree = entry["tree"].as_str().map(|tree| format!(" (tree {tree})")).unwrap_or_default();
                format!("{kind}: {}{tree}", word(entry, "note"))
            }
        };
        let cause =
            entry["cause"].as_str().map(|cause| format!(" ({cause}: {})", word(entry, "note"))).unwrap_or_default();
        let _ = writeln!(out, "{} {} {what}{cause}, by {}", entry["seq"], word(entry, "time"), word(entry, "who"));
    }
    if entries.is_empty() {
        out.push_str("no entries\n");
    }
    out
}

fn verify(look: &Look) -> Result<(), Failure> {
    let found: Value = match Source::open(&look.place, Access::Read)? {
        Source::Remote(client) => call(&client, Method::GET, "/api/v1/journal/verify", None)?,
        Source::Local(local) => {
            let found = local.hub.verify().map_err(|refusal| Failure::failed(refusal.message))?;
            serde_json::to_value(found)?
        }
    };
    let faults = found["faults"].as_array().cloned().unwrap_or_default();
    if look.json {
        print_json(&found)?;
    } else {
        for fault in &faults {
            complain(fault.as_str().unwrap_or_default());
        }
        let state = if faults.is_empty() { "the chain is intact" } else { "the chain is BROKEN" };
        print(&format!("{} entries, {state}\n", found["entries"]))?;
    }
    if faults.is_empty() { Ok(()) } else { Err(Failure::Said(1)) }
}

fn explain(look: &Look, what: &str) -> Result<(), Failure> {
    let entries = all(look, &JournalQuery::default())?;
    let found: Vec<Value> = entries.into_iter().filter(|entry| is_about(entry, what)).collect();
    if look.json {
        return print_json(&json!({"items": found, "next": null}));
    }
    if found.is_empty() {
        return print(&format!(
            "the journal knows nothing of `{what}`: this guard deleted nothing of that name; a recording is named by its path below its tree\n"
        ));
    }
    print(&list(&found))
}

/// Whether an entry is about a path: the file of that name, what lay in the directory of that name, or, by an absolute path, what ends so.
fn is_about(entry: &Value, what: &str) -> bool {
    let path = word(entry, "path");
    let below = |path: &str, dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    let what = what.trim_end_matches('/');
    !path.is_empty()
        && (path == what || below(path, what) || (what.starts_with('/') && what.ends_with(&format!("/{path}"))))
}

/// `cap`.
pub(super) fn cap(command: Cap) -> Result<(), Failure> {
    match command {
        Cap::List(look) => {
            let caps: Value = match Source::open(&look.place, Access::Read)? {
                Source::Remote(client) => call(&client, Method::GET, "/api/v1/caps", None)?,
                Source::Local(local) => json!({"items": local.hub.caps(), "next": null}),
            };
            if look.json {
                return print_json(&caps);
            }
            let items = caps["items"].as_array().cloned().unwrap_or_default();
            let mut out = String::new();
            for cap in &items {
                let bytes = |name: &str| Bytes(cap[name].as_u64().unwrap_or(0));
                let _ = writeln!(
                    out,
                    "{} {}: {} wanted, {} allowed, since {}",
                    word(cap, "tree"),
                    word(cap, "cap"),
                    bytes("wanted"),
                    bytes("allowed"),
                    word(cap, "since")
                );
            }
            print(if items.is_empty() { "no cap has tripped\n" } else { &out })
        }
        Cap::Acknowledge { look, name, cap } => {
            match Source::open(&look.place, Access::Write)? {
                Source::Remote(client) => {
                    let path = format!("/api/v1/caps/{}/{}/acknowledge", escaped(&name), escaped(&cap));
                    let _: Value = call(&client, Method::POST, &path, None)?;
                }
                Source::Local(local) => {
                    local.hub.acknowledge(&name, &cap, &who()).map_err(|refusal| Failure::Refused(refusal.message))?;
                }
            }
            print(&format!(
                "cap {cap} of tree {name} is acknowledged: one run of the wanted size may go within an hour\n"
            ))
        }
    }
}

/// `failures`.
pub(super) fn failures(command: Failures) -> Result<(), Failure> {
    match command {
        Failures::List(look) => {
            let failures = list_failures(&Source::open(&look.place, Access::Read)?)?;
            if look.json {
                return print_json(&json!({"items": failures, "next": null}));
            }
            let mut out = String::new();
            for failure in &failures {
                let holder = failure["holder"].as_str().map(|holder| format!(", held by {holder}")).unwrap_or_default();
                let _ = writeln!(
                    out,
                    "{} `{}` in {}, {}: {} ({}){holder}; {} attempts since {}, next {}",
                    failure["id"],
                    word(failure, "path"),
                    word(failure, "tree"),
                    Bytes(failure["bytes"].as_u64().unwrap_or(0)),
                    word(failure, "cause"),
                    word(failure, "error"),
                    failure["attempts"],
                    word(failure, "since"),
                    word(failure, "next_attempt")
                );
            }
            print(if failures.is_empty() { "no deletion is failing\n" } else { &out })
        }
        Failures::Retry { look, ids } => retry(&look, &ids),
        Failures::Close { look, id, reason } => {
            match Source::open(&look.place, Access::Write)? {
                Source::Remote(client) => {
                    let body = json!({"reason": reason});
                    let _: Value = call(&client, Method::POST, &format!("/api/v1/failures/{id}/close"), Some(body))?;
                }
                Source::Local(local) => {
                    local.hub.close(id, &reason, &who()).map_err(|refusal| Failure::Refused(refusal.message))?;
                }
            }
            print(&format!("failure {id} is closed: it is not tried again\n"))
        }
    }
}

fn list_failures(source: &Source) -> Result<Vec<Value>, Failure> {
    let mut out = Vec::new();
    let of = |local: &Local, page: &PageQuery| {
        let page = local.hub.failures(page).map_err(|refusal| Failure::failed(refusal.message))?;
        Ok(serde_json::to_value(page)?)
    };
    source.pages("/api/v1/failures?", of, |items| {
        out.extend(items);
        Ok(())
    })?;
    Ok(out)
}

fn retry(look: &Look, ids: &[u64]) -> Result<(), Failure> {
    let wanted: Vec<Option<u64>> = if ids.is_empty() { vec![None] } else { ids.iter().copied().map(Some).collect() };
    match Source::open(&look.place, Access::Write)? {
        Source::Remote(client) => {
            let mut asked = 0;
            for id in wanted {
                let path = id.map_or("/api/v1/failures/retry".to_owned(), |id| format!("/api/v1/failures/{id}/retry"));
                let answer: Value = call(&client, Method::POST, &path, None)?;
                asked += answer["retrying"].as_u64().unwrap_or_default();
            }
            if asked == 0 {
                return print("no deletion is failing\n");
            }
            print("asked for: what may go is tried again now; `storage-guard failures list` shows what is left\n")
        }
        Source::Local(mut local) => {
            local.look()?;
            if local.hub.status().mode == "observe" {
                return Err(Failure::Refused(
                    "the mode is observe: nothing is deleted; set `mode: enforce`, or give `--enforce`".to_owned(),
                ));
            }
            local.guard.settle()?;
            let mut tried = 0;
            for id in wanted {
                let count = local.hub.retry(id, &who()).map_err(|refusal| Failure::Refused(refusal.message))?;
                if count > 0 {
                    tried += local.guard.retry(id, &who(), &|| false)?;
                }
            }
            let left = list_failures(&Source::Local(local))?.len();
            print(&format!("{tried} tried again, {left} still failing\n"))?;
            if left > 0 { Err(Failure::Said(4)) } else { Ok(()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_about_its_file_and_the_directories_above_it() {
        let entry = json!({"path": "live/cam/2026-11-20/10/00-00_0.ts"});
        for (what, expected) in [
            ("live/cam/2026-11-20/10/00-00_0.ts", true),
            ("live/cam/2026-11-20", true),
            ("live/cam/2026-11-20/", true),
            ("live/cam", true),
            ("/data/record/live/cam/2026-11-20/10/00-00_0.ts", true),
            ("live/cam/2026-11-2", false),
            ("live/ca", false),
            ("cam/2026-11-20", false),
            ("data/live/cam/2026-11-20/10/00-00_0.ts", false),
            ("/data/record/xlive/cam/2026-11-20/10/00-00_0.ts", false),
        ] {
            assert_eq!(is_about(&entry, what), expected, "{what}");
        }
        assert!(!is_about(&json!({"kind": "started"}), ""));
    }

    #[test]
    fn what_was_done_to_a_recording_stands_in_one_line() {
        let note = "zlm-1\n__defaultVhost__\nlive\ncam\nvolume / is critical, and its priority is 1";
        let entry = json!({"seq": 7, "time": "T", "kind": "recording_stopped", "who": "guard", "note": note});
        assert_eq!(
            list(&[entry]),
            "7 T recording_stopped: stream live/cam (__defaultVhost__) of media server zlm-1: volume / is critical, and its priority is 1, by guard\n"
        );
    }
}
