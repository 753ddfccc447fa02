//! Inserting the rows that the platform should have had.
//!
//! 1. What the table knows by these paths is looked up, some at a time: it has no index, so each look goes through all of it.
//! 2. What neither name nor file says is taken from the rows beside it.
//! 3. Each row is inserted by a statement that itself looks again for a row of that path, among those that came since step 1, in a
//!    transaction of its own. One adoption at a time: other guards wait for the lock.
//! 4. Before the commit the row is read back. What is not as it was meant is undone.

use std::collections::HashMap;

use super::fault::{Doing, Fault, Trouble};
use super::neighbours::{Copied, Moment, copied, exactly};
use super::read::{OVERLAP, by_id};
use super::schema::Schema;
use super::session::{Changed, Dialect, Session, Statement, Value, number, text};
use crate::domain::adoption::{Adopted, Adoption};

/// Paths looked for at once.
const CHUNK: usize = 100;
/// What guards lock while they insert.
const LOCK: &str = "storage-guard wvp_cloud_record";

/// A row of the table that has a path: its number and its media server.
type Entry = (i64, Option<String>);

/// Inserts rows, or says what would become of them.
pub(super) fn adopt(
    session: &mut Session<'_>,
    schema: &Schema,
    rows: &[Adoption],
    media_server: Option<&str>,
    dry: bool,
) -> Result<Vec<Adopted>, Fault> {
    let nameless = rows.iter().any(|row| row.media_server.is_none()) && media_server.is_none();
    let only = match (nameless, schema.column("media_server_id")) {
        (true, Some(_)) => only_media_server(session, schema)?,
        (true, None) | (false, _) => Ok(String::new()),
    };
    let highest = highest(session, schema)?;
    let named: Vec<Result<Option<&str>, String>> = rows
        .iter()
        .map(|row| match (row.media_server.as_deref().or(media_server), &only) {
            (Some(name), _) => Ok(Some(name)),
            (None, Ok(name)) => Ok(Some(&**name).filter(|name| !name.is_empty())),
            (None, Err(why)) => Err(why.clone()),
        })
        .collect();
    let mut known = HashMap::new();
    for rows in rows.chunks(CHUNK) {
        let paths: Vec<&str> = rows.iter().map(|row| &*row.file_path).collect();
        known.extend(by_path(session, schema, &paths)?);
    }
    let mut out = Vec::with_capacity(rows.len());
    let mut new = Vec::new();
    for (row, named) in rows.iter().zip(named) {
        let (named, fits) = match named {
            Ok(named) => (named, fits(schema, row, named)),
            Err(why) => (None, Err(why)),
        };
        out.push(match (fits, find(&known, row, named)) {
            (Err(why), _) => Adopted::Refused(why),
            (Ok(()), Some(id)) => Adopted::Known(id),
            (Ok(()), None) => {
                new.push((out.len(), row, named));
                Adopted::Would
            }
        });
    }
    if dry || new.is_empty() {
        return Ok(out);
    }
    let moments: Vec<Moment<'_>> = new
        .iter()
        .map(|(_, row, media_server)| Moment {
            app: &row.app,
            stream: &row.stream,
            media_server: *media_server,
            start: row.start_time,
        })
        .collect();
    let copied = copied(session, schema, &moments)?;
    for ((at, row, media_server), copied) in new.into_iter().zip(copied) {
        out[at] = Insert { schema, row, media_server, copied, highest }.run(session)?;
    }
    Ok(out)
}

/// The row of a path, of this media server or of none that is known.
fn find(known: &HashMap<Vec<u8>, Vec<Entry>>, row: &Adoption, media_server: Option<&str>) -> Option<i64> {
    let same = |(_, other): &&Entry| other.is_none() || media_server.is_none() || other.as_deref() == media_server;
    known.get(row.file_path.as_bytes())?.iter().find(same).map(|(id, _)| *id)
}

/// The media server of all rows, or why there is none.
fn only_media_server(session: &mut Session<'_>, schema: &Schema) -> Result<Result<String, String>, Fault> {
    let name = schema.bytes("media_server_id");
    let mut asked = schema.select(&[format!("DISTINCT {name}")]);
    asked.add(" LIMIT 2");
    let rows = session.rows(Doing::Reading, asked)?;
    Ok(match &*rows {
        [cells] if cells.first().is_some_and(Option::is_some) => {
            Ok(text(cells.first().and_then(Option::as_deref).unwrap_or_default()))
        }
        [] => {
            Err("the table has no row that tells which media server its rows name; set `media_server` of the catalogue"
                .to_owned())
        }
        _ => {
            Err("the table's rows do not all name the same media server; set `media_server` of the catalogue"
                .to_owned())
        }
    })
}

fn highest(session: &mut Session<'_>, schema: &Schema) -> Result<Option<i64>, Fault> {
    let id = schema.name("id");
    let mut asked = schema.select(&[schema.bytes("id")]);
    asked.add(&format!(" ORDER BY {id} DESC LIMIT 1"));
    let rows = session.rows(Doing::Reading, asked)?;
    Ok(rows.first().and_then(|cells| number(cells.first()?.as_deref())))
}

/// The rows that have one of these paths. The server compares as it likes, which may be more than byte for byte; here only equal bytes count.
fn by_path(session: &mut Session<'_>, schema: &Schema, paths: &[&str]) -> Result<HashMap<Vec<u8>, Vec<Entry>>, Fault> {
    let mut out: HashMap<Vec<u8>, Vec<Entry>> = HashMap::new();
    let Some(column) = schema.column("file_path") else { return Ok(out) };
    let mut asked = schema.select(&["id", "file_path", "media_server_id"].map(|name| schema.bytes(name)));
    asked.add(&format!(" WHERE {} IN (", schema.compared(column)));
    asked.list(paths.iter().map(|path| schema.comparable(column, path))).add(")");
    for cells in session.rows(Doing::Reading, asked)? {
        if let [Some(id), Some(path), media_server] = &cells[..]
            && let Some(id) = number(Some(id))
        {
            let media_server = media_server.as_ref().map(|bytes| text(bytes));
            out.entry(path.clone()).or_default().push((id, media_server));
        }
    }
    Ok(out)
}

/// Every text must fit its column: a path that is cut short names another file.
fn fits(schema: &Schema, row: &Adoption, media_server: Option<&str>) -> Result<(), String> {
    let texts = [
        ("app", Some(&*row.app)),
        ("stream", Some(&*row.stream)),
        ("media_server_id", media_server),
        ("file_name", Some(&*row.file_name)),
        ("folder", Some(&*row.folder)),
        ("file_path", Some(&*row.file_path)),
    ];
    for (name, value) in texts {
        let longest = schema.column(name).and_then(|column| column.longest);
        if let (Some(longest), Some(value)) = (longest, value) {
            let length = value.chars().count();
            if length > longest {
                let hint = if longest == 255 { "; later versions of WVP have room for 500 in its paths" } else { "" };
                return Err(format!(
                    "`{value}` has {length} characters, and the column `{name}` holds {longest}{hint}"
                ));
            }
        }
    }
    Ok(())
}

/// A row to insert.
struct Insert<'a> {
    schema: &'a Schema,
    row: &'a Adoption,
    media_server: Option<&'a str>,
    copied: Copied,
    /// The highest number at the first look.
    highest: Option<i64>,
}

impl Insert<'_> {
    fn run(self, session: &mut Session<'_>) -> Result<Adopted, Fault> {
        let doing = Doing::Inserting;
        begin(session)?;
        let changed = match session.change(self.statement(session)) {
            Ok(changed) => changed,
            Err(trouble) if trouble.duplicate() || trouble.unfit() => {
                end(session, "ROLLBACK")?;
                return self.refused(session, &trouble);
            }
            Err(trouble) => return Err(session.fault(doing, trouble)),
        };
        if changed.rows == 0 {
            end(session, "ROLLBACK")?;
            // It came since the first look.
            let known = by_path(session, self.schema, &[&self.row.file_path])?;
            return Ok(match find(&known, self.row, self.media_server) {
                Some(id) => Adopted::Known(id),
                None => {
                    Adopted::Refused("another session inserted and removed its row meanwhile; try again".to_owned())
                }
            });
        }
        match self.read_back(session, &changed)? {
            Some(id) => {
                end(session, "COMMIT")?;
                Ok(Adopted::Inserted(id))
            }
            None => {
                end(session, "ROLLBACK")?;
                Ok(Adopted::Refused(
                    "the table does not keep its path as it is; its characters must be UTF-8 (`utf8mb4` in MySQL)"
                        .to_owned(),
                ))
            }
        }
    }

    /// The new row's number, if its path is what was meant.
    fn read_back(&self, session: &mut Session<'_>, changed: &Changed) -> Result<Option<i64>, Fault> {
        let path = self.row.file_path.as_bytes();
        if let Some(id) = changed.id.filter(|id| *id > 0) {
            let more = [self.schema.bytes("file_path")];
            let found = by_id(session, self.schema, Doing::Inserting, &[id], &more)?;
            let as_meant = found.first().and_then(|cells| cells.get(1)?.as_deref()) == Some(path);
            return Ok(Some(id).filter(|_| as_meant));
        }
        // The number is not told beside the answer: it is the newest row of that path.
        let id = self.schema.name("id");
        let mut asked = self.schema.select(&[self.schema.bytes("id")]);
        asked.add(" WHERE ").add(&self.schema.bytes("file_path")).add(" = ").value(Value::Bytes(path.to_vec()));
        self.since(&mut asked, &id);
        asked.add(&format!(" ORDER BY {id} DESC LIMIT 1"));
        let rows = session.rows(Doing::Inserting, asked)?;
        Ok(rows.first().and_then(|cells| number(cells.first()?.as_deref())))
    }

    /// Adds the condition that a row came since the first look, as far as numbers tell.
    fn since(&self, statement: &mut Statement, id: &str) {
        if let Some(from) = self.highest.and_then(|highest| highest.checked_sub(OVERLAP)) {
            statement.add(&format!(" AND {id} > ")).value(Value::Number(from));
        }
    }

    fn statement(&self, session: &Session<'_>) -> Statement {
        let (schema, row) = (self.schema, self.row);
        let known = |text: Option<&str>| text.map_or(Value::Nothing, |text| Value::Text(text.to_owned()));
        let columns = [
            ("app", known(Some(&row.app))),
            ("stream", known(Some(&row.stream))),
            ("call_id", known(self.copied.call.as_deref())),
            ("start_time", Value::Number(row.start_time)),
            ("end_time", Value::Number(row.end_time)),
            ("media_server_id", known(self.media_server)),
            ("file_name", known(Some(&row.file_name))),
            ("folder", known(Some(&row.folder))),
            ("file_path", known(Some(&row.file_path))),
            ("file_size", Value::Number(row.file_size)),
            ("time_len", Value::Number(row.time_len)),
        ];
        let columns = columns.into_iter().filter_map(|(name, value)| Some((schema.column(name)?, value)));
        let servers =
            schema.servers().into_iter().zip(self.copied.servers.iter().map(|server| known(server.as_deref())));
        let (names, values): (Vec<_>, Vec<_>) =
            columns.chain(servers).map(|(column, value)| (schema.quoted(column), value)).unzip();
        let collect = schema.column("collect");
        let mut statement = session.statement(format!("INSERT INTO {} (", schema.table()));
        statement.add(&names.join(", "));
        if let Some(collect) = collect {
            statement.add(", ").add(&schema.quoted(collect));
        }
        statement.add(") SELECT ").list(values);
        if let Some(collect) = collect {
            statement.add(", ").add(schema.unset(collect));
        }
        if session.dialect() == Dialect::MySql {
            statement.add(" FROM DUAL");
        }
        statement.add(&format!(" WHERE NOT EXISTS (SELECT 1 FROM {} known WHERE ", schema.table()));
        statement.add(&schema.bytes("file_path")).add(" = ").value(Value::Bytes(row.file_path.as_bytes().to_vec()));
        self.since(&mut statement, &schema.name("id"));
        if let (Some(column), Some(media_server)) = (schema.column("media_server_id"), self.media_server) {
            statement.add(" AND (").add(&schema.quoted(column)).add(" IS NULL OR 1 = 1");
            exactly(&mut statement, schema, "media_server_id", Some(media_server));
            statement.add(")");
        }
        statement.add(")");
        statement
    }

    /// The table refuses the row: it has it already, or it cannot hold it.
    fn refused(&self, session: &mut Session<'_>, trouble: &Trouble) -> Result<Adopted, Fault> {
        let known = by_path(session, self.schema, &[&self.row.file_path])?;
        if let Some(id) = find(&known, self.row, self.media_server) {
            return Ok(Adopted::Known(id));
        }
        let said = trouble.said().unwrap_or_default();
        Ok(Adopted::Refused(if trouble.duplicate() {
            format!("a unique key of the table has a row of another media server for this path: {said}")
        } else {
            format!("the table refuses the row: {said}")
        }))
    }
}

/// Begins a transaction, alone among guards.
fn begin(session: &mut Session<'_>) -> Result<(), Fault> {
    match session.dialect() {
        Dialect::MySql => {
            let mut asked = session.statement("SELECT CAST(GET_LOCK(");
            asked.value(Value::Text(LOCK.to_owned())).add(", 10) AS BINARY)");
            // A cluster may have no such locks. Without it only another guard at the same moment could insert the same.
            if let Ok(rows) = session.ask(asked)
                && let Some(Some(held)) = rows.first().and_then(|cells| cells.first())
                && held == b"0"
            {
                return Err(Fault::silence("another guard inserts rows at this moment; try again later".to_owned()));
            }
            session.run(Doing::Inserting, "START TRANSACTION")
        }
        Dialect::Postgres => {
            session.run(Doing::Inserting, "BEGIN ISOLATION LEVEL READ COMMITTED")?;
            session.run(Doing::Inserting, &format!("SELECT pg_advisory_xact_lock(hashtext('{LOCK}'))"))
        }
    }
}

/// Ends it.
fn end(session: &mut Session<'_>, how: &str) -> Result<(), Fault> {
    session.run(Doing::Inserting, how)?;
    if session.dialect() == Dialect::MySql {
        let mut asked = session.statement("SELECT CAST(RELEASE_LOCK(");
        asked.value(Value::Text(LOCK.to_owned())).add(") AS BINARY)");
        // The end of the session releases it too.
        let _ = session.ask(asked);
    }
    Ok(())
}
