//! Alarms for WVP: published on its Redis channel, from where WVP tells them to the platforms above it as GB/T 28181 has them.
//!
//! Redis keeps nothing of what is published: who does not listen at that moment never hears of it. So an alarm is delivered when Redis
//! says that somebody listens, and is tried again until then. Alarms have no end, so that the end of an alert is not published.

use std::path::Path;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::{REFUSED, refused_literal, resolve};
use super::body::{Body, TEST, one_line};
use super::channel::Parcel;
use super::delivery::Outcome;
use super::mask::Mask;
use crate::domain::alarm::Alarm;
use crate::domain::alert::AlertName;
use crate::domain::cause::chain;
use crate::domain::secret::Secret;

/// Where Redis listens, unless its address says otherwise.
const PORT: u16 = 6379;
/// More of Redis' answers is not read.
const ANSWERS: u64 = 64 * 1024;
/// A description is cut to so many bytes.
const LONGEST: usize = 500;

/// What WVP reads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'m> {
    gb_id: &'m str,
    /// WVP takes it for the method.
    alarm_sn: u32,
    alarm_type: u32,
    alarm_description: String,
}

/// What a channel is configured with.
pub(super) struct Settings<'s> {
    /// `redis://host:port/database`, or `rediss://…`.
    pub(super) url: &'s Secret,
    /// The login, where it is not in the address.
    pub(super) username: Option<&'s str>,
    /// Its password.
    pub(super) password: Option<&'s Secret>,
    /// A certificate authority to trust besides the system's.
    pub(super) ca_file: Option<&'s Path>,
    /// In whose name it is told.
    pub(super) gb_id: &'s str,
    /// What WVP listens to.
    pub(super) channel: &'s str,
}

/// A Redis that WVP listens to.
pub(super) struct Alarms {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    login: RedisConnectionInfo,
    gb_id: String,
    channel: String,
    /// What is shown nowhere.
    mask: Mask,
}

impl Alarms {
    /// The Redis at an address. Loads certificates for `rediss`: may block.
    pub(super) fn new(of: &Settings<'_>) -> Result<Self, String> {
        let url = Url::parse(of.url.reveal()).map_err(|error| format!("the address of Redis is none: {error}"))?;
        if refused_literal(&url) {
            return Err(REFUSED.to_owned());
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = match url.scheme() {
            "redis" => None,
            "rediss" => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|error| format!("`{host}` is no name for TLS: {error}"))?;
                Some((TlsConnector::from(Arc::new(encryption(of.ca_file)?)), name))
            }
            _ => return Err("the address of Redis must begin with `redis://` or `rediss://`".to_owned()),
        };
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user =
            of.username.map(str::to_owned).or_else(|| Some(decoded(url.username())).filter(|name| !name.is_empty()));
        let password = of.password.map(|password| password.reveal().to_owned()).or_else(|| url.password().map(decoded));
        let mut login = RedisConnectionInfo::default().set_db(database(&url)?).set_skip_set_lib_name();
        let mut mask = Mask::default();
        if let Some(password) = &password {
            mask.login(user.as_deref().unwrap_or_default(), password);
            login = login.set_password(password);
        }
        if let Some(user) = &user {
            login = login.set_username(user);
        }
        let (gb_id, channel) = (of.gb_id.to_owned(), of.channel.to_owned());
        Ok(Self { host, port: url.port().unwrap_or(PORT), tls, login, gb_id, channel, mask })
    }

    /// Publishes one alarm. The caller bounds the time that it may take.
    pub(super) async fn send(&self, parcel: &Parcel, log: &mut Vec<String>) -> Outcome {
        let Some(text) = self.message(&parcel.body) else {
            return Outcome::GivenUp(format!("`{}` is no alarm of GB/T 28181", one_line(&parcel.body.data.alert, 100)));
        };
        let told = |error: &dyn std::error::Error| one_line(&self.mask.apply(&chain(error)), LONGEST);
        match self.publish(&text, log).await {
            Ok(0) => {
                let error = format!(
                    "nobody listens on `{}`: WVP is not running, or uses another Redis or another channel",
                    self.channel
                );
                log.push(format!("< 0; {error}"));
                Outcome::unreachable(error)
            }
            Ok(listeners) => {
                let said = format!("{listeners} listening on `{}`", self.channel);
                log.push(format!("< {listeners}"));
                Outcome::Delivered(said)
            }
            // Nothing that Redis refuses is about this alarm: login, permission and database are somebody's to mend.
            Err(Failed::Connect(error)) => unreachable(told(&error), log),
            Err(Failed::Redis(error)) => unreachable(told(&error), log),
        }
    }

    async fn publish(&self, text: &str, log: &mut Vec<String>) -> Result<i64, Failed> {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        log.push(format!("> connect to {scheme}://{}:{}/{}", self.host, self.port, self.login.db()));
        let found = resolve(&self.host, self.port).await.map_err(Failed::Connect)?;
        let stream = TcpStream::connect(&*found).await.map_err(Failed::Connect)?;
        match &self.tls {
            None => self.tell(stream, text, log).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(Failed::Connect)?;
                self.tell(stream, text, log).await
            }
        }
    }

    async fn tell<S>(&self, stream: S, text: &str, log: &mut Vec<String>) -> Result<i64, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.login.password().is_some() {
            log.push("> AUTH ***".to_owned());
        }
        let (reader, writer) = tokio::io::split(stream);
        let stream = tokio::io::join(reader.take(ANSWERS), writer);
        // The caller's deadline is the only one.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let connected = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (mut connection, driver) = connected.map_err(Failed::Redis)?;
        log.push(format!("> PUBLISH {} {}", self.channel, self.mask.apply(text)));
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(text);
        let answer = publish.query_async(&mut connection);
        tokio::pin!(answer, driver);
        tokio::select! {
            biased;
            answer = &mut answer => answer.map_err(Failed::Redis),
            // Without the driver there is no answer but that it ended.
            () = &mut driver => answer.await.map_err(Failed::Redis),
        }
    }

    /// What is published of a message; nothing if it is no alarm.
    fn message(&self, body: &Body) -> Option<String> {
        let alarm = match body.kind.as_str() {
            TEST => Alarm::Other,
            _ => AlertName::from_word(&body.data.alert).and_then(Alarm::of)?,
        };
        let data = &body.data;
        let message = Message {
            gb_id: &self.gb_id,
            alarm_sn: alarm.method(),
            alarm_type: alarm.kind(),
            alarm_description: plain(&format!("{}: {}. {}", data.host, data.summary, data.description)),
        };
        Some(serde_json::to_string(&message).expect("texts and numbers always have a JSON form"))
    }
}

/// What can go wrong on the way.
enum Failed {
    Connect(std::io::Error),
    Redis(redis::RedisError),
}

fn unreachable(error: String, log: &mut Vec<String>) -> Outcome {
    log.push(error.clone());
    Outcome::unreachable(error)
}

/// The number of the database, which is the path of the address.
fn database(url: &Url) -> Result<i64, String> {
    match url.path().trim_matches('/') {
        "" => Ok(0),
        path => path.parse().map_err(|_| "the path of Redis' address must be the number of a database".to_owned()),
    }
}

/// The text on one line, without signs that are markup in the XML that it becomes a part of: their full-width twins mean nothing there.
fn plain(text: &str) -> String {
    let twin = |c| match c {
        '<' => '＜',
        '>' => '＞',
        '&' => '＆',
        '"' => '＂',
        '\'' => '＇',
        other => other,
    };
    one_line(&text.chars().map(twin).collect::<String>(), LONGEST)
}

/// Whom TLS trusts: whom the system trusts, and one more.
fn encryption(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match ca_file {
        None => Vec::new(),
        Some(path) => {
            let bad =
                |error: &dyn std::error::Error| format!("cannot read `ca_file` `{}`: {}", path.display(), chain(error));
            let read = CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))?;
            let read = read.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
            if read.is_empty() {
                return Err(format!("`ca_file` `{}` holds no certificate in PEM form", path.display()));
            }
            read
        }
    };
    let failed = |error: rustls::Error| {
        format!("cannot prepare TLS; are the system's CA certificates installed, or is `ca_file` wrong? {error}")
    };
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider)).map_err(failed)?;
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::super::body::FIRING;
    use super::super::body::tests::{body, condition};
    use super::*;
    use crate::domain::units::Timestamp;

    fn alarms(url: &str) -> Result<Alarms, String> {
        let url = Secret::new(url);
        let settings = Settings {
            url: &url,
            username: None,
            password: None,
            ca_file: None,
            gb_id: "34020000001320000001",
            channel: "alarm_receive",
        };
        Alarms::new(&settings)
    }

    #[test]
    fn an_alarm_has_the_form_that_wvp_reads() {
        let alarms = alarms("redis://127.0.0.1").ok().unwrap();
        let now = Timestamp::from_secs(2);
        for (alert, expected) in [
            (AlertName::VolumeExhausted, Some((2, 3))),
            (AlertName::VolumeReadOnly, Some((6, 1))),
            (AlertName::CapTripped, None),
        ] {
            let mut body = body(FIRING, &condition(alert, 0, b"x"), now, now);
            body.data.description = "a </AlarmDescription>&\n\"b\"".to_owned();
            let text = alarms.message(&body);
            let expected = expected.map(|(method, kind)| {
                format!(
                    r#"{{"gbId":"34020000001320000001","alarmSn":{method},"alarmType":{kind},"alarmDescription":"cam-07: space does not come back. a ＜/AlarmDescription＞＆ ＂b＂"}}"#
                )
            });
            assert_eq!(text, expected, "{alert}");
        }
    }

    #[test]
    fn an_address_is_taken_apart_and_its_login_is_not_shown() {
        let alarms = alarms("redis://guard:c%40nary@[::1]:7000/3").ok().unwrap();
        assert_eq!((alarms.host.as_str(), alarms.port, alarms.login.db()), ("::1", 7000, 3));
        assert_eq!((alarms.login.username(), alarms.login.password()), (Some("guard"), Some("c@nary")));
        assert_eq!(alarms.mask.apply("no c@nary here"), "no *** here");
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for (url, said) in [
            ("nonsense", "is none"),
            ("http://127.0.0.1", "must begin with"),
            ("redis://169.254.169.254", "link-local"),
            ("redis://127.0.0.1/x", "number of a database"),
        ] {
            let error = alarms(url).err().unwrap();
            assert!(error.contains(said), "{url}: {error}");
        }
    }
}
