//! What waits for a platform to which no relay leads any more: it is said, kept for a while, since the relay may come back, and then dropped.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::hub::{Hub, lock};
use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::domain::media::{MediaServerSettings, with_relay};
use crate::domain::names::MediaServerId;
use crate::domain::relay::{ABANDONED, RelayStatus, RelayView};
use crate::domain::units::Timestamp;
use crate::store::{Database, DatabaseError};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3600);
/// So many of these are made before anything is dropped: a clock that jumps makes no week.
const LOOKS: u32 = 120;

/// What waits, and nobody takes.
pub(super) struct Abandoned {
    hub: Arc<Hub>,
    database: Arc<Database>,
    /// Media servers that have a relay. Held while something is dropped, so that none comes back meanwhile.
    relayed: Mutex<BTreeSet<MediaServerId>>,
    views: Mutex<Vec<RelayView>>,
}

impl Abandoned {
    /// Nothing is known yet.
    pub(super) fn new(hub: Arc<Hub>, database: Arc<Database>) -> Self {
        Self { hub, database, relayed: Mutex::default(), views: Mutex::default() }
    }

    /// These settings are in force: says what waits in vain.
    pub(super) fn set(&self, all: &[MediaServerSettings]) {
        *lock(&self.relayed) = with_relay(all).cloned().collect();
        self.look(self.hub.now(), false);
    }

    /// As it was last seen.
    pub(super) fn views(&self) -> Vec<RelayView> {
        lock(&self.views).clone()
    }

    /// Looks now and then, until the shutdown.
    pub(super) async fn watch(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        // An error says that the sender is gone, and with it whoever wanted us.
        while timeout(LOOK, shutdown.wait_for(|stop| *stop)).await.is_err() {
            let one = self.clone();
            let _ = spawn_blocking(move || one.look(one.hub.now(), true)).await;
        }
    }

    /// Looks what waits. Each hour what has waited long enough is dropped; else the rest is said in the log.
    fn look(&self, now: Timestamp, hourly: bool) {
        let relayed = lock(&self.relayed);
        match self.found(&relayed, now, hourly) {
            Ok(views) => {
                if !hourly {
                    views.iter().for_each(|view| self.remark(described(view), false));
                }
                *lock(&self.views) = views;
            }
            Err(error) => {
                let text = format!("what waits for platforms without a relay cannot be read: {}", chain(&error));
                self.remark(text, false);
            }
        }
    }

    fn found(
        &self,
        relayed: &BTreeSet<MediaServerId>,
        now: Timestamp,
        hourly: bool,
    ) -> Result<Vec<RelayView>, DatabaseError> {
        for server in relayed {
            if self.database.get(&key(server))?.is_some() {
                self.database.delete(&key(server))?;
            }
        }
        let mut views = Vec::new();
        for server in self.database.waiting_servers()?.into_iter().filter(|server| !relayed.contains(server)) {
            let (since, looks) = self.since(&server, now, hourly)?;
            if now.since(since) < ABANDONED || looks < LOOKS {
                let backlog = self.database.hook_backlog(&server)?;
                let (waiting, aside, oldest) = (backlog.events, backlog.aside, backlog.oldest);
                let status = RelayStatus { waiting, aside, oldest, ..RelayStatus::default() };
                views.push(RelayView { media_server: server, status, unrelayed: Some(since) });
                continue;
            }
            let dropped = self.database.drop_waiting(&server)?;
            self.database.delete(&key(&server))?;
            let text = format!(
                "{dropped} hooks of media server `{server}` were dropped, and its platform will not hear them: it has had no `hooks.relay` since {since}"
            );
            self.remark(text, true);
        }
        Ok(views)
    }

    /// Since when there is no relay, as far as this was seen, and how often it was looked for since.
    fn since(&self, server: &MediaServerId, now: Timestamp, hourly: bool) -> Result<(Timestamp, u32), DatabaseError> {
        let noted = self.database.get(&key(server))?.and_then(|value| noted(&value));
        // A clock that was ahead must not keep it for ever.
        let known = noted.filter(|(since, _)| *since <= now);
        let (since, looks) = known.unwrap_or((now, 0));
        let looks = looks.saturating_add(u32::from(hourly));
        if known != Some((since, looks)) {
            self.database.put(&key(server), format!("{} {looks}", since.millis()).as_bytes())?;
        }
        Ok((since, looks))
    }

    fn remark(&self, text: String, urgent: bool) {
        self.hub.record(&Event::Remark { text, urgent });
    }
}

fn noted(value: &[u8]) -> Option<(Timestamp, u32)> {
    let (since, looks) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    Some((Timestamp::from_millis(since.parse().ok()?), looks.parse().ok()?))
}

fn key(server: &MediaServerId) -> String {
    format!("unrelayed {server}")
}

/// What a person can do about it.
fn described(view: &RelayView) -> String {
    format!(
        "{} hooks of media server `{}` wait for its platform, which has no `hooks.relay` any more: give it one again and they are delivered in order; else they are dropped after {}",
        view.status.waiting,
        view.media_server,
        view.kept_until().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::media::HookEvent;
    use crate::store::{Journal, Outgoing, ToldHook};
    use crate::system::SystemClock;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_waits_without_a_relay_is_said_and_dropped_after_a_week_unless_the_relay_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let journal = Journal::open(&home.path().join("journal")).unwrap().journal;
        let hub = Arc::new(Hub::new(Arc::new(journal), Arc::new(SystemClock)));
        let database = Arc::new(Database::memory().unwrap());
        let (gone, other) = (MediaServerId::new("zlm-1"), MediaServerId::new("zlm-2"));
        let told = |media_server: &MediaServerId| ToldHook {
            record: None,
            outgoing: Some(Outgoing {
                media_server: media_server.clone(),
                event: HookEvent::RecordMp4,
                stream: Some("live/a".to_owned()),
                headers: String::new(),
                body: Vec::new(),
            }),
        };
        let began = Timestamp::from_secs(1_000_000);
        database.take_hooks(&[told(&gone), told(&gone), told(&other)], began).unwrap();
        let abandoned = Abandoned::new(hub, database.clone());
        let with = |servers: &[&MediaServerId], day: u32| {
            *lock(&abandoned.relayed) = servers.iter().copied().cloned().collect();
            abandoned.look(began.plus(DAY * day), false);
            let shown = |view: RelayView| (view.media_server, view.status.waiting, view.unrelayed.unwrap());
            abandoned.views().into_iter().map(shown).collect::<Vec<_>>()
        };
        let since = |day: u32| began.plus(DAY * day);
        assert_eq!(with(&[&gone, &other], 0), []);
        assert_eq!(with(&[&other], 1), [(gone.clone(), 2, since(1))]);
        assert_eq!(with(&[&other], 7), [(gone.clone(), 2, since(1))]);
        assert_eq!(with(&[&gone, &other], 9), [], "it came back: they are delivered");
        assert_eq!(with(&[&other], 10), [(gone.clone(), 2, since(10))], "and the week begins anew");
        let said = described(&abandoned.views()[0]);
        let until = since(17).to_string();
        assert!(said.starts_with("2 hooks of media server `zlm-1`") && said.ends_with(&until), "{said}");
        assert_eq!(with(&[&other], 17), [(gone.clone(), 2, since(10))], "it may be the clock");
        (1..LOOKS).for_each(|_| abandoned.look(since(17), true));
        assert_eq!(abandoned.views().len(), 1);
        abandoned.look(since(16), true);
        assert_eq!(abandoned.views().len(), 1, "no week has passed");
        abandoned.look(since(17), true);
        assert_eq!(abandoned.views().len(), 0);
        let left = |server| database.hook_backlog(server).unwrap().events;
        assert_eq!((left(&gone), left(&other)), (0, 1));
        assert_eq!(with(&[], 2), [(other, 1, since(2))], "a clock that goes back");
    }
}
