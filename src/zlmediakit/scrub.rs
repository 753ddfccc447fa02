//! What hooks tell, without secrets: the media server's own configuration holds its API's secret, and what a stream was asked for with may hold one.
//! Keys stay, so that who reads it finds what it looks for; values become [`HIDDEN`].

use serde_json::Value;

/// In the place of a secret.
const HIDDEN: &str = "***";
/// A key is secret if it is one of these, or ends with one after a `.`, `_` or `-`.
const SECRETS: [&str; 9] =
    ["secret", "password", "passwd", "pwd", "token", "sign", "signature", "authorization", "cookie"];

/// Replaces every secret in a body; says whether there was one.
pub(super) fn scrub(body: &mut Value) -> bool {
    match body {
        Value::Object(all) => {
            let mut found = false;
            for (key, value) in all.iter_mut() {
                let holds = !matches!(value, Value::Null | Value::Bool(_)) && value != "";
                if is_secret(key) && holds {
                    found |= value != HIDDEN;
                    *value = Value::String(HIDDEN.to_owned());
                } else {
                    found |= scrub(value);
                }
            }
            found
        }
        Value::Array(all) => all.iter_mut().fold(false, |found, value| scrub(value) | found),
        Value::String(text) => match parameters(text) {
            Some(cleaned) => {
                *text = cleaned;
                true
            }
            None => false,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let last = key.rsplit(['.', '_', '-']).next().unwrap_or(&key);
    SECRETS.contains(&last) || SECRETS.contains(&key.as_str())
}

/// A text with parameters (`a=b&secret=c`, alone or behind a `?`), without its secrets; nothing if there are none.
fn parameters(text: &str) -> Option<String> {
    let ends = |letter: char| matches!(letter, '&' | '?' | ';' | '#' | ' ' | '"' | '\'');
    let mut out = String::with_capacity(text.len());
    let mut found = false;
    for part in text.split_inclusive(ends) {
        let (pair, end) = match part.char_indices().next_back() {
            Some((at, letter)) if ends(letter) => part.split_at(at),
            _ => (part, ""),
        };
        match pair.split_once('=') {
            Some((name, value)) if is_secret(name) && !value.is_empty() && value != HIDDEN => {
                found = true;
                out.extend([name, "=", HIDDEN, end]);
            }
            _ => out.push_str(part),
        }
    }
    if let Some(hidden) = logins(&out) {
        return Some(hidden);
    }
    found.then_some(out)
}

/// A text without the passwords that stand before the hosts of its addresses; nothing if there are none. A password may hold `@` and `/`
/// though it should not: what follows the last `@` of an address is its host.
fn logins(text: &str) -> Option<String> {
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut found = false;
    for part in parts {
        let end = part.find(|letter: char| matches!(letter, '?' | '#' | '"' | '\'') || letter.is_whitespace());
        let (address, rest) = part.split_at(end.unwrap_or(part.len()));
        out.push_str("://");
        match address.rsplit_once('@').and_then(|(login, host)| Some((login.split_once(':')?, host))) {
            Some(((name, password), host)) if password != HIDDEN && !name.contains('/') => {
                found = true;
                out.extend([name, ":", HIDDEN, "@", host, rest]);
            }
            _ => out.push_str(part),
        }
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_and_keys_stay() {
        let check = |body: Value, expected: Value| {
            let mut cleaned = body.clone();
            assert_eq!(scrub(&mut cleaned), body != expected, "{body}");
            assert_eq!(cleaned, expected);
            assert!(!scrub(&mut cleaned), "{cleaned} is clean");
        };
        check(json!({"api.secret": "abc", "api.apiDebug": "1"}), json!({"api.secret": "***", "api.apiDebug": "1"}));
        check(json!({"rtp_proxy.secret": "", "hook.enable": "1"}), json!({"rtp_proxy.secret": "", "hook.enable": "1"}));
        check(json!({"params": "vhost=a&secret=x%20y&b=1"}), json!({"params": "vhost=a&secret=***&b=1"}));
        check(json!({"params": "sign=41db35390ddad33f83944f44b8b75ded"}), json!({"params": "sign=***"}));
        check(json!({"params": "signature_of=1&design=2"}), json!({"params": "signature_of=1&design=2"}));
        check(json!({"header.Authorization": "Basic eA=="}), json!({"header.Authorization": "***"}));
        check(
            json!({"originUrl": "rtsp://admin:12345@10.0.0.7/s?token=a#x", "n": [{"pwd": 7}, "secret=q"]}),
            json!({"originUrl": "rtsp://admin:***@10.0.0.7/s?token=***#x", "n": [{"pwd": "***"}, "secret=***"]}),
        );
        for (text, expected) in [
            ("rtsp://admin:p@ss@10.0.0.7/s", "rtsp://admin:***@10.0.0.7/s"),
            ("rtsp://admin:a/b@10.0.0.7/s", "rtsp://admin:***@10.0.0.7/s"),
            ("http://h/x rtsp://u:p@10.0.0.7/s?a=1", "http://h/x rtsp://u:***@10.0.0.7/s?a=1"),
            ("rtsp://10.0.0.7:554/a@b", "rtsp://10.0.0.7:***@b"),
            ("http://h:80/s?mail=a@b", "http://h:80/s?mail=a@b"),
        ] {
            check(json!({"originUrl": text}), json!({"originUrl": expected}));
        }
        check(
            json!({"url": "record/live/a@b:c/x.mp4", "time_len": 6.9}),
            json!({"url": "record/live/a@b:c/x.mp4", "time_len": 6.9}),
        );
    }

    #[test]
    fn of_what_was_captured_only_the_servers_own_configuration_holds_any() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/zlmediakit");
        let mut with = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if !name.starts_with("hook_") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let mut body: Value = serde_json::from_str(&text).unwrap();
            if scrub(&mut body) {
                with.push(name);
            }
            assert!(!body.to_string().contains("example-secret"));
        }
        assert_eq!(with, ["hook_on_server_started"]);
    }
}
