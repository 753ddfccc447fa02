//! `media_servers`: who records, how it is asked, and where its hooks and the calls of its API arrive.

use std::collections::BTreeMap;
use std::time::Duration;

use super::addresses::web;
use super::node::{Map, Names, Node};
use super::others::{Listening, named, path_map};
use super::secrets;
use crate::domain::media::{
    GatewaySettings, HookEvent, HookSettings, MediaServerSettings, RelayDefault, SwitchSettings,
};
use crate::domain::names::MediaServerId;

/// How long the platform may take for an event that asks, if nobody says: less than the ten seconds that ZLMediaKit waits by itself.
const RELAY: Duration = Duration::from_secs(5);
/// A deletion through the gateway that takes longer is answered with its job.
const ANSWER: Duration = Duration::from_secs(20);

/// The media servers of a configuration.
#[derive(Default)]
pub(super) struct MediaServers {
    pub(super) names: Names,
    pub(super) all: Vec<MediaServerSettings>,
}

/// Reads `media_servers`.
pub(super) fn read(top: &mut Map<'_>, listening: &mut Listening) -> MediaServers {
    let mut all = Vec::new();
    let names = named(top, "media_servers", |name, map| all.extend(one(name, map, listening)));
    MediaServers { names, all }
}

fn one(name: Option<String>, map: &mut Map<'_>, listening: &mut Listening) -> Option<MediaServerSettings> {
    map.need("kind", "say what it is: `zlmediakit`").and_then(|node| node.word(&[("zlmediakit", ())]));
    let api =
        map.need("api", "say where its HTTP API is, such as `http://127.0.0.1:8080`").and_then(|node| address(&node));
    let secret = secrets::take(map, "secret", "secret_file").map(|given| given.secret);
    let path_map = path_map(map);
    let at = map.take("hooks").and_then(|node| node.map()).and_then(|mut hooks| {
        let listen = hooks.need("listen", "say where hooks are received").and_then(|node| listening.claim(&node));
        let relay = hooks.take("relay").and_then(|node| address(&node));
        hooks.done();
        Some((listen?, relay))
    });
    let relay_timeout = map.span("relay_timeout", RELAY);
    let relay_default = map.take("relay_default").and_then(|node| node.map()).map(defaults).unwrap_or_default();
    let gateway = map.take("gateway").and_then(|node| {
        let mut gateway = node.map()?;
        passable(&node, api.as_deref(), secret.is_some());
        let listen = gateway.need("listen", "say where the gateway listens").and_then(|node| listening.claim(&node));
        let answer_within = gateway.span("answer_within", ANSWER);
        gateway.done();
        Some(GatewaySettings { listen: listen?, answer_within })
    });
    let recording_switch = map.take("recording_switch").and_then(|node| node.map()).and_then(|mut switch| {
        let below = switch.need("below_priority", "say which streams may be stopped");
        let below = below.and_then(|node| node.number(i32::MIN));
        switch.done();
        Some(SwitchSettings { below_priority: below? })
    });
    Some(MediaServerSettings {
        name: MediaServerId::new(&name?),
        api: api?,
        secret,
        path_map,
        hooks: at.map(|(listen, relay)| HookSettings { listen, relay, relay_timeout, relay_default }),
        gateway,
        recording_switch,
    })
}

fn defaults(map: Map<'_>) -> BTreeMap<HookEvent, RelayDefault> {
    let mut out = BTreeMap::new();
    for (event, node) in map.all() {
        let word = node.word(RelayDefault::WORDS);
        match HookEvent::from_word(event) {
            Some(event) if event.asks() && event != HookEvent::Other => out.extend(word.map(|word| (event, word))),
            Some(event) if event != HookEvent::Other => node.problem(
                "is an event that only tells, and is kept until the platform takes it; name events that ask, such as `on_play`",
            ),
            _ => node.problem("is no event of the media server; they begin with `on_`, such as `on_play`"),
        }
    }
    out
}

/// Notes why no gateway can stand before a media server.
fn passable(gateway: &Node<'_>, api: Option<&str>, secret: bool) {
    if !secret {
        gateway.problem("needs the media server's secret, which deletions are checked by; give `secret_file`");
    }
    let plain = |api: &str| {
        let url = reqwest::Url::parse(api).ok();
        url.is_some_and(|url| url.scheme() == "http" && url.username().is_empty() && url.query().is_none())
    };
    if api.is_some_and(|api| !plain(api)) {
        gateway.problem("speaks plain HTTP to the media server; give its `api` as `http://host:port`");
    }
}

/// An address of the web, without a slash at its end.
fn address(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    web(node, &text)?;
    Some(text.trim().trim_end_matches('/').to_owned())
}
