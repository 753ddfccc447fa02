//! A message as a mail: subject, text, and the same as HTML. Made of the body that a webhook gets.

use super::body::{Body, one_line};
use super::template::Templates;

/// The subject: `[FIRING critical] VolumeExhausted data on cam-07`. One line, whatever the names hold.
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
    use crate::domain::deletion::{Cause, Unreclaimed};
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
Host:     cam-07
Volume:   data
Since:    1970-01-01T00:00:00Z

space does not come back

3 GiB
are missing

Not reclaimed: 1 files, 1 GiB
- live: a/b.mp4 (1 GiB, held_open, held by ffmpeg (pid 7))

What to do: docs/operations.md#spacenotreclaimed
";
        assert_eq!(firing, expected);
    }

    /// What is over is not told as if it held.
    #[test]
    fn an_end_says_that_it_is_over_before_what_was_last_seen() {
        let expected = "\
Alert:    SpaceNotReclaimed (resolved)
Severity: warning
Host:     cam-07
Volume:   data
Since:    1970-01-01T00:00:00Z
Resolved: 1970-01-01T00:01:00Z
Lasted:   1m

It is over. What was last seen:

space does not come back

3 GiB
are missing

What to do: docs/operations.md#spacenotreclaimed
";
        let resolved = body("alert.resolved", "data", 1, b"a/b.mp4");
        assert_eq!(text(&resolved), expected);
        for (language, title, over) in [
            (Language::English, "<b>SpaceNotReclaimed data is over</b>", "It is over. What was last seen:"),
            (Language::Chinese, "<b>SpaceNotReclaimed data 已恢复</b>", "已恢复。最后一次看到的情况："),
        ] {
            let (templates, _) = Templates::new(language, None);
            let (text, html) = (super::text(&resolved, &templates), super::html(&resolved, &templates));
            assert!(html.contains(title) && !text.contains("b.mp4") && !html.contains("b.mp4"), "{html}");
            for said in [&text, &html] {
                let (over, seen) = (said.find(over).unwrap(), said.find("space does not come back").unwrap());
                assert!(over < seen, "{said}");
            }
        }
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
        assert!(subject.starts_with("[FIRING warning] SpaceNotReclaimed d"), "{subject}");
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
        for (language, words) in
            [(Language::English, ["Since", "Host", "held_open"]), (Language::Chinese, ["开始", "主机", "仍被进程打开"])]
        {
            let (templates, _) = Templates::new(language, None);
            let mut body = body("alert.firing", "data", 3, b"a/b.mp4");
            body.data.unreclaimed.files = 10_000;
            let (text, html) = (super::text(&body, &templates), super::html(&body, &templates));
            for word in
                words.into_iter().chain(["SpaceNotReclaimed", "cam-07", "10000", "3 GiB", "a/b.mp4", "ffmpeg (pid 7)"])
            {
                assert!(text.contains(word) && html.contains(word), "{word}:\n{text}\n{html}");
            }
            for tag in ["html", "body", "table", "tr", "td", "p", "ul", "li", "b", "code"] {
                let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}: {html}");
            }
            assert!(!html.contains("http") && !html.contains("src="), "nothing is loaded from elsewhere: {html}");
        }
    }

    #[test]
    fn a_runbook_of_the_web_is_a_link_in_html_and_itself_in_text() {
        let mut body = body("alert.firing", "data", 0, b"x");
        "https://wiki.lan/g?x=1&y=<\"#spacenotreclaimed".clone_into(&mut body.data.runbook);
        assert!(
            text(&body).ends_with("What to do: https://wiki.lan/g?x=1&y=<\"#spacenotreclaimed\n"),
            "{}",
            text(&body)
        );
        let link = "<a href=\"https://wiki.lan/g?x=1&amp;y=%3C%22#spacenotreclaimed\">https://wiki.lan/g?x=1&amp;y=&lt;&quot;#spacenotreclaimed</a>";
        assert!(html(&body).contains(link), "{}", html(&body));
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
        let causes = Cause::ALL.iter().map(|cause| cause.as_str());
        for cause in causes.chain(Unreclaimed::ALL.iter().map(|cause| cause.as_str())) {
            cause.clone_into(&mut body.data.unreclaimed.items[0].cause);
            assert!(!super::text(&body, &templates).contains(&format!("，{cause}")), "{cause}");
        }
    }

    #[test]
    fn subjects_say_what_and_about_what() {
        assert_eq!(
            subject(&body("alert.resolved", "data", 0, b"x")),
            "[RESOLVED warning] SpaceNotReclaimed data on cam-07"
        );
        let mut test = Body::test("mail", Timestamp::default(), &templates());
        "cam-07".clone_into(&mut test.data.host);
        assert_eq!(subject(&test), "[TEST] Test on cam-07");
        // The machine is named, however long the name before it.
        let long = subject(&body("alert.firing", &"x".repeat(4000), 0, b"x"));
        assert!(long.ends_with(" on cam-07"), "{long}");
        let (chinese, _) = Templates::new(Language::Chinese, None);
        let body = body("alert.firing", "录像盘", 0, b"x");
        assert_eq!(super::subject(&body, &chinese), "[告警·警告] SpaceNotReclaimed 录像盘，主机 cam-07");
    }
}
