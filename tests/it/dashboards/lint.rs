//! What a dashboard must keep to.

use std::collections::BTreeSet;

use serde_json::Value;

use super::text;

/// Panels that come with every Grafana.
const PANELS: [&str; 5] = ["row", "stat", "table", "timeseries", "state-timeline"];
/// Units that are in use; another is a word that Grafana may not know.
const UNITS: [&str; 7] = ["none", "short", "bytes", "binBps", "percentunit", "s", "dateTimeFromNow"];
/// Our dashboards; those in Chinese have `-zh` after it.
const UIDS: [&str; 3] = ["storage-guard-fleet", "storage-guard-node", "storage-guard-orphans"];
/// Every selector bears these.
const MATCHERS: [&str; 2] = ["job=~\"$job\"", "instance=~\"$instance\""];

/// The panels that show something, those of collapsed rows too.
pub(super) fn panels_of(dashboard: &Value) -> Vec<&Value> {
    let all = list(&dashboard["panels"]);
    let inner = all.iter().flat_map(|panel| list(&panel["panels"]));
    all.iter().chain(inner).filter(|panel| panel["type"] != "row").collect()
}

/// Every expression of a dashboard, and where it stands.
pub(super) fn queries_of(dashboard: &Value) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for annotation in list(&dashboard["annotations"]["list"]) {
        out.push((format!("annotation `{}`", word(&annotation["name"])), word(&annotation["expr"])));
    }
    for variable in list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
        let query = word(&variable["query"]["query"]);
        let selector = query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(", "));
        let selector = selector.unwrap_or_else(|| panic!("{query}"));
        out.push((format!("variable `{}`", word(&variable["name"])), selector.0.to_owned()));
    }
    for panel in panels_of(dashboard) {
        for target in list(&panel["targets"]) {
            out.push((format!("panel `{}`", word(&panel["title"])), word(&target["expr"])));
        }
    }
    out
}

/// The metrics of an expression, each with its matchers, if it has any.
pub(super) fn names_of(expr: &str) -> Vec<(String, Option<String>)> {
    let mut out = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '{' || c == '"') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').map_or("", |(_, after)| after);
            continue;
        }
        if rest.starts_with('{') {
            rest = &rest[matchers(rest).len()..];
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if name == "up" || name == "ALERTS" || name.starts_with("storage_guard_") {
            out.push((name.to_owned(), after.starts_with('{').then(|| matchers(after).to_owned())));
        }
    }
    out
}

/// From a brace to the one that closes it, those in quotes left out.
fn matchers(text: &str) -> &str {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '}' if !quoted => return &text[..=at],
            _ => {}
        }
    }
    text
}

/// Everything that breaks a convention.
pub(super) fn problems(dashboard: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (key, expected) in [
        ("id", Value::Null),
        ("version", 0.into()),
        ("editable", true.into()),
        ("graphTooltip", 1.into()),
        ("timezone", "browser".into()),
        ("refresh", "30s".into()),
    ] {
        if dashboard[key] != expected {
            out.push(format!("{key} is {}, not {expected}", dashboard[key]));
        }
    }
    if dashboard["schemaVersion"].as_u64().is_none_or(|version| !(39..=41).contains(&version)) {
        out.push(format!("schemaVersion is {}", dashboard["schemaVersion"]));
    }
    variables(dashboard, &mut out);
    links(dashboard, &mut out);
    places(dashboard, &mut out);
    for panel in panels_of(dashboard) {
        let title = word(&panel["title"]);
        shape(panel, &mut |problem| out.push(format!("panel `{title}`: {problem}")));
    }
    for (place, expr) in queries_of(dashboard) {
        query(dashboard, &place, &expr, &mut |problem| out.push(format!("{place}: {problem}")));
    }
    out
}

fn variables(dashboard: &Value, out: &mut Vec<String>) {
    let all = list(&dashboard["templating"]["list"]);
    if all.first().is_none_or(|first| first["type"] != "datasource" || first["name"] != "datasource") {
        out.push("the first variable is not the data source".to_owned());
    }
    let names: Vec<String> = all.iter().skip(1).map(|variable| word(&variable["name"])).collect();
    if !names.starts_with(&["job".to_owned(), "instance".to_owned()]) {
        out.push(format!("the variables are {names:?}"));
    }
    for variable in all.iter().skip(1) {
        let any = variable["multi"] == true && variable["includeAll"] == true && variable["allValue"] == ".+";
        if !any || !templated(variable) {
            out.push(format!("variable `{}` cannot be all, or not of the chosen data source", word(&variable["name"])));
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        if !templated(annotation) {
            out.push(format!("annotation `{}` has a data source of its own", word(&annotation["name"])));
        }
    }
}

fn links(dashboard: &Value, out: &mut Vec<String>) {
    let all = list(&dashboard["links"]);
    let by_tag = all.iter().any(|link| link["type"] == "dashboards" && list(&link["tags"]) == list(&dashboard["tags"]));
    let guide = all.iter().any(|link| link["type"] == "link" && word(&link["url"]).ends_with("/docs/operations.md"));
    if !by_tag || !guide {
        out.push("there is no link to the other dashboards, or to the operations guide".to_owned());
    }
    let language = if word(&dashboard["uid"]).ends_with("-zh") { "-zh" } else { "" };
    let whole = dashboard.to_string();
    for url in whole.split("\"/d/").skip(1) {
        let uid = url.split(['?', '"']).next().unwrap();
        if !UIDS.iter().any(|ours| uid == format!("{ours}{language}")) {
            out.push(format!("a link to `{uid}`, which is no dashboard of ours"));
        }
    }
}

fn places(dashboard: &Value, out: &mut Vec<String>) {
    let mut ids = BTreeSet::new();
    let mut taken: Vec<[u64; 4]> = Vec::new();
    for panel in list(&dashboard["panels"]) {
        let title = word(&panel["title"]);
        if !ids.insert(panel["id"].as_u64()) {
            out.push(format!("panel `{title}`: id {} is used twice", panel["id"]));
        }
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        if w == 0 || h == 0 || x + w > 24 {
            out.push(format!("panel `{title}` is outside of the grid"));
        }
        if taken.iter().any(|[u, v, width, height]| x < u + width && *u < x + w && y < v + height && *v < y + h) {
            out.push(format!("panel `{title}` overlaps another"));
        }
        taken.push([x, y, w, h]);
    }
}

fn shape(panel: &Value, say: &mut impl FnMut(String)) {
    if word(&panel["title"]).is_empty() {
        say("no title".to_owned());
    }
    if !word(&panel["description"]).ends_with(['.', '`', '。']) {
        say("the description is not a sentence".to_owned());
    }
    if !PANELS.contains(&word(&panel["type"]).as_str()) || !panel["libraryPanel"].is_null() {
        say(format!("`{}` does not come with every Grafana", word(&panel["type"])));
    }
    let targets = list(&panel["targets"]);
    if targets.is_empty() || !templated(panel) || !targets.iter().all(templated) {
        say("it asks nothing, or a data source of its own".to_owned());
    }
    let letters: BTreeSet<String> = targets.iter().map(|target| word(&target["refId"])).collect();
    if letters.len() != targets.len() {
        say("two queries have one name".to_owned());
    }
    let defaults = &panel["fieldConfig"]["defaults"];
    if word(&defaults["noValue"]).is_empty() {
        say("no noValue".to_owned());
    }
    let overrides = list(&panel["fieldConfig"]["overrides"]);
    let properties: Vec<&Value> = overrides.iter().flat_map(|one| list(&one["properties"])).collect();
    let of = |id: &'static str| {
        let overridden =
            properties.iter().filter(move |property| property["id"] == id).map(|property| &property["value"]);
        overridden.chain(std::iter::once(&defaults[id])).filter(|value| !value.is_null())
    };
    let mut units = of("unit").map(word).peekable();
    if units.peek().is_none() {
        say("no unit".to_owned());
    }
    for unit in units.filter(|unit| !UNITS.contains(&unit.as_str())) {
        say(format!("`{unit}` is no unit that we know"));
    }
    // Marks come from the metrics that export them: a threshold of our own is only where something is, or is not.
    for step in of("thresholds").flat_map(|thresholds| list(&thresholds["steps"])) {
        if !step["value"].is_null() && step["value"] != 0 && step["value"] != 1 {
            say(format!("the threshold {} is typed in", step["value"]));
        }
    }
    if panel["type"] == "table" {
        columns(panel, overrides, say);
    }
}

/// What is said of a column is said of one that is there.
fn columns(panel: &Value, overrides: &[Value], say: &mut impl FnMut(String)) {
    let organize = list(&panel["transformations"]).iter().find(|one| one["id"] == "organize");
    let renamed = organize.and_then(|one| one["options"]["renameByName"].as_object());
    let titles: Vec<String> = renamed.into_iter().flat_map(|names| names.values().map(word)).collect();
    let sorted = list(&panel["options"]["sortBy"]).iter().map(|one| word(&one["displayName"]));
    for name in overrides.iter().map(|one| word(&one["matcher"]["options"])).chain(sorted) {
        if !titles.contains(&name) {
            say(format!("there is no column `{name}`"));
        }
    }
}

fn query(dashboard: &Value, place: &str, expr: &str, say: &mut impl FnMut(String)) {
    let documented = text("docs/metrics.md");
    // What the variables `job` and `instance` are chosen from cannot be narrowed by both.
    let needed: &[&str] = match place {
        "variable `job`" => &[],
        "variable `instance`" => &MATCHERS[..1],
        _ => &MATCHERS,
    };
    for (name, matchers) in names_of(expr) {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = |name: &str| documented.contains(&format!("`{name}`"));
        if name.starts_with("storage_guard_") && !known(&name) && !family.is_some_and(known) {
            say(format!("`{name}` is not documented"));
        }
        match matchers {
            None if needed.is_empty() => {}
            None => say(format!("`{name}` has no matchers")),
            Some(matchers) => {
                for matcher in needed.iter().filter(|matcher| !matchers.contains(**matcher)) {
                    say(format!("`{name}` has no matcher `{matcher}`"));
                }
            }
        }
    }
    for call in ["rate(", "increase("].iter().flat_map(|call| expr.split(call).skip(1)) {
        let range = call.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(range, _)| range);
        if range != "$__rate_interval" {
            say(format!("a rate over [{range}], which is not the dashboard's"));
        }
    }
    let variables = list(&dashboard["templating"]["list"]);
    for used in expr.split('$').skip(1) {
        let end = used.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(used.len());
        let name = &used[..end];
        if name != "__rate_interval" && !variables.iter().any(|variable| variable["name"] == name) {
            say(format!("`${name}` is no variable"));
        }
    }
}

fn templated(of: &Value) -> bool {
    of["datasource"]["type"] == "prometheus" && of["datasource"]["uid"] == "${datasource}"
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
