//! The threads of the volumes: each looks, acts, and takes requests, one thing after the other.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::demands::Desk;
use super::hub::{Command, Hub};
use super::remedies::carry;
use super::retry::Again;
use super::runs::Wish;
use super::systemd::Pulse;
use super::volume::VolumeWorker;
use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::store::JournalError;
use crate::system::Clock;

/// How long a worker that is told to stop may take: it finishes the file it is at.
const PATIENCE: Duration = Duration::from_secs(8);
/// Directories between two looks whether the disk is busy.
const STRIDE: u64 = 64;
/// A scan rests so long while it is.
const REST: Duration = Duration::from_millis(100);
/// So often in a row an inspection gives way to what was asked for.
const YIELDS: u32 = 5;
/// While it rests it looks so often for what was asked.
const HEED: Duration = Duration::from_millis(10);

/// A volume's thread.
pub(super) struct Worker {
    thread: JoinHandle<VolumeWorker>,
}

impl Worker {
    /// Starts it, and gives its volume a seat at the hub.
    pub(super) fn start(
        mut volume: VolumeWorker,
        hub: &Arc<Hub>,
        interval: Duration,
        stop: &Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let queue = hub.queue_of(&volume.name);
        let pulse = Arc::new(Pulse::default());
        pulse.beat(hub.clock.as_ref());
        hub.seat(volume.view(), Some(queue.clone()), pulse.clone());
        let clock = hub.clock.clone();
        let desk = Desk { hub: hub.clone(), queue, stop: stop.clone(), pulse, clock };
        let name = format!("volume {}", volume.name);
        let thread = std::thread::Builder::new().name(name.chars().take(15).collect()).spawn(move || {
            volume.desk = Some(desk.clone());
            work(&mut volume, &desk, interval);
            volume.desk = None;
            volume
        })?;
        Ok(Self { thread })
    }

    /// It ended by itself: a panic.
    pub(super) fn lost(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended; `None` if it panicked, or does not end: its mount hangs, and the thread is left to it.
    pub(super) fn end(self, clock: &dyn Clock) -> Option<VolumeWorker> {
        let began = clock.boottime();
        while !self.thread.is_finished() {
            if clock.boottime().saturating_sub(began) > PATIENCE {
                return None;
            }
            clock.sleep(Duration::from_millis(10));
        }
        self.thread.join().ok()
    }
}

fn work(volume: &mut VolumeWorker, desk: &Desk, interval: Duration) {
    let hub = desk.hub.as_ref();
    let publish = |volume: &VolumeWorker| hub.publish(volume.view());
    let mut settled = false;
    let mut due = hub.clock.boottime();
    loop {
        if desk.asked() {
            return;
        }
        let now = hub.clock.boottime();
        if now >= due {
            due = now + interval;
            let ticked = tick(volume, hub, &mut settled, desk, &publish);
            // What could not be put on record is settled once it can be.
            settled &= ticked.is_ok() && !volume.upset;
            report(hub, ticked);
        }
        // Short, so that a stop is heard soon.
        let wait = due.saturating_sub(hub.clock.boottime()).min(Duration::from_millis(500));
        let Some(command) = desk.queue.next(wait, &|| hub.clock.boottime()) else { continue };
        if desk.asked() {
            // The next worker takes it.
            return desk.queue.return_first(command);
        }
        let served = serve(volume, hub, command, desk, &publish);
        settled &= served.is_ok() && !volume.upset;
        report(hub, served);
    }
}

fn report(hub: &Hub, result: Result<(), JournalError>) {
    if let Err(error) = result {
        hub.record(&Event::Remark { text: format!("{}; nothing is deleted", chain(&error)), urgent: true });
    }
}

/// Looks once. A scan rests while the disk is busy, and ends when the worker does.
fn look(volume: &mut VolumeWorker, hub: &Hub, desk: &Desk) -> Result<(), JournalError> {
    volume.probe()?;
    // The first scan may take long; until it is done nothing else is known.
    hub.probed(&volume.name);
    let (machine, clock) = (volume.machine.clone(), volume.engine.clock.clone());
    volume.look_on(false, &mut |volume, _, at| {
        volume.attend();
        if at.directories.is_multiple_of(STRIDE) && machine.busy() {
            let began = clock.boottime();
            while clock.boottime().saturating_sub(began) < REST && !desk.demanded() {
                clock.sleep(HEED);
            }
        }
        if desk.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    // Before anybody is told, so that the first alert names them.
    volume.look_for_foreign();
    volume.tell_promises();
    Ok(())
}

fn tick(
    volume: &mut VolumeWorker,
    hub: &Hub,
    settled: &mut bool,
    desk: &Desk,
    publish: &dyn Fn(&VolumeWorker),
) -> Result<(), JournalError> {
    look(volume, hub, desk)?;
    publish(volume);
    if volume.returned() {
        hub.ask_reopen();
    }
    *settled = (*settled && !volume.unsettled()) || volume.settle()?;
    if *settled {
        volume.mark_holds(&|| desk.asked());
        volume.act(&|| desk.asked(), publish)?;
        publish(volume);
    }
    // Last, since it may take long.
    inspect(volume, desk);
    publish(volume);
    Ok(())
}

/// Inspects. A demand that waits ends that early, to be done anew with the next look; but not again and again.
fn inspect(volume: &mut VolumeWorker, desk: &Desk) {
    let patient = volume.yielded < YIELDS;
    volume.inspect(&|| desk.asked() || (patient && desk.demanded()));
    volume.yielded = if patient && desk.demanded() { volume.yielded + 1 } else { 0 };
}

fn serve(
    volume: &mut VolumeWorker,
    hub: &Hub,
    command: Command,
    desk: &Desk,
    publish: &dyn Fn(&VolumeWorker),
) -> Result<(), JournalError> {
    let served = match command {
        Command::Apply { plan, job, who } => {
            let Some(cancelled) = hub.with_jobs(|jobs| jobs.begin(job, hub.now())) else { return Ok(()) };
            let ended = || desk.asked() || cancelled.load(Ordering::Relaxed);
            let result = look(volume, hub, desk).and_then(|()| {
                if volume.reading.is_err() || !volume.steady()? {
                    return Ok(None);
                }
                volume
                    .carry_out(&plan, &Wish { who: &who, run: job, job: Some(job), exactly: true }, &ended, publish)
                    .map(Some)
            });
            let (report, failed) = match result {
                Ok(report) => (report, None),
                Err(error) => (None, Some(error)),
            };
            hub.with_jobs(|jobs| jobs.end(job, report, hub.now()));
            failed.map_or(Ok(()), Err)
        }
        Command::Retry { id, who } => volume.retry(Again::Asked(id, &who), &|| desk.asked()).map(|_| ()),
        Command::Remedy { job, remedy, who } => {
            let Some(cancelled) = hub.with_jobs(|jobs| jobs.begin(job, hub.now())) else { return Ok(()) };
            let ended = || desk.asked() || cancelled.load(Ordering::Relaxed);
            let looked = look(volume, hub, desk);
            carry(volume, hub, job, &remedy, &who, &ended, looked)
        }
        Command::Demand(task) => {
            volume.serve(task);
            return Ok(());
        }
        Command::Look => {
            look(volume, hub, desk)?;
            volume.mark_holds(&|| desk.asked());
            volume.act(&|| desk.asked(), publish).map(|()| inspect(volume, desk))
        }
    };
    publish(volume);
    served
}
