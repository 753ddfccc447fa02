//! `reclaim`: carries a plan out once.

use http::Method;
use serde::Serialize;

use super::args::Look;
use super::client::Client;
use super::exit::{Failure, print, print_json};
use super::job;
use super::look;
use super::screen;
use super::source::{Access, Local, Source, call, escaped};
use crate::daemon::Done;
use crate::domain::deletion::{RunResult, SparedReason};
use crate::domain::plan::Spared;
use crate::domain::units::Bytes;
use crate::server::shapes::Plan;

/// What became of one plan.
#[derive(Debug, Serialize)]
struct Report {
    volume: String,
    plan: String,
    result: String,
    why: String,
    verified: u64,
    failed: u64,
    kept: u64,
    expected_bytes: u64,
    reclaimed_bytes: u64,
    shortfall_bytes: u64,
}

/// `reclaim`.
pub(super) fn reclaim(wanted: &Look, plan: Option<&str>) -> Result<(), Failure> {
    let mut source = Source::open(&wanted.place, Access::Write)?;
    let status = look::ask(&mut source)?;
    let plans = look::plans(&source, None)?.items;
    if let Some(id) = plan
        && !plans.iter().any(|plan| plan.id == id)
    {
        return Err(Failure::Refused(format!(
            "there is no plan `{id}` now: something changed since it was made; look at `storage-guard plan` again"
        )));
    }
    if status.mode == "observe" {
        if wanted.json {
            return print_json(&plans);
        }
        print(&screen::plan(&status, &plans)?)?;
        return print(
            "Observe mode: nothing was deleted. Set `mode: enforce`, or give `--enforce`, to let the guard act.\n",
        );
    }
    let reports = match &mut source {
        Source::Remote(client) => remote(client, &plans, plan)?,
        Source::Local(local) => here(local, plan)?,
    };
    let blind = status.volumes.iter().filter(|volume| volume.pressure == "blind").collect::<Vec<_>>();
    if wanted.json {
        print_json(&serde_json::json!({ "items": reports }))?;
    } else {
        print(&show(&reports))?;
        if reports.is_empty() && blind.is_empty() {
            print(
                "nothing was begun: no volume needs space that may be given back now; `storage-guard status` says what is held back\n",
            )?;
        }
        for volume in &blind {
            let why = volume.blind_because.as_deref().unwrap_or_default();
            print(&format!("volume {}: blind, so nothing was deleted: {why}\n", volume.name))?;
        }
    }
    let failed = !blind.is_empty() || reports.iter().any(|report| report.result == RunResult::Failed.as_str());
    let short = reports.iter().any(|report| {
        report.failed > 0
            || report.shortfall_bytes > 0
            || [RunResult::Stalled, RunResult::Exhausted].iter().any(|result| result.as_str() == report.result)
    });
    match (failed, short) {
        (true, _) => Err(Failure::Said(1)),
        (false, true) => Err(Failure::Said(4)),
        (false, false) => Ok(()),
    }
}

fn here(local: &mut Local, plan: Option<&str>) -> Result<Vec<Report>, Failure> {
    local.guard.settle()?;
    local.guard.mark_holds();
    let who = who();
    let done = local.guard.carry_out(plan, &who, &|| false)?;
    Ok(done.into_iter().filter(|done| done.enforced).map(report).collect())
}

/// Who calls, for the journal.
pub(super) fn who() -> String {
    match rustix::process::getuid() {
        uid if uid.is_root() => "root".to_owned(),
        uid => format!("uid:{}", uid.as_raw()),
    }
}

fn report(done: Done) -> Report {
    let mut out = Report {
        volume: done.plan.volume.to_string(),
        plan: done.plan.id.clone(),
        result: RunResult::ReachedLow.to_string(),
        why: "nothing has to go now".to_owned(),
        verified: 0,
        failed: 0,
        kept: 0,
        expected_bytes: 0,
        reclaimed_bytes: 0,
        shortfall_bytes: done.plan.shortfall.bytes.0,
    };
    if done.plan.items.is_empty() && !done.plan.target.is_zero() {
        out.result = RunResult::Exhausted.to_string();
        let shared = Spared::sum(&done.plan.spared, SparedReason::Shared);
        out.why = match shared.files {
            0 => "nothing eligible is left".to_owned(),
            files => format!(
                "nothing eligible is left: {files} recordings, {}, would give nothing back, because snapshots or reflink copies share their blocks",
                shared.bytes
            ),
        };
    }
    let Some(run) = done.report else { return out };
    (out.verified, out.failed, out.kept) = (run.deleted.files + run.already_gone, run.failed, run.kept);
    out.result = run.result.to_string();
    out.why = run.why.to_string();
    out.expected_bytes = run.expected.0;
    out.reclaimed_bytes = run.reclaimed.0;
    out
}

fn show(reports: &[Report]) -> String {
    let mut out = String::new();
    for report in reports {
        out.push_str(&format!(
            "volume {}: {} ({})\n  {} recordings deleted and looked for, {} expected back, {} came back",
            report.volume,
            report.result,
            report.why,
            report.verified,
            Bytes(report.expected_bytes),
            Bytes(report.reclaimed_bytes)
        ));
        if report.failed > 0 {
            out.push_str(&format!(
                "; {} failed and will be tried again (`storage-guard failures list`)",
                report.failed
            ));
        }
        if report.kept > 0 {
            out.push_str(&format!("; {} kept", report.kept));
        }
        out.push('\n');
        if report.shortfall_bytes > 0 {
            out.push_str(&format!("  SHORTFALL: {} cannot be given back\n", Bytes(report.shortfall_bytes)));
        }
    }
    out
}

/// Lets the daemon carry the plans out, and waits for it.
fn remote(client: &Client, plans: &[Plan], wanted: Option<&str>) -> Result<Vec<Report>, Failure> {
    let mut out = Vec::new();
    for plan in plans.iter().filter(|plan| wanted.is_none_or(|id| plan.id == id) && !plan.items.is_empty()) {
        let answer = call(client, Method::POST, &format!("/api/v1/plans/{}/apply", escaped(&plan.id)), None)?;
        let id = job::begun(&answer)?;
        let job = job::over(client, id, |_| ())?;
        let number = |name| job::number(&job, name);
        let failed = number("failed") + number("waiting");
        let done = number("verified") + failed + number("kept");
        let whole = done > 0 && plan.shortfall_bytes == 0 && failed == 0;
        out.push(Report {
            volume: plan.volume.clone(),
            plan: plan.id.clone(),
            result: if whole { RunResult::ReachedLow } else { RunResult::Exhausted }.to_string(),
            why: format!("job {id} is {}", job["state"].as_str().unwrap_or_default()),
            verified: number("verified"),
            failed,
            kept: number("kept"),
            expected_bytes: number("expected_bytes"),
            reclaimed_bytes: number("reclaimed_bytes"),
            shortfall_bytes: plan.shortfall_bytes,
        });
    }
    Ok(out)
}
