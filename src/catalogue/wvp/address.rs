//! Where the table is, and who asks for it.

use std::str::FromStr;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Error};

use crate::domain::secret::Secret;

/// What a URL may say behind its `?`.
const MYSQL_OPTIONS: [&str; 13] = [
    "sslmode",
    "ssl-mode",
    "sslca",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "charset",
    "collation",
    "socket",
    "timezone",
    "time-zone",
];
const POSTGRES_OPTIONS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// How to connect.
pub(super) enum Options {
    MySql(MySqlConnectOptions),
    Postgres(PgConnectOptions),
}

/// A database, and the account that is used there.
pub(super) struct Address {
    pub(super) options: Options,
    /// Host and port, or the socket: what errors name.
    pub(super) server: String,
    pub(super) user: String,
    pub(super) database: String,
    /// To be masked in what the server says.
    pub(super) password: Option<Secret>,
}

/// What a URL says, before anything is made of it.
struct Parts<'a> {
    user: bool,
    password: Option<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = before.split('/').next().unwrap_or_default();
        let login = authority.rsplit_once('@').map(|(login, _)| login);
        let (user, password) = login.map_or(("", None), |login| match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        });
        let query = query.split('#').next().unwrap_or_default();
        let options = query.split('&').filter(|part| !part.is_empty());
        let options = options.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
        Self { user: !user.is_empty(), password: password.filter(|text| !text.is_empty()), options }
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// An option that nobody knows would be passed over in silence, a misspelt `ssl-mode` among them.
    fn check(&self, known: &[&str]) -> Result<(), String> {
        let fine = |key: &str| known.contains(&key) || (key.starts_with("options[") && known.contains(&"options"));
        match self.options.iter().find(|(key, _)| !fine(key)) {
            Some((key, _)) => {
                Err(format!("its `url` has the unknown option `{key}`; it can have {}", known.join(", ")))
            }
            None => Ok(()),
        }
    }
}

impl Address {
    /// Reads a URL; user and password are taken from beside it where it has none.
    ///
    /// # Errors
    /// What is wrong with it: a sentence without the URL, which may hold a password.
    pub(super) fn parse(url: &Secret, username: Option<&str>, password: Option<&Secret>) -> Result<Self, String> {
        let (scheme, rest) = url.reveal().split_once("://").unwrap_or_default();
        let parts = Parts::of(rest);
        let password = match parts.password.or(parts.option("password")) {
            Some(text) => Some(Secret::new(&percent_encoding::percent_decode_str(text).decode_utf8_lossy())),
            None => password.cloned(),
        };
        let named = parts.user || parts.option("user").is_some_and(|user| !user.is_empty());
        if !named && username.is_none() {
            return Err("its `url` names no user; set `username`".to_owned());
        }
        let username = username.filter(|_| !named);
        match scheme {
            "mysql" | "mariadb" => mysql(url, &parts, username, password),
            "postgres" | "postgresql" => postgres(url, &parts, username, password),
            _ => Err("its `url` is none of `mysql://host/database` and `postgres://host/database`".to_owned()),
        }
    }
}

fn mysql(url: &Secret, parts: &Parts<'_>, username: Option<&str>, password: Option<Secret>) -> Result<Address, String> {
    parts.check(&MYSQL_OPTIONS)?;
    let mut options = MySqlConnectOptions::from_str(url.reveal()).map_err(|error| unreadable(&error))?;
    let host = bare(options.get_host());
    // What is read and written is UTF-8, whatever the server prefers.
    options = options.host(&host).charset("utf8mb4").disable_statement_logging();
    if let Some(user) = username {
        options = options.username(user);
    }
    if let Some(password) = &password {
        options = options.password(password.reveal());
    }
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => shown(&host, options.get_port()),
    };
    let database = options.get_database().map(str::to_owned).ok_or_else(no_database)?;
    let user = options.get_username().to_owned();
    Ok(Address { options: Options::MySql(options), server, user, database, password })
}

fn postgres(
    url: &Secret,
    parts: &Parts<'_>,
    username: Option<&str>,
    password: Option<Secret>,
) -> Result<Address, String> {
    parts.check(&POSTGRES_OPTIONS)?;
    let mut options = PgConnectOptions::from_str(url.reveal()).map_err(|error| unreadable(&error))?;
    let host = bare(options.get_host());
    if options.get_socket().is_none() {
        options = options.host(&host);
    }
    options = options.disable_statement_logging();
    if let Some(user) = username {
        options = options.username(user);
    }
    if let Some(password) = &password {
        options = options.password(password.reveal());
    }
    if options.get_application_name().is_none() {
        options = options.application_name("storage-guard");
    }
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => shown(&host, options.get_port()),
    };
    let database = options.get_database().map(str::to_owned).ok_or_else(no_database)?;
    let user = options.get_username().to_owned();
    Ok(Address { options: Options::Postgres(options), server, user, database, password })
}

fn no_database() -> String {
    "its `url` names no database; write it behind the host, such as `mysql://host/wvp`".to_owned()
}

fn unreadable(error: &Error) -> String {
    format!("its `url` cannot be read: {error}")
}

/// Without the brackets of an IPv6 address, which belong to the URL.
fn bare(host: &str) -> String {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned()
}

fn shown(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, username: Option<&str>, password: Option<&str>) -> Result<Address, String> {
        Address::parse(&Secret::new(url), username, password.map(Secret::new).as_ref())
    }

    #[test]
    fn who_and_where_come_from_the_url_and_else_from_beside_it() {
        for (url, username, password, expected) in [
            ("mysql://db/wvp", Some("guard"), Some("key"), ("db:3306", "guard", "wvp", Some("key"))),
            ("mariadb://db:3307/wvp", Some("guard"), None, ("db:3307", "guard", "wvp", None)),
            ("mysql://own:p%40ss@db/wvp", Some("guard"), Some("key"), ("db:3306", "own", "wvp", Some("p@ss"))),
            ("mysql://own@db/wvp", Some("guard"), Some("key"), ("db:3306", "own", "wvp", Some("key"))),
            ("mysql://[::1]/wvp", Some("guard"), None, ("[::1]:3306", "guard", "wvp", None)),
            ("mysql://db/wvp?socket=/run/db.sock", Some("guard"), None, ("/run/db.sock", "guard", "wvp", None)),
            ("postgres://db/wvp", Some("guard"), Some("key"), ("db:5432", "guard", "wvp", Some("key"))),
            ("postgresql://own:s@db:99/wvp", Some("guard"), Some("key"), ("db:99", "own", "wvp", Some("s"))),
            ("postgres://[::1]/wvp?user=own&password=s", None, None, ("[::1]:5432", "own", "wvp", Some("s"))),
        ] {
            let found = parse(url, username, password).unwrap();
            let secret = found.password.as_ref().map(Secret::reveal);
            assert_eq!((&*found.server, &*found.user, &*found.database, secret), expected, "{url}");
        }
    }

    #[test]
    fn tls_is_used_where_the_server_has_it_unless_the_url_says_more() {
        for (url, expected) in [
            ("mysql://db/wvp", "Preferred"),
            ("mysql://db/wvp?ssl-mode=VERIFY_CA&ssl-ca=/etc/ca.pem", "VerifyCa"),
            ("postgres://db/wvp", "Prefer"),
            ("postgres://db/wvp?sslmode=verify-full&sslrootcert=/etc/ca.pem", "VerifyFull"),
        ] {
            let mode = match parse(url, Some("guard"), None).unwrap().options {
                Options::MySql(options) => format!("{:?}", options.get_ssl_mode()),
                Options::Postgres(options) => format!("{:?}", options.get_ssl_mode()),
            };
            assert_eq!(mode, expected, "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_told_without_showing_it() {
        for (url, username, expected) in [
            ("mysql://own:hidden@db", None, "names no database"),
            ("mysql://db/wvp", None, "set `username`"),
            ("mysql://own:hidden@db:none/wvp", None, "cannot be read"),
            ("mysql://own:hidden@db/wvp?ssl_mode=REQUIRED", None, "unknown option `ssl_mode`"),
            ("postgres://own:hidden@db/wvp?passwd=hidden", None, "unknown option `passwd`"),
            ("postgres://own:hidden@db/wvp?sslmode=always", None, "cannot be read"),
            ("http://own:hidden@db/wvp", None, "`mysql://host/database`"),
        ] {
            let Err(error) = parse(url, username, None) else { panic!("{url} is taken") };
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("hidden"), "{url}: {error}");
        }
    }
}
