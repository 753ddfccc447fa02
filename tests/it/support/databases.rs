//! Debian's MariaDB and PostgreSQL, each with a data directory and a port of its own, ended when dropped, also when the test fails.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{certificate, run, wait_for};

/// What an administrator of the test logs in with.
const ADMIN: &str = "administrator";
/// What every other user logs in with.
pub(crate) const PASSWORD: &str = "p@ss/w:rd";

/// The versions of WVP's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wvp {
    /// 2.6.9 to 2.7.1: no server, short paths, a unique key.
    Old,
    /// An upgrade that spells it `serverId`.
    ServerId,
    /// An upgrade with a fraction in `time_len`.
    Double,
    /// 2.7.4.
    New,
}

impl Wvp {
    pub(crate) const ALL: [Self; 4] = [Self::Old, Self::ServerId, Self::Double, Self::New];

    /// The column that says which WVP made a row.
    pub(crate) fn server(self) -> Option<&'static str> {
        match self {
            Self::Old => None,
            Self::ServerId => Some("serverId"),
            Self::Double | Self::New => Some("server_id"),
        }
    }

    /// Its columns except `id`, in WVP's order.
    pub(crate) fn columns(self) -> Vec<&'static str> {
        let mut columns = vec!["app", "stream", "call_id", "start_time", "end_time", "media_server_id"];
        columns.extend(self.server());
        columns.extend(["file_name", "folder", "file_path", "collect", "file_size", "time_len"]);
        columns
    }

    /// What makes it.
    fn table(self, id: &str) -> String {
        let width = if self == Self::New { 500 } else { 255 };
        let kind = |column: &str| match column {
            "start_time" | "end_time" | "file_size" => "bigint".to_owned(),
            "time_len" if self == Self::Double => "double precision".to_owned(),
            "time_len" => "bigint".to_owned(),
            "collect" => "bool default false".to_owned(),
            "media_server_id" | "server_id" | "serverId" => "character varying(50)".to_owned(),
            "folder" | "file_path" => format!("character varying({width})"),
            _ => "character varying(255)".to_owned(),
        };
        let columns: Vec<String> = self.columns().iter().map(|column| format!("{column} {}", kind(column))).collect();
        let key = match self {
            Self::Old => ", constraint one_row_a_path unique (app, stream, file_path)",
            Self::ServerId | Self::Double | Self::New => "",
        };
        format!("create table wvp_cloud_record ({id}, {}{key});", columns.join(", "))
    }
}

/// What a user of the test may do with the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    /// Log in.
    Nothing,
    /// Read it.
    Read,
    /// Remove and insert too.
    Write,
}

/// What both have in common.
pub(crate) trait Server: Sync {
    /// `mysql` or `postgres`.
    fn scheme(&self) -> &'static str;
    /// Where it listens, on loopback.
    fn port(&self) -> u16;
    /// Runs statements as the administrator; gives what they answer, a line a row, tabs between values.
    fn sql(&self, database: &str, statements: &str) -> String;
    /// Makes a database with WVP's table.
    fn create(&self, database: &str, version: Wvp);
    /// Makes a user, who logs in with [`PASSWORD`].
    fn user(&self, database: &str, name: &str, may: May);
    /// Makes a user who may log in over TLS only.
    fn careful_user(&self, database: &str, name: &str);
    /// The certificate of the authority that its own is signed by.
    fn authority(&self) -> PathBuf;
    /// The numbers of its processes that answer statements.
    fn processes(&self) -> Vec<Pid>;

    /// Where a user finds a database.
    fn url(&self, database: &str) -> String {
        format!("{}://127.0.0.1:{}/{database}", self.scheme(), self.port())
    }

    /// Its processes get a signal.
    fn signal(&self, signal: Signal) {
        for process in self.processes() {
            // One that has just ended is none any more.
            let _ = kill_process(process, signal);
        }
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn file(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// Runs a client with statements on its standard input.
fn client(mut command: Command, statements: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // Its answer may be longer than what a pipe holds, so that one side must be a thread.
    let statements = statements.to_owned();
    let writer = std::thread::spawn(move || input.write_all(statements.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until it answers; `false` if it ended instead, as it does when its port was taken meanwhile.
fn answers(child: &mut Child, mut asked: impl FnMut() -> bool) -> bool {
    let mut ended = false;
    wait_for("the database answers", || {
        ended = child.try_wait().unwrap().is_some();
        ended || asked()
    });
    !ended
}

/// A MariaDB that offers TLS.
pub(crate) struct MariaDb {
    child: Child,
    home: PathBuf,
    port: u16,
}

impl MariaDb {
    /// Makes and starts one in a folder below this.
    pub(crate) fn start(home: &Path) -> Self {
        let home = home.join("mariadb");
        std::fs::create_dir(&home).unwrap();
        certificate(&home);
        let data = format!("--datadir={}", home.join("data").display());
        let install = ["--no-defaults", "--user=root", "--skip-test-db", "--auth-root-authentication-method=normal"];
        // Two that are made at once take each other's temporary tables away where they share the folder.
        let temporary = format!("--tmpdir={}", home.display());
        run("mariadb-install-db", &[&install[..], &[&data, &temporary]].concat());
        for _ in 0..5 {
            let port = free_port();
            let mut command = Command::new("mariadbd");
            command.args(["--no-defaults", "--user=root", &data, &temporary, "--bind-address=127.0.0.1"]);
            command.arg(format!("--port={port}")).arg(format!("--socket={}", home.join("socket").display()));
            command.arg(format!("--pid-file={}", home.join("pid").display()));
            command.arg(format!("--log-error={}", home.join("log").display()));
            command.args([
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-buffer-pool-size=32M",
                "--skip-name-resolve",
            ]);
            for name in ["ca", "cert", "key"] {
                command.arg(format!("--ssl-{name}={}", home.join(format!("{name}.pem")).display()));
            }
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut server = Self { child, home: home.clone(), port };
            let mut asked = server.client("");
            asked.args(["-e", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null());
            if answers(&mut server.child, || asked.status().unwrap().success()) {
                return server;
            }
        }
        panic!("{}", std::fs::read_to_string(home.join("log")).unwrap_or_default());
    }

    fn client(&self, database: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args([
            "--no-defaults",
            "--batch",
            "--skip-column-names",
            "--user=root",
            "--default-character-set=utf8mb4",
        ]);
        command.arg(format!("--socket={}", self.home.join("socket").display()));
        if !database.is_empty() {
            command.arg(database);
        }
        command
    }
}

impl Server for MariaDb {
    fn scheme(&self) -> &'static str {
        "mysql"
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn sql(&self, database: &str, statements: &str) -> String {
        client(self.client(database), statements)
    }

    fn create(&self, database: &str, version: Wvp) {
        self.sql("", &format!("create database {database} character set utf8mb4"));
        self.sql(database, &version.table("id integer auto_increment primary key"));
    }

    fn user(&self, database: &str, name: &str, may: May) {
        let rights = match may {
            May::Nothing => "USAGE",
            May::Read => "SELECT",
            May::Write => "SELECT, INSERT, DELETE",
        };
        // Without any right in it, the database cannot be named at all.
        let other = format!(
            "create table if not exists {database}.other (id int); GRANT SELECT ON {database}.other TO '{name}'@'%';"
        );
        let grant = format!("GRANT {rights} ON {database}.wvp_cloud_record TO '{name}'@'%';");
        let grant = if may == May::Nothing { other } else { grant };
        self.sql("", &format!("create user if not exists '{name}'@'%' identified by '{PASSWORD}'; {grant}"));
    }

    fn careful_user(&self, database: &str, name: &str) {
        self.user(database, name, May::Read);
        self.sql("", &format!("alter user '{name}'@'%' require ssl"));
    }

    fn authority(&self) -> PathBuf {
        self.home.join("ca.pem")
    }

    fn processes(&self) -> Vec<Pid> {
        vec![Pid::from_child(&self.child)]
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A PostgreSQL that offers TLS.
pub(crate) struct Postgres {
    child: Child,
    home: PathBuf,
    programs: PathBuf,
    port: u16,
}

/// The user that it runs as, since it refuses to be root: its number, and its group's.
fn unprivileged() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(|number| number.parse::<u32>().unwrap());
        Some((numbers.next()?, numbers.next()?))
    };
    find("postgres").or_else(|| find("nobody")).unwrap()
}

impl Postgres {
    /// Makes and starts one in a folder below this, which others may then pass through.
    pub(crate) fn start(home: &Path) -> Self {
        std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o711)).unwrap();
        let home = home.join("postgres");
        std::fs::create_dir(&home).unwrap();
        certificate(&home);
        file(&home.join("password"), ADMIN);
        let (user, group) = unprivileged();
        for entry in std::fs::read_dir(&home).unwrap() {
            let path = entry.unwrap().path();
            chown(&path, Some(user), Some(group)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        chown(&home, Some(user), Some(group)).unwrap();
        let mut versions: Vec<PathBuf> =
            std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path()).collect();
        versions.sort();
        let programs = versions.pop().unwrap().join("bin");
        let data = home.join("data");
        let as_user = |program: &str| {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups", "--"]);
            command.arg(programs.join(program)).arg("-D").arg(&data).current_dir(&home);
            command
        };
        let mut initdb = as_user("initdb");
        initdb.args(["-U", ADMIN, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let output = initdb.arg(format!("--pwfile={}", home.join("password").display())).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Who is careful is not let in without TLS.
        let rules = data.join("pg_hba.conf");
        let others = std::fs::read_to_string(&rules).unwrap();
        file(&rules, &format!("hostnossl all careful 127.0.0.1/32 reject\n{others}"));
        for _ in 0..5 {
            let port = free_port();
            let mut command = as_user("postgres");
            command.args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ]);
            command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "dynamic_shared_memory_type=mmap"]);
            command.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", home.join("cert.pem").display())]);
            command.args(["-c", &format!("ssl_key_file={}", home.join("key.pem").display())]);
            let log = std::fs::File::options().create(true).append(true).open(home.join("log")).unwrap();
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
            let mut server = Self { child, home: home.clone(), programs: programs.clone(), port };
            let mut asked = server.client("postgres");
            asked.args(["-c", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null());
            if answers(&mut server.child, || asked.status().unwrap().success()) {
                return server;
            }
        }
        panic!("{}", std::fs::read_to_string(home.join("log")).unwrap_or_default());
    }

    fn client(&self, database: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", ADMIN]);
        command.args(["-p", &self.port.to_string(), "-d", database]);
        command
            .env("PGPASSWORD", ADMIN)
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGOPTIONS", "-c client_min_messages=warning");
        command
    }
}

impl Server for Postgres {
    fn scheme(&self) -> &'static str {
        "postgres"
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn sql(&self, database: &str, statements: &str) -> String {
        client(self.client(if database.is_empty() { "postgres" } else { database }), statements)
    }

    fn create(&self, database: &str, version: Wvp) {
        self.sql("", &format!("create database {database}"));
        self.sql(database, &version.table("id serial primary key"));
    }

    fn user(&self, database: &str, name: &str, may: May) {
        let grant = match may {
            May::Nothing => String::new(),
            May::Read => format!("GRANT SELECT ON wvp_cloud_record TO {name};"),
            May::Write => format!(
                "GRANT SELECT, INSERT, DELETE ON wvp_cloud_record TO {name}; GRANT USAGE ON SEQUENCE wvp_cloud_record_id_seq TO {name};"
            ),
        };
        let create = format!(
            "do $$ begin if not exists (select from pg_roles where rolname = '{name}') then create role {name} login password '{PASSWORD}'; \
             end if; end $$;"
        );
        self.sql(database, &format!("{create} {grant}"));
    }

    fn careful_user(&self, database: &str, name: &str) {
        assert_eq!(name, "careful", "the rules know no other");
        self.user(database, name, May::Read);
    }

    fn authority(&self) -> PathBuf {
        self.home.join("ca.pem")
    }

    fn processes(&self) -> Vec<Pid> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap() {
            let path = entry.unwrap().path();
            let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            // Those that serve somebody name the client in their title.
            let serves = String::from_utf8_lossy(&line).contains("127.0.0.1");
            if parent == Some(self.child.id()) && serves {
                let number: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                out.push(Pid::from_raw(number).unwrap());
            }
        }
        assert!(!out.is_empty(), "nobody is served");
        out
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, but by itself: it takes its shared memory with it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
        let _ = self.child.wait();
    }
}
