//! Everything that happens. One recorder makes metrics, log and alerts of it.

use std::time::Duration;

use super::alert::{AlertName, Subject};
use super::catalogue::Distrust;
use super::deletion::{Attempt, Cap, RunResult, Target};
use super::ledger::{BatchAccount, Judgement};
use super::live::Reach;
use super::media::{GatewayResult, HookEvent, HookResult};
use super::names::{ArchiveId, CatalogueId, MediaServerId, TreeId, VolumeId};
use super::path::RelPath;
use super::pressure::Pressure;
use super::protection::Hold;
use super::recording::Tally;
use super::recording_switch::SwitchStep;
use super::settings::Severity;
use super::silence::{Silence, SilenceChange};
use super::units::{Bytes, Timestamp};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A volume was asked for its space, and its state may have changed.
    Probed {
        /// The volume.
        volume: VolumeId,
        /// The state before.
        before: Pressure,
        /// The state now.
        now: Pressure,
    },
    /// A tree was scanned.
    Scanned {
        /// The tree.
        tree: TreeId,
        /// How long it took.
        took: Duration,
        /// Recordings found.
        files: u64,
        /// Their bytes.
        bytes: Bytes,
        /// Bytes that are new since the scan before.
        inflow: Bytes,
        /// Places that could not be read.
        problems: u64,
    },
    /// A run began.
    RunStarted {
        /// The volume.
        volume: VolumeId,
        /// Its number.
        run: u64,
        /// How many recordings were chosen.
        files: usize,
        /// Their bytes.
        bytes: Bytes,
        /// Who wanted it.
        who: String,
    },
    /// The deletion of a recording came to an outcome, of this attempt at least.
    Settled {
        /// What was to go.
        target: Target,
        /// What became of it.
        attempt: Attempt,
        /// It had failed before.
        again: bool,
    },
    /// A batch was measured.
    Measured {
        /// The volume.
        volume: VolumeId,
        /// The account.
        account: BatchAccount,
        /// What the ledger makes of it.
        judgement: Judgement,
    },
    /// A run ended.
    RunEnded {
        /// The volume.
        volume: VolumeId,
        /// Its number.
        run: u64,
        /// How.
        result: RunResult,
        /// Why, in words.
        why: String,
        /// How long it took.
        took: Duration,
        /// Recordings verified as deleted.
        files: u64,
        /// Their bytes.
        expected: Bytes,
        /// What came back.
        reclaimed: Bytes,
    },
    /// A directory that had become empty was removed.
    Pruned {
        /// The tree.
        tree: TreeId,
        /// The directory.
        path: RelPath,
    },
    /// A deleted file was closed by who had it open.
    Closed {
        /// What it was.
        target: Target,
        /// Bytes that came back.
        bytes: Bytes,
    },
    /// A cap tripped.
    CapTripped {
        /// The tree.
        tree: TreeId,
        /// The cap.
        cap: Cap,
        /// Bytes that were wanted.
        wanted: Bytes,
        /// Bytes that it allows.
        allowed: Bytes,
    },
    /// A person let go of a cap.
    CapAcknowledged {
        /// The tree.
        tree: TreeId,
        /// The cap.
        cap: Cap,
        /// Who.
        who: String,
    },
    /// A person closed a failed deletion.
    FailureClosed {
        /// What was to go.
        target: Target,
        /// Who.
        who: String,
        /// Why.
        reason: String,
    },
    /// The clock is not trusted any more, or is again.
    Clock {
        /// Since when it is not; `None` if it is.
        suspect: Option<Timestamp>,
        /// In words.
        text: String,
    },
    /// The configuration was loaded again, or could not be.
    Reloaded {
        /// Every problem; empty if it is in force.
        problems: Vec<String>,
    },
    /// An alert began to fire, or is over.
    Alerted {
        /// Its name.
        alert: AlertName,
        /// What it is about.
        subject: Subject,
        /// How bad, as the configuration has it.
        severity: Severity,
        /// What it says, in a sentence.
        summary: String,
        /// How long it lasted; `None` if it begins.
        lasted: Option<Duration>,
    },
    /// A message was sent, will be sent again, or was given up.
    Notified {
        /// The channel.
        channel: String,
        /// `sent`, `retried` or `dropped`.
        result: Delivery,
        /// In words; secrets masked.
        detail: String,
    },
    /// A heartbeat arrived, or did not and will be sent again.
    Beat {
        /// The channel.
        channel: String,
        /// `sent` or `retried`.
        result: Delivery,
    },
    /// A catalogue was read, and is believed.
    CatalogueRead {
        /// The catalogue.
        catalogue: CatalogueId,
        /// Its rows in trees of ours.
        rows: u64,
        /// How long it took.
        took: Duration,
    },
    /// A catalogue is believed again, or for the first time.
    CatalogueTrusted {
        /// The catalogue.
        catalogue: CatalogueId,
    },
    /// A catalogue is not believed any more.
    CatalogueDistrusted {
        /// The catalogue.
        catalogue: CatalogueId,
        /// Why.
        why: Distrust,
    },
    /// A tree was compared with its catalogues.
    Compared {
        /// The tree.
        tree: TreeId,
        /// Recordings that are proven orphans.
        orphans: Tally,
        /// Rows without a file that we did not delete.
        missing: u64,
        /// How long it took.
        took: Duration,
    },
    /// Rows of a catalogue were inserted or removed.
    RowsChanged {
        /// The catalogue.
        catalogue: CatalogueId,
        /// The tree whose recordings they are of.
        tree: TreeId,
        /// Rows that were inserted.
        inserted: u64,
        /// Rows that were removed.
        removed: u64,
        /// Who wanted it.
        who: String,
    },
    /// Something became of a media server's hooks.
    Hooked {
        /// The media server whose listener had them.
        media_server: MediaServerId,
        /// What they told or asked.
        event: HookEvent,
        /// What became of them.
        result: HookResult,
        /// How many.
        count: u64,
    },
    /// Events that a platform was to hear were dropped, for want of room.
    HooksDropped {
        /// The media server that told them.
        media_server: MediaServerId,
        /// How many.
        count: u64,
    },
    /// A call to the gateway before a media server was answered.
    GatewayAnswered {
        /// The media server.
        media_server: MediaServerId,
        /// What became of the call.
        result: GatewayResult,
    },
    /// A silence began or ended.
    Silenced {
        /// The silence.
        silence: Silence,
        /// What happened to it.
        change: SilenceChange,
        /// Who did it; empty if its time was over.
        who: String,
    },
    /// A hold was made, or ended.
    Held {
        /// The hold.
        hold: Hold,
        /// Why it is in effect no more; nothing if it was made.
        ended: Option<String>,
        /// Who did it.
        who: String,
    },
    /// A media server can be asked, or cannot any more.
    MediaServer {
        /// The media server.
        server: MediaServerId,
        /// Whether it can be asked.
        reach: Reach,
    },
    /// A stream's recording was stopped so that the disk does not fill, or begun again, or could not be.
    RecordingSwitched {
        /// The media server.
        server: MediaServerId,
        /// The stream, as its media server names it.
        stream: String,
        /// What was done.
        step: SwitchStep,
        /// Why, or why not.
        why: String,
    },
    /// A recording was copied to an archive, and the copy verified.
    Archived {
        /// Its tree.
        tree: TreeId,
        /// Where to.
        archive: ArchiveId,
        /// Its allocated bytes.
        bytes: Bytes,
    },
    /// A recording could not be copied to an archive, for another reason than the last one.
    ArchiveFailed {
        /// The archive.
        archive: ArchiveId,
        /// Why.
        why: String,
    },
    /// Something that a person should know, and that has no metric of its own.
    Remark {
        /// One constant sentence.
        text: String,
        /// Somebody must act.
        urgent: bool,
    },
}

super::deletion::words! {
    /// What became of an attempt to deliver a message.
    Delivery {
        /// It arrived.
        Sent = "sent",
        /// It will be tried again.
        Retried = "retried",
        /// It was given up.
        Dropped = "dropped",
    }
}
