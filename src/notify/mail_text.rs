//! A message as a mail: subject, text, and the same as HTML. Made of the body that a webhook gets.

use std::fmt::Write as _;

use super::body::{Body, Item, one_line};
use super::template::Templates;
use crate::domain::units::Bytes;

/// The subject: `[FIRING] VolumeExhausted data`. One line, whatever the names hold.
pub(super) fn subject(body: &Body, templates: &Templates) -> String {
    one_line(templates.render("mail.subject.txt", body).trim(), 250)
}

fn mark(body: &Body) -> &'static str {
    match body.kind.as_str() {
        "alert.firing" => "FIRING",
        "alert.resolved" => "RESOLVED",
        _ => "TEST",
    }
}

/// The facts of a mail, in order: a name and what it is.
fn facts(body: &Body) -> Vec<(&str, String)> {
    let data = &body.data;
    let mut out = vec![("Alert", format!("{} ({})", data.alert, mark(body).to_lowercase()))];
    out.push(("Severity", data.severity.clone()));
    out.extend(data.labels.iter().map(|(name, value)| match name.as_str() {
        "volume" => ("Volume", value.clone()),
        _ => ("Tree", value.clone()),
    }));
    out.push(("Since", data.since.clone()));
    if mark(body) == "RESOLVED" {
        out.push(("Resolved", body.timestamp.clone()));
    }
    out.into_iter().map(|(name, value)| (name, one_line(&value, 300))).collect()
}

/// What stands above the files; nothing if there are none.
fn heading(body: &Body) -> Option<String> {
    let unreclaimed = &body.data.unreclaimed;
    let (files, shown) = (unreclaimed.files, unreclaimed.items.len());
    let of = if files > shown as u64 { format!(", the first {shown} of them") } else { String::new() };
    (files > 0 || shown > 0).then(|| format!("Not reclaimed: {files} files, {}{of}", Bytes(unreclaimed.bytes)))
}

/// The columns of one file: tree, path, bytes, cause, holder.
fn columns(item: &Item) -> [String; 5] {
    let cause = if item.detail.is_empty() { item.cause.clone() } else { format!("{}: {}", item.cause, item.detail) };
    let holder = item.holder.clone().unwrap_or_default();
    [item.tree.clone(), item.path.clone(), Bytes(item.bytes).to_string(), cause, holder].map(|s| one_line(&s, 5000))
}

/// The mail as text.
pub(super) fn text(body: &Body) -> String {
    let mut out = String::new();
    for (name, value) in facts(body) {
        let _ = writeln!(out, "{:<10}{value}", format!("{name}:"));
    }
    let _ = writeln!(out, "\n{}\n\n{}", one_line(&body.data.summary, 2000), body.data.description);
    if let Some(heading) = heading(body) {
        let _ = writeln!(out, "\n{heading}");
        for item in &body.data.unreclaimed.items {
            let [tree, path, bytes, cause, holder] = columns(item);
            let held = if holder.is_empty() { String::new() } else { format!(", held by {holder}") };
            let _ = writeln!(out, "- {tree}: {path} ({bytes}, {cause}{held})");
        }
    }
    let _ = writeln!(out, "\nWhat to do: {}", one_line(&body.data.runbook, 300));
    out
}

/// The mail as HTML: no style, no link to anywhere else, no picture.
pub(super) fn html(body: &Body) -> String {
    let mut out = String::from("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head><body>\n");
    let _ = writeln!(out, "<p><b>{}</b></p>\n<table>", escape(&one_line(&body.data.summary, 2000)));
    for (name, value) in facts(body) {
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(&value));
    }
    let _ = writeln!(out, "</table>\n<p>{}</p>", escape(&body.data.description).replace('\n', "<br>\n"));
    if let Some(heading) = heading(body) {
        let _ = writeln!(out, "<p>{}</p>", escape(&heading));
    }
    if !body.data.unreclaimed.items.is_empty() {
        out.push_str(
            "<table border=\"1\"><tr><th>Tree</th><th>Path</th><th>Size</th><th>Cause</th><th>Held by</th></tr>\n",
        );
        for item in &body.data.unreclaimed.items {
            let cells: String = columns(item).iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            let _ = writeln!(out, "<tr>{cells}</tr>");
        }
        out.push_str("</table>\n");
    }
    let _ = writeln!(out, "<p>What to do: <code>{}</code></p>\n</body></html>", escape(&body.data.runbook));
    out
}

/// Text that HTML shows as it is, within elements and within quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::{self, condition};
    use super::*;
    use crate::domain::alert::{AlertName, Subject};
    use crate::domain::names::VolumeId;
    use crate::domain::settings::Language;
    use crate::domain::units::Timestamp;

    fn subject(body: &Body) -> String {
        super::subject(body, &templates())
    }

    fn templates() -> Templates {
        Templates::new(Language::English, None).0
    }

    fn body(kind: &str, volume: &str, files: usize, name: &[u8]) -> Body {
        let mut condition = condition(AlertName::SpaceNotReclaimed, files, name);
        condition.subject = Subject::Volume(VolumeId::new(volume));
        tests::body(kind, &condition, Timestamp::from_secs(0), Timestamp::from_secs(60))
    }

    #[test]
    fn names_everything_that_a_person_needs() {
        let text = text(&body("alert.firing", "data", 1, b"a/b.mp4"));
        let expected = "\
Alert:    SpaceNotReclaimed (firing)
Severity: warning
Volume:   data
Since:    1970-01-01T00:00:00Z

space does not come back

3 GiB
are missing

Not reclaimed: 1 files, 1 GiB
- live: a/b.mp4 (1 GiB, held_open: deleted, and still open, held by ffmpeg (pid 7))

What to do: docs/operations.md#spacenotreclaimed
";
        assert_eq!(text, expected);
        let resolved = body("alert.resolved", "data", 0, b"x");
        assert!(super::text(&resolved).contains("Resolved: 1970-01-01T00:01:00Z"));
        assert!(!super::text(&resolved).contains("Not reclaimed"));
    }

    #[test]
    fn says_how_many_of_all_files_it_names() {
        let mut many = body("alert.firing", "data", 30, b"a.mp4");
        many.data.unreclaimed.files = 10_000;
        let text = text(&many);
        assert!(text.contains("10000 files") && text.contains("the first 20 of them"), "{text}");
        assert_eq!(text.matches("\n- live: a.mp4").count(), 20);
    }

    /// Faults 106 and 107.
    #[test]
    fn names_become_neither_headers_nor_markup() {
        let nasty = "d\r\nBcc: x@y\u{202e}<img onerror=\"x\">'&";
        let body = body("alert.firing", nasty, 1, b"<script>\n\x1b[31m\"'.mp4");
        let subject = subject(&body);
        assert!(subject.starts_with("[FIRING] SpaceNotReclaimed d"), "{subject}");
        assert!(!subject.chars().any(char::is_control) && !subject.contains('\u{202e}'));
        let html = html(&body);
        for bad in ["<img", "<script", "onerror=\"", "\u{1b}", "\u{202e}"] {
            assert!(!html.contains(bad), "{bad}: {html}");
        }
        assert!(html.contains("&lt;script&gt;%0A%1B[31m&quot;&#39;.mp4"), "{html}");
    }

    #[test]
    fn subjects_say_what_and_about_what() {
        assert_eq!(subject(&body("alert.resolved", "data", 0, b"x")), "[RESOLVED] SpaceNotReclaimed data");
        assert_eq!(subject(&Body::test("mail", Timestamp::default(), &templates())), "[TEST] Test");
    }
}
