//! The arguments of a deletion, wherever the media server would find them: in the query, in the body, in headers.
//!
//! It takes the first that is not empty, by names in any case, from five places, and two of them may contradict each other. Here each is
//! given once, or the call is refused.

use http::header::{CONTENT_TYPE, HeaderMap};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use crate::domain::secret::Secret;

/// The arguments besides the secret.
pub(super) const NAMES: [&str; 6] = ["vhost", "app", "stream", "period", "name", "customized_path"];
const SECRET: &str = "secret";

/// What a request gives.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    secrets: Vec<Vec<u8>>,
    values: [Option<String>; NAMES.len()],
    /// Why it is refused, once the secret is known to be right.
    objection: Option<String>,
}

impl Arguments {
    /// Gathers the arguments of a request, whose body was read whole.
    pub(super) fn gather(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut out = Self::default();
        out.pairs(query.unwrap_or_default().as_bytes(), "query");
        out.body(headers, body);
        for value in headers.get_all(SECRET) {
            out.secrets.push(value.as_bytes().to_vec());
        }
        for name in NAMES {
            if headers.contains_key(name) {
                out.object(format!("`{name}` is given as a header; give it in the query or in the body"));
            }
        }
        out
    }

    /// Whether the secret was given, and every time the right one.
    pub(super) fn allowed(&self, secret: &Secret) -> bool {
        let right = |given: &Vec<u8>| bool::from(given.as_slice().ct_eq(secret.reveal().as_bytes()));
        // All of them are compared, so that the time tells nothing.
        let given = self.secrets.iter().filter(|given| !given.is_empty());
        let (count, fine) = given.fold((0, true), |(count, fine), given| (count + 1, right(given) & fine));
        count > 0 && fine
    }

    /// Why they cannot be told for sure.
    pub(super) fn objection(&self) -> Option<&str> {
        self.objection.as_deref()
    }

    /// The value of one of [`NAMES`]. An empty one is none, as the media server has it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.values[at].as_deref().filter(|value| !value.is_empty())
    }

    fn object(&mut self, why: String) {
        self.objection.get_or_insert(why);
    }

    /// `a=b&c=d`, in the query or in a form.
    fn pairs(&mut self, text: &[u8], place: &str) {
        let Ok(text) = std::str::from_utf8(text) else {
            return self.object(format!("the {place} is no UTF-8 text"));
        };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = plain_name(key);
            // The media server does not decode names; a name that only looks like one of ours is nobody's, or a trick.
            let Some(name) = plain else {
                let decoded = percent_decode_str(key).decode_utf8_lossy().replace('+', " ");
                if plain_name(decoded.trim()).and_then(known).is_some() {
                    self.object("the name of an argument is encoded; write it plainly".to_owned());
                }
                continue;
            };
            let Some(name) = known(name) else { continue };
            match decode(value) {
                Ok(value) => self.take(name, value),
                Err(why) => self.object(format!("`{name}` {why}")),
            }
        }
    }

    fn body(&mut self, headers: &HeaderMap, body: &[u8]) {
        let mut kinds = headers.get_all(CONTENT_TYPE).iter();
        let kind = kinds.next().map(|kind| kind.as_bytes().to_ascii_lowercase()).unwrap_or_default();
        if kinds.next().is_some() {
            return self.object("`Content-Type` is given twice; give it once".to_owned());
        }
        if body.is_empty() {
            return;
        }
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        match kind {
            b"application/x-www-form-urlencoded" => self.pairs(body, "body"),
            b"application/json" => match serde_json::from_slice::<Pairs>(body) {
                Ok(Pairs(pairs)) => pairs.into_iter().for_each(|(key, value)| self.member(&key, value)),
                Err(error) => self.object(format!("the body is no JSON object ({error})")),
            },
            _ => self.object(
                "the body is of another kind than `application/x-www-form-urlencoded` and `application/json`"
                    .to_owned(),
            ),
        }
    }

    fn member(&mut self, key: &str, value: Value) {
        // The media server compares names as C does, up to the first zero byte.
        if key.chars().any(char::is_control) {
            return self.object("the name of an argument holds control characters".to_owned());
        }
        let Some(name) = plain_name(key.trim()).and_then(known) else { return };
        if key.trim() != key {
            return self.object("the name of an argument has white space around it".to_owned());
        }
        match value {
            Value::String(text) => self.take(name, text),
            Value::Number(number) if number.is_i64() || number.is_u64() => self.take(name, number.to_string()),
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.object(format!("`{name}` is no text"));
            }
        }
    }

    fn take(&mut self, name: &'static str, value: String) {
        let Some(at) = NAMES.iter().position(|known| *known == name) else {
            self.secrets.push(value.into_bytes());
            return;
        };
        if self.values[at].is_some() {
            return self.object(format!("`{name}` is given twice; give it once"));
        }
        self.values[at] = Some(value);
    }
}

/// A name as the media server knows them, written plainly.
fn plain_name(key: &str) -> Option<&str> {
    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(key)
}

/// The argument of ours that a name means, in whatever case.
fn known(name: &str) -> Option<&'static str> {
    NAMES.into_iter().chain([SECRET]).find(|known| known.eq_ignore_ascii_case(name))
}

/// A value of a query or a form.
fn decode(text: &str) -> Result<String, &'static str> {
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' && !(0..2).all(|_| rest.next().is_some_and(|digit| digit.is_ascii_hexdigit())) {
            return Err("is not well encoded: two hexadecimal digits must follow a `%`");
        }
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned()).map_err(|_| "is no UTF-8 text")
}

/// The members of a JSON object, in their order and none left out.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut out = HeaderMap::new();
        for (name, value) in pairs {
            out.append(*name, HeaderValue::from_str(value).unwrap());
        }
        out
    }

    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn arguments_are_found_wherever_the_media_server_finds_them() {
        let check = |query: Option<&str>, given: &[(&'static str, &str)], body: &str| {
            let found = Arguments::gather(query, &headers(given), body.as_bytes());
            assert_eq!(found.objection(), None, "{query:?} {body}");
            assert_eq!((found.get("app"), found.get("stream")), (Some("live"), Some("a b")), "{query:?} {body}");
            assert_eq!((found.get("period"), found.get("name")), (None, None));
            assert!(found.allowed(&Secret::new("s+e")), "{query:?} {body}");
        };
        check(Some("secret=s%2Be&app=live&stream=a+b&period=&_t=1&x%zz=%"), &[], "");
        check(Some("SECRET=s%2Be&App=live&STREAM=a%20b"), &[], "");
        check(Some("app=live&stream=a%20b"), &[("secret", "s+e")], "");
        check(None, &[FORM], "secret=s%2Be&app=live&stream=a+b");
        check(Some("app=live"), &[FORM], "secret=s%2Be&stream=a%20b");
        check(None, &[JSON], r#"{"secret":"s+e","App":"live","stream":"a b","period":null,"more":[1]}"#);
        check(Some("secret=s%2Be&secret=s%2be&app=live&stream=a+b"), &[("secret", "s+e")], "");
        let number = Arguments::gather(None, &headers(&[JSON]), br#"{"stream":34020000001320000001}"#);
        assert_eq!(number.objection(), Some("`stream` is no text"), "it would be another number by now");
        let number = Arguments::gather(None, &headers(&[JSON]), br#"{"stream":3402}"#);
        assert_eq!(number.get("stream"), Some("3402"));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let check = |query: &str, given: &[(&'static str, &str)], body: &str, said: &str| {
            let found = Arguments::gather(Some(query), &headers(given), body.as_bytes());
            let objection = found.objection().unwrap_or_default().to_owned();
            assert!(objection.contains(said), "{query} {body}: {objection}");
        };
        check("stream=a&stream=b", &[], "", "`stream` is given twice");
        check("stream=a&STREAM=a", &[], "", "`stream` is given twice");
        check("stream=&stream=a", &[], "", "`stream` is given twice");
        check("stream=a", &[FORM], "stream=b", "`stream` is given twice");
        check("stream=a", &[JSON], r#"{"stream":"a"}"#, "`stream` is given twice");
        check("", &[JSON], r#"{"stream":"a","stream":"b"}"#, "`stream` is given twice");
        check("", &[JSON], "{\"stream\\u0000x\":\"a\"}", "control characters");
        check("", &[JSON], r#"{" stream":"a"}"#, "white space");
        check("", &[JSON], r#"{"stream":["a"]}"#, "`stream` is no text");
        check("", &[JSON], r#"{"stream":"a"} {"stream":"b"}"#, "no JSON object");
        check("", &[JSON], "{'stream':'a'}", "no JSON object");
        check("", &[JSON], "[]", "no JSON object");
        check("", &[("content-type", "text/plain")], "stream=a", "another kind");
        check("", &[], "stream=a", "another kind");
        check("", &[FORM, JSON], "", "`Content-Type` is given twice");
        check("%73tream=a", &[], "", "is encoded");
        check("+stream=a", &[], "", "is encoded");
        check("stream=%", &[], "", "not well encoded");
        check("stream=%2", &[], "", "not well encoded");
        check("stream=%zz", &[], "", "not well encoded");
        check("stream=%ff", &[], "", "no UTF-8");
        check("", &[("customized_path", "/etc")], "", "given as a header");
        check("", &[("Vhost", "x")], "", "given as a header");
    }

    #[test]
    fn every_secret_that_is_given_must_be_right() {
        let check = |query: &str, given: &[(&'static str, &str)], expected: bool| {
            let found = Arguments::gather(Some(query), &headers(given), b"");
            assert_eq!(found.allowed(&Secret::new("right")), expected, "{query} {given:?}");
        };
        check("secret=right", &[], true);
        check("", &[("secret", "right")], true);
        check("secret=", &[("secret", "right")], true);
        for query in ["", "secret=", "secret", "secret=righ", "secret=right2", "secret=Right", "x=right"] {
            check(query, &[], false);
        }
        check("secret=right&secret=wrong", &[], false);
        check("secret=wrong", &[("secret", "right")], false);
        check("secret=right", &[("secret", "wrong")], false);
    }
}
