//! The client of ZLMediaKit's HTTP API.
//!
//! 1. No connection is used twice: after an answer below zero the server says keep-alive and closes all the same, so that whoever goes on
//!    with it loses a request now and then.
//! 2. The secret goes as a header, which stands in no address, and is not shown: not in an error either.
//! 3. Every call has a deadline, and no answer is read without end.
//! 4. HTTP is always 200; what came of a call says `code`. Anything else is no answer of a ZLMediaKit.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::domain::cause::{chain, innermost};
use crate::domain::live::{LiveStream, StreamTuple, Unreached};
use crate::domain::media::MediaServerSettings;
use crate::domain::secret::Secret;
use crate::domain::units::Timestamp;

/// A call takes no longer. One that hops to a stream's poller may wait there behind a deletion.
const DEADLINE: Duration = Duration::from_secs(8);
/// Bytes of an answer; those that list streams have about 1,300 for each of a stream's forms.
const ANSWER: usize = 256 * 1024;
const LIST: usize = 64 * 1024 * 1024;
/// Of what a server says, so much is shown.
const SHOWN: usize = 200;

const SECRET: HeaderName = HeaderName::from_static("secret");

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No connection, or no answer in time.
    #[error("`{call}` of the media server got no answer: {error}")]
    Unanswered {
        /// The call.
        call: &'static str,
        /// What the system said.
        error: String,
    },
    /// The secret is missing or wrong.
    #[error("the media server refuses the secret for `{call}`; let `secret_file` hold its `api.secret`")]
    Refused {
        /// The call.
        call: &'static str,
    },
    /// The stream is not there: a normal state.
    #[error("the media server has no such stream (`{call}`)")]
    NoStream {
        /// The call.
        call: &'static str,
    },
    /// It answered that it did not do it.
    #[error("the media server answers `{call}` with code {code}: {msg}")]
    Failed {
        /// The call.
        call: &'static str,
        /// Its `code`.
        code: i64,
        /// Its `msg`.
        msg: String,
    },
    /// What answered is no ZLMediaKit, or one without that call.
    #[error("what answered `{call}` is no answer of a ZLMediaKit: {error}; see that `api` names its HTTP port")]
    Garbled {
        /// The call.
        call: &'static str,
        /// What was wrong.
        error: String,
    },
}

impl ApiError {
    /// Why the server cannot be asked, if it cannot.
    #[must_use]
    pub fn unreached(&self) -> Option<Unreached> {
        match self {
            Self::Unanswered { error, .. } => Some(Unreached::Unanswered { error: error.clone() }),
            Self::Refused { .. } => Some(Unreached::Refused),
            Self::Garbled { error, .. } => Some(Unreached::Garbled { error: error.clone() }),
            Self::Failed { code, msg, .. } => Some(Unreached::Garbled { error: format!("code {code}: {msg}") }),
            Self::NoStream { .. } => None,
        }
    }
}

/// What a media server is made of and where it records, as its configuration says: only what a guard needs, and no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// `general.mediaServerId`.
    pub id: String,
    /// `general.enableVhost`.
    pub vhosts: bool,
    /// `protocol.mp4_save_path`, as the server sees it.
    pub mp4_root: String,
    /// `record.appName`, the directory below it.
    pub record_app: String,
    /// `protocol.hls_save_path`, as the server sees it.
    pub hls_root: String,
    /// Segments that an HLS stream's playlist and the server itself may still name; `None` if it keeps all in its playlist.
    pub window: Option<usize>,
    /// `hls.segKeep`: segments stay on disk.
    pub keeps_segments: bool,
    /// Where its hooks go, by event.
    pub hooks: BTreeMap<String, String>,
}

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// HLS segments.
    Hls,
    /// MP4 files.
    Mp4,
}

impl Recorded {
    fn number(self) -> &'static str {
        match self {
            Self::Hls => "0",
            Self::Mp4 => "1",
        }
    }
}

/// One media server's API.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    api: Url,
    secret: Option<Secret>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("api", &self.api.host_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the API at the settings' address. Loads the system's certificates for `https`: may block.
    ///
    /// # Errors
    /// A sentence, if the address is none or TLS cannot be prepared.
    pub fn new(settings: &MediaServerSettings) -> Result<Self, String> {
        Self::within(settings, DEADLINE)
    }

    fn within(settings: &MediaServerSettings, deadline: Duration) -> Result<Self, String> {
        // What is wrong with an address is said without it: a login may stand in it.
        let api = Url::parse(&settings.api).map_err(|error| format!("its `api` is no address: {error}"))?;
        // Only the first one is taken; that there is one already is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .timeout(deadline)
            .user_agent(concat!("storage-guard/", env!("CARGO_PKG_VERSION")));
        let builder = if api.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let http = builder.build().map_err(|error| {
            format!("cannot prepare TLS; are the system's CA certificates installed? {}", chain(&error.without_url()))
        })?;
        Ok(Self { http, api, secret: settings.secret.clone() })
    }

    /// Where it records, and how.
    ///
    /// # Errors
    /// Why that was not learnt.
    pub async fn server_config(&self) -> Result<ServerConfig, ApiError> {
        const CALL: &str = "getServerConfig";
        config_of(CALL, self.call(CALL, &[], ANSWER).await?)
    }

    /// The streams that are there now.
    ///
    /// # Errors
    /// Why that was not learnt.
    pub async fn streams(&self) -> Result<Vec<LiveStream>, ApiError> {
        const CALL: &str = "getMediaList";
        streams_of(CALL, self.call(CALL, &[], LIST).await?)
    }

    /// Whether a stream is being recorded.
    ///
    /// # Errors
    /// Why that was not learnt; [`ApiError::NoStream`] if it is not there.
    pub async fn is_recording(&self, stream: &StreamTuple, what: Recorded) -> Result<bool, ApiError> {
        const CALL: &str = "isRecording";
        flag(CALL, &self.call(CALL, &named(stream, what), ANSWER).await?, "status")
    }

    /// Begins to record a stream; `true` also if it is recorded already.
    ///
    /// # Errors
    /// Why that was not done; [`ApiError::NoStream`] if it is not there.
    pub async fn start_record(&self, stream: &StreamTuple, what: Recorded) -> Result<bool, ApiError> {
        const CALL: &str = "startRecord";
        flag(CALL, &self.call(CALL, &named(stream, what), ANSWER).await?, "result")
    }

    /// Ends the recording of a stream; `true` also if it is not recorded.
    ///
    /// # Errors
    /// Why that was not done; [`ApiError::NoStream`] if it is not there.
    pub async fn stop_record(&self, stream: &StreamTuple, what: Recorded) -> Result<bool, ApiError> {
        const CALL: &str = "stopRecord";
        flag(CALL, &self.call(CALL, &named(stream, what), ANSWER).await?, "result")
    }

    /// Which program answers: branch, commit and time of building, as far as it says.
    ///
    /// # Errors
    /// Why that was not learnt.
    pub async fn version(&self) -> Result<String, ApiError> {
        const CALL: &str = "version";
        let answer = self.call(CALL, &[], ANSWER).await?;
        let words = ["branchName", "commitHash", "buildTime"].map(|key| answer["data"][key].as_str());
        Ok(shown(&words.into_iter().flatten().collect::<Vec<_>>().join(" ")))
    }

    async fn call(&self, call: &'static str, parameters: &[(&str, &str)], most: usize) -> Result<Value, ApiError> {
        let mut url = self.api.clone();
        // An address whose path cannot be changed is none of the web, which the configuration looked at.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["index", "api", call]);
        }
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        // What the system says, and of which address.
        let unanswered = |error: reqwest::Error| {
            let error = format!("{}: {}", self.api, innermost(&error.without_url()));
            ApiError::Unanswered { call, error: self.hide(&error) }
        };
        let mut request = self.http.get(url);
        if let Some(secret) = &self.secret {
            let mut value = HeaderValue::from_str(secret.reveal()).map_err(|_| ApiError::Refused { call })?;
            value.set_sensitive(true);
            request = request.header(SECRET, value);
        }
        let mut answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > most {
                return Err(ApiError::Garbled { call, error: format!("it is longer than {most} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        let read = read(call, status, &body);
        read.map_err(|error| match error {
            ApiError::Failed { call, code, msg } => ApiError::Failed { call, code, msg: self.hide(&msg) },
            ApiError::Unanswered { .. }
            | ApiError::Refused { .. }
            | ApiError::NoStream { .. }
            | ApiError::Garbled { .. } => error,
        })
    }

    /// The text without the secret, in case somebody repeats it.
    fn hide(&self, text: &str) -> String {
        match self.secret.as_ref().map(Secret::reveal).filter(|secret| !secret.is_empty()) {
            Some(secret) => text.replace(secret, "***"),
            None => text.to_owned(),
        }
    }
}

fn named(stream: &StreamTuple, what: Recorded) -> [(&'static str, &str); 4] {
    [("type", what.number()), ("vhost", &stream.vhost), ("app", &stream.app), ("stream", &stream.stream)]
}

/// On one line, not for long, and without what steers a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(SHOWN).collect()
}

/// What an answer says.
fn read(call: &'static str, status: StatusCode, body: &[u8]) -> Result<Value, ApiError> {
    let garbled = |error: String| ApiError::Garbled { call, error };
    if status != StatusCode::OK {
        return Err(garbled(format!("HTTP status {}", status.as_u16())));
    }
    let answer: Value = serde_json::from_slice(body).map_err(|_| garbled("its body is no JSON".to_owned()))?;
    let msg = || shown(answer["msg"].as_str().unwrap_or_default());
    match answer["code"].as_i64() {
        Some(0) => Ok(answer),
        Some(-100) => Err(ApiError::Refused { call }),
        Some(-500) => Err(ApiError::NoStream { call }),
        Some(code) => Err(ApiError::Failed { call, code, msg: msg() }),
        None => Err(garbled("it has no `code`".to_owned())),
    }
}

fn flag(call: &'static str, answer: &Value, key: &str) -> Result<bool, ApiError> {
    answer[key].as_bool().ok_or_else(|| ApiError::Garbled { call, error: format!("it has no `{key}`") })
}

/// One form of a stream, as `getMediaList` has it.
#[derive(Deserialize)]
struct Media {
    #[serde(default)]
    vhost: String,
    app: String,
    stream: String,
    #[serde(rename = "isRecordingMP4")]
    mp4: Option<bool>,
    #[serde(rename = "isRecordingHLS")]
    hls: Option<bool>,
    #[serde(rename = "createStamp")]
    since: Option<i64>,
}

/// The streams of an answer: each has an entry for each of its forms. Without any stream there is no `data` at all.
fn streams_of(call: &'static str, mut answer: Value) -> Result<Vec<LiveStream>, ApiError> {
    let data = Some(answer["data"].take()).filter(|data| !data.is_null());
    let media: Vec<Media> = data
        .map_or_else(|| Ok(Vec::new()), serde_json::from_value)
        .map_err(|error| ApiError::Garbled { call, error: shown(&error.to_string()) })?;
    let mut out: BTreeMap<StreamTuple, LiveStream> = BTreeMap::new();
    for one in media {
        let names = StreamTuple { vhost: one.vhost, app: one.app, stream: one.stream };
        let since = one.since.filter(|secs| *secs > 0).map(Timestamp::from_secs);
        let known = out.entry(names.clone()).or_insert_with(|| LiveStream { names, mp4: one.mp4, hls: one.hls, since });
        (known.mp4, known.hls) = (any(known.mp4, one.mp4), any(known.hls, one.hls));
        // The forms of a stream begin one after the other, and its recorders with the first.
        known.since = known.since.zip(since).map(|(known, since)| known.min(since));
    }
    Ok(out.into_values().collect())
}

/// Recorded, if any form says so; not, if all say so.
pub(super) fn any(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        (None, _) | (_, None) => None,
    }
}

fn config_of(call: &'static str, answer: Value) -> Result<ServerConfig, ApiError> {
    let said = &answer["data"][0];
    let word = |key: &str| {
        let value = said[key].as_str().map(str::to_owned);
        value.ok_or_else(|| ApiError::Garbled { call, error: format!("it has no `{key}`") })
    };
    let number = |key: &str| said[key].as_str().and_then(|text| text.parse::<usize>().ok());
    let on = |key: &str| said[key].as_str().is_some_and(|text| text != "0" && !text.is_empty());
    let hooks = said.as_object().into_iter().flatten().filter_map(|(key, value)| {
        let event = key.strip_prefix("hook.").filter(|event| event.starts_with("on_"))?;
        Some((event.to_owned(), value.as_str().filter(|to| !to.is_empty())?.to_owned()))
    });
    Ok(ServerConfig {
        id: word("general.mediaServerId")?,
        vhosts: on("general.enableVhost"),
        mp4_root: word("protocol.mp4_save_path")?,
        record_app: word("record.appName")?,
        hls_root: word("protocol.hls_save_path")?,
        // With `segNum` 0 the playlist names all. Two more are the one that is being written and the one that is about to be.
        window: number("hls.segNum").filter(|num| *num > 0).map(|num| num + number("hls.segRetain").unwrap_or(5) + 2),
        keeps_segments: on("hls.segKeep"),
        hooks: hooks.collect(),
    })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
