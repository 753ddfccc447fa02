//! Answers that say no: a status, a word for programs, and a sentence for people.

use axum::response::{IntoResponse, Response};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{StatusCode, header};
use serde_json::json;

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// A word that programs can rely on.
    pub code: &'static str,
    /// Object, place and remedy, for people.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400.
    #[must_use]
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// 400: it is no cursor that was given out.
    #[must_use]
    pub fn bad_cursor(cursor: &str) -> Self {
        Self::bad_request("bad_cursor", format!("`cursor` is {cursor:?}; give the `next` of the page before"))
    }

    /// 404.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "not_found", message)
    }

    /// 409.
    #[must_use]
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(409, code, message)
    }

    /// 500: our fault, and the log says more.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(500, "internal", "the guard met a fault of its own; its log says more")
    }

    /// 503.
    #[must_use]
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(503, code, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({"error": {"code": self.code, "message": self.message}}).to_string();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        let also: Option<(HeaderName, &'static str)> = match self.status {
            401 => Some((WWW_AUTHENTICATE, "Bearer")),
            429 => Some((RETRY_AFTER, "60")),
            503 => Some((RETRY_AFTER, "5")),
            _ => None,
        };
        if let Some((name, value)) = also {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        // What follows an unread body cannot be told from a request.
        if matches!(self.status, 408 | 413) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
