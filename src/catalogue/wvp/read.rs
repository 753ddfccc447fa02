//! Reading: page by page along the primary key, since the table has no other index.

use super::fault::{Doing, Fault};
use super::schema::Schema;
use super::session::{Cell, Session, Value, number, text};
use crate::domain::catalogue::CatalogueRow;
use crate::domain::catalogue::RowId;
use crate::domain::units::Timestamp;

/// Rows in a page.
const PAGE: usize = 5_000;
/// Numbers in a question whether rows are still there.
const CHUNK: usize = 500;
/// How far before the last known row a reading of what is new begins: a transaction takes its number before it commits, so that a lower
/// number can appear after a higher one.
pub(super) const OVERLAP: i64 = 10_000;

/// The next rows behind this number; none at the end of the table.
pub(super) fn page(
    session: &mut Session<'_>,
    schema: &Schema,
    after: Option<i64>,
) -> Result<Vec<(i64, CatalogueRow)>, Fault> {
    let wanted = ["id", "file_path", "media_server_id", "collect", "start_time"].map(|name| schema.bytes(name));
    let mut asked = schema.select(&wanted);
    let id = schema.name("id");
    if let Some(after) = after {
        asked.add(&format!(" WHERE {id} > ")).value(Value::Number(after));
    }
    asked.add(&format!(" ORDER BY {id} LIMIT {PAGE}"));
    let rows = session.rows(Doing::Reading, asked)?;
    let mut out = Vec::with_capacity(rows.len());
    let mut before = after;
    for cells in rows {
        let (id, row) = row(cells).filter(|(id, _)| before.is_none_or(|before| before < *id)).ok_or_else(unordered)?;
        before = Some(id);
        out.push((id, row));
    }
    Ok(out)
}

fn unordered() -> Fault {
    Fault::shape("the column `id` of `wvp_cloud_record` does not number the rows, each once; make it the primary key, as WVP does".to_owned())
}

fn row(cells: Vec<Cell>) -> Option<(i64, CatalogueRow)> {
    let mut cells = cells.into_iter();
    let mut next = || cells.next().flatten();
    let id = number(next().as_deref())?;
    let path = next();
    let media_server = next().map(|bytes| text(&bytes));
    let collect = next().is_some_and(|bytes| set(&bytes));
    let start = number(next().as_deref()).map(Timestamp::from_millis);
    Some((id, CatalogueRow { id: RowId::Number(id), path, media_server, collect, start }))
}

/// Whether a truth is true, in any of the types that stand for one. What nobody knows counts as true: that keeps a recording.
fn set(bytes: &[u8]) -> bool {
    !matches!(bytes, b"" | b"0" | b"\0" | b"f" | b"F" | b"false" | b"FALSE" | b"n" | b"no")
}

/// Which of these rows are there.
pub(super) fn there(session: &mut Session<'_>, schema: &Schema, ids: &[i64]) -> Result<Vec<i64>, Fault> {
    let mut out = Vec::new();
    for ids in ids.chunks(CHUNK) {
        let found = by_id(session, schema, Doing::Reading, ids, &[])?;
        out.extend(found.iter().filter_map(|cells| number(cells.first()?.as_deref())));
    }
    Ok(out)
}

/// The rows with these numbers: the number, and other expressions.
pub(super) fn by_id(
    session: &mut Session<'_>,
    schema: &Schema,
    doing: Doing,
    ids: &[i64],
    more: &[String],
) -> Result<Vec<Vec<Cell>>, Fault> {
    let wanted = [&[schema.bytes("id")], more].concat();
    let mut asked = schema.select(&wanted);
    asked.add(&format!(" WHERE {} IN (", schema.name("id")));
    asked.list(ids.iter().map(|id| Value::Number(*id))).add(")");
    session.rows(doing, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cells: [Option<&str>; 5], expected: Option<(Option<&str>, bool, Option<i64>)>) {
        let found = row(cells.iter().map(|cell| cell.map(|text| text.as_bytes().to_vec())).collect());
        let found =
            found.map(|(_, row)| (row.path.map(|path| text(&path)), row.collect, row.start.map(Timestamp::millis)));
        let expected = expected.map(|(path, collect, start)| (path.map(str::to_owned), collect, start));
        assert_eq!(found, expected, "{cells:?}");
    }

    #[test]
    fn what_a_row_says_is_read_whatever_its_types() {
        for (collect, expected) in [
            (Some("0"), false),
            (Some("\0"), false),
            (Some("false"), false),
            (None, false),
            (Some("1"), true),
            (Some("\u{1}"), true),
            (Some("true"), true),
            (Some("t"), true),
        ] {
            check(
                [Some("7"), Some("/a"), None, collect, Some("1732500000000")],
                Some((Some("/a"), expected, Some(1_732_500_000_000))),
            );
        }
        check(
            [Some("7"), None, Some("zlm"), None, Some("1732500000000.5")],
            Some((None, false, Some(1_732_500_000_000))),
        );
        check([Some("7"), None, None, None, Some("soon")], Some((None, false, None)));
        check([None, Some("/a"), None, None, None], None);
    }
}
