//! What alerts say: of the facts of a condition, the template of its alert makes the summary, an empty line, and the description.

use std::collections::BTreeMap;

use serde::Serialize;

use super::body::{Item, clean, item, one_line};
use super::template::Templates;
use crate::domain::alert::{Condition, ITEMS, Wording};
use crate::domain::fact::{Fact, Facts};

/// A name, a path or what the system said is no longer.
const TEXT: usize = 500;

/// What a template of an alert is given.
#[derive(Debug, Serialize)]
pub(super) struct Situation {
    alert: &'static str,
    severity: &'static str,
    /// `volume`, `tree`, `catalogue` or `guard`.
    about: &'static str,
    /// Of the volume, the tree or the catalogue; empty for the guard.
    name: String,
    case: &'static str,
    facts: BTreeMap<&'static str, Value>,
    files: u64,
    bytes: u64,
    items: Vec<Item>,
}

/// One fact: bytes and counts as numbers, spans as seconds, moments as text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    Names(Vec<String>),
    Counts(Vec<Counted>),
    Sizes(Vec<Sized>),
    Reason(Why),
}

#[derive(Debug, Serialize)]
struct Counted {
    name: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Sized {
    name: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Why {
    word: String,
    text: String,
    #[serde(flatten)]
    facts: BTreeMap<&'static str, Value>,
}

impl Situation {
    /// All texts are on one line and without what steers, so that none can end the summary or begin anything.
    pub(super) fn new(condition: &Condition) -> Self {
        let label = condition.subject.label();
        let (about, name) = label.map_or(("guard", String::new()), |(label, name)| (label, text(name)));
        Self {
            alert: condition.alert.as_str(),
            severity: condition.severity.as_str(),
            about,
            name,
            case: condition.case.as_str(),
            facts: values(&condition.facts),
            files: condition.unreclaimed.files,
            bytes: condition.unreclaimed.bytes.0,
            items: condition.items.iter().take(ITEMS).map(item).collect(),
        }
    }
}

fn text(text: &str) -> String {
    one_line(text, TEXT)
}

fn values(facts: &Facts) -> BTreeMap<&'static str, Value> {
    facts.iter().map(|(name, fact)| (name.as_str(), value(fact))).collect()
}

fn value(fact: &Fact) -> Value {
    match fact {
        Fact::Text(of) => Value::Text(text(of)),
        Fact::Bytes(bytes) => Value::Number(bytes.0),
        Fact::Count(count) => Value::Number(*count),
        Fact::Flag(flag) => Value::Flag(*flag),
        Fact::Span(span) => Value::Number(span.as_secs()),
        Fact::Time(at) => Value::Text(at.to_string()),
        Fact::Names(names) => Value::Names(names.iter().map(|name| text(name)).collect()),
        Fact::Counts(counts) => {
            Value::Counts(counts.iter().map(|(name, count)| Counted { name: text(name), count: *count }).collect())
        }
        Fact::Sizes(sizes) => {
            Value::Sizes(sizes.iter().map(|(name, bytes)| Sized { name: text(name), bytes: bytes.0 }).collect())
        }
        Fact::Reason(reason) => {
            Value::Reason(Why { word: text(&reason.word), text: text(&reason.text), facts: values(&reason.facts) })
        }
    }
}

/// Name of the template of an alert.
pub(super) fn template_of(alert: &str) -> String {
    format!("{alert}.txt")
}

/// The first line of a text is the summary; what follows is the description.
pub(super) fn split(rendered: &str) -> Wording {
    let (summary, description) = rendered.trim().split_once('\n').unwrap_or((rendered.trim(), ""));
    Wording { summary: clean(summary.trim(), 1000), description: clean(description.trim(), 8000) }
}

impl Templates {
    /// What an alert says.
    pub(super) fn wording(&self, condition: &Condition) -> Wording {
        let situation = Situation::new(condition);
        let name = template_of(situation.alert);
        // An alert without words would be none.
        let said = |text: String| Some(split(&text)).filter(|wording| !wording.summary.is_empty());
        let own = self.rendered_own(&name, &situation).and_then(said);
        own.or_else(|| self.rendered_built_in(&name, &situation).and_then(said)).unwrap_or_else(|| Wording {
            summary: format!("{} {}", situation.alert, situation.name).trim_end().to_owned(),
            description: String::new(),
        })
    }

    /// What the message says that tries a channel.
    pub(super) fn wording_of_test(&self, channel: &str) -> Wording {
        #[derive(Serialize)]
        struct Test {
            name: String,
        }
        split(&self.render(&template_of("Test"), &Test { name: text(channel) }))
    }
}

#[cfg(test)]
#[path = "wording_tests.rs"]
mod tests;
