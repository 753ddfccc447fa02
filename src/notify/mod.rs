//! From a change of alerts to a delivered message: due -> send -> retry -> record; one file for each channel.
//!
//! 1. `changed` puts an alert into its group (what it is about); the group waits for others, and between its messages.
//! 2. What is due becomes one message for each channel, and stands in the database before anything is sent.
//! 3. A send is counted before it begins: a message that may have arrived is never taken back as if it had not.
//! 4. The answer decides: sent, tried again, or dropped and shown as dropped. All of it is told as a [`NotifyEvent`].
//!
//! Locks: `writer` before `state`; neither is held while a channel sends, and `state` is not held while the database writes.

mod address;
mod body;
mod delivery;
mod email;
mod groups;
mod mail_text;
mod notifier;
#[cfg(test)]
mod notifier_tests;
mod queue;
mod tasks;
mod webhook;

pub use notifier::{Notifier, NotifyEvent, NotifyResult};
