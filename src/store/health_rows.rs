//! How each channel did when it was last used, as rows.

use rusqlite::{Connection, Transaction, params};

use crate::domain::units::Timestamp;

/// How a channel did when it was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHealth {
    /// Since when it has done so.
    pub since: Timestamp,
    /// How many sends in a row were not accepted.
    pub failures: u32,
    /// Why the last one was not; nothing if it was.
    pub error: Option<String>,
}

/// Writes or forgets how one channel did.
pub(super) fn write_health(
    transaction: &Transaction<'_>,
    channel: &str,
    health: Option<&StoredHealth>,
) -> rusqlite::Result<()> {
    match health {
        Some(StoredHealth { since, failures, error }) => transaction
            .prepare_cached("INSERT OR REPLACE INTO channels(channel, since, failures, error) VALUES(?1, ?2, ?3, ?4)")?
            .execute(params![channel, since.millis(), failures, error])
            .map(drop),
        None => transaction.prepare_cached("DELETE FROM channels WHERE channel = ?1")?.execute([channel]).map(drop),
    }
}

/// How all channels did.
pub(super) fn read_health(connection: &Connection) -> rusqlite::Result<Vec<(String, StoredHealth)>> {
    let mut statement = connection.prepare("SELECT channel, since, failures, error FROM channels")?;
    let rows = statement.query_map([], |row| {
        let since = Timestamp::from_millis(row.get(1)?);
        Ok((row.get(0)?, StoredHealth { since, failures: row.get(2)?, error: row.get(3)? }))
    })?;
    rows.collect()
}
