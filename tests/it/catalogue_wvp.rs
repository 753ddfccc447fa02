//! WVP's table in a real MariaDB and a real PostgreSQL: read, distrusted, and changed (fault 37; promises 7 and 12).

mod adopting;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use storage_guard::catalogue::{Rows as _, RowsError, Source as _, Wanted, WvpLimits, WvpTable};
use storage_guard::domain::catalogue::{CatalogueRow, Distrust, RowId};
use storage_guard::domain::secret::Secret;
use storage_guard::domain::units::Timestamp;
use storage_guard::system::{Clock, SystemClock};

use adopting::an_adopted_row_equals_the_original;

use super::support::{MariaDb, May, PASSWORD, Postgres, Server, Wvp, wait_for};

/// A database that says nothing is given up soon, and one on a busy machine is not.
const LIMITS: WvpLimits = WvpLimits {
    connect: Duration::from_secs(10),
    statement: Duration::from_secs(15),
    answer: Duration::from_secs(20),
    lock: Duration::from_secs(1),
};
/// When the recordings of the tests begin, milliseconds.
const START: i64 = 1_795_000_000_000;

fn at(url: &str, user: &str, password: &str) -> WvpTable {
    WvpTable::new(&Secret::new(url), Some(user), Some(&Secret::new(password)), None, Arc::new(SystemClock))
}

fn table(server: &dyn Server, database: &str, user: &str) -> WvpTable {
    at(&server.url(database), user, PASSWORD).with_limits(LIMITS)
}

/// Everything that a reading hands over, and the highest number that it tells.
fn read(table: &mut WvpTable, wanted: Wanted) -> Result<(Vec<CatalogueRow>, Option<i64>), Distrust> {
    let mut rows = Vec::new();
    let pass = table.read(wanted, &mut |page| {
        assert!(page.len() <= 5_000, "{} rows at once", page.len());
        rows.extend(page);
        Ok(())
    })?;
    Ok((rows, pass.last))
}

/// A recording of a camera, one a minute.
fn path(number: i64) -> String {
    format!("/opt/media/record/rtp/cam/2026-11-18/{number:08}-0.mp4")
}

/// Inserts recordings with these numbers as WVP does.
fn insert(server: &dyn Server, database: &str, version: Wvp, numbers: std::ops::RangeInclusive<i64>) {
    let columns = version.columns();
    let value = |column: &str, number: i64| match column {
        "app" => "'rtp'".to_owned(),
        "stream" => "'cam'".to_owned(),
        "call_id" => "'call'".to_owned(),
        "start_time" => (START + number * 60_000).to_string(),
        "end_time" => (START + number * 60_000 + 59_960).to_string(),
        "media_server_id" => "'zlm-1'".to_owned(),
        "server_id" | "serverId" => "'wvp-1'".to_owned(),
        "file_name" => format!("'{number:08}-0.mp4'"),
        "folder" => "'/opt/media/record/rtp/cam/'".to_owned(),
        "file_path" => format!("'{}'", path(number)),
        "collect" => "false".to_owned(),
        "file_size" => (1_000 + number).to_string(),
        "time_len" => "59960".to_owned(),
        _ => panic!("{column}"),
    };
    let numbers: Vec<i64> = numbers.collect();
    for numbers in numbers.chunks(5_000) {
        let rows = numbers.iter().map(|number| {
            let values: Vec<String> = columns.iter().map(|column| value(column, *number)).collect();
            format!("({})", values.join(","))
        });
        let rows: Vec<String> = rows.collect();
        server
            .sql(database, &format!("insert into wvp_cloud_record ({}) values {};", columns.join(","), rows.join(",")));
    }
}

fn count(server: &dyn Server, database: &str) -> i64 {
    server.sql(database, "select count(*) from wvp_cloud_record;").trim().parse().unwrap()
}

/// Runs a test on each of both.
macro_rules! on_each {
    ($($name:ident)+) => {
        mod mariadb {
            $(#[test] fn $name() {
                let home = tempfile::tempdir().unwrap();
                super::$name(&super::MariaDb::start(home.path()));
            })+
        }
        mod postgres {
            $(#[test] fn $name() {
                let home = tempfile::tempdir().unwrap();
                super::$name(&super::Postgres::start(home.path()));
            })+
        }
    };
}

on_each! {
    every_version_of_the_table_is_read_whole_and_for_what_is_new
    what_cannot_be_read_says_why_and_what_to_do
    a_database_lost_in_the_middle_answered_in_part
    rows_go_only_as_they_were_seen
    an_adopted_row_equals_the_original
    a_session_for_reading_cannot_write
}

fn every_version_of_the_table_is_read_whole_and_for_what_is_new(server: &dyn Server) {
    for version in Wvp::ALL {
        let database = format!("wvp{version:?}").to_lowercase();
        server.create(&database, version);
        server.user(&database, "reader", May::Read);
        let mut table = table(server, &database, "reader");
        assert_eq!(read(&mut table, Wanted::Whole).unwrap(), (Vec::new(), None), "{version:?}");
        insert(server, &database, version, 1..=3);
        let (rows, last) = read(&mut table, Wanted::Whole).unwrap();
        let expected = |number: i64| CatalogueRow {
            id: RowId::Number(number),
            path: Some(path(number).into_bytes()),
            media_server: Some("zlm-1".to_owned()),
            collect: false,
            start: Some(Timestamp::from_millis(START + number * 60_000)),
        };
        assert_eq!(rows, [expected(1), expected(2), expected(3)], "{version:?}");
        assert_eq!(last, Some(3));
    }
    let database = "wvpnew";
    insert(server, database, Wvp::New, 4..=12_345);
    let mut table = table(server, database, "reader");
    let before = SystemClock.now();
    let mut pages = Vec::new();
    let pass = table.read(Wanted::Whole, &mut |page| {
        pages.push(page.len());
        Ok(())
    });
    let pass = pass.unwrap();
    assert_eq!(pages, [5_000, 5_000, 2_345]);
    assert_eq!(pass.last, Some(12_345));
    assert!(before <= pass.as_of && pass.as_of <= SystemClock.now());
    // What is new begins before the last: a lower number may come later than a higher one.
    let (rows, last) = read(&mut table, Wanted::After(12_345)).unwrap();
    assert_eq!((rows.len(), rows[0].id.clone(), last), (10_000, RowId::Number(2_346), Some(12_345)));
    // Rows that are gone do not turn the number back.
    let (rows, last) = read(&mut table, Wanted::After(30_000)).unwrap();
    assert_eq!((rows.len(), last), (0, Some(30_000)));
    // Whoever reads may stop.
    let stop = Distrust::Index { error: "full".to_owned() };
    assert_eq!(table.read(Wanted::Whole, &mut |_| Err(stop.clone())), Err(stop));
    let asked: Vec<RowId> = (12_000..13_000).map(RowId::Number).collect();
    assert_eq!(table.still_there(&asked).unwrap(), asked[..=345]);

    odd_rows_are_handed_over_as_they_are(server);
}

fn odd_rows_are_handed_over_as_they_are(server: &dyn Server) {
    server.create("odd", Wvp::New);
    server.user("odd", "reader", May::Read);
    let rows = "insert into wvp_cloud_record (file_path, media_server_id, collect, start_time) values \
                (null, null, null, null), ('/a/../b.mp4', 'zlm-2', true, 5), ('', 'zlm-1', false, -1), ('/录像/é.mp4', '', true, 0);";
    server.sql("odd", rows);
    let lines = if server.scheme() == "mysql" { "'/two\\nlines'" } else { "E'/two\\nlines'" };
    server.sql("odd", &format!("insert into wvp_cloud_record (file_path) values ({lines});"));
    let mut table = table(server, "odd", "reader");
    let (rows, _) = read(&mut table, Wanted::Whole).unwrap();
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            let path = row.path.as_ref().map(|path| String::from_utf8(path.clone()).unwrap());
            (path, row.media_server.clone(), row.collect, row.start.map(Timestamp::millis))
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        found,
        [
            (None, None, false, None),
            (some("/a/../b.mp4"), some("zlm-2"), true, Some(5)),
            (some(""), some("zlm-1"), false, Some(-1)),
            (some("/录像/é.mp4"), some(""), true, Some(0)),
            (some("/two\nlines"), None, false, None),
        ]
    );
    // Bytes that are no text, where the database can keep them; and a truth that is a bit.
    let (change, bytes) = match server.scheme() {
        "mysql" => ("modify file_path varbinary(500), modify collect bit(1)", "x'2fff66'"),
        _ => (
            "alter file_path type bytea using convert_to(file_path, 'UTF8'), alter collect drop default, \
             alter collect type bit using (case when collect then B'1' else B'0' end)",
            "'\\x2fff66'",
        ),
    };
    server.sql("odd", &format!("alter table wvp_cloud_record {change};"));
    server.sql("odd", &format!("insert into wvp_cloud_record (file_path, collect) values ({bytes}, null);"));
    let (rows, _) = read(&mut table, Wanted::Whole).unwrap();
    assert_eq!(rows[3].path.as_deref(), Some("/录像/é.mp4".as_bytes()));
    assert_eq!(rows[5].path.as_deref(), Some(&b"/\xff\x66"[..]));
    assert_eq!(rows.iter().map(|row| row.collect).collect::<Vec<_>>(), [false, true, false, true, false, false]);
    if server.scheme() == "mysql" {
        // Another character set is another writing of the same text.
        server.sql("odd", "delete from wvp_cloud_record where id > 2;");
        server.sql("odd", "alter table wvp_cloud_record modify file_path varchar(500) character set gbk;");
        let (rows, _) = read(&mut table, Wanted::Whole).unwrap();
        assert_eq!(rows[1].path.as_deref(), Some(&b"/a/../b.mp4"[..]));
        server.sql("odd", "set names utf8mb4; update wvp_cloud_record set file_path = '/录像.mp4' where id = 2;");
        let (rows, _) = read(&mut table, Wanted::Whole).unwrap();
        assert_eq!(rows[1].path.as_deref(), Some("/录像.mp4".as_bytes()));
    } else {
        // A database of this kind checks nothing: its bytes are the path.
        server.sql("", "create database bytes encoding 'SQL_ASCII' template template0;");
        server.sql(
            "bytes",
            "create table wvp_cloud_record (id serial primary key, file_path varchar(255), collect bool);",
        );
        server.user("bytes", "reader", May::Read);
        server.sql(
            "bytes",
            "set client_encoding to 'SQL_ASCII'; insert into wvp_cloud_record (file_path) values (E'/\\xff\\x66');",
        );
        let (rows, _) = read(&mut self::table(server, "bytes", "reader"), Wanted::Whole).unwrap();
        assert_eq!(rows[0].path.as_deref(), Some(&b"/\xff\x66"[..]));
    }
}

/// What a reading fails with, which must be a sentence with these words, and without the password.
fn fails(mut table: WvpTable, shape: bool, words: &[&str]) {
    let error = read(&mut table, Wanted::Whole).unwrap_err();
    let text = if shape {
        let Distrust::Shape { error } = &error else { panic!("{error:?}, but expected {words:?}") };
        error
    } else {
        let Distrust::Unanswered { error } = &error else { panic!("{error:?}, but expected {words:?}") };
        error
    };
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
}

fn what_cannot_be_read_says_why_and_what_to_do(server: &dyn Server) {
    let mysql = server.scheme() == "mysql";
    server.create("wvp", Wvp::New);
    server.user("wvp", "reader", May::Read);
    server.careful_user("wvp", "careful");
    insert(server, "wvp", Wvp::New, 1..=3);
    let url = server.url("wvp");
    let here = format!("127.0.0.1:{}", server.port());
    fails(at(&url, "reader", "wrong"), false, &[&here, "user `reader`", "password"]);
    fails(at(&url, "nobody", PASSWORD), false, &[&here, "user `nobody`"]);
    // A login in the URL stands over what is beside it.
    let login = url.replace("://", "://reader:p%40ss%2Fwrong@");
    fails(at(&login, "other", PASSWORD), false, &["user `reader`"]);
    let login = url.replace("://", "://reader:p%40ss%2Fw%3Ard@");
    assert_eq!(read(&mut at(&login, "other", "wrong"), Wanted::Whole).unwrap().0.len(), 3);
    if mysql {
        // Whether it is there is told only to who may use it.
        fails(table(server, "none", "reader"), true, &["may not use", "`none`", "GRANT SELECT ON"]);
    } else {
        fails(table(server, "none", "reader"), true, &["no database `none`", &here]);
    }

    server.sql("", "create database empty;");
    if mysql {
        server.sql("", "grant all on empty.* to 'reader'@'%';");
    }
    fails(table(server, "empty", "reader"), true, &["no table `wvp_cloud_record`", "database `empty`", &here]);
    server.user("wvp", "stranger", May::Nothing);
    fails(
        table(server, "wvp", "stranger"),
        true,
        &["`wvp_cloud_record`", "`wvp`", "stranger", "GRANT SELECT ON", &here],
    );
    if !mysql {
        server.sql("wvp", "create database moved; ");
        server.sql(
            "moved",
            "create schema other; create table other.wvp_cloud_record (id serial primary key, file_path text, collect bool);",
        );
        fails(
            table(server, "moved", "reader"),
            true,
            &["in the schema other", "GRANT USAGE ON SCHEMA other TO reader", "search_path"],
        );
        server.sql("moved", "grant usage on schema other to reader; grant select on other.wvp_cloud_record to reader;");
        let path = format!("{}?options[search_path]=other", server.url("moved"));
        assert_eq!(read(&mut at(&path, "reader", PASSWORD), Wanted::Whole).unwrap().0.len(), 0);
        // Of two, the first of the search path is the one.
        server.sql("moved", "create table wvp_cloud_record (id serial primary key, file_path text, collect bool);");
        server.sql(
            "moved",
            "grant select on wvp_cloud_record to reader; insert into wvp_cloud_record (file_path) values ('/a');",
        );
        for (first, expected) in [("public,other", 1), ("other,public", 0)] {
            let path = format!("{}?options[search_path]={first}", server.url("moved"));
            assert_eq!(read(&mut at(&path, "reader", PASSWORD), Wanted::Whole).unwrap().0.len(), expected, "{first}");
        }
    }
    server.sql("wvp", "alter table wvp_cloud_record drop column start_time;");
    assert!(read(&mut table(server, "wvp", "reader"), Wanted::Whole).unwrap().0.iter().all(|row| row.start.is_none()));
    // Without it nobody could say what is to be kept.
    server.sql("wvp", "alter table wvp_cloud_record drop column collect;");
    fails(table(server, "wvp", "reader"), true, &["no column `collect`", "GRANT SELECT"]);
    server.sql("wvp", "alter table wvp_cloud_record drop column file_path;");
    fails(table(server, "wvp", "reader"), true, &["no column `file_path`", "GRANT SELECT"]);
    server.create("text", Wvp::New);
    server.user("text", "reader", May::Read);
    let (id, kind) = if mysql { ("modify id", "") } else { ("alter id drop default, alter id", "type ") };
    server.sql("text", &format!("alter table wvp_cloud_record {id} {kind}varchar(10);"));
    fails(table(server, "text", "reader"), true, &["column `id`", "whole number"]);

    // TLS is used where the server has it, and checked where the URL says so.
    server.create("safe", Wvp::New);
    server.careful_user("safe", "careful");
    let with = |options: &str| at(&format!("{}?{options}", server.url("safe")), "careful", PASSWORD);
    read(&mut table(server, "safe", "careful"), Wanted::Whole).unwrap();
    let authority = server.authority();
    let (strict, file) =
        if mysql { ("ssl-mode=VERIFY_IDENTITY", "ssl-ca") } else { ("sslmode=verify-full", "sslrootcert") };
    read(&mut with(&format!("{strict}&{file}={}", authority.display())), Wanted::Whole).unwrap();
    fails(with(strict), false, &["TLS with", file]);
    fails(with(&format!("{strict}&{file}=/nowhere.pem")), false, &["not there", "certificates"]);
    let off = if mysql { "ssl-mode=DISABLED" } else { "sslmode=disable" };
    fails(with(off), false, &["refuses user `careful`", "TLS"]);

    // Who does not answer at all.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("{}://{}/wvp", server.scheme(), nobody.local_addr().unwrap());
    let clock = SystemClock;
    let before = clock.boottime();
    let limits = WvpLimits { connect: Duration::from_millis(300), ..LIMITS };
    fails(at(&silent, "reader", PASSWORD).with_limits(limits), false, &["does not answer within 0.3 s", "firewall"]);
    assert!(clock.boottime() - before < Duration::from_secs(5));
    drop(nobody);
    fails(at(&silent, "reader", PASSWORD), false, &["nothing listens at"]);
    let unknown = format!("{}://nowhere.invalid/wvp", server.scheme());
    fails(at(&unknown, "reader", PASSWORD).with_limits(LIMITS), false, &["nowhere.invalid"]);
    // Another program's greeting.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let speaking = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 64]);
    });
    fails(
        at(&format!("{}://{address}/wvp", server.scheme()), "reader", PASSWORD).with_limits(LIMITS),
        false,
        &[&address.to_string()],
    );
    speaking.join().unwrap();
}

fn a_database_lost_in_the_middle_answered_in_part(server: &dyn Server) {
    server.create("wvp", Wvp::New);
    server.user("wvp", "reader", May::Read);
    insert(server, "wvp", Wvp::New, 1..=12_000);
    let clock = SystemClock;
    let limits = WvpLimits { answer: Duration::from_secs(5), ..LIMITS };
    for signal in [Signal::STOP, Signal::KILL] {
        let mut table = table(server, "wvp", "reader").with_limits(limits);
        let before = clock.boottime();
        let (mut rows, mut stopped) = (0, Vec::new());
        let lost = table.read(Wanted::Whole, &mut |page| {
            if rows == 0 {
                stopped = server.processes();
                server.signal(signal);
            }
            rows += page.len();
            Ok(())
        });
        let took = clock.boottime() - before;
        if signal == Signal::STOP {
            for process in stopped {
                rustix::process::kill_process(process, Signal::CONT).unwrap();
            }
        }
        let Err(Distrust::Partial { error }) = lost else { panic!("{signal:?}: {lost:?}") };
        let words =
            if signal == Signal::STOP { "gives no answer to a statement within 5 s" } else { "ended the connection" };
        assert!(error.starts_with("after 5000 rows, ") && error.contains(words), "{signal:?}: {error}");
        assert_eq!(rows, 5_000, "{signal:?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
        if signal == Signal::STOP {
            // It is as it was, and so is the next reading.
            assert_eq!(read(&mut table, Wanted::Whole).unwrap().0.len(), 12_000);
        }
    }
}

fn rows_go_only_as_they_were_seen(server: &dyn Server) {
    server.create("wvp", Wvp::New);
    server.user("wvp", "reader", May::Read);
    server.user("wvp", "writer", May::Write);
    insert(server, "wvp", Wvp::New, 1..=10_010);
    let seen = |number: i64| (number, path(number).into_bytes());
    let mut reader = table(server, "wvp", "reader");
    let RowsError::Database { action, error } = reader.remove(&[seen(1)]).unwrap_err();
    assert_eq!(action, "remove rows");
    for word in ["reader", "may not delete rows", "GRANT SELECT, DELETE ON", "wvp_cloud_record"] {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
    assert_eq!(count(server, "wvp"), 10_010);

    let mut writer = table(server, "wvp", "writer");
    server.sql("wvp", "insert into wvp_cloud_record (file_path) values (null);");
    assert_eq!(writer.paths(&[3, 1, 99_999, 10_011]).unwrap().len(), 2);
    assert_eq!(writer.paths(&[2]).unwrap(), [seen(2)]);
    // One has another path by now, one differs in what a database may call equal, one has none, and one is gone already.
    server.sql(
        "wvp",
        "update wvp_cloud_record set file_path = '/other.mp4' where id = 1; delete from wvp_cloud_record where id = 4;",
    );
    let upper = (2, path(2).to_uppercase().into_bytes());
    let spaced = (3, format!("{} ", path(3)).into_bytes());
    assert_eq!(writer.remove(&[seen(1), upper, spaced, seen(4), seen(5), (10_011, Vec::new())]).unwrap(), [4, 5]);
    assert_eq!(count(server, "wvp"), 10_009);
    let all: Vec<(i64, Vec<u8>)> = (6..=10_005).map(seen).collect();
    let gone = writer.remove(&all).unwrap();
    assert_eq!(gone, (6..=10_005).collect::<Vec<_>>());
    assert_eq!(count(server, "wvp"), 9);
    assert_eq!(writer.remove(&all[..300]).unwrap().len(), 300, "they are gone, whoever removed them");
    assert!(writer.remove(&[]).unwrap().is_empty());

    // A row that another session holds is waited for, but not for ever.
    std::thread::scope(|scope| {
        let (sleep, seen_by) = match server.scheme() {
            "mysql" => ("do sleep(3)", "information_schema.processlist where info = 'do sleep(3)'"),
            _ => ("select pg_sleep(3)", "pg_stat_activity where query like 'select pg_sleep%'"),
        };
        let update = "update wvp_cloud_record set file_size = 0 where id = 10006";
        let holding = scope.spawn(move || server.sql("wvp", &format!("begin; {update};\n{sleep};\nrollback;")));
        wait_for("the row is held", || server.sql("wvp", &format!("select count(*) from {seen_by};")).trim() == "1");
        let RowsError::Database { error, .. } = writer.remove(&[seen(10_006)]).unwrap_err();
        assert!(error.contains("holds the rows locked"), "{error}");
        holding.join().unwrap();
    });
    assert_eq!(writer.remove(&[seen(10_006)]).unwrap(), [10_006]);
}

fn a_session_for_reading_cannot_write(server: &dyn Server) {
    // A table that writes when it is read: only the session can forbid that.
    server.create("wvp", Wvp::New);
    insert(server, "wvp", Wvp::New, 1..=2);
    server.user("wvp", "writer", May::Write);
    let mysql = server.scheme() == "mysql";
    let trap = if mysql {
        "rename table wvp_cloud_record to kept; create table trace (id int);
         delimiter //
         create function spy() returns int begin insert into trace values (1); return 0; end//
         delimiter ;
         create sql security definer view wvp_cloud_record as select id, file_path, spy() as collect from kept;
         grant select on wvp_cloud_record to 'writer'@'%';"
    } else {
        "alter table wvp_cloud_record rename to kept; create table trace (id int);
         create function spy() returns int language sql volatile security definer as 'insert into trace values (1) returning 0';
         create view wvp_cloud_record as select id, file_path, spy() as collect from kept;
         grant select on wvp_cloud_record to writer;"
    };
    server.sql("wvp", trap);
    let mut table = table(server, "wvp", "writer");
    let error = read(&mut table, Wanted::Whole).unwrap_err();
    // MariaDB hides a view that would write here, PostgreSQL refuses the write.
    assert!(format!("{error:?}").contains(if mysql { "may not see it" } else { "read-only" }), "{error:?}");
    let written = || server.sql("wvp", "select count(*) from trace;").trim().to_owned();
    assert_eq!(written(), "0");
    // The trap works: a session that may write falls into it.
    server.sql("wvp", "select collect from wvp_cloud_record;");
    assert_eq!(written(), "2");
}

/// A MySQL 8 without TLS, as far as a login goes.
#[test]
fn a_login_that_needs_tls_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut packet = |number: u8, body: &[u8]| {
            let length = u8::try_from(body.len()).unwrap();
            stream.write_all(&[&[length, 0, 0, number], body].concat()).unwrap();
            let mut header = [0; 4];
            // The last one is not answered.
            if stream.read_exact(&mut header).is_ok() {
                stream.read_exact(&mut vec![0; usize::from(header[0]) + (usize::from(header[1]) << 8)]).unwrap();
            }
        };
        // Protocol, version, number, a nonce in two parts, and between them what it can do, which is not TLS.
        let can = b"\0\xff\xf7\x2d\x02\0\xff\x81\x15";
        let greeting: [&[u8]; 6] =
            [b"\x0a8.0.40\0\x01\0\0\0", b"12345678", can, &[0; 10], b"123456789012\0", b"caching_sha2_password\0"];
        packet(0, &greeting.concat());
        // The whole login is wanted.
        packet(2, b"\x01\x04");
        packet(4, b"\x01-----BEGIN PUBLIC KEY-----");
    });
    fails(
        at(&format!("mysql://{address}/wvp"), "reader", PASSWORD).with_limits(LIMITS),
        false,
        &["caching_sha2_password", "TLS", "user `reader`"],
    );
    server.join().unwrap();
}
