//! `notify`: alerts and channels.

use std::path::PathBuf;
use std::time::Duration;

use super::addresses::{has_login, mail, mail_server, redis, target, web};
use super::node::{Map, Names, Node, choice};
use super::secrets::{self, Given};
use super::whole::longer;
use crate::domain::address::loopback;
use crate::domain::alert::AlertName;
use crate::domain::secret::Secret;
use crate::domain::settings::{
    AlertTuning, ChannelKind, ChannelSettings, Language, MailTls, NotifySettings, Robot, Severity,
};
use crate::domain::units::show_duration;

/// What a channel can be.
#[derive(Clone, Copy)]
enum Kind {
    Email,
    Webhook,
    Alertmanager,
    Robot(Robot),
    WvpRedis,
    Heartbeat,
}

const KINDS: [(&str, Kind); 9] = [
    ("email", Kind::Email),
    ("webhook", Kind::Webhook),
    ("alertmanager", Kind::Alertmanager),
    ("dingtalk", Kind::Robot(Robot::Dingtalk)),
    ("wecom", Kind::Robot(Robot::Wecom)),
    ("feishu", Kind::Robot(Robot::Feishu)),
    ("slack", Kind::Robot(Robot::Slack)),
    ("wvp_redis", Kind::WvpRedis),
    ("heartbeat", Kind::Heartbeat),
];
const LANGUAGES: [(&str, Language); 2] = [("en", Language::English), ("zh", Language::Chinese)];
/// How often an Alertmanager is told again what fires, and a heartbeat is sent, if nothing is said.
const EVERY: Duration = Duration::from_secs(60);
/// No more often than that …
const SHORTEST: Duration = Duration::from_secs(1);
/// … and no more seldom: who waits for longer hears of nothing in time.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Digits of an id of GB/T 28181.
const GB_ID: usize = 20;
/// Where WVP listens for alarms.
const ALARMS: &str = "alarm_receive";
const TLS: [(&str, MailTls); 3] =
    [("required", MailTls::Required), ("implicit", MailTls::Implicit), ("none", MailTls::None)];

/// Reads `notify`.
pub(super) fn read(node: &Node<'_>) -> NotifySettings {
    let mut out = NotifySettings::default();
    let Some(mut map) = node.map() else { return out };
    if let Some(alerts) = map.take("alerts").and_then(|node| node.map()) {
        out.tuning = alerts.all().iter().filter_map(|(name, node)| tuning(name, node)).collect();
        doubled(alerts);
    }
    out.group_wait = map.duration("group_wait", out.group_wait);
    out.group_interval = map.span("group_interval", out.group_interval);
    out.repeat_interval = map.span("repeat_interval", out.repeat_interval);
    out.timeout = map.span("timeout", out.timeout);
    if let Some(mut retry) = map.take("retry").and_then(|node| node.map()) {
        out.retry_first = retry.span("first", out.retry_first);
        out.retry_max = longer(&mut retry, "max", out.retry_max, "first", out.retry_first);
        out.give_up_after = retry.span("give_up_after", out.give_up_after);
        retry.done();
    }
    out.delivery_failing_after = map.span("delivery_failing_after", out.delivery_failing_after);
    out.language = map.take("language").and_then(|node| node.word(&LANGUAGES)).unwrap_or_default();
    out.templates = map.take("templates").and_then(|node| folder(&node));
    if let Some(base) = map.take("runbook_url").and_then(|node| runbook(&node)) {
        out.runbook = base;
    }
    let mut names = Names::default();
    let channels = map.take("channels").and_then(|node| node.items()).unwrap_or_default();
    out.channels = channels.iter().filter_map(|node| channel(node, &mut names)).collect();
    map.done();
    out
}

/// Every alert's name is a key, so that only those that stand twice remain to be noted.
fn doubled(mut map: Map<'_>) {
    for alert in AlertName::ALL {
        map.take(alert.as_str());
    }
    map.done();
}

fn tuning(name: &str, node: &Node<'_>) -> Option<AlertTuning> {
    let alert = AlertName::from_word(name)?;
    let mut map = node.map()?;
    let enabled = map.take("enabled").and_then(|node| node.truth()).unwrap_or(true);
    let hold_for = map.take("for").and_then(|node| node.duration());
    let severity = map.take("severity").and_then(|node| {
        let words: Vec<(&str, Severity)> = Severity::ALL.iter().map(|s| (s.as_str(), *s)).collect();
        node.word(&words)
    });
    map.done();
    Some(AlertTuning { alert, enabled, hold_for, severity })
}

fn channel(node: &Node<'_>, names: &mut Names) -> Option<ChannelSettings> {
    let mut map = node.map()?;
    let name = map.need("name", "give the channel a name").and_then(|node| {
        let name = node.name()?;
        names.claim(&node, &name);
        Some(name)
    });
    let why = format!("say what the channel is: {}", choice(KINDS.iter().map(|(word, _)| *word)));
    let kind = map.need("kind", &why)?.word(&KINDS)?;
    let kind = match kind {
        Kind::Email => email(&mut map),
        Kind::Webhook => webhook(&mut map),
        Kind::Alertmanager => {
            // Only an address with a login in it is a secret.
            let url = secrets::take_if(&mut map, "url", "url_file", has_login);
            let url = address(&map, url, "say where the Alertmanager is");
            let every = every(&mut map);
            let generator = map.take("generator_url").and_then(|node| {
                let link = node.text()?;
                target(&node, &link);
                Some(link)
            });
            url.map(|url| ChannelKind::Alertmanager { url, every, generator_url: generator })
        }
        Kind::Robot(robot) => {
            // The address of a robot is its key.
            let url = secrets::take(&mut map, "url", "url_file");
            let url = address(&map, url, "say where the robot is, in a file of its own: `url_file`");
            let secret = if robot.signs() {
                secrets::take(&mut map, "secret", "secret_file").map(|given| given.secret)
            } else {
                without_secret(&mut map);
                None
            };
            url.map(|url| ChannelKind::Robot { robot, url, secret })
        }
        Kind::WvpRedis => wvp_redis(&mut map),
        Kind::Heartbeat => {
            let url = secrets::take(&mut map, "url", "url_file");
            let url =
                address(&map, url, "say which address is called while all is well, in a file of its own: `url_file`");
            let every = every(&mut map);
            url.map(|url| ChannelKind::Heartbeat { url, every })
        }
    };
    let per_minute = map.take("per_minute").and_then(|node| node.number(1));
    map.done();
    let (name, kind) = (name?, kind?);
    let per_minute = per_minute.unwrap_or_else(|| kind.per_minute());
    Some(ChannelSettings { name, kind, per_minute })
}

/// The page that messages link to, and only people open. The name of an alert follows it as its fragment.
fn runbook(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    let url = web(node, &text)?;
    if url.fragment().is_some() {
        node.problem("has a fragment, `#…`, where the name of the alert is to stand; leave it out");
    }
    if has_login(&text) {
        node.problem("holds a login, which every message would show; leave it out");
    }
    Some(url.into())
}

/// The address that messages go to, if one was given and it is one that they may go to.
fn address(map: &Map<'_>, given: Option<Given<'_>>, why: &str) -> Option<Secret> {
    match &given {
        Some(given) => target(&given.node, given.secret.reveal()),
        None if !map.has("url") && !map.has("url_file") => map.missing("url", why),
        None => {}
    }
    given.map(|given| given.secret)
}

fn webhook(map: &mut Map<'_>) -> Option<ChannelKind> {
    let url = secrets::take_if(map, "url", "url_file", has_login);
    let url = address(map, url, "say where messages are sent to");
    let secret = secrets::take(map, "secret", "secret_file").map(|given| {
        if let Err(error) = given.secret.signing_key() {
            given.node.problem(format!("gives a secret that {error}; copy it whole, or give any other text"));
        }
        given.secret
    });
    Some(ChannelKind::Webhook { url: url?, secret })
}

/// What WVP's Redis takes for an alarm, and where that is published.
fn wvp_redis(map: &mut Map<'_>) -> Option<ChannelKind> {
    let url = secrets::take_if(map, "url", "url_file", has_login);
    match &url {
        Some(given) => redis(&given.node, given.secret.reveal()),
        None if !map.has("url") && !map.has("url_file") => {
            map.missing("url", "say which Redis WVP uses, such as `redis://127.0.0.1:6379/0`");
        }
        None => {}
    }
    let login_in_url = url.as_ref().is_some_and(|given| has_login(given.secret.reveal()));
    let username = map.take("username");
    let password = secrets::take(map, "password", "password_file");
    let login = username.as_ref().or(password.as_ref().map(|given| &given.node));
    match (login, &username) {
        (Some(node), _) if login_in_url => {
            node.problem("stands beside an address with a login in it; give one of them")
        }
        (_, Some(node)) if !map.has("password") && !map.has("password_file") => {
            node.problem("stands without a password; add `password_file`");
        }
        (Some(_) | None, _) => {}
    }
    let ca_file = map.take("ca_file").and_then(|node| node.path());
    let gb_id = map.need("gb_id", "give the GB/T 28181 id of the device or channel in whose name alarms are told");
    let gb_id = gb_id.and_then(|node| {
        let id = node.text()?;
        let fits = id.len() == GB_ID && id.bytes().all(|digit| digit.is_ascii_digit());
        if !fits {
            node.unlike("an id of GB/T 28181: 20 digits, in quotes");
        }
        fits.then_some(id)
    });
    let channel = map.take("channel").map_or_else(|| Some(ALARMS.to_owned()), |node| node.name());
    let username = username.as_ref().and_then(Node::text);
    let password = password.map(|given| given.secret);
    Some(ChannelKind::WvpRedis { url: url?.secret, username, password, ca_file, gb_id: gb_id?, channel: channel? })
}

/// Notes a secret that the robot's chat knows nothing of.
fn without_secret(map: &mut Map<'_>) {
    for node in ["secret", "secret_file"].into_iter().filter_map(|key| map.take(key)) {
        node.problem("is for `dingtalk` and `feishu`; this robot has no secret but its address, leave it out");
    }
}

fn every(map: &mut Map<'_>) -> Duration {
    let Some(node) = map.take("every") else { return EVERY };
    let Some(every) = node.duration() else { return EVERY };
    if !(SHORTEST..=LONGEST).contains(&every) {
        let [shortest, longest] = [SHORTEST, LONGEST].map(show_duration);
        node.problem(format!("is {}, but must be from {shortest} to {longest}", node.shown()));
    }
    every
}

/// A folder that is there.
fn folder(node: &Node<'_>) -> Option<PathBuf> {
    let path = node.path()?;
    let problem = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => return Some(path),
        Ok(_) => "is not a folder".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    node.problem(format!("names `{}`, which {problem}; leave the key out for the built-in texts", path.display()));
    None
}

fn email(map: &mut Map<'_>) -> Option<ChannelKind> {
    let server = map.need("server", "name the mail server, such as `smtp://mail.example.org:587`");
    let server = server.and_then(|node| mail_server(&node));
    let tls_node = map.take("tls");
    let by_scheme = if server.as_ref().is_some_and(|s| s.implicit) { MailTls::Implicit } else { MailTls::Required };
    let tls = tls_node.as_ref().map_or(Some(by_scheme), |node| node.word(&TLS));
    let ca_file = map.take("ca_file").and_then(|node| node.path());
    let username = map.take("username");
    let login = username.as_ref().and_then(Node::text);
    let password = secrets::take(map, "password", "password_file");
    if let (Some(node), false) = (&username, map.has("password") || map.has("password_file")) {
        node.problem("stands without a password; add `password_file`");
    }
    if let (Some(given), None) = (&password, &username) {
        given.node.problem("stands without `username`; add the login it belongs to");
    }
    if let (Some(node), Some(tls), Some(server)) = (&tls_node, tls, &server) {
        unsafe_tls(node, tls, server, username.is_some() || password.is_some());
    }
    let from = map.need("from", "name the sender, such as `storage-guard@example.org`").and_then(|node| mail(&node));
    let to = map.need("to", "name at least one recipient");
    let to_items = to.as_ref().and_then(Node::one_or_more).unwrap_or_default();
    if let (Some(node), true) = (&to, to_items.is_empty()) {
        node.problem("is empty; name at least one recipient");
    }
    let to: Vec<String> = to_items.iter().filter_map(mail).collect();
    let (server, tls) = (server?, tls?);
    let port = server.port.unwrap_or(match tls {
        MailTls::Required => 587,
        MailTls::Implicit => 465,
        MailTls::None => 25,
    });
    let password = password.map(|given| given.secret);
    Some(ChannelKind::Email { host: server.host, port, tls, ca_file, username: login, password, from: from?, to })
}

fn unsafe_tls(node: &Node<'_>, tls: MailTls, server: &super::addresses::MailServer, login: bool) {
    match tls {
        MailTls::None => {
            if !loopback(&server.host) {
                node.problem(format!(
                    "is `none`, but `{}` is not this machine; use `required` or `implicit`",
                    server.host.escape_default()
                ));
            }
            if login {
                node.problem(
                    "is `none`, but there is a login, which would be sent readable; use `required` or `implicit`",
                );
            }
            if server.implicit {
                node.problem("is `none`, but `server` begins with `smtps://`; leave `tls` out, or write `smtp://`");
            }
        }
        MailTls::Required => {
            if server.implicit {
                node.problem("is `required`, but `server` begins with `smtps://`; write `implicit`, or `smtp://`");
            }
        }
        MailTls::Implicit => {}
    }
}
