//! Which columns the table has, and how each is read as bytes.

use super::fault::{Doing, Fault, grant};
use super::session::{Cell, Dialect, Session, Statement, Value, number, text};

/// The table.
const TABLE: &str = "wvp_cloud_record";
/// Without these nothing can be read, or nobody knows what a person wants kept: every version of WVP has them.
const NEEDED: [&str; 3] = ["id", "file_path", "collect"];

/// A column, as the database describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name as it stands there: one upgrade path of WVP writes `serverId`.
    pub(super) name: String,
    /// Its type, in lower case.
    kind: String,
    /// How many characters it holds.
    pub(super) longest: Option<usize>,
    /// The characters of a text in MySQL.
    charset: Option<String>,
}

/// The table, as it was found.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    dialect: Dialect,
    /// Qualified where the language allows several, and quoted.
    table: String,
    /// What text is turned into: UTF-8, or nothing else where the database keeps bytes.
    encoding: &'static str,
    columns: Vec<Column>,
}

impl Schema {
    /// Asks for the columns.
    pub(super) fn find(session: &mut Session<'_>) -> Result<Self, Fault> {
        let schema = match session.dialect() {
            Dialect::MySql => mysql(session)?,
            Dialect::Postgres => postgres(session)?,
        };
        for name in NEEDED {
            if schema.column(name).is_none() {
                let (place, account) = (place(session), &session.account);
                return Err(Fault::shape(format!(
                    "the table `{TABLE}` of {place} has no column `{name}`, or user {account} may not see it; check that it is the table of a WVP of 2.6.9 \
                     or later, and: {}",
                    grant(session.address(), &session.account, Doing::Reading)
                )));
            }
        }
        let id = schema.column("id").map_or("", |column| &column.kind);
        if !id.contains("int") && !id.contains("numeric") && !id.contains("decimal") {
            let place = place(session);
            return Err(Fault::shape(format!(
                "the column `id` of the table `{TABLE}` of {place} is of type `{id}`, but must be a whole number, as WVP makes it"
            )));
        }
        Ok(schema)
    }

    /// The table's name, for a statement.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// A column by WVP's name of it, whatever its spelling.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The columns that say which WVP made a row: one, or two after an upgrade by both of WVP's scripts.
    pub(super) fn servers(&self) -> Vec<&Column> {
        ["server_id", "serverId"].iter().filter_map(|name| self.column(name)).collect()
    }

    /// A name, quoted.
    pub(super) fn quoted(&self, column: &Column) -> String {
        quote(self.dialect, &column.name)
    }

    /// A needed column's name, quoted.
    pub(super) fn name(&self, name: &str) -> String {
        self.column(name).map_or_else(|| quote(self.dialect, name), |column| self.quoted(column))
    }

    /// A column's value as bytes: a text in UTF-8, or the bytes as they are where the column or the database knows no characters.
    pub(super) fn bytes_of(&self, column: &Column) -> String {
        let name = self.quoted(column);
        match self.dialect {
            Dialect::MySql => format!("CAST({} AS BINARY)", self.compared(column)),
            Dialect::Postgres if column.kind == "bytea" => name,
            Dialect::Postgres => format!("convert_to({name}::text, '{}')", self.encoding),
        }
    }

    /// The same by name; nothing for a column that is not there.
    pub(super) fn bytes(&self, name: &str) -> String {
        match (self.column(name), self.dialect) {
            (Some(column), _) => self.bytes_of(column),
            (None, Dialect::MySql) => "NULL".to_owned(),
            (None, Dialect::Postgres) => "NULL::bytea".to_owned(),
        }
    }

    /// A column as it can be compared with [`Self::comparable`]. A server refuses to compare one that cannot hold all characters.
    pub(super) fn compared(&self, column: &Column) -> String {
        let name = self.quoted(column);
        match &column.charset {
            Some(charset) if self.dialect == Dialect::MySql && !charset.starts_with("utf8") && charset != "ascii" => {
                format!("CONVERT({name} USING utf8mb4)")
            }
            Some(_) | None => name,
        }
    }

    /// A text to compare a column with.
    pub(super) fn comparable(&self, column: &Column, value: &str) -> Value {
        let binary = column.kind == "bytea" || column.kind.contains("binary") || column.kind.contains("blob");
        if binary { Value::Bytes(value.as_bytes().to_vec()) } else { Value::Text(value.to_owned()) }
    }

    /// What says "not wanted kept" in the column.
    pub(super) fn unset(&self, column: &Column) -> &'static str {
        match (self.dialect, &*column.kind) {
            (Dialect::Postgres, "boolean" | "bool") => "FALSE",
            (Dialect::Postgres, "bit") => "B'0'",
            (Dialect::Postgres | Dialect::MySql, _) => "0",
        }
    }

    /// `SELECT` of these expressions from the table.
    pub(super) fn select(&self, expressions: &[String]) -> Statement {
        Statement::new(self.dialect, format!("SELECT {} FROM {}", expressions.join(", "), self.table))
    }
}

/// Where a table is, for people.
fn place(session: &Session<'_>) -> String {
    let address = session.address();
    format!("database `{}` at `{}`", address.database, address.server)
}

/// A name as the language wants it.
fn quote(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::MySql => format!("`{}`", name.replace('`', "``")),
        Dialect::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

fn column(cells: &[Cell]) -> Option<Column> {
    let cell = |at: usize| cells.get(at).and_then(Option::as_deref);
    Some(Column {
        name: text(cell(0)?),
        kind: text(cell(1).unwrap_or_default()).to_ascii_lowercase(),
        longest: number(cell(2)).and_then(|longest| usize::try_from(longest).ok()),
        charset: cell(3).map(|charset| text(charset).to_ascii_lowercase()),
    })
}

fn mysql(session: &mut Session<'_>) -> Result<Schema, Fault> {
    let binary = |name: &str| format!("CAST({name} AS BINARY)");
    let mut asked = session.statement("SELECT ");
    let names = ["column_name", "data_type", "character_maximum_length", "character_set_name"];
    asked.add(&names.map(binary).join(", "));
    asked.add(" FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ");
    asked.value(Value::Text(TABLE.to_owned())).add(" ORDER BY ordinal_position");
    let rows = session.rows(Doing::Reading, asked)?;
    if rows.is_empty() {
        // It shows a user only what that user has some right to.
        return Err(Fault::shape(format!(
            "{} has no table `{TABLE}`, or user {} may not see it; check that the `url` names WVP's database, and: {}",
            place(session),
            session.account,
            grant(session.address(), &session.account, Doing::Reading)
        )));
    }
    let columns = rows.iter().filter_map(|cells| column(cells)).collect();
    Ok(Schema { dialect: Dialect::MySql, table: quote(Dialect::MySql, TABLE), encoding: "UTF8", columns })
}

fn postgres(session: &mut Session<'_>) -> Result<Schema, Fault> {
    let bytes = |name: &str| format!("convert_to({name}::text, 'UTF8')");
    let mut asked = session.statement("SELECT ");
    let place = "array_position(current_schemas(false), table_schema::name)";
    let names = ["column_name", "data_type", "character_maximum_length", "NULL", "table_schema", place];
    asked.add(&names.map(bytes).join(", "));
    asked.add(" FROM information_schema.columns WHERE table_schema = ANY(current_schemas(false)) AND table_name = ");
    asked.value(Value::Text(TABLE.to_owned()));
    let rows = session.rows(Doing::Reading, asked)?;
    // The first schema of the search path that has it is the one that WVP means.
    let place = |cells: &&Vec<Cell>| cells.get(5).and_then(|cell| number(cell.as_deref()));
    let first = |cells: &Vec<Cell>| cells.get(4).cloned().flatten();
    let Some(schema) = rows.iter().min_by_key(place).and_then(first) else { return Err(hidden(session)?) };
    let here = rows.iter().filter(|cells| first(cells).as_ref() == Some(&schema));
    let columns = here.filter_map(|cells| column(cells)).collect();
    let schema = text(&schema);
    let table = format!("{}.{}", quote(Dialect::Postgres, &schema), quote(Dialect::Postgres, TABLE));
    // A database of this kind keeps bytes and checks nothing: no other encoding could be made of them.
    let encoding = if session.encoding == "SQL_ASCII" { "SQL_ASCII" } else { "UTF8" };
    Ok(Schema { dialect: Dialect::Postgres, table, encoding, columns })
}

/// Why the table is not seen: it is in a schema outside the search path, the user has no right to it, or it is not there.
fn hidden(session: &mut Session<'_>) -> Result<Fault, Fault> {
    let mut asked = session.statement(
        "SELECT convert_to(quote_ident(n.nspname::text), 'UTF8'), convert_to((n.nspname = ANY(current_schemas(false)))::text, 'UTF8') \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = ",
    );
    asked.value(Value::Text(TABLE.to_owned()));
    let rows = session.rows(Doing::Reading, asked)?;
    let (place, account) = (place(session), &session.account);
    let Some([Some(schema), Some(on_path)]) = rows.first().map(|cells| &cells[..]) else {
        return Ok(Fault::shape(format!("{place} has no table `{TABLE}`; check that the `url` names WVP's database")));
    };
    let schema = text(schema);
    let rights = format!("GRANT USAGE ON SCHEMA {schema} TO {account}; GRANT SELECT ON {schema}.{TABLE} TO {account};");
    Ok(Fault::shape(if on_path == b"true" {
        format!("user {account} may not read the table `{TABLE}` of {place}; as an administrator: {rights}")
    } else {
        format!(
            "the table `{TABLE}` of {place} is in the schema {schema}, which user {account} may not use or which is not in its search path; as an \
             administrator: {rights} ALTER ROLE {account} SET search_path = {schema};"
        )
    }))
}
