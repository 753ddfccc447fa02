//! Alerts as rows: which fire, and which channel was told of them.

use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};

use super::database::{Database, DatabaseError};
use super::fact_rows::{FactRows, from_fact_rows, to_fact_rows};
use crate::domain::alert::{AlertName, Case, Condition, Subject, UnreclaimedItem};
use crate::domain::alert_book::Firing;
use crate::domain::deletion::{Cause, Unreclaimed};
use crate::domain::names::{CatalogueId, MediaServerId, TreeId, VolumeId};
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::settings::Severity;
use crate::domain::units::{Bytes, Timestamp};

/// An alert that fires, or that has ended while some channel was not told so yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAlert {
    /// When its condition was first seen.
    pub since: Timestamp,
    /// When it resolved.
    pub ended: Option<Timestamp>,
    /// As seen last.
    pub condition: Condition,
}

/// A channel was told that an alert fires, and owes its resolution; or it should have been, and was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which severity it was told.
    pub severity: Severity,
    /// When the last message about it was queued.
    pub at: Timestamp,
    /// Id of the first message that told it.
    pub message: String,
    /// That message certainly did not arrive: no resolution is owed, and the alert is told later as if for the first time.
    pub lost: bool,
}

/// How a subject stands in a row.
pub(super) fn subject_text(subject: &Subject) -> String {
    subject.label().map_or_else(|| "guard".to_owned(), |(label, name)| format!("{label}:{name}"))
}

pub(super) fn subject_of(text: &str) -> Option<Subject> {
    match text.split_once(':') {
        None => (text == "guard").then_some(Subject::Guard),
        Some(("volume", name)) => Some(Subject::Volume(VolumeId::new(name))),
        Some(("tree", name)) => Some(Subject::Tree(TreeId::new(name))),
        Some(("catalogue", name)) => Some(Subject::Catalogue(CatalogueId::new(name))),
        Some(("media_server", name)) => Some(Subject::MediaServer(MediaServerId::new(name))),
        Some(_) => None,
    }
}

#[derive(Serialize, Deserialize)]
struct ConditionRow {
    severity: String,
    case: String,
    facts: FactRows,
    files: u64,
    bytes: u64,
    items: Vec<ItemRow>,
}

#[derive(Serialize, Deserialize)]
struct ItemRow {
    tree: String,
    path: String,
    encoded: bool,
    bytes: u64,
    cause: String,
    #[serde(default)]
    failure: Option<String>,
    detail: String,
    holder: Option<String>,
}

fn to_row(condition: &Condition) -> String {
    let item = |item: &UnreclaimedItem| {
        let (path, encoded) = item.path.show();
        ItemRow {
            tree: item.tree.to_string(),
            path,
            encoded,
            bytes: item.bytes.0,
            cause: item.cause.to_string(),
            failure: item.failure.map(|cause| cause.to_string()),
            detail: item.detail.clone(),
            holder: item.holder.clone(),
        }
    };
    let row = ConditionRow {
        severity: condition.severity.as_str().to_owned(),
        case: condition.case.to_string(),
        facts: to_fact_rows(&condition.facts),
        files: condition.unreclaimed.files,
        bytes: condition.unreclaimed.bytes.0,
        items: condition.items.iter().map(item).collect(),
    };
    serde_json::to_string(&row).expect("texts and numbers always have a JSON form")
}

/// The condition of a row, or nothing if this version does not understand it.
fn from_row(alert: &str, subject: &str, json: &str) -> Option<Condition> {
    let row: ConditionRow = serde_json::from_str(json).ok()?;
    let item = |item: ItemRow| {
        Some(UnreclaimedItem {
            tree: TreeId::new(&item.tree),
            path: RelPath::parse(&item.path, item.encoded).ok()?,
            bytes: Bytes(item.bytes),
            cause: Unreclaimed::from_word(&item.cause)?,
            failure: item.failure.as_deref().and_then(Cause::from_word),
            detail: item.detail,
            holder: item.holder,
        })
    };
    Some(Condition {
        alert: AlertName::from_word(alert)?,
        severity: Severity::from_word(&row.severity)?,
        subject: subject_of(subject)?,
        case: Case::from_word(&row.case)?,
        facts: from_fact_rows(row.facts)?,
        unreclaimed: Tally { files: row.files, bytes: Bytes(row.bytes) },
        items: row.items.into_iter().filter_map(item).collect(),
    })
}

/// Writes or forgets one alert.
pub(super) fn write_alert(
    transaction: &Transaction<'_>,
    alert: AlertName,
    subject: &Subject,
    kept: Option<&StoredAlert>,
) -> rusqlite::Result<()> {
    let (alert, subject) = (alert.as_str(), subject_text(subject));
    match kept {
        Some(kept) => transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO alerts(alert, subject, since, ended, condition) VALUES(?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                alert,
                subject,
                kept.since.millis(),
                kept.ended.map(Timestamp::millis),
                to_row(&kept.condition)
            ])
            .map(drop),
        None => transaction
            .prepare_cached("DELETE FROM alerts WHERE alert = ?1 AND subject = ?2")?
            .execute(params![alert, subject])
            .map(drop),
    }
}

/// Writes or forgets what one channel was told.
pub(super) fn write_told(
    transaction: &Transaction<'_>,
    (channel, alert, subject): (&str, AlertName, &Subject),
    told: Option<&Told>,
) -> rusqlite::Result<()> {
    let (alert, subject) = (alert.as_str(), subject_text(subject));
    match told {
        Some(told) => transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO told(channel, alert, subject, severity, at, message, lost)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                channel,
                alert,
                subject,
                told.severity.as_str(),
                told.at.millis(),
                told.message,
                told.lost
            ])
            .map(drop),
        None => transaction
            .prepare_cached("DELETE FROM told WHERE channel = ?1 AND alert = ?2 AND subject = ?3")?
            .execute(params![channel, alert, subject])
            .map(drop),
    }
}

/// All alerts. Rows that this version does not understand are left out.
pub(super) fn read_alerts(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<StoredAlert>> {
    let mut statement = connection.prepare("SELECT alert, subject, since, ended, condition FROM alerts")?;
    let rows = statement.query_map([], |row| {
        let (alert, subject, json): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(4)?);
        Ok(from_row(&alert, &subject, &json).map(|condition| (row.get(2), row.get::<_, Option<i64>>(3), condition)))
    })?;
    let mut out = Vec::new();
    for row in rows {
        if let Some((since, ended, condition)) = row? {
            let (since, ended) = (Timestamp::from_millis(since?), ended?.map(Timestamp::from_millis));
            out.push(StoredAlert { since, ended, condition });
        }
    }
    Ok(out)
}

/// Who was told of what.
pub(super) fn read_told(
    connection: &rusqlite::Connection,
) -> rusqlite::Result<Vec<(String, AlertName, Subject, Told)>> {
    let mut statement = connection.prepare("SELECT channel, alert, subject, severity, at, message, lost FROM told")?;
    let rows = statement.query_map([], |row| {
        let words: (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let (at, message) = (Timestamp::from_millis(row.get(4)?), row.get::<_, String>(5)?);
        Ok((row.get::<_, String>(0)?, words, at, message, row.get::<_, bool>(6)?))
    })?;
    let mut out = Vec::new();
    for row in rows {
        let (channel, (alert, subject, severity), at, message, lost) = row?;
        let known = (AlertName::from_word(&alert), subject_of(&subject), Severity::from_word(&severity));
        if let (Some(alert), Some(subject), Some(severity)) = known {
            out.push((channel, alert, subject, Told { severity, at, message, lost }));
        }
    }
    Ok(out)
}

impl Database {
    /// The alerts that fired when the guard stopped, for [`crate::domain::alert_book::AlertBook::restore`].
    ///
    /// # Errors
    /// What SQLite says.
    pub fn firing(&self) -> Result<Vec<Firing>, DatabaseError> {
        let alerts = self.with("read the alerts", |connection| read_alerts(connection))?;
        let firing = alerts.into_iter().filter(|alert| alert.ended.is_none());
        Ok(firing.map(|alert| Firing { since: alert.since, condition: alert.condition }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_known_again_by_its_text_and_a_later_versions_is_not_guessed() {
        let name = "a:b";
        let subjects = [
            (Subject::Guard, "guard"),
            (Subject::Volume(VolumeId::new(name)), "volume:a:b"),
            (Subject::Tree(TreeId::new(name)), "tree:a:b"),
            (Subject::Catalogue(CatalogueId::new(name)), "catalogue:a:b"),
            (Subject::MediaServer(MediaServerId::new(name)), "media_server:a:b"),
        ];
        for (subject, text) in subjects {
            assert_eq!((subject_text(&subject).as_str(), subject_of(text)), (text, Some(subject)));
        }
        for text in ["", "weather", "weather:fine"] {
            assert_eq!(subject_of(text), None, "{text}");
        }
    }
}
