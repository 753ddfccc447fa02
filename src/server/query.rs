//! What requests carry: names in the path, keys in the query, JSON in the body.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::backend::PageQuery;
use super::refusal::Refusal;
use crate::domain::deletion::{Outcome, Seq};
use crate::domain::journal::JournalQuery;
use crate::domain::units::Timestamp;

/// Items of a page unless the request says otherwise.
const LIMIT: usize = 100;
/// Items of a page at most.
const MOST: usize = 1000;

/// Names in the path, percent-decoded.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let named = Path::<T>::from_request_parts(parts, state).await;
        named.map(|Path(named)| Self(named)).map_err(|error| Refusal::bad_request("bad_path", error.body_text()))
    }
}

/// The keys of the query; unknown ones are ignored.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(error) => Err(Refusal::bad_request("bad_query", error.body_text())),
        }
    }
}

impl Params {
    /// The value of a key.
    ///
    /// # Errors
    /// 400 if it is given twice or holds control characters.
    pub(super) fn get(&self, key: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(Refusal::bad_request("bad_query", format!("`{key}` is given twice; give it once")));
        }
        if first.is_some_and(|value| value.chars().any(char::is_control)) {
            return Err(Refusal::bad_request("bad_query", format!("`{key}` holds control characters")));
        }
        Ok(first)
    }

    /// `limit` and `cursor`.
    ///
    /// # Errors
    /// 400 if the limit is not 1 to 1000.
    pub(super) fn page(&self) -> Result<PageQuery, Refusal> {
        let limit = match self.get("limit")? {
            None => LIMIT,
            Some(text) => text.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or_else(|| {
                Refusal::bad_request("bad_query", format!("`limit` is {text:?}, but must be 1 to {MOST}"))
            })?,
        };
        Ok(PageQuery { limit, cursor: self.get("cursor")?.map(str::to_owned) })
    }

    /// `outcome`.
    ///
    /// # Errors
    /// 400 if there is no such outcome.
    pub(super) fn outcome(&self) -> Result<Option<Outcome>, Refusal> {
        let Some(word) = self.get("outcome")? else { return Ok(None) };
        Outcome::from_word(word).map(Some).ok_or_else(|| {
            let words: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
            let message = format!("`outcome` is {word:?}, but must be one of {}", words.join(", "));
            Refusal::bad_request("bad_query", message)
        })
    }

    /// Which lines of the journal are wanted.
    ///
    /// # Errors
    /// 400 for what is malformed.
    pub(super) fn journal(&self) -> Result<JournalQuery, Refusal> {
        let page = self.page()?;
        Ok(JournalQuery {
            tree: self.get("tree")?.map(str::to_owned),
            stream: self.get("stream")?.map(str::to_owned),
            since: self.get("since")?.map(moment).transpose()?,
            outcome: self.outcome()?,
            after: Seq(page.number()?),
            limit: page.limit,
        })
    }
}

/// A time of RFC 3339. A `+` that was not percent-encoded has become a space.
fn moment(text: &str) -> Result<Timestamp, Refusal> {
    let parsed: Result<jiff::Timestamp, _> = text.parse().or_else(|_| text.replace(' ', "+").parse());
    parsed.map(|at| Timestamp::from_millis(at.as_millisecond())).map_err(|_| {
        let message = format!("`since` is {text:?}, but must be a time such as 2026-11-22T08:00:00Z");
        Refusal::bad_request("bad_query", message)
    })
}

/// A JSON body.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let message = "the body must be JSON: send `Content-Type: application/json`";
            return Err(Refusal::new(415, "not_json", message));
        }
        // The gate has read it and bounded its size.
        let body = request.into_body().collect().await;
        let body = body.map_err(|error| Refusal::bad_request("bad_body", error.to_string()))?.to_bytes();
        let parsed = serde_json::from_slice(&body);
        parsed.map(Self).map_err(|error| Refusal::bad_request("bad_json", format!("the body is not right: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Result<JournalQuery, &str>) {
        let uri = format!("/api/v1/journal?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        match (Params(pairs).journal(), expected) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
            (Err(refusal), Err(wanted)) => {
                assert_eq!(refusal.status, 400);
                assert!(refusal.message.contains(wanted), "{refusal}");
            }
            (got, wanted) => panic!("{query}: {got:?} instead of {wanted:?}"),
        }
    }

    #[test]
    fn queries_of_the_journal_are_read_or_refused() {
        let all = JournalQuery { limit: LIMIT, ..JournalQuery::default() };
        let since = |secs| Ok(JournalQuery { since: Some(Timestamp::from_secs(secs)), ..all.clone() });
        check("", Ok(all.clone()));
        check("colour=red&limit=1000&cursor=7", Ok(JournalQuery { limit: 1000, after: Seq(7), ..all.clone() }));
        check("tree=a%2Fb", Ok(JournalQuery { tree: Some("a/b".to_owned()), ..all.clone() }));
        check("outcome=failed", Ok(JournalQuery { outcome: Some(Outcome::Failed), ..all.clone() }));
        check("since=1970-01-01T00:01:00Z", since(60));
        check("since=1970-01-01T08:01:00+08:00", since(60));
        check("since=1970-01-01T08:01:00%2B08:00", since(60));
        check("since=yesterday", Err("must be a time"));
        check("limit=0", Err("must be 1 to 1000"));
        check("limit=1001", Err("must be 1 to 1000"));
        check("limit=-1", Err("must be 1 to 1000"));
        check("cursor=abc", Err("give the `next`"));
        check("cursor=99999999999999999999", Err("give the `next`"));
        check("outcome=gone", Err("verified, already_gone, failed, kept"));
        check("tree=a&tree=b", Err("given twice"));
        check("tree=a%00", Err("control characters"));
    }
}
