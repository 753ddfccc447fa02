//! `POST /api/v1/hook-records`: what a media server tells of recordings, in its own words.

use serde::Serialize;
use serde_json::Value;

use super::refusal::Refusal;
use crate::store::HookRecord;
use crate::zlmediakit::recorded;

/// So many records may come in one request.
const RECORDS: usize = 1000;
/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookKept {
    /// It is new, and durable.
    Stored,
    /// It was known.
    Duplicate,
    /// It is not wanted: why.
    Rejected(String),
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HooksKept {
    /// Records that are new, and durable.
    pub stored: u64,
    /// Records that were known.
    pub duplicate: u64,
    /// Records that were not taken.
    pub rejected: Vec<RejectedHook>,
}

/// A record that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedHook {
    /// Its place in the array, from 0.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// A body that was read: records that can be kept, with their places in it, and what is to be answered for the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Posted {
    places: Vec<usize>,
    pub(super) records: Vec<HookRecord>,
    rejected: Vec<RejectedHook>,
}

impl Posted {
    /// Reads a body: one record, or an array of them.
    ///
    /// # Errors
    /// 400 if it is neither, or holds too many.
    pub(super) fn read(body: &Value) -> Result<Self, Refusal> {
        let all = match body {
            Value::Object(_) => std::slice::from_ref(body),
            Value::Array(all) => all,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let message =
                    "the body must be the media server's own `on_record_mp4` or `on_record_ts`, or an array of such";
                return Err(Refusal::bad_request("bad_json", message));
            }
        };
        if all.len() > RECORDS {
            let message = format!(
                "the body holds {} records, but at most {RECORDS} may come at once; send the others after them",
                all.len()
            );
            return Err(Refusal::bad_request("too_many", message));
        }
        let mut posted = Self::default();
        for (index, one) in all.iter().enumerate() {
            match recorded(one) {
                Ok(record) => {
                    posted.places.push(index);
                    posted.records.push(record);
                }
                Err(reason) => posted.rejected.push(RejectedHook { index, reason }),
            }
        }
        Ok(posted)
    }

    /// The answer, from what became of each record.
    pub(super) fn answer(self, kept: Vec<HookKept>) -> HooksKept {
        let mut out = HooksKept { rejected: self.rejected, ..HooksKept::default() };
        for (index, kept) in self.places.into_iter().zip(kept) {
            match kept {
                HookKept::Stored => out.stored += 1,
                HookKept::Duplicate => out.duplicate += 1,
                HookKept::Rejected(reason) => out.rejected.push(RejectedHook { index, reason }),
            }
        }
        out.rejected.sort_by_key(|one| one.index);
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::zlmediakit::recorded_tests::{hook, with};

    #[test]
    fn each_record_has_its_place_in_the_answer() {
        let body = json!([{}, hook(), with("app", json!(7)), hook(), hook()]);
        let posted = Posted::read(&body).unwrap();
        assert_eq!(posted.records.len(), 3);
        let kept = vec![HookKept::Stored, HookKept::Rejected("of another".to_owned()), HookKept::Duplicate];
        let answer = posted.answer(kept);
        assert_eq!((answer.stored, answer.duplicate), (1, 1));
        assert_eq!(answer.rejected.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(answer.rejected[2].reason, "of another");
    }

    #[test]
    fn a_body_that_is_none_is_refused_whole() {
        for (body, code) in
            [(json!("x"), "bad_json"), (json!(null), "bad_json"), (json!(vec![hook(); RECORDS + 1]), "too_many")]
        {
            assert_eq!(Posted::read(&body).unwrap_err().code, code);
        }
        assert!(Posted::read(&json!([])).unwrap().records.is_empty());
    }
}
