//! One connection: opened, prepared, asked and closed, each step within its limit.

use std::future::Future;
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor as _, Row as _};
use tokio::runtime::Runtime;

use super::address::{Address, Options};
use super::fault::{Doing, Fault, Trouble};

/// What a goodbye may take; the work is done by then.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a database may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a connection, the login included.
    pub connect: Duration,
    /// For a statement, as the server counts it: it then ends the statement itself.
    pub statement: Duration,
    /// For the answer to a statement, as we count it: more than `statement`, for servers and networks that say nothing at all.
    pub answer: Duration,
    /// For a lock that another session holds.
    pub lock: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            statement: Duration::from_secs(30),
            answer: Duration::from_secs(40),
            lock: Duration::from_secs(10),
        }
    }
}

/// Which language is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    MySql,
    Postgres,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The server refuses what writes.
    Reading,
    Writing,
}

/// A value that a statement is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// A text that is not there.
    Nothing,
}

/// One value of an answer, as bytes.
pub(super) type Cell = Option<Vec<u8>>;

/// A statement and its values.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    dialect: Dialect,
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    pub(super) fn new(dialect: Dialect, sql: impl Into<String>) -> Self {
        Self { dialect, sql: sql.into(), values: Vec::new() }
    }

    /// Adds text of our own, with identifiers quoted.
    pub(super) fn add(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds a value.
    pub(super) fn value(&mut self, value: Value) -> &mut Self {
        self.values.push(value);
        match self.dialect {
            Dialect::MySql => self.sql.push('?'),
            Dialect::Postgres => self.sql.push_str(&format!("${}", self.values.len())),
        }
        self
    }

    /// Adds values with commas between them.
    pub(super) fn list(&mut self, values: impl IntoIterator<Item = Value>) -> &mut Self {
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.sql.push_str(", ");
            }
            self.value(value);
        }
        self
    }
}

enum Connection {
    MySql(MySqlConnection),
    Postgres(PgConnection),
}

/// What changed, and the number that a new row got, where the server says it beside the answer.
pub(super) struct Changed {
    pub(super) rows: u64,
    pub(super) id: Option<i64>,
}

/// A connection that is ready for statements.
pub(super) struct Session<'a> {
    runtime: &'a Runtime,
    address: &'a Address,
    limits: Limits,
    connection: Connection,
    /// Who we are there, as a `GRANT` names it.
    pub(super) account: String,
    /// How the database keeps its text; PostgreSQL alone.
    pub(super) encoding: String,
}

/// Binds, and gives what the statement answers.
macro_rules! bound {
    ($statement:expr) => {{
        // PostgreSQL would keep a statement for a shape that the table may lose, and behind a pooler for another session.
        let kept = $statement.dialect == Dialect::MySql;
        let mut query = sqlx::query(AssertSqlSafe($statement.sql)).persistent(kept);
        for value in $statement.values {
            query = match value {
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::Nothing => query.bind(None::<String>),
            };
        }
        query
    }};
}

macro_rules! cells {
    ($rows:expr) => {
        $rows.iter().map(|row| (0..row.len()).map(|at| row.try_get_unchecked::<Cell, _>(at)).collect()).collect()
    };
}

/// Waits for a step, no longer than its limit.
fn within<T>(
    runtime: &Runtime,
    limit: Duration,
    step: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Trouble> {
    match runtime.block_on(async { tokio::time::timeout(limit, step).await }) {
        Ok(done) => done.map_err(Trouble::Sql),
        Err(_) => Err(Trouble::Late(limit)),
    }
}

impl<'a> Session<'a> {
    /// Connects, and sets the limits.
    pub(super) fn open(runtime: &'a Runtime, address: &'a Address, limits: Limits, mode: Mode) -> Result<Self, Fault> {
        let opening = async {
            Ok(match &address.options {
                Options::MySql(options) => Connection::MySql(options.connect().await?),
                Options::Postgres(options) => {
                    let options = options.clone().options(postgres_settings(limits, mode));
                    Connection::Postgres(options.connect().await?)
                }
            })
        };
        let account = address.user.clone();
        let fault = |trouble| Fault::explain(address, &account, Doing::Connecting, trouble);
        let connection = within(runtime, limits.connect, opening).map_err(fault)?;
        let mut session = Self { runtime, address, limits, connection, account, encoding: String::new() };
        match session.dialect() {
            Dialect::MySql => session.prepare_mysql(mode)?,
            Dialect::Postgres => session.prepare_postgres()?,
        }
        Ok(session)
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self.connection {
            Connection::MySql(_) => Dialect::MySql,
            Connection::Postgres(_) => Dialect::Postgres,
        }
    }

    pub(super) fn address(&self) -> &'a Address {
        self.address
    }

    pub(super) fn statement(&self, sql: impl Into<String>) -> Statement {
        Statement::new(self.dialect(), sql)
    }

    /// The first row of an answer, as texts.
    fn texts(&mut self, sql: &str) -> Result<Vec<String>, Fault> {
        let rows = self.rows(Doing::Connecting, self.statement(sql))?;
        let cells = rows.into_iter().next().unwrap_or_default();
        Ok(cells.into_iter().map(|cell| text(&cell.unwrap_or_default())).collect())
    }

    fn prepare_mysql(&mut self, mode: Mode) -> Result<(), Fault> {
        // With it off, all readings would see the moment of the first.
        self.run(Doing::Connecting, "SET SESSION autocommit = 1")?;
        let told = self.texts("SELECT CAST(VERSION() AS BINARY), CAST(CURRENT_USER() AS BINARY)")?;
        let (version, account) = (told.first().cloned().unwrap_or_default(), told.get(1).cloned().unwrap_or_default());
        if let Some((user, host)) = account.rsplit_once('@') {
            self.account = format!("'{user}'@'{host}'");
        }
        let mut limits = [
            format!("SET SESSION max_statement_time = {}", self.limits.statement.as_secs_f64()),
            format!("SET SESSION max_execution_time = {}", self.limits.statement.as_millis()),
        ];
        if !version.contains("MariaDB") {
            limits.reverse();
        }
        // A server that has neither is old, and our own limit remains.
        for limit in limits {
            match self.attempt(self.limits.answer, &limit) {
                Ok(()) => break,
                Err(trouble) if trouble.number() == Some(1193) => {}
                Err(trouble) => return Err(self.fault(Doing::Connecting, trouble)),
            }
        }
        match mode {
            Mode::Reading => self.run(Doing::Connecting, "SET SESSION TRANSACTION READ ONLY"),
            Mode::Writing => {
                // What does not fit is an error, and not cut to size.
                let strict = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')";
                self.run(Doing::Connecting, strict)?;
                let lock = format!("SET SESSION innodb_lock_wait_timeout = {}", self.limits.lock.as_secs().max(1));
                self.run(Doing::Connecting, &lock)
            }
        }
    }

    fn prepare_postgres(&mut self) -> Result<(), Fault> {
        let told = self.texts(
            "SELECT convert_to(quote_ident(current_user::text), 'UTF8'), convert_to(getdatabaseencoding()::text, 'UTF8')",
        )?;
        if let [account, encoding] = &*told {
            self.account.clone_from(account);
            self.encoding.clone_from(encoding);
        }
        Ok(())
    }

    fn attempt(&mut self, limit: Duration, sql: &str) -> Result<(), Trouble> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        let step = async {
            match &mut self.connection {
                Connection::MySql(connection) => connection.execute(sql).await.map(|_| ()),
                Connection::Postgres(connection) => connection.execute(sql).await.map(|_| ()),
            }
        };
        within(self.runtime, limit, step)
    }

    /// What went wrong, as a sentence.
    pub(super) fn fault(&self, doing: Doing, trouble: Trouble) -> Fault {
        Fault::explain(self.address, &self.account, doing, trouble)
    }

    /// Runs a statement without values, whose answer does not matter.
    pub(super) fn run(&mut self, doing: Doing, sql: &str) -> Result<(), Fault> {
        self.attempt(self.limits.answer, sql).map_err(|trouble| self.fault(doing, trouble))
    }

    /// Asks. Every column of the answer must be bytes.
    pub(super) fn rows(&mut self, doing: Doing, statement: Statement) -> Result<Vec<Vec<Cell>>, Fault> {
        self.ask(statement).map_err(|trouble| self.fault(doing, trouble))
    }

    /// Asks; what goes wrong is for the caller to judge.
    pub(super) fn ask(&mut self, statement: Statement) -> Result<Vec<Vec<Cell>>, Trouble> {
        let step = async {
            match &mut self.connection {
                Connection::MySql(connection) => cells!(bound!(statement).fetch_all(connection).await?),
                Connection::Postgres(connection) => cells!(bound!(statement).fetch_all(connection).await?),
            }
        };
        within(self.runtime, self.limits.answer, step)
    }

    /// Changes something; what goes wrong is for the caller to judge.
    pub(super) fn change(&mut self, statement: Statement) -> Result<Changed, Trouble> {
        let step = async {
            Ok(match &mut self.connection {
                Connection::MySql(connection) => {
                    let done = bound!(statement).execute(connection).await?;
                    Changed { rows: done.rows_affected(), id: i64::try_from(done.last_insert_id()).ok() }
                }
                Connection::Postgres(connection) => {
                    Changed { rows: bound!(statement).execute(connection).await?.rows_affected(), id: None }
                }
            })
        };
        within(self.runtime, self.limits.answer, step)
    }

    /// Says goodbye, so that the server does not log a lost connection.
    pub(super) fn close(self) {
        let step = async {
            match self.connection {
                Connection::MySql(connection) => connection.close().await,
                Connection::Postgres(connection) => connection.close().await,
            }
        };
        // Whether it hears that does not matter.
        let _ = within(self.runtime, GOODBYE, step);
    }
}

/// What a session is told as it begins. Not by `SET`: a pooler that lends its sessions out would hand such settings on to others, and WVP
/// could not write any more.
fn postgres_settings(limits: Limits, mode: Mode) -> [(&'static str, String); 4] {
    let read_only = match mode {
        Mode::Reading => "on",
        Mode::Writing => "off",
    };
    [
        ("default_transaction_read_only", read_only.to_owned()),
        ("statement_timeout", limits.statement.as_millis().to_string()),
        ("lock_timeout", limits.lock.as_millis().to_string()),
        // Without statistics, after a restore, it would go through the whole table and sort it for each page.
        ("enable_sort", "off".to_owned()),
    ]
}

/// Text for people.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A whole number, of which a fraction is dropped.
pub(super) fn number(cell: Option<&[u8]>) -> Option<i64> {
    let text = std::str::from_utf8(cell?).ok()?;
    text.split('.').next()?.trim().parse().ok()
}
