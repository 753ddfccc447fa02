//! `journal explain STREAM TIME`: why a span of a stream is missing.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::args::Look;
use super::exit::{Failure, print, print_json};
use super::records::word;
use super::source::{Access, Source, call, escaped, failure};
use crate::domain::gap_time::When;
use crate::server::gaps::GapQuery;

/// Between two turns of the spinner.
const TURN: Duration = Duration::from_millis(200);

/// What is asked: the stream, the time, its end, the tree.
pub(super) struct Asked<'a> {
    pub(super) stream: &'a str,
    pub(super) time: &'a str,
    pub(super) to: Option<&'a str>,
    pub(super) tree: Option<&'a str>,
}

/// Asks, and says what became of the span.
pub(super) fn explain(look: &Look, asked: &Asked<'_>) -> Result<(), Failure> {
    // What is no time is told before anything is opened.
    let when = When::parse(asked.time, asked.to).map_err(Failure::Usage)?;
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let gap: Value = match Source::open(&look.place, Access::Read)? {
        Source::Remote(client) => {
            bar.set_message("the guard looks at the disk, its journal and what it was told");
            bar.enable_steady_tick(TURN);
            let mut path =
                format!("/api/v1/journal/explain?stream={}&time={}", escaped(asked.stream), escaped(asked.time));
            for (name, text) in [("to", asked.to), ("tree", asked.tree)] {
                if let Some(text) = text {
                    path.push_str(&format!("&{name}={}", escaped(text)));
                }
            }
            call(&client, Method::GET, &path, None)?
        }
        Source::Local(mut local) => {
            local.look()?;
            let query = GapQuery { stream: asked.stream.to_owned(), when, tree: asked.tree.map(str::to_owned) };
            let mut done = |read: usize, all: usize| {
                bar.set_message(format!("reading the journal: {read} of {all} segments"));
                bar.tick();
            };
            let found = local.hub.gap(&query, local.machine(), &mut done);
            serde_json::to_value(found.map_err(|refusal| failure(refusal.status, refusal.message))?)?
        }
    };
    bar.finish_and_clear();
    if look.json { print_json(&gap) } else { print(&told(&gap)) }
}

/// The answer for people.
fn told(gap: &Value) -> String {
    let mut out = String::new();
    let none = Vec::new();
    for part in gap["items"].as_array().unwrap_or(&none) {
        let verdict = word(part, "verdict").replace('_', " ");
        let at_most = if part["estimated"] == true { " at most" } else { "" };
        let span = match (word(part, "from"), word(part, "to")) {
            (from, to) if from == to => from.to_owned(),
            (from, to) => format!("{from} to {to}{at_most}"),
        };
        let _ =
            writeln!(out, "{}: {} in tree {}, {span}", verdict.to_uppercase(), word(gap, "stream"), word(part, "tree"));
        let _ = writeln!(out, "  {}", word(part, "summary"));
        for proof in part["evidence"].as_array().unwrap_or(&none) {
            let entry = proof["seq"].as_u64().map(|seq| format!(" {seq}")).unwrap_or_default();
            let time = proof["time"].as_str().map(|time| format!(" {time}")).unwrap_or_default();
            let source = word(proof, "source").replace('_', " ");
            let _ = writeln!(out, "  - {source}{entry}{time}: {}", word(proof, "text"));
        }
    }
    if let Some(more) = gap["left_out"].as_u64().filter(|more| *more > 0) {
        let _ = writeln!(out, "{more} more findings are left out; ask about a shorter span");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_told_with_its_evidence() {
        let proof =
            |source: &str, seq: Value, text: &str| json!({"source": source, "seq": seq, "time": "T", "text": text});
        let part = |verdict: &str, from: &str, to: &str, evidence: Value| {
            json!({"tree": "live", "verdict": verdict, "from": from, "to": to, "estimated": true, "summary": "why",
                "evidence": evidence})
        };
        let gap = json!({"stream": "live/cam", "left_out": 2, "items": [
            part("never_recorded", "A", "A", json!([])),
            part("deleted", "B", "C", json!([proof("journal", 7.into(), "an entry"), proof("media_server", Value::Null, "it answers")])),
        ]});
        assert_eq!(
            told(&gap),
            "NEVER RECORDED: live/cam in tree live, A\n  why\n\
             DELETED: live/cam in tree live, B to C at most\n  why\n  - journal 7 T: an entry\n  - media server T: it answers\n\
             2 more findings are left out; ask about a shorter span\n"
        );
    }
}
