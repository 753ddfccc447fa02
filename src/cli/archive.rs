//! `archive`: what the cold tier holds, and how recordings come back from it.

use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};

use super::args::{Archive, CopiesArgs, Look, RestoreArgs};
use super::exit::{Failure, print, print_json};
use super::hold::paths_or_span;
use super::job;
use super::reclaim::who;
use super::records::word;
use super::source::{Access, Local, Source, call, escaped, failure};
use crate::daemon::restore_here;
use crate::domain::units::Bytes;
use crate::server::PageQuery;
use crate::server::archive::{CopiesWanted, RestoreRequest};

/// `archive`.
pub(super) fn archive(command: Archive) -> Result<(), Failure> {
    match command {
        Archive::List(wanted) => list(&wanted),
        Archive::Restore { look, wanted } => restore(&look, &wanted),
    }
}

fn list(args: &CopiesArgs) -> Result<(), Failure> {
    let mut source = Source::open(&args.look.place, Access::Read)?;
    if let Source::Local(local) = &mut source {
        local.look()?;
    }
    let wanted = CopiesWanted { archive: args.archive.clone(), tree: args.name.clone(), stream: args.stream.clone() };
    let keys = [("archive", &wanted.archive), ("tree", &wanted.tree), ("stream", &wanted.stream)];
    let keys: String = keys
        .iter()
        .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={}&", escaped(value))))
        .collect();
    let of = |local: &Local, page: &PageQuery| {
        let copies = local.hub.copies(&wanted, page).map_err(|refusal| failure(refusal.status, refusal.message))?;
        Ok(serde_json::to_value(copies)?)
    };
    let (mut all, mut files, mut bytes) = (Vec::new(), 0_u64, 0_u64);
    source.pages(&format!("/api/v1/archives/copies?{keys}"), of, |items| {
        files += items.len() as u64;
        bytes += items.iter().filter_map(|item| item["bytes"].as_u64()).sum::<u64>();
        if args.look.json {
            all.extend(items);
            return Ok(());
        }
        let mut out = String::new();
        for item in &items {
            let _ = writeln!(
                out,
                "{} {} {} {} ({})",
                word(item, "archive"),
                word(item, "tree"),
                word(item, "path"),
                word(item, "recorded"),
                Bytes(item["bytes"].as_u64().unwrap_or(0))
            );
        }
        print(&out)
    })?;
    if args.look.json {
        return print_json(&json!({"items": all, "next": null}));
    }
    if files == 0 {
        return print("no archive holds any such copy\n");
    }
    print(&format!("{files} copies, {}; `archive restore TREE PATH` brings one back\n", Bytes(bytes)))
}

fn request(args: &RestoreArgs) -> Result<RestoreRequest, Failure> {
    let (paths, [from, to]) =
        paths_or_span((&args.paths, args.encoded), args.stream.as_ref(), (&args.from, &args.to), "is wanted back")?;
    Ok(RestoreRequest { tree: args.name.clone(), paths, stream: args.stream.clone(), from, to })
}

fn restore(look: &Look, args: &RestoreArgs) -> Result<(), Failure> {
    let request = request(args)?;
    match Source::open(&look.place, Access::Write)? {
        Source::Remote(client) => {
            let body = Some(serde_json::to_value(&request)?);
            let answer: Value = call(&client, Method::POST, "/api/v1/archive/restore", body)?;
            job::wait(&client, job::begun(&answer)?)?.tell(look.json)
        }
        Source::Local(mut local) => {
            local.look()?;
            local.guard.settle()?;
            let id = restore_here(&local.config, local.parts(), &local.hub, &request, &who());
            let id = id.map_err(|refusal| failure(refusal.status, refusal.message))?;
            job::ended(&local, id)?.tell(look.json)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_back_is_named_or_is_a_whole_span() {
        let span = Some(("2026-11-22T08:00:00+08:00", "2026-11-22T01:00:00Z"));
        let args = |paths: &[&str], stream: Option<&str>, span: Option<(&str, &str)>| RestoreArgs {
            name: "live".to_owned(),
            paths: paths.iter().map(Into::into).collect(),
            encoded: false,
            stream: stream.map(str::to_owned),
            from: span.map(|(from, _)| from.to_owned()),
            to: span.map(|(_, to)| to.to_owned()),
        };
        for (args, fine) in [
            (args(&["a.mp4"], None, None), true),
            (args(&[], Some("cam"), span), true),
            (args(&[], None, None), false),
            (args(&["a.mp4"], Some("cam"), span), false),
            (args(&[], Some("cam"), None), false),
            (args(&["/etc/passwd"], None, None), false),
        ] {
            assert_eq!(request(&args).is_ok(), fine, "{args:?}");
        }
        assert_eq!(request(&args(&[], Some("cam"), span)).unwrap().from.unwrap(), "2026-11-22T00:00:00Z");
    }
}
