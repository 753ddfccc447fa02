//! What hooks told, kept in one step: the record of a recording, and what its platform is still to hear of it.
//!
//! Invariants: what was answered is in the outbox until its platform took it; the numbers of the outbox rise in the order in which hooks were
//! told, and are never given again; a recording that is told of again is no second message.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::database::{Database, DatabaseError};
use super::hook_records::{HookRecord, MOST, forget_oldest, insert_record};
use crate::domain::media::HookEvent;
use crate::domain::names::MediaServerId;
use crate::domain::units::Timestamp;

/// So many events wait for the platform of one media server, and no more …
const EVENTS: u64 = 500_000;
/// … nor more bytes than these.
const BYTES: u64 = 512 << 20;
/// So many are dropped in one step.
const PART: u32 = 5000;
/// Events that say how things stood at a moment: they go first when there is no room.
const PASSING: &str = "('on_server_keepalive', 'on_flow_report', 'on_stream_changed', 'on_send_rtp_stopped')";

/// An event that a platform is to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The media server that told it.
    pub media_server: MediaServerId,
    /// Which event.
    pub event: HookEvent,
    /// The stream, if it tells of a recording: until the platform knows, its table proves nothing of it.
    pub stream: Option<String>,
    /// Headers, a line each.
    pub headers: String,
    /// The body, without secrets.
    pub body: Vec<u8>,
}

/// What a hook told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldHook {
    /// The recording.
    pub record: Option<HookRecord>,
    /// What its platform is to hear.
    pub outgoing: Option<Outgoing>,
}

/// What became of one hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenHook {
    /// Its recording was not known, or it is of none.
    pub new: bool,
    /// Its number in the outbox.
    pub number: Option<i64>,
}

/// What became of hooks that were kept together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenHooks {
    /// Each of them.
    pub each: Vec<TakenHook>,
    /// How many of the oldest records were forgotten to make room.
    pub forgotten: u64,
    /// How many events will not be heard by the platform of which media server, for want of room.
    pub dropped: BTreeMap<MediaServerId, u64>,
}

/// An event that waits for its platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingHook {
    /// Its number.
    pub number: i64,
    /// Which event.
    pub event: HookEvent,
    /// Headers, a line each.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
    /// When it was told.
    pub at: Timestamp,
    /// It was put aside before.
    pub aside: bool,
}

/// What waits for the platform of one media server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events.
    pub events: u64,
    /// Those of them that were put aside.
    pub aside: u64,
    /// When the first was told.
    pub oldest: Option<Timestamp>,
}

/// How much is kept.
#[derive(Clone, Copy)]
struct Room {
    records: u64,
    events: u64,
    bytes: u64,
}

impl Database {
    /// Keeps what a media server's own hooks told; says of each what became of it. What there is no room for takes the place of the oldest: a
    /// media server does not tell again, so what it tells now is worth more. All is on the disk when this returns.
    ///
    /// # Errors
    /// What SQLite says: then none was kept.
    pub fn take_hooks(&self, hooks: &[ToldHook], at: Timestamp) -> Result<TakenHooks, DatabaseError> {
        self.take_hooks_into(hooks, at, Room { records: MOST, events: EVENTS, bytes: BYTES })
    }

    fn take_hooks_into(&self, hooks: &[ToldHook], at: Timestamp, room: Room) -> Result<TakenHooks, DatabaseError> {
        self.durably("keep hooks", |transaction| {
            let mut taken = TakenHooks::default();
            for hook in hooks {
                let new = match &hook.record {
                    Some(record) => insert_record(transaction, record, at)?,
                    None => true,
                };
                let outgoing = hook.outgoing.as_ref().filter(|_| new);
                let number = outgoing.map(|outgoing| queue(transaction, outgoing, at)).transpose()?;
                taken.each.push(TakenHook { new, number });
            }
            if hooks.iter().any(|hook| hook.record.is_some()) {
                taken.forgotten = forget_oldest(transaction, room.records)?;
            }
            let servers = hooks.iter().filter_map(|hook| hook.outgoing.as_ref().map(|outgoing| &outgoing.media_server));
            for server in servers.collect::<std::collections::BTreeSet<_>>() {
                let dropped = make_room(transaction, server, room)?;
                if dropped > 0 {
                    taken.dropped.insert(server.clone(), dropped);
                }
            }
            Ok(taken)
        })
    }

    /// The events that the platform of a media server is to hear next, in their order: `limit` of them at most. What was put aside is among
    /// them once it is due.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn waiting_hooks(
        &self,
        media_server: &MediaServerId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<WaitingHook>, DatabaseError> {
        self.with("read what a platform is to hear", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT number, event, headers, body, at, aside FROM hook_outbox
                 WHERE media_server = ?1 AND aside <= ?2 ORDER BY number LIMIT ?3",
            )?;
            statement.query_map(params![media_server.as_str(), now.millis(), limit], waiting_of)?.collect()
        })
    }

    /// A platform took an event. Whether this is durable at once does not matter to a process that is killed; after a loss of power the
    /// platform may hear the last ones again.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn forget_waiting(&self, number: i64) -> Result<(), DatabaseError> {
        self.with("forget what a platform took", |connection| {
            connection.prepare_cached("DELETE FROM hook_outbox WHERE number = ?1")?.execute([number]).map(drop)
        })
    }

    /// A platform refuses an event: it is left out until then.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_aside(&self, number: i64, until: Timestamp) -> Result<(), DatabaseError> {
        self.with("put aside what a platform refuses", |connection| {
            let mut statement = connection.prepare_cached("UPDATE hook_outbox SET aside = ?2 WHERE number = ?1")?;
            statement.execute(params![number, until.millis()]).map(drop)
        })
    }

    /// What waits for the platform of a media server.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn hook_backlog(&self, media_server: &MediaServerId) -> Result<Backlog, DatabaseError> {
        self.with("count what a platform is to hear", |connection| {
            let server = media_server.as_str();
            let sum = "SELECT events FROM hook_outbox_size WHERE media_server = ?1";
            let events: Option<i64> =
                connection.prepare_cached(sum)?.query_row([server], |row| row.get(0)).optional()?;
            let aside = "SELECT COUNT(*) FROM hook_outbox WHERE media_server = ?1 AND aside > 0";
            let aside: i64 = connection.prepare_cached(aside)?.query_row([server], |row| row.get(0))?;
            let first = "SELECT at FROM hook_outbox WHERE media_server = ?1 ORDER BY number LIMIT 1";
            let oldest: Option<i64> =
                connection.prepare_cached(first)?.query_row([server], |row| row.get(0)).optional()?;
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            let oldest = oldest.map(Timestamp::from_millis);
            Ok(Backlog { events: count(events.unwrap_or(0)), aside: count(aside), oldest })
        })
    }

    /// Streams of which a platform was not told something yet: its table may lack recordings of them.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn unheard_streams(&self) -> Result<Vec<String>, DatabaseError> {
        self.with("read what a platform is to hear", |connection| {
            let mut statement = connection
                .prepare_cached("SELECT DISTINCT stream FROM hook_outbox WHERE stream IS NOT NULL ORDER BY stream")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// The media servers that told something for which a platform is still waited.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn waiting_servers(&self) -> Result<Vec<MediaServerId>, DatabaseError> {
        self.with("read what a platform is to hear", |connection| {
            let mut statement = connection
                .prepare_cached("SELECT media_server FROM hook_outbox_size WHERE events > 0 ORDER BY media_server")?;
            statement.query_map([], |row| Ok(MediaServerId::new(&row.get::<_, String>(0)?)))?.collect()
        })
    }

    /// Drops all that waits for the platform of a media server; says how much it was.
    ///
    /// # Errors
    /// What SQLite says: then a part of it may be gone.
    pub fn drop_waiting(&self, media_server: &MediaServerId) -> Result<u64, DatabaseError> {
        let mut dropped = 0;
        loop {
            // A part at a time: hooks that come meanwhile are not to wait for all of it.
            let gone = self.with("drop what a platform will not hear", |connection| {
                let mut statement = connection.prepare_cached(
                    "DELETE FROM hook_outbox WHERE number IN
                         (SELECT number FROM hook_outbox WHERE media_server = ?1 ORDER BY number LIMIT ?2)",
                )?;
                statement.execute(params![media_server.as_str(), PART])
            })?;
            dropped += gone as u64;
            if gone == 0 {
                return Ok(dropped);
            }
        }
    }
}

fn queue(transaction: &Transaction<'_>, outgoing: &Outgoing, at: Timestamp) -> rusqlite::Result<i64> {
    let Outgoing { media_server, event, stream, headers, body } = outgoing;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO hook_outbox(media_server, event, stream, headers, body, at, aside) VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0)",
    )?;
    statement.insert(params![media_server.as_str(), event.as_str(), stream, headers, body, at.millis()])
}

/// Drops what there is no room for: first the oldest of what says how things stood, then the oldest. Says how many.
fn make_room(transaction: &Transaction<'_>, server: &MediaServerId, room: Room) -> rusqlite::Result<u64> {
    let mut dropped = 0;
    let sizes = |transaction: &Transaction<'_>| -> rusqlite::Result<(u64, u64)> {
        let sql = "SELECT events, bytes FROM hook_outbox_size WHERE media_server = ?1";
        let found: Option<(i64, i64)> = transaction
            .prepare_cached(sql)?
            .query_row([server.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (events, bytes) = found.unwrap_or_default();
        Ok((u64::try_from(events).unwrap_or(0), u64::try_from(bytes).unwrap_or(0)))
    };
    loop {
        let (events, bytes) = sizes(transaction)?;
        if events == 0 || (events <= room.events && bytes <= room.bytes) {
            return Ok(dropped);
        }
        // A part at a time, so that it need not be looked for again with each hook.
        let part = events.saturating_sub(room.events).max(room.events / 100).max(1);
        let drop = |which: &str| {
            let sql = format!(
                "DELETE FROM hook_outbox WHERE number IN
                     (SELECT number FROM hook_outbox WHERE media_server = ?1 {which} ORDER BY number LIMIT ?2)"
            );
            let limit = i64::try_from(part).unwrap_or(i64::MAX);
            transaction.prepare_cached(&sql)?.execute(params![server.as_str(), limit])
        };
        let mut gone = drop(&format!("AND event IN {PASSING}"))?;
        if gone == 0 {
            gone = drop("")?;
        }
        dropped += gone as u64;
    }
}

fn waiting_of(row: &Row<'_>) -> rusqlite::Result<WaitingHook> {
    let event: String = row.get("event")?;
    Ok(WaitingHook {
        number: row.get("number")?,
        event: HookEvent::from_word(&event).unwrap_or(HookEvent::Other),
        headers: row.get("headers")?,
        body: row.get("body")?,
        at: Timestamp::from_millis(row.get("at")?),
        aside: row.get::<_, i64>("aside")? > 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { records: 2, events: 100, bytes: 1000 };

    fn record(path: &str) -> HookRecord {
        HookRecord {
            path: path.as_bytes().to_vec(),
            start: Timestamp::from_secs(1),
            media_server: "zlm-1".to_owned(),
            stream: "live/a".to_owned(),
            size: 100,
            length: 6000,
        }
    }

    fn server() -> MediaServerId {
        MediaServerId::new("zlm-1")
    }

    fn outgoing(event: HookEvent, body: &str) -> Outgoing {
        let stream = (event == HookEvent::RecordMp4).then(|| "live/a".to_owned());
        Outgoing { media_server: server(), event, stream, headers: "a: b\n".to_owned(), body: body.as_bytes().to_vec() }
    }

    fn recorded(path: &str) -> ToldHook {
        ToldHook { record: Some(record(path)), outgoing: Some(outgoing(HookEvent::RecordMp4, path)) }
    }

    fn alive(body: &str) -> ToldHook {
        ToldHook { record: None, outgoing: Some(outgoing(HookEvent::ServerKeepalive, body)) }
    }

    fn take(database: &Database, hooks: &[ToldHook], room: Room) -> TakenHooks {
        database.take_hooks_into(hooks, Timestamp::from_secs(7), room).unwrap()
    }

    fn waiting(database: &Database, now: u64) -> Vec<(i64, String)> {
        let all = database.waiting_hooks(&server(), Timestamp::from_secs(now.cast_signed()), 1000).unwrap();
        all.into_iter().map(|hook| (hook.number, String::from_utf8(hook.body).unwrap())).collect()
    }

    #[test]
    fn what_the_media_server_tells_now_takes_the_place_of_the_oldest_record() {
        let database = Database::memory().unwrap();
        let only = |path: &str| ToldHook { record: Some(record(path)), outgoing: None };
        let take = |paths: &[&str]| {
            let taken = take(&database, &paths.iter().map(|path| only(path)).collect::<Vec<_>>(), ROOM);
            (taken.each.iter().map(|each| each.new).collect::<Vec<_>>(), taken.forgotten)
        };
        assert_eq!(take(&["/a/0", "/a/1"]), (vec![true, true], 0));
        assert_eq!(take(&["/a/1", "/a/0"]), (vec![false, false], 0));
        assert_eq!(take(&["/a/2", "/a/3", "/a/2"]), (vec![true, true, false], 2));
        assert_eq!(database.hooks_after(0, 9).unwrap().len(), 2);
        assert!(waiting(&database, 9).is_empty());
    }

    #[test]
    fn a_recording_that_is_told_of_again_is_no_second_message() {
        let database = Database::memory().unwrap();
        let taken = take(&database, &[recorded("/a/0"), alive("up"), recorded("/a/0"), alive("up")], ROOM);
        let numbers: Vec<_> = taken.each.iter().map(|each| (each.new, each.number)).collect();
        assert_eq!(numbers, [(true, Some(1)), (true, Some(2)), (false, None), (true, Some(3))]);
        assert_eq!(waiting(&database, 9), [(1, "/a/0".to_owned()), (2, "up".to_owned()), (3, "up".to_owned())]);
        assert_eq!(database.unheard_streams().unwrap(), ["live/a"]);
        database.forget_waiting(3).unwrap();
        database.forget_waiting(1).unwrap();
        assert!(database.unheard_streams().unwrap().is_empty());
        assert_eq!(take(&database, &[alive("new")], ROOM).each[0].number, Some(4), "no number is given again");
        assert!(take(&database, &[recorded("/a/0")], ROOM).each[0].number.is_none());
    }

    #[test]
    fn what_is_put_aside_waits_and_counts() {
        let database = Database::memory().unwrap();
        take(&database, &[alive("a"), alive("b")], ROOM);
        database.put_aside(1, Timestamp::from_secs(50)).unwrap();
        assert_eq!(waiting(&database, 49), [(2, "b".to_owned())]);
        assert_eq!(waiting(&database, 50).len(), 2);
        let oldest = Some(Timestamp::from_secs(7));
        assert_eq!(database.hook_backlog(&server()).unwrap(), Backlog { events: 2, aside: 1, oldest });
        assert_eq!(database.hook_backlog(&MediaServerId::new("zlm-2")).unwrap(), Backlog::default());
    }

    /// Otherwise a media server that was taken out would stand in the way of every verdict about its streams, for ever.
    #[test]
    fn what_waits_for_a_media_server_that_was_taken_out_is_to_be_heard_until_it_is_dropped() {
        let database = Database::memory().unwrap();
        let gone = MediaServerId::new("zlm-2");
        let mut other = recorded("/b/0");
        let outgoing = other.outgoing.as_mut().unwrap();
        (outgoing.media_server, outgoing.stream) = (gone.clone(), Some("live/b".to_owned()));
        take(&database, &[recorded("/a/0"), other], Room { records: 100, ..ROOM });
        assert_eq!(database.unheard_streams().unwrap(), ["live/a", "live/b"]);
        assert_eq!(database.waiting_servers().unwrap(), [server(), gone.clone()]);
        assert_eq!((database.drop_waiting(&gone).unwrap(), database.drop_waiting(&gone).unwrap()), (1, 0));
        assert_eq!(database.waiting_servers().unwrap(), [server()]);
        assert_eq!(database.unheard_streams().unwrap(), ["live/a"]);
        assert_eq!(waiting(&database, 9).len(), 1);
    }

    /// Fault 123: what is dropped is the least of it, and is counted.
    #[test]
    fn without_room_what_only_says_how_things_stood_goes_first() {
        let database = Database::memory().unwrap();
        let room = Room { records: 100, events: 3, ..ROOM };
        assert!(take(&database, &[recorded("/a/0"), alive("b"), recorded("/a/2")], room).dropped.is_empty());
        let taken = take(&database, &[recorded("/a/3")], room);
        assert_eq!(taken.dropped, BTreeMap::from([(server(), 1)]));
        let bodies = |database: &Database| waiting(database, 9).into_iter().map(|(_, body)| body).collect::<Vec<_>>();
        assert_eq!(bodies(&database), ["/a/0", "/a/2", "/a/3"]);
        take(&database, &[recorded("/a/4")], room);
        assert_eq!(bodies(&database), ["/a/2", "/a/3", "/a/4"]);
        let taken = take(&database, &[recorded(&"x".repeat(999))], room);
        assert_eq!((taken.dropped[&server()], bodies(&database).len()), (3, 1), "bytes are bounded too");
    }
}
