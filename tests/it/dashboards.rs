//! The dashboards: that they are as they are generated, keep Grafana's conventions, and ask only for what the guard exports.

mod drawn;
mod lint;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use lint::{names_of, panels_of, problems, queries_of};

/// The same dashboards in Chinese.
const CHINESE: &str = "grafana/dashboards-zh";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

/// The dashboards, by the names of their files without the ending.
fn dashboards() -> Vec<(String, Value)> {
    dashboards_in("grafana/dashboards")
}

fn dashboards_in(folder: &str) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for file in std::fs::read_dir(repository(folder)).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        out.push((name, serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(out.len() >= 3, "{} dashboards", out.len());
    out
}

#[test]
fn dashboards_are_as_their_source_writes_them() {
    let mut command = Command::new("/usr/bin/python3");
    let output = command.arg("-B").arg(repository("grafana/generate.py")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn dashboards_keep_the_conventions() {
    for (file, dashboard) in dashboards().into_iter().chain(dashboards_in(CHINESE)) {
        assert_eq!(dashboard["uid"], file.as_str());
        assert_eq!(problems(&dashboard), Vec::<String>::new(), "{file}");
    }
}

/// What breaks a convention is found: one change to a good dashboard, and what is said of it.
#[test]
fn a_broken_convention_is_found() {
    let (_, good) = dashboards().into_iter().find(|(name, _)| name == "storage-guard-fleet").unwrap();
    let check = |pointer: &str, value: Value, expected: &str| {
        let mut broken = good.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        let found = problems(&broken);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{pointer}: {found:?}");
    };
    let expr = "/panels/0/targets/0/expr";
    check("/id", json!(7), "id");
    check("/templating/list/0/name", json!("source"), "data source");
    check("/templating/list/1/allValue", json!(".*"), "variable `job`");
    check("/templating/list/2/multi", json!(false), "variable `instance`");
    check("/panels/0/title", json!(""), "title");
    check("/panels/0/description", json!(""), "description");
    check("/panels/1/id", json!(1), "id 1");
    check("/panels/1/gridPos/x", json!(2), "overlaps");
    check("/panels/1/gridPos/x", json!(22), "outside");
    check("/panels/0/datasource/uid", json!("prometheus"), "data source");
    check("/panels/0/targets/0/datasource/uid", json!("prometheus"), "data source");
    check("/panels/0/type", json!("grafana-piechart-panel"), "grafana-piechart-panel");
    check("/panels/0/fieldConfig/defaults/unit", json!("parsec"), "parsec");
    check("/panels/0/fieldConfig/defaults/noValue", json!(""), "noValue");
    check("/panels/0/fieldConfig/defaults/thresholds/steps/1/value", json!(90), "90");
    check(expr, json!("sum(up)"), "`up` has no matchers");
    check(expr, json!("sum(up{job=~\"$job\"})"), "`up` has no matcher `instance=~\"$instance\"`");
    let lost = "sum(storage_guard_lost{job=~\"$job\", instance=~\"$instance\"})";
    check(expr, json!(lost), "`storage_guard_lost` is not documented");
    let rate = "rate(storage_guard_runs_total{job=~\"$job\", instance=~\"$instance\"}[5m])";
    check(expr, json!(rate), "[5m]");
    check(expr, json!("up{job=~\"$job\", instance=~\"$instance\", volume=~\"$volume\"}"), "`$volume`");
    check("/panels/6/options/sortBy/0/displayName", json!("Sate"), "no column `Sate`");
    check("/panels/6/fieldConfig/overrides/0/matcher/options", json!("Gard"), "no column `Gard`");
    let link = "/panels/6/fieldConfig/overrides/0/properties/0/value/0/url";
    check(link, json!("/d/storage-guard-lost?x=1"), "storage-guard-lost");
    check("/links/0/tags/0", json!("other"), "link");
    check("/annotations/list/0/expr", json!("up"), "`up` has no matchers");
}

/// Every expression, with something in the place of its variables, is one that Prometheus can read.
#[test]
#[ignore = "needs promtool"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn prometheus_can_read_every_expression() {
    let mut rules = String::from("groups:\n  - name: dashboards\n    rules:\n");
    let mut count = 0;
    for (file, dashboard) in dashboards() {
        for (place, expr) in queries_of(&dashboard) {
            let mut plain = expr.replace("$__rate_interval", "5m");
            for variable in ["job", "instance", "volume", "tree"] {
                plain = plain.replace(&format!("${variable}\""), ".+\"");
            }
            assert!(!plain.contains('$'), "{file}, {place}: {plain}");
            // A label of its own for each: promtool takes equal rules for a mistake.
            let labels = format!("{{ number: \"{count}\" }}");
            rules +=
                &format!("      - record: dashboard:panel\n        labels: {labels}\n        expr: {}\n", json!(plain));
            count += 1;
        }
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rules.yaml");
    std::fs::write(&path, rules).unwrap();
    let output = Command::new("promtool").args(["check", "rules", path.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("{count} rules found")), "{count}: {said}");
}

/// A dashboard leads to the others of its language by their tag, which all of them have and no other.
#[test]
fn dashboards_lead_to_each_other() {
    for (folder, tag) in [("grafana/dashboards", "storage-guard"), (CHINESE, "storage-guard-zh")] {
        for (file, dashboard) in dashboards_in(folder) {
            assert_eq!(dashboard["tags"], json!([tag]), "{file}");
            assert_eq!(dashboard["links"][0]["tags"], json!([tag]), "{file}");
        }
    }
}

/// In Chinese the same is asked and shown in the same places, and every panel's text is Chinese.
#[test]
fn the_chinese_dashboards_differ_in_their_texts_only() {
    let all = dashboards_in(CHINESE);
    assert_eq!(all.len(), dashboards().len());
    for ((file, english), (other, chinese)) in dashboards().into_iter().zip(all) {
        assert_eq!(format!("{file}-zh"), other);
        assert_eq!(queries_of(&english).len(), queries_of(&chinese).len(), "{file}");
        for (asked, also) in queries_of(&english).into_iter().zip(queries_of(&chinese)) {
            assert_eq!(asked.1, also.1, "{file}");
        }
        for (panel, also) in panels_of(&english).into_iter().zip(panels_of(&chinese)) {
            assert_eq!((&panel["id"], &panel["gridPos"]), (&also["id"], &also["gridPos"]), "{file}");
            for key in ["title", "description"] {
                let said = also[key].as_str().unwrap();
                assert!(said.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{other}: `{said}`");
            }
        }
    }
}

/// The guide names each panel and shows each dashboard.
#[test]
fn the_guide_names_each_panel() {
    let guide = text("grafana/README.md");
    for (file, dashboard) in dashboards() {
        let picture = format!("pictures/{file}.png");
        assert!(guide.contains(&format!("]({picture})")), "{picture} is not shown");
        assert!(std::fs::read(repository("grafana").join(&picture)).unwrap().starts_with(b"\x89PNG"), "{picture}");
        for panel in panels_of(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            assert!(guide.contains(&format!("**{title}**")), "{file}: `{title}` is not in the guide");
        }
    }
}

/// Provisioning finds the dashboards where the guide puts them, and the data source by the same name.
#[test]
fn provisioning_is_well_formed() {
    let read = |path: &str| -> Value { serde_yaml::from_str(&text(path)).unwrap() };
    let dashboards = read("grafana/provisioning/dashboards/storage-guard.yaml");
    let folder = dashboards["providers"][0]["options"]["path"].as_str().unwrap();
    assert!(text("grafana/README.md").contains(folder), "{folder}");
    let sources = read("grafana/provisioning/datasources/prometheus.yaml");
    assert_eq!(sources["datasources"][0]["type"], "prometheus");
    for file in [&dashboards, &sources] {
        assert_eq!(file["apiVersion"], 1);
    }
}

#[test]
fn the_metrics_of_an_expression_are_found() {
    for (expr, expected) in [
        ("up", &["up"][..]),
        ("sum by (up_to) (1 - up{job=\"up\"})", &["up"]),
        (
            "max(storage_guard_a{x=~\"}\"} > bool 0) / on (volume) storage_guard_b",
            &["storage_guard_a", "storage_guard_b"],
        ),
    ] {
        let found: Vec<String> = names_of(expr).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, expected, "{expr}");
    }
}
