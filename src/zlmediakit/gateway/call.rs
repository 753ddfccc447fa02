//! Whose call it is, by its path.

use percent_encoding::percent_decode;

/// The call that is ours, in lower case: the media server finds its calls whatever their case.
const OURS: &[u8] = b"/index/api/deleterecorddirectory";
/// The part of it that no path of anything else holds.
const TELLING: &[u8] = b"deleterecorddirectory";
/// A path that is encoded more often than this is nobody's.
const LAYERS: usize = 8;

/// Whose call a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// The media server's.
    Theirs,
    /// Ours: recordings are to be deleted.
    Deletion,
    /// It may be either, depending on how it is read.
    Unclear,
}

/// Tells by the path, without its query, as it stands in the request.
pub(super) fn call(path: &str) -> Call {
    let mut read = lower(path.as_bytes());
    if lower(&decoded(&read)) == OURS {
        return Call::Deletion;
    }
    for _ in 0..LAYERS {
        if read.windows(TELLING.len()).any(|part| part == TELLING) {
            return Call::Unclear;
        }
        let next = lower(&decoded(&read));
        if next == read {
            return Call::Theirs;
        }
        read = next;
    }
    Call::Unclear
}

/// A path that holds control characters once it is decoded: no program needs one, and each would read it in its own way.
pub(super) fn controls(path: &str) -> bool {
    decoded(path.as_bytes()).iter().any(u8::is_ascii_control)
}

fn decoded(path: &[u8]) -> Vec<u8> {
    percent_decode(path).collect()
}

fn lower(path: &[u8]) -> Vec<u8> {
    path.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Call) {
        assert_eq!(call(path), expected, "{path}");
    }

    #[test]
    fn no_spelling_of_the_call_passes_for_another() {
        for path in [
            "/index/api/deleteRecordDirectory",
            "/INDEX/API/DELETERECORDDIRECTORY",
            "/index/api/delete%52ecordDirectory",
            "/index/api/%64%65%6c%65%74%65%72%65%63%6f%72%64%64%69%72%65%63%74%6f%72%79",
            "/%69ndex/api/deleteRecordDirector%59",
            "%2Findex%2fapi/deleteRecordDirectory",
        ] {
            check(path, Call::Deletion);
        }
        for path in [
            "/index/api/deleteRecordDirectory/",
            "//index/api/deleteRecordDirectory",
            "/index//api/deleteRecordDirectory",
            "/index/./api/deleteRecordDirectory",
            "/x/../index/api/deleteRecordDirectory",
            "/index/api/deleteRecordDirectory%20",
            "/index/api/deleteRecordDirectory;x",
            "/index/api/deleteRecordDirectory%00",
            "/index/api/deleteRecordDirectory%3fx",
            "/index/api/delete%2552ecordDirectory",
            "/index/api/delete%252552ecordDirectory",
            "/index%5capi%5cdeleteRecordDirectory",
            "/proxy/deleteRecordDirectory.php",
            "deleteRecordDirectory",
        ] {
            check(path, Call::Unclear);
        }
        let many = (0..20).fold("/index/api/%64eleteRecordDirectory".to_owned(), |path, _| path.replace('%', "%25"));
        check(&many, Call::Unclear);
    }

    #[test]
    fn all_else_is_the_media_servers() {
        for path in [
            "/",
            "/index/api/getMediaList",
            "/index/api/deleteSnapDirectory",
            "/index/api/deleteRecordDirector",
            "/index/api/deleteRecord/Directory",
            "/live/cam.live.flv",
            "/record/live/a%20b/2026-11-22/x.mp4",
            "/50%",
            "/%zz%2",
            "/%E9%97%A8",
        ] {
            check(path, Call::Theirs);
        }
        assert!(controls("/a%00b") && controls("/a%0d%0ab") && controls("/%7f"));
        assert!(!controls("/a%20b") && !controls("/%E9%97%A8") && !controls("/50%"));
    }
}
