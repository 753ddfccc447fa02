//! What is secret in an address or a login, and is shown nowhere: receivers repeat what they were sent, in one form or another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;

/// What every robot's address of a vendor has in its path: no secret, and words that occur in texts.
const PUBLIC: [&str; 8] = ["robot", "send", "cgi-bin", "webhook", "open-apis", "hook", "services", "hooks"];

/// Shorter ones would mask half of every text.
const SHORTEST: usize = 4;

/// What is hidden, the longest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Mask(Vec<String>);

impl Mask {
    /// Hides the parts of an address that may be secret, as they stand in it and as they mean.
    pub(super) fn address(&mut self, url: &Url) {
        let path = url.path().trim_matches('/');
        let mut parts = vec![url.as_str(), path, url.username()];
        parts.extend(url.password().into_iter().chain(url.query()).chain(path.split('/')));
        // Of a pair the value is secret; of what is none, all.
        let pairs = url.query().unwrap_or_default().split('&');
        parts.extend(pairs.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value)));
        for part in parts {
            self.hide(part);
            self.hide(&decoded(part));
        }
        for (key, value) in url.query_pairs() {
            self.hide(if value.is_empty() { &key } else { &value });
        }
        if let Some(password) = url.password() {
            self.login(&decoded(url.username()), &decoded(password));
        }
    }

    /// Hides a password, also in the forms in which HTTP and SMTP send it.
    pub(super) fn login(&mut self, name: &str, password: &str) {
        self.hide(password);
        for sent in [password.to_owned(), format!("{name}:{password}"), format!("\0{name}\0{password}")] {
            self.hide(&STANDARD.encode(sent));
        }
    }

    /// Hides a text.
    pub(super) fn hide(&mut self, secret: &str) {
        if secret.len() >= SHORTEST && !PUBLIC.contains(&secret) && !self.0.iter().any(|other| other == secret) {
            self.0.push(secret.to_owned());
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// The text without what is hidden.
    pub(super) fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Mask {
        let mut mask = Mask::default();
        mask.address(&Url::parse(url).unwrap());
        mask
    }

    #[test]
    fn what_may_be_secret_in_an_address_is_masked() {
        let url = "https://user:passw@hooks.example.org/T0KEN/p%20art?key=s3cret";
        let mask = of(url);
        for text in [url, "T0KEN/p%20art", "p art", "key=s3cret", "passw", "user", "Basic dXNlcjpwYXNzdw=="] {
            let masked = mask.apply(&format!("it says {text}!"));
            assert!(masked.contains("***") && masked.ends_with('!'), "{masked}");
            for secret in ["T0KEN", "s3cret", "passw", "art", "dXNl"] {
                assert!(!masked.contains(secret), "{masked}");
            }
        }
    }

    /// Receivers repeat a part of what they were sent.
    #[test]
    fn each_value_is_masked_alone_too_and_the_words_of_all_robots_are_left() {
        let mut mask = of("https://oapi.example.org/robot/send?access_token=T0KEN&sign=a%2Bb%2F0%3D");
        mask.hide("s3cret");
        let text = "the robot has no T0KEN, and a+b/0= (a%2Bb%2F0%3D) signs nothing; s3cret";
        assert_eq!(mask.apply(text), "the robot has no ***, and *** (***) signs nothing; ***");
    }

    #[test]
    fn a_part_of_a_query_that_is_no_pair_is_masked_whole() {
        let mask = of("https://hooks.example.org/x?T0%4BEN+a&K3YY=&timeout=9");
        for text in ["T0%4BEN+a", "T0KEN+a", "T0KEN a", "K3YY"] {
            assert_eq!(mask.apply(&format!("no such token {text}!")), "no such token ***!");
        }
        assert_eq!(mask.apply("a timeout"), "a timeout");
    }

    #[test]
    fn a_password_is_masked_as_it_is_sent_too() {
        let mut mask = Mask::default();
        mask.login("guard", "canary");
        for sent in ["canary", "AGd1YXJkAGNhbmFyeQ==", "Y2FuYXJ5", "Z3VhcmQ6Y2FuYXJ5"] {
            assert_eq!(mask.apply(&format!("535 {sent} no")), "535 *** no");
        }
    }
}
