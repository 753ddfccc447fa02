//! `alerts`: what is wrong, what nobody wants to hear of for a while, and whether a channel works.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::args::{Alerts, Look, Place, SilenceArgs};
use super::client::Client;
use super::exit::{Failure, complain, print, print_json};
use super::reclaim::who;
use super::records::word;
use super::source::{Access, Local, PAGE, Source, call, configuration, escaped, failure, state_of};
use crate::config::duration;
use crate::daemon::{Alerts as Book, Hub};
use crate::domain::units::Timestamp;
use crate::server::records::{ChannelTest, NewSilence};
use crate::store::{Database, Journal};
use crate::system::{Clock as _, SystemClock};

/// How long a channel may take that is tried: longer than the daemon's own deadline for it.
const TRY: Duration = Duration::from_secs(120);

/// `alerts`.
pub(super) fn alerts(command: Alerts) -> Result<(), Failure> {
    match command {
        Alerts::List(look) => list(&look),
        Alerts::Silence { look, silence } => match (silence.remove, wanted(&silence)?) {
            (Some(id), None) => remove(&look, id),
            (None, Some(wanted)) => make(&look, &wanted),
            (None, None) => silences(&look, silence.ended),
            (Some(_), Some(_)) => Err(Failure::Usage("`--remove` stands alone: it names one silence".to_owned())),
        },
        Alerts::Test { look, channel } => test(&look, &channel),
    }
}

/// The alerts of a state that no guard has open.
fn book(local: &Local) -> Book {
    let book = Book::new(local.hub.clone(), &local.config.notify, local.database.clone(), "guard.db".into());
    book.set_homes(local.guard.homes());
    book
}

/// What this process would keep in memory alone ends with it.
fn durable(local: &Local) -> Result<(), Failure> {
    if local.database.in_memory() {
        return Err(Failure::failed(
            "the database of the state cannot be used now, so no silence can be kept or ended",
        ));
    }
    Ok(())
}

/// The items of a list, of the running guard or of the state.
fn items(look: &Look, path: &str, of: impl FnOnce(&Book) -> Result<Value, Failure>) -> Result<Vec<Value>, Failure> {
    match Source::open(&look.place, Access::Read)? {
        Source::Remote(client) => pages(&client, path),
        Source::Local(local) => Ok(of(&book(&local))?.as_array().cloned().unwrap_or_default()),
    }
}

/// The items of all pages.
fn pages(client: &Client, path: &str) -> Result<Vec<Value>, Failure> {
    let mut out = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let page: Value = call(client, Method::GET, &format!("{path}limit={PAGE}&cursor={cursor}"), None)?;
        out.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return Ok(out),
        }
    }
}

/// The alerts that fire, of a running guard.
pub(super) fn firing(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut items = pages(client, "/api/v1/alerts?")?;
    items.retain(|alert| alert["state"] == "firing");
    Ok(items)
}

/// Which alert, of what, how bad, and since when.
pub(super) fn about(alert: &Value) -> String {
    let of = alert["labels"].as_object().and_then(|labels| labels.iter().next());
    let of = of.map(|(label, name)| format!(" of {label} {}", name.as_str().unwrap_or_default()));
    let (name, severity, since) = (word(alert, "alert"), word(alert, "severity"), word(alert, "since"));
    format!("{name}{} ({severity}), from {since}", of.unwrap_or_default())
}

fn list(look: &Look) -> Result<(), Failure> {
    let items = items(look, "/api/v1/alerts?", |book| Ok(serde_json::to_value(book.list())?))?;
    if look.json {
        return print_json(&json!({"items": items, "next": null}));
    }
    let mut out = String::new();
    for alert in &items {
        let end = alert["ended"].as_str().map(|ended| format!(" to {ended}")).unwrap_or_default();
        let _ = writeln!(out, "{} {}{end}: {}", word(alert, "state"), about(alert), word(alert, "summary"));
        let by = &alert["muted_by"];
        if let Some(id) = by["silence"].as_u64() {
            let _ = writeln!(out, "  MUTED by silence {id} until {}", word(by, "until"));
        } else if by.is_object() {
            let _ = writeln!(out, "  MUTED by {}, which is critical and says more", word(by, "alert"));
        }
    }
    print(if items.is_empty() { "no alert is pending or firing\n" } else { &out })
}

/// The silence that is asked for, if one is.
fn wanted(args: &SilenceArgs) -> Result<Option<NewSilence>, Failure> {
    let named = args.alert.is_some() || args.of_tree.is_some() || args.volume.is_some() || args.all;
    match (&args.until, &args.reason) {
        (None, None) if !named => Ok(None),
        (Some(until), Some(reason)) => Ok(Some(NewSilence {
            alert: args.alert.clone(),
            tree: args.of_tree.clone(),
            volume: args.volume.clone(),
            all: args.all,
            until: moment(until)?.to_string(),
            reason: reason.clone(),
        })),
        _ => Err(Failure::Usage("a silence needs its end (`--until 2h`) and a reason (`--reason …`)".to_owned())),
    }
}

/// A time, or a span from now on.
pub(super) fn moment(text: &str) -> Result<Timestamp, Failure> {
    if let Some(span) = duration(text) {
        return Ok(SystemClock.now().plus(span));
    }
    let at: Option<jiff::Timestamp> = text.parse().ok();
    at.map(|at| Timestamp::from_millis(at.as_millisecond())).ok_or_else(|| {
        Failure::Usage(format!("`{text}` is neither a time, such as 2026-11-22T12:21:41Z, nor a span, such as 2h"))
    })
}

fn make(look: &Look, wanted: &NewSilence) -> Result<(), Failure> {
    let made: Value = match Source::open(&look.place, Access::Write)? {
        Source::Remote(client) => call(&client, Method::POST, "/api/v1/silences", Some(serde_json::to_value(wanted)?))?,
        Source::Local(local) => {
            durable(&local)?;
            let made = book(&local).silence(wanted, &who());
            serde_json::to_value(made.map_err(|refusal| failure(refusal.status, refusal.message))?)?
        }
    };
    if made["durable"] == false {
        complain("the silence is kept in memory until the state can be written; a restart before that forgets it");
    }
    if look.json {
        return print_json(&made);
    }
    print(&format!("silence {} is in effect until {}\n", made["id"], wanted.until))
}

fn remove(look: &Look, id: u64) -> Result<(), Failure> {
    match Source::open(&look.place, Access::Write)? {
        Source::Remote(client) => {
            let _: Value = call(&client, Method::DELETE, &format!("/api/v1/silences/{id}"), None)?;
        }
        Source::Local(local) => {
            durable(&local)?;
            let ended = book(&local).end_silence(id, &who());
            ended.map_err(|refusal| failure(refusal.status, refusal.message))?;
        }
    }
    if look.json {
        return print_json(&json!({"ended": id}));
    }
    print(&format!("silence {id} is ended: what still fires is told\n"))
}

fn silences(look: &Look, ended: bool) -> Result<(), Failure> {
    let path = format!("/api/v1/silences?ended={ended}&");
    let items = items(look, &path, |book| Ok(serde_json::to_value(book.silences(ended))?))?;
    if look.json {
        return print_json(&json!({"items": items, "next": null}));
    }
    let mut out = String::new();
    for silence in &items {
        let of = |key: &str| silence[key].as_str().map(|name| format!(" of {key} {name}")).unwrap_or_default();
        let end = match silence["ended"].as_str() {
            Some(ended) => format!("ended {ended}"),
            None => format!("until {}", word(silence, "until")),
        };
        let _ = writeln!(
            out,
            "{} {}{}{}, from {}, {end}, by {}: {}",
            silence["id"],
            silence["alert"].as_str().unwrap_or("all alerts"),
            of("tree"),
            of("volume"),
            word(silence, "created"),
            word(silence, "who"),
            word(silence, "reason")
        );
    }
    print(if items.is_empty() { "nothing is silenced\n" } else { &out })
}

fn test(look: &Look, channel: &str) -> Result<(), Failure> {
    let tested = match running(&look.place)? {
        Some(client) => {
            let path = format!("/api/v1/channels/{}/test", escaped(channel));
            let (status, answer) = client.patient(TRY).call(Method::POST, &path, None)?;
            if status != 200 {
                // Whatever keeps it from being sent, it is not delivered.
                let message = answer["error"]["message"].as_str().map_or_else(|| answer.to_string(), str::to_owned);
                return Err(Failure::failed(message));
            }
            serde_json::from_value(answer)?
        }
        None => here(&look.place, channel)?,
    };
    let ChannelTest { delivered, transcript } = &tested;
    if look.json {
        print_json(&tested)?;
    } else {
        transcript.iter().try_for_each(|line| print(&format!("{}\n", plain(line))))?;
    }
    if *delivered { Ok(()) } else { Err(Failure::Said(1)) }
}

fn running(place: &Place) -> Result<Option<Client>, Failure> {
    Ok(Client::connect(&state_of(place)?.0))
}

/// Sends it from this process, by what the configuration says.
fn here(place: &Place, channel: &str) -> Result<ChannelTest, Failure> {
    let config = configuration(place)?;
    let journal = Arc::new(Journal::detached(&config.state.join("journal")));
    let hub = Arc::new(Hub::new(journal, Arc::new(SystemClock)));
    let book = Book::new(hub, &config.notify, Arc::new(Database::memory()?), "guard.db".into());
    book.test_channel(channel).map_err(|refusal| Failure::failed(refusal.message))
}

/// A receiver's own words must not steer the terminal.
fn plain(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(named: bool, until: Option<&str>, reason: Option<&str>) -> SilenceArgs {
        SilenceArgs {
            alert: named.then(|| "CapTripped".to_owned()),
            of_tree: None,
            volume: None,
            all: false,
            until: until.map(str::to_owned),
            reason: reason.map(str::to_owned),
            remove: None,
            ended: false,
        }
    }

    #[test]
    fn a_silence_is_asked_for_whole_or_not_at_all() {
        for (args, expected) in [
            (args(false, None, None), "none"),
            (args(true, Some("2h"), Some("why")), "one"),
            (args(true, Some("2h"), None), "needs its end"),
            (args(true, None, Some("why")), "needs its end"),
            (args(true, None, None), "needs its end"),
            (args(true, Some("tomorrow"), Some("why")), "neither a time"),
        ] {
            let got = match wanted(&args) {
                Ok(None) => "none".to_owned(),
                Ok(Some(_)) => "one".to_owned(),
                Err(failure) => format!("{failure:?}"),
            };
            assert!(got.contains(expected), "{args:?}: {got}");
        }
    }

    #[test]
    fn an_end_is_a_time_or_a_span_from_now_on() {
        assert_eq!(moment("2026-11-22T08:00:00+08:00").unwrap().to_string(), "2026-11-22T00:00:00Z");
        let hour = moment("1h").unwrap().since(SystemClock.now());
        assert!((3590..=3600).contains(&hour.as_secs()), "{hour:?}");
    }

    #[test]
    fn what_a_receiver_says_cannot_steer_a_terminal() {
        assert_eq!(plain("< 250 \u{1b}[31mok\u{7}"), "< 250 \u{fffd}[31mok\u{fffd}");
    }
}
