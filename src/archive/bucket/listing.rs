//! Lists: the copies, and uploads that never ended. Both are asked for by requests of our own. `object_store` gives up a whole list where a
//! stranger's key is none of its paths, and does not list uploads.

use std::ops::ControlFlow;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpErrorKind, HttpRequestBody};
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::store::{ColdError, ColdObject};
use super::store::Bucket;
use super::trouble::Trouble;
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;

/// What the signature wants encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Uploads of other processes are taken for forgotten after this time.
const FORGOTTEN: Duration = Duration::from_hours(24);
/// The first pause before a request is made again; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer to a request of our own.
pub(super) struct Page {
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A page of copies.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Objects {
    #[serde(default)]
    contents: Vec<Object>,
    next_continuation_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    key: String,
    size: u64,
    last_modified: String,
    #[serde(rename = "ETag")]
    tag: Option<String>,
}

/// A page of uploads.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Uploads {
    #[serde(default, rename = "Upload")]
    uploads: Vec<Upload>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
    initiated: String,
}

fn parsed<T: DeserializeOwned>(page: &Page) -> Result<T, Trouble> {
    quick_xml::de::from_reader(page.body.as_slice())
        .map_err(|error| Trouble::Nonsense(format!("the list cannot be read: {error}")))
}

fn time(text: &str) -> Option<Timestamp> {
    Some(Timestamp::from_millis(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()))
}

impl Page {
    /// When it was answered, by the store's own clock.
    fn date(&self) -> Option<Timestamp> {
        let text = self.headers.get(http::header::DATE)?.to_str().ok()?;
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Timestamp::from_millis(at.as_millisecond()))
    }
}

impl Bucket {
    /// Asks the bucket something that is not about one object, again while it fails for a reason that passes.
    pub(super) fn ask(&self, query: &[(&str, &str)]) -> Result<Page, Trouble> {
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODED))).collect();
        let uri = format!("{}?{}", self.address, pairs.join("&"));
        self.wait_for(0, async {
            let mut pauses = Duration::ZERO;
            loop {
                let failed = match self.asked(&uri).await {
                    Err((trouble, true)) => trouble,
                    Err((trouble, false)) => return Err(trouble),
                    Ok(page) => return Ok(page),
                };
                if pauses >= self.patience.retry {
                    return Err(failed);
                }
                let pause = pauses.max(PAUSE).min(Duration::from_secs(10));
                tokio::time::sleep(pause).await;
                pauses += pause;
            }
        })
    }

    /// Asks once; a failure, and whether it may pass.
    async fn asked(&self, uri: &str) -> Result<Page, (Trouble, bool)> {
        let nonsense = |error: http::Error| (Trouble::Nonsense(error.to_string()), false);
        let certain = |error: object_store::Error| (Trouble::Store(error), false);
        let key = self.objects.credentials().get_credential().await.map_err(certain)?;
        let mut request = Request::get(uri).body(HttpRequestBody::empty()).map_err(nonsense)?;
        AwsAuthorizer::new(&key, "s3", &self.region).try_authorize(&mut request, None).map_err(certain)?;
        let unheard = |error: object_store::client::HttpError| {
            let passes = !matches!(error.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown);
            let source = Box::new(error);
            (Trouble::Store(object_store::Error::Generic { store: "S3", source }), passes)
        };
        let (parts, body) = self.wire.send(request).await.map_err(unheard)?.into_parts();
        let body = body.collect().await.map_err(unheard)?.to_bytes().to_vec();
        let status = parts.status;
        if status.is_success() {
            return Ok(Page { headers: parts.headers, body });
        }
        let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let body = String::from_utf8_lossy(&body).into_owned();
        Err((Trouble::Refused { status, body }, passes))
    }

    /// Lists the copies, a page at a time, from the first after `after` on.
    pub(super) fn list_pages(
        &self,
        under: Option<&RelPath>,
        after: Option<&RelPath>,
        each: &mut dyn FnMut(ColdObject) -> ControlFlow<()>,
    ) -> Result<(), ColdError> {
        let prefix = self.keys.under(under);
        let failed = |trouble: &Trouble| trouble.said("list", &prefix, &self.secrets);
        let start =
            after.map(|after| self.keys.of(after)).transpose().map_err(|why| failed(&Trouble::Nonsense(why)))?;
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2"), ("prefix", prefix.as_str())];
            query.extend(start.as_ref().map(|start| ("start-after", start.as_ref())));
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let page: Objects = self.ask(&query).and_then(|page| parsed(&page)).map_err(|error| failed(&error))?;
            for object in page.contents {
                // Somebody else's.
                let Some(key) = self.keys.path(&object.key) else { continue };
                let Some(modified) = time(&object.last_modified) else {
                    let wrong = format!("`{}` has no time of its own", object.key);
                    return Err(failed(&Trouble::Nonsense(wrong)));
                };
                let found =
                    ColdObject { key, size: object.size, modified, digest: None, tag: object.tag, marked: false };
                if each(found).is_break() {
                    return Ok(());
                }
            }
            match page.next_continuation_token.filter(|next| !next.is_empty()) {
                // The same page again would go on for ever.
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                Some(_) => return Err(failed(&Trouble::Nonsense("the list does not go on".to_owned()))),
                None => return Ok(()),
            }
        }
    }

    /// Aborts the uploads that this process began and did not end, and below a prefix of our own those that are older than a day by the
    /// store's clock, whoever began them; how many there were.
    pub(super) fn abort_left(&self) -> Result<u64, ColdError> {
        let mut aborted = 0;
        let begun = self.begun().clone();
        for (path, id) in begun {
            aborted += u64::from(self.abort(&path, &id)?);
            self.forget(&path, &id);
        }
        // In a bucket shared without a prefix, nobody knows whose an upload is.
        if !self.keys.own() {
            return Ok(aborted);
        }
        let prefix = self.keys.under(None);
        let failed = |trouble: &Trouble| trouble.said("list the uploads below", &prefix, &self.secrets);
        let mut after: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("prefix", prefix.as_str())];
            if let Some((key, id)) = &after {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
            }
            let page = self.ask(&query).map_err(|error| failed(&error))?;
            let date = page.date();
            let listed: Uploads = parsed(&page).map_err(|error| failed(&error))?;
            for upload in listed.uploads {
                let (Some(now), Some(begun)) = (date, time(&upload.initiated)) else { continue };
                if now.since(begun) < FORGOTTEN || self.keys.path(&upload.key).is_none() {
                    continue;
                }
                let Ok(path) = Path::parse(&upload.key) else { continue };
                aborted += u64::from(self.abort(&path, &upload.upload_id)?);
            }
            let next = listed.next_key_marker.zip(Some(listed.next_upload_id_marker.unwrap_or_default()));
            match next.filter(|next| listed.is_truncated && after.as_ref() != Some(next)) {
                Some(next) => after = Some(next),
                None => return Ok(aborted),
            }
        }
    }

    /// Aborts an upload; `false` if it was gone already.
    fn abort(&self, path: &Path, id: &String) -> Result<bool, ColdError> {
        match self.wait(0, self.objects.abort_multipart(path, id)) {
            Ok(()) => Ok(true),
            Err(trouble) if trouble.absent() => Ok(false),
            Err(trouble) => Err(self.failed("abort the upload of", path, &trouble)),
        }
    }
}
