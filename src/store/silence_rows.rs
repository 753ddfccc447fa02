//! Silences as rows.

use rusqlite::{Connection, Row, Transaction, params};

use crate::domain::alert::AlertName;
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::silence::{Matchers, Silence};
use crate::domain::units::Timestamp;

/// Writes or forgets one silence.
pub(super) fn write_silence(transaction: &Transaction<'_>, id: u64, silence: Option<&Silence>) -> rusqlite::Result<()> {
    let Some(silence) = silence else {
        return transaction.prepare_cached("DELETE FROM silences WHERE id = ?1")?.execute([number(id)]).map(drop);
    };
    let Matchers { alert, tree, volume } = &silence.matchers;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO silences(id, alert, tree, volume, until, reason, who, created, ended)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            number(id),
            alert.map(AlertName::as_str),
            tree.as_ref().map(TreeId::as_str),
            volume.as_ref().map(VolumeId::as_str),
            silence.until.millis(),
            silence.reason,
            silence.who,
            silence.created.millis(),
            silence.ended.map(Timestamp::millis),
        ])
        .map(drop)
}

fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// All silences. One that this version does not understand is left out: it would mute more than it was made for.
pub(super) fn read_silences(connection: &Connection) -> rusqlite::Result<Vec<Silence>> {
    let mut statement = connection.prepare("SELECT * FROM silences ORDER BY id")?;
    statement.query_map([], silence_of)?.filter_map(Result::transpose).collect()
}

fn silence_of(row: &Row<'_>) -> rusqlite::Result<Option<Silence>> {
    let word = |name: &str| row.get::<_, Option<String>>(name);
    let at = |name: &str| row.get::<_, Option<i64>>(name).map(|millis| millis.map(Timestamp::from_millis));
    let name = word("alert")?;
    let alert = name.as_deref().and_then(AlertName::from_word);
    let (Ok(id), Some(until), Some(created)) = (u64::try_from(row.get::<_, i64>("id")?), at("until")?, at("created")?)
    else {
        return Ok(None);
    };
    if name.is_some() != alert.is_some() {
        return Ok(None);
    }
    let matchers = Matchers {
        alert,
        tree: word("tree")?.as_deref().map(TreeId::new),
        volume: word("volume")?.as_deref().map(VolumeId::new),
    };
    let (reason, who) = (row.get("reason")?, row.get("who")?);
    Ok(Some(Silence { id, matchers, until, reason, who, created, ended: at("ended")? }))
}

#[cfg(test)]
mod tests {
    use super::super::database::Database;
    use super::super::outbox::Batch;
    use super::*;

    fn silence(id: u64) -> Silence {
        Silence {
            id,
            matchers: Matchers {
                alert: Some(AlertName::CapTripped),
                tree: Some(TreeId::new("live")),
                volume: Some(VolumeId::new("/data")),
            },
            until: Timestamp::from_secs(9),
            reason: "a new disk comes on Monday".to_owned(),
            who: "ops".to_owned(),
            created: Timestamp::from_secs(1),
            ended: None,
        }
    }

    #[test]
    fn silences_survive_a_restart_until_they_are_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("guard.db");
        let ended = Silence { matchers: Matchers::default(), ended: Some(Timestamp::from_secs(5)), ..silence(2) };
        let write = |silences| {
            let database = Database::open(&path).unwrap().database;
            database.write_outbox(&Batch { silences, ..Batch::default() }).unwrap();
            drop(database);
            Database::open(&path).unwrap().database.read_outbox().unwrap().silences
        };
        assert_eq!(write(vec![(1, Some(silence(1))), (2, Some(ended.clone()))]), [silence(1), ended.clone()]);
        assert_eq!(write(vec![(1, None)]), [ended]);
    }

    #[test]
    fn a_silence_of_an_alert_that_is_unknown_mutes_nothing() {
        let database = Database::memory().unwrap();
        database.write_outbox(&Batch { silences: vec![(1, Some(silence(1)))], ..Batch::default() }).unwrap();
        database.with("test", |c| c.execute("UPDATE silences SET alert = 'OfLater'", [])).unwrap();
        assert!(database.read_outbox().unwrap().silences.is_empty());
    }
}
