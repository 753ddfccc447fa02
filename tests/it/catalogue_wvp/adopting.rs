//! Rows for recordings that the table has forgotten.

use std::sync::Arc;
use std::time::Duration;

use storage_guard::catalogue::{Rows as _, RowsError, WvpLimits, WvpTable};
use storage_guard::domain::adoption::{Adopted, Adoption};
use storage_guard::domain::secret::Secret;
use storage_guard::system::SystemClock;

use super::{LIMITS, START, count, insert, path, table};
use crate::support::{May, PASSWORD, Server, Wvp};

fn adoption(number: i64) -> Adoption {
    Adoption {
        app: "rtp".to_owned(),
        stream: "cam".to_owned(),
        start_time: START + number * 60_000,
        end_time: START + number * 60_000 + 59_960,
        media_server: Some("zlm-1".to_owned()),
        file_name: format!("{number:08}-0.mp4"),
        folder: "/opt/media/record/rtp/cam/".to_owned(),
        file_path: path(number),
        file_size: 1_000 + number,
        time_len: 59_960,
    }
}

/// All that a row says except its number.
fn whole(server: &dyn Server, database: &str, version: Wvp, number: i64) -> String {
    server.sql(
        database,
        &format!("select {} from wvp_cloud_record where file_path = '{}';", version.columns().join(","), path(number)),
    )
}

pub(super) fn an_adopted_row_equals_the_original(server: &dyn Server) {
    for version in Wvp::ALL {
        let database = format!("wvp{version:?}").to_lowercase();
        server.create(&database, version);
        server.user(&database, "writer", May::Write);
        insert(server, &database, version, 1..=9);
        let mut table = table(server, &database, "writer");
        let lost = [1, 5, 9];
        let originals = lost.map(|number| whole(server, &database, version, number));
        assert!(originals.iter().all(|original| original.contains("zlm-1")), "{originals:?}");
        server.sql(&database, "delete from wvp_cloud_record where id in (1, 5, 9);");
        let rows = lost.map(adoption);
        assert_eq!(table.adopt(&rows, true).unwrap(), [Adopted::Would, Adopted::Would, Adopted::Would]);
        assert_eq!(count(server, &database), 6, "{version:?}");
        let adopted = table.adopt(&rows, false).unwrap();
        let id = |adopted: &Adopted| if let Adopted::Inserted(id) = adopted { Some(*id) } else { None };
        let ids: Vec<i64> = adopted.iter().filter_map(id).collect();
        assert_eq!(ids.len(), 3, "{version:?}: {adopted:?}");
        assert!(ids.iter().all(|id| *id > 9), "{ids:?}");
        assert_eq!(lost.map(|number| whole(server, &database, version, number)), originals, "{version:?}");
        let known: Vec<Adopted> = ids.iter().map(|id| Adopted::Known(*id)).collect();
        assert_eq!(table.adopt(&rows, false).unwrap(), known, "{version:?}");
        assert_eq!(table.adopt(&rows, true).unwrap(), known, "{version:?}");
        assert_eq!(count(server, &database), 9);
    }
    what_neither_name_nor_file_says_is_taken_from_the_rows_beside(server);
    a_row_that_would_not_be_the_recordings_is_refused(server);
    two_guards_adopt_each_recording_once(server);
}

fn what_neither_name_nor_file_says_is_taken_from_the_rows_beside(server: &dyn Server) {
    server.create("beside", Wvp::New);
    server.user("beside", "writer", May::Write);
    insert(server, "beside", Wvp::New, 10..=20);
    let mut writer = table(server, "beside", "writer");
    server.sql(
        "beside",
        "update wvp_cloud_record set call_id = 'later' where id >= 6; update wvp_cloud_record set server_id = 'wvp-2' where id = 11;
         update wvp_cloud_record set call_id = 'other stream', stream = 'CAM' where id = 11;
         update wvp_cloud_record set server_id = 'wvp-3' where id = 10; delete from wvp_cloud_record where id in (3, 6);",
    );
    let mut fresh = adoption(30);
    fresh.stream = "first".to_owned();
    let mut twice = adoption(12);
    twice.media_server = None;
    let rows = [adoption(12), adoption(15), adoption(9), adoption(21), fresh, twice];
    let adopted = writer.adopt(&rows, false).unwrap();
    let Adopted::Inserted(first) = adopted[0] else { panic!("{adopted:?}") };
    assert_eq!(adopted[5], Adopted::Known(first));
    let said = |row: &Adoption| {
        server
            .sql(
                "beside",
                &format!(
                    "select coalesce(call_id, '-'), server_id from wvp_cloud_record where file_path = '{}';",
                    row.file_path
                ),
            )
            .trim()
            .to_owned()
    };
    // Between two of one call; where the call changed; before the first; after the last; a stream of which nothing is known.
    let expected = ["call\twvp-3", "-\twvp-3", "call\twvp-3", "later\twvp-3"];
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(said(row), expected, "{}", row.file_path);
    }
    // Nothing is known of a stream: the newest row of the media server tells, which is one of those just inserted or the last before.
    let found = said(&rows[4]);
    assert!(rows[4].stream == "first" && found.starts_with("-\twvp-"), "{found}");
}

fn a_row_that_would_not_be_the_recordings_is_refused(server: &dyn Server) {
    server.create("refused", Wvp::Old);
    server.user("refused", "writer", May::Write);
    server.user("refused", "reader", May::Read);
    insert(server, "refused", Wvp::Old, 1..=3);
    let mut writer = table(server, "refused", "writer");
    let why = |adopted: &Adopted| {
        let Adopted::Refused(why) = adopted else { panic!("{adopted:?}") };
        why.clone()
    };
    let mut long = adoption(4);
    long.file_path = format!("/{}.mp4", "长".repeat(260));
    let mut nameless = adoption(5);
    nameless.media_server = None;
    // The key of this version has no media server in it.
    let mut elsewhere = adoption(3);
    elsewhere.media_server = Some("zlm-2".to_owned());
    let adopted = writer.adopt(&[long.clone(), nameless.clone(), elsewhere.clone(), adoption(6)], false).unwrap();
    let refusal = why(&adopted[0]);
    assert!(refusal.contains("265 characters") && refusal.contains("`file_path` holds 255"), "{refusal}");
    assert!(matches!(adopted[1], Adopted::Inserted(_)), "{adopted:?}");
    assert!(why(&adopted[2]).contains("another media server"), "{adopted:?}");
    assert!(matches!(adopted[3], Adopted::Inserted(_)), "{adopted:?}");
    assert!(server.sql("refused", "select media_server_id from wvp_cloud_record where id > 3;").contains("zlm-1"));
    assert_eq!(count(server, "refused"), 5);
    server.sql("refused", "update wvp_cloud_record set media_server_id = 'zlm-2' where id = 1;");
    nameless.file_path = path(7);
    assert!(why(&writer.adopt(&[nameless.clone()], false).unwrap()[0]).contains("set `media_server`"));
    let settled = Some("zlm-1");
    let mut writer = WvpTable::new(
        &Secret::new(&server.url("refused")),
        Some("writer"),
        Some(&Secret::new(PASSWORD)),
        settled,
        Arc::new(SystemClock),
    );
    assert!(matches!(writer.adopt(&[nameless], false).unwrap()[0], Adopted::Inserted(_)));
    // A table with another column that must be filled, and one whose characters cannot write the path.
    if server.scheme() == "mysql" {
        server.sql("refused", "alter table wvp_cloud_record modify file_path varchar(255) character set latin1;");
        let mut chinese = adoption(8);
        chinese.file_path = "/录像.mp4".to_owned();
        assert!(why(&writer.adopt(&[chinese], false).unwrap()[0]).contains("the table refuses the row"));
    }
    server.sql("refused", "alter table wvp_cloud_record add extra integer; update wvp_cloud_record set extra = 1;");
    let not_null =
        if server.scheme() == "mysql" { "modify extra integer not null" } else { "alter extra set not null" };
    server.sql("refused", &format!("alter table wvp_cloud_record {not_null};"));
    assert!(why(&writer.adopt(&[adoption(9)], false).unwrap()[0]).contains("extra"));
    let mut reader = table(server, "refused", "reader");
    assert_eq!(reader.adopt(&[adoption(10)], true).unwrap(), [Adopted::Would]);
    let RowsError::Database { action, error } = reader.adopt(&[adoption(10)], false).unwrap_err();
    assert_eq!(action, "adopt recordings");
    for word in ["reader", "may not insert rows", "GRANT SELECT, INSERT ON", "wvp_cloud_record"] {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

fn two_guards_adopt_each_recording_once(server: &dyn Server) {
    server.create("once", Wvp::New);
    server.user("once", "writer", May::Write);
    let rows: Vec<Adoption> = (1..=40).map(adoption).collect();
    let adopted: Vec<Vec<Adopted>> = std::thread::scope(|scope| {
        let guards: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let limits = WvpLimits { lock: Duration::from_secs(10), ..LIMITS };
                    table(server, "once", "writer").with_limits(limits).adopt(&rows, false).unwrap()
                })
            })
            .collect();
        guards.into_iter().map(|guard| guard.join().unwrap()).collect()
    });
    assert_eq!(count(server, "once"), 40);
    let inserted = adopted.iter().flatten().filter(|adopted| matches!(adopted, Adopted::Inserted(_))).count();
    let known = adopted.iter().flatten().filter(|adopted| matches!(adopted, Adopted::Known(_))).count();
    assert_eq!((inserted, known), (40, 80));
}
