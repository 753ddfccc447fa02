//! The words of a mail: subject, text and HTML, made of the body that the webhook sends.

use std::fmt::Write as _;

use super::body::{Body, Item, TEST, clean, one_line};
use crate::domain::units::Bytes;

/// How long a subject may be.
const SUBJECT: usize = 200;

/// `[FIRING] VolumeExhausted data`
pub(super) fn subject(body: &Body) -> String {
    let tag = match body.kind.as_str() {
        "alert.firing" => "FIRING",
        "alert.resolved" => "RESOLVED",
        TEST => "TEST",
        other => other,
    };
    one_line(format!("[{tag}] {} {}", body.data.alert, body.about()).trim_end(), SUBJECT)
}

/// What stands in the mail, in order: a name and its value.
fn facts(body: &Body) -> Vec<(&'static str, String)> {
    let data = &body.data;
    let mut facts = vec![("Alert", data.alert.clone()), ("Severity", data.severity.clone())];
    facts.extend(data.labels.iter().filter_map(|(label, value)| match label.as_str() {
        "volume" => Some(("Volume", value.clone())),
        "tree" => Some(("Tree", value.clone())),
        _ => None,
    }));
    facts.push(("Since", data.since.clone()));
    if body.kind == "alert.resolved" {
        facts.push(("Resolved", body.timestamp.clone()));
    }
    facts.into_iter().map(|(name, value)| (name, one_line(&value, 500))).collect()
}

fn heading(body: &Body) -> Option<String> {
    let unreclaimed = &body.data.unreclaimed;
    let (shown, files) = (unreclaimed.items.len(), unreclaimed.files);
    let total = Bytes(unreclaimed.bytes);
    (shown > 0 || files > 0).then(|| format!("Not reclaimed: {total} (files: {files}, shown here: {shown})"))
}

fn hint(body: &Body) -> String {
    format!("What to do: {}", body.data.runbook)
}

/// Tree, path, size, cause and holder of a file.
fn cells(item: &Item) -> [String; 5] {
    let why = if item.detail.is_empty() { item.cause.clone() } else { format!("{}: {}", item.cause, item.detail) };
    let holder = item.holder.as_deref().unwrap_or_default();
    let size = Bytes(item.bytes).to_string();
    [&item.tree, &item.path, &size, &why, holder].map(|text| one_line(text, 5000))
}

/// The mail as text.
pub(super) fn text(body: &Body) -> String {
    let mut out = String::new();
    for (name, value) in facts(body) {
        let _ = writeln!(out, "{:<10}{value}", format!("{name}:"));
    }
    let _ = write!(out, "\n{}\n\n{}\n", one_line(&body.data.summary, 1000), clean(&body.data.description, 9000));
    if let Some(heading) = heading(body) {
        let _ = write!(out, "\n{heading}\n");
        for item in &body.data.unreclaimed.items {
            let [tree, path, size, why, holder] = cells(item);
            let _ = write!(out, "- {tree}: {path} ({size}), {why}");
            if !holder.is_empty() {
                let _ = write!(out, ", held by {holder}");
            }
            out.push('\n');
        }
    }
    let _ = write!(out, "\n{}\n", hint(body));
    out
}

/// The mail as HTML. Everything from outside is escaped, and nothing is loaded from anywhere.
pub(super) fn html(body: &Body) -> String {
    let mut out = format!("<!doctype html><html><body><h3>{}</h3><table>", escape(&subject(body)));
    for (name, value) in facts(body) {
        let _ = write!(out, "<tr><td><b>{name}</b></td><td>{}</td></tr>", escape(&value));
    }
    let lines = escape(&clean(&body.data.description, 9000)).replace('\n', "<br>");
    let _ = write!(out, "</table><p><b>{}</b></p><p>{lines}</p>", escape(&one_line(&body.data.summary, 1000)));
    if let Some(heading) = heading(body) {
        let _ = write!(
            out,
            "<p>{}</p><table><tr><th>tree</th><th>path</th><th>size</th><th>cause</th><th>held by</th></tr>",
            escape(&heading)
        );
        for item in &body.data.unreclaimed.items {
            out.push_str("<tr>");
            for cell in cells(item) {
                let _ = write!(out, "<td>{}</td>", escape(&cell));
            }
            out.push_str("</tr>");
        }
        out.push_str("</table>");
    }
    let _ = write!(out, "<p>{}</p></body></html>", escape(&hint(body)));
    out
}

/// The text for HTML: none of it can become markup.
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
    use super::super::body::tests::condition;
    use super::*;
    use crate::domain::alert::{AlertName, Subject};
    use crate::domain::names::TreeId;
    use crate::domain::units::Timestamp;

    fn body(kind: &str, name: &[u8]) -> Body {
        let condition = condition(AlertName::SpaceNotReclaimed, 2, name);
        Body::new(kind, &condition, Timestamp::from_secs(60), Timestamp::from_secs(3600))
    }

    #[test]
    fn reads_like_this() {
        let expected = "\
Alert:    SpaceNotReclaimed
Severity: warning
Volume:   data
Since:    1970-01-01T00:01:00Z
Resolved: 1970-01-01T01:00:00Z

space does not come back

3 GiB
are missing

Not reclaimed: 2 GiB (files: 2, shown here: 2)
- live: a/b.mp4 (1 GiB), held_open: deleted, and still open, held by ffmpeg (pid 7)
- live: a/b.mp4 (1 GiB), held_open: deleted, and still open, held by ffmpeg (pid 7)

What to do: docs/operations.md#spacenotreclaimed
";
        assert_eq!(text(&body("alert.resolved", b"a/b.mp4")), expected);
    }

    #[test]
    fn subjects_say_what_and_where() {
        for (kind, expected) in [
            ("alert.firing", "[FIRING] SpaceNotReclaimed data"),
            ("alert.resolved", "[RESOLVED] SpaceNotReclaimed data"),
        ] {
            assert_eq!(subject(&body(kind, b"x")), expected);
        }
        let mut guard = condition(AlertName::DeliveryFailing, 0, b"x");
        guard.subject = Subject::Guard;
        let now = Timestamp::from_secs(0);
        assert_eq!(subject(&Body::new("alert.firing", &guard, now, now)), "[FIRING] DeliveryFailing");
        assert_eq!(subject(&Body::test("mail", now)), "[TEST] Test");
    }

    /// Faults 106 and 107.
    #[test]
    fn a_name_becomes_neither_a_header_nor_markup() {
        let mut condition = condition(AlertName::CapTripped, 1, b"<img src=x onerror=alert(1)>\r\n.\r\n.mp4");
        condition.subject = Subject::Tree(TreeId::new("a\r\nBcc: all@example.org\r\n\r\n<b>"));
        condition.summary = "x\r\n.\r\nRSET".to_owned();
        let now = Timestamp::from_secs(0);
        let body = Body::new("alert.firing", &condition, now, now);
        let subject = subject(&body);
        assert!(!subject.chars().any(char::is_control), "{subject:?}");
        let (html, text) = (html(&body), text(&body));
        assert!(!html.contains("<img") && !html.contains("<b>\r") && html.contains("&lt;img"), "{html}");
        assert!(!text.contains("\n.") && !text.contains("\nBcc") && !text.contains('\r'), "{text}");
    }
}
