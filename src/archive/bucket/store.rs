//! The bucket: how it is opened, and what a copy goes through.

use std::io;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, MultipartId, ObjectStoreExt as _, Result as Answered, RetryConfig};
use tokio::runtime::Runtime;

use super::super::store::{ColdError, ColdObject, ColdStore, Parcel};
use super::checksum::{Measure, Measured};
use super::keys::Keys;
use super::look::Found;
use super::trouble::Trouble;
use super::upload::{Sent, part_length, read_piece};
use super::wire::{Patience, Wire};
use crate::domain::archive::{BucketSettings, Digest};
use crate::domain::cause::chain;
use crate::domain::names::ArchiveId;
use crate::domain::path::RelPath;
use crate::domain::secret::Secret;

/// The region of a bucket, if none is said.
const REGION: &str = "us-east-1";
/// Asks for the checksum of an object.
const CHECKSUM_MODE: &str = "x-amz-checksum-mode";

/// A bucket of a store that speaks S3. Its calls block.
pub struct Bucket {
    pub(super) keys: Keys,
    /// Where it is, as requests of our own name it.
    pub(super) address: String,
    pub(super) region: String,
    /// Writes, reads and removes.
    pub(super) objects: AmazonS3,
    /// Looks, and asks for checksums.
    pub(super) looks: AmazonS3,
    pub(super) wire: Wire,
    pub(super) patience: Patience,
    /// What no error shows.
    pub(super) secrets: Vec<Secret>,
    /// Whether the bucket is known to be there, so that what is not found in it is not there.
    pub(super) seen: AtomicBool,
    /// Multipart uploads that this process began and that are not known to have ended.
    pub(super) begun: Mutex<Vec<(Path, MultipartId)>>,
    /// Carries the requests; `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Bucket {
    /// Opens a bucket; nothing is asked of the store yet.
    ///
    /// # Errors
    /// If the settings make no sense, or TLS cannot be prepared.
    pub fn open(name: &ArchiveId, settings: &BucketSettings, patience: Patience) -> Result<Self, ColdError> {
        Self::opened(name, settings, patience).map_err(ColdError::Unusable)
    }

    fn opened(name: &ArchiveId, settings: &BucketSettings, patience: Patience) -> Result<Self, String> {
        let keys = Keys::below(settings.prefix.as_deref())?;
        let region = settings.region.clone().unwrap_or_else(|| REGION.to_owned());
        let address = address(settings, &region)?;
        let wire = Wire::new(address.starts_with("https://") || settings.access_key.is_none(), patience)?;
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(10), ..BackoffConfig::default() },
            max_retries: usize::MAX,
            retry_timeout: patience.retry,
        };
        let client = |more: ClientOptions, from: AmazonS3Builder| {
            from.with_bucket_name(&settings.bucket)
                .with_region(&region)
                .with_retry(retry.clone())
                .with_http_connector(wire.clone())
                .with_client_options(more.with_allow_http(true))
        };
        let keyed = match (&settings.access_key, &settings.secret_key) {
            (Some(access), Some(secret)) => {
                AmazonS3Builder::new().with_access_key_id(access.reveal()).with_secret_access_key(secret.reveal())
            }
            (None, None) => AmazonS3Builder::from_env(),
            (Some(_), None) | (None, Some(_)) => {
                return Err("`access_key` and `secret_key` go together".to_owned());
            }
        };
        let secrets: Vec<Secret> = settings.access_key.iter().chain(&settings.secret_key).cloned().collect();
        let failed = |error: object_store::Error| {
            secrets.iter().fold(error.to_string(), |text, secret| text.replace(secret.reveal(), "***"))
        };
        // The environment is asked for the key alone: where the bucket is, the configuration says.
        let credentials = client(ClientOptions::new(), keyed).build().map_err(failed)?.credentials().clone();
        let build = |more: ClientOptions| {
            client(more, AmazonS3Builder::new())
                .with_credentials(credentials.clone())
                .with_endpoint(&address)
                // The address names the bucket already.
                .with_virtual_hosted_style_request(true)
                .with_checksum_algorithm(Checksum::SHA256)
                // One object at a time is what every store knows.
                .with_disable_bulk_delete(true)
                .build()
                .map_err(failed)
        };
        let asking = [(CHECKSUM_MODE, "ENABLED")]
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        let objects = build(ClientOptions::new())?;
        let looks = build(ClientOptions::new().with_default_headers(asking.into_iter().collect()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("s3-{name}"))
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            keys,
            address,
            region,
            objects,
            looks,
            wire,
            patience,
            secrets,
            seen: AtomicBool::new(false),
            begun: Mutex::default(),
            runtime: Some(runtime),
        })
    }

    /// Lists the copies below `under`, or all, in the order of their keys, from the first after `after` on; `Break` ends it.
    ///
    /// # Errors
    /// Why it is not known whether that is all.
    pub fn list_after(
        &self,
        under: Option<&RelPath>,
        after: Option<&RelPath>,
        each: &mut dyn FnMut(ColdObject) -> ControlFlow<()>,
    ) -> Result<(), ColdError> {
        self.list_pages(under, after, each)
    }

    /// Asks for the first copy of a list: whether the bucket is there, answers, and lets this key list it.
    ///
    /// # Errors
    /// Why not.
    pub fn probe(&self) -> Result<(), ColdError> {
        self.list_pages(None, None, &mut |_| ControlFlow::Break(()))
    }

    pub(super) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until the bucket is dropped")
    }

    /// Waits for a request that carries so many bytes, and its repetitions.
    pub(super) fn wait<T>(&self, bytes: u64, request: impl Future<Output = Answered<T>>) -> Result<T, Trouble> {
        self.wait_for(bytes, async { request.await.map_err(Trouble::Store) })
    }

    pub(super) fn wait_for<T>(
        &self,
        bytes: u64,
        request: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let limit = self.patience.whole(bytes);
        self.runtime().block_on(async { tokio::time::timeout(limit, request).await.unwrap_or(Err(Trouble::Late)) })
    }

    pub(super) fn failed(&self, action: &'static str, key: &Path, trouble: &Trouble) -> ColdError {
        trouble.said(action, key.as_ref(), &self.secrets)
    }

    pub(super) fn path(&self, key: &RelPath) -> Result<Path, ColdError> {
        self.keys.of(key).map_err(|why| ColdError::Failed {
            action: "keep",
            key: key.to_string(),
            source: Box::new(io::Error::other(why)),
        })
    }

    /// Proves that what lies under a key is what was sent there.
    fn prove(&self, path: &Path, found: &Found, sent: &Measured) -> Result<(), ColdError> {
        let differs = |wrong: String| ColdError::Differs { key: path.to_string(), wrong };
        if found.size != sent.size {
            return Err(differs(format!("it has {} bytes, {} were sent", found.size, sent.size)));
        }
        match found.checksum.as_deref().and_then(|told| sent.agrees(told)) {
            Some(true) => Ok(()),
            Some(false) => Err(differs("the store keeps another SHA-256".to_owned())),
            None => {
                let back = self.read(path, found, &mut io::sink())?;
                if back.digest == sent.digest {
                    return Ok(());
                }
                Err(differs(format!("read back, its SHA-256 is {}, and {} was sent", back.digest, sent.digest)))
            }
        }
    }

    /// Whether what lies under a key from before has a content.
    fn same(&self, path: &Path, found: &Found, content: &Measured) -> Result<(), ColdError> {
        let taken = || ColdError::Taken { key: path.to_string(), found: found.to_string() };
        if found.size != content.size || found.digest.is_some_and(|digest| digest != content.digest) {
            return Err(taken());
        }
        if found.checksum.as_deref().and_then(|told| content.agrees(told)) == Some(true) {
            return Ok(());
        }
        let back = self.read(path, found, &mut io::sink())?;
        if back.digest == content.digest { Ok(()) } else { Err(taken()) }
    }

    /// There is something under the key: the content is measured, and not sent.
    fn compare(&self, path: &Path, found: &Found, parcel: Parcel<'_>) -> Result<(Digest, u64), ColdError> {
        if found.size != parcel.size {
            return Err(ColdError::Taken { key: path.to_string(), found: found.to_string() });
        }
        let mut measure = Measure::of_parts(found.part.unwrap_or_else(|| part_length(parcel.size)));
        loop {
            let piece = read_piece(parcel.content, 1 << 20)?;
            if piece.is_empty() {
                break;
            }
            measure.update(&piece);
        }
        let content = measure.finish();
        if content.size != parcel.size {
            return Err(changed(parcel.size, content.size));
        }
        self.same(path, found, &content)?;
        Ok((content.digest, content.size))
    }

    /// What was sent, or may have been, is looked for and proven.
    fn settle(&self, path: &Path, sent: Sent) -> Result<(Digest, u64), ColdError> {
        let Sent { measured, mark, result } = sent;
        let ours = |found: &Found| found.mark.as_ref() == Some(&mark);
        // A store that answered late, or not at all, may have kept it all the same.
        match (result, self.head(path)) {
            (_, Ok(Some(found))) if ours(&found) => match self.prove(path, &found, &measured) {
                Ok(()) => {}
                Err(ColdError::Differs { key, wrong }) => {
                    let left = self.take_back(path, &mark);
                    let wrong = left.map_or(wrong.clone(), |left| format!("{wrong}; it is still there: {left}"));
                    return Err(ColdError::Differs { key, wrong });
                }
                Err(other) => return Err(other),
            },
            (_, Ok(Some(found))) => self.same(path, &found, &measured)?,
            (Err(trouble), Ok(None) | Err(_)) => return Err(self.failed("write", path, &trouble)),
            (Ok(()), Ok(None)) => {
                let wrong = "the store has taken it, and has nothing".to_owned();
                return Err(ColdError::Differs { key: path.to_string(), wrong });
            }
            (Ok(()), Err(error)) => return Err(error),
        }
        Ok((measured.digest, measured.size))
    }

    /// Removes a wrong copy that this call made; why it is still there, if it is.
    fn take_back(&self, path: &Path, mark: &str) -> Option<String> {
        let erased = match self.head(path) {
            Ok(None) => Ok(()),
            Ok(Some(found)) if found.mark.as_deref() == Some(mark) => self.erase(path),
            Ok(Some(_)) => return Some("it is another one now".to_owned()),
            Err(error) => Err(error),
        };
        erased.err().map(|error| chain(&error))
    }

    /// Removes what lies under a key, and looks for it: an answer alone says nothing.
    fn erase(&self, path: &Path) -> Result<(), ColdError> {
        let deleted = self.wait(0, self.objects.delete(path));
        match (self.head(path)?, deleted) {
            (None, _) => Ok(()),
            (Some(_), Err(trouble)) => Err(self.failed("remove", path, &trouble)),
            (Some(_), Ok(())) => {
                let trouble = Trouble::Nonsense("the store has removed it, and still has it".to_owned());
                Err(self.failed("remove", path, &trouble))
            }
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A resolver that hangs is not waited for.
            runtime.shutdown_background();
        }
    }
}

impl ColdStore for Bucket {
    fn put(&self, parcel: Parcel<'_>) -> Result<(Digest, u64), ColdError> {
        let path = self.path(parcel.key)?;
        match self.head(&path)? {
            Some(found) => self.compare(&path, &found, parcel),
            None => {
                let sent = self.send(&path, parcel)?;
                self.settle(&path, sent)
            }
        }
    }

    fn get(&self, key: &RelPath, sink: &mut dyn io::Write) -> Result<(Digest, u64), ColdError> {
        let path = self.path(key)?;
        let found = self.head(&path)?.ok_or_else(|| ColdError::Absent(path.to_string()))?;
        let read = self.read(&path, &found, sink)?;
        let told = found.checksum.as_deref().and_then(|told| read.agrees(told));
        if told == Some(false) || found.digest.is_some_and(|digest| digest != read.digest) {
            let wrong = format!("what was read has the SHA-256 {}, and the store keeps another", read.digest);
            return Err(ColdError::Differs { key: path.to_string(), wrong });
        }
        Ok((read.digest, read.size))
    }

    fn look(&self, key: &RelPath) -> Result<Option<ColdObject>, ColdError> {
        let found = self.head(&self.path(key)?)?;
        Ok(found.map(|found| ColdObject {
            key: key.clone(),
            size: found.size,
            modified: found.modified,
            digest: found.digest,
            tag: found.tag,
            marked: found.marked,
        }))
    }

    fn list(
        &self,
        under: Option<&RelPath>,
        each: &mut dyn FnMut(ColdObject) -> ControlFlow<()>,
    ) -> Result<(), ColdError> {
        self.list_pages(under, None, each)
    }

    fn tidy(&self) -> Result<u64, ColdError> {
        self.abort_left()
    }

    fn remove(&self, object: &ColdObject) -> Result<(), ColdError> {
        let path = self.path(&object.key)?;
        let same = |found: &Found| found.size == object.size && (object.tag.is_none() || found.tag == object.tag);
        match self.head(&path)? {
            None => return Ok(()),
            Some(found) if same(&found) => {}
            Some(found) => return Err(ColdError::Taken { key: path.to_string(), found: found.to_string() }),
        }
        self.erase(&path)
    }
}

/// A source is not what it was.
pub(super) fn changed(was: u64, is: u64) -> ColdError {
    ColdError::Source(io::Error::other(format!("it had {was} bytes, and {is} or more were read")))
}

/// Where the bucket is: below a store's own address by its path, at Amazon by its name.
fn address(settings: &BucketSettings, region: &str) -> Result<String, String> {
    let bucket = &settings.bucket;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bucket.is_empty() || !bucket.chars().all(plain) || !region.chars().all(plain) {
        return Err("the bucket and its region are made of letters, digits, `.`, `-` and `_`".to_owned());
    }
    let Some(endpoint) = &settings.endpoint else {
        // The certificate of a name covers no dots of the bucket's.
        return Ok(if bucket.contains('.') {
            format!("https://s3.{region}.amazonaws.com/{bucket}")
        } else {
            format!("https://{bucket}.s3.{region}.amazonaws.com")
        });
    };
    // What is wrong with it is said without it: a login may stand in it.
    let url = reqwest::Url::parse(endpoint).map_err(|error| format!("its `endpoint` is no address: {error}"))?;
    let bare =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !bare {
        return Err("its `endpoint` must be `https://HOST` or `http://HOST`, without a login or a query".to_owned());
    }
    Ok(format!("{}/{bucket}", url.as_str().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_found_by_name_at_amazon_and_by_path_elsewhere() {
        for (bucket, endpoint, expected) in [
            ("cold", None, Ok("https://cold.s3.eu-central-1.amazonaws.com")),
            ("cold.site", None, Ok("https://s3.eu-central-1.amazonaws.com/cold.site")),
            ("cold", Some("http://minio:9000"), Ok("http://minio:9000/cold")),
            ("cold", Some("https://store.lan/s3/"), Ok("https://store.lan/s3/cold")),
            ("a/b", None, Err("letters")),
            ("", None, Err("letters")),
            ("cold", Some("minio:9000"), Err("https://HOST")),
            ("cold", Some("http://me:hidden@minio"), Err("without a login")),
            ("cold", Some("http://[minio"), Err("no address")),
        ] {
            let settings = BucketSettings {
                bucket: bucket.to_owned(),
                endpoint: endpoint.map(str::to_owned),
                region: None,
                prefix: None,
                access_key: None,
                secret_key: None,
            };
            match (address(&settings, "eu-central-1"), expected) {
                (Ok(address), Ok(expected)) => assert_eq!(address, expected),
                (Err(error), Err(part)) => {
                    assert!(error.contains(part) && !error.contains("hidden"), "{error}");
                }
                (is, _) => panic!("{bucket} {endpoint:?}: {is:?}"),
            }
        }
    }
}
