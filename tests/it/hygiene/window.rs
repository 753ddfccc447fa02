//! `cleanup.window`: what nobody waits for happens then, by the tree's own clock; pressure and persons never wait for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use storage_guard::testkit::mp4::Film;

use super::{Site, UNCATALOGUED, metric, scans};
use crate::support::{json, now, run};

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

/// The configuration with a window around now, as clocks in UTC show it. Where it is six hours later, it is closed.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn config(site: &Site, zone: &str, more: &str) -> PathBuf {
    let path = site.by_manifest(&format!(
        "    timezone: {zone}\n{more}    retention: [{{ stream: \"**\", max_age: 267h }}]\n    \
         leftovers: {{ action: delete, grace: 1s }}\n    orphans: {{ action: delete, grace: 1s, max_share: 50% }}\n"
    ));
    let time =
        |at| jiff::Timestamp::try_from(at).unwrap().to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M").to_string();
    let window = format!("\"{}-{}\"", time(now() - HALF_AN_HOUR), time(now() + HALF_AN_HOUR));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("pause: 0,", &format!("pause: 0, window: {window},"))).unwrap();
    path
}

/// What a killed recorder left, three days ago.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn leave(tree: &Path) -> PathBuf {
    let at = now() - Duration::from_secs(3 * 86_400);
    let named = jiff::Timestamp::try_from(at).unwrap().to_zoned(jiff::tz::TimeZone::system());
    let dir = tree.join(format!("live/d/{}", named.strftime("%Y-%m-%d")));
    let file = dir.join(format!(".{}-0.mp4", named.strftime("%Y-%m-%d-%H-%M-%S")));
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(&file, Film::new(Duration::from_secs(10)).killed()).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
    file
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_nobody_waits_for_waits_for_the_window_of_its_tree() {
    let site = Site::new(30);
    site.list(site.without(&[20, 21]), true);
    let leftover = leave(&site.bed.tree());
    // East of here it is six hours later.
    let daemon = site.start(&config(&site, "Etc/GMT-6", ""));
    site.wait(&daemon, "both orphans are proven", || metric(&daemon, UNCATALOGUED) == "2");
    scans(&daemon, 3);
    assert!(site.bed.gone() == 0 && leftover.exists(), "the window is closed");

    // A person does not wait: five are past their age.
    let state = site.bed.state();
    let plan = json(&["plan", "--state", state.to_str().unwrap()]);
    let items = plan["items"][0]["items"].as_array().unwrap();
    assert!(items.len() == 5 && items.iter().all(|item| item["rule"] == "max_age"), "{plan}");
    site.done(&["reclaim"]);
    site.wait(&daemon, "what is past its age is gone", || site.bed.gone() == 5);
    site.done(&["orphans", "delete", "live", site.path(20)]);
    assert!(site.bed.gone() == 6 && !site.bed.exists(20));
    let reload = || run("kill", &["-HUP", &daemon.pid().to_string()]);

    // A tree above its budget does not wait either: of 24 MiB, 19 stay at most.
    config(&site, "Etc/GMT-6", "    budget: 20MiB\n");
    reload();
    site.wait(&daemon, "it is within its budget", || site.bed.gone() >= 11);
    site.wait(&daemon, "the other orphan is proven", || metric(&daemon, UNCATALOGUED) == "1");
    scans(&daemon, 3);
    let gone = site.bed.gone();
    assert!(gone <= 12 && site.bed.exists(21) && leftover.exists(), "the window is closed");

    // Here it is open.
    config(&site, "Etc/UTC", "");
    reload();
    site.wait(&daemon, "what waited is gone", || !site.bed.exists(21) && !leftover.exists());
    assert_eq!(site.bed.gone(), gone + 1);
}
