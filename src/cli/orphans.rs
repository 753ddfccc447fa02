//! `orphans`, `missing`, `catalogue`: what should not be there, what should be and is not, and who says so.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use http::Method;
use serde_json::{Value, json};

use super::args::{Catalogue, Kind, Look, Missing, Orphans, Which};
use super::exit::{Failure, print, print_json};
use super::job;
use super::reclaim::who;
use super::records::word;
use super::source::{Access, Local, PAGE, Source, call, escaped, failure};
use crate::domain::orphan::OrphanKind;
use crate::domain::path::RelPath;
use crate::domain::remedy::RemedyKind;
use crate::domain::units::{Bytes, Timestamp, show_duration};
use crate::server::orphans::{NamedPath, OrphansWanted, RemedyRequest};
use crate::server::shapes::Path;
use crate::server::{PageQuery, Refusal};
use crate::system::{Clock as _, SystemClock};

/// `orphans`.
pub(super) fn orphans(command: &Orphans) -> Result<(), Failure> {
    match command {
        Orphans::List { which, kind, proven } => list_orphans(which, kind, *proven),
        Orphans::Adopt { which, kind, dry_run } => remedy(RemedyKind::Adopt, which, Some(kind), *dry_run),
        Orphans::Quarantine { which, kind } => remedy(RemedyKind::Quarantine, which, Some(kind), false),
        Orphans::Delete { which, kind } => remedy(RemedyKind::Delete, which, Some(kind), false),
        Orphans::Restore { which, kind } => remedy(RemedyKind::Restore, which, Some(kind), false),
    }
}

/// `missing`.
pub(super) fn missing(command: &Missing) -> Result<(), Failure> {
    match command {
        Missing::List(which) => list_missing(which),
        Missing::Remove(which) => remedy(RemedyKind::RemoveRows, which, None, false),
    }
}

/// `catalogue`.
pub(super) fn catalogue(command: Catalogue) -> Result<(), Failure> {
    match command {
        Catalogue::List(look) => list_catalogues(&look),
        Catalogue::Accept { look, name } => {
            match Source::open(&look.place, Access::Write)? {
                Source::Remote(client) => {
                    let path = format!("/api/v1/catalogues/{}/accept", escaped(&name));
                    let _: Value = call(&client, Method::POST, &path, None)?;
                }
                Source::Local(mut local) => {
                    local.look()?;
                    local.hub.accept(&name, &who()).map_err(refused)?;
                }
            }
            if look.json {
                return print_json(&json!({"accepted": name}));
            }
            print(&format!(
                "catalogue {name} is accepted as it is now: what it does not know can become an orphan again\n"
            ))
        }
    }
}

fn refused(refusal: Refusal) -> Failure {
    failure(refusal.status, refusal.message)
}

/// Gives what was asked for of every page of a list to `each`.
fn pages(
    which: &Which,
    path: &str,
    of: impl Fn(&Local, &PageQuery) -> Result<Value, Failure>,
    mut each: impl FnMut(Vec<Value>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut source = Source::open(&which.look.place, Access::Read)?;
    if let Source::Local(local) = &mut source {
        local.look()?;
    }
    let wanted: Vec<Path> = paths(which)?.unwrap_or_default().iter().map(Path::from).collect();
    let named = |item: &Value| {
        let shown = Path { path: word(item, "path").to_owned(), encoded: item["encoded"] == true };
        wanted.is_empty() || wanted.contains(&shown)
    };
    source.pages(path, of, |items| each(items.into_iter().filter(named).collect()))
}

fn of_tree(which: &Which) -> String {
    which.name.as_deref().map(|name| format!("tree={}&", escaped(name))).unwrap_or_default()
}

fn list_orphans(which: &Which, kind: &Kind, proven: bool) -> Result<(), Failure> {
    let path = format!("/api/v1/orphans?{}kind={}&proven={proven}&", of_tree(which), kind.kind);
    let wanted = OrphansWanted { tree: which.name.clone(), kind: OrphanKind::from_word(&kind.kind), proven };
    let of =
        |local: &Local, page: &PageQuery| Ok(serde_json::to_value(local.hub.orphans(&wanted, page).map_err(refused)?)?);
    let now = SystemClock.now();
    let (mut all, mut sum) = (Vec::new(), Sum::default());
    pages(which, &path, of, |items| {
        items.iter().for_each(|item| sum.add(item));
        if which.look.json {
            all.extend(items);
            return Ok(());
        }
        let mut out = String::new();
        items.iter().for_each(|item| describe(&mut out, item, now));
        print(&out)
    })?;
    if which.look.json { print_json(&json!({"items": all, "next": null})) } else { print(&sum.show(&kind.kind)) }
}

/// One orphan, on one line.
fn describe(out: &mut String, orphan: &Value, now: Timestamp) {
    let since = word(orphan, "first_seen");
    let age = since.parse::<jiff::Timestamp>().map(|at| now.since(Timestamp::from_millis(at.as_millisecond())));
    let age = age.map(|age| format!(" ({} ago)", show_duration(age))).unwrap_or_default();
    let playable = match orphan["playable"].as_bool() {
        Some(true) => ", can be played",
        Some(false) => ", CANNOT be played",
        None => "",
    };
    let bytes = Bytes(orphan["bytes"].as_u64().unwrap_or(0));
    // Writing to a text cannot fail.
    let _ = write!(out, "{} `{}`, {bytes}{playable}, ", word(orphan, "tree"), word(orphan, "path"));
    let sentence = word(&orphan["verdict"], "sentence");
    let _ = match orphan["deleted_after"].as_str() {
        Some(end) => writeln!(out, "SET ASIDE {since}{age}, deleted after {end}: {sentence}"),
        None => writeln!(out, "since {since}{age}: {sentence}"),
    };
}

/// What a list adds up to.
#[derive(Debug, Default)]
struct Sum {
    files: u64,
    bytes: Bytes,
    proven: u64,
    aside: u64,
}

impl Sum {
    fn add(&mut self, orphan: &Value) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(Bytes(orphan["bytes"].as_u64().unwrap_or(0)));
        match word(orphan, "state") {
            "quarantined" => self.aside += 1,
            _ => self.proven += u64::from(orphan["verdict"]["proven"] == true),
        }
    }

    fn show(&self, kind: &str) -> String {
        if self.files == 0 {
            return match kind {
                "leftover" => "no leftovers\n".to_owned(),
                _ => "no orphans, as far as catalogues were compared (`storage-guard catalogue list`)\n".to_owned(),
            };
        }
        let mut out =
            format!("{} files, {}: {} proven, {} set aside\n", self.files, self.bytes, self.proven, self.aside);
        if self.proven > 0 {
            out.push_str(match kind {
                "leftover" => "what to do: `storage-guard orphans delete TREE PATH… | --all --kind leftover`\n",
                _ => "what to do: `storage-guard orphans adopt | quarantine | delete TREE PATH… | --all`; `adopt --dry-run` shows the rows\n",
            });
        }
        if self.aside > 0 {
            out.push_str("what is set aside comes back with `storage-guard orphans restore TREE PATH… | --all`\n");
        }
        out
    }
}

fn list_missing(which: &Which) -> Result<(), Failure> {
    let path = format!("/api/v1/missing?{}", of_tree(which));
    let of = |local: &Local, page: &PageQuery| {
        Ok(serde_json::to_value(local.hub.missing(which.name.as_deref(), page).map_err(refused)?)?)
    };
    let (mut all, mut count) = (Vec::new(), 0);
    pages(which, &path, of, |items| {
        count += items.len();
        if which.look.json {
            all.extend(items);
            return Ok(());
        }
        let mut out = String::new();
        for item in &items {
            let (tree, path) = (word(item, "tree"), word(item, "path"));
            let _ = writeln!(out, "{tree} `{path}`, row {} of {}", word(item, "row"), word(item, "catalogue"));
        }
        print(&out)
    })?;
    if which.look.json {
        return print_json(&json!({"items": all, "next": null}));
    }
    if count == 0 {
        return print("no rows without a file, as far as catalogues were compared (`storage-guard catalogue list`)\n");
    }
    print(&format!("{count} rows without a file; `storage-guard missing remove TREE PATH… | --all` removes them\n"))
}

fn list_catalogues(look: &Look) -> Result<(), Failure> {
    let catalogues: Value = match Source::open(&look.place, Access::Read)? {
        Source::Remote(client) => call(&client, Method::GET, &format!("/api/v1/catalogues?limit={PAGE}"), None)?,
        Source::Local(mut local) => {
            local.look()?;
            json!({"items": local.hub.catalogues(), "next": null})
        }
    };
    if look.json {
        return print_json(&catalogues);
    }
    let items = catalogues["items"].as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    items.iter().for_each(|item| describe_catalogue(&mut out, item));
    print(if items.is_empty() {
        "no catalogue is configured, so nothing says which recordings should exist\n"
    } else {
        &out
    })
}

fn describe_catalogue(out: &mut String, item: &Value) {
    let number = |name: &str| item[name].as_u64().unwrap_or(0);
    // Writing to a text cannot fail.
    let _ = write!(out, "{} ({}): ", word(item, "name"), word(item, "kind"));
    match item["reason"].as_str() {
        None => out.push_str("trusted"),
        Some(why) => {
            let since = item["since"].as_str().map(|at| format!(" since {at}")).unwrap_or_default();
            let _ = write!(out, "NOT TRUSTED{since}, because {why}");
        }
    }
    let read = item["read_at"].as_str().map_or("never read".to_owned(), |at| format!("last read {at}"));
    let _ = writeln!(
        out,
        "\n  {read}: {} rows, {} of them to be kept; {} in no tree of ours, {} without a usable path",
        number("rows"),
        number("collect"),
        number("foreign_rows"),
        number("bad_rows")
    );
    if let Some(remark) = item["remark"].as_str() {
        let _ = writeln!(out, "  take note: {remark}");
    }
}

/// The paths that are named; `None` if none is.
fn paths(which: &Which) -> Result<Option<Vec<RelPath>>, Failure> {
    if which.paths.is_empty() {
        return Ok(None);
    }
    which.paths.iter().map(|path| one_path(path, which.encoded)).collect::<Result<Vec<_>, _>>().map(Some)
}

pub(super) fn one_path(path: &OsString, encoded: bool) -> Result<RelPath, Failure> {
    let parsed = match (encoded, path.to_str()) {
        (true, Some(text)) => RelPath::parse(text, true),
        (true, None) | (false, _) => RelPath::new(path.as_bytes()),
    };
    parsed.map_err(|error| Failure::Usage(format!("the path `{}` {error}", path.to_string_lossy())))
}

/// The request that the arguments make.
fn request(which: &Which, kind: Option<&Kind>, dry_run: bool) -> Result<RemedyRequest, Failure> {
    let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
    let Some(tree) = which.name.clone() else {
        return usage("name the tree, and its files or `--all`: `TREE PATH…` or `TREE --all`");
    };
    let paths = paths(which)?;
    match (&paths, which.all) {
        (Some(_), true) => return usage("name files, or give `--all`, and not both"),
        (None, false) => return usage("name files below the tree, or give `--all`"),
        (Some(_), false) | (None, true) => {}
    }
    Ok(RemedyRequest {
        tree,
        paths: paths.map(|paths| paths.iter().map(NamedPath::from).collect()),
        all: which.all,
        kind: kind.map(|kind| kind.kind.clone()),
        dry_run,
    })
}

fn remedy(kind: RemedyKind, which: &Which, of: Option<&Kind>, dry_run: bool) -> Result<(), Failure> {
    let request = request(which, of, dry_run)?;
    let access = if dry_run { Access::Read } else { Access::Write };
    match Source::open(&which.look.place, access)? {
        Source::Remote(client) => {
            let path = match kind {
                RemedyKind::RemoveRows => "/api/v1/missing/remove".to_owned(),
                RemedyKind::Adopt | RemedyKind::Quarantine | RemedyKind::Delete | RemedyKind::Restore => {
                    format!("/api/v1/orphans/{kind}")
                }
            };
            let answer: Value = call(&client, Method::POST, &path, Some(serde_json::to_value(&request)?))?;
            if dry_run {
                return rehearsed(which, &answer);
            }
            job::wait(&client, job::begun(&answer)?)?.tell(which.look.json)
        }
        Source::Local(mut local) => {
            local.look()?;
            let wanted = local.hub.prepare(kind, &request).map_err(refused)?;
            let hub = local.hub.clone();
            if dry_run {
                let rehearsal = local.guard.rehearse(&hub, &wanted).map_err(Failure::failed)?;
                return rehearsed(which, &serde_json::to_value(rehearsal)?);
            }
            local.guard.settle()?;
            let id = hub.enrol(&wanted);
            local.guard.remedy(&hub, id, &wanted, &who(), &|| false)?;
            job::ended(&local, id)?.tell(which.look.json)
        }
    }
}

/// Shows what an adoption would do.
fn rehearsed(which: &Which, rehearsal: &Value) -> Result<(), Failure> {
    if which.look.json {
        return print_json(rehearsal);
    }
    print(&show_rehearsal(rehearsal))
}

fn show_rehearsal(rehearsal: &Value) -> String {
    let items = rehearsal["items"].as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    for item in &items {
        // Writing to a text cannot fail.
        let _ = write!(out, "`{}`: ", word(item, "path"));
        let row = &item["row"];
        if !row.is_object() {
            let _ = writeln!(out, "{}: {}", word(item, "outcome"), word(item, "detail"));
            continue;
        }
        let columns = row.as_object().into_iter().flatten();
        let columns: Vec<String> = columns.map(|(name, value)| format!("{name}={value}")).collect();
        let _ = writeln!(out, "would be inserted: {}", columns.join(" "));
    }
    let would = items.iter().filter(|item| word(item, "outcome") == "would_insert").count();
    let total = rehearsal["total"].as_u64().unwrap_or(0);
    let shown =
        if total > items.len() as u64 { format!(", of which {} are shown", items.len()) } else { String::new() };
    let _ = writeln!(out, "dry run of {total} recordings{shown}: {would} rows would be inserted; nothing was written");
    out
}

#[cfg(test)]
#[path = "orphans_tests.rs"]
mod tests;
