//! What a template shows, so that it stays text wherever it is shown: in HTML, and in the markup of chats.
//!
//! Chats differ in what they take for markup, and none says how to write its signs as text, Slack's three entities excepted.
//! So a sign that could begin something is replaced by its full-width twin, which looks alike and means nothing to any of them.

use std::fmt::Write as _;

use minijinja::value::Value;
use minijinja::{AutoEscape, State};

const MARKDOWN: &str = "markdown";
const SLACK: &str = "slack";

/// How a template of this name shows values.
pub(super) fn form(name: &str) -> AutoEscape {
    match name {
        "slack.md" => AutoEscape::Custom(SLACK.into()),
        _ if name.ends_with(".md") => AutoEscape::Custom(MARKDOWN.into()),
        _ if name.ends_with(".html") => AutoEscape::Html,
        _ => AutoEscape::None,
    }
}

/// The value as text in that form. What a template calls safe is left alone.
pub(super) fn escaped(value: &Value, form: &AutoEscape) -> String {
    let text = value.to_string();
    if value.is_safe() {
        text
    } else if *form == AutoEscape::Html {
        html(&text)
    } else if let AutoEscape::Custom(name) = form {
        chat(&text, name == SLACK)
    } else {
        text
    }
}

/// An address of the web as a link that shows `text`; where there are no links, or it is no such address, the address itself.
pub(super) fn link(state: &State<'_, '_>, url: &str, text: &str) -> Value {
    if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
        return url.into();
    }
    let form = state.auto_escape();
    let (url, text) = (target(url), escaped(&text.into(), form));
    Value::from_safe_string(if *form == AutoEscape::Html {
        format!("<a href=\"{}\">{text}</a>", html(&url))
    } else if let AutoEscape::Custom(name) = form {
        if name == SLACK { format!("<{}|{text}>", url.replace('&', "&amp;")) } else { format!("[{text}]({url})") }
    } else {
        url
    })
}

/// The address without signs that end a link, or begin anything else.
fn target(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for c in url.chars() {
        if c.is_ascii_graphic() && !"<>()[]{}|\\^`\"'*".contains(c) {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// Text that HTML shows as it is, within elements and within quoted attributes.
fn html(text: &str) -> String {
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

/// What has been seen of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing, or spaces.
    Blank,
    /// A number, which a full stop and a blank would make an entry of a list.
    Number,
    /// More.
    Text,
}

/// Text in which no chat finds emphasis, code, a heading, a list, a link, a picture, a mention or an emoji. Paths, times and
/// numbers stay as they are as far as possible, so that they can be copied.
fn chat(text: &str, entities: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut line, mut before) = (Line::Blank, '\n');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied().unwrap_or('\n');
        match c {
            '&' if entities => out.push_str("&amp;"),
            '<' if entities => out.push_str("&lt;"),
            // At the beginning of a line it is a quotation, however it is written.
            '>' if entities && line == Line::Text => out.push_str("&gt;"),
            '`' => out.push('\''),
            '&' | '<' | '>' | '*' | '[' | ']' | '|' | '~' | '\\' | '@' => out.push(wide(c)),
            '-' | '+' | '=' if line == Line::Blank => out.push(wide(c)),
            '.' | ')' if line == Line::Number && next.is_whitespace() => out.push(wide(c)),
            '#' if !before.is_alphanumeric() => out.push(wide(c)),
            '_' if !before.is_alphanumeric() || !next.is_alphanumeric() => out.push(wide(c)),
            // `https://…` and `:fire:`, but neither `12:30` nor `cause: text`.
            ':' if !next.is_whitespace() && !next.is_ascii_digit() => out.push(wide(c)),
            other => out.push(other),
        }
        line = match (c, line) {
            ('\n', _) => Line::Blank,
            (' ', Line::Blank) => Line::Blank,
            ('0'..='9', Line::Blank | Line::Number) => Line::Number,
            (_, Line::Blank | Line::Number | Line::Text) => Line::Text,
        };
        before = c;
    }
    out
}

/// The full-width twin of an ASCII sign.
fn wide(c: char) -> char {
    char::from_u32(u32::from(c) + 0xfee0).filter(|_| c.is_ascii_graphic()).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_copy_stays_as_it_is() {
        for text in [
            "live/cam_01/2026-11-28/12-30-00.mp4",
            "since 2026-11-28T12:30:00Z, held_open: 3 GiB (12 %)",
            "docs/operations.md#volumeexhausted",
            "录像 磁盘已满：2 个文件",
            "http: 127.0.0.1:9093 answers 503!",
            "73.6 MiB of what is missing",
            "2026.mp4 and\n12)b",
        ] {
            for entities in [false, true] {
                assert_eq!(chat(text, entities), text);
            }
        }
    }

    /// Fault 106.
    #[test]
    fn nothing_in_a_text_means_something_to_a_chat() {
        for (text, markdown, slack) in [
            ("<!channel> <@U1>", "＜!channel＞ ＜＠U1＞", "&lt;!channel&gt; &lt;＠U1&gt;"),
            ("<at id=all></at>", "＜at id=all＞＜/at＞", "&lt;at id=all&gt;&lt;/at&gt;"),
            ("@all @15000000000", "＠all ＠15000000000", "＠all ＠15000000000"),
            ("[x](http://e.org) ![y](z)", "［x］(http：//e.org) !［y］(z)", "［x］(http：//e.org) !［y］(z)"),
            ("**b** _i_ ~s~ `c`", "＊＊b＊＊ ＿i＿ ～s～ 'c'", "＊＊b＊＊ ＿i＿ ～s～ 'c'"),
            ("a > b & c", "a ＞ b ＆ c", "a &gt; b &amp; c"),
            ("> q\n# h\n- l\n 1. n", "＞ q\n＃ h\n－ l\n 1． n", "＞ q\n＃ h\n－ l\n 1． n"),
            ("1.\n 12) n\n3.", "1．\n 12） n\n3．", "1．\n 12） n\n3．"),
            (":fire: \\* a|b", "：fire: ＼＊ a｜b", "：fire: ＼＊ a｜b"),
            ("=====\n-----", "＝====\n－----", "＝====\n－----"),
        ] {
            assert_eq!((chat(text, false).as_str(), chat(text, true).as_str()), (markdown, slack), "{text}");
        }
    }

    proptest! {
        /// The signs of all chats, wherever they stand.
        #[test]
        fn no_sign_survives(text in "[a-z0-9<>&*\\[\\]|~\\\\@`:/_#\u{4e2d}\n -]{0,60}") {
            let plain = chat(&text, false);
            prop_assert!(!plain.contains(['<', '>', '&', '*', '[', ']', '|', '~', '\\', '@', '`']), "{plain}");
            prop_assert!(!plain.contains("://"), "{plain}");
            let slack = chat(&text, true);
            prop_assert!(!slack.contains(['<', '>', '*', '[', ']', '|', '~', '\\', '@', '`']), "{slack}");
            for entity in slack.split('&').skip(1) {
                prop_assert!(["amp;", "lt;", "gt;"].iter().any(|known| entity.starts_with(known)), "{slack}");
            }
            prop_assert_eq!(plain.chars().count(), text.chars().count());
        }
    }
}
