//! What is to be deleted, once its arguments were validated.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::arguments::Arguments;
use crate::domain::layout::{Layout, LayoutKind};
use crate::domain::path::RelPath;

/// Bytes of a name, as Linux has them.
const NAME: usize = 255;
/// Characters that mean other names than their own somewhere.
const GLOB: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// Which recordings of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    Stream,
    /// Those of a day, `YYYY-MM-DD`.
    Day(String),
    /// One.
    File {
        /// Its day.
        day: String,
        /// Its name.
        name: String,
    },
}

/// A deletion whose arguments are names and dates, and no paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The virtual host; a directory only where the media server has them switched on.
    pub vhost: String,
    /// The app: one component.
    pub app: String,
    /// The stream: one component or more.
    pub stream: String,
    /// Which of its recordings.
    pub which: Which,
    /// The root that was given instead of the media server's own, as the media server sees it. It is only ever compared.
    pub root: Option<PathBuf>,
}

impl Asked {
    /// Validates the arguments.
    ///
    /// # Errors
    /// Says which one is missing or refused, and why.
    pub(super) fn of(given: &Arguments) -> Result<Self, String> {
        let (Some(vhost), Some(app), Some(stream)) = (given.get("vhost"), given.get("app"), given.get("stream")) else {
            // The media server's own words.
            return Err(r#"Required parameter missed: "vhost", "app", "stream""#.to_owned());
        };
        let refuse = |argument: &str, why: String| format!("`{argument}` {why}");
        name(vhost).map_err(|why| refuse("vhost", why))?;
        name(app).map_err(|why| refuse("app", why))?;
        stream.split('/').try_for_each(name).map_err(|why| refuse("stream", why))?;
        let day = given.get("period").map(|day| date(day).map(|()| day.to_owned())).transpose();
        let day = day.map_err(|why| refuse("period", why))?;
        let file = given.get("name");
        file.map_or(Ok(()), name).map_err(|why| refuse("name", why))?;
        let which = match (day, file) {
            (None, None) => Which::Stream,
            (Some(day), None) => Which::Day(day),
            (Some(day), Some(file)) if is_recording(&day, file) => Which::File { day, name: file.to_owned() },
            (Some(day), Some(_)) => {
                return Err(format!("`name` is no name of a recording of {day}, such as `{day}-00-00-00-0.mp4`"));
            }
            (None, Some(_)) => {
                return Err("`name` needs `period`, since recordings lie in the directory of their day".to_owned());
            }
        };
        let root = given.get("customized_path").map(root).transpose();
        let root = root.map_err(|why| refuse("customized_path", why))?;
        Ok(Self { vhost: vhost.to_owned(), app: app.to_owned(), stream: stream.to_owned(), which, root })
    }

    /// What of a path lies below the stream's own directory.
    #[must_use]
    pub fn below(&self) -> String {
        match &self.which {
            Which::Stream => String::new(),
            Which::Day(day) => format!("{day}/"),
            Which::File { day, name } => format!("{day}/{name}"),
        }
    }
}

/// Takes one component of a path, and only what means itself.
fn name(text: &str) -> Result<(), String> {
    let why = if text.is_empty() {
        "has a part that is empty"
    } else if text.starts_with('.') {
        "has a part that begins with a dot: `.`, `..` and hidden names are never deleted"
    } else if text.contains('/') {
        "holds a slash, and must be one name"
    } else if text.chars().any(char::is_control) {
        "holds control characters"
    } else if text.contains(GLOB) {
        "holds one of `* ? [ ] { } \\`; give the name itself"
    } else if text.trim() != text {
        "has white space around it"
    } else if text.len() > NAME {
        "is longer than a name can be"
    } else {
        return Ok(());
    };
    Err(why.to_owned())
}

/// Takes a day that exists.
fn date(text: &str) -> Result<(), String> {
    let digits = text.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if digits && text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok() {
        return Ok(());
    }
    Err("is no day that exists, such as `2026-01-31`".to_owned())
}

/// Whether a file of that name in the directory of that day is a recording, by the layout's grammar.
fn is_recording(day: &str, name: &str) -> bool {
    let layout = Layout::parse(LayoutKind::Zlmediakit.as_str(), &[], TimeZone::UTC);
    let path = RelPath::new(format!("app/stream/{day}/{name}").as_bytes());
    layout.is_ok_and(|layout| path.is_ok_and(|path| layout.recognise(&path, 1).is_some()))
}

/// Takes an absolute path, by its form alone.
fn root(text: &str) -> Result<PathBuf, String> {
    let Some(below) = text.strip_prefix('/') else {
        return Err("must be an absolute path, as the media server sees it".to_owned());
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    if text.chars().any(char::is_control) || text.contains(GLOB) {
        return Err("holds control characters, or one of `* ? [ ] { } \\`".to_owned());
    }
    RelPath::new(below.as_bytes()).map_err(|error| format!("is no path: below `/` it {error}"))?;
    Ok(Path::new("/").join(below))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn read(query: &str) -> Result<Asked, String> {
        let given = Arguments::gather(Some(query), &HeaderMap::new(), b"");
        assert_eq!(given.objection(), None, "{query}");
        Asked::of(&given)
    }

    #[test]
    fn names_and_dates_are_taken() {
        let asked = |query: &str| read(&format!("vhost=__defaultVhost__&app=live&{query}")).unwrap();
        let gb = "stream=34020000001320000001_34020000001320000002";
        assert_eq!(asked(gb).which, Which::Stream);
        assert_eq!(asked(&format!("{gb}&period=2024-02-29")).which, Which::Day("2024-02-29".to_owned()));
        let file = asked("stream=a/b%20c&period=2026-01-01&name=2026-01-01-00-00-00-0.mp4");
        assert_eq!((file.stream.as_str(), file.below().as_str()), ("a/b c", "2026-01-01/2026-01-01-00-00-00-0.mp4"));
        assert_eq!(asked("stream=%E9%97%A8").stream, "门");
        let root = asked("stream=a&customized_path=/data/.zlm/rec/").root;
        assert_eq!(root.as_deref(), Some(Path::new("/data/.zlm/rec")));
    }

    /// The rows g, h and o of the facts' table, and their likes.
    #[test]
    fn what_could_be_a_path_is_refused_and_named() {
        let check = |query: &str, said: &str| {
            let refusal = read(query).unwrap_err();
            assert!(refusal.contains(said), "{query}: {refusal}");
        };
        let base = "vhost=v&app=live&stream=a";
        check("app=live&stream=a", "Required parameter missed");
        check("vhost=v&app=live&stream=", "Required parameter missed");
        for (argument, value) in [
            ("app", ".."),
            ("app", "../.."),
            ("app", "."),
            ("app", "a/b"),
            ("stream", ".."),
            ("stream", "../victim"),
            ("stream", "."),
            ("stream", "a/../b"),
            ("stream", "a//b"),
            ("stream", "/a"),
            ("stream", "a/"),
            ("stream", "a%00b"),
            ("stream", "a%0Ab"),
            ("stream", "a%5c..%5cb"),
            ("stream", "*"),
            ("stream", ".hidden"),
            ("stream", "+a"),
            ("vhost", ".."),
            ("vhost", "a/b"),
        ] {
            let others: Vec<&str> = base.split('&').filter(|pair| !pair.starts_with(argument)).collect();
            check(&format!("{}&{argument}={value}", others.join("&")), &format!("`{argument}` "));
        }
        for day in [
            "2020-13-99",
            "whatever",
            "../victim",
            "2026-1-1",
            "2026-01",
            "2026-02-30",
            "20260101",
            "%202026-01-01",
            "2026-01-01T00",
            "2026-W01-1",
            "+2026-01-01",
            "2026-01-01/",
        ] {
            check(&format!("{base}&period={day}"), "`period` is no day");
        }
        for name in [
            "..",
            "../..",
            "../../victim",
            "../../victim/2026-01-01/v.mp4",
            "/abs/path",
            ".2026-01-01-00-00-00-0.mp4",
            "a/b",
            "%2e%2e",
            "a%00.mp4",
            "?.mp4",
        ] {
            check(&format!("{base}&period=2026-01-01&name={name}"), "`name` ");
        }
        for name in ["x.mp4", "2026-01-02-00-00-00-0.mp4", "2026-01-01-25-00-00-0.mp4", "2026-01-01-00-00-00-0.mp4.bak"]
        {
            check(&format!("{base}&period=2026-01-01&name={name}"), "`name` is no name of a recording of 2026-01-01");
        }
        check(&format!("{base}&name=a.mp4"), "`name` needs `period`");
        for root in ["rec", "./rec", "/data/../etc", "/data//rec", "/", "/data/%00", "/data/*", "//data"] {
            check(&format!("{base}&customized_path={root}"), "`customized_path` ");
        }
        check(&format!("{base}{}", "a".repeat(260)), "longer than");
    }
}
