//! What goes wrong with a database, in sentences that say what to do.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::time::Duration;

use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::address::{Address, Options};
use crate::domain::catalogue::Distrust;

/// The longest part of a server's own words that is repeated.
const QUOTE: usize = 300;

/// What was to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Connecting,
    Reading,
    Removing,
    Inserting,
}

impl Doing {
    /// The rights that it takes.
    fn rights(self) -> &'static str {
        match self {
            Self::Connecting | Self::Reading => "SELECT",
            Self::Removing => "SELECT, DELETE",
            Self::Inserting => "SELECT, INSERT",
        }
    }
}

/// What a step ended with.
#[derive(Debug)]
pub(super) enum Trouble {
    Sql(sqlx::Error),
    /// No answer within this time.
    Late(Duration),
}

impl Trouble {
    fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Sql(error) => Some(error),
            Self::Late(_) => None,
        }
    }

    /// The number of a MySQL error.
    pub(super) fn number(&self) -> Option<u16> {
        let error = self.sql()?.as_database_error()?;
        error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
    }

    /// The code of a PostgreSQL error.
    pub(super) fn code(&self) -> Option<&str> {
        let error = self.sql()?.as_database_error()?;
        error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code)
    }

    /// What the server says itself, if it was the server who refused.
    pub(super) fn said(&self) -> Option<String> {
        self.sql()?.as_database_error().map(|error| quoted(error.message()))
    }

    /// There is such a row already.
    pub(super) fn duplicate(&self) -> bool {
        self.number() == Some(1062) || self.code() == Some("23505")
    }

    /// The row itself is refused: a value does not fit, or one is missing.
    pub(super) fn unfit(&self) -> bool {
        const MYSQL: [u16; 8] = [1048, 1264, 1265, 1364, 1366, 1406, 3988, 4025];
        self.number().is_some_and(|number| MYSQL.contains(&number))
            || self.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    }

    /// Another session was in the way: the same may succeed at once.
    pub(super) fn collided(&self) -> bool {
        self.number() == Some(1213) || matches!(self.code(), Some("40001" | "40P01"))
    }
}

/// A sentence, and whether the database is there but not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) shape: bool,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn shape(text: String) -> Self {
        Self { shape: true, text }
    }

    pub(super) fn silence(text: String) -> Self {
        Self { shape: false, text }
    }

    /// Why a catalogue is not believed, so many rows into a reading.
    pub(super) fn distrust(self, rows: u64) -> Distrust {
        match (self.shape, rows) {
            (true, 0) => Distrust::Shape { error: self.text },
            (false, 0) => Distrust::Unanswered { error: self.text },
            (_, rows) => Distrust::Partial { error: format!("after {rows} rows, {}", self.text) },
        }
    }

    pub(super) fn explain(address: &Address, account: &str, doing: Doing, trouble: Trouble) -> Self {
        let error = match trouble {
            Trouble::Late(limit) => return Self::silence(late(address, doing, limit)),
            Trouble::Sql(ref error) => error,
        };
        if let Some(said) = trouble.said() {
            let said = masked(address, &said);
            let known = match &address.options {
                Options::MySql(_) => mysql(address, account, doing, trouble.number().unwrap_or_default()),
                Options::Postgres(_) => postgres(address, account, doing, trouble.code().unwrap_or_default()),
            };
            return match known {
                Some(Self { shape, text }) => Self { shape, text: format!("{text} (it says: {said})") },
                None => Self::silence(format!("`{}` answers with an error: {said}", address.server)),
            };
        }
        Self::silence(wire(address, error))
    }
}

fn late(address: &Address, doing: Doing, limit: Duration) -> String {
    let (server, limit) = (&address.server, limit.as_secs_f64());
    match doing {
        Doing::Connecting => format!(
            "`{server}` does not answer within {limit} s; check the address, whether the database runs, and whether a firewall drops connections to it"
        ),
        Doing::Reading | Doing::Removing | Doing::Inserting => format!(
            "`{server}` gives no answer to a statement within {limit} s; check whether the database hangs, is overloaded, or cannot be reached any more"
        ),
    }
}

/// What was not said by the server itself: the connection, its encryption, its login.
fn wire(address: &Address, error: &sqlx::Error) -> String {
    let (server, user) = (&address.server, &address.user);
    if let sqlx::Error::Io(io) = error {
        let kind = io.kind();
        let lost =
            [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
        if kind == ErrorKind::ConnectionRefused {
            return format!(
                "nothing listens at `{server}`; check the address, and whether the database runs and accepts connections from this host"
            );
        }
        if kind == ErrorKind::NotFound {
            return format!(
                "a file that the `url` for `{server}` names is not there ({io}); check the socket and the certificates that it names"
            );
        }
        if kind == ErrorKind::InvalidData {
            return no_tls(address, &io.to_string());
        }
        if lost.contains(&kind) {
            return format!(
                "`{server}` ended the connection ({io}); check whether the database was stopped or restarted"
            );
        }
        return format!("`{server}` cannot be reached: {io}");
    }
    let text = masked(address, &quoted(&error.to_string()));
    if let sqlx::Error::Tls(_) = error {
        return no_tls(address, &text);
    }
    if text.contains("RSA auth") {
        return format!(
            "`{server}` lets user `{user}` log in by `caching_sha2_password` or `sha256_password` only over TLS; turn TLS on in the server (MySQL does it by \
             itself), do not turn it off in the `url`, or give the user `mysql_native_password`"
        );
    }
    if text.contains("authentication plugin") || text.contains("authentication method") || text.contains("auth plugin")
    {
        return format!(
            "`{server}` wants user `{user}` to log in by a method that is not supported ({text}); give the user a password by `mysql_native_password`, \
             `caching_sha2_password` (with TLS) or, for PostgreSQL, `scram-sha-256`"
        );
    }
    format!(
        "`{server}` does not speak as a database should ({text}); check that the `url` names the right kind of database and its port"
    )
}

fn no_tls(address: &Address, text: &str) -> String {
    let off = match &address.options {
        Options::MySql(_) => {
            "`ssl-mode=VERIFY_CA&ssl-ca=FILE` checks the server's certificate, `ssl-mode=DISABLED` goes without TLS"
        }
        Options::Postgres(_) => {
            "`sslmode=verify-full&sslrootcert=FILE` checks the server's certificate, `sslmode=disable` goes without TLS"
        }
    };
    format!("TLS with `{}` fails ({text}); it must offer TLS 1.2 or 1.3; in the `url`, {off}", address.server)
}

/// What an administrator says so that an account may do that.
pub(super) fn grant(address: &Address, account: &str, doing: Doing) -> String {
    let rights = doing.rights();
    match &address.options {
        Options::MySql(_) => {
            format!("GRANT {rights} ON `{}`.`wvp_cloud_record` TO {account};", address.database)
        }
        Options::Postgres(_) => {
            let mut text = format!("GRANT {rights} ON wvp_cloud_record TO {account};");
            if doing == Doing::Inserting {
                let _ = write!(text, " GRANT USAGE ON SEQUENCE wvp_cloud_record_id_seq TO {account};");
            }
            text
        }
    }
}

fn may_not(address: &Address, account: &str, doing: Doing) -> Fault {
    let what = match doing {
        Doing::Connecting => "use",
        Doing::Reading => "read the table `wvp_cloud_record` of",
        Doing::Removing => "delete rows of the table `wvp_cloud_record` of",
        Doing::Inserting => "insert rows into the table `wvp_cloud_record` of",
    };
    let (server, database) = (&address.server, &address.database);
    let grant = grant(address, account, doing);
    Fault::shape(format!(
        "user {account} may not {what} database `{database}` at `{server}`; as an administrator: {grant}"
    ))
}

fn login(address: &Address) -> Fault {
    let (server, user) = (&address.server, &address.user);
    Fault::silence(format!(
        "`{server}` refuses user `{user}`; check user and password, whether the user may come from this host, and whether it must use TLS"
    ))
}

fn other(address: &Address, doing: Doing) -> Fault {
    let (server, database) = (&address.server, &address.database);
    Fault::shape(match doing {
        Doing::Connecting => format!("`{server}` has no database `{database}`; check the `url`"),
        Doing::Reading | Doing::Removing | Doing::Inserting => {
            format!(
                "the table `wvp_cloud_record` of database `{database}` at `{server}` was changed meanwhile; it is asked again next time"
            )
        }
    })
}

fn slow(address: &Address) -> Fault {
    Fault::silence(format!("`{}` ended a statement that took too long; check its load", address.server))
}

fn locked(address: &Address) -> Fault {
    Fault::silence(format!("another session of `{}` holds the rows locked; it is tried again later", address.server))
}

fn read_only(address: &Address) -> Fault {
    Fault::silence(format!(
        "the database at `{}` is read-only, as a replica is; for changes the `url` must name the one that can be written",
        address.server
    ))
}

fn crowded(address: &Address) -> Fault {
    Fault::silence(format!("`{}` has no connection left for us; check its limit of connections", address.server))
}

fn mysql(address: &Address, account: &str, doing: Doing, number: u16) -> Option<Fault> {
    Some(match number {
        1045 | 1130 | 1698 | 1251 | 1862 | 3118 | 4151 => login(address),
        1044 | 1142 | 1143 | 1227 => may_not(address, account, doing),
        1049 => other(address, Doing::Connecting),
        1054 | 1146 | 1412 => other(address, Doing::Reading),
        1969 | 3024 | 1317 => slow(address),
        1205 | 1213 => locked(address),
        1290 | 1792 | 1836 => read_only(address),
        1040 | 1203 | 1226 => crowded(address),
        _ => return None,
    })
}

fn postgres(address: &Address, account: &str, doing: Doing, code: &str) -> Option<Fault> {
    Some(match code {
        "28P01" | "28000" => login(address),
        "42501" => may_not(address, account, doing),
        "3D000" => other(address, Doing::Connecting),
        "42P01" | "42703" => other(address, Doing::Reading),
        "57014" => slow(address),
        "55P03" | "40001" | "40P01" => locked(address),
        "25006" => read_only(address),
        "53300" => crowded(address),
        "08P01" => Fault::silence(format!(
            "`{}` does not take the settings of a session, as a pooler such as PgBouncer does not; the `url` must name PostgreSQL itself",
            address.server
        )),
        "57P01" | "57P02" | "57P03" => {
            Fault::silence(format!("`{}` is being stopped or started; it is asked again next time", address.server))
        }
        _ => return None,
    })
}

/// Without what would break a line, and not endless.
fn quoted(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTE).collect()
}

/// A server that was given a password in the clear could repeat it.
fn masked(address: &Address, text: &str) -> String {
    match &address.password {
        Some(password) if !password.reveal().is_empty() => text.replace(password.reveal(), "***"),
        _ => text.to_owned(),
    }
}
