//! The outbox as rows: messages that are due, and the last that were sent or dropped.

use std::sync::Arc;

use rusqlite::{Row, params};

use super::alert_rows::{StoredAlert, Told, read_alerts, read_told, subject_of, subject_text, write_alert, write_told};
use super::database::{Database, DatabaseError};
use super::health_rows::{StoredHealth, read_health, write_health};
use super::silence_rows::{read_silences, write_silence};
use crate::domain::alert::{AlertName, Subject};
use crate::domain::deletion::words;
use crate::domain::settings::Severity;
use crate::domain::silence::Silence;
use crate::domain::units::Timestamp;

/// How many messages that were sent or dropped are kept to be shown.
const KEPT: u32 = 1000;

/// The last error of a message that was taken back, since nobody needs it any more: it is not lost.
pub const SUPERSEDED: &str = "superseded: it was over before it was sent";

/// The same, of one that nobody is to hear for now.
pub const MUTED: &str = "superseded: its alert was muted before it was sent";

/// The same, of a resolution whose alert its receiver certainly never heard of.
pub const UNHEARD: &str = "superseded: its receiver never heard that the alert fired";

/// So many messages that were given up are read at a start, to be shown.
const SHOWN: u32 = 50;

words! {
    /// What a message tells.
    MessageKind {
        /// An alert fires.
        Firing = "firing",
        /// It no longer does.
        Resolved = "resolved",
    }
}

words! {
    /// What became of a message.
    MessageState {
        /// It will be sent.
        Queued = "queued",
        /// It was accepted.
        Sent = "sent",
        /// It was given up; its last error says why.
        Dropped = "dropped",
    }
}

/// One message to one channel about one alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place in the order.
    pub seq: i64,
    /// Its id: the same in every attempt.
    pub id: String,
    /// Where it goes.
    pub channel: String,
    /// What it is about: its group.
    pub subject: Subject,
    /// Which alert.
    pub alert: AlertName,
    /// Firing or resolved.
    pub kind: MessageKind,
    /// How bad the alert is.
    pub severity: Severity,
    /// The webhook's body, of which the other channels make theirs.
    pub body: Arc<str>,
    /// The message that this one continues: the first that told of the alert.
    pub reply_to: Option<String>,
    /// When it was queued.
    pub created: Timestamp,
    /// Not before this is it tried.
    pub next_attempt: Timestamp,
    /// How often a send was begun.
    pub attempts: u32,
    /// What the last one said.
    pub last_error: Option<String>,
    /// Queued, sent or dropped.
    pub state: MessageState,
}

/// Rows that have changed together, and are written together.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// Messages, as they are now.
    pub messages: Vec<Message>,
    /// Alerts, as they are now, or nothing if they are over and told.
    pub alerts: Vec<(AlertName, Subject, Option<StoredAlert>)>,
    /// What channels were told, or nothing if they owe nothing more.
    pub told: Vec<(String, AlertName, Subject, Option<Told>)>,
    /// Silences, as they are now, or nothing if they ended long ago.
    pub silences: Vec<(u64, Option<Silence>)>,
    /// How channels do, or nothing of those that are gone.
    pub channels: Vec<(String, Option<StoredHealth>)>,
}

impl Batch {
    /// There is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let rows = [self.messages.len(), self.alerts.len(), self.told.len(), self.silences.len(), self.channels.len()];
        rows == [0; 5]
    }
}

/// All that a restart needs.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The queued messages, in order.
    pub messages: Vec<Message>,
    /// The last messages that were given up, the newest first.
    pub dropped: Vec<Message>,
    /// The number for the next message.
    pub next_seq: i64,
    /// The alerts.
    pub alerts: Vec<StoredAlert>,
    /// What channels were told.
    pub told: Vec<(String, AlertName, Subject, Told)>,
    /// The silences.
    pub silences: Vec<Silence>,
    /// How the channels did.
    pub channels: Vec<(String, StoredHealth)>,
}

impl Database {
    /// Writes a batch, all or nothing, and forgets the oldest of what is done.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn write_outbox(&self, batch: &Batch) -> Result<(), DatabaseError> {
        self.with("write the outbox", |connection| {
            let transaction = connection.transaction()?;
            for (alert, subject, kept) in &batch.alerts {
                write_alert(&transaction, *alert, subject, kept.as_ref())?;
            }
            for (channel, alert, subject, told) in &batch.told {
                write_told(&transaction, (channel, *alert, subject), told.as_ref())?;
            }
            for (id, silence) in &batch.silences {
                write_silence(&transaction, *id, silence.as_ref())?;
            }
            for (channel, health) in &batch.channels {
                write_health(&transaction, channel, health.as_ref())?;
            }
            let mut done = false;
            for message in &batch.messages {
                done |= message.state != MessageState::Queued;
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO outbox(seq, id, channel, subject, alert, kind, severity, body, reply_to,
                             created, next_attempt, attempts, last_error, state)
                         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                    )?
                    .execute(params![
                        message.seq,
                        message.id,
                        message.channel,
                        subject_text(&message.subject),
                        message.alert.as_str(),
                        message.kind.as_str(),
                        message.severity.as_str(),
                        &*message.body,
                        message.reply_to,
                        message.created.millis(),
                        message.next_attempt.millis(),
                        message.attempts,
                        message.last_error,
                        message.state.as_str(),
                    ])?;
            }
            if done {
                transaction
                    .prepare_cached(
                        "DELETE FROM outbox WHERE state <> 'queued' AND seq <=
                             (SELECT seq FROM outbox WHERE state <> 'queued' ORDER BY seq DESC LIMIT 1 OFFSET ?1)",
                    )?
                    .execute([KEPT])?;
            }
            transaction.commit()
        })
    }

    /// Reads what is queued, and what the alerts and channels owe each other.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read_outbox(&self) -> Result<Loaded, DatabaseError> {
        self.with("read the outbox", |connection| {
            let mut statement = connection.prepare("SELECT * FROM outbox WHERE state = 'queued' ORDER BY seq")?;
            let messages = collect(statement.query_map([], message_of)?)?;
            let mut statement = connection.prepare(
                "SELECT * FROM outbox WHERE state = 'dropped' AND last_error NOT IN (?1, ?2, ?3)
                     ORDER BY seq DESC LIMIT ?4",
            )?;
            let dropped = collect(statement.query_map(params![SUPERSEDED, MUTED, UNHEARD, SHOWN], message_of)?)?;
            let last: i64 = connection.query_row("SELECT COALESCE(MAX(seq), 0) FROM outbox", [], |row| row.get(0))?;
            let (alerts, told) = (read_alerts(connection)?, read_told(connection)?);
            let (silences, channels) = (read_silences(connection)?, read_health(connection)?);
            Ok(Loaded { messages, dropped, next_seq: last.saturating_add(1), alerts, told, silences, channels })
        })
    }

    /// The last messages, the newest first, whatever became of them: so that a dropped one is seen.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn recent_messages(&self, limit: u32) -> Result<Vec<Message>, DatabaseError> {
        self.with("read the outbox", |connection| {
            let mut statement = connection.prepare("SELECT * FROM outbox ORDER BY seq DESC LIMIT ?1")?;
            collect(statement.query_map([limit], message_of)?)
        })
    }
}

fn collect(rows: impl Iterator<Item = rusqlite::Result<Option<Message>>>) -> rusqlite::Result<Vec<Message>> {
    rows.filter_map(Result::transpose).collect()
}

/// The message of a row, or nothing if this version does not understand it.
fn message_of(row: &Row<'_>) -> rusqlite::Result<Option<Message>> {
    let word = |name: &str| row.get::<_, String>(name);
    let at = |name: &str| row.get(name).map(Timestamp::from_millis);
    let known = (
        subject_of(&word("subject")?),
        AlertName::from_word(&word("alert")?),
        MessageKind::from_word(&word("kind")?),
        Severity::from_word(&word("severity")?),
        MessageState::from_word(&word("state")?),
    );
    let (Some(subject), Some(alert), Some(kind), Some(severity), Some(state)) = known else { return Ok(None) };
    Ok(Some(Message {
        seq: row.get("seq")?,
        id: row.get("id")?,
        channel: row.get("channel")?,
        subject,
        alert,
        kind,
        severity,
        body: word("body")?.into(),
        reply_to: row.get("reply_to")?,
        created: at("created")?,
        next_attempt: at("next_attempt")?,
        attempts: row.get("attempts")?,
        last_error: row.get("last_error")?,
        state,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::{Case, Condition, UnreclaimedItem};
    use crate::domain::deletion::{Cause, Unreclaimed};
    use crate::domain::fact::{Fact, FactName, Facts};
    use crate::domain::names::{TreeId, VolumeId};
    use crate::domain::path::RelPath;
    use crate::domain::recording::Tally;
    use crate::domain::units::Bytes;

    fn message(seq: i64, state: MessageState) -> Message {
        Message {
            seq,
            id: format!("msg_{seq}"),
            channel: "hook".to_owned(),
            subject: Subject::Volume(VolumeId::new("a:b")),
            alert: AlertName::VolumeBlind,
            kind: MessageKind::Firing,
            severity: Severity::Critical,
            body: "{}".into(),
            reply_to: None,
            created: Timestamp::from_secs(1),
            next_attempt: Timestamp::from_secs(2),
            attempts: 3,
            last_error: Some("no".to_owned()),
            state,
        }
    }

    fn alert() -> StoredAlert {
        let item = UnreclaimedItem {
            tree: TreeId::new("live"),
            path: RelPath::new(b"a/\xff\n.mp4").unwrap(),
            bytes: Bytes(7),
            cause: Unreclaimed::Failed,
            failure: Some(Cause::Busy),
            detail: "text file busy".to_owned(),
            holder: Some("vlc (pid 7)".to_owned()),
        };
        let condition = Condition {
            alert: AlertName::SpaceNotReclaimed,
            severity: Severity::Info,
            subject: Subject::Guard,
            case: Case::Open,
            facts: Facts::from([(FactName::Missing, Fact::Bytes(Bytes(7)))]),
            unreclaimed: Tally { files: 1, bytes: Bytes(7) },
            items: vec![item],
        };
        StoredAlert { since: Timestamp::from_secs(5), ended: None, condition }
    }

    #[test]
    fn everything_survives_a_round_trip() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("guard.db");
        let (at, message_id) = (Timestamp::from_secs(9), "msg_1".to_owned());
        let told = Told { severity: Severity::Info, at, message: message_id, lost: true };
        let failing = StoredHealth { since: at, failures: 7, error: Some("no".to_owned()) };
        let working = StoredHealth { since: at, failures: 0, error: None };
        let key = (AlertName::SpaceNotReclaimed, Subject::Guard);
        let batch = Batch {
            messages: vec![message(1, MessageState::Queued), message(2, MessageState::Sent)],
            alerts: vec![(key.0, key.1.clone(), Some(alert()))],
            told: vec![("hook".to_owned(), key.0, key.1.clone(), Some(told.clone()))],
            channels: vec![("hook".to_owned(), Some(failing.clone())), ("mail".to_owned(), Some(working.clone()))],
            ..Batch::default()
        };
        Database::open(&path).unwrap().database.write_outbox(&batch).unwrap();
        let database = Database::open(&path).unwrap().database;
        let loaded = database.read_outbox().unwrap();
        assert_eq!(loaded.messages, [message(1, MessageState::Queued)]);
        assert_eq!(loaded.next_seq, 3);
        assert_eq!(loaded.alerts, [alert()]);
        assert_eq!(loaded.told, [("hook".to_owned(), key.0, key.1.clone(), told)]);
        assert_eq!(loaded.channels, [("hook".to_owned(), failing), ("mail".to_owned(), working.clone())]);
        assert_eq!(database.firing().unwrap().len(), 1);

        let gone = Batch {
            messages: vec![message(1, MessageState::Dropped)],
            alerts: vec![(key.0, key.1.clone(), None)],
            told: vec![("hook".to_owned(), key.0, key.1, None)],
            channels: vec![("hook".to_owned(), None)],
            ..Batch::default()
        };
        database.write_outbox(&gone).unwrap();
        let loaded = database.read_outbox().unwrap();
        assert!(loaded.messages.is_empty() && loaded.alerts.is_empty() && loaded.told.is_empty());
        assert_eq!(loaded.channels, [("mail".to_owned(), working)]);
        assert_eq!(database.recent_messages(1).unwrap(), [message(2, MessageState::Sent)]);

        let back = |(seq, why): (i64, &str)| Message {
            last_error: Some(why.to_owned()),
            ..message(seq, MessageState::Dropped)
        };
        let messages = [(3, SUPERSEDED), (4, MUTED), (5, UNHEARD)].map(back).into();
        database.write_outbox(&Batch { messages, ..Batch::default() }).unwrap();
        assert_eq!(database.read_outbox().unwrap().dropped, [message(1, MessageState::Dropped)]);
    }

    /// Nor is one of a later version, whatever of it is known.
    #[test]
    fn a_row_of_sentences_as_earlier_versions_wrote_it_is_left_out() {
        for (condition, rows) in [
            (r#"{"severity":"info","case":"open","facts":{},"files":0,"bytes":0,"items":[]}"#, 1),
            (r#"{"severity":"info","summary":"s","description":"d","files":0,"bytes":0,"items":[]}"#, 0),
            (r#"{"severity":"info","case":"other","facts":{},"files":0,"bytes":0,"items":[]}"#, 0),
            (r#"{"severity":"info","case":"open","facts":{"x":{"count":1}},"files":0,"bytes":0,"items":[]}"#, 0),
        ] {
            let database = Database::memory().unwrap();
            let write = |connection: &mut rusqlite::Connection| {
                let row = ("SpaceNotReclaimed", "tree:live", condition);
                connection.execute("INSERT INTO alerts(alert, subject, since, condition) VALUES(?1, ?2, 0, ?3)", row)
            };
            database.with("write a row", write).unwrap();
            assert_eq!(database.firing().unwrap().len(), rows, "{condition}");
        }
    }

    #[test]
    fn an_alert_that_has_ended_is_not_restored_as_firing() {
        let database = Database::memory().unwrap();
        let ended = StoredAlert { ended: Some(Timestamp::from_secs(8)), ..alert() };
        let alerts = vec![(AlertName::SpaceNotReclaimed, Subject::Guard, Some(ended.clone()))];
        database.write_outbox(&Batch { alerts, ..Batch::default() }).unwrap();
        assert!(database.firing().unwrap().is_empty());
        assert_eq!(database.read_outbox().unwrap().alerts, [ended]);
    }

    #[test]
    fn what_is_done_is_kept_for_a_while_and_what_is_queued_for_good() {
        let database = Database::memory().unwrap();
        let done = (2..=1202).map(|seq| message(seq, MessageState::Dropped));
        let messages = [message(1, MessageState::Queued)].into_iter().chain(done).collect();
        database.write_outbox(&Batch { messages, ..Batch::default() }).unwrap();
        let kept = database.recent_messages(5000).unwrap();
        assert_eq!((kept.len(), kept[0].seq, kept[1000].seq), (1001, 1202, 1));
    }
}
