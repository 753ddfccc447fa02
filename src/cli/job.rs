//! Waits for a job, and says what came of it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::Client;
use super::exit::{Failure, complain, print, print_json};
use super::records::word;
use super::source::{Local, call};
use crate::domain::deletion::Outcome;
use crate::domain::units::Bytes;
use crate::server::PageQuery;
use crate::system::{Clock as _, SystemClock};

/// Between two looks at a job.
const PAUSE: Duration = Duration::from_millis(200);
/// So many items are named of those that did not succeed.
const NAMED: usize = 20;
/// Codes of problems that are safety rules.
const RULES: [&str; 6] = ["observe", "untrusted", "unproven", "cap", "suspicious", "playable"];

/// A job that is over, or whose retries alone are left, and the first of its items that did not succeed.
pub(super) struct Ended {
    job: Value,
    failed: Vec<Value>,
    kept: Vec<Value>,
}

/// The job that an answer of the guard names.
pub(super) fn begun(answer: &Value) -> Result<u64, Failure> {
    answer["job"].as_u64().ok_or_else(|| Failure::failed("the guard's answer names no job"))
}

/// The job once it is over, or its retries alone are left; until then `seen` is shown how it stands.
pub(super) fn over(client: &Client, id: u64, seen: impl Fn(&Value)) -> Result<Value, Failure> {
    loop {
        let job: Value = call(client, Method::GET, &format!("/api/v1/jobs/{id}"), None)?;
        if !matches!(word(&job, "state"), "queued" | "running") {
            return Ok(job);
        }
        seen(&job);
        SystemClock.sleep(PAUSE);
    }
}

/// Waits for a job of the running guard, with a progress bar where somebody can see it.
pub(super) fn wait(client: &Client, id: u64) -> Result<Ended, Failure> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    let job = over(client, id, |job| {
        bar.set_length(number(job, "total"));
        bar.set_position(done(job));
    })?;
    bar.finish_and_clear();
    let items = |outcome: Outcome| -> Result<Vec<Value>, Failure> {
        let path = format!("/api/v1/jobs/{id}/items?outcome={outcome}&limit={NAMED}");
        let page: Value = call(client, Method::GET, &path, None)?;
        Ok(page["items"].as_array().cloned().unwrap_or_default())
    };
    Ok(Ended { failed: items(Outcome::Failed)?, kept: items(Outcome::Kept)?, job })
}

/// The same of a job that this process did itself.
pub(super) fn ended(local: &Local, id: u64) -> Result<Ended, Failure> {
    let failed = |refusal: crate::server::Refusal| Failure::failed(refusal.message);
    let job = serde_json::to_value(local.hub.job(id).map_err(failed)?)?;
    let items = |outcome: Outcome| -> Result<Vec<Value>, Failure> {
        let page = PageQuery { limit: NAMED, cursor: None };
        let page = serde_json::to_value(local.hub.job_items(id, Some(outcome), &page).map_err(failed)?)?;
        Ok(page["items"].as_array().cloned().unwrap_or_default())
    };
    Ok(Ended { failed: items(Outcome::Failed)?, kept: items(Outcome::Kept)?, job })
}

pub(super) fn number(job: &Value, name: &str) -> u64 {
    job[name].as_u64().unwrap_or(0)
}

/// Items that came to an end of some kind.
fn done(job: &Value) -> u64 {
    ["verified", "failed", "waiting", "kept"].iter().map(|name| number(job, name)).sum()
}

impl Ended {
    /// Says what happened, and ends with the exit code for it.
    pub(super) fn tell(&self, json: bool) -> Result<(), Failure> {
        if json {
            print_json(&self.job)?;
        } else {
            print(&self.show())?;
        }
        let problem = &self.job["problem"];
        if problem.is_object() {
            if !json {
                complain(word(problem, "message"));
            }
            return Err(Failure::Said(if RULES.contains(&word(problem, "code")) { 5 } else { 1 }));
        }
        let whole = number(&self.job, "verified") == number(&self.job, "total");
        if whole { Ok(()) } else { Err(Failure::Said(4)) }
    }

    fn show(&self) -> String {
        let job = &self.job;
        let (total, verified) = (number(job, "total"), number(job, "verified"));
        let bytes = |name: &str| Bytes(number(job, name));
        let mut out = format!("job {} is {}: ", job["id"], word(job, "state"));
        if total == 0 {
            // What stopped it is told beside this.
            out.push_str(if job["problem"].is_object() { "nothing was begun\n" } else { "there was nothing to do\n" });
            return out;
        }
        let what = match word(job, "kind") {
            "adopt" => "recordings have their row".to_owned(),
            // They are there still, so nothing is expected back.
            "quarantine" => "files are set aside".to_owned(),
            "restore" | "archive_restore" => "files are back under their names".to_owned(),
            "remove_rows" => "rows are gone".to_owned(),
            _ => format!(
                "files deleted and looked for, {} expected back, {} came back",
                bytes("expected_bytes"),
                bytes("reclaimed_bytes")
            ),
        };
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{verified} of {total} {what}");
        let (failed, waiting, kept) = (number(job, "failed"), number(job, "waiting"), number(job, "kept"));
        if waiting > 0 {
            let _ = writeln!(out, "  {waiting} failed and will be tried again (`storage-guard failures list`)");
        }
        if failed > 0 {
            let _ = writeln!(out, "  {failed} FAILED");
        }
        name_items(&mut out, &self.failed, failed + waiting);
        if kept > 0 {
            let _ = writeln!(out, "  {kept} kept");
        }
        name_items(&mut out, &self.kept, kept);
        let left = total.saturating_sub(done(job));
        if left > 0 {
            let _ = writeln!(out, "  {left} were not begun");
        }
        out
    }
}

fn name_items(out: &mut String, items: &[Value], all: u64) {
    for item in items {
        let cause = item["cause"].as_str().map(|cause| format!("{cause}: ")).unwrap_or_default();
        let holder = item["holder"].as_str().map(|holder| format!(", held by {holder}")).unwrap_or_default();
        let why = item["detail"].as_str().unwrap_or("no reason is known");
        let _ = writeln!(out, "    `{}`: {cause}{why}{holder}", word(item, "path"));
    }
    let more = all.saturating_sub(items.len() as u64);
    if more > 0 && !items.is_empty() {
        let _ = writeln!(out, "    and {more} more");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(kind: &str, counts: [u64; 5], problem: Value) -> Ended {
        let [total, verified, failed, waiting, kept] = counts;
        let job = json!({
            "id": 7, "kind": kind, "state": "done", "total": total, "verified": verified, "failed": failed,
            "waiting": waiting, "kept": kept, "expected_bytes": 2048, "reclaimed_bytes": 1024, "problem": problem,
        });
        let item = |outcome: &str| json!({"path": "a.mp4", "outcome": outcome, "cause": null, "holder": null, "detail": "it changed"});
        let items = |count, outcome| if count > 0 { vec![item(outcome)] } else { vec![] };
        Ended { job, failed: items(failed + waiting, "failed"), kept: items(kept, "kept") }
    }

    #[test]
    fn a_job_is_told_in_numbers_with_what_failed_named() {
        let check = |kind: &str, counts, expected: &str| {
            assert_eq!(ended(kind, counts, Value::Null).show(), expected);
        };
        check("adopt", [3, 3, 0, 0, 0], "job 7 is done: 3 of 3 recordings have their row\n");
        check("adopt", [0; 5], "job 7 is done: there was nothing to do\n");
        let stopped = ended("adopt", [0; 5], json!({"code": "untrusted", "message": "because"}));
        assert_eq!(stopped.show(), "job 7 is done: nothing was begun\n");
        check(
            "delete",
            [9, 2, 1, 2, 1],
            "job 7 is done: 2 of 9 files deleted and looked for, 2 KiB expected back, 1 KiB came back
  2 failed and will be tried again (`storage-guard failures list`)
  1 FAILED
    `a.mp4`: it changed
    and 2 more
  1 kept
    `a.mp4`: it changed
  3 were not begun
",
        );
    }

    #[test]
    fn the_exit_code_says_how_a_job_ended() {
        let problem = |code: &str| json!({"code": code, "message": "because"});
        for (counts, problem, expected) in [
            ([3, 3, 0, 0, 0], Value::Null, None),
            ([0; 5], Value::Null, None),
            ([3, 2, 1, 0, 0], Value::Null, Some(4)),
            ([3, 2, 0, 1, 0], Value::Null, Some(4)),
            ([3, 2, 0, 0, 1], Value::Null, Some(4)),
            ([3, 2, 0, 0, 0], Value::Null, Some(4)),
            ([3, 0, 0, 0, 0], problem("cap"), Some(5)),
            ([3, 0, 0, 0, 0], problem("untrusted"), Some(5)),
            ([3, 1, 0, 0, 0], problem("failed"), Some(1)),
            ([3, 3, 0, 0, 0], problem("journal"), Some(1)),
        ] {
            let got = match ended("delete", counts, problem.clone()).tell(true) {
                Ok(()) => None,
                Err(Failure::Said(code)) => Some(code),
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(got, expected, "{counts:?} {problem}");
        }
    }
}
