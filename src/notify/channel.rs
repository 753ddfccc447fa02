//! One channel, ready to send: whatever it is, every send is bounded, and ends in an [`Outcome`].

use std::sync::Arc;
use std::time::Duration;

use super::alertmanager::Alertmanager;
use super::body::Body;
use super::delivery::Outcome;
use super::email::Mailer;
use super::heartbeat::Heartbeat;
use super::robot::Chat;
use super::template::Templates;
use super::webhook::Hook;
use super::wvp_redis::{Alarms, Settings};
use crate::domain::settings::{ChannelKind, ChannelSettings, MailTls, Robot};
use crate::domain::units::{Timestamp, show_duration};
use crate::store::Message;

/// A message on its way.
pub(super) struct Parcel {
    /// The same in every attempt.
    pub(super) id: String,
    /// The message that this one continues.
    pub(super) reply_to: Option<String>,
    /// The body as JSON.
    pub(super) text: Arc<str>,
    /// The body.
    pub(super) body: Body,
    /// When it was queued.
    pub(super) created: Timestamp,
    /// Which attempt this is, from 1.
    pub(super) attempts: u32,
}

impl Parcel {
    /// The parcel of a message, or why it cannot be read.
    pub(super) fn of(message: &Message) -> Result<Self, String> {
        let body = serde_json::from_str(&message.body).map_err(|error| format!("its body cannot be read: {error}"))?;
        Ok(Self {
            id: message.id.clone(),
            reply_to: message.reply_to.clone(),
            text: Arc::clone(&message.body),
            body,
            created: message.created,
            attempts: message.attempts,
        })
    }

    /// The parcel that tries a channel.
    pub(super) fn test(id: String, channel: &str, now: Timestamp, templates: &Templates) -> Self {
        let body = Body::test(channel, now, templates);
        let text = Body::test(channel, now, templates).json().into();
        Self { id, reply_to: None, text, body, created: now, attempts: u32::MAX }
    }
}

/// A channel that is ready.
pub(super) enum Channel {
    Email(Box<Mailer>),
    Webhook(Hook),
    Robot(Chat),
    Alertmanager(Alertmanager),
    WvpRedis(Box<Alarms>),
    Heartbeat(Heartbeat),
}

impl Channel {
    /// Prepares a channel. May block: it reads certificates.
    pub(super) fn new(settings: &ChannelSettings) -> Result<Self, String> {
        match &settings.kind {
            ChannelKind::Email { .. } => Mailer::new(&settings.kind).map(|mailer| Self::Email(Box::new(mailer))),
            ChannelKind::Webhook { url, secret } => Hook::new(url, secret.as_ref()).map(Self::Webhook),
            ChannelKind::Robot { robot, url, secret } => Chat::new(*robot, url, secret.as_ref()).map(Self::Robot),
            ChannelKind::Alertmanager { url, every, generator_url } => {
                Alertmanager::new(url, *every, generator_url.clone()).map(Self::Alertmanager)
            }
            ChannelKind::WvpRedis { url, username, password, ca_file, gb_id, channel } => {
                let (username, password, ca_file) = (username.as_deref(), password.as_ref(), ca_file.as_deref());
                let alarms = Alarms::new(&Settings { url, username, password, ca_file, gb_id, channel });
                alarms.map(|alarms| Self::WvpRedis(Box::new(alarms)))
            }
            ChannelKind::Heartbeat { url, .. } => Heartbeat::new(url).map(Self::Heartbeat),
        }
    }

    /// Sends one message, and takes no longer than `timeout`. What happened is added to `log`, without secrets.
    pub(super) async fn send(
        &self,
        parcel: &Parcel,
        templates: &Templates,
        now: Timestamp,
        timeout: Duration,
        log: &mut Vec<String>,
    ) -> Outcome {
        let begun = log.len();
        let sent = tokio::time::timeout(timeout, async {
            match self {
                Self::Email(mailer) => mailer.send(parcel, templates, log).await,
                Self::Webhook(hook) => hook.send(parcel, now, log).await,
                Self::Robot(chat) => chat.send(parcel, templates, now, log).await,
                Self::Alertmanager(manager) => manager.send(&[&parcel.body], now, log).await,
                Self::WvpRedis(alarms) => alarms.send(parcel, log).await,
                Self::Heartbeat(heartbeat) => heartbeat.send(now, log).await,
            }
        });
        let sent = sent.await;
        sent.unwrap_or_else(|_| late(timeout, log, begun))
    }

    /// Tells a receiver that forgets of all that fires, and takes no longer than `timeout`. The others need not be told.
    pub(super) async fn send_again(&self, bodies: &[Body], now: Timestamp, timeout: Duration) -> Outcome {
        let (mut log, bodies) = (Vec::new(), bodies.iter().collect::<Vec<_>>());
        let sent = tokio::time::timeout(timeout, async {
            match self {
                Self::Alertmanager(manager) => manager.send(&bodies, now, &mut log).await,
                Self::Email(_) | Self::Webhook(_) | Self::Robot(_) | Self::WvpRedis(_) | Self::Heartbeat(_) => {
                    Outcome::Delivered("it forgets nothing".to_owned())
                }
            }
        });
        let sent = sent.await;
        sent.unwrap_or_else(|_| late(timeout, &mut log, 0))
    }
}

/// There was no answer in time. `begun`: where this exchange begins in the log.
fn late(timeout: Duration, log: &mut Vec<String>, begun: usize) -> Outcome {
    // What we said last may be all of a message; what we heard last names the step.
    let heard = log[begun..].iter().rfind(|line| !line.starts_with("> "));
    let step = heard.map(|last| format!(" after `{last}`")).unwrap_or_default();
    let error = format!("no answer within {}{step}", show_duration(timeout));
    log.push(error.clone());
    Outcome::unreachable(error)
}

/// Whom a channel reaches. With another login, signature or mail server it is still the same.
pub(super) fn receiver(of: &ChannelSettings) -> (&'static str, Vec<&str>) {
    let addresses = match &of.kind {
        ChannelKind::Email { to, .. } => to.iter().map(String::as_str).collect(),
        ChannelKind::Webhook { url, .. }
        | ChannelKind::Alertmanager { url, .. }
        | ChannelKind::Robot { url, .. }
        | ChannelKind::Heartbeat { url, .. } => vec![url.reveal()],
        ChannelKind::WvpRedis { url, gb_id, channel, .. } => vec![url.reveal(), gb_id, channel],
    };
    (of.kind.as_str(), addresses)
}

/// What a channel is, in words, without its secrets.
pub(super) fn describe(settings: &ChannelSettings) -> String {
    match &settings.kind {
        ChannelKind::Email { host, port, tls, username, from, to, .. } => {
            let tls = match tls {
                MailTls::Required => "STARTTLS",
                MailTls::Implicit => "TLS",
                MailTls::None => "no encryption",
            };
            let login = if username.is_some() { "with a login" } else { "without login" };
            format!("mail from {from} to {} by {host}:{port}, {tls}, {login}", to.join(", "))
        }
        ChannelKind::Webhook { secret, .. } => {
            let signed = if secret.is_some() { "signed" } else { "not signed" };
            format!("webhook, its address kept secret, {signed}")
        }
        ChannelKind::Alertmanager { .. } => "an Alertmanager, its address kept secret".to_owned(),
        ChannelKind::Robot { robot, secret, .. } => {
            let name = match robot {
                Robot::Dingtalk => "DingTalk",
                Robot::Wecom => "WeCom",
                Robot::Feishu => "Feishu",
                Robot::Slack => "Slack",
            };
            let signed = if robot.signs() && secret.is_some() { "signed" } else { "not signed" };
            format!("robot of {name}, its address kept secret, {signed}")
        }
        ChannelKind::WvpRedis { gb_id, channel, .. } => {
            format!("alarms for WVP in the name of {gb_id}, on channel `{channel}` of a Redis, its address kept secret")
        }
        ChannelKind::Heartbeat { .. } => "a heartbeat, its address kept secret".to_owned(),
    }
}
