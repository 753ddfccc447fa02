//! Templates such as `{stream}/%Y-%m-%d/%H/%M.%S.mp4`.

use jiff::civil::{Date, Time};

use super::civil::{Calendar, Reader, civil_date, civil_time};
use crate::domain::units::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    /// One byte or more, slashes among them.
    Stream,
    /// One byte or more, no slash among them.
    Any,
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Fraction,
    UnixSeconds,
}

impl Field {
    fn of(letter: Option<&u8>) -> Option<Self> {
        Some(match letter? {
            b'Y' => Self::Year,
            b'm' => Self::Month,
            b'd' => Self::Day,
            b'H' => Self::Hour,
            b'M' => Self::Minute,
            b'S' => Self::Second,
            b'f' => Self::Fraction,
            b's' => Self::UnixSeconds,
            _ => return None,
        })
    }
}

/// How often `{any}` may stand in a template: each makes the search of a hostile name longer by a factor.
const MOST_ANY: usize = 2;

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
    /// The directories of it that bear a whole date, the deepest first.
    dirs: Vec<Vec<Piece>>,
}

/// What was read of a path so far, one number a field.
#[derive(Debug, Clone, Copy, Default)]
struct Fields([Option<i64>; 8]);

impl Fields {
    fn get(&self, field: Field) -> Option<i64> {
        self.0[field as usize]
    }

    /// A field that stands in a path twice must say the same twice.
    fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let known = self.0[field as usize].replace(value);
        known.is_none_or(|known| known == value).then_some(())
    }

    fn date(&self) -> Option<Date> {
        civil_date(self.get(Field::Year)?, self.get(Field::Month)?, self.get(Field::Day)?)
    }

    /// The moment; where only the day, the hour or the minute is known, the end of it, so that nothing goes too early.
    fn moment(&self, calendar: &mut Calendar) -> Option<Timestamp> {
        if let Some(seconds) = self.get(Field::UnixSeconds) {
            return Some(Timestamp::from_secs(seconds));
        }
        let date = self.date()?;
        let Some(hour) = self.get(Field::Hour) else { return calendar.end_of(date) };
        let (minute, second) = (self.get(Field::Minute), self.get(Field::Second));
        let at: Time = civil_time(hour, minute.unwrap_or(59), second.unwrap_or(59))?;
        let moment = calendar.moment(date, at)?;
        Some(if second.is_some() { moment } else { Timestamp::from_secs(moment.secs().saturating_add(1)) })
    }
}

impl Template {
    /// Compiles a template.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let pieces = compile(text)?;
        let count = |wanted: &Piece| pieces.iter().filter(|p| *p == wanted).count();
        let has = |field| count(&Piece::Field(field)) > 0;
        if count(&Piece::Stream) != 1 {
            return Err(format!("`{text}` must hold `{{stream}}` exactly once"));
        }
        if count(&Piece::Any) > MOST_ANY {
            return Err(format!("`{text}` holds `{{any}}` more than {MOST_ANY} times"));
        }
        let wild = |piece: &Piece| matches!(piece, Piece::Stream | Piece::Any);
        if pieces.windows(2).any(|pair| pair.iter().all(wild)) {
            return Err(format!("`{text}` must hold something between `{{stream}}` and `{{any}}`, to tell them apart"));
        }
        if !has(Field::UnixSeconds) {
            if !(has(Field::Year) && has(Field::Month) && has(Field::Day)) {
                return Err(format!("`{text}` must hold a date: %Y, %m and %d, or %s"));
            }
            if (has(Field::Minute) && !has(Field::Hour)) || (has(Field::Second) && !has(Field::Minute)) {
                return Err(format!("`{text}` must hold %H where it holds %M, and %M where it holds %S"));
            }
        }
        if text.starts_with('/') || text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("`{text}` must be a path below the tree, without empty parts, `.` or `..`"));
        }
        let dirs = dated_dirs(&pieces);
        Ok(Self { pieces, dirs })
    }

    /// The stream and the time of a path, if it is one of this template's.
    pub(super) fn read<'a>(&self, path: &'a [u8], calendar: &mut Calendar) -> Option<(&'a [u8], Timestamp)> {
        let (stream, fields) = follow(&self.pieces, path, Fields::default(), None)?;
        Some((stream?, fields.moment(calendar)?))
    }

    /// The date that a directory of this template bears, or one above it.
    pub(super) fn date_of(&self, dir: &[u8]) -> Option<Date> {
        let ends = (0..=dir.len()).rev().filter(|end| *end == dir.len() || dir[*end] == b'/');
        for end in ends {
            let fits = |pieces: &Vec<Piece>| follow(pieces, &dir[..end], Fields::default(), None)?.1.date();
            if let Some(date) = self.dirs.iter().find_map(fits) {
                return Some(date);
            }
        }
        None
    }
}

fn compile(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let wild = [("{stream}", Piece::Stream), ("{any}", Piece::Any)];
        if let Some((word, piece)) = wild.into_iter().find(|(word, _)| rest.starts_with(word)) {
            pieces.push(piece);
            rest = &rest[word.len()..];
            continue;
        }
        if c == '{' {
            return Err(format!("`{text}` holds a `{{` that does not begin `{{stream}}` or `{{any}}`"));
        }
        if c == '%' {
            let field = Field::of(rest.as_bytes().get(1))
                .ok_or_else(|| format!("`{text}` holds a `%` that is not one of %Y %m %d %H %M %S %f %s"))?;
            pieces.push(Piece::Field(field));
            rest = &rest[2..];
            continue;
        }
        let (literal, after) = rest.split_at(c.len_utf8());
        match pieces.last_mut() {
            Some(Piece::Literal(text)) => text.extend_from_slice(literal.as_bytes()),
            Some(Piece::Stream | Piece::Any | Piece::Field(_)) | None => {
                pieces.push(Piece::Literal(literal.as_bytes().to_vec()));
            }
        }
        rest = after;
    }
    Ok(pieces)
}

/// The beginnings of a template that end before a slash and hold a whole date, the longest first.
fn dated_dirs(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let mut out = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let Piece::Literal(text) = piece else { continue };
        let dated = [Field::Year, Field::Month, Field::Day].iter().all(|f| pieces[..at].contains(&Piece::Field(*f)));
        for slash in (0..text.len()).filter(|slash| dated && text[*slash] == b'/') {
            let mut dir = pieces[..at].to_vec();
            if slash > 0 {
                dir.push(Piece::Literal(text[..slash].to_vec()));
            }
            out.push(dir);
        }
    }
    out.reverse();
    out
}

type Followed<'a> = (Option<&'a [u8]>, Fields);

/// Follows the pieces along a path. `{stream}` and `{any}` try each of their lengths, the shortest first.
fn follow<'a>(pieces: &[Piece], path: &'a [u8], mut fields: Fields, stream: Option<&'a [u8]>) -> Option<Followed<'a>> {
    let Some((piece, rest)) = pieces.split_first() else {
        return path.is_empty().then_some((stream, fields));
    };
    match piece {
        Piece::Literal(text) => follow(rest, path.strip_prefix(text.as_slice())?, fields, stream),
        Piece::Stream => (1..=path.len()).find_map(|n| follow(rest, &path[n..], fields, Some(&path[..n]))),
        Piece::Any => {
            let most = path.iter().take_while(|b| **b != b'/').count();
            (1..=most).find_map(|n| follow(rest, &path[n..], fields, stream))
        }
        Piece::Field(field) => {
            let mut reader = Reader(path);
            match field {
                Field::Year => fields.set(*field, reader.digits(4)?)?,
                Field::Month | Field::Day | Field::Hour | Field::Minute | Field::Second => {
                    fields.set(*field, reader.digits(2)?)?;
                }
                Field::UnixSeconds => fields.set(*field, reader.number()?)?,
                // Fractions of a second decide nothing.
                Field::Fraction => _ = reader.number()?,
            }
            follow(rest, reader.0, fields, stream)
        }
    }
}
