//! What the robots of chats answer: a status of 200 says little, since what became of the message stands in the body.

use std::time::Duration;

use serde_json::Value;

use super::delivery::Outcome;
use crate::domain::settings::Robot;

/// DingTalk is silent for so long towards whoever sends too fast.
const MUTED: Duration = Duration::from_secs(600);

/// The limits of the others are counted by the minute.
const MINUTE: Duration = Duration::from_secs(60);

const SIGNATURE: &str =
    "the signature or this machine's clock is wrong: compare `secret` with the robot's settings, and the time";
const KEYWORD: &str = "the robot wants a keyword that the message lacks: set the keyword `storage-guard` in the robot's settings, or use \
                       a signature";
const ADDRESS: &str = "the robot does not take messages from this machine's address: add it in the robot's settings";
const GONE: &str =
    "there is no such robot any more, or `url` is wrong: take its address from the group's settings again";
const CONTENT: &str =
    "the robot refuses what the message says or its form; look at the templates, if there are any of your own";

/// What an answer means for the message.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Taken,
    /// None of our messages is taken for so long.
    Busy(Duration),
    /// Another attempt ends the same way; what to do instead.
    Refused(&'static str),
    Unknown,
}

/// What became of a message. `by_status` is what the status alone means, `status` its words, `text` what came with it, and
/// `shown` makes of that what may be shown.
pub(super) fn judge(
    robot: Robot,
    by_status: Outcome,
    status: &str,
    text: &str,
    shown: impl Fn(&str) -> String,
) -> Outcome {
    let found = match robot {
        Robot::Dingtalk | Robot::Wecom => coded(text, "errcode", "errmsg"),
        Robot::Feishu => coded(text, "code", "msg").or_else(|| coded(text, "StatusCode", "StatusMessage")),
        Robot::Slack => None,
    };
    let (meaning, said) = match (&found, robot) {
        (Some((code, said)), Robot::Dingtalk) => (dingtalk(*code, said), format!("{code} {said}")),
        (Some((code, said)), Robot::Wecom) => (wecom(*code), format!("{code} {said}")),
        (Some((code, said)), Robot::Feishu) => (feishu(*code, said), format!("{code} {said}")),
        (Some(_), Robot::Slack) | (None, _) => (slack_or_none(robot, text), text.to_owned()),
    };
    let said = shown(said.trim());
    let said = if said.is_empty() { status.to_owned() } else { format!("{status}: {said}") };
    match (by_status, meaning) {
        (Outcome::Delivered(_), Meaning::Taken) => Outcome::Delivered(said),
        // Some send a limit with a status that would end it.
        (Outcome::Delivered(_) | Outcome::GivenUp(_), Meaning::Busy(pause)) => {
            Outcome::Again { error: said, after: Some(pause), channel: true }
        }
        (Outcome::Delivered(_) | Outcome::GivenUp(_), Meaning::Refused(advice)) => {
            Outcome::GivenUp(format!("{said}; {advice}"))
        }
        (Outcome::Delivered(_), Meaning::Unknown) if found.is_some() => {
            // An alert is worth a few requests in vain: the pauses grow, the others do not wait, and it ends as dropped.
            Outcome::Again { error: said, after: None, channel: false }
        }
        // A page of a proxy, or half an answer: whoever said it is not the robot, or did not finish.
        (Outcome::Delivered(_), Meaning::Unknown) => {
            Outcome::unreachable(format!("{said}; this is not the answer of a robot"))
        }
        // A redirect says by itself what to do.
        (Outcome::GivenUp(why), Meaning::Taken | Meaning::Unknown) => {
            Outcome::GivenUp(if why == status { said } else { why })
        }
        (Outcome::Again { after, .. }, Meaning::Busy(pause)) => {
            Outcome::Again { error: said, after: after.or(Some(pause)), channel: true }
        }
        (Outcome::Again { after, channel, .. }, Meaning::Taken | Meaning::Refused(_) | Meaning::Unknown) => {
            Outcome::Again { error: said, after, channel }
        }
    }
}

/// The code and the words of an answer, if it is one.
fn coded(text: &str, code: &str, words: &str) -> Option<(i64, String)> {
    let answer: Value = serde_json::from_str(text).ok()?;
    let code = answer.get(code)?.as_i64()?;
    Some((code, answer.get(words).and_then(Value::as_str).unwrap_or_default().to_owned()))
}

fn dingtalk(code: i64, said: &str) -> Meaning {
    match code {
        0 => Meaning::Taken,
        130_101 | 130_102 | 410_100 => Meaning::Busy(MUTED),
        310_000 => {
            let said = said.to_lowercase();
            let has = |word| said.contains(word);
            Meaning::Refused(match () {
                () if has("keyword") => KEYWORD,
                () if has("whitelist") || has("ip ") => ADDRESS,
                () => SIGNATURE,
            })
        }
        300_001 | 300_005 | 400_013 | 400_101 | 400_102 | 400_106 => Meaning::Refused(GONE),
        40_035 | 43_004 | 400_105 | 430_101..=430_104 | 460_101 => Meaning::Refused(CONTENT),
        _ => Meaning::Unknown,
    }
}

fn wecom(code: i64) -> Meaning {
    match code {
        0 => Meaning::Taken,
        45_009 | 45_033 => Meaning::Busy(MINUTE),
        93_000 | 93_004 | 93_008 => Meaning::Refused(GONE),
        40_008 | 40_058 | 44_004 | 45_002 | 47_001 => Meaning::Refused(CONTENT),
        60_020 => Meaning::Refused(ADDRESS),
        _ => Meaning::Unknown,
    }
}

fn feishu(code: i64, said: &str) -> Meaning {
    match code {
        0 => Meaning::Taken,
        // This one stands for a request that is malformed as well as for one too many.
        9_499 if said.to_lowercase().contains("bad request") => Meaning::Refused(CONTENT),
        9_499 | 11_232 | 11_247 | 99_991_400 => Meaning::Busy(MINUTE),
        19_001 | 19_007 => Meaning::Refused(GONE),
        19_021 => Meaning::Refused(SIGNATURE),
        19_022 => Meaning::Refused(ADDRESS),
        19_024 => Meaning::Refused(KEYWORD),
        19_002 | 11_246 | 230_099 => Meaning::Refused(CONTENT),
        _ => Meaning::Unknown,
    }
}

/// Slack says `ok`, or one word that says what is wrong; what takes its format says yes or no in JSON.
fn slack_or_none(robot: Robot, text: &str) -> Meaning {
    match robot {
        Robot::Slack => slack(text),
        Robot::Dingtalk | Robot::Wecom | Robot::Feishu => Meaning::Unknown,
    }
}

fn slack(text: &str) -> Meaning {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let yes = |key| answer.get(key).and_then(Value::as_bool) == Some(true);
    let word = answer.get("error").and_then(Value::as_str).unwrap_or(text).trim();
    match word {
        _ if yes("ok") || yes("success") => Meaning::Taken,
        "ok" | "OK" => Meaning::Taken,
        "rate_limited" | "ratelimited" | "message_limit_exceeded" => Meaning::Busy(MINUTE),
        "no_service"
        | "no_service_id"
        | "no_active_hooks"
        | "no_team"
        | "team_disabled"
        | "invalid_token"
        | "channel_not_found"
        | "channel_is_archived"
        | "user_not_found" => Meaning::Refused(GONE),
        "invalid_payload" | "invalid_blocks" | "no_text" | "too_many_attachments" => Meaning::Refused(CONTENT),
        "action_prohibited" | "posting_to_general_channel_denied" => Meaning::Refused(
            "an administrator of the workspace forbids this message: ask for the hook's channel to be allowed, or use another",
        ),
        _ => Meaning::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::delivery;
    use super::*;
    use crate::domain::units::Timestamp;

    fn check(robot: Robot, status: u16, text: &str) -> Outcome {
        let by_status = delivery::judge(status, status.to_string(), None, Timestamp::default());
        judge(robot, by_status, &status.to_string(), text, |text| text.replace("canary", "***"))
    }

    /// `done`, `again` (this message), `wait N` (all of them, for so long), or the advice's first words.
    fn short(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Delivered(_) => "done".to_owned(),
            Outcome::Again { channel: false, .. } => "again".to_owned(),
            Outcome::Again { after, .. } => format!("wait {}", after.unwrap_or_default().as_secs()),
            Outcome::GivenUp(why) => why.split_once("; ").map_or(why.as_str(), |(_, advice)| advice).to_owned(),
        }
    }

    #[test]
    fn the_body_of_an_answer_decides() {
        for (robot, status, text, expected) in [
            (Robot::Dingtalk, 200, r#"{"errcode":0,"errmsg":"ok"}"#, "done"),
            (Robot::Dingtalk, 200, r#"{"errcode":130101,"errmsg":"send too fast"}"#, "wait 600"),
            (Robot::Dingtalk, 200, r#"{"errcode":410100,"errmsg":"too fast"}"#, "wait 600"),
            (Robot::Dingtalk, 200, r#"{"errcode":310000,"errmsg":"keywords not in content"}"#, KEYWORD),
            (Robot::Dingtalk, 200, r#"{"errcode":310000,"errmsg":"sign not match"}"#, SIGNATURE),
            (Robot::Dingtalk, 200, r#"{"errcode":310000,"errmsg":"invalid timestamp"}"#, SIGNATURE),
            (Robot::Dingtalk, 200, r#"{"errcode":310000,"errmsg":"ip 1.2.3.4 not in whitelist"}"#, ADDRESS),
            (Robot::Dingtalk, 200, r#"{"errcode":300001,"errmsg":"token is not exist"}"#, GONE),
            (Robot::Dingtalk, 200, r#"{"errcode":460101,"errmsg":"message too long"}"#, CONTENT),
            (Robot::Dingtalk, 200, r#"{"errcode":-1,"errmsg":"system busy"}"#, "again"),
            (Robot::Dingtalk, 200, r#"{"errcode":777,"errmsg":"new"}"#, "again"),
            (Robot::Dingtalk, 200, "", "wait 0"),
            (Robot::Dingtalk, 200, "<html>log in", "wait 0"),
            (Robot::Dingtalk, 200, r#"{"errcode":"#, "wait 0"),
            (Robot::Dingtalk, 200, r#"{"code":0}"#, "wait 0"),
            (Robot::Dingtalk, 200, "ok", "wait 0"),
            (Robot::Wecom, 200, r#"{"errcode":0,"errmsg":"ok"}"#, "done"),
            (Robot::Wecom, 200, r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#, "wait 60"),
            (Robot::Wecom, 200, r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#, GONE),
            (Robot::Wecom, 200, r#"{"errcode":40058,"errmsg":"exceed max length 4096"}"#, CONTENT),
            (Robot::Wecom, 200, r#"{"errcode":-1,"errmsg":"system busy"}"#, "again"),
            (Robot::Feishu, 200, r#"{"code":0,"msg":"success","data":{}}"#, "done"),
            (Robot::Feishu, 200, r#"{"StatusCode":0,"StatusMessage":"success"}"#, "done"),
            (Robot::Feishu, 200, r#"{"code":11232,"msg":"frequency limited"}"#, "wait 60"),
            (Robot::Feishu, 400, r#"{"code":9499,"msg":"too many request"}"#, "wait 60"),
            (Robot::Feishu, 400, r#"{"code":9499,"msg":"Bad Request"}"#, CONTENT),
            (Robot::Feishu, 200, r#"{"code":19021,"msg":"sign match fail"}"#, SIGNATURE),
            (Robot::Feishu, 200, r#"{"code":19022,"msg":"Ip Not Allowed"}"#, ADDRESS),
            (Robot::Feishu, 200, r#"{"code":19024,"msg":"Key Words Not Found"}"#, KEYWORD),
            (Robot::Feishu, 200, r#"{"code":19001,"msg":"token invalid"}"#, GONE),
            (Robot::Feishu, 200, r#"{"code":19777,"msg":"new"}"#, "again"),
            (Robot::Slack, 200, "ok", "done"),
            (Robot::Slack, 200, r#"{"ok":true}"#, "done"),
            (Robot::Slack, 200, r#"{"success":true}"#, "done"),
            (Robot::Slack, 200, "<html>ok", "wait 0"),
            (Robot::Slack, 200, "", "wait 0"),
            (Robot::Slack, 404, "no_service", GONE),
            (Robot::Slack, 400, "invalid_payload", CONTENT),
            (Robot::Slack, 403, "invalid_token", GONE),
            (Robot::Slack, 410, "channel_is_archived", GONE),
            (Robot::Slack, 400, "something new", "400: something new"),
            (Robot::Slack, 429, "rate_limited", "wait 60"),
            (Robot::Slack, 429, "", "wait 0"),
            (Robot::Slack, 200, r#"{"ok":false,"error":"ratelimited"}"#, "wait 60"),
            (Robot::Wecom, 301, "", "redirects are not followed, give the final address"),
            (Robot::Wecom, 500, r#"{"errcode":0}"#, "again"),
            (Robot::Wecom, 502, "<html>", "wait 0"),
            (Robot::Wecom, 404, "", "404"),
        ] {
            assert_eq!(short(&check(robot, status, text)), expected, "{robot:?} {status} {text}");
        }
    }

    #[test]
    fn what_is_shown_of_an_answer_holds_no_secret() {
        for robot in [Robot::Dingtalk, Robot::Wecom, Robot::Feishu, Robot::Slack] {
            for text in ["canary", r#"{"errcode":1,"errmsg":"canary","code":1,"msg":"canary","error":"canary"}"#] {
                for status in [200, 302, 400, 429, 500] {
                    let outcome = check(robot, status, text);
                    assert!(!format!("{outcome:?}").contains("canary"), "{outcome:?}");
                }
            }
        }
    }
}
