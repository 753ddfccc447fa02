//! Adoption: the row that the platform should have had for a recording, made from its name and the file itself.

use std::time::Duration;

use super::path::show_bytes;
use super::units::{Timestamp, show_duration};

/// A row of `wvp_cloud_record`, as WVP would have made it of the media server's hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// First part of the stream.
    pub app: String,
    /// The rest of it.
    pub stream: String,
    /// When it begins, milliseconds since 1970: the time in the name.
    pub start_time: i64,
    /// When it ends, milliseconds since 1970.
    pub end_time: i64,
    /// The media server; `None`: as the table's other rows of our trees have it, if all have the same.
    pub media_server: Option<String>,
    /// Its name.
    pub file_name: String,
    /// The stream's folder, as the media server sees it, with a slash at its end.
    pub folder: String,
    /// Where it is, as the media server sees it.
    pub file_path: String,
    /// Its size in bytes.
    pub file_size: i64,
    /// How long it is, in milliseconds.
    pub time_len: i64,
}

/// What became of an adoption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopted {
    /// The row was inserted, with this number.
    Inserted(i64),
    /// It would be inserted: nothing was written.
    Would,
    /// There is a row for it already, with this number.
    Known(i64),
    /// It cannot be: why.
    Refused(String),
}

/// The longest recording that is believed: a longer one would be kept by the platform for as long after its end.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// What the table holds of names and of paths, in characters.
const NAME: usize = 255;
const PATH: usize = 500;

/// The row of a recording. `outside` is where it is as the media server sees it, `started` the time in its name, `size` in bytes, and
/// `length` what the file says of itself.
///
/// App and stream are taken from the path, since the layout's stream says the same with a virtual host and without: the directories
/// above the day are `app/stream` if they end in the layout's stream as it is, and `vhost/record/app/stream` if that is
/// `vhost/app/stream`. A stream's own name may have further slashes in it, an app's may not.
///
/// # Errors
/// Says in a sentence why it cannot be adopted.
pub fn adoption(
    stream: &str,
    outside: &str,
    started: Option<Timestamp>,
    size: u64,
    length: Option<Duration>,
    media_server: Option<&str>,
) -> Result<Adoption, String> {
    let no = |why: &str| Err(format!("`{}` cannot be adopted: {why}", show_bytes(outside.as_bytes()).0));
    let Some(started) = started else { return no("its name holds no time, so nobody knows when it begins") };
    let Some(length) = length else { return no("it does not say how long it is, or cannot be played") };
    if length > LONGEST {
        let why = format!("it says that it is {} long, which is not believed", show_duration(length));
        return no(&why);
    }
    let Some(parts) = outside.strip_prefix('/').map(|path| path.split('/').collect::<Vec<_>>()) else {
        return no("its path on the media server is not absolute; look at `path_map`");
    };
    let bad = |part: &&str| matches!(*part, "" | "." | "..") || part.chars().any(char::is_control);
    if parts.iter().any(bad) {
        return no("its path has a part that is empty, `.` or `..`, or control characters in it");
    }
    let [above @ .., day, name] = &parts[..] else {
        return no("it does not lie in a directory of its stream and its day");
    };
    if name.starts_with('.') {
        return no("its name begins with a dot, so the media server did not finish it");
    }
    let dated = day.len() == 10 && day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let Some((app, id)) = app_and_stream(stream, above).filter(|_| dated) else {
        let why = format!("it does not lie in a day's directory of `{stream}`, as the media server would have it");
        return no(&why);
    };
    let folder = format!("/{}/", above.join("/"));
    let longest = |text: &str, most: usize| text.chars().count() > most;
    if longest(app, NAME) || longest(&id, NAME) || longest(name, NAME) || longest(outside, PATH) {
        return no("its path is longer than the platform's table holds");
    }
    let (start, whole) = (started.secs(), i64::try_from(length.as_secs()).unwrap_or(i64::MAX));
    let Ok(file_size) = i64::try_from(size) else { return no("it is larger than the platform's table holds") };
    Ok(Adoption {
        app: app.to_owned(),
        stream: id,
        // WVP: `startTime * 1000`, `(startTime + (long) timeLen) * 1000`, and `timeLen * 1000`, which the database rounds.
        start_time: start.saturating_mul(1000),
        end_time: start.saturating_add(whole).saturating_mul(1000),
        media_server: media_server.map(str::to_owned),
        file_name: (*name).to_owned(),
        folder,
        file_path: outside.to_owned(),
        file_size,
        time_len: i64::try_from((length.as_micros() + 500) / 1000).unwrap_or(i64::MAX),
    })
}

/// What the media server calls app and stream of a file below these directories.
fn app_and_stream<'a>(stream: &'a str, above: &[&str]) -> Option<(&'a str, String)> {
    let parts: Vec<&str> = stream.split('/').collect();
    let split = |parts: &[&'a str]| match parts {
        [app, id @ ..] if !id.is_empty() => Some((*app, id.join("/"))),
        _ => None,
    };
    if above.ends_with(&parts) {
        // Without the directory of the records between them nothing says that it is a virtual host: but none else bears such a name.
        return split(&parts).filter(|(app, _)| !(app.starts_with("__") && app.ends_with("__")));
    }
    let (vhost, rest) = parts.split_first()?;
    let behind = above.len().checked_sub(rest.len())?;
    let [.., host, record] = above.get(..behind)? else { return None };
    (above[behind..] == *rest && host == vhost && *record == "record").then(|| split(rest)).flatten()
}

#[cfg(test)]
#[path = "adoption_tests.rs"]
mod tests;
