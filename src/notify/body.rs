//! The body of a message as the webhook sends it; the mail is made of the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::template::Templates;
use crate::domain::alert::{Condition, ITEMS, UnreclaimedItem, Wording};
use crate::domain::text::steers;
use crate::domain::units::Timestamp;
use crate::system::host_name;

/// A body must be shorter than this many bytes, or receivers refuse it.
const LIMIT: usize = 20_000;

/// The message of an alert that holds.
pub(super) const FIRING: &str = "alert.firing";

/// The message of its end.
pub(super) const RESOLVED: &str = "alert.resolved";

/// The message that a person sends to try a channel.
pub(super) const TEST: &str = "alert.test";

/// The body: `type`, `timestamp`, `data`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Body {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) timestamp: String,
    pub(super) data: Data,
}

/// The alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Data {
    pub(super) alert: String,
    pub(super) severity: String,
    /// The machine that the guard runs on: in one mailbox, many guards speak.
    #[serde(default)]
    pub(super) host: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) summary: String,
    pub(super) description: String,
    pub(super) since: String,
    pub(super) unreclaimed: Unreclaimed,
    pub(super) runbook: String,
}

/// What did not come back.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Unreclaimed {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) items: Vec<Item>,
}

/// One file of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) tree: String,
    pub(super) path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) encoded: bool,
    pub(super) bytes: u64,
    pub(super) cause: String,
    pub(super) detail: String,
    pub(super) holder: Option<String>,
}

impl Body {
    /// The body for an alert. `kind` is `alert.firing` or `alert.resolved`.
    pub(super) fn new(
        kind: &str,
        condition: &Condition,
        since: Timestamp,
        now: Timestamp,
        templates: &Templates,
    ) -> Self {
        let Wording { summary, description } = templates.wording(condition);
        let label = condition.subject.label();
        let labels = label.into_iter().map(|(label, name)| (label.to_owned(), name.to_owned())).collect();
        Self {
            kind: kind.to_owned(),
            timestamp: now.to_string(),
            data: Data {
                alert: condition.alert.to_string(),
                severity: condition.severity.as_str().to_owned(),
                host: host(),
                labels,
                summary,
                description,
                since: since.to_string(),
                // What was not reclaimed before it ended is no longer so, as far as is known.
                unreclaimed: if kind == RESOLVED { Unreclaimed::default() } else { unreclaimed(condition) },
                runbook: format!("{}#{}", templates.runbook(), condition.alert.as_str().to_lowercase()),
            },
        }
    }

    /// The body that tries a channel: nothing is wrong.
    pub(super) fn test(channel: &str, now: Timestamp, templates: &Templates) -> Self {
        let Wording { summary, description } = templates.wording_of_test(channel);
        Self {
            kind: TEST.to_owned(),
            timestamp: now.to_string(),
            data: Data {
                alert: "Test".to_owned(),
                severity: "info".to_owned(),
                host: host(),
                labels: BTreeMap::new(),
                summary,
                description,
                since: now.to_string(),
                unreclaimed: Unreclaimed::default(),
                runbook: templates.runbook().to_owned(),
            },
        }
    }

    /// Its JSON, with as many files as fit.
    pub(super) fn json(mut self) -> String {
        loop {
            let text = serde_json::to_string(&self).expect("texts and numbers always have a JSON form");
            if text.len() < LIMIT || self.data.unreclaimed.items.pop().is_none() {
                return text;
            }
        }
    }
}

fn host() -> String {
    one_line(&host_name(), 253)
}

fn unreclaimed(condition: &Condition) -> Unreclaimed {
    Unreclaimed {
        files: condition.unreclaimed.files,
        bytes: condition.unreclaimed.bytes.0,
        items: condition.items.iter().take(ITEMS).map(item).collect(),
    }
}

pub(super) fn item(item: &UnreclaimedItem) -> Item {
    let (path, encoded) = item.path.show();
    Item {
        tree: item.tree.to_string(),
        path,
        encoded,
        bytes: item.bytes.0,
        cause: item.word().to_owned(),
        detail: clean(&item.detail, 300),
        holder: item.holder.as_deref().map(|holder| clean(holder, 300)),
    }
}

/// The text without what could steer a terminal, a header or a reader's eye, and cut to so many bytes. Line ends stay.
pub(super) fn clean(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for c in text.chars() {
        let c = if (c.is_control() && c != '\n') || steers(c) { '\u{fffd}' } else { c };
        if out.len() + c.len_utf8() > limit {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

/// [`clean`], on one line.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    clean(text, limit).replace('\n', " ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::alert::{AlertName, Case, Subject};
    use crate::domain::deletion::{Cause, Unreclaimed as Why};
    use crate::domain::fact::Facts;
    use crate::domain::names::{TreeId, VolumeId};
    use crate::domain::path::RelPath;
    use crate::domain::recording::Tally;
    use crate::domain::settings::{Language, NotifySettings};
    use crate::domain::units::Bytes;

    pub(in super::super) fn condition(alert: AlertName, files: usize, name: &[u8]) -> Condition {
        let item = UnreclaimedItem {
            tree: TreeId::new("live"),
            path: RelPath::new(name).unwrap(),
            bytes: Bytes::gib(1),
            cause: Why::HeldOpen,
            failure: None,
            detail: String::new(),
            holder: Some("ffmpeg (pid 7)".to_owned()),
        };
        Condition {
            alert,
            severity: alert.severity(),
            subject: Subject::Volume(VolumeId::new("data")),
            case: Case::Open,
            facts: Facts::new(),
            unreclaimed: Tally { files: files as u64, bytes: Bytes::gib(files as u64) },
            items: vec![item; files],
        }
    }

    /// The body of a condition, whatever its template says.
    pub(in super::super) fn body(kind: &str, condition: &Condition, since: Timestamp, now: Timestamp) -> Body {
        let (templates, _) = Templates::new(Language::English, None);
        let mut body = Body::new(kind, condition, since, now, &templates);
        "cam-07".clone_into(&mut body.data.host);
        body.data.summary = "space does not come back".to_owned();
        body.data.description = "3 GiB\nare missing".to_owned();
        body
    }

    #[test]
    fn has_the_form_of_the_contract() {
        let condition = condition(AlertName::SpaceNotReclaimed, 1, b"a/\xff.mp4");
        let body = body("alert.firing", &condition, Timestamp::from_secs(1), Timestamp::from_secs(2));
        let expected = r#"{"type":"alert.firing","timestamp":"1970-01-01T00:00:02Z","data":{"alert":"SpaceNotReclaimed","severity":"warning","host":"cam-07","labels":{"volume":"data"},"summary":"space does not come back","description":"3 GiB\nare missing","since":"1970-01-01T00:00:01Z","unreclaimed":{"files":1,"bytes":1073741824,"items":[{"tree":"live","path":"a/%FF.mp4","encoded":true,"bytes":1073741824,"cause":"held_open","detail":"","holder":"ffmpeg (pid 7)"}]},"runbook":"docs/operations.md#spacenotreclaimed"}}"#;
        assert_eq!(body.json(), expected);
    }

    /// Files that were not reclaimed before it ended are no longer in the way.
    #[test]
    fn an_end_lists_no_files() {
        let condition = condition(AlertName::SpaceNotReclaimed, 3, b"a.mp4");
        let now = Timestamp::from_secs(2);
        for (kind, files, items) in [(FIRING, 3, 3), (RESOLVED, 0, 0)] {
            let found = body(kind, &condition, now, now).data.unreclaimed;
            assert_eq!((found.files, found.bytes, found.items.len()), (files, files << 30, items), "{kind}");
        }
    }

    #[test]
    fn a_failure_is_told_by_its_own_cause() {
        let mut condition = condition(AlertName::RecordingLocked, 1, b"a.mp4");
        (condition.items[0].cause, condition.items[0].failure) = (Why::Locked, Some(Cause::InUse));
        let now = Timestamp::from_secs(2);
        assert_eq!(body(FIRING, &condition, now, now).data.unreclaimed.items[0].cause, "in_use");
    }

    #[test]
    fn the_runbook_is_where_the_settings_say() {
        let condition = condition(AlertName::CapTripped, 0, b"a.mp4");
        let now = Timestamp::from_secs(2);
        for (runbook, expected) in [
            (None, "docs/operations.md#captripped"),
            (Some("https://wiki.lan/guard"), "https://wiki.lan/guard#captripped"),
        ] {
            let default = NotifySettings::default();
            let runbook = runbook.map_or(default.runbook.clone(), str::to_owned);
            let (templates, _) = Templates::of(&NotifySettings { runbook, ..default });
            assert_eq!(Body::new(FIRING, &condition, now, now, &templates).data.runbook, expected);
        }
    }

    /// Fault 119.
    #[test]
    fn ten_thousand_bad_files_are_one_short_body() {
        for name in [&b"short.mp4"[..], &[b'x'; 4000]] {
            let condition = condition(AlertName::DeletionFailing, 10_000, name);
            let now = Timestamp::from_secs(2);
            let mut body = body("alert.firing", &condition, now, now);
            body.data.description = clean(&"\"".repeat(100_000), 8000);
            let text = body.json();
            assert!(text.len() < LIMIT, "{}", text.len());
            let body: Body = serde_json::from_str(&text).unwrap();
            assert_eq!(body.data.unreclaimed.files, 10_000);
            assert!(body.data.unreclaimed.items.len() <= ITEMS);
        }
    }

    #[test]
    fn texts_are_cut_between_characters_and_cannot_steer() {
        for (text, limit, expected) in [
            ("plain", 99, "plain"),
            ("a\r\nb\u{1b}[31m", 99, "a\u{fffd}\nb\u{fffd}[31m"),
            ("x\u{202e}4pm", 99, "x\u{fffd}4pm"),
            ("磁盘已满", 7, "磁盘…"),
        ] {
            assert_eq!(clean(text, limit), expected);
        }
        assert_eq!(one_line("a\nb", 9), "a b");
    }
}
