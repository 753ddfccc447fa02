//! What the rows beside a recording say that neither its name nor its file does: which WVP made them, and in which call.

use super::fault::{Doing, Fault};
use super::schema::Schema;
use super::session::{Cell, Session, Statement, Value, number, text};

/// Rows of a stream that are asked for at once.
const PAGE: usize = 5_000;

/// Where and when a recording was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment<'a> {
    pub(super) app: &'a str,
    pub(super) stream: &'a str,
    pub(super) media_server: Option<&'a str>,
    pub(super) start: i64,
}

/// What is taken from the rows beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// One for each of the schema's columns of that kind.
    pub(super) servers: Vec<Option<String>>,
    pub(super) call: Option<String>,
}

/// The rows nearest to one recording, as far as they were seen.
#[derive(Debug, Clone, Default)]
struct Nearest {
    before: Option<(i64, Option<String>)>,
    after: Option<(i64, Option<String>)>,
}

impl Nearest {
    fn see(&mut self, at: i64, start: i64, call: Option<&String>) {
        if start <= at {
            if self.before.as_ref().is_none_or(|(known, _)| start > *known) {
                self.before = Some((start, call.cloned()));
            }
        } else if self.after.as_ref().is_none_or(|(known, _)| start < *known) {
            self.after = Some((start, call.cloned()));
        }
    }

    /// The call is the recording's only where its neighbours agree, or where it has but one.
    fn call(self) -> Option<String> {
        match (self.before, self.after) {
            (Some((_, before)), Some((_, after))) => before.filter(|call| after.as_ref() == Some(call)),
            (Some((_, only)), None) | (None, Some((_, only))) => only,
            (None, None) => None,
        }
    }
}

/// Looks for all of them; those of one stream are looked for together.
pub(super) fn copied(session: &mut Session<'_>, schema: &Schema, moments: &[Moment<'_>]) -> Result<Vec<Copied>, Fault> {
    let servers = schema.servers().len();
    let mut out = vec![Copied { servers: vec![None; servers], call: None }; moments.len()];
    if servers == 0 && schema.column("call_id").is_none() {
        return Ok(out);
    }
    let mut pending: Vec<usize> = (0..moments.len()).collect();
    while let Some(first) = pending.first().map(|at| moments[*at]) {
        let same = |moment: &Moment<'_>| Moment { start: 0, ..*moment } == Moment { start: 0, ..first };
        let (group, rest): (Vec<usize>, Vec<usize>) = pending.into_iter().partition(|at| same(&moments[*at]));
        pending = rest;
        let starts: Vec<i64> = group.iter().map(|at| moments[*at].start).collect();
        let (nearest, latest) = stream(session, schema, &first, &starts)?;
        let latest = match latest.iter().all(Option::is_some) {
            true => latest,
            false => of_media_server(session, schema, first.media_server, latest)?,
        };
        for (at, nearest) in group.into_iter().zip(nearest) {
            out[at] = Copied { servers: latest.clone(), call: nearest.call() };
        }
    }
    Ok(out)
}

/// Adds a condition that a text column is exactly this: as the server compares it, where it may use an index, and byte for byte.
pub(super) fn exactly(statement: &mut Statement, schema: &Schema, name: &str, value: Option<&str>) {
    let Some((column, value)) = schema.column(name).zip(value) else { return };
    statement.add(" AND ").add(&schema.compared(column)).add(" = ").value(schema.comparable(column, value));
    statement.add(" AND ").add(&schema.bytes_of(column)).add(" = ").value(Value::Bytes(value.as_bytes().to_vec()));
}

/// The nearest rows of a stream for each of these moments, and what its latest rows say of the server.
fn stream(
    session: &mut Session<'_>,
    schema: &Schema,
    of: &Moment<'_>,
    starts: &[i64],
) -> Result<(Vec<Nearest>, Vec<Option<String>>), Fault> {
    let servers: Vec<String> = schema.servers().into_iter().map(|column| schema.bytes_of(column)).collect();
    let mut latest: Vec<Option<(i64, String)>> = vec![None; servers.len()];
    let mut nearest = vec![Nearest::default(); starts.len()];
    // Without these columns, which rows are the stream's cannot be told.
    let told = ["app", "stream", "start_time"].iter().all(|name| schema.column(name).is_some());
    if !told {
        return Ok((nearest, vec![None; servers.len()]));
    }
    let mut after = None;
    loop {
        let wanted = ["id", "start_time", "call_id"].map(|name| schema.bytes(name));
        let id = schema.name("id");
        let mut asked = schema.select(&[&wanted[..], &servers].concat());
        // A recording without a time has no place among the others.
        asked.add(&format!(" WHERE {} IS NOT NULL", schema.name("start_time")));
        if let Some(after) = after {
            asked.add(&format!(" AND {id} > ")).value(Value::Number(after));
        }
        exactly(&mut asked, schema, "app", Some(of.app));
        exactly(&mut asked, schema, "stream", Some(of.stream));
        exactly(&mut asked, schema, "media_server_id", of.media_server);
        asked.add(&format!(" ORDER BY {id} LIMIT {PAGE}"));
        let rows = session.rows(Doing::Reading, asked)?;
        let Some(last) = rows.last().and_then(|cells| number(cells.first()?.as_deref())) else { break };
        after = Some(last);
        for cells in &rows {
            let Some(start) = cells.get(1).and_then(|cell| number(cell.as_deref())) else { continue };
            let call = cells.get(2).cloned().flatten().map(|bytes| text(&bytes));
            for (at, nearest) in starts.iter().zip(&mut nearest) {
                nearest.see(*at, start, call.as_ref());
            }
            for (latest, server) in latest.iter_mut().zip(&cells[3..]) {
                let newer = latest.as_ref().is_none_or(|(known, _)| start >= *known);
                if let Some(server) = server.as_ref().filter(|_| newer) {
                    *latest = Some((start, text(server)));
                }
            }
        }
    }
    Ok((nearest, latest.into_iter().map(|latest| latest.map(|(_, server)| server)).collect()))
}

/// What the newest row of the media server says, where the stream's say nothing.
fn of_media_server(
    session: &mut Session<'_>,
    schema: &Schema,
    media_server: Option<&str>,
    mut known: Vec<Option<String>>,
) -> Result<Vec<Option<String>>, Fault> {
    let id = schema.name("id");
    for (known, column) in known.iter_mut().zip(schema.servers()) {
        if known.is_some() {
            continue;
        }
        let mut asked = schema.select(&[schema.bytes_of(column)]);
        asked.add(&format!(" WHERE {} IS NOT NULL", schema.quoted(column)));
        exactly(&mut asked, schema, "media_server_id", media_server);
        asked.add(&format!(" ORDER BY {id} DESC LIMIT 1"));
        let rows = session.rows(Doing::Reading, asked)?;
        let cell: Option<Cell> = rows.into_iter().next().and_then(|cells| cells.into_iter().next());
        *known = cell.flatten().map(|bytes| text(&bytes));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_taken_only_where_the_neighbours_agree() {
        for (rows, expected) in [
            (&[(10, Some("a")), (30, Some("a"))][..], Some("a")),
            (&[(10, Some("a")), (30, Some("b"))], None),
            (&[(10, Some("a")), (30, None)], None),
            (&[(10, None), (30, Some("a"))], None),
            (&[(10, Some("a"))], Some("a")),
            (&[(30, Some("a"))], Some("a")),
            (&[(5, Some("b")), (10, Some("a")), (30, Some("a")), (40, Some("c"))], Some("a")),
            (&[], None),
        ] {
            for backwards in [false, true] {
                let mut rows = rows.to_vec();
                if backwards {
                    rows.reverse();
                }
                let mut nearest = Nearest::default();
                for (start, call) in &rows {
                    nearest.see(20, *start, call.map(str::to_owned).as_ref());
                }
                assert_eq!(nearest.call().as_deref(), expected, "{rows:?}");
            }
        }
    }
}
