//! Media servers, for people.

use std::fmt::{self, Write as _};

use crate::domain::path::show_bytes;
use crate::server::shapes::MediaServer;

/// So many streams are named.
const STREAMS: usize = 10;

/// Whether a media server answers, and what it does not record because of the guard. What it says itself is on one line.
pub(super) fn describe(out: &mut String, server: &MediaServer) -> fmt::Result {
    let said = |text: &str| show_bytes(text.as_bytes()).0;
    write!(out, "media server {}: ", server.name)?;
    let since = server.since.as_deref().unwrap_or("now");
    match server.state.as_str() {
        "up" => write!(out, "answers since {since}; ")?,
        "down" => {
            let reason = said(server.reason.as_deref().unwrap_or("no reason is known"));
            write!(out, "CANNOT BE ASKED since {since}: {reason}; ")?;
        }
        _ => write!(out, "was not asked yet; ")?,
    }
    let (streams, mp4, hls) = (server.streams, server.recorded_mp4, server.recorded_hls);
    match &server.listed {
        Some(at) => writeln!(out, "{streams} streams, {mp4} recorded to MP4, {hls} to HLS, as it said at {at}")?,
        None => writeln!(out, "its streams are not known")?,
    }
    let stopped = &server.not_recorded;
    if let Some(first) = stopped.iter().map(|one| one.since.as_str()).min() {
        let names: Vec<String> = stopped.iter().take(STREAMS).map(|one| said(&one.stream)).collect();
        let more =
            if stopped.len() > STREAMS { format!(" and {} more", stopped.len() - STREAMS) } else { String::new() };
        writeln!(
            out,
            "  NOT RECORDED, so that the disk does not fill, {} streams since {first}: {}{more}",
            stopped.len(),
            names.join(", ")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::shapes::NotRecorded;

    fn check(server: &MediaServer, expected: &str) {
        let mut out = String::new();
        describe(&mut out, server).unwrap();
        assert_eq!(out, expected);
    }

    #[test]
    fn one_line_says_whether_it_answers_and_another_what_is_not_recorded() {
        let mut server = MediaServer {
            name: "zlm-1".to_owned(),
            state: "unasked".to_owned(),
            since: None,
            reason: None,
            listed: None,
            streams: 0,
            recorded_mp4: 0,
            recorded_hls: 0,
            not_recorded: Vec::new(),
        };
        check(&server, "media server zlm-1: was not asked yet; its streams are not known\n");
        (server.state, server.since) = ("up".to_owned(), Some("T1".to_owned()));
        (server.listed, server.streams, server.recorded_mp4) = (Some("T2".to_owned()), 3, 2);
        let streams = "3 streams, 2 recorded to MP4, 0 to HLS, as it said at T2\n";
        check(&server, &format!("media server zlm-1: answers since T1; {streams}"));
        (server.state, server.reason) = ("down".to_owned(), Some("it refuses\nthe secret".to_owned()));
        let stopped = |number: usize| NotRecorded {
            stream: format!("live/{number}"),
            since: format!("T{}", 9 - number % 2),
            volume: "data".to_owned(),
        };
        server.not_recorded = (0..11).map(stopped).collect();
        let names: Vec<String> = (0..10).map(|number| format!("live/{number}")).collect();
        let expected = format!(
            "media server zlm-1: CANNOT BE ASKED since T1: it refuses%0Athe secret; {streams}  NOT RECORDED, so that the disk does not \
             fill, 11 streams since T8: {} and 1 more\n",
            names.join(", ")
        );
        check(&server, &expected);
    }
}
