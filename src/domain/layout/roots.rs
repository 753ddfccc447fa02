//! Where the recordings of a stream can lie, so that not the whole tree is read for them.

use jiff::civil::Date;

use super::kind::{Layout, LayoutKind};
use crate::domain::names::StreamId;
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;

impl Layout {
    /// The directories below which all recordings of a stream lie, none within another; `None` if that can be anywhere in the tree.
    #[must_use]
    pub fn roots(&self, stream: &StreamId) -> Option<Vec<RelPath>> {
        if self.kind == LayoutKind::Archive {
            let mut all = Vec::new();
            for (name, layout) in &self.shelves {
                let below = layout.roots(stream)?;
                let below = below.iter().map(|root| [name.as_bytes(), b"/", root.as_bytes()].concat());
                all.extend(below.filter_map(|root| RelPath::new(&root).ok()));
            }
            return Some(all);
        }
        let parts: Vec<&[u8]> = stream.as_str().as_bytes().split(|byte| *byte == b'/').collect();
        let places: Vec<Vec<&[u8]>> = match self.kind {
            LayoutKind::Auto => Vec::new(),
            LayoutKind::Frigate | LayoutKind::Template | LayoutKind::Archive => return None,
            LayoutKind::Hls | LayoutKind::Mediamtx | LayoutKind::Dated | LayoutKind::Plain => vec![parts],
            LayoutKind::Zlmediakit => {
                let record: &[u8] = b"record";
                let below = [&[record][..], &parts].concat();
                let of_vhost = (parts.len() >= 3).then(|| [&parts[..1], &[record], &parts[1..]].concat());
                [Some(parts), Some(below), of_vhost].into_iter().flatten().collect()
            }
        };
        let mut places: Vec<RelPath> =
            places.into_iter().filter_map(|parts| RelPath::new(&parts.join(&b'/')).ok()).collect();
        places.sort();
        let all = places.clone();
        places.retain(|place| !all.iter().any(|other| is_within(place, other)));
        Some(places)
    }

    /// The day of a recording: the date that its directory bears, else the date of its time where the cameras are.
    #[must_use]
    pub fn day_of(&self, path: &RelPath, recorded: Timestamp) -> Option<Date> {
        if let Some((_, layout, rest)) = self.shelf(path) {
            return layout.day_of(&rest?, recorded);
        }
        let borne = path.split().0.and_then(|dir| self.date_of(&dir));
        borne.or_else(|| {
            let at = jiff::Timestamp::from_millisecond(recorded.millis()).ok()?;
            Some(at.to_zoned(self.zone.clone()).date())
        })
    }

    /// Whether no recording of another day than the one that this directory bears lies in it or below. Templates may put anything there.
    #[must_use]
    pub fn of_one_day(&self) -> bool {
        match self.kind {
            LayoutKind::Auto | LayoutKind::Mediamtx | LayoutKind::Plain | LayoutKind::Template => false,
            LayoutKind::Zlmediakit | LayoutKind::Hls | LayoutKind::Frigate | LayoutKind::Dated => true,
            LayoutKind::Archive => self.shelves.iter().all(|(_, layout)| layout.of_one_day()),
        }
    }
}

/// Whether `place` lies below `other`.
fn is_within(place: &RelPath, other: &RelPath) -> bool {
    place.as_bytes().strip_prefix(other.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn check(layout: &str, stream: &str, expected: Option<&[&str]>) {
        let layout = Layout::parse(layout, &["mp4".to_owned()], TimeZone::UTC).unwrap();
        let roots = layout.roots(&StreamId::new(stream));
        let shown = roots.map(|roots| roots.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(shown, expected.map(|all| all.iter().map(|one| (*one).to_owned()).collect()), "{stream}");
    }

    #[test]
    fn the_places_of_a_stream_are_those_that_the_grammar_allows() {
        check("zlmediakit", "live/cam", Some(&["live/cam", "record/live/cam"]));
        check(
            "zlmediakit",
            "vhost/live/cam",
            Some(&["record/vhost/live/cam", "vhost/live/cam", "vhost/record/live/cam"]),
        );
        check("zlmediakit", "a/record/record", Some(&["a/record/record", "record/a/record/record"]));
        check("hls", "live/cam", Some(&["live/cam"]));
        check("plain", "cam", Some(&["cam"]));
        check("dated", "site/cam", Some(&["site/cam"]));
        check("frigate", "cam", None);
        check("{stream}/%Y-%m-%d/%H.%M.%S.mp4", "cam", None);
    }

    #[test]
    fn an_archive_reads_each_tree_below_its_name() {
        let parse = |text: &str| Layout::parse(text, &["mp4".to_owned()], TimeZone::UTC).unwrap();
        let (live, hls) = (parse("zlmediakit"), parse("hls"));
        let archive = Layout::of_archive([("live", &live), ("segments", &hls)]);
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let film = "live/record/live/cam/2026-11-22/2026-11-22-12-21-41-0.mp4";
        let found = archive.recognise(&path(film), 1).unwrap();
        assert_eq!(Some(found), live.recognise(&path(&film["live/".len()..]), 1));
        for nowhere in ["other/live/cam/2026-11-22/2026-11-22-12-21-41-0.mp4", "live", "a.mp4", &film["live/".len()..]]
        {
            assert_eq!(archive.recognise(&path(nowhere), 1), None, "{nowhere}");
        }
        let day = path("segments/live/cam/2026-11-22");
        assert!(archive.is_unit(&day) && !archive.is_unit(&path("live/live/cam/2026-11-22")));
        assert_eq!(archive.unit_of(&path("segments/live/cam/2026-11-22/12/21-41_7.ts")), Some(day.clone()));
        assert_eq!(archive.stream_of_unit(&day).as_deref(), Some("live/cam"));
        assert_eq!(archive.date_of(&day), hls.date_of(&path("live/cam/2026-11-22")));
        let roots = archive.roots(&StreamId::new("live/cam")).unwrap();
        let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
        assert_eq!(roots, ["live/live/cam", "live/record/live/cam", "segments/live/cam"]);
        assert!(Layout::parse("archive", &[], TimeZone::UTC).is_err(), "it is no layout that anybody names");
    }

    /// Whatever path the grammar reads as a recording of a stream lies below one of the stream's places.
    #[test]
    fn no_recording_of_a_stream_lies_elsewhere() {
        for (layout, path) in [
            ("zlmediakit", "live/cam/2026-11-22/2026-11-22-12-21-41-0.mp4"),
            ("zlmediakit", "record/live/cam/2026-11-22/2026-11-22-12-21-41-0.mp4"),
            ("zlmediakit", "host/record/live/cam/2026-11-22/2026-11-22-12-21-41-0.mp4"),
            ("zlmediakit", "record/cam/2026-11-22/2026-11-22-12-21-41-0.mp4"),
            ("zlmediakit", "a/b/c/d/2026-11-22/12-21-41.mp4"),
            ("hls", "live/cam/2026-11-22/12/21-41_7.ts"),
            ("mediamtx", "site/cam/2026-11-22_12-21-41-000001.mp4"),
            ("dated", "site/cam/2026/11/22/a.mp4"),
            ("dated", "site/cam/2026-11-22/deep/er/a.mp4"),
            ("plain", "site/cam/a.mp4"),
        ] {
            let layout = Layout::parse(layout, &["mp4".to_owned()], TimeZone::UTC).unwrap();
            let path = RelPath::new(path.as_bytes()).unwrap();
            let stream = StreamId::new(&layout.recognise(&path, 1).unwrap_or_else(|| panic!("{path}")).stream);
            let roots = layout.roots(&stream).unwrap();
            assert!(roots.iter().any(|root| is_within(&path, root)), "{path}: {roots:?}");
        }
    }
}
