//! How an entry stands on disk: a frame of length, CRC-32, batch, number, time and chain hash, around a JSON text.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::deletion::{Attempt, Cause, Holder, RuleKind, Seq, Target, Trigger};
use crate::domain::journal::{Entry, Intent, NoteKind, Recorded};
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::path::RelPath;
use crate::domain::units::{Bytes, Timestamp};

/// Length and CRC.
const HEAD: usize = 8;
/// Batch, number, time, hash.
const FIXED: usize = 4 + 8 + 8 + 32;
/// No entry is longer: a path is, in the worst case, 4 KiB of bytes that are each written `%XX`.
const LONGEST: usize = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Intent(IntentShape),
    Outcome(OutcomeShape),
    Note(NoteShape),
}

#[derive(Serialize, Deserialize)]
struct IntentShape {
    tree: String,
    path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    encoded: bool,
    stream: String,
    /// Milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<i64>,
    bytes: u64,
    inode: u64,
    fingerprint: u64,
    rule: String,
    trigger: String,
    reason: String,
    who: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<u64>,
    run: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_of: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct OutcomeShape {
    intent: u64,
    #[serde(flatten)]
    attempt: AttemptShape,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum AttemptShape {
    Verified { freed: u64, shared: u64, open: bool },
    AlreadyGone,
    Kept { why: String },
    Failed { cause: String, error: String, holder: Option<(u32, String)> },
}

#[derive(Serialize, Deserialize)]
struct NoteShape {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tree: Option<String>,
    who: String,
    bytes: u64,
    number: u64,
    text: String,
}

impl From<&Entry> for Shape {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Intent(intent) => {
                let target = &intent.target;
                let (path, encoded) = target.path.show();
                Self::Intent(IntentShape {
                    tree: target.tree.to_string(),
                    path,
                    encoded,
                    stream: target.stream.clone(),
                    recorded: target.recorded.map(Timestamp::millis),
                    bytes: target.bytes.0,
                    inode: target.inode,
                    fingerprint: target.fingerprint,
                    rule: target.rule.to_string(),
                    trigger: target.trigger.to_string(),
                    reason: target.reason.clone(),
                    who: intent.who.clone(),
                    job: intent.job,
                    run: intent.run,
                    retry_of: intent.retry_of.map(|seq| seq.0),
                })
            }
            Entry::Outcome { intent, attempt } => {
                let attempt = match attempt {
                    Attempt::Verified { freed, shared, open } => {
                        AttemptShape::Verified { freed: freed.0, shared: shared.0, open: *open }
                    }
                    Attempt::AlreadyGone => AttemptShape::AlreadyGone,
                    Attempt::Kept { why } => AttemptShape::Kept { why: why.clone() },
                    Attempt::Failed { cause, error, holder } => AttemptShape::Failed {
                        cause: cause.to_string(),
                        error: error.clone(),
                        holder: holder.as_ref().map(|holder| (holder.pid, holder.name.clone())),
                    },
                };
                Self::Outcome(OutcomeShape { intent: intent.0, attempt })
            }
            Entry::Note { kind, volume, tree, who, bytes, number, text } => Self::Note(NoteShape {
                kind: kind.to_string(),
                volume: volume.as_ref().map(ToString::to_string),
                tree: tree.as_ref().map(ToString::to_string),
                who: who.clone(),
                bytes: bytes.0,
                number: *number,
                text: text.clone(),
            }),
        }
    }
}

impl Shape {
    /// The entry; `None` if it says what this version does not know.
    fn entry(self) -> Option<Entry> {
        Some(match self {
            Self::Intent(i) => Entry::Intent(Intent {
                target: Target {
                    tree: TreeId::new(&i.tree),
                    path: RelPath::parse(&i.path, i.encoded).ok()?,
                    stream: i.stream,
                    recorded: i.recorded.map(Timestamp::from_millis),
                    bytes: Bytes(i.bytes),
                    inode: i.inode,
                    fingerprint: i.fingerprint,
                    rule: RuleKind::from_word(&i.rule)?,
                    trigger: Trigger::from_word(&i.trigger)?,
                    reason: i.reason,
                },
                who: i.who,
                job: i.job,
                run: i.run,
                retry_of: i.retry_of.map(Seq),
            }),
            Self::Outcome(o) => {
                let attempt = match o.attempt {
                    AttemptShape::Verified { freed, shared, open } => {
                        Attempt::Verified { freed: Bytes(freed), shared: Bytes(shared), open }
                    }
                    AttemptShape::AlreadyGone => Attempt::AlreadyGone,
                    AttemptShape::Kept { why } => Attempt::Kept { why },
                    AttemptShape::Failed { cause, error, holder } => Attempt::Failed {
                        cause: Cause::from_word(&cause)?,
                        error,
                        holder: holder.map(|(pid, name)| Holder { pid, name }),
                    },
                };
                Entry::Outcome { intent: Seq(o.intent), attempt }
            }
            Self::Note(n) => Entry::Note {
                kind: NoteKind::from_word(&n.kind)?,
                volume: n.volume.as_deref().map(VolumeId::new),
                tree: n.tree.as_deref().map(TreeId::new),
                who: n.who,
                bytes: Bytes(n.bytes),
                number: n.number,
                text: n.text,
            },
        })
    }
}

/// The chain: what an entry's hash is made of.
fn link(before: &[u8; 32], seq: Seq, at: Timestamp, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(seq.0.to_le_bytes());
    hash.update(at.millis().to_le_bytes());
    hash.update(body);
    hash.finalize().into()
}

/// Appends the frame of an entry to `out`; returns its hash.
pub(super) fn encode(
    out: &mut Vec<u8>,
    before: &[u8; 32],
    batch: u32,
    seq: Seq,
    at: Timestamp,
    entry: &Entry,
) -> [u8; 32] {
    let body = serde_json::to_vec(&Shape::from(entry)).expect("its shape holds nothing that JSON cannot");
    let hash = link(before, seq, at, &body);
    let mut payload = Vec::with_capacity(FIXED + body.len());
    payload.extend_from_slice(&batch.to_le_bytes());
    payload.extend_from_slice(&seq.0.to_le_bytes());
    payload.extend_from_slice(&at.millis().to_le_bytes());
    payload.extend_from_slice(&hash);
    payload.extend_from_slice(&body);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
    hash
}

/// Whether an entry may concern what `mention` names, by its text alone, which is quicker than to read it: an intent that mentions it, the
/// outcome of one in `open`, a note that mentions it, or one that is not about single paths.
pub(super) fn may_concern(body: &[u8], mention: &[u8], open: impl Fn(Seq) -> bool) -> bool {
    let mentions = || mention.is_empty() || body.windows(mention.len()).any(|part| part == mention);
    if let Some(rest) = body.strip_prefix(br#"{"outcome":{"intent":"#) {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        let number = digits.fold(0u64, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
        return open(Seq(number));
    }
    if body.starts_with(br#"{"intent":"#) {
        return mentions();
    }
    let of_paths = [NoteKind::Rows, NoteKind::Pruned, NoteKind::Restored, NoteKind::HoldMade, NoteKind::HoldEnded];
    let kind = body.strip_prefix(br#"{"note":{"kind":""#);
    match kind {
        Some(kind) if of_paths.iter().any(|word| kind.starts_with(word.as_str().as_bytes())) => mentions(),
        Some(_) | None => true,
    }
}

/// What stands at a place of a segment.
pub(super) enum Framed {
    /// A frame whose CRC is right.
    Whole {
        /// The batch it was synced with.
        batch: u32,
        /// The entry, if this version knows what it says.
        recorded: Box<Option<Recorded>>,
        /// It is none that was wanted, and was not read.
        passed: bool,
        /// Its number.
        seq: Seq,
        /// Its hash.
        hash: [u8; 32],
        /// The hash follows from the one before it.
        chained: bool,
        /// Bytes that the frame takes.
        length: usize,
    },
    /// Zeros: nothing was written here yet.
    End,
    /// Neither.
    Broken,
}

/// Reads the frame at the beginning of `bytes`, which follows an entry with the hash `before`.
pub(super) fn decode(bytes: &[u8], before: &[u8; 32]) -> Framed {
    decode_if(bytes, before, &mut |_, _| true)
}

/// The same; what an entry says is read only if it is wanted by its number and its text.
pub(super) fn decode_if(bytes: &[u8], before: &[u8; 32], wanted: &mut dyn FnMut(Seq, &[u8]) -> bool) -> Framed {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes);
    let Some(length) = word(0) else { return Framed::End };
    if length == 0 {
        return Framed::End;
    }
    let length = length as usize;
    if !(FIXED..=FIXED + LONGEST).contains(&length) {
        return Framed::Broken;
    }
    let (Some(crc), Some(payload)) = (word(4), bytes.get(HEAD..HEAD + length)) else { return Framed::Broken };
    if crc32fast::hash(payload) != crc {
        return Framed::Broken;
    }
    let eight = |at: usize| <[u8; 8]>::try_from(&payload[at..at + 8]).expect("the length was checked");
    let batch = u32::from_le_bytes(payload[..4].try_into().expect("the length was checked"));
    let seq = Seq(u64::from_le_bytes(eight(4)));
    let at = Timestamp::from_millis(i64::from_le_bytes(eight(12)));
    let hash: [u8; 32] = payload[20..52].try_into().expect("the length was checked");
    let body = &payload[FIXED..];
    let passed = !wanted(seq, body);
    let entry = if passed { None } else { serde_json::from_slice::<Shape>(body).ok().and_then(Shape::entry) };
    Framed::Whole {
        batch,
        passed,
        recorded: Box::new(entry.map(|entry| Recorded { seq, at, hash, entry })),
        seq,
        hash,
        chained: link(before, seq, at, body) == hash,
        length: HEAD + length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word<T: Copy + std::fmt::Debug>(all: &'static [T]) -> impl Strategy<Value = T> {
        proptest::sample::select(all)
    }

    fn path() -> impl Strategy<Value = RelPath> {
        proptest::collection::vec(any::<u8>(), 1..60).prop_filter_map("no path", |bytes| RelPath::new(&bytes).ok())
    }

    fn attempt() -> impl Strategy<Value = Attempt> {
        prop_oneof![
            (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(f, s, open)| Attempt::Verified {
                freed: Bytes(f),
                shared: Bytes(s),
                open
            }),
            Just(Attempt::AlreadyGone),
            any::<String>().prop_map(|why| Attempt::Kept { why }),
            (word(Cause::ALL), any::<String>(), proptest::option::of((any::<u32>(), any::<String>()))).prop_map(
                |(cause, error, holder)| Attempt::Failed {
                    cause,
                    error,
                    holder: holder.map(|(pid, name)| Holder { pid, name })
                }
            ),
        ]
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let intent =
            (path(), any::<[u64; 4]>(), word(RuleKind::ALL), word(Trigger::ALL), any::<String>(), any::<Option<u64>>())
                .prop_map(|(path, [bytes, inode, fingerprint, run], rule, trigger, text, number)| {
                    let target = Target {
                        tree: TreeId::new("t"),
                        path,
                        stream: text.clone(),
                        recorded: number.map(|number| Timestamp::from_millis(number.cast_signed())),
                        bytes: Bytes(bytes),
                        inode,
                        fingerprint,
                        rule,
                        trigger,
                        reason: text.clone(),
                    };
                    Entry::Intent(Intent { target, who: text, job: number, run, retry_of: number.map(Seq) })
                });
        let outcome =
            (any::<u64>(), attempt()).prop_map(|(intent, attempt)| Entry::Outcome { intent: Seq(intent), attempt });
        let note = (word(NoteKind::ALL), any::<String>(), any::<u64>()).prop_map(|(kind, text, number)| Entry::Note {
            kind,
            volume: Some(VolumeId::new(&text)),
            tree: None,
            who: text.clone(),
            bytes: Bytes(number),
            number,
            text,
        });
        prop_oneof![intent, outcome, note]
    }

    #[test]
    fn what_may_concern_a_stream_is_told_by_the_text() {
        let body = |entry: &Entry| serde_json::to_vec(&Shape::from(entry)).unwrap();
        let concerns = |entry: &Entry| may_concern(&body(entry), b"cam-7", |seq| seq == Seq(5));
        let intent = |stream: &str| {
            let path = RelPath::new(format!("{stream}/2026-11-22/a.mp4").as_bytes()).unwrap();
            let target = Target {
                tree: TreeId::new("t"),
                path,
                stream: stream.to_owned(),
                bytes: Bytes(1),
                inode: 2,
                fingerprint: 3,
                rule: RuleKind::MaxAge,
                trigger: Trigger::Retention,
                reason: String::new(),
                recorded: None,
            };
            Entry::Intent(Intent { target, who: "guard".to_owned(), job: None, run: 1, retry_of: None })
        };
        let outcome = |intent| Entry::Outcome { intent: Seq(intent), attempt: Attempt::AlreadyGone };
        for (entry, expected) in [
            (intent("live/cam-7"), true),
            (intent("live/cam-8"), false),
            (outcome(5), true),
            (outcome(55), false),
            (Entry::note(NoteKind::Started, "version 1"), true),
            (Entry::note(NoteKind::RunEnded, "done"), true),
            (Entry::note(NoteKind::Rows, "live/cam-8/a.mp4"), false),
            (Entry::note(NoteKind::Rows, "live/cam-7/a.mp4"), true),
            (Entry::note(NoteKind::Pruned, "live/cam-8"), false),
        ] {
            assert_eq!(concerns(&entry), expected, "{entry:?}");
        }
    }

    proptest! {
        #[test]
        fn every_entry_survives_a_round_trip(entry in entry(), at in any::<i64>(), seq in any::<u64>()) {
            let (seq, at) = (Seq(seq), Timestamp::from_millis(at));
            let mut out = Vec::new();
            let hash = encode(&mut out, &[7; 32], 9, seq, at, &entry);
            match decode(&out, &[7; 32]) {
                Framed::Whole { batch: 9, recorded, chained: true, length, .. } => {
                    prop_assert_eq!(length, out.len());
                    prop_assert_eq!(*recorded, Some(Recorded { seq, at, hash, entry }));
                }
                Framed::Whole { .. } | Framed::End | Framed::Broken => prop_assert!(false),
            }
            // Any other bit, and it is no longer a frame.
            let last = out.len() - 1;
            out[last] ^= 1;
            prop_assert!(matches!(decode(&out, &[7; 32]), Framed::Broken));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &[0; 32]);
        }
    }
}
