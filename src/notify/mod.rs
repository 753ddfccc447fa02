//! From a change of alerts to a delivered message: due -> send -> retry -> record; one file for each channel.
//!
//! 1. `changed` puts an alert into its group (what it is about); the group waits for others, and between its messages. Of a muted alert
//!    nothing becomes due but the resolution of what was told.
//! 2. What is due becomes one message for each channel, and is written to the database before it is sent.
//! 3. A send is counted before it begins: a message that may have arrived is never taken back as if it had not.
//! 4. The answer decides: sent, tried again, or dropped and shown as dropped. All of it is told as `Event::Notified`.
//!
//! Three kinds of channels stand apart. WVP's Redis is told only of what is an alarm there, and of no end (`wvp_redis`). An Alertmanager is told again and again what fires, past the outbox (`standing`), and a
//! heartbeat is told of no alert: it is called while all is well (`heartbeat`). Whatever a channel begins to send takes a token, of
//! which each has so many a minute.
//!
//! While the database cannot be written, all of this goes on in memory, and is written as soon as it can be.
//!
//! Locks: the turn of the writer before the state; neither is held while a channel sends, and the state is not held while
//! the database writes or an event is told.

mod address;
mod alertmanager;
mod body;
mod bounded;
mod callback;
mod channel;
mod delivery;
mod email;
mod escape;
mod groups;
mod health;
#[cfg(test)]
mod health_tests;
mod heartbeat;
mod http;
#[cfg(test)]
mod lost_tests;
mod mail_text;
mod mask;
mod notifier;
mod queue;
mod robot;
mod robot_answer;
mod sample;
mod silences;
mod standing;
#[cfg(test)]
mod storm_tests;
mod tasks;
mod template;
mod webhook;
mod wording;
mod wvp_redis;

pub use callback::{Callback, Told};
pub use notifier::Notifier;
pub use standing::{ChannelReport, ChannelState, DroppedMessage};
pub use template::template_problems;
