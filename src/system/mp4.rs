//! What an MP4 says of itself: whether it can be played, and how long it is.
//!
//! Invariants, whatever a file holds:
//! - no more than `BOXES` boxes are looked at and `READS` pieces of `WINDOW` bytes are read, and then the same once more for the
//!   fragments, so no file makes this hang or needs memory;
//! - "cannot be played" is said only of a file that was followed to its end; what could not be read, or was too much, is unknown.

use std::collections::VecDeque;
use std::time::Duration;

use super::HeldFile;
use crate::domain::orphan::Playable;

/// The most boxes that are looked at: a fragment is two, so two hours of fragments of two seconds fit.
const BOXES: u32 = 8192;
/// The most pieces that are read.
const READS: u32 = 8192;
/// What is read at once, in bytes: the headers of a fragment and of its data mostly lie together.
const WINDOW: usize = 4096;
/// Tracks that are kept; more are counted.
const TRACKS: usize = 16;
/// Fragments that are read at the beginning and at the end: the tracks may take turns.
const ENDS: usize = 4;

/// What an MP4 says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mp4 {
    /// Whether it can be played.
    pub playable: Playable,
    /// How long it is, to the tick of its own clock; `None` where it does not say, or its data is cut off.
    pub duration: Option<Duration>,
    /// It is fragmented: what was written before the recorder ended can be played.
    pub fragmented: bool,
}

/// Looks at a file of `size` bytes. A file that cannot be read is not known to be playable or not.
#[must_use]
pub fn examine(file: &dyn HeldFile, size: u64) -> Mp4 {
    if size == 0 {
        return Mp4 { playable: Playable::No, duration: None, fragmented: false };
    }
    let mut reader = Reader { file, size, at: 0, window: Vec::new(), boxes: BOXES, reads: READS };
    let mut walk = Walk::default();
    let whole = walk.run(&mut reader).is_ok();
    let fragmented = walk.movie.as_ref().is_some_and(|movie| movie.extends) || !walk.last.is_empty();
    let playable = walk.playable(whole);
    let duration = (whole && playable == Playable::Yes).then(|| walk.duration(&mut reader)).flatten();
    Mp4 { playable, duration, fragmented }
}

/// It could not be read, or is too much.
struct Unread;

/// Where a box lies.
#[derive(Debug, Clone, Copy)]
struct BoxAt {
    kind: [u8; 4],
    /// Where its content begins.
    body: u64,
    /// Where it ends, or what holds it.
    end: u64,
    /// It says where it ends, and that is not beyond what holds it.
    whole: bool,
}

/// Reads a file piece by piece, within bounds.
struct Reader<'a> {
    file: &'a dyn HeldFile,
    size: u64,
    /// Where the window lies.
    at: u64,
    window: Vec<u8>,
    /// How many may still be looked at.
    boxes: u32,
    reads: u32,
}

impl Reader<'_> {
    /// The bytes from `at` on.
    fn bytes<const N: usize>(&mut self, at: u64) -> Result<[u8; N], Unread> {
        loop {
            let skip = at.checked_sub(self.at).and_then(|skip| usize::try_from(skip).ok());
            let seen = skip.and_then(|skip| self.window.get(skip..)?.first_chunk::<N>());
            if let Some(bytes) = seen {
                return Ok(*bytes);
            }
            self.fill(at, N)?;
        }
    }

    /// Moves the window to `at`; it then holds `least` bytes.
    fn fill(&mut self, at: u64, least: usize) -> Result<(), Unread> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        self.window.clear();
        self.window.resize(WINDOW.min(left), 0);
        self.at = at;
        let mut filled = 0;
        while filled < least {
            self.reads = self.reads.checked_sub(1).ok_or(Unread)?;
            let rest = self.window.get_mut(filled..).ok_or(Unread)?;
            match self.file.read_at(at.saturating_add(filled as u64), rest) {
                // It is shorter than it was, or ends here.
                Ok(0) | Err(_) => return Err(Unread),
                Ok(read) => filled += read,
            }
        }
        self.window.truncate(filled);
        Ok(())
    }

    fn number32(&mut self, at: u64) -> Result<u32, Unread> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn number64(&mut self, at: u64) -> Result<u64, Unread> {
        self.bytes(at).map(u64::from_be_bytes)
    }

    /// The number of a version 0 or, longer, of a version 1 or later.
    fn number(&mut self, at: u64, long: bool) -> Result<u64, Unread> {
        if long { self.number64(at) } else { self.number32(at).map(u64::from) }
    }

    /// The box at `at` of what ends at `end`; `None` if there is none, or it is broken.
    fn header(&mut self, at: u64, end: u64) -> Result<Option<BoxAt>, Unread> {
        let room = end.saturating_sub(at);
        if room < 8 {
            return Ok(None);
        }
        self.boxes = self.boxes.checked_sub(1).ok_or(Unread)?;
        let (size, kind) = (u64::from(self.number32(at)?), self.bytes(at + 4)?);
        let (size, head) = match size {
            // Up to the end: so a recorder writes the data's before it knows better.
            0 => return Ok(Some(BoxAt { kind, body: at + 8, end, whole: false })),
            1 if room < 16 => return Ok(None),
            1 => (self.number64(at + 8)?, 16),
            size => (size, 8),
        };
        if size < head {
            return Ok(None);
        }
        Ok(Some(BoxAt { kind, body: at + head, end: at + size.min(room), whole: size <= room }))
    }

    /// Calls `each` for every whole box within `of`.
    fn children(
        &mut self,
        of: BoxAt,
        each: &mut dyn FnMut(&mut Self, BoxAt) -> Result<(), Unread>,
    ) -> Result<(), Unread> {
        let mut at = of.body;
        while let Some(child) = self.header(at, of.end)? {
            if child.whole {
                each(self, child)?;
            }
            // Never less than a header further on.
            at = child.end;
        }
        Ok(())
    }

    /// The first byte and the three flags of a box, if it holds `least` bytes.
    fn version(&mut self, of: BoxAt, least: u64) -> Result<Option<(bool, u32)>, Unread> {
        if of.end - of.body < least {
            return Ok(None);
        }
        let word = self.number32(of.body)?;
        Ok(Some((word >> 24 != 0, word & 0x00ff_ffff)))
    }
}

/// What the index says.
#[derive(Debug, Default)]
struct Movie {
    /// Ticks of the whole and ticks a second, as it says.
    length: Option<(u64, u32)>,
    /// Ticks of the whole with its fragments, as it says.
    extended: Option<u64>,
    /// Fragments follow.
    extends: bool,
    count: u32,
    tracks: Vec<Track>,
    /// For each track its samples' usual length.
    usual: Vec<(u32, u32)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Track {
    id: u32,
    timescale: u32,
}

impl Movie {
    fn read(reader: &mut Reader<'_>, moov: BoxAt) -> Result<Self, Unread> {
        let mut movie = Self::default();
        reader.children(moov, &mut |reader, child| {
            match &child.kind {
                b"mvhd" => movie.length = times(reader, child)?,
                b"trak" => {
                    movie.count = movie.count.saturating_add(1);
                    if movie.tracks.len() < TRACKS {
                        movie.tracks.push(Track::read(reader, child)?);
                    }
                }
                b"mvex" => {
                    movie.extends = true;
                    movie.extend(reader, child)?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(movie)
    }

    fn extend(&mut self, reader: &mut Reader<'_>, mvex: BoxAt) -> Result<(), Unread> {
        reader.children(mvex, &mut |reader, child| {
            match &child.kind {
                b"mehd" => {
                    let long = reader.version(child, 8)?.map(|(long, _)| long);
                    if let Some(long) = long.filter(|long| !long || child.end - child.body >= 12) {
                        self.extended = Some(reader.number(child.body + 4, long)?);
                    }
                }
                b"trex" if self.usual.len() < TRACKS && reader.version(child, 16)?.is_some() => {
                    self.usual.push((reader.number32(child.body + 4)?, reader.number32(child.body + 12)?));
                }
                _ => {}
            }
            Ok(())
        })
    }
}

impl Track {
    fn read(reader: &mut Reader<'_>, trak: BoxAt) -> Result<Self, Unread> {
        let mut track = Self::default();
        reader.children(trak, &mut |reader, child| {
            match &child.kind {
                b"tkhd" => {
                    if let Some((long, _)) = reader.version(child, 24)? {
                        track.id = reader.number32(child.body + if long { 20 } else { 12 })?;
                    }
                }
                b"mdia" => reader.children(child, &mut |reader, inner| {
                    if &inner.kind == b"mdhd" {
                        track.timescale = times(reader, inner)?.map_or(0, |(_, scale)| scale);
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(track)
    }
}

/// Length and ticks a second of a `mvhd` or `mdhd`.
fn times(reader: &mut Reader<'_>, of: BoxAt) -> Result<Option<(u64, u32)>, Unread> {
    let Some((long, _)) = reader.version(of, 20)? else { return Ok(None) };
    let at = of.body + if long { 20 } else { 12 };
    if of.end < at + if long { 12 } else { 8 } {
        return Ok(None);
    }
    let (scale, ticks) = (reader.number32(at)?, reader.number(at + 4, long)?);
    // All bits set: not known.
    let unknown = ticks == if long { u64::MAX } else { u64::from(u32::MAX) };
    Ok((scale > 0).then_some((if unknown { 0 } else { ticks }, scale)))
}

/// What the boxes of a file are.
#[derive(Debug, Default)]
struct Walk {
    /// The first box is one that only an MP4 begins with.
    known: bool,
    movie: Option<Movie>,
    /// There is something that is no box.
    broken: bool,
    /// There is data.
    data: bool,
    /// There is data outside of fragments.
    loose: bool,
    /// It ends before it should.
    cut: bool,
    /// A fragment that waits for its data.
    pending: Option<BoxAt>,
    /// A fragment or its data is not whole.
    torn: bool,
    /// There is a fragment, whole or not.
    fragment: bool,
    /// The first and the last of those whose data is whole.
    first: Vec<BoxAt>,
    last: VecDeque<BoxAt>,
}

impl Walk {
    fn run(&mut self, reader: &mut Reader<'_>) -> Result<(), Unread> {
        let (mut at, end) = (0, reader.size);
        while let Some(found) = reader.header(at, end)? {
            if !found.kind.iter().all(|byte| matches!(byte, b' '..=b'~')) {
                break;
            }
            if at == 0 {
                self.known = matches!(&found.kind, b"ftyp" | b"mdat");
            }
            match &found.kind {
                b"moov" if found.whole && self.movie.is_none() => {
                    self.movie = Some(Movie::read(reader, found)?).filter(|movie| movie.count > 0);
                }
                b"moof" => {
                    self.fragment = true;
                    self.torn |= self.pending.is_some() || !found.whole;
                    self.pending = Some(found).filter(|found| found.whole);
                }
                b"mdat" => {
                    self.data = true;
                    match self.pending.take() {
                        Some(moof) if found.whole => self.keep(moof),
                        Some(_) => self.torn = true,
                        None => {
                            self.loose = true;
                            self.cut |= !found.whole;
                        }
                    }
                }
                _ => {}
            }
            at = found.end;
        }
        self.torn |= self.pending.is_some();
        // A few bytes more are the beginning of a header that did not come.
        self.broken = end - at >= 8;
        Ok(())
    }

    fn keep(&mut self, moof: BoxAt) {
        if self.first.len() < ENDS {
            self.first.push(moof);
        }
        if self.last.len() == ENDS {
            self.last.pop_front();
        }
        self.last.push_back(moof);
    }

    /// What the boxes mean, if all of them were seen, or some.
    fn playable(&self, whole: bool) -> Playable {
        let plays = self.movie.as_ref().is_some_and(|movie| match movie.extends {
            true => !self.last.is_empty() || (self.data && movie.length.is_some_and(|(ticks, _)| ticks > 0)),
            false => self.data,
        });
        match (plays, whole && !self.broken) {
            (true, _) => Playable::Yes,
            // Fragments whose index lies in another file (HLS) are played with that.
            (false, true) if self.known && !(self.fragment && self.movie.is_none()) => Playable::No,
            (false, _) => Playable::Unknown,
        }
    }

    fn duration(&self, reader: &mut Reader<'_>) -> Option<Duration> {
        let movie = self.movie.as_ref()?;
        let (ticks, scale) = movie.length.unwrap_or_default();
        if self.cut {
            return None;
        }
        let nanos = if self.last.is_empty() {
            nanoseconds(ticks, scale)?
        } else if self.loose && ticks > 0 {
            // Some of it lies in fragments, some does not.
            return None;
        } else {
            let measured = self.span(movie, reader);
            // What is announced holds only if all of it came.
            let announced = || nanoseconds(movie.extended.filter(|_| !self.torn)?, scale);
            measured.or_else(announced)?
        };
        let (secs, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let length = Duration::new(u64::try_from(secs).ok()?, u32::try_from(rest).ok()?);
        (length > Duration::ZERO).then_some(length)
    }

    /// From the beginning of the first fragment to the end of the last, in nanoseconds.
    fn span(&self, movie: &Movie, reader: &mut Reader<'_>) -> Option<u128> {
        (reader.boxes, reader.reads) = (BOXES, READS);
        let (mut begin, mut end) = (None::<u128>, 0_u128);
        for (moof, last) in self.first.iter().map(|moof| (moof, false)).chain(self.last.iter().map(|moof| (moof, true)))
        {
            for fragment in fragments(reader, movie, *moof).ok()?? {
                let at = nanoseconds(fragment.begin, fragment.timescale)?;
                if last {
                    end = end.max(nanoseconds(fragment.begin.checked_add(fragment.length)?, fragment.timescale)?);
                } else {
                    begin = Some(begin.map_or(at, |begin| begin.min(at)));
                }
            }
        }
        end.checked_sub(begin?)
    }
}

fn nanoseconds(ticks: u64, timescale: u32) -> Option<u128> {
    (u128::from(ticks) * 1_000_000_000).checked_div(u128::from(timescale))
}

/// What a fragment holds of one track, in the track's ticks.
#[derive(Debug, Default, Clone, Copy)]
struct Fragment {
    timescale: u32,
    begin: u64,
    length: u64,
}

/// The tracks of one fragment; `None` if one of them does not say when it is.
fn fragments(reader: &mut Reader<'_>, movie: &Movie, moof: BoxAt) -> Result<Option<Vec<Fragment>>, Unread> {
    let mut out = Some(Vec::new());
    reader.children(moof, &mut |reader, traf| {
        if &traf.kind != b"traf" {
            return Ok(());
        }
        let (mut scale, mut usual, mut begin, mut length) = (None, None, None, Some(0_u64));
        reader.children(traf, &mut |reader, child| {
            match &child.kind {
                b"tfhd" => {
                    let Some((_, flags)) = reader.version(child, 8)? else { return Ok(()) };
                    let id = reader.number32(child.body + 4)?;
                    scale = movie.tracks.iter().find(|track| track.id == id).map(|track| track.timescale);
                    let before = 8 + if flags & 1 == 0 { 0 } else { 8 } + if flags & 2 == 0 { 0 } else { 4 };
                    usual = if flags & 8 != 0 && child.end - child.body >= before + 4 {
                        Some(reader.number32(child.body + before)?)
                    } else {
                        movie.usual.iter().find(|(track, _)| *track == id).map(|(_, usual)| *usual)
                    };
                }
                b"tfdt" => {
                    let long = reader.version(child, 8)?.is_some_and(|(long, _)| long);
                    if child.end - child.body >= if long { 12 } else { 8 } {
                        begin = Some(reader.number(child.body + 4, long)?);
                    }
                }
                b"trun" => {
                    let run = samples(reader, child, usual)?;
                    length = length.zip(run).and_then(|(length, run)| length.checked_add(run));
                }
                _ => {}
            }
            Ok(())
        })?;
        match (scale, begin, length, &mut out) {
            (Some(timescale), Some(begin), Some(length), Some(out)) if out.len() < TRACKS => {
                out.push(Fragment { timescale, begin, length });
            }
            (_, _, _, out) => *out = None,
        }
        Ok(())
    })?;
    Ok(out)
}

/// How many ticks a run of samples lasts; `None` if it does not say.
fn samples(reader: &mut Reader<'_>, trun: BoxAt, usual: Option<u32>) -> Result<Option<u64>, Unread> {
    let Some((_, flags)) = reader.version(trun, 8)? else { return Ok(None) };
    let count = u64::from(reader.number32(trun.body + 4)?);
    if flags & 0x100 == 0 {
        return Ok(usual.map(|usual| u64::from(usual) * count));
    }
    let before = 8 + if flags & 1 == 0 { 0 } else { 4 } + if flags & 4 == 0 { 0 } else { 4 };
    let each = 4 * u64::from((flags & 0xf00).count_ones());
    if (trun.end - trun.body).saturating_sub(before) < count * each {
        return Ok(None);
    }
    let mut sum = 0_u64;
    for sample in 0..count {
        sum = sum.saturating_add(u64::from(reader.number32(trun.body + before + sample * each)?));
    }
    Ok(Some(sum))
}

#[cfg(test)]
#[path = "mp4_tests.rs"]
mod tests;
