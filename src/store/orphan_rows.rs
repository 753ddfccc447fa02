//! Orphans as rows of the findings.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::catalogue_read::damaged;
use super::findings::Found;
use crate::domain::names::TreeId;
use crate::domain::orphan::{Orphan, OrphanKind, Playable, Verdict, Witness};
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::units::{Bytes, Timestamp};

/// The columns that [`orphan`] reads.
pub(super) const ORPHAN: &str =
    "path, stream, bytes, inode, fingerprint, touched, first_seen, witnesses, wanted, playable";

/// The bit of a witness on disk. It never changes, so that no other word is ever read for what was proven.
fn bit(witness: Witness) -> i64 {
    match witness {
        Witness::Catalogue => 1,
        Witness::Age => 2,
        Witness::TwoScans => 4,
        Witness::Unopened => 8,
        Witness::HooksDrained => 16,
        Witness::StreamIdle => 32,
        Witness::Grammar => 64,
        Witness::Clock => 128,
    }
}

fn bits(witnesses: &[Witness]) -> i64 {
    witnesses.iter().fold(0, |bits, witness| bits | bit(*witness))
}

fn witnesses(bits: i64) -> Vec<Witness> {
    Witness::ALL.iter().copied().filter(|witness| bits & bit(*witness) != 0).collect()
}

/// A verdict and playability as they are kept: witnesses, what is wanted, playability.
pub(super) fn state_values(verdict: &Verdict, playable: Playable) -> (i64, i64, i64) {
    (bits(&verdict.witnesses), bits(&verdict.wanted), playable_value(playable))
}

fn playable_value(playable: Playable) -> i64 {
    match playable {
        Playable::Unknown => 0,
        Playable::Yes => 1,
        Playable::No => 2,
    }
}

/// A path.
pub(super) fn path(row: &Row<'_>, at: usize) -> rusqlite::Result<RelPath> {
    RelPath::new(row.get_ref(at)?.as_blob()?).map_err(|_| damaged("a path is none"))
}

/// An orphan, from the columns of [`ORPHAN`].
pub(super) fn orphan(row: &Row<'_>, tree: &TreeId, kind: OrphanKind) -> rusqlite::Result<Orphan> {
    let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let at = |at| row.get(at).map(Timestamp::from_millis);
    let playable = match row.get::<_, i64>(9)? {
        1 => Playable::Yes,
        2 => Playable::No,
        _ => Playable::Unknown,
    };
    Ok(Orphan {
        tree: tree.clone(),
        path: path(row, 0)?,
        stream: row.get(1)?,
        kind,
        bytes: Bytes(number(2)?),
        inode: number(3)?,
        fingerprint: number(4)?,
        touched: at(5)?,
        first_seen: at(6)?,
        verdict: Verdict { witnesses: witnesses(row.get(7)?), wanted: witnesses(row.get(8)?) },
        playable,
    })
}

/// All looks that count, or all others, in the order of tree and kind.
pub(super) fn slots(connection: &Connection, live: bool) -> rusqlite::Result<Vec<(i64, TreeId, OrphanKind)>> {
    let mut statement = connection.prepare_cached("SELECT id, tree, kind FROM slots WHERE live = ?1")?;
    let rows = statement.query_map([live], |row| {
        let kind = OrphanKind::from_word(row.get_ref(2)?.as_str()?).ok_or_else(|| damaged("a kind is none"))?;
        Ok((row.get(0)?, TreeId::new(row.get_ref(1)?.as_str()?), kind))
    })?;
    let mut all = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    all.sort_by(|a, b| (&a.1, a.2).cmp(&(&b.1, b.2)));
    Ok(all)
}

/// Enters one into a slot, with what is known of the same file.
pub(super) fn enter(
    transaction: &Transaction<'_>,
    slot: i64,
    known: Option<i64>,
    seen: &Orphan,
    scan: Timestamp,
) -> rusqlite::Result<()> {
    let (inode, fingerprint) = (seen.inode.cast_signed(), seen.fingerprint.cast_signed());
    let mut statement = transaction.prepare_cached(
        "SELECT first_seen, witnesses, wanted, playable FROM orphans
         WHERE slot = ?1 AND path = ?2 AND inode = ?3 AND fingerprint = ?4",
    )?;
    let before = statement
        .query_row(params![known, seen.path.as_bytes(), inode, fingerprint], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    // What was found of another file says nothing of this one.
    let (none, unknown) = (bits(&[]), playable_value(Playable::Unknown));
    let anew = (scan.millis(), none, none, unknown);
    let (first_seen, witnesses, wanted, playable): (i64, i64, i64, i64) = before.unwrap_or(anew);
    let bytes = seen.bytes.0.cast_signed();
    let touched = seen.touched.millis();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO orphans(slot, path, stream, bytes, inode, fingerprint, touched, first_seen, witnesses,
             wanted, playable) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            slot,
            seen.path.as_bytes(),
            seen.stream,
            bytes,
            inode,
            fingerprint,
            touched,
            first_seen,
            witnesses,
            wanted,
            playable
        ])
        .map(drop)
}

/// Forgets a path of a tree, of every kind, in looks that go on too.
pub(super) fn forget(transaction: &Transaction<'_>, tree: &TreeId, path: &RelPath) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM orphans WHERE slot IN (SELECT id FROM slots WHERE tree = ?1) AND path = ?2")?
        .execute(params![tree.as_str(), path.as_bytes()])
        .map(drop)
}

/// How many a slot holds.
pub(super) fn count(connection: &Connection, slot: i64) -> rusqlite::Result<Found> {
    let mut statement = connection.prepare_cached(
        "SELECT witnesses <> 0 AND wanted = 0, count(*), sum(bytes) FROM orphans WHERE slot = ?1 GROUP BY 1",
    )?;
    let mut found = Found::default();
    let mut rows = statement.query([slot])?;
    while let Some(row) = rows.next()? {
        let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let tally = Tally { files: number(1)?, bytes: Bytes(number(2)?) };
        if row.get(0)? { found.proven = tally } else { found.unproven = tally }
    }
    Ok(found)
}
