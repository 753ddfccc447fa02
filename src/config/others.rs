//! What several sections share, and those that are checked and that this version does not act on: `tls`, `fleet`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::addresses::{has_login, socket};
use super::node::{Map, Names, Node};
use super::places::normal;
use super::secrets;

/// Listeners that were named so far, so that none is named twice.
#[derive(Default)]
pub(super) struct Listening(Vec<(SocketAddr, String)>);

impl Listening {
    /// Takes the address of a listener.
    pub(super) fn claim(&mut self, node: &Node<'_>) -> Option<SocketAddr> {
        let address = socket(node)?;
        match self.0.iter().find(|(other, _)| *other == address && address.port() != 0) {
            Some((_, field)) => {
                node.problem(format!("is {address}, as `{field}` is; give each listener a port of its own"))
            }
            None => self.0.push((address, node.field.clone())),
        }
        Some(address)
    }
}

/// Reads the list under `key`: for each mapping its name, then what `read` makes of it.
pub(super) fn named<'a>(
    top: &mut Map<'a>,
    key: &'static str,
    mut read: impl FnMut(Option<String>, &mut Map<'a>),
) -> Names {
    let mut names = Names::default();
    let Some(node) = top.take(key) else { return names };
    for item in node.items().unwrap_or_default() {
        let Some(mut map) = item.map() else { continue };
        let name = map.need("name", "give it a name, so that others can refer to it").and_then(|node| {
            let name = node.name()?;
            names.claim(&node, &name);
            Some(name)
        });
        read(name, &mut map);
        map.done();
    }
    names
}

/// Notes a problem unless an address begins as one of these. It may hold a password and is not shown.
pub(super) fn scheme(given: &secrets::Given<'_>, schemes: &[&str], such: &str) {
    let text = given.secret.reveal();
    let fits = text.split_once("://").is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty());
    if !fits {
        given.node.problem(format!("must be an address such as {such}"));
    }
}

/// Reads `path_map`: beginnings of paths as the media server sees them, and what they are here.
pub(super) fn path_map(map: &mut Map<'_>) -> Vec<(PathBuf, PathBuf)> {
    let Some(paths) = map.take("path_map").and_then(|node| node.map()) else { return Vec::new() };
    let mut out = Vec::new();
    for (from, node) in paths.all() {
        if !from.starts_with('/') {
            node.problem("maps from a relative path; both sides must begin with `/`");
        }
        out.extend(node.absolute().map(|to| (normal(Path::new(from)), normal(&to))));
    }
    out
}

/// Reads `tls`.
pub(super) fn tls(node: &Node<'_>) {
    let Some(mut map) = node.map() else { return };
    map.need("cert_file", "name the certificate, PEM").and_then(|node| node.path());
    map.need("key_file", "name its private key, PEM").and_then(|node| node.path());
    map.done();
    node.file.sleeps("`tls`");
}

/// Reads `fleet`.
pub(super) fn fleet(node: &Node<'_>) {
    let Some(mut map) = node.map() else { return };
    match secrets::take_if(&mut map, "url", "url_file", has_login) {
        Some(given) => scheme(&given, &["postgres", "postgresql"], "`postgres://host/database`"),
        None if map.has("url") || map.has("url_file") => {}
        None => map.missing("url", "say where the database is, such as `postgres://host/fleet`"),
    }
    map.need("node", "name this machine").and_then(|node| node.name());
    map.done();
    node.file.sleeps("`fleet`");
}
