//! What breaks between the guard and its store.

use storage_guard::archive::{ColdError, ColdStore as _};
use storage_guard::domain::cause::chain;

use super::between::On::{AfterWriting, Any, Complete, Delete, Head, Put, Range};
use super::between::What::{
    Checksums, CutAnswer, CutUpload, FlippedAnswer, FlippedUpload, NoChecksum, Refused, Unanswered,
};
use super::between::{ALWAYS, Fault, fault};
use super::{LARGE, SMALL, Site, content, digest, get, path, put_all};
use crate::support::moto::KEY;

/// How a copy ends while something is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Verified,
    Unusable,
    Full,
    Differs,
    Failed,
}

fn end(error: &ColdError) -> Ends {
    match error {
        ColdError::Unusable(_) => Ends::Unusable,
        ColdError::Full(_) => Ends::Full,
        ColdError::Differs { .. } => Ends::Differs,
        ColdError::Failed { .. } => Ends::Failed,
        ColdError::Source(_) | ColdError::Taken { .. } | ColdError::Absent(_) => panic!("{}", chain(error)),
    }
}

/// Copies under a fault, and again without it.
fn check(site: &Site, name: &str, size: usize, faults: &[Fault], expected: Ends) {
    let archive = site.archive();
    let key = format!("live/{}.mp4", name.replace(' ', "-"));
    let (at, content) = (path(&key), content(name.len() as u8, size));
    site.between.breaks(faults);
    let first = put_all(&archive, &at, &content);
    let (ended, said) = match &first {
        Ok(copied) => {
            assert_eq!(*copied, (digest(&content), size as u64), "{name}");
            // Whatever was called a copy is one, as the store itself has it.
            assert_eq!(site.content(&key).as_deref(), Some(&content[..]), "{name}");
            (Ends::Verified, String::new())
        }
        Err(error) => (end(error), chain(error)),
    };
    assert_eq!(ended, expected, "{name}: {said}");
    assert!(!said.contains(KEY.0) && !said.contains(KEY.1), "{name}: {said}");
    let there = site.content(&key);
    match expected {
        // A wrong copy does not stay.
        Ends::Differs => assert_eq!(there, None, "{name}"),
        Ends::Verified | Ends::Unusable | Ends::Full | Ends::Failed => {
            assert!(there.is_none_or(|there| there == content), "{name}: a wrong copy is there");
        }
    }
    site.between.breaks(&[]);
    archive.tidy().unwrap();
    let second = put_all(&archive, &at, &content).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
    assert_eq!(second, (digest(&content), size as u64), "{name}");
    assert_eq!(site.content(&key).as_deref(), Some(&content[..]), "{name}");
    assert_eq!(get(&archive, &at).unwrap(), content, "{name}");
    assert_eq!(site.moto.uploads("cold"), 0, "{name}");
}

#[test]
#[ignore = "needs moto"]
fn a_small_copy_is_proven_or_is_none() {
    let site = Site::new();
    let busy = Refused(503, "SlowDown");
    let denied = Refused(403, "AccessDenied");
    for (name, faults, expected) in [
        ("busy for a while", vec![fault(Any, busy, 3)], Ends::Verified),
        ("busy", vec![fault(Any, busy, ALWAYS)], Ends::Unusable),
        ("busy after the look", vec![fault(Put, busy, ALWAYS)], Ends::Unusable),
        ("denied", vec![fault(Any, denied, ALWAYS)], Ends::Unusable),
        ("denied to write", vec![fault(Put, denied, ALWAYS)], Ends::Unusable),
        ("full", vec![fault(Put, Refused(507, "XMinioStorageFull"), ALWAYS)], Ends::Full),
        ("conditions unknown", vec![fault(Put, Refused(501, "NotImplemented"), 1)], Ends::Verified),
        ("cut once", vec![fault(Put, CutUpload, 1)], Ends::Verified),
        ("cut", vec![fault(Put, CutUpload, ALWAYS)], Ends::Unusable),
        ("late once", vec![fault(Put, Unanswered, 1)], Ends::Verified),
        ("late", vec![fault(Put, Unanswered, ALWAYS)], Ends::Verified),
        ("late, then gone", vec![fault(Put, Unanswered, ALWAYS), fault(AfterWriting, busy, ALWAYS)], Ends::Unusable),
        ("flipped", vec![fault(Put, FlippedUpload, 1)], Ends::Differs),
        ("flipped, and compared", vec![fault(Any, Checksums, ALWAYS), fault(Put, FlippedUpload, 1)], Ends::Failed),
        ("flipped on the way back", vec![fault(Range, FlippedAnswer, ALWAYS)], Ends::Differs),
        ("cut on the way back, once", vec![fault(Range, CutAnswer, 1)], Ends::Verified),
    ] {
        check(&site, name, SMALL, &faults, expected);
    }
    check(&site, "empty", 0, &[], Ends::Verified);
    check(&site, "a part exactly", 8 << 20, &[], Ends::Verified);
}

#[test]
#[ignore = "needs moto"]
fn a_large_copy_is_proven_or_is_none() {
    let site = Site::new();
    let busy = Refused(503, "SlowDown");
    let denied = Refused(403, "AccessDenied");
    for (name, faults, expected) in [
        ("busy for a while", vec![fault(Any, busy, 3)], Ends::Verified),
        ("denied to write", vec![fault(Put, denied, ALWAYS)], Ends::Unusable),
        ("denied to write or abort", vec![fault(Put, denied, ALWAYS), fault(Delete, denied, ALWAYS)], Ends::Unusable),
        ("cut once", vec![fault(Put, CutUpload, 1)], Ends::Verified),
        ("cut", vec![fault(Put, CutUpload, ALWAYS)], Ends::Unusable),
        ("late once", vec![fault(Complete, Unanswered, 1)], Ends::Verified),
        ("late", vec![fault(Complete, Unanswered, ALWAYS)], Ends::Verified),
        (
            "late, then gone",
            vec![fault(Complete, Unanswered, ALWAYS), fault(AfterWriting, busy, ALWAYS)],
            Ends::Unusable,
        ),
        ("flipped", vec![fault(Put, FlippedUpload, 1)], Ends::Differs),
        ("flipped, and compared", vec![fault(Any, Checksums, ALWAYS), fault(Put, FlippedUpload, 1)], Ends::Failed),
        ("no checksum", vec![fault(Head, NoChecksum, ALWAYS)], Ends::Verified),
        (
            "no checksum, and flipped",
            vec![fault(Head, NoChecksum, ALWAYS), fault(Put, FlippedUpload, 1)],
            Ends::Differs,
        ),
    ] {
        check(&site, name, LARGE, &faults, expected);
    }
}

#[test]
#[ignore = "needs moto"]
fn what_the_store_has_kept_is_found_and_not_sent_again() {
    let site = Site::new();
    let archive = site.archive();
    let busy = Refused(503, "SlowDown");
    for (name, size, late) in [("small", SMALL, Put), ("large", LARGE, Complete)] {
        let (at, content) = (path(name), content(3, size));
        site.between.breaks(&[fault(late, Unanswered, ALWAYS), fault(AfterWriting, busy, ALWAYS)]);
        assert!(matches!(put_all(&archive, &at, &content), Err(ColdError::Unusable(_))), "{name}");
        assert!(site.content(name).is_some(), "{name}");
        for checksums in [vec![], vec![fault(Any, Checksums, ALWAYS)], vec![fault(Any, NoChecksum, ALWAYS)]] {
            site.between.breaks(&checksums);
            assert_eq!(put_all(&archive, &at, &content).unwrap().0, digest(&content), "{name}");
            assert_eq!((site.between.seen("PUT", ""), site.between.seen("POST", "")), (0, 0), "{name}");
        }
    }
}

#[test]
#[ignore = "needs moto"]
fn a_checksum_that_the_store_says_spares_reading_back() {
    let site = Site::new();
    let archive = site.archive();
    site.between.breaks(&[fault(Any, Checksums, ALWAYS)]);
    // The first answer that nothing is there asks once whether the bucket is.
    put_all(&archive, &path("first"), b"1").unwrap();
    for (name, size) in [("small", SMALL), ("large", LARGE)] {
        site.between.breaks(&[fault(Any, Checksums, ALWAYS)]);
        put_all(&archive, &path(name), &content(1, size)).unwrap();
        assert_eq!((site.between.seen("GET", ""), site.between.seen("HEAD", "")), (0, 2), "{name}");
    }
}

#[test]
#[ignore = "needs moto"]
fn a_refusal_is_not_tried_again() {
    let site = Site::new();
    site.between.breaks(&[fault(Any, Refused(403, "AccessDenied"), ALWAYS)]);
    let error = put_all(&site.archive(), &path("a"), b"1").unwrap_err();
    assert!(chain(&error).contains("403"), "{}", chain(&error));
    assert_eq!(site.between.seen("HEAD", ""), 1);
}

#[test]
#[ignore = "needs moto"]
fn a_wrong_copy_that_cannot_be_removed_is_never_taken_for_one() {
    let site = Site::new();
    let (archive, at, content) = (site.archive(), path("a"), content(9, SMALL));
    let denied = Refused(403, "AccessDenied");
    site.between.breaks(&[fault(Put, FlippedUpload, 1), fault(Delete, denied, ALWAYS)]);
    let said = chain(&put_all(&archive, &at, &content).unwrap_err());
    assert!(said.contains("it is still there") && said.contains("AccessDenied"), "{said}");
    site.between.breaks(&[]);
    assert!(matches!(put_all(&archive, &at, &content), Err(ColdError::Taken { .. })));
    assert!(matches!(get(&archive, &at), Err(ColdError::Differs { .. })), "its own attribute says otherwise");
}

#[test]
#[ignore = "needs moto"]
fn a_copy_that_does_not_come_back_whole_is_an_error() {
    let site = Site::new();
    let archive = site.archive();
    for (name, size) in [("small", SMALL), ("large", LARGE)] {
        let (at, content) = (path(name), content(5, size));
        site.between.breaks(&[]);
        put_all(&archive, &at, &content).unwrap();
        for (faults, expected) in [
            (vec![fault(Range, CutAnswer, 1)], Ends::Verified),
            (vec![fault(Range, CutAnswer, ALWAYS)], Ends::Unusable),
            (vec![fault(Range, FlippedAnswer, 1)], Ends::Differs),
            (vec![fault(Range, Refused(503, "SlowDown"), 2)], Ends::Verified),
            (vec![fault(Range, Refused(403, "AccessDenied"), ALWAYS)], Ends::Unusable),
        ] {
            site.between.breaks(&faults);
            match get(&archive, &at) {
                Ok(back) => assert_eq!((back == content, expected), (true, Ends::Verified), "{name} {faults:?}"),
                Err(error) => assert_eq!(end(&error), expected, "{name} {faults:?}: {}", chain(&error)),
            }
        }
    }
}
