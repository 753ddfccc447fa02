//! What is wrong becomes an alert, and an alert a message: looked at every second.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::hub::{Hub, lock};
use crate::domain::alert::{AlertName, Case, Condition, Subject};
use crate::domain::alert_book::{AlertBook, AlertState};
use crate::domain::conditions::{condition, conditions};
use crate::domain::deletion::Seq;
use crate::domain::event::Event;
use crate::domain::fact::{Fact, FactName};
use crate::domain::settings::{AlertTuning, NotifySettings, Severity};
use crate::notify::{ChannelReport, ChannelState, Notifier};
use crate::server::records;
use crate::server::shapes::{Channel, DroppedMessage};
use crate::store::{Database, DatabaseError, Journal};

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);

/// Alerts, and who is told of them.
pub(super) struct Alerts {
    hub: Arc<Hub>,
    pub(super) notifier: Arc<Notifier>,
    book: Mutex<AlertBook>,
    tuning: Mutex<Vec<AlertTuning>>,
    database: Arc<Database>,
    /// Where it belongs.
    path: PathBuf,
    /// No channel delivers, and the log says so.
    undelivered: AtomicBool,
}

impl Alerts {
    /// Goes on with what was firing when the guard last ran.
    pub(super) fn new(hub: Arc<Hub>, settings: &NotifySettings, database: Arc<Database>, path: PathBuf) -> Self {
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
            if self.hub.seen() {
                self.look();
            }
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
        let mut found = self.hub.with_history(|history| conditions(&views, history, now));
        found.extend(self.undelivered());
        let changes = lock(&self.book).step(&found, &lock(&self.tuning), now);
        if !changes.is_empty() {
            self.notifier.changed(changes);
        }
        self.notifier.looked();
    }

    /// The alert that no channel will tell of: the log does, once when it begins and once when it ends.
    fn undelivered(&self) -> Option<Condition> {
        let since = self.notifier.failing_since();
        if self.undelivered.swap(since.is_some(), Ordering::Relaxed) != since.is_some() {
            let text = match since {
                Some(since) => format!("alerts are not delivered since {since}: no channel works"),
                None => "alerts are delivered again".to_owned(),
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

    /// What is pending or firing, for the API.
    pub(super) fn list(&self) -> Vec<records::Alert> {
        let book = lock(&self.book);
        let shape = |active: &crate::domain::alert_book::Active| {
            let state = match active.state {
                AlertState::Pending => records::AlertState::Pending,
                AlertState::Firing => records::AlertState::Firing,
            };
            records::Alert::of(&active.condition, self.notifier.wording(&active.condition), state, active.since)
        };
        book.active().map(shape).collect()
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
