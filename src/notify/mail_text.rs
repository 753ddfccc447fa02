//! A message as a mail: subject, text, and the same as HTML. Made of the body that a webhook gets.

use super::body::{Body, one_line};
use super::template::Templates;

/// The subject: `[FIRING] VolumeExhausted data`. One line, whatever the names hold.
pub(super) fn subject(body: &Body, templates: &Templates) -> String {
    one_line(templates.render("mail.subject.txt", body).trim(), 250)
}

/// The mail as text.
pub(super) fn text(body: &Body, templates: &Templates) -> String {
    format!("{}\n", templates.render("mail.txt", body).trim())
}

/// The mail as HTML, readable on a phone: nothing in it is loaded from elsewhere.
pub(super) fn html(body: &Body, templates: &Templates) -> String {
    format!("{}\n", templates.render("mail.html", body).trim())
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::{self, condition};
    use super::*;
    use crate::domain::alert::{AlertName, Subject};
    use crate::domain::deletion::Unreclaimed;
    use crate::domain::names::VolumeId;
    use crate::domain::settings::{Language, Severity};
    use crate::domain::units::Timestamp;

    fn subject(body: &Body) -> String {
        super::subject(body, &templates())
    }

    fn templates() -> Templates {
        Templates::new(Language::English, None).0
    }

    fn text(body: &Body) -> String {
        super::text(body, &templates())
    }

    fn html(body: &Body) -> String {
        super::html(body, &templates())
    }

    fn body(kind: &str, volume: &str, files: usize, name: &[u8]) -> Body {
        let mut condition = condition(AlertName::SpaceNotReclaimed, files, name);
        condition.subject = Subject::Volume(VolumeId::new(volume));
        tests::body(kind, &condition, Timestamp::from_secs(0), Timestamp::from_secs(60))
    }

    #[test]
    fn names_everything_that_a_person_needs() {
        let firing = text(&body("alert.firing", "data", 1, b"a/b.mp4"));
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
        assert_eq!(firing, expected);
        let resolved = body("alert.resolved", "data", 0, b"x");
        assert!(
            text(&resolved).contains("Since:    1970-01-01T00:00:00Z\nResolved: 1970-01-01T00:01:00Z\nLasted:   1m\n")
        );
        assert!(!text(&resolved).contains("Not reclaimed"));
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

    /// In both languages, firing and resolved: every part stands in both forms, and no tag is left open.
    #[test]
    fn text_and_html_say_the_same_in_each_language() {
        for (language, words) in [
            (Language::English, ["Since", "Lasted", "held_open"]),
            (Language::Chinese, ["开始", "持续", "仍被进程打开"]),
        ] {
            let (templates, _) = Templates::new(language, None);
            let mut body = body("alert.resolved", "data", 3, b"a/b.mp4");
            body.data.unreclaimed.files = 10_000;
            let (text, html) = (super::text(&body, &templates), super::html(&body, &templates));
            for word in words.into_iter().chain(["SpaceNotReclaimed", "10000", "3 GiB", "a/b.mp4", "ffmpeg (pid 7)"]) {
                assert!(text.contains(word) && html.contains(word), "{word}:\n{text}\n{html}");
            }
            for tag in ["html", "body", "table", "tr", "td", "p", "ul", "li", "b", "code"] {
                let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}: {html}");
            }
            assert!(!html.contains("http") && !html.contains("src="), "nothing is loaded from elsewhere: {html}");
        }
    }

    /// A word that the guard learns must be learnt by the translation too.
    #[test]
    fn the_chinese_templates_know_every_severity_and_cause() {
        let (templates, _) = Templates::new(Language::Chinese, None);
        let mut body = body("alert.firing", "data", 1, b"x");
        for severity in Severity::ALL {
            body.data.severity = severity.as_str().to_owned();
            assert!(!super::text(&body, &templates).contains(severity.as_str()), "{severity:?}");
        }
        for cause in Unreclaimed::ALL {
            body.data.unreclaimed.items[0].cause = cause.to_string();
            body.data.unreclaimed.items[0].detail.clear();
            assert!(!super::text(&body, &templates).contains(cause.as_str()), "{cause}");
        }
    }

    #[test]
    fn subjects_say_what_and_about_what() {
        assert_eq!(subject(&body("alert.resolved", "data", 0, b"x")), "[RESOLVED] SpaceNotReclaimed data");
        assert_eq!(subject(&Body::test("mail", Timestamp::default(), &templates())), "[TEST] Test");
        let (chinese, _) = Templates::new(Language::Chinese, None);
        let body = body("alert.firing", "录像盘", 0, b"x");
        assert_eq!(super::subject(&body, &chinese), "[告警] SpaceNotReclaimed 录像盘");
    }
}
