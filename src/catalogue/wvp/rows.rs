//! Looking rows up, and removing those whose recordings are gone.

use std::collections::HashSet;

use super::fault::{Doing, Fault};
use super::read::{by_id, there};
use super::schema::Schema;
use super::session::{Session, Value, number};

/// Rows removed at once: a transaction that never holds many locks of a table that WVP writes to.
const CHUNK: usize = 100;
/// How often a chunk is tried that collided with another session.
const ATTEMPTS: u32 = 3;

/// The paths of rows. A row without one is left out.
pub(super) fn paths(session: &mut Session<'_>, schema: &Schema, ids: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
    let mut out = Vec::new();
    for ids in ids.chunks(CHUNK) {
        let found = by_id(session, schema, Doing::Reading, ids, &[schema.bytes("file_path")])?;
        out.extend(found.into_iter().filter_map(|mut cells| {
            let path = cells.pop()??;
            Some((number(cells.first()?.as_deref())?, path))
        }));
    }
    Ok(out)
}

/// Removes rows that still have these paths. The server looks at the path in the statement that removes: nothing can change in between.
pub(super) fn remove(session: &mut Session<'_>, schema: &Schema, rows: &[(i64, Vec<u8>)]) -> Result<Vec<i64>, Fault> {
    let mut gone = Vec::new();
    for rows in rows.chunks(CHUNK) {
        let mut attempt = 1;
        while let Err(trouble) = session.change(delete(session, schema, rows)) {
            if attempt == ATTEMPTS || !trouble.collided() {
                return Err(session.fault(Doing::Removing, trouble));
            }
            attempt += 1;
        }
        // Whoever removed it, it counts when it is not found.
        let ids: Vec<i64> = rows.iter().map(|(id, _)| *id).collect();
        let left: HashSet<i64> = there(session, schema, &ids)?.into_iter().collect();
        gone.extend(ids.into_iter().filter(|id| !left.contains(id)));
    }
    Ok(gone)
}

fn delete(session: &Session<'_>, schema: &Schema, rows: &[(i64, Vec<u8>)]) -> super::session::Statement {
    let (id, path) = (schema.name("id"), schema.bytes("file_path"));
    let mut statement = session.statement(format!("DELETE FROM {} WHERE {id} IN (", schema.table()));
    statement.list(rows.iter().map(|(id, _)| Value::Number(*id))).add(") AND (");
    for (at, (number, bytes)) in rows.iter().enumerate() {
        statement.add(if at > 0 { " OR (" } else { "(" }).add(&id).add(" = ").value(Value::Number(*number));
        statement.add(" AND ").add(&path).add(" = ").value(Value::Bytes(bytes.clone())).add(")");
    }
    statement.add(")");
    statement
}
