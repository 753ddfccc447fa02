//! `auth`: tokens, users, and where callbacks may point.

use super::node::{Names, Node};
use super::secrets;
use crate::domain::settings::{AuthSettings, Role, Token};

const ROLES: [(&str, Role); 2] = [("viewer", Role::Viewer), ("operator", Role::Operator)];

/// Reads `auth`.
pub(super) fn read(node: &Node<'_>) -> AuthSettings {
    let mut out = AuthSettings::default();
    let Some(mut map) = node.map() else { return out };
    let mut names = Names::default();
    let tokens = map.take("tokens").and_then(|node| node.items()).unwrap_or_default();
    out.tokens = tokens.iter().filter_map(|node| token(node, &mut names)).collect();
    out.protect_metrics = map.take("protect_metrics").and_then(|node| node.truth()).unwrap_or(false);
    if let Some(node) = map.take("users") {
        let mut names = Names::default();
        node.items().unwrap_or_default().iter().for_each(|node| user(node, &mut names));
        node.file.sleeps("`auth.users`");
    }
    out.callback_secret = secrets::take(&mut map, "callback_secret", "callback_secret_file").and_then(|given| {
        if let Err(error) = given.secret.signing_key() {
            given.node.problem(error);
            return None;
        }
        Some(given.secret)
    });
    for host in map.take("callback_hosts").and_then(|node| node.items()).unwrap_or_default() {
        let host = host.read("a host name or address, without scheme, port and path", |text| {
            let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-.:_[]".contains(c));
            // `name:80` is no host; an address of IPv6 has more colons.
            let port = text.matches(':').count() == 1;
            (plain && !text.is_empty() && !port).then(|| text.to_owned())
        });
        out.callback_hosts.extend(host);
    }
    map.done();
    out
}

fn token(node: &Node<'_>, names: &mut Names) -> Option<Token> {
    let mut map = node.map()?;
    let name = map.need("name", "say who bears the token").and_then(|node| {
        let name = node.name()?;
        names.claim(&node, &name);
        Some(name)
    });
    let role = map.need("role", "say what the token permits: `viewer` or `operator`").and_then(|n| n.word(&ROLES));
    let sha256 = map
        .need("sha256", "give the digest of the token: `printf %s TOKEN | sha256sum`")
        .and_then(|node| digest(&node));
    map.done();
    Some(Token { name: name?, role: role?, sha256: sha256? })
}

/// 64 hexadecimal digits. They are not shown: a token may stand there by mistake.
fn digest(node: &Node<'_>) -> Option<[u8; 32]> {
    let text = node.text()?;
    let read = || {
        let mut out = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, at) in out.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(out)
    };
    let out = read();
    if out.is_none() {
        node.problem("must be the SHA-256 of the token, 64 hexadecimal digits: `printf %s TOKEN | sha256sum`");
    }
    out
}

fn user(node: &Node<'_>, names: &mut Names) {
    let Some(mut map) = node.map() else { return };
    if let Some(node) = map.need("name", "say who it is")
        && let Some(name) = node.name()
    {
        names.claim(&node, &name);
    }
    map.need("role", "say what the user may do: `viewer` or `operator`").and_then(|node| node.word(&ROLES));
    if let Some(node) = map.need("argon2id", "give the hash of the password, `$argon2id$…`")
        && let Some(text) = node.text()
        && !text.starts_with("$argon2id$")
    {
        node.problem("must be the Argon2id hash of the password, which begins with `$argon2id$`");
    }
    map.done();
}
