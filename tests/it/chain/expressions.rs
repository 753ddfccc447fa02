//! Every expression of the dashboards and rules, asked of a Prometheus that watches a guard with something to tell.

use std::time::Duration;

use serde_json::Value;
use storage_guard::system::{Clock as _, SystemClock};

use super::repository;
use crate::support::{Prometheus, pause, total};

/// Words of expressions that are neither functions, which stand before a parenthesis, nor metrics.
const WORDS: [&str; 19] = [
    "and",
    "avg",
    "bool",
    "by",
    "count",
    "group",
    "group_left",
    "group_right",
    "ignoring",
    "inf",
    "max",
    "min",
    "nan",
    "offset",
    "on",
    "or",
    "sum",
    "unless",
    "without",
];

/// One expression, and where it stands.
struct Asked {
    place: String,
    expression: String,
    /// It is drawn over time; else only its value of now is shown.
    over_time: bool,
}

/// Every expression has data; what has none is named.
pub(super) fn check(prometheus: &Prometheus, since: i64) {
    let broken = prometheus.broken_rules();
    assert!(broken.is_empty(), "{broken:?}");
    let mut asked = dashboards();
    let panels = asked.len();
    asked.extend(rules());
    let empty = || -> Vec<String> {
        let until = SystemClock.now().secs();
        let empty = |asked: &&Asked| {
            let values = if asked.over_time {
                prometheus.query_range(&asked.expression, since, until)
            } else {
                prometheus.query(&asked.expression).into_iter().map(|(_, value)| value).collect()
            };
            values.iter().all(|value| value.is_nan())
        };
        asked.iter().filter(empty).map(|asked| format!("{}: {}", asked.place, asked.expression)).collect()
    };
    // What compares with a moment before has data once that moment was scraped.
    let mut left = empty();
    for _ in 0..15 {
        if left.is_empty() {
            break;
        }
        pause(Duration::from_secs(1));
        left = empty();
    }
    assert!(left.is_empty(), "without data:\n{}", left.join("\n"));
    total("expressions of dashboards that have data", panels as u64);
    total("expressions and selectors of rules that have data", (asked.len() - panels) as u64);
}

/// The expressions of all dashboards: panels, annotations and variables.
fn dashboards() -> Vec<Asked> {
    let mut out = Vec::new();
    let mut files: Vec<_> =
        std::fs::read_dir(repository("grafana/dashboards")).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let dashboard: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let name = dashboard["title"].as_str().unwrap().to_owned();
        let mut push = |part: &str, expression: &str, over_time| {
            let place = format!("{name} / {part}");
            out.push(Asked { place, expression: filled_in(expression), over_time });
        };
        for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
            if let Some(expression) = annotation["expr"].as_str() {
                push(annotation["name"].as_str().unwrap(), expression, true);
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let query = variable["query"]["query"].as_str().unwrap_or_default();
            if let Some((selector, _)) = query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(',')) {
                push(variable["name"].as_str().unwrap(), selector, false);
            }
        }
        let rows = dashboard["panels"].as_array().unwrap();
        let inner = rows.iter().filter_map(|row| row["panels"].as_array()).flatten();
        for panel in rows.iter().chain(inner) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().unwrap();
                push(panel["title"].as_str().unwrap(), expression, target["instant"] != true);
            }
        }
    }
    out
}

/// The expression with everything in the place of its variables.
fn filled_in(expression: &str) -> String {
    let mut out = String::new();
    let mut parts = expression.split('$');
    out.push_str(parts.next().unwrap());
    for part in parts {
        let (name, rest) = match part.strip_prefix('{').and_then(|part| part.split_once('}')) {
            Some((name, rest)) => (name.split(':').next().unwrap(), rest),
            None => part.split_at(part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len())),
        };
        out.push_str(match name {
            "__rate_interval" | "__interval" => "30s",
            "__range" => "5m",
            _ => ".+",
        });
        out.push_str(rest);
    }
    out
}

/// Of the shipped rules: what is recorded, and of the alerts, which are empty while they do not fire, each selector.
fn rules() -> Vec<Asked> {
    let text = std::fs::read_to_string(repository("alerts/storage-guard.rules.yaml")).unwrap();
    let file: Value = serde_yaml::from_str(&text).unwrap();
    let groups = file["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let recorded = |name: &str| rules.iter().find(|rule| rule["record"] == name).map(|rule| young(&rule["expr"]));
    let mut out = Vec::new();
    let mut push =
        |place: &str, expression| out.push(Asked { place: format!("rule {place}"), expression, over_time: false });
    for rule in &rules {
        if let Some(name) = rule["record"].as_str() {
            push(name, young(&rule["expr"]));
            continue;
        }
        let name = rule["alert"].as_str().unwrap();
        for selector in selectors(rule["expr"].as_str().unwrap()) {
            let metric = selector.split('{').next().unwrap();
            push(name, recorded(metric).unwrap_or(selector));
        }
    }
    assert!(out.len() >= 20, "{} selectors", out.len());
    out
}

/// The expression without looking further back than this guard lives.
fn young(expression: &Value) -> String {
    let mut words = expression.as_str().unwrap().split_inclusive(char::is_whitespace).peekable();
    let mut out = String::new();
    while let Some(word) = words.next() {
        out.push_str(word);
        if word.trim() == "offset" {
            let far = words.next().unwrap();
            let end = far.trim_start_matches(char::is_alphanumeric);
            out.push_str("5s");
            out.push_str(end);
        }
    }
    out
}

/// The vector selectors of an expression: metric and matchers, without range and offset.
fn selectors(expression: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = expression;
    // After `by`, `on` and the like, the names in the parenthesis are labels.
    let mut labels = false;
    while let Some(first) = rest.chars().next() {
        if !first.is_ascii_alphanumeric() && first != '_' && first != ':' {
            let skipped = match first {
                '(' if labels => rest.find(')').unwrap() + 1,
                '"' => rest[1..].find('"').unwrap() + 2,
                _ => first.len_utf8(),
            };
            labels &= first.is_whitespace();
            rest = &rest[skipped..];
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        labels = matches!(word, "by" | "without" | "on" | "ignoring" | "group_left" | "group_right");
        if labels || WORDS.contains(&word) || first.is_ascii_digit() || after.trim_start().starts_with('(') {
            continue;
        }
        let matchers = if after.starts_with('{') { after.find('}').unwrap() + 1 } else { 0 };
        out.push(format!("{word}{}", &after[..matchers]));
        rest = &after[matchers..];
    }
    out
}

#[test]
fn the_selectors_of_an_expression_are_found() {
    for (expression, expected) in [
        ("up", &["up"][..]),
        ("a:b:c > 0.25 * d{x=\"(y)\",z=~\"p|q\"}", &["a:b:c", "d{x=\"(y)\",z=~\"p|q\"}"]),
        (
            "sum without (cause) (a_b{c=\"d\"}) > 0 and ignoring (e, f) group_left () g == bool 1",
            &["a_b{c=\"d\"}", "g"],
        ),
        ("max_over_time(a[6h] offset 1d) unless rate(b{c!=\"\"}[5m]) / 2e3 or absent(d)", &["a", "b{c!=\"\"}", "d"]),
        ("(time() - e) > 6 * 3600", &["e"]),
    ] {
        assert_eq!(selectors(expression), expected, "{expression}");
    }
}

#[test]
fn what_a_dashboard_leaves_open_is_filled_in() {
    for (expression, expected) in [
        ("rate(a{b=~\"$b\"}[$__rate_interval])", "rate(a{b=~\".+\"}[30s])"),
        ("a{b=~\"${b:regex}\", c=~\"${c}\"}", "a{b=~\".+\", c=~\".+\"}"),
    ] {
        assert_eq!(filled_in(expression), expected);
    }
    let earlier = Value::String("a - max_over_time(b[6h] offset 1d)\n".to_owned());
    assert_eq!(young(&earlier), "a - max_over_time(b[6h] offset 5s)\n");
}
