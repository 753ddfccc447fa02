//! Which addresses a webhook may reach: looked at after the name was resolved, so that no name leads around it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where clouds keep what only their own machines may read, outside the link-local ranges.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Loopback and private addresses may be reached; link-local, metadata and group addresses may not.
pub(super) fn allowed(address: IpAddr) -> bool {
    if METADATA.contains(&address) {
        return false;
    }
    match address {
        IpAddr::V4(v4) => !(v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => {
            let inner = embedded(v6).is_none_or(|v4| allowed(IpAddr::V4(v4)));
            inner && !(v6.is_unicast_link_local() || v6.is_multicast())
        }
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, 6to4, or NAT64.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let tail = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => tail(high, low),
        [0x2002, high, low, ..] => tail(high, low),
        _ => None,
    }
}

/// A resolver that leaves out what may not be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filtered;

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let reachable: Vec<_> = found.iter().copied().filter(|address| allowed(address.ip())).collect();
            if reachable.is_empty() {
                return Err("the name leads only to link-local or metadata addresses, which are refused".into());
            }
            Ok(Box::new(reachable.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn looks_at_addresses_after_the_name_was_resolved() {
        let found = Filtered.resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(found.into_iter().all(|address| address.ip().is_loopback()));
        let Err(error) = Filtered.resolve("169.254.169.254".parse().unwrap()).await else {
            panic!("it was let through")
        };
        assert!(error.to_string().contains("refused"), "{error}");
    }

    /// Fault 109.
    #[test]
    fn refuses_link_local_and_metadata_in_every_form() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("192.168.0.9", true),
            ("203.0.113.7", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("fd00::1", true),
            ("2001:db8::1", true),
            ("169.254.169.254", false),
            ("169.254.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("2002:a9fe:a9fe::1", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("100.100.100.200", false),
            ("::ffff:100.100.100.200", false),
            ("168.63.129.16", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("ff02::1", false),
        ] {
            assert_eq!(allowed(address.parse().unwrap()), expected, "{address}");
        }
    }
}
