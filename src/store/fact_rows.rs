//! The facts of an alert as they stand in its row.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::fact::{Fact, FactName, Facts, Reason};
use crate::domain::units::{Bytes, Timestamp};

/// Facts by name.
pub(super) type FactRows = BTreeMap<String, FactRow>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FactRow {
    Text(String),
    Bytes(u64),
    Count(u64),
    Flag(bool),
    Millis(u64),
    Time(i64),
    Names(Vec<String>),
    Counts(Vec<(String, u64)>),
    Sizes(Vec<(String, u64)>),
    Reason { word: String, text: String, facts: FactRows },
}

pub(super) fn to_fact_rows(facts: &Facts) -> FactRows {
    facts.iter().map(|(name, fact)| (name.to_string(), to_row(fact))).collect()
}

/// The facts of a row, or nothing if this version does not know one of them.
pub(super) fn from_fact_rows(rows: FactRows) -> Option<Facts> {
    rows.into_iter().map(|(name, row)| Some((FactName::from_word(&name)?, from_row(row)?))).collect()
}

fn to_row(fact: &Fact) -> FactRow {
    match fact {
        Fact::Text(text) => FactRow::Text(text.clone()),
        Fact::Bytes(bytes) => FactRow::Bytes(bytes.0),
        Fact::Count(count) => FactRow::Count(*count),
        Fact::Flag(flag) => FactRow::Flag(*flag),
        Fact::Span(span) => FactRow::Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        Fact::Time(at) => FactRow::Time(at.millis()),
        Fact::Names(names) => FactRow::Names(names.clone()),
        Fact::Counts(counts) => FactRow::Counts(counts.clone()),
        Fact::Sizes(sizes) => FactRow::Sizes(sizes.iter().map(|(name, bytes)| (name.clone(), bytes.0)).collect()),
        Fact::Reason(reason) => {
            FactRow::Reason { word: reason.word.clone(), text: reason.text.clone(), facts: to_fact_rows(&reason.facts) }
        }
    }
}

fn from_row(row: FactRow) -> Option<Fact> {
    Some(match row {
        FactRow::Text(text) => Fact::Text(text),
        FactRow::Bytes(bytes) => Fact::Bytes(Bytes(bytes)),
        FactRow::Count(count) => Fact::Count(count),
        FactRow::Flag(flag) => Fact::Flag(flag),
        FactRow::Millis(millis) => Fact::Span(Duration::from_millis(millis)),
        FactRow::Time(millis) => Fact::Time(Timestamp::from_millis(millis)),
        FactRow::Names(names) => Fact::Names(names),
        FactRow::Counts(counts) => Fact::Counts(counts),
        FactRow::Sizes(sizes) => Fact::Sizes(sizes.into_iter().map(|(name, bytes)| (name, Bytes(bytes))).collect()),
        FactRow::Reason { word, text, facts } => Fact::Reason(Reason { word, text, facts: from_fact_rows(facts)? }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fact_survives_a_round_trip() {
        let detail = (FactName::Detail, Fact::Text("\u{202e}\n\"".to_owned()));
        let reason = Reason { word: "failed".to_owned(), text: "it failed".to_owned(), facts: Facts::from([detail]) };
        let facts = Facts::from([
            (FactName::Cap, Fact::Text("run_share".to_owned())),
            (FactName::Size, Fact::Bytes(Bytes(u64::MAX))),
            (FactName::Failed, Fact::Count(7)),
            (FactName::Complete, Fact::Flag(false)),
            (FactName::Lasting, Fact::Span(Duration::from_millis(1500))),
            (FactName::Since, Fact::Time(Timestamp::from_millis(-1))),
            (FactName::Holders, Fact::Names(vec!["vlc (pid 7)".to_owned()])),
            (FactName::Causes, Fact::Counts(vec![("io".to_owned(), 2)])),
            (FactName::Largest, Fact::Sizes(vec![("/a".to_owned(), Bytes(9))])),
            (FactName::Why, Fact::Reason(reason)),
        ]);
        let json = serde_json::to_string(&to_fact_rows(&facts)).unwrap();
        assert_eq!(from_fact_rows(serde_json::from_str(&json).unwrap()), Some(facts));
    }

    #[test]
    fn a_fact_of_a_later_version_is_not_guessed() {
        for json in
            [r#"{"weather":{"text":"fine"}}"#, r#"{"why":{"reason":{"word":"","text":"","facts":{"x":{"count":1}}}}}"#]
        {
            assert_eq!(from_fact_rows(serde_json::from_str(json).unwrap()), None, "{json}");
        }
    }
}
