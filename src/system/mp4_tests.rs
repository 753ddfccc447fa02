use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;
use crate::system::WritableDir as _;
use crate::testkit::mp4::{Film, parcel};
use crate::testkit::{Disk, FakeDir, Power, Strike};

/// What is found in a file of this content and size, and how many reads it took.
fn look(content: &[u8], size: u64, strikes: &[(u64, Strike)]) -> (Mp4, u64) {
    let disk = Disk::new(false, true, false);
    let path = RelPath::new(b"a.mp4").unwrap();
    let inode = disk.create(&path, 1, Timestamp::default());
    disk.fill(inode, content);
    disk.alter(inode, |file| file.identity.size = size);
    let power = Power::new(strikes.iter().copied().collect::<BTreeMap<_, _>>());
    let tree = FakeDir::new(disk, Arc::clone(&power), Path::new("/tree"));
    let file = tree.open(&path).unwrap().unwrap();
    let before = power.calls();
    let found = examine(file.as_ref(), size);
    (found, power.calls() - before)
}

fn check(content: &[u8], playable: Playable, millis: Option<u64>) {
    let (found, reads) = look(content, content.len() as u64, &[]);
    let expected = (playable, millis.map(Duration::from_millis));
    assert_eq!((found.playable, found.duration), expected, "{}", content.escape_ascii());
    assert!(reads <= 64, "{reads} reads");
}

fn film() -> Film {
    Film::new(Duration::from_millis(6966))
}

#[test]
fn a_finished_recording_is_playable_and_says_how_long_it_is() {
    for long in [false, true] {
        let film = Film { long, ..film() };
        check(&film.plain(), Playable::Yes, Some(6966));
        check(&film.index_first(), Playable::Yes, Some(6966));
    }
    let ticks = Film { timescale: 90_000, length: Duration::from_millis(3_600_040), ..film() };
    check(&ticks.plain(), Playable::Yes, Some(3_600_040));
    let third = Film { timescale: 3, length: Duration::from_nanos(333_333_334), ..film() };
    assert_eq!(
        look(&third.plain(), third.plain().len() as u64, &[]).0.duration,
        Some(Duration::from_nanos(333_333_333))
    );
}

#[test]
fn what_a_recorder_leaves_that_was_killed_is_not_playable() {
    check(&film().killed(), Playable::No, None);
    check(&[], Playable::No, None);
    let plain = film().plain();
    let index = plain.len() - parcel(b"moov", &[]).len();
    check(&plain[..index], Playable::No, None);
    check(&plain[..28], Playable::No, None);
    // The length of the data is there, and the disk was full before all of it came.
    check(&plain[..1000], Playable::No, None);
    // An index without data, and data whose index has no track.
    let whole = film().index_first();
    check(&whole[..whole.len() - film().data - 8], Playable::No, None);
    check(&[parcel(b"ftyp", &[]), parcel(b"moov", &[]), parcel(b"mdat", &[])].concat(), Playable::No, None);
}

#[test]
fn a_recording_whose_data_is_cut_off_is_playable_and_its_length_is_not_known() {
    let whole = film().index_first();
    check(&whole[..whole.len() - 1], Playable::Yes, None);
}

/// With `record.enableFmp4` what a killed recorder left can be played up to there.
#[test]
fn a_fragmented_recording_is_as_long_as_its_whole_fragments() {
    for long in [false, true] {
        let film = Film { long, length: Duration::from_secs(60), ..film() };
        for fragments in [1, 2, 4, 5, 30] {
            let whole = film.fragmented(fragments);
            check(&whole, Playable::Yes, Some(60_000));
            assert!(look(&whole, whole.len() as u64, &[]).0.fragmented);
        }
        let whole = film.fragmented(10);
        check(&whole[..whole.len() - 1], Playable::Yes, Some(54_000));
        check(&whole[..whole.len() - film.data - 9], Playable::Yes, Some(54_000));
        let first = film.fragmented(1);
        check(&first[..first.len() - 1], Playable::No, None);
        check(&film.fragmented(0), Playable::No, None);
    }
}

#[test]
fn a_fragmented_recording_without_times_is_as_long_as_it_announces() {
    let film = Film { length: Duration::from_secs(60), ..film() };
    let whole = film.fragmented(2);
    let announced = |text: &[u8]| {
        // Another name for the times, and the announcement in place of what samples usually are.
        let mut out = whole.clone();
        let mut replace = |from: &[u8], to: &[u8]| {
            while let Some(at) = out.windows(from.len()).position(|window| window == from) {
                out[at..at + to.len()].copy_from_slice(to);
            }
        };
        replace(b"tfdt", b"none");
        replace(b"trex\0\0\0\0\0\0\0\x01", text);
        out
    };
    let mehd = announced(b"mehd\0\0\0\0\0\0\xea\x60");
    check(&mehd, Playable::Yes, Some(60_000));
    check(&mehd[..mehd.len() - 1], Playable::Yes, None);
    check(&announced(b"free"), Playable::Yes, None);
}

#[test]
fn what_is_no_mp4_is_not_known_to_be_playable_or_not() {
    check(&[0x47; 188 * 4], Playable::Unknown, None);
    check(&[0; 4096], Playable::Unknown, None);
    check(b"ftyp", Playable::Unknown, None);
    // A part of an HLS stream is played with an index that lies in another file.
    let fragmented = film().fragmented(3);
    let at = fragmented.windows(4).position(|window| window == b"moof").unwrap() - 4;
    check(&fragmented[at..], Playable::Unknown, None);
    check(&[parcel(b"ftyp", &[]), fragmented[at..].to_vec()].concat(), Playable::Unknown, None);
    // What is broken may be mended by somebody.
    let broken = [parcel(b"ftyp", &[]), parcel(b"free", &[])].concat();
    check(&[&broken[..], b"\0\0\0\x05mdat"].concat(), Playable::Unknown, None);
    check(&[&broken[..], &[0; 64]].concat(), Playable::Unknown, None);
    check(&[&film().plain()[..], b"\0\0\0\x05mdat"].concat(), Playable::Yes, Some(6966));
}

#[test]
fn lengths_that_are_none_are_not_believed() {
    for ticks in [0, u32::MAX] {
        let nothing = Film { length: Duration::from_millis(u64::from(ticks)), ..film() };
        check(&nothing.plain(), Playable::Yes, None);
    }
    let mut timeless = film().plain();
    let at = timeless.windows(4).position(|window| window == b"mvhd").unwrap() + 16;
    timeless[at..at + 4].fill(0);
    check(&timeless, Playable::Yes, None);
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let plain = film().plain();
    let size = plain.len() as u64;
    let (_, reads) = look(&plain, size, &[]);
    for call in 1..=reads {
        let (found, _) = look(&plain, size, &[(call + 1, Strike::Refuse(libc::EIO))]);
        assert_eq!((found.playable, found.duration), (Playable::Unknown, None), "call {call}");
    }
    // Cut short since it was looked at.
    let disk = Disk::new(false, true, false);
    let path = RelPath::new(b"a.mp4").unwrap();
    let inode = disk.create(&path, 1, Timestamp::default());
    disk.fill(inode, &plain[..20]);
    let tree = FakeDir::new(disk, Power::new(BTreeMap::new()), Path::new("/tree"));
    let found = examine(tree.open(&path).unwrap().unwrap().as_ref(), size);
    assert_eq!(found.playable, Playable::Unknown);
}

#[test]
fn a_hostile_file_costs_a_bounded_number_of_reads() {
    let most = u64::from(2 * READS) + 2;
    let tiny = [parcel(b"ftyp", &[]), parcel(b"free", &[]).repeat(1_000_000)].concat();
    let nested = (0..2000).fold(Vec::new(), |inner, _| parcel(b"moov", &[&inner]));
    let wide = [&[0, 0, 0, 1][..], b"mdat", &(1_u64 << 62).to_be_bytes()].concat();
    let wider = [&[0, 0, 0, 1][..], b"mdat", &u64::MAX.to_be_bytes()].concat();
    let narrow = [&[0, 0, 0, 1][..], b"mdat", &15_u64.to_be_bytes()].concat();
    let far: Vec<u8> = parcel(b"free", &[&vec![0; WINDOW]]).repeat(9000);
    let ftyp = parcel(b"ftyp", &[]);
    for (content, size, playable) in [
        (tiny.clone(), tiny.len() as u64, Playable::Unknown),
        (nested.clone(), nested.len() as u64, Playable::Unknown),
        ([&ftyp[..], &nested].concat(), 1 << 40, Playable::Unknown),
        ([&ftyp[..], &wide].concat(), u64::MAX, Playable::Unknown),
        ([&ftyp[..], &wide].concat(), 1 << 40, Playable::No),
        ([&ftyp[..], &wider].concat(), u64::MAX, Playable::No),
        ([&ftyp[..], &narrow].concat(), 24, Playable::Unknown),
        ([&ftyp[..], &wide[..12]].concat(), 20, Playable::Unknown),
        ([&ftyp[..], &far].concat(), far.len() as u64 + 8, Playable::Unknown),
    ] {
        let (found, reads) = look(&content, size, &[]);
        assert_eq!(found.playable, playable, "{}", content[..content.len().min(40)].escape_ascii());
        assert!(reads <= most, "{reads} reads");
    }
    // A run of four thousand million samples, in a file that has room for them.
    let mut run = Film { length: Duration::from_secs(60), ..film() }.fragmented(1);
    let traf = run.windows(4).position(|window| window == b"trun").unwrap();
    run[traf + 8..traf + 12].fill(0xff);
    let (found, reads) = look(&run, 1 << 50, &[]);
    assert_eq!((found.playable, found.duration, reads <= most), (Playable::Yes, None, true));
}

/// Films, whole and cut anywhere, with some bytes changed.
fn spoiled() -> impl Strategy<Value = Vec<u8>> {
    let film =
        (1..100_000_u64, 1..100_000_u32, any::<bool>(), 0..300_usize).prop_map(|(millis, timescale, long, data)| {
            Film { length: Duration::from_millis(millis), timescale, long, data }
        });
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (film, 0..4_usize, 0..8_u32, changes, any::<prop::sample::Index>(), proptest::bool::weighted(0.3)).prop_map(
        |(film, form, fragments, changes, end, cut)| {
            let mut out = match form {
                0 => film.plain(),
                1 => film.index_first(),
                2 => film.killed(),
                _ => film.fragmented(fragments),
            };
            for (at, byte) in changes {
                let at = at.index(out.len());
                out[at] = byte;
            }
            if cut {
                out.truncate(end.index(out.len()));
            }
            out
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_looked_at_and_nothing_breaks(content in prop_oneof![spoiled(), proptest::collection::vec(any::<u8>(), 0..600)], more in 0..3_u64) {
        let (found, reads) = look(&content, content.len() as u64 + more * 5000, &[]);
        prop_assert!(reads <= u64::from(2 * READS) + 2);
        prop_assert!(found.duration.is_none() || found.playable == Playable::Yes);
    }

    #[test]
    fn the_length_is_that_of_the_film(millis in 1..40_000_000_u64, scale in 1..100_u32, long in any::<bool>(), fragments in 1..40_u32) {
        let timescale = scale * 1000;
        let film = Film { length: Duration::from_millis(millis), timescale, long, data: 50 };
        for content in [film.plain(), film.index_first(), film.fragmented(fragments)] {
            let (found, _) = look(&content, content.len() as u64, &[]);
            prop_assert_eq!((found.playable, found.duration), (Playable::Yes, Some(film.length)));
        }
        // Cut anywhere, it never says more.
        let whole = film.fragmented(fragments);
        let (found, _) = look(&whole[..whole.len() - 30], whole.len() as u64 - 30, &[]);
        prop_assert!(found.duration.is_none_or(|length| length < film.length));
    }
}
