//! `hold`: what persons want kept, whatever happens.

use std::ffi::OsString;
use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};

use super::alerts::moment;
use super::args::{Hold, HoldArgs, Look};
use super::exit::{Failure, complain, print, print_json};
use super::orphans::one_path;
use super::reclaim::who;
use super::records::word;
use super::source::{Access, Local, Source, call, failure};
use crate::domain::path::RelPath;
use crate::server::holds::HoldRequest;
use crate::server::orphans::NamedPath;

/// `hold`.
pub(super) fn hold(command: Hold) -> Result<(), Failure> {
    match command {
        Hold::Add { look, wanted } => add(&look, &request(&wanted)?),
        Hold::Remove { look, id } => remove(&look, id),
        Hold::List(look) => list(&look),
    }
}

/// What is asked for. `--until` may be a span, which counts from now on.
fn request(args: &HoldArgs) -> Result<HoldRequest, Failure> {
    let (paths, [from, to]) =
        paths_or_span((&args.paths, args.encoded), args.stream.as_ref(), (&args.from, &args.to), "is to be held")?;
    Ok(HoldRequest {
        tree: args.name.clone(),
        paths,
        stream: args.stream.clone(),
        from,
        to,
        reason: args.reason.clone(),
        until: args.until.as_deref().map(|text| moment(text).map(|until| until.to_string())).transpose()?,
    })
}

/// Paths, or the two ends of a stream's span.
type PathsOrSpan = (Option<Vec<NamedPath>>, [Option<String>; 2]);

/// The paths that are named, or, where a stream is, the times of its span: one of the two, whole. `what` is done with that stands in the
/// sentence that asks for it.
pub(super) fn paths_or_span(
    (paths, encoded): (&[OsString], bool),
    stream: Option<&String>,
    (from, to): (&Option<String>, &Option<String>),
    what: &str,
) -> Result<PathsOrSpan, Failure> {
    let paths = paths.iter().map(|path| one_path(path, encoded)).collect::<Result<Vec<RelPath>, _>>()?;
    let span = stream.is_some();
    if span != paths.is_empty() || span != from.is_some() || span != to.is_some() {
        let sentence = format!("name paths, or a stream with the span that {what}: `--stream S --from T --to T`");
        return Err(Failure::Usage(sentence));
    }
    let [from, to] = [from, to].map(|text| text.as_deref().map(instant).transpose());
    Ok(((!span).then(|| paths.iter().map(NamedPath::from).collect()), [from?, to?]))
}

fn instant(text: &str) -> Result<String, Failure> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed
        .map(|at| at.to_string())
        .map_err(|_| Failure::Usage(format!("`{text}` is no time; write it as 2026-11-22T12:21:41Z")))
}

/// What this process would keep in memory alone ends with it.
fn durable(local: &Local) -> Result<(), Failure> {
    if local.database.in_memory() {
        let sentence = "the database of the state cannot be used now, so no hold can be kept or let go of";
        return Err(Failure::failed(sentence));
    }
    Ok(())
}

/// Changes holds, and lets the files of trees that may be changed bear what follows.
fn change(local: &mut Local, act: impl FnOnce(&Local) -> Result<Value, Failure>) -> Result<Value, Failure> {
    durable(local)?;
    local.hub.show(local.guard.views());
    let done = act(local)?;
    if local.guard.views().iter().any(crate::domain::status::VolumeView::enforces) {
        local.look()?;
        local.guard.settle()?;
        local.guard.mark_holds();
    }
    Ok(done)
}

fn add(look: &Look, wanted: &HoldRequest) -> Result<(), Failure> {
    let made = match Source::open(&look.place, Access::Write)? {
        Source::Remote(client) => call(&client, Method::POST, "/api/v1/holds", Some(serde_json::to_value(wanted)?))?,
        Source::Local(mut local) => change(&mut local, |local| {
            let made = local.hub.hold(wanted, &who(), local.machine());
            Ok(serde_json::to_value(made.map_err(|refusal| failure(refusal.status, refusal.message))?)?)
        })?,
    };
    if made["durable"] == false {
        complain("the hold is kept in memory until the state can be written; a restart before that forgets it");
    }
    if look.json {
        return print_json(&made);
    }
    print(&told(&made))
}

/// What a person hears of a hold that was made.
fn told(made: &Value) -> String {
    let gone = made["already_gone"].as_array().cloned().unwrap_or_default();
    let mut out = format!("hold {} is in effect; recordings that are there: {}\n", made["id"], made["recordings"]);
    for path in &gone {
        let _ = writeln!(out, "  ALREADY GONE: {}", named(path));
    }
    if let Some(note) = made["note"].as_str() {
        let _ = writeln!(out, "  {note}");
    }
    out
}

/// A path as lists give it.
fn named(path: &Value) -> &str {
    path.as_str().unwrap_or_else(|| word(path, "path"))
}

fn remove(look: &Look, id: u64) -> Result<(), Failure> {
    match Source::open(&look.place, Access::Write)? {
        Source::Remote(client) => call(&client, Method::DELETE, &format!("/api/v1/holds/{id}"), None)?,
        Source::Local(mut local) => change(&mut local, |local| {
            let done = local.hub.let_go(id, &who());
            done.map_err(|refusal| failure(refusal.status, refusal.message))?;
            Ok(Value::Null)
        })?,
    };
    if look.json {
        return print_json(&json!({"removed": id}));
    }
    print(&format!("hold {id} is removed: what it covered is a recording like any other again\n"))
}

fn list(look: &Look) -> Result<(), Failure> {
    let mut items = Vec::new();
    let of = |local: &Local, _: &crate::server::PageQuery| {
        Ok(json!({"items": serde_json::to_value(local.hub.holds())?, "next": null}))
    };
    Source::open(&look.place, Access::Read)?.pages("/api/v1/holds?", of, |page| {
        items.extend(page);
        Ok(())
    })?;
    if look.json {
        return print_json(&json!({"items": items, "next": null}));
    }
    print(&listed(&items))
}

fn listed(items: &[Value]) -> String {
    if items.is_empty() {
        return "nothing is held\n".to_owned();
    }
    let mut out = String::new();
    for hold in items {
        let until = hold["until"].as_str().map_or_else(|| "without end".to_owned(), |until| format!("until {until}"));
        let what = match hold["paths"].as_array().map(Vec::as_slice) {
            Some([one]) => named(one).to_owned(),
            Some([one, ..]) => {
                format!("{} and {} more", named(one), hold["named"].as_u64().unwrap_or(1).saturating_sub(1))
            }
            Some([]) | None => {
                format!("stream {} from {} to {}", word(hold, "stream"), word(hold, "from"), word(hold, "to"))
            }
        };
        let _ = writeln!(
            out,
            "{} {}: {what}, {until}, made {} by {}: {}",
            hold["id"],
            word(hold, "tree"),
            word(hold, "made"),
            word(hold, "who"),
            word(hold, "reason")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(paths: &[&str], stream: Option<&str>, span: Option<(&str, &str)>) -> HoldArgs {
        HoldArgs {
            name: "live".to_owned(),
            paths: paths.iter().map(Into::into).collect(),
            stream: stream.map(str::to_owned),
            from: span.map(|(from, _)| from.to_owned()),
            to: span.map(|(_, to)| to.to_owned()),
            reason: "why".to_owned(),
            until: None,
            encoded: false,
        }
    }

    #[test]
    fn a_hold_names_paths_or_a_whole_span() {
        let span = Some(("2026-11-22T08:00:00+08:00", "2026-11-22T01:00:00Z"));
        for (args, fine) in [
            (args(&["a.mp4"], None, None), true),
            (args(&[], Some("live/cam"), span), true),
            (args(&[], None, None), false),
            (args(&["a.mp4"], Some("live/cam"), span), false),
            (args(&[], Some("live/cam"), None), false),
            (args(&["a.mp4"], None, span), false),
            (args(&[], Some("live/cam"), Some(("1h", "now"))), false),
            (args(&["../a.mp4"], None, None), false),
        ] {
            assert_eq!(request(&args).is_ok(), fine, "{args:?}");
        }
        assert_eq!(request(&args(&[], Some("live/cam"), span)).unwrap().from.unwrap(), "2026-11-22T00:00:00Z");
    }

    #[test]
    fn what_is_held_and_what_is_already_gone_is_said_in_words() {
        let made = json!({"id": 3, "recordings": 1, "already_gone": ["live/b.mp4", {"path": "a%FF", "encoded": true}],
            "note": "the tree is only observed"});
        assert_eq!(
            told(&made),
            "hold 3 is in effect; recordings that are there: 1\n  ALREADY GONE: live/b.mp4\n  ALREADY GONE: a%FF\n  the tree is only observed\n"
        );
        let by_path = json!({"id": 1, "tree": "live", "paths": ["a.mp4", "b.mp4"], "named": 2, "made": "M", "who": "ops",
            "reason": "case 7", "until": "U"});
        let by_span = json!({"id": 2, "tree": "live", "paths": null, "named": 0, "stream": "live/cam", "from": "F", "to": "T",
            "made": "M", "who": "ops", "reason": "case 8", "until": null});
        assert_eq!(
            listed(&[by_path, by_span]),
            "1 live: a.mp4 and 1 more, until U, made M by ops: case 7\n\
             2 live: stream live/cam from F to T, without end, made M by ops: case 8\n"
        );
        assert_eq!(listed(&[]), "nothing is held\n");
    }
}
