//! The robots of chats: DingTalk, WeCom, Feishu and Lark, Slack and what takes its format.
//!
//! One text for all of them, within each one's limit: as many files as fit are named, and what is still too long is cut.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::body::{Body, clean, one_line};
use super::channel::Parcel;
use super::delivery::Outcome;
use super::http::Target;
use super::robot_answer;
use super::template::Templates;
use crate::domain::secret::Secret;
use crate::domain::settings::Robot;
use crate::domain::units::Timestamp;

/// A title is longer nowhere: so many bytes, which a Slack header of 150 characters takes as well.
const TITLE: usize = 140;

/// A robot and where it is.
pub(super) struct Chat {
    robot: Robot,
    target: Target,
    secret: Option<Secret>,
}

impl Chat {
    /// The robot at an address. Loads the system's certificates for `https`: may block.
    pub(super) fn new(robot: Robot, url: &Secret, secret: Option<&Secret>) -> Result<Self, String> {
        let target = Target::new(url)?;
        let Some(secret) = secret else { return Ok(Self { robot, target, secret: None }) };
        if secret.reveal().is_empty() {
            return Err("the secret is empty".to_owned());
        }
        Ok(Self { robot, target: target.hiding(secret.reveal()), secret: Some(secret.clone()) })
    }

    /// Sends one message. The caller bounds the time that it may take.
    pub(super) async fn send(
        &self,
        parcel: &Parcel,
        templates: &Templates,
        now: Timestamp,
        log: &mut Vec<String>,
    ) -> Outcome {
        let mut payload = payload(self.robot, &parcel.body, templates);
        let target = self.sign(now, &mut payload);
        let request = target.post().header("content-type", "application/json; charset=utf-8");
        match target.send(request.body(payload.to_string()), log).await {
            Ok(mut answer) => {
                let (by_status, status) = (answer.judge(now), answer.said().to_owned());
                let text = target.raw(&mut answer, log).await;
                robot_answer::judge(self.robot, by_status, &status, &text, |text| target.shown(text))
            }
            Err(outcome) => outcome,
        }
    }

    /// Adds the signature, where there is one: DingTalk's to the address, Feishu's to the message.
    fn sign(&self, now: Timestamp, payload: &mut Value) -> Target {
        let target = self.target.clone();
        match (self.robot, &self.secret) {
            (Robot::Dingtalk, Some(secret)) => {
                let stamp = now.millis().to_string();
                let sign = signature(secret.reveal(), &format!("{stamp}\n{}", secret.reveal()));
                let mut url = target.url().clone();
                url.query_pairs_mut().append_pair("timestamp", &stamp).append_pair("sign", &sign);
                target.at(url)
            }
            (Robot::Feishu, Some(secret)) => {
                let stamp = now.secs().to_string();
                let sign = signature(&format!("{stamp}\n{}", secret.reveal()), "");
                payload["timestamp"] = stamp.into();
                payload["sign"] = sign.as_str().into();
                target.hiding(&sign)
            }
            (Robot::Wecom | Robot::Slack, _) | (Robot::Dingtalk | Robot::Feishu, None) => target,
        }
    }
}

/// HMAC-SHA256 in base64.
fn signature(key: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(message.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The message in the form of the robot.
fn payload(robot: Robot, body: &Body, templates: &Templates) -> Value {
    let title = one_line(templates.render("robot.title.md", body).trim(), TITLE);
    match robot {
        Robot::Dingtalk => {
            let text = fitted(robot, &title, body, templates);
            json!({
                "msgtype": "markdown",
                "markdown": { "title": title, "text": text },
                "at": { "isAtAll": false },
            })
        }
        Robot::Wecom => {
            json!({ "msgtype": "markdown", "markdown": { "content": fitted(robot, &title, body, templates) } })
        }
        Robot::Feishu => {
            let text = fitted(robot, &title, body, templates);
            json!({
                "msg_type": "interactive",
                "card": {
                    "config": { "wide_screen_mode": true },
                    "header": { "template": colour(body), "title": { "tag": "plain_text", "content": title } },
                    "elements": [{ "tag": "div", "text": { "tag": "lark_md", "content": text } }],
                },
            })
        }
        Robot::Slack => {
            let text = fitted(robot, &title, body, templates);
            json!({
                // Shown where blocks are not: in a notification, and by what only takes the format.
                "text": title,
                "blocks": [
                    { "type": "header", "text": { "type": "plain_text", "text": title, "emoji": false } },
                    { "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } },
                ],
            })
        }
    }
}

fn colour(body: &Body) -> &'static str {
    match (body.kind.as_str(), body.data.severity.as_str()) {
        ("alert.resolved", _) => "green",
        (_, "critical") => "red",
        (_, "warning") => "orange",
        _ => "blue",
    }
}

/// The text with as many files as the robot takes, cut if that is still too long.
fn fitted(robot: Robot, title: &str, body: &Body, templates: &Templates) -> String {
    let (limit, size) = limit(robot);
    let mut body = Cow::Borrowed(body);
    loop {
        let text = laid_out(robot, title, &body, templates);
        let fits = text.chars().map(size).sum::<usize>() <= limit;
        if fits || body.data.unreclaimed.items.is_empty() {
            return cut(&text, limit, size);
        }
        body.to_mut().data.unreclaimed.items.pop();
    }
}

/// How large a text may be, and how its characters are counted.
fn limit(robot: Robot) -> (usize, fn(char) -> usize) {
    match robot {
        // The vendor says 20 000 for all of the message; nobody reads that on a phone.
        Robot::Dingtalk => (6000, char::len_utf8),
        Robot::Wecom => (4096, char::len_utf8),
        // The vendor says 20 KB for all of the message. In JSON a text is at most twice as long.
        Robot::Feishu => (8000, char::len_utf8),
        Robot::Slack => (3000, char::len_utf16),
    }
}

fn laid_out(robot: Robot, title: &str, body: &Body, templates: &Templates) -> String {
    let text = |name| {
        // A template of the user may have been written on Windows.
        let text = templates.render(name, body).replace("\r\n", "\n").replace('\t', " ");
        let text = clean(text.trim(), usize::MAX);
        // An empty text is refused.
        if text.is_empty() { title.to_owned() } else { text }
    };
    match robot {
        // Two spaces before the end of a line make it one.
        Robot::Dingtalk => format!("### {title}\n\n{}", text("robot.md").replace('\n', "  \n")),
        Robot::Wecom => format!("### {title}\n{}", text("robot.md")),
        Robot::Feishu => text("robot.md"),
        Robot::Slack => text("slack.md"),
    }
}

/// The text, cut between characters, and not within an entity, so that no more than `limit` is left of it.
fn cut(text: &str, limit: usize, size: fn(char) -> usize) -> String {
    if text.chars().map(size).sum::<usize>() <= limit {
        return text.to_owned();
    }
    let mut room = limit.saturating_sub(size('…'));
    let mut end = 0;
    for c in text.chars() {
        match room.checked_sub(size(c)) {
            Some(left) => room = left,
            None => break,
        }
        end += c.len_utf8();
    }
    let entity = |at: &usize| {
        ["&amp;", "&lt;", "&gt;"].iter().any(|entity| text[*at..].starts_with(entity) && at + entity.len() > end)
    };
    let end = text[..end].rfind('&').filter(entity).unwrap_or(end);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::body::Data;
    use super::super::body::tests::{self, condition};
    use super::*;
    use crate::domain::alert::{AlertName, Subject};
    use crate::domain::names::VolumeId;
    use crate::domain::settings::Language;

    const ROBOTS: [Robot; 4] = [Robot::Dingtalk, Robot::Wecom, Robot::Feishu, Robot::Slack];

    /// An alert with one file.
    fn body(kind: &str, volume: &str, change: impl FnOnce(&mut Data)) -> Body {
        let mut condition = condition(AlertName::VolumeExhausted, 1, b"a/b_c.mp4");
        condition.subject = Subject::Volume(VolumeId::new(volume));
        let mut body = tests::body(kind, &condition, Timestamp::from_secs(0), Timestamp::from_secs(5400));
        change(&mut body.data);
        body
    }

    /// Everything that a person reads of a message.
    fn texts(robot: Robot, payload: &Value) -> Vec<&str> {
        let paths: &[&str] = match robot {
            Robot::Dingtalk => &["/markdown/title", "/markdown/text"],
            Robot::Wecom => &["/markdown/content"],
            Robot::Feishu => &["/card/header/title/content", "/card/elements/0/text/content"],
            Robot::Slack => &["/text", "/blocks/0/text/text", "/blocks/1/text/text"],
        };
        paths.iter().map(|path| payload.pointer(path).unwrap().as_str().unwrap()).collect()
    }

    /// Computed with another implementation of HMAC.
    #[test]
    fn signs_as_the_vendors_do() {
        for (key, message, expected) in [
            // DingTalk: the secret is the key.
            ("SECcanary", "1577262236757\nSECcanary", "Pzc4bQDeKcjo7nceZiPsDwtcRCngBuXv2tZrsXEUVlY="),
            // Feishu: all of it is the key, of nothing.
            ("1599360473\ncanary", "", "EMYS+IH1KtiBtUBtsny80WsiXlCTo6xx9tgUFVeqSs8="),
        ] {
            assert_eq!(signature(key, message), expected);
        }
    }

    #[test]
    fn a_message_names_what_whom_and_where() {
        let (templates, _) = Templates::new(Language::English, None);
        let payload = |kind| payload(Robot::Wecom, &body(kind, "data", |_| ()), &templates);
        let firing = "### [FIRING critical] VolumeExhausted data
storage-guard on cam-07, **volume:** data
**Since:** 1970-01-01T00:00:00Z

**space does not come back**
3 GiB
are missing

**Not reclaimed:** 1 files, 1 GiB
- live: a/b_c.mp4 (1 GiB, held_open, held by ffmpeg (pid 7))

**What to do:** docs/operations.md#volumeexhausted";
        assert_eq!(payload("alert.firing")["markdown"]["content"], firing);
        let resolved = "### [RESOLVED critical] VolumeExhausted data
storage-guard on cam-07, **volume:** data
**Since:** 1970-01-01T00:00:00Z, **resolved:** 1970-01-01T01:30:00Z, **lasted:** 1h30m

It is over. What was last seen:
**space does not come back**
3 GiB
are missing

**What to do:** docs/operations.md#volumeexhausted";
        assert_eq!(payload("alert.resolved")["markdown"]["content"], resolved);
    }

    #[test]
    fn a_runbook_of_the_web_is_a_link_and_an_end_is_said_to_be_one_in_each_language() {
        for (language, over) in [
            (Language::English, "It is over. What was last seen:"),
            (Language::Chinese, "已恢复。最后一次看到的情况："),
        ] {
            let (templates, _) = Templates::new(language, None);
            let body = body("alert.resolved", "data", |data| {
                "https://wiki.lan/a_b?x=1&y=(2)#volumeexhausted".clone_into(&mut data.runbook);
            });
            for robot in ROBOTS {
                let payload = payload(robot, &body, &templates);
                let text = texts(robot, &payload).pop().unwrap();
                let link = match robot {
                    Robot::Slack => "<https://wiki.lan/a_b?x=1&amp;y=%282%29#volumeexhausted|VolumeExhausted>",
                    Robot::Dingtalk | Robot::Wecom | Robot::Feishu => {
                        "[VolumeExhausted](https://wiki.lan/a_b?x=1&y=%282%29#volumeexhausted)"
                    }
                };
                assert!(text.ends_with(link) && text.contains(over) && !text.contains("c.mp4"), "{robot:?}: {text}");
            }
        }
    }

    #[test]
    fn titles_say_state_and_severity_in_each_language() {
        for (language, kind, expected) in [
            (Language::English, "alert.firing", "[FIRING critical] VolumeExhausted data"),
            (Language::English, "alert.resolved", "[RESOLVED critical] VolumeExhausted data"),
            (Language::Chinese, "alert.firing", "【告警·严重】VolumeExhausted data"),
            (Language::Chinese, "alert.resolved", "【已恢复·严重】VolumeExhausted data"),
            (Language::Chinese, "alert.test", "【测试】VolumeExhausted data"),
        ] {
            let (templates, _) = Templates::new(language, None);
            for robot in ROBOTS {
                let payload = payload(robot, &body(kind, "data", |_| ()), &templates);
                assert!(texts(robot, &payload)[0].contains(expected), "{robot:?}: {payload}");
            }
        }
    }

    /// Fault 106.
    #[test]
    fn names_become_neither_markup_nor_mentions_nor_links() {
        let nasty = "<!channel> <@U1> <at id=all></at> @all [x](http://e.org) ![y](z) **b** `c` <font color=\"red\">";
        for language in [Language::English, Language::Chinese] {
            let (templates, _) = Templates::new(language, None);
            let plain = body("alert.firing", "data", |_| ());
            let body = body("alert.firing", nasty, |data| {
                data.summary = format!("{nasty}\n# {nasty}");
                data.description = format!("# {nasty}\n> {nasty}\n- {nasty}");
                let item = &mut data.unreclaimed.items[0];
                (item.detail, item.path, item.holder) = (nasty.to_owned(), nasty.to_owned(), Some(nasty.to_owned()));
            });
            for robot in ROBOTS {
                let (payload, usual) = (payload(robot, &body, &templates), payload(robot, &plain, &templates));
                for (text, usual) in texts(robot, &payload).into_iter().zip(texts(robot, &usual)) {
                    for bad in ["<", "@", "](", "://", "`", "\n> ", "\n# ", "\n- <"] {
                        assert!(!text.contains(bad), "{robot:?} {bad:?}: {text}");
                    }
                    // Only our own signs are left.
                    assert_eq!(text.matches('*').count(), usual.matches('*').count(), "{robot:?}: {text}");
                }
            }
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_never_within_an_entity() {
        for (text, limit, expected) in [
            ("plain", 5, "plain"),
            ("plain!", 5, "pl…"),
            ("磁盘已满", 9, "磁盘…"),
            ("磁盘已满", 8, "磁…"),
            ("a🎥b🎥c", 8, "a🎥…"),
            ("ab&amp;cd", 9, "ab&amp;cd"),
            ("ab&amp;cde", 9, "ab…"),
            ("ab &c defg", 9, "ab &c …"),
        ] {
            assert_eq!(cut(text, limit, char::len_utf8), expected, "{text}");
        }
    }

    #[test]
    fn as_many_files_as_fit_are_named_and_counted() {
        let (templates, _) = Templates::new(Language::English, None);
        let body = body("alert.firing", "data", |data| {
            data.unreclaimed.items[0].path = "x".repeat(250);
            data.unreclaimed.items[0].detail = "y".repeat(250);
            data.unreclaimed.items = vec![data.unreclaimed.items[0].clone(); 20];
            data.unreclaimed.files = 10_000;
        });
        let payload = payload(Robot::Wecom, &body, &templates);
        let text = payload["markdown"]["content"].as_str().unwrap();
        let named = text.matches("\n- live: ").count();
        assert!((5..20).contains(&named) && text.contains(&format!("the first {named} of them")), "{text}");
        assert!(text.ends_with("volumeexhausted"), "{text}");
    }

    fn nasty() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just("磁盘"),
                Just("🎥👨‍👩‍👧"),
                Just("<a&b>"),
                Just("\"\\"),
                Just("*_`#"),
                Just("\n"),
                Just("\u{1b}"),
                Just("x y")
            ],
            0..400,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The vendors' limits, whatever an alert says.
        #[test]
        fn no_message_is_larger_than_its_robot_takes(
            summary in nasty(), description in nasty(), detail in nasty(), volume in nasty(), repeat in 1..12usize,
            items in 0..=20usize, chinese: bool,
        ) {
            let language = if chinese { Language::Chinese } else { Language::English };
            let (templates, _) = Templates::new(language, None);
            let body = body("alert.firing", &volume, |data| {
                data.summary = summary;
                data.description = description.repeat(repeat);
                let item = &mut data.unreclaimed.items[0];
                (item.detail, item.path, item.holder) = (detail.clone(), detail.clone(), Some(detail));
                data.unreclaimed.items = vec![data.unreclaimed.items[0].clone(); items];
            });
            for robot in ROBOTS {
                let payload = payload(robot, &body, &templates);
                let whole = payload.to_string().len();
                let texts = texts(robot, &payload);
                let fits = match robot {
                    Robot::Dingtalk => whole <= 20_000,
                    Robot::Wecom => texts[0].len() <= 4096,
                    Robot::Feishu => whole <= 20_000,
                    Robot::Slack => texts[2].encode_utf16().count() <= 3000 && texts[1].encode_utf16().count() <= 150,
                };
                prop_assert!(fits, "{:?}: {} {:?}", robot, whole, texts.iter().map(|t| t.len()).collect::<Vec<_>>());
                prop_assert!(texts.iter().all(|text| !text.trim().is_empty()));
            }
        }
    }
}
