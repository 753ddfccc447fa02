//! `scan`, `plan`, `status`: what is there, and what would go.

use http::Method;

use super::alerts::firing;
use super::args::Look;
use super::exit::{Failure, print, print_json};
use super::screen;
use super::source::{Access, Source, call, escaped};
use crate::server::shapes::{Channel, Page, Plan, Status};

/// Asks for the status.
pub(super) fn ask(source: &mut Source) -> Result<Status, Failure> {
    match source {
        Source::Remote(client) => call(client, Method::GET, "/api/v1/status", None),
        Source::Local(local) => {
            local.look()?;
            Ok(local.hub.status())
        }
    }
}

/// Asks for the plans, of one volume or of all; in this process the trees were looked at before.
pub(super) fn plans(source: &Source, volume: Option<&str>) -> Result<Page<Plan>, Failure> {
    let one = |plan: Plan| Page { items: vec![plan], next: None };
    match (source, volume) {
        (Source::Remote(client), None) => call(client, Method::GET, "/api/v1/plan", None),
        (Source::Remote(client), Some(name)) => {
            Ok(one(call(client, Method::GET, &format!("/api/v1/plan?volume={}", escaped(name)), None)?))
        }
        (Source::Local(local), volume) => match local.hub.plans(volume) {
            Ok(crate::server::Plans::All(page)) => Ok(page),
            Ok(crate::server::Plans::One(plan)) => Ok(one(*plan)),
            Err(refusal) => Err(Failure::failed(refusal.message)),
        },
    }
}

/// Why a recording goes or stays.
fn why(source: &Source, path: &str) -> Result<Vec<String>, Failure> {
    match source {
        Source::Remote(client) => {
            let path = format!("/api/v1/plan/explain?path={}", escaped(path));
            Ok(call::<Page<String>>(client, Method::GET, &path, None)?.items)
        }
        Source::Local(local) => local.hub.explain(path, false).map_err(|refusal| Failure::failed(refusal.message)),
    }
}

/// `scan`.
pub(super) fn scan(wanted: &Look) -> Result<(), Failure> {
    let mut source = Source::open(&wanted.place, Access::Read)?;
    let status = ask(&mut source)?;
    if wanted.json { print_json(&status) } else { print(&screen::scan(&status)?) }
}

/// `status`.
pub(super) fn status(wanted: &Look) -> Result<(), Failure> {
    let mut source = Source::open(&wanted.place, Access::Read)?;
    let status = ask(&mut source)?;
    if wanted.json {
        return print_json(&status);
    }
    // Without a daemon nobody looks for what is wrong.
    let firing = match &source {
        Source::Remote(client) => Some(firing(client)?),
        Source::Local(_) => None,
    };
    if firing.is_none() {
        print("No guard is running here: this is what is seen now, and nobody watches it.\n")?;
    }
    print(&screen::status(&status, firing.as_deref(), &channels(&source)?)?)
}

/// Asks for the channels. Without a daemon nobody delivers anything.
fn channels(source: &Source) -> Result<Vec<Channel>, Failure> {
    match source {
        Source::Remote(client) => {
            Ok(call::<Page<Channel>>(client, Method::GET, "/api/v1/channels?limit=1000", None)?.items)
        }
        Source::Local(_) => Ok(Vec::new()),
    }
}

/// `plan`.
pub(super) fn plan(wanted: &Look, volume: Option<&str>, explain: Option<&str>) -> Result<(), Failure> {
    let mut source = Source::open(&wanted.place, Access::Read)?;
    let status = ask(&mut source)?;
    if let Some(path) = explain {
        let sentences = why(&source, path)?;
        return if wanted.json {
            print_json(&Page { items: sentences, next: None })
        } else {
            print(&format!("{}\n", sentences.join("\n")))
        };
    }
    let plans = plans(&source, volume)?;
    match (wanted.json, volume) {
        (true, Some(_)) => print_json(&plans.items.first()),
        (true, None) => print_json(&plans),
        (false, _) => print(&screen::plan(&status, &plans.items)?),
    }
}
