//! What is wrong becomes an alert, and an alert a message: looked at every second.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::hub::{Hub, lock};
use crate::domain::alert::{AlertName, Case, Condition, Subject};
use crate::domain::alert_book::{Active, AlertBook, AlertState, Change};
use crate::domain::archive_failing::{archive_untold, archives_failing};
use crate::domain::conditions::{condition, conditions, untold};
use crate::domain::deletion::Seq;
use crate::domain::event::Event;
use crate::domain::fact::{Fact, FactName};
use crate::domain::settings::{AlertTuning, NotifySettings, Severity};
use crate::domain::silence::{Homes, Wanted};
use crate::domain::units::Timestamp;
use crate::notify::{ChannelReport, ChannelState, Notifier};
use crate::server::Refusal;
use crate::server::records::{self, ChannelTest, NewSilence, SilenceMade};
use crate::server::shapes::{AlertCounts, Channel, DroppedMessage};
use crate::store::{Database, DatabaseError, Journal};

/// A worker that shows no progress for so long keeps the heartbeat from going on.
const STUCK: Duration = Duration::from_secs(60);

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);

/// An alert that is over is shown for so long …
const SHOWN: Duration = Duration::from_secs(86_400);

/// … and so many of them.
const MOST: usize = 100;

/// Alerts, and who is told of them.
pub struct Alerts {
    hub: Arc<Hub>,
    pub(super) notifier: Arc<Notifier>,
    book: Mutex<AlertBook>,
    /// Those that were over lately, the last one first; a restart forgets them.
    over: Mutex<VecDeque<(Active, Timestamp)>>,
    tuning: Mutex<Vec<AlertTuning>>,
    database: Arc<Database>,
    /// Where it belongs.
    path: PathBuf,
    /// No channel delivers, and the log says so.
    undelivered: AtomicBool,
}

impl Alerts {
    /// Goes on with what was firing when the guard last ran.
    #[must_use]
    pub fn new(hub: Arc<Hub>, settings: &NotifySettings, database: Arc<Database>, path: PathBuf) -> Self {
        let firing = database.firing().unwrap_or_else(|error| {
            let text = format!("the alerts that were firing cannot be read ({error}); they are told of anew");
            hub.record(&Event::Remark { text, urgent: false });
            Vec::new()
        });
        let recorder = hub.clone();
        let told = move |event: Event| recorder.record(&event);
        let notifier = Notifier::new(settings.clone(), database.clone(), hub.clock.clone(), told);
        Self {
            hub,
            notifier: Arc::new(notifier),
            book: Mutex::new(AlertBook::restore(firing)),
            over: Mutex::default(),
            tuning: Mutex::new(settings.tuning.clone()),
            database,
            path,
            undelivered: AtomicBool::new(false),
        }
    }

    /// Another configuration is in force.
    pub(super) fn set(&self, settings: &NotifySettings) {
        (*lock(&self.tuning)).clone_from(&settings.tuning);
        self.notifier.set_settings(settings.clone());
    }

    /// Looks until `stop`.
    pub(super) fn watch(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.look();
            // It had no room when the guard was started.
            if self.database.in_memory() && self.database.move_to(&self.path).is_ok() {
                let text = format!("alerts are kept in `{}` from now on", self.path.display());
                self.hub.record(&Event::Remark { text, urgent: false });
            }
            self.hub.clock.sleep(TICK);
        }
    }

    fn look(&self) {
        let now = self.hub.now();
        let views = self.hub.views();
        let (catalogues, media) = (self.hub.catalogue_views(), self.hub.live.views());
        let mut found = self.hub.with_history(|history| conditions(&views, &catalogues, &media, history, now));
        let archives = self.hub.archives();
        found.extend(self.hub.with_history(|history| archives_failing(&archives, &views, history, now)));
        found.extend(self.undelivered());
        let untold = |active: &Active, restored| {
            let of_archive = active.alert() == AlertName::ArchiveFailing && restored;
            untold(active.alert(), active.subject(), restored, &views, &catalogues, &media)
                || (of_archive && archive_untold(active.subject(), &archives, &views))
        };
        let changes = lock(&self.book).step(&found, untold, &lock(&self.tuning), now);
        if !changes.is_empty() {
            self.remember(&changes, now);
            changes.iter().filter_map(|change| self.event(change, now)).for_each(|event| self.hub.record(&event));
            self.notifier.changed(changes);
        }
        // A heartbeat is for the volumes too, not only for this thread.
        if self.hub.slowest().is_none_or(|(_, silent)| silent < STUCK) {
            self.notifier.looked();
        }
    }

    /// What everybody is told of a change; nothing of one that neither begins nor ends an alert.
    fn event(&self, change: &Change, now: Timestamp) -> Option<Event> {
        let (active, lasted) = match change {
            Change::Fired(active) => (active, None),
            Change::Resolved(active) => (active, Some(now.since(active.since))),
            Change::Updated(_) => return None,
        };
        Some(Event::Alerted {
            alert: active.alert(),
            subject: active.subject().clone(),
            severity: active.severity(),
            summary: self.notifier.wording(&active.condition).summary,
            lasted,
        })
    }

    fn remember(&self, changes: &[Change], now: Timestamp) {
        let mut over = lock(&self.over);
        for change in changes {
            let (Change::Fired(active) | Change::Updated(active) | Change::Resolved(active)) = change;
            over.retain(|(other, _)| (other.alert(), other.subject()) != (active.alert(), active.subject()));
            if let Change::Resolved(active) = change {
                over.push_front((active.clone(), now));
            }
        }
        over.truncate(MOST);
    }

    /// The alert that no channel will tell of: the log does, once when it begins and once when it ends.
    fn undelivered(&self) -> Option<Condition> {
        let since = self.notifier.failing_since();
        if self.undelivered.swap(since.is_some(), Ordering::Relaxed) != since.is_some() {
            let text = match since {
                Some(since) => format!("alerts are not delivered since {since}: no channel works"),
                None if self.notifier.tells_anybody() => "alerts are delivered again".to_owned(),
                None => "no channel is left that could deliver alerts".to_owned(),
            };
            self.hub.record(&Event::Remark { text, urgent: since.is_some() });
        }
        let since = since?;
        let lasting = (FactName::Lasting, Fact::Span(self.hub.now().since(since)));
        Some(condition(AlertName::DeliveryFailing, Subject::Guard, Case::Only, [lasting]))
    }

    /// What is firing, for the metrics.
    pub(super) fn firing(&self) -> Vec<(AlertName, Severity)> {
        let book = lock(&self.book);
        let firing = book.active().filter(|active| active.state == AlertState::Firing);
        firing.map(|active| (active.condition.alert, active.condition.severity)).collect()
    }

    /// The channels, for the API.
    pub(super) fn channels(&self) -> Vec<Channel> {
        self.notifier.channels().into_iter().map(channel).collect()
    }

    /// What is pending or firing, and what was over lately.
    #[must_use]
    pub fn list(&self) -> Vec<records::Alert> {
        let now = self.hub.now();
        let active = |active: &Active| {
            let state = match active.state {
                AlertState::Pending => records::AlertState::Pending,
                AlertState::Firing => records::AlertState::Firing,
            };
            let muted_by = self.notifier.muted_by(&active.condition).map(Into::into);
            records::Alert { muted_by, ..self.shape(active, state) }
        };
        let mut out: Vec<_> = lock(&self.book).active().map(active).collect();
        let over = |(active, ended): &(Active, Timestamp)| records::Alert {
            ended: Some(ended.to_string()),
            ..self.shape(active, records::AlertState::Resolved)
        };
        out.extend(lock(&self.over).iter().filter(|(_, ended)| now.since(*ended) <= SHOWN).map(over));
        out
    }

    fn shape(&self, active: &Active, state: records::AlertState) -> records::Alert {
        records::Alert::of(&active.condition, self.notifier.wording(&active.condition), state, active.since)
    }

    /// How many there are, for the status.
    pub(super) fn counts(&self) -> AlertCounts {
        let book = lock(&self.book);
        let firing: Vec<_> = book.active().filter(|active| active.state == AlertState::Firing).collect();
        let muted = firing.iter().filter(|active| self.notifier.muted_by(&active.condition).is_some());
        let silences = self.notifier.silences();
        AlertCounts {
            firing: firing.len(),
            muted: muted.count(),
            silences: silences.iter().filter(|silence| silence.ended.is_none()).count(),
        }
    }

    /// Says on which volume each tree lies.
    pub fn set_homes(&self, homes: Homes) {
        self.notifier.set_homes(homes);
    }

    /// Silences that are in effect; also those that ended lately, if `ended`.
    #[must_use]
    pub fn silences(&self, ended: bool) -> Vec<records::Silence> {
        let silences = self.notifier.silences();
        silences.iter().filter(|silence| ended || silence.ended.is_none()).map(Into::into).collect()
    }

    /// Mutes alerts.
    ///
    /// # Errors
    /// 400 if it cannot be meant.
    pub fn silence(&self, wanted: &NewSilence, who: &str) -> Result<SilenceMade, Refusal> {
        let bad = |sentence: String| Refusal::bad_request("bad_silence", sentence);
        let until: jiff::Timestamp = wanted.until.parse().map_err(|_| {
            bad(format!("`until` is {:?}, but must be a time such as 2026-11-22T08:00:00Z", wanted.until))
        })?;
        let asked = Wanted {
            alert: wanted.alert.as_deref(),
            tree: wanted.tree.as_deref(),
            volume: wanted.volume.as_deref(),
            all: wanted.all,
            until: Timestamp::from_millis(until.as_millisecond()),
            reason: &wanted.reason,
        };
        let (silence, durable) = self.notifier.silence(&asked, who).map_err(bad)?;
        Ok(SilenceMade { id: silence.id, durable })
    }

    /// Ends a silence early.
    ///
    /// # Errors
    /// 404 if there is none with that number in effect.
    pub fn end_silence(&self, id: u64, who: &str) -> Result<(), Refusal> {
        let ended = self.notifier.end_silence(id, who);
        let none = || Refusal::not_found(format!("there is no silence {id} in effect; see `alerts silence`"));
        ended.map(drop).ok_or_else(none)
    }

    /// Sends a message by a channel now, and gives the whole exchange. Blocks until it is sent or not.
    ///
    /// # Errors
    /// 404 if there is no such channel, 503 if nothing can be sent at all.
    pub fn test_channel(&self, name: &str) -> Result<ChannelTest, Refusal> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Refusal::unavailable("no_runtime", error.to_string()))?;
        let tested = runtime.block_on(self.notifier.test(name));
        // A resolver that hangs is not waited for.
        runtime.shutdown_background();
        let (delivered, text) = match tested {
            Ok(text) => (true, text),
            Err(text) if !self.notifier.has_channel(name) => return Err(Refusal::not_found(text)),
            Err(text) => (false, text),
        };
        Ok(ChannelTest { delivered, transcript: text.lines().map(str::to_owned).collect() })
    }
}

fn channel(report: ChannelReport) -> Channel {
    let (state, since, last_error) = match report.state {
        ChannelState::Unknown => ("unknown", None, None),
        ChannelState::Working { since } => ("working", Some(since), None),
        ChannelState::Failing { since, error } => ("failing", Some(since), Some(error)),
    };
    let dropped = |message: crate::notify::DroppedMessage| DroppedMessage {
        time: message.at.to_string(),
        alert: message.alert.to_string(),
        labels: records::labels(&message.subject).into_iter().map(|(name, of)| (name.to_owned(), of)).collect(),
        state: message.kind.to_string(),
        error: message.error,
    };
    Channel {
        name: report.name,
        kind: report.kind.to_owned(),
        state: state.to_owned(),
        since: since.map(|at| at.to_string()),
        queued: report.queued,
        oldest_seconds: report.oldest.as_secs(),
        last_error,
        dropped: report.dropped,
        last_dropped: report.last_dropped.into_iter().map(dropped).collect(),
    }
}

/// Compares database and journal: both know the daemon's last start, and if they differ, one was lost or is an older copy. Nothing
/// follows from the older one but what a full scan confirms; that it is older is told (fault 73).
pub(super) fn compare(database: &Database, journal: &Journal, before: Seq, hub: &Hub) {
    const KEY: &str = "last_start";
    // One in memory knows nothing, and why it is there was told.
    if database.in_memory() {
        return;
    }
    let known = database.get(KEY).ok().flatten().and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let text = match known.map(Seq) {
        Some(known) if known > before => Some(
            "the journal is older than the database beside it: it was lost, or replaced by an earlier copy; what was done since is not on record",
        ),
        Some(known) if known < before => Some(
            "the database is older than the journal beside it: it was replaced by an earlier copy; alerts may be told of again",
        ),
        None if before > Seq(0) => Some("the database was lost, or made anew; alerts may be told of again"),
        Some(_) | None => None,
    };
    if let Some(text) = text {
        hub.record(&Event::Remark { text: text.to_owned(), urgent: true });
    }
    let now = journal.with_history(|history| history.last_start);
    // On a full disk the next start compares with an older one, and says so needlessly.
    let _ = database.put(KEY, &now.0.to_le_bytes());
}

/// Opens the database; where that cannot be done the guard goes on without one, and says so (promise 13).
pub(super) fn open_database(path: &std::path::Path, state: &str, hub: &Hub) -> Result<Arc<Database>, DatabaseError> {
    let remark = |text: String| hub.record(&Event::Remark { text, urgent: false });
    match Database::of(path, state) {
        Ok(opened) => {
            if let Some(why) = opened.rebuilt {
                remark(why);
            }
            Ok(Arc::new(opened.database))
        }
        Err(error) => {
            remark(format!("{error}; alerts are kept in memory only, and forgotten with a restart"));
            Database::memory().map(Arc::new)
        }
    }
}
