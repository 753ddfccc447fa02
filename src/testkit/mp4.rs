//! The smallest MP4s that are valid as far as their boxes go: plain, fragmented, and as a recorder leaves them that was killed.

use std::time::Duration;

/// What each begins with.
const TYPE: &[u8] = b"isom\0\0\0\0isommp41";
/// The track's number.
const TRACK: u32 = 1;

/// One box.
#[must_use]
pub fn parcel(kind: &[u8; 4], content: &[&[u8]]) -> Vec<u8> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let size = u32::try_from(length + 8).expect("a test's box is short").to_be_bytes();
    [&size, &kind[..], &content.concat()].concat()
}

/// An MP4 that a test writes.
#[derive(Debug, Clone, Copy)]
pub struct Film {
    /// How long it says it is.
    pub length: Duration,
    /// Ticks a second.
    pub timescale: u32,
    /// Its times are written in 64 bits.
    pub long: bool,
    /// Bytes of its data, of each fragment if it has any.
    pub data: usize,
}

impl Film {
    /// One of this length, in milliseconds, as ZLMediaKit counts.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        Self { length, timescale: 1000, long: false, data: 4096 }
    }

    /// As a recorder leaves it when it ends: the index behind the data.
    #[must_use]
    pub fn plain(&self) -> Vec<u8> {
        [self.begin(), self.mdat(), self.moov(false, self.ticks())].concat()
    }

    /// The same with the index moved before the data.
    #[must_use]
    pub fn index_first(&self) -> Vec<u8> {
        [self.begin(), self.moov(false, self.ticks()), self.mdat()].concat()
    }

    /// As a recorder leaves it that was killed: the data's length not yet written, and no index.
    #[must_use]
    pub fn killed(&self) -> Vec<u8> {
        [self.begin(), b"\0\0\0\0mdat".to_vec(), vec![7; self.data]].concat()
    }

    /// In as many fragments; the length is written in none of its boxes.
    #[must_use]
    pub fn fragmented(&self, fragments: u32) -> Vec<u8> {
        let (whole, mut out) = (self.ticks(), [self.begin(), self.moov(true, 0)].concat());
        let at = |number: u32| whole * u64::from(number) / u64::from(fragments.max(1));
        for number in 0..fragments {
            out.extend(self.moof(number + 1, at(number), at(number + 1)));
            out.extend(self.mdat());
        }
        out
    }

    fn ticks(&self) -> u64 {
        let ticks = self.length.as_nanos() * u128::from(self.timescale) / 1_000_000_000;
        u64::try_from(ticks).expect("a test's film is short")
    }

    fn begin(&self) -> Vec<u8> {
        [parcel(b"ftyp", &[TYPE]), parcel(b"free", &[])].concat()
    }

    fn mdat(&self) -> Vec<u8> {
        parcel(b"mdat", &[&vec![7; self.data]])
    }

    /// A number of the width that was chosen.
    fn number(&self, number: u64) -> Vec<u8> {
        if self.long {
            return number.to_be_bytes().to_vec();
        }
        u32::try_from(number).expect("it needs 64 bits").to_be_bytes().to_vec()
    }

    fn version(&self) -> [u8; 4] {
        [u8::from(self.long), 0, 0, 0]
    }

    /// Times of making and change, ticks a second, and the length.
    fn times(&self, ticks: u64) -> Vec<u8> {
        let (at, scale) = (self.number(0), self.timescale.to_be_bytes());
        [&self.version()[..], &at, &at, &scale, &self.number(ticks)].concat()
    }

    fn moov(&self, extends: bool, ticks: u64) -> Vec<u8> {
        let at = self.number(0);
        let track = TRACK.to_be_bytes();
        let header = [&self.version()[..], &at, &at, &track, &[0; 4], &self.number(ticks), &[0; 60]].concat();
        let media = parcel(b"mdia", &[&parcel(b"mdhd", &[&self.times(ticks), &[0; 4]])]);
        let trak = parcel(b"trak", &[&parcel(b"tkhd", &[&header]), &media]);
        let usual = [&[0; 4][..], &track, &[0; 16]].concat();
        let mvex = if extends { parcel(b"mvex", &[&parcel(b"trex", &[&usual])]) } else { Vec::new() };
        parcel(b"moov", &[&parcel(b"mvhd", &[&self.times(ticks), &[0; 80]]), &trak, &mvex])
    }

    /// A fragment of two samples.
    fn moof(&self, number: u32, from: u64, to: u64) -> Vec<u8> {
        let head = parcel(b"mfhd", &[&[0; 4], &number.to_be_bytes()]);
        let track = parcel(b"tfhd", &[&[0, 2, 0, 0], &TRACK.to_be_bytes()]);
        let time = parcel(b"tfdt", &[&self.version(), &self.number(from)]);
        let half = (to - from) / 2;
        let sample = |ticks: u64| u32::try_from(ticks).expect("a test's film is short").to_be_bytes();
        let run = parcel(b"trun", &[&[0, 0, 1, 0], &2_u32.to_be_bytes(), &sample(half), &sample(to - from - half)]);
        parcel(b"moof", &[&head, &parcel(b"traf", &[&track, &time, &run])])
    }
}
