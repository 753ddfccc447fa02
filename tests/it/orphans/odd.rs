//! Rows that name no recording of ours: counted, and never acted on.

use super::site::{DATABASE, OUTSIDE, Site, settled};
use crate::hygiene::{MISSING, UNCATALOGUED, catalogue, metric};
use crate::support::{Daemon, MariaDb, Postgres, Server, run, wait_for};

#[test]
#[ignore = "needs root and a loop device"]
fn odd_rows_of_a_mariadb_are_counted_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    odd(&MariaDb::start(home.path()));
}

#[test]
#[ignore = "needs root and a loop device"]
fn odd_rows_of_a_postgresql_are_counted_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    odd(&Postgres::start(home.path()));
}

/// Everything that the table says.
fn table(server: &dyn Server) -> String {
    server.sql(DATABASE, "select * from wvp_cloud_record order by id;")
}

fn odd(server: &dyn Server) {
    let site = Site::new(server, 64, 200, 2);
    let (newline, nul) = match server.scheme() {
        "mysql" => ("concat('/opt/media/record/rtp/a', char(10), 'b.mp4')", "char(0)"),
        _ => ("'/opt/media/record/rtp/a' || chr(10) || 'b.mp4'", "chr(1)"),
    };
    let upwards = site.volume.path().join("precious.mp4");
    run("cp", &[site.tree().join(&site.clips[0].path).to_str().unwrap(), upwards.to_str().unwrap()]);
    let outside = ["'/elsewhere/rtp/cam/a.mp4'".to_owned(), "'/opt/media/recorder/a.mp4'".to_owned()];
    let bad = [
        format!("'{OUTSIDE}/../precious.mp4'"),
        format!("'{OUTSIDE}/rtp/../../../etc/passwd'"),
        newline.to_owned(),
        nul.to_owned(),
        "null".to_owned(),
        "''".to_owned(),
        "'relative/a.mp4'".to_owned(),
    ];
    for path in outside.iter().chain(&bad) {
        let row = format!("('rtp', 'cam', {path}, 'zlm-1', true)");
        server.sql(
            DATABASE,
            &format!("insert into wvp_cloud_record (app, stream, file_path, media_server_id, collect) values {row};"),
        );
    }
    // A row of another media server is foreign, though its path is ours.
    server.sql(
        DATABASE,
        &format!("insert into wvp_cloud_record (file_path, media_server_id) values ('{OUTSIDE}/rtp/x.mp4', 'zlm-9');"),
    );
    let before = (table(server), site.on_disk());
    let tree = "    orphans: { action: delete, grace: 1s, max_share: 100% }\n";
    let config = site.config(
        "writer",
        tree,
        "    interval: 1s\n    full: 2s\n    after_reclaim: remove_row\n",
        "scan_interval: 1s\n",
    );
    let daemon = Daemon::start(&config, &site.state());
    settled(&daemon, 0);
    let listed = catalogue(&daemon);
    assert_eq!(listed["rows"], 200, "{listed}");
    assert_eq!(listed["foreign_rows"], outside.len() + 1, "{listed}");
    assert_eq!(listed["bad_rows"], bad.len(), "{listed}");
    let said = site.said(&["catalogue", "list"]);
    let counted = format!("{} in no tree of ours, {} without a usable path", outside.len() + 1, bad.len());
    assert!(said.contains(&counted), "{said}");
    assert_eq!(metric(&daemon, MISSING), "0");
    // Nothing of it is missing, so nothing can be removed.
    let removed = site.guard(&["missing", "remove", "live", "--all"]);
    let removed = String::from_utf8_lossy(&[removed.stdout, removed.stderr].concat()).into_owned();
    let first = listed["read_at"].clone();
    wait_for("it is read again", || catalogue(&daemon)["read_at"] != first);
    settled(&daemon, 0);
    assert_eq!((table(server), site.on_disk()), before, "{removed}");
    assert!(upwards.symlink_metadata().is_ok());
    assert_eq!(metric(&daemon, UNCATALOGUED), "0");
}
