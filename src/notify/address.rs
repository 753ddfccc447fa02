//! Where messages never go: link-local addresses and metadata services of clouds. Looked at after names are resolved, so
//! that a name cannot lead there either.

use std::net::SocketAddr;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::address::never_told;

/// Why an address is refused.
pub(super) const REFUSED: &str = "the receiver is link-local or a cloud's metadata service; messages never go there";

/// Whether the host of an address is itself such an address, in whatever notation: no resolver sees those.
pub(super) fn refused_literal(url: &Url) -> bool {
    let host = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    host.is_some_and(never_told)
}

/// The system's resolver, without the addresses that messages never go to.
#[derive(Debug)]
pub(super) struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move { Ok(Box::new(resolve(name.as_str(), 0).await?.into_iter()) as Addrs) })
    }
}

/// The addresses of a host, without those that messages never go to.
pub(super) async fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((host, port)).await?.collect();
    allowed(found).map_err(std::io::Error::other)
}

fn allowed(mut found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, &'static str> {
    let any = !found.is_empty();
    found.retain(|address| !never_told(address.ip()));
    if found.is_empty() && any { Err(REFUSED) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault 109.
    #[test]
    fn link_local_and_metadata_are_refused_in_every_notation() {
        for (text, expected) in [
            ("http://169.254.169.254/latest", true),
            ("http://2852039166/", true),
            ("http://0xa9fea9fe/", true),
            ("http://[fe80::1]/", true),
            ("http://[febf::1]/", true),
            ("http://[::ffff:169.254.169.254]/", true),
            ("http://[::169.254.169.254]/", true),
            ("http://[64:ff9b::a9fe:a9fe]/", true),
            ("http://[2002:a9fe:a9fe::1]/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://100.100.100.200/", true),
            ("http://168.63.129.16/", true),
            ("http://192.0.0.192/", true),
            ("http://[fd20:ce::254]/", true),
            ("http://[64:ff9b:1::a9fe:a9fe]/", true),
            ("http://[::ffff:0:a9fe:a9fe]/", true),
            ("http://127.0.0.1:9000/", false),
            ("http://192.168.1.5/", false),
            ("http://[::1]/", false),
            ("http://[fd00::1]/", false),
            ("https://hooks.example.org/x", false),
        ] {
            assert_eq!(refused_literal(&Url::parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_name_keeps_its_allowed_addresses_only() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (good, bad) = (at("192.168.1.5:0"), at("169.254.169.254:0"));
        assert_eq!(allowed(vec![bad, good]), Ok(vec![good]));
        assert_eq!(allowed(vec![bad, at("[fe80::1]:0")]), Err(REFUSED));
        assert_eq!(allowed(vec![]), Ok(vec![]));
    }
}
