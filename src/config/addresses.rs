//! Addresses: sockets, web, mail.

use std::net::SocketAddr;

use reqwest::Url;

use super::node::Node;
use crate::domain::address::never_told;

/// Where a server listens.
pub(super) fn socket(node: &Node<'_>) -> Option<SocketAddr> {
    node.read("an address and a port, such as `127.0.0.1:10190` or `[::]:10190`; a host name will not do", |text| {
        text.parse().ok()
    })
}

/// An address of the web. It may hold a password or a token, so that no message shows it.
pub(super) fn web(node: &Node<'_>, text: &str) -> Option<Url> {
    let wanted = "must be an address such as `http://host:port/path` or `https://…`";
    match Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => return Some(url),
        Ok(url) => {
            let scheme: String = url.scheme().chars().take(20).collect();
            node.problem(format!("is an address of kind `{scheme}:`, but {wanted}"));
        }
        Err(error) => node.problem(format!("is no address ({error}); it {wanted}")),
    }
    None
}

/// An address of the web that messages are sent to: never one that belongs to the machine's own cloud or link.
pub(super) fn target(node: &Node<'_>, text: &str) {
    if let Some(url) = web(node, text) {
        reachable(node, url.host_str().unwrap_or_default());
    }
}

/// Notes a host that is an address which messages never go to. The parser of addresses of the web has turned decimal, octal and
/// hexadecimal forms into the usual one.
fn reachable(node: &Node<'_>, host: &str) {
    let literal = host.trim_matches(['[', ']']).parse().ok();
    if let Some(address) = literal.filter(|address| never_told(*address)) {
        node.problem(format!(
            "points to {address}, which is link-local or a cloud's metadata service; messages never go there, name the receiver"
        ));
    }
}

/// A Redis: `redis://host:port/database`, or `rediss://…` with TLS. It may hold a login, so that no message shows it.
pub(super) fn redis(node: &Node<'_>, text: &str) {
    let named = |url: &Url| url.host_str().is_some_and(|host| !host.is_empty());
    let url = Url::parse(text.trim()).ok().filter(|url| {
        let database = url.path().trim_start_matches('/');
        let plain = url.query().is_none() && url.fragment().is_none();
        let numbered = database.is_empty() || database.parse::<u16>().is_ok();
        matches!(url.scheme(), "redis" | "rediss") && named(url) && plain && numbered
    });
    match url {
        Some(url) => reachable(node, url.host_str().unwrap_or_default()),
        None => node.problem(
            "must be a Redis such as `redis://127.0.0.1:6379/0`, or `rediss://…` with TLS; the number is its database",
        ),
    }
}

/// Whether an address with a login in it was written.
pub(super) fn has_login(text: &str) -> bool {
    Url::parse(text.trim()).is_ok_and(|url| {
        let asked = url.query_pairs().any(|(key, _)| key == "password" || key == "sslpassword");
        !url.username().is_empty() || url.password().is_some() || asked
    })
}

/// A mail address, as the mailer takes it.
pub(super) fn mail(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    if text.parse::<lettre::message::Mailbox>().is_ok() && !text.chars().any(char::is_control) {
        return Some(text);
    }
    node.unlike("a mail address, such as `guard@example.org` or `Guard <guard@example.org>`");
    None
}

/// A mail server: `smtp://host:port`, or `smtps://host:port` for TLS from the first byte.
pub(super) struct MailServer {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) implicit: bool,
}

/// Reads a mail server's address. It must not hold a login, and is shown.
pub(super) fn mail_server(node: &Node<'_>) -> Option<MailServer> {
    let text = node.text()?;
    let server = Url::parse(text.trim()).ok().and_then(|url| {
        let plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let implicit = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            _ => return None,
        };
        let host = url.host_str().filter(|host| plain && !host.is_empty())?.trim_matches(['[', ']']).to_owned();
        Some((MailServer { host, port: url.port(), implicit }, url))
    });
    match server {
        Some((server, url)) if url.username().is_empty() && url.password().is_none() => {
            reachable(node, &server.host);
            Some(server)
        }
        Some(_) => {
            node.problem("holds a login; write it under `username` and `password_file`");
            None
        }
        None => {
            node.problem(
                "must be a mail server such as `smtp://mail.example.org:587`, or `smtps://…` for TLS from the first byte",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_known_in_every_form() {
        for (text, expected) in [
            ("http://169.254.169.254/latest", true),
            ("http://2852039166/", true),
            ("http://0xa9fea9fe/", true),
            ("http://0xa9.0376.43518/", true),
            ("http://169.254.1.1./", true),
            ("http://%31%36%39.254.169.254/", true),
            ("http://[fe80::1]/", true),
            ("http://[febf::1]/", true),
            ("http://[::ffff:169.254.169.254]/", true),
            ("http://[::169.254.169.254]/", true),
            ("http://[64:ff9b::a9fe:a9fe]/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://100.100.100.200/", true),
            ("http://127.0.0.1:9000/", false),
            ("http://192.168.1.5/", false),
            ("http://[::1]/", false),
            ("http://[fec0::1]/", false),
            ("https://hooks.example.org/x", false),
        ] {
            let url = Url::parse(text).unwrap();
            let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
            assert_eq!(literal.is_some_and(never_told), expected, "{text}");
        }
    }
}
