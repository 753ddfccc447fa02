//! Who is told how a job stands: an address that came with the request, and that the configuration allows.
//!
//! The host must be one that is listed, whatever its name resolves to must not be link-local or a metadata service, and redirects are not
//! followed: a request leads nowhere else.

use std::time::Duration;

use reqwest::Url;

use super::delivery::Outcome;
use super::http::Target;
use super::webhook::{headers, key};
use crate::domain::secret::Secret;
use crate::domain::units::Timestamp;

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest address.
const LONGEST: usize = 2048;

/// A receiver of a job's states.
pub struct Callback {
    target: Target,
    key: Option<Vec<u8>>,
    host: String,
}

/// What became of one attempt to tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It was taken.
    Delivered,
    /// It was not, and another attempt may help. Why.
    Again(String),
    /// It never will be. Why.
    Refused(String),
}

impl Callback {
    /// A receiver, if its host is one of those that are allowed. Loads the system's certificates for `https`: may block.
    ///
    /// # Errors
    /// A sentence that says why it may not be one.
    pub fn new(url: &str, hosts: &[String], secret: Option<&Secret>) -> Result<Self, String> {
        if url.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let parsed = Url::parse(url).map_err(|error| format!("it is no address: {error}"))?;
        let host = parsed.host_str().unwrap_or_default().to_owned();
        if hosts.is_empty() {
            return Err("no host may be called back; list it in `auth.callback_hosts`".to_owned());
        }
        if !hosts.iter().any(|allowed| same_host(allowed, &host)) {
            return Err(format!("its host {host:?} is not one of `auth.callback_hosts`"));
        }
        let key = secret.map(key).transpose()?;
        let mut target = Target::new(&Secret::new(url))?;
        if let Some(secret) = secret {
            target = target.hiding(secret.reveal());
        }
        Ok(Self { target, key, host })
    }

    /// Its host, to show.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Posts a text of JSON once, signed by Standard Webhooks where there is a secret.
    pub async fn post(&self, id: &str, body: String, now: Timestamp) -> Told {
        let request = headers(self.target.post(), self.key.as_deref(), id, &body, now).body(body);
        let mut log = Vec::new();
        let sent = async {
            match self.target.send(request, &mut log).await {
                Ok(answer) => answer.judge(now),
                Err(outcome) => outcome,
            }
        };
        match tokio::time::timeout(TIMEOUT, sent).await {
            Ok(Outcome::Delivered(_)) => Told::Delivered,
            Ok(Outcome::Again { error, .. }) => Told::Again(error),
            Ok(Outcome::GivenUp(error)) => Told::Refused(error),
            Err(_) => Told::Again(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}

/// Names without regard to case, addresses by what they are, in brackets or not.
fn same_host(allowed: &str, host: &str) -> bool {
    let bare = |text: &str| text.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let (allowed, host) = (bare(allowed), bare(host));
    match (allowed.parse::<std::net::IpAddr>(), host.parse::<std::net::IpAddr>()) {
        (Ok(allowed), Ok(host)) => allowed == host,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => allowed == host && !host.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, hosts: &[&str], expected: Option<&str>) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = Callback::new(url, &hosts, Some(&Secret::new("key"))).map(|callback| callback.host().to_owned());
        match (made, expected) {
            (Ok(_), None) => {}
            (Err(why), Some(wanted)) => assert!(why.contains(wanted), "{url}: {why}"),
            (made, expected) => panic!("{url}: {made:?} instead of {expected:?}"),
        }
    }

    /// Fault 109.
    #[test]
    fn only_listed_hosts_are_called_back_and_never_link_local_ones() {
        check("http://platform.lan/x", &["platform.lan"], None);
        check("http://PLATFORM.lan:8080/x?y", &["Platform.LAN"], None);
        check("http://127.0.0.1:9/x", &["127.0.0.1"], None);
        check("http://[::1]:9/x", &["::1"], None);
        check("http://[::1]:9/x", &["[::1]"], None);
        check("http://platform.lan/x", &[], Some("callback_hosts"));
        check("http://evil.lan/x", &["platform.lan"], Some("is not one of"));
        check("http://platform.lan.evil/x", &["platform.lan"], Some("is not one of"));
        check("http://platform.lan@evil.lan/x", &["platform.lan"], Some("is not one of"));
        check("http://169.254.169.254/x", &["169.254.169.254"], Some("link-local"));
        check("http://0xa9fea9fe/x", &["169.254.169.254"], Some("link-local"));
        check("http://[fe80::1]/x", &["fe80::1"], Some("link-local"));
        check("file:///etc/passwd", &["platform.lan"], Some("is not one of"));
        check("ftp://platform.lan/x", &["platform.lan"], Some("http"));
        check("nonsense", &["platform.lan"], Some("no address"));
        check(&format!("http://platform.lan/{}", "x".repeat(3000)), &["platform.lan"], Some("longer"));
    }
}
