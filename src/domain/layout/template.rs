//! Templates such as `{stream}/%Y-%m-%d/%H/%M.%S.mp4`.

use jiff::tz::TimeZone;

use super::civil::{Reader, civil_date, civil_time, moment};
use crate::domain::units::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Stream,
    Field(u8),
}

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Default)]
struct Fields {
    date: [i64; 3],
    time: [i64; 3],
    seconds: Option<i64>,
}

impl Template {
    /// Compiles a template.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("{stream}") {
                pieces.push(Piece::Stream);
                rest = after;
                continue;
            }
            if c == '{' {
                return Err(format!("`{text}` holds a `{{` that does not begin `{{stream}}`"));
            }
            if c == '%' {
                let field = rest.as_bytes().get(1).copied().unwrap_or(b' ');
                if !b"YmdHMSfs".contains(&field) {
                    return Err(format!("`{text}` holds a `%` that is not one of %Y %m %d %H %M %S %f %s"));
                }
                pieces.push(Piece::Field(field));
                rest = &rest[2..];
                continue;
            }
            if let Some(Piece::Literal(literal)) = pieces.last_mut() {
                literal.extend_from_slice(c.to_string().as_bytes());
            } else {
                pieces.push(Piece::Literal(c.to_string().into_bytes()));
            }
            rest = &rest[c.len_utf8()..];
        }
        let count = |wanted: &Piece| pieces.iter().filter(|p| *p == wanted).count();
        if count(&Piece::Stream) != 1 {
            return Err(format!("`{text}` must hold `{{stream}}` exactly once"));
        }
        let dated = b"Ymd".iter().all(|f| count(&Piece::Field(*f)) > 0) || count(&Piece::Field(b's')) > 0;
        if !dated {
            return Err(format!("`{text}` must hold a date: %Y, %m and %d, or %s"));
        }
        Ok(Self { pieces })
    }

    /// The stream and the time of a path, if it is one of this template's.
    pub(super) fn read(&self, path: &[u8], zone: &TimeZone) -> Option<(String, Option<Timestamp>)> {
        let (stream, fields) = follow(&self.pieces, path, Fields::default(), None)?;
        let stream = String::from_utf8(stream?.to_vec()).ok()?;
        let at = match fields.seconds {
            Some(seconds) => Timestamp::from_secs(seconds),
            None => {
                let [year, month, day] = fields.date;
                let [hour, minute, second] = fields.time;
                moment(zone, civil_date(year, month, day)?.to_datetime(civil_time(hour, minute, second)?))?
            }
        };
        Some((stream, Some(at)))
    }
}

type Followed<'a> = (Option<&'a [u8]>, Fields);

/// Follows the pieces along a path. There is one `{stream}` at most, so this tries each of its lengths once.
fn follow<'a>(pieces: &[Piece], path: &'a [u8], mut fields: Fields, stream: Option<&'a [u8]>) -> Option<Followed<'a>> {
    let Some((piece, rest)) = pieces.split_first() else {
        return path.is_empty().then_some((stream, fields));
    };
    match piece {
        Piece::Literal(text) => follow(rest, path.strip_prefix(text.as_slice())?, fields, stream),
        Piece::Stream => (1..=path.len()).find_map(|n| follow(rest, &path[n..], fields, Some(&path[..n]))),
        Piece::Field(field) => {
            let mut reader = Reader(path);
            match field {
                b'Y' => fields.date[0] = reader.digits(4)?,
                b'm' => fields.date[1] = reader.digits(2)?,
                b'd' => fields.date[2] = reader.digits(2)?,
                b'H' => fields.time[0] = reader.digits(2)?,
                b'M' => fields.time[1] = reader.digits(2)?,
                b'S' => fields.time[2] = reader.digits(2)?,
                b's' => fields.seconds = Some(reader.number()?),
                // Fractions of a second decide nothing.
                _ => _ = reader.number()?,
            }
            follow(rest, reader.0, fields, stream)
        }
    }
}
