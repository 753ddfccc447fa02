//! The rules for Prometheus, the example for Alertmanager, the paragraphs of `docs/operations.md`, and the alerts and metrics of the
//! code: one set of names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;
use storage_guard::domain::alert::AlertName;

use crate::support::{Alertmanager, Daemon, wait_for};

const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files with this ending, in a folder and below.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(at(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            out.extend(files(&path, ending));
        } else if path.ends_with(ending) {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// A value's text, or nothing.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_sequence().map_or(&[], Vec::as_slice)
}

/// Every rule, of all groups.
fn rules() -> Vec<Value> {
    let file = yaml("alerts/storage-guard.rules.yaml");
    items(&file["groups"]).iter().flat_map(|group| items(&group["rules"]).to_vec()).collect()
}

/// The alerting rules by name, each with its severities.
fn alerts() -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in rules().iter().filter(|rule| !rule["alert"].is_null()) {
        let (name, severity) = (text(rule, "alert"), text(&rule["labels"], "severity"));
        let new = out.entry(name.to_owned()).or_default().insert(severity.to_owned());
        assert!(new, "{name} has two rules for {severity}");
    }
    out
}

/// The paragraphs of "When an alert comes", by their headings.
fn paragraphs() -> BTreeMap<String, String> {
    let document = read("docs/operations.md");
    let section = document.split("\n## ").find(|section| section.starts_with("When an alert comes")).unwrap();
    let parts = section.split("\n### ").skip(1).map(|part| part.split_once('\n').unwrap());
    parts.map(|(name, body)| (name.to_owned(), body.to_owned())).collect()
}

/// Titles of the dashboards and their panels.
fn titles() -> BTreeSet<String> {
    fn walk(value: &serde_json::Value, out: &mut BTreeSet<String>) {
        out.extend(value["title"].as_str().map(str::to_owned));
        value["panels"].as_array().into_iter().flatten().for_each(|panel| walk(panel, out));
    }
    let mut out = BTreeSet::new();
    for path in dashboards() {
        walk(&serde_json::from_str(&read(&path)).unwrap(), &mut out);
    }
    out
}

fn dashboards() -> Vec<String> {
    files("grafana/dashboards", ".json")
}

/// Runs a program in `alerts/`, which must succeed; gives what it says.
fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(at("alerts")).output().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn alerts_in_the_code_the_rules_and_the_document_bear_the_same_names() {
    let (rules, paragraphs) = (alerts(), paragraphs());
    for alert in AlertName::ALL {
        let severities = rules.get(alert.as_str()).unwrap_or_else(|| panic!("no rule for {alert}"));
        assert!(severities.contains(alert.severity().as_str()), "{alert} has no rule in the guard's own severity");
    }
    let names: BTreeSet<&String> = rules.keys().collect();
    assert_eq!(names, paragraphs.keys().collect(), "rules, and paragraphs of docs/operations.md");
    for (name, body) in &paragraphs {
        for part in ["- **Meaning.** ", "- **Look.** ", "- **Do.** ", "- **Do not** "] {
            assert_eq!(body.matches(part).count(), 1, "{name}: {part}");
        }
    }
    // Panels for these come with the parts that they are about.
    let without_panel = [AlertName::MediaServerUnreachable, AlertName::RecordingStopped].map(AlertName::as_str);
    let titles = titles();
    for (name, body) in &paragraphs {
        let look = body.split("- **Look.** ").nth(1).unwrap().split("- **Do.** ").next().unwrap();
        assert!(!metric_names(look).is_empty() || look.contains("`up{"), "{name} names no query");
        let prose: String = look.split('`').step_by(2).collect();
        let panels: Vec<String> = prose.split('*').skip(1).step_by(2).map(|title| title.replace("\n  ", " ")).collect();
        assert_eq!(panels.is_empty(), without_panel.contains(&name.as_str()), "{name}: {panels:?}");
        let unknown: Vec<_> = panels.iter().filter(|title| !titles.contains(*title)).collect();
        assert!(unknown.is_empty(), "{name}: no dashboard has {unknown:?}");
    }
    let table = read("alerts/README.md");
    let told = names.iter().filter(|name| !table.contains(&format!("| `{name}` |"))).collect::<Vec<_>>();
    assert!(told.is_empty(), "missing in alerts/README.md: {told:?}");
}

#[test]
fn a_rule_says_how_bad_it_is_for_how_long_what_and_where_to_look() {
    for rule in rules().iter().filter(|rule| !rule["alert"].is_null()) {
        let (name, notes) = (text(rule, "alert"), &rule["annotations"]);
        assert!(SEVERITIES.contains(&text(&rule["labels"], "severity")), "{name}");
        assert!(!text(rule, "for").is_empty(), "{name}");
        // What changes with every evaluation would make a new subject of every message.
        let summary = text(notes, "summary");
        assert!(summary.contains("$labels.instance") && !summary.contains("$value"), "{name}: {summary}");
        assert!(text(notes, "description").contains("{{"), "{name}");
        assert_eq!(text(notes, "runbook_url"), format!("docs/operations.md#{}", name.to_lowercase()));
        let board = text(notes, "dashboard_url");
        let known = ["fleet", "node", "orphans"].map(|board| format!("/d/storage-guard-{board}"));
        assert!(known.iter().any(|known| board.split('?').next() == Some(known)), "{name}: {board}");
        let expr = text(rule, "expr");
        assert!(!expr.contains("predict_linear"), "{name}: a disk that is cleaned is a saw-tooth");
        // `on` and `by` would drop a label of the user's own, and mix guards.
        for word in [" on (", " on(", " by (", " by("] {
            assert!(!expr.contains(word), "{name}: {expr}");
        }
    }
}

#[test]
fn every_rule_is_tested_to_fire_and_not_to_fire() {
    let (mut fires, mut quiet, mut recorded) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let rules_of = alerts();
    for path in files("alerts/tests", ".yaml") {
        for test in items(&yaml(&path)["tests"]) {
            assert!(!text(test, "name").is_empty(), "{path}: a test is named for the behaviour");
            for check in items(&test["alert_rule_test"]) {
                let name = text(check, "alertname");
                let expected = items(&check["exp_alerts"]).iter();
                let seen: BTreeSet<&str> = expected.map(|alert| text(&alert["exp_labels"], "severity")).collect();
                for severity in rules_of.get(name).unwrap_or_else(|| panic!("{path}: {name} is no rule")) {
                    let set = if seen.contains(severity.as_str()) { &mut fires } else { &mut quiet };
                    set.insert((name.to_owned(), severity.clone()));
                }
            }
            for check in items(&test["promql_expr_test"]) {
                recorded.extend(text(check, "expr").split(' ').map(str::to_owned));
            }
        }
    }
    let all: BTreeSet<_> =
        rules_of.iter().flat_map(|(name, all)| all.iter().map(|severity| (name.clone(), severity.clone()))).collect();
    assert_eq!(fires, all, "rules that a test sees firing");
    assert_eq!(quiet, all, "rules that a test sees quiet");
    for rule in rules().iter().filter(|rule| !rule["record"].is_null()) {
        assert!(recorded.contains(text(rule, "record")), "no test evaluates {}", text(rule, "record"));
    }
}

#[test]
#[ignore = "needs promtool"]
fn prometheus_accepts_the_rules_and_their_tests_pass() {
    tool("promtool", &["check", "rules", "--lint=all", "--lint-fatal", "storage-guard.rules.yaml"]);
    let tests = files("alerts/tests", ".yaml");
    let tests: Vec<&str> = tests.iter().map(|path| path.strip_prefix("alerts/").unwrap()).collect();
    tool("promtool", &[&["test", "rules"], &tests[..]].concat());
}

#[test]
#[ignore = "needs amtool"]
fn alertmanager_accepts_the_example_and_tells_the_right_people() {
    tool("amtool", &["check-config", "alertmanager.yaml"]);
    let check = |labels: &[&str], receiver: &str| {
        let args = [&["config", "routes", "test", "--config.file=alertmanager.yaml"], labels].concat();
        assert_eq!(tool("amtool", &args).trim(), receiver, "{labels:?}");
    };
    check(&["job=storage-guard", "alertname=VolumeExhausted", "severity=critical"], "pager");
    check(&["job=monitoring/storage-guard", "alertname=VolumeBlind", "severity=critical"], "pager");
    check(&["job=storage-guard", "alertname=RecordingLocked", "severity=warning"], "mail");
    check(&["job=storage-guard", "alertname=RetriesAging", "severity=warning"], "mail");
    check(&["alertname=GuardDown", "severity=critical"], "pager");
    check(&["job=node", "alertname=NodeDown", "severity=critical"], "everything-else");
}

#[test]
#[ignore = "needs prometheus-alertmanager and amtool"]
fn what_says_the_same_as_something_worse_is_muted_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let alertmanager = Alertmanager::with(home.path(), &at("alerts/alertmanager.yaml"));
    let url = format!("--alertmanager.url={}", alertmanager.url());
    // For each: the labels beside the job's, and whether it is muted.
    let told = [
        ("VolumePressure severity=critical instance=a volume=/data", false),
        ("VolumePressure severity=warning instance=a volume=/data", true),
        ("CleanupNotKeepingUp severity=warning instance=a volume=/data", true),
        ("VolumePressure severity=warning instance=a volume=/cold", false),
        ("VolumePressure severity=warning instance=b volume=/data", false),
        ("VolumeExhausted severity=critical instance=c volume=/data", false),
        ("VolumePressure severity=warning instance=c volume=/data", true),
        ("DeletionFailing severity=critical instance=a tree=live cause=io", false),
        ("DeletionFailing severity=warning instance=a tree=live", true),
        ("DeletionFailing severity=warning instance=a tree=vod", false),
        ("DeliveryFailing severity=critical instance=a", false),
        ("DeliveryFailing severity=warning instance=a channel=mail", true),
        ("NotificationsDropped severity=warning instance=a channel=mail", true),
        ("NotificationsDropped severity=warning instance=b channel=mail", false),
        ("GuardDown severity=critical instance=d", false),
        ("VolumeBlind severity=critical instance=d volume=/data", true),
        ("ScanStale severity=warning instance=d", true),
        ("VolumeBlind severity=critical instance=e volume=/data", false),
        ("ScanStale severity=warning instance=e", true),
        ("ScanStale severity=warning instance=a", false),
    ];
    for (labels, _) in told {
        let labels: Vec<&str> = labels.split(' ').collect();
        tool("amtool", &[&[&url, "alert", "add", labels[0], "job=storage-guard"], &labels[1..]].concat());
    }
    let all: serde_json::Value =
        serde_json::from_str(&tool("curl", &["-s", &format!("{}/api/v2/alerts", alertmanager.url())])).unwrap();
    for (labels, muted) in told {
        let (name, rest) = labels.split_once(' ').unwrap();
        let wanted: BTreeMap<&str, &str> = rest.split(' ').map(|label| label.split_once('=').unwrap()).collect();
        let is_it = |alert: &&serde_json::Value| {
            let labels = alert["labels"].as_object().unwrap();
            labels["alertname"] == name
                && labels.len() == wanted.len() + 2
                && wanted.iter().all(|(label, value)| labels.get(*label).is_some_and(|known| known == value))
        };
        let alert =
            all.as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("{labels} is not there: {all}"));
        assert_eq!(alert["status"]["state"] == "suppressed", muted, "{labels}");
    }
}

#[test]
fn the_example_for_alertmanager_mutes_only_alerts_that_exist() {
    let (rules, example) = (alerts(), yaml("alerts/alertmanager.yaml"));
    let mut named = BTreeSet::new();
    let mut pending = vec![&example];
    while let Some(value) = pending.pop() {
        match value {
            Value::Sequence(values) => pending.extend(values),
            Value::Mapping(pairs) => pending.extend(pairs.values()),
            Value::String(matcher) if matcher.starts_with("alertname") && matcher.contains('"') => {
                let (_, names) = matcher.split_once('"').unwrap();
                named.extend(names.trim_end_matches('"').split('|').map(str::to_owned));
            }
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Tagged(_) => {}
        }
    }
    assert!(named.len() > 5, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !rules.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
#[ignore = "needs python3"]
fn the_rules_for_kubernetes_are_generated_from_the_same_file() {
    tool("./generate", &["--check"]);
    let wrapped = yaml("alerts/prometheus-rule.yaml");
    assert_eq!(wrapped["spec"]["groups"], yaml("alerts/storage-guard.rules.yaml")["groups"]);
    assert_eq!((text(&wrapped, "apiVersion"), text(&wrapped, "kind")), ("monitoring.coreos.com/v1", "PrometheusRule"));
}

/// All names in a text that look like one of ours: metrics, and what rules record (`level:metric:operation`).
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.map(|word| word.trim_matches(':')).filter(|word| word.contains("storage_guard_")).map(str::to_owned).collect()
}

/// The names in the strings of a JSON file, whose escapes are no part of them.
fn names_of_json(path: &str) -> BTreeSet<String> {
    fn walk(value: &serde_json::Value, out: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::String(text) => out.extend(metric_names(text)),
            serde_json::Value::Array(values) => values.iter().for_each(|value| walk(value, out)),
            serde_json::Value::Object(pairs) => pairs.values().for_each(|value| walk(value, out)),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
    }
    let mut out = BTreeSet::new();
    walk(&serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}")), &mut out);
    out
}

/// The metrics of an exposition, and of those that are histograms their series.
fn exported(exposition: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types: Vec<(&str, &str)> = types.filter_map(|line| line.split_once(' ')).collect();
    let series = types.iter().filter(|(_, kind)| *kind == "histogram");
    let series = series.flat_map(|(name, _)| ["bucket", "count", "sum"].map(|part| format!("{name}_{part}"))).collect();
    (types.iter().map(|(name, _)| (*name).to_owned()).collect(), series)
}

/// A daemon on an empty tree, with a channel, a catalogue and a media server, so that it has all metrics.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn exposition() -> String {
    let home = tempfile::tempdir().unwrap();
    let (state, tree) = (home.path().join("state"), home.path().join("record"));
    std::fs::create_dir(&tree).unwrap();
    let (config, known) = (home.path().join("guard.yaml"), home.path().join("known.txt"));
    std::fs::write(&known, "# end 0\n").unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!(
        "listen: 127.0.0.1:0\nstate: {{ path: {} }}\ntrees: [ {{ name: live, path: {}, layout: plain, catalogue: list }} ]\n\
         catalogues: [ {{ name: list, kind: manifest, file: {} }} ]\n\
         media_servers: [ {{ name: zlm-1, kind: zlmediakit, api: \"http://127.0.0.1:9\", secret_file: secret, \
         gateway: {{ listen: \"127.0.0.1:0\" }}, hooks: {{ listen: \"127.0.0.1:0\", relay: \"http://127.0.0.1:9/index/hook\" }} }} ]\n\
         notify: {{ channels: [ {{ name: hook, kind: webhook, url: \"http://127.0.0.1:9/\" }} ] }}\n",
        state.display(),
        tree.display(),
        known.display()
    );
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&config, &state);
    wait_for("the volume is measured", || !["", "blind"].contains(&daemon.pressure().as_str()));
    daemon.get("/metrics")
}

#[test]
#[ignore = "needs curl"]
fn every_metric_that_is_named_is_exported_and_every_exported_one_is_documented() {
    let told = exposition();
    let (metrics, series) = exported(&told);
    assert!(metrics.len() > 40, "{told}");
    let rules = rules();
    let recorded: BTreeSet<String> = rules.iter().map(|rule| text(rule, "record").to_owned()).collect();
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut seen_in = |path: String, found: BTreeSet<String>| {
        for name in found {
            named.entry(name).or_default().insert(path.clone());
        }
    };
    for path in [files("alerts", ".yaml"), files("alerts", ".md"), files("docs", ".md")].concat() {
        let found = metric_names(&read(&path));
        seen_in(path, found);
    }
    for path in dashboards() {
        let found = names_of_json(&path);
        seen_in(path, found);
    }
    for (name, paths) in &named {
        let known = metrics.contains(name) || series.contains(name) || recorded.contains(name);
        assert!(known, "{name}, named in {paths:?}, is no metric, and nothing records it");
    }
    assert_eq!(metric_names(&read("docs/metrics.md")), metrics, "docs/metrics.md, and what is exported");
    for expr in rules.iter().map(|rule| text(rule, "expr")) {
        for (label, values) in matchers(expr) {
            for value in values.split('|') {
                let wanted = format!("{label}=\"{value}\"");
                assert!(told.contains(&wanted), "{expr}: no metric has `{wanted}`");
            }
        }
    }
}

/// The labels that an expression asks for by value, other than those that Prometheus itself gives.
fn matchers(expr: &str) -> Vec<(&str, &str)> {
    let inside = expr.split('{').skip(1).filter_map(|part| part.split('}').next());
    let all = inside.flat_map(|inside| inside.split(',')).filter_map(|matcher| matcher.split_once('='));
    let all = all.map(|(label, value)| (label.trim_end_matches('!'), value.trim_start_matches('~').trim_matches('"')));
    all.filter(|(label, _)| *label != "job").collect()
}
