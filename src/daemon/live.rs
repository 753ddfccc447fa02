//! Asks the media servers which streams they have, again and again. No volume ever waits for that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::hub::Hub;
use super::switch;
use crate::config::Config;
use crate::domain::event::Event;
use crate::domain::live::Reach;
pub use crate::zlmediakit::Advice;
use crate::zlmediakit::{Asking, Client, advise};

/// Between two looks who is to be asked.
const TICK: Duration = Duration::from_millis(250);

/// Asks who is due, until shutdown.
pub(super) async fn watch(hub: Arc<Hub>, mut shutdown: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = shutdown.changed() => return,
        }
        let live = hub.live.clone();
        let Ok(due) = spawn_blocking(move || live.due()).await else { continue };
        for asking in due {
            // One that hangs keeps no other waiting.
            tokio::spawn(attend(hub.clone(), asking));
        }
    }
}

/// Asks one media server, and switches recordings there.
async fn attend(hub: Arc<Hub>, asking: Asking) {
    ask(&hub, &asking).await;
    switch::step(&hub, &asking.server, &asking.client).await;
}

async fn ask(hub: &Hub, asking: &Asking) {
    let streams = asking.client.streams().await;
    let config = match (&streams, asking.config) {
        (Ok(_), true) => asking.client.server_config().await.ok(),
        (Ok(_) | Err(_), _) => None,
    };
    let (before, now) = hub.live.asked(asking, streams, config);
    let told = match (&before, &now) {
        (Reach::Up { .. }, Reach::Up { .. }) => false,
        // Another reason is news, the same one in other words is not.
        (Reach::Down { why: before, .. }, Reach::Down { why, .. }) => before.as_str() != why.as_str(),
        (_, Reach::Up { .. } | Reach::Down { .. } | Reach::Unasked) => true,
    };
    if told {
        hub.record(&Event::MediaServer { server: asking.server.clone(), reach: now });
    }
}

/// Asks every media server once, for a command.
pub fn ask_media_servers(config: &Config, hub: &Hub) {
    hub.live.set(&config.media_servers, config.probe_interval);
    let due = hub.live.due();
    let all = async {
        let asked = due.iter().map(|asking| async {
            let streams = asking.client.streams().await;
            hub.live.asked(asking, streams, None);
        });
        join_all(asked).await;
    };
    if let (Ok(runtime), false) = (runtime(), due.is_empty()) {
        runtime.block_on(all);
        // A resolver that hangs is not waited for.
        runtime.shutdown_background();
    }
}

/// Asks every media server where it records, and compares that with the trees.
#[must_use]
pub fn examine_media_servers(config: &Config) -> Advice {
    let mut out = Advice::default();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            out.problems.push(format!("the media servers cannot be asked: {error}"));
            return out;
        }
    };
    for settings in &config.media_servers {
        let who = format!("media server `{}`", settings.name);
        let said = match Client::new(settings) {
            Ok(client) => runtime.block_on(client.server_config()).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match said {
            Ok(said) => {
                let advice = advise(settings, &said, &config.trees);
                out.problems.extend(advice.problems);
                out.notes.extend(advice.notes);
            }
            Err(error) => out.problems.push(format!("{who}: {error}")),
        }
    }
    runtime.shutdown_background();
    out
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Waits for all of them, which go on side by side.
async fn join_all<F: Future<Output = ()>>(all: impl Iterator<Item = F>) {
    let mut all: Vec<_> = all.map(|one| Box::pin(one)).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
