//! Addresses that messages never go to: link-local ones and metadata services of clouds; and those that never leave the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services of clouds that are not link-local: Alibaba, Azure, Oracle.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// The same by IPv6: Amazon and its EKS, Google, Scaleway.
const METADATA_6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Whether messages never go to an address. Loopback and private ones are allowed.
#[must_use]
pub fn never_told(address: IpAddr) -> bool {
    let four = |ip: Ipv4Addr| ip.is_link_local() || METADATA.contains(&ip);
    match address {
        IpAddr::V4(ip) => four(ip),
        IpAddr::V6(ip) => {
            let words = ip.segments();
            let [.., a, b, c, d] = ip.octets();
            // IPv4 within IPv6: mapped, compatible, translated, and by NAT64, local too; and by 6to4.
            let last = matches!(
                words,
                [0, 0, 0, 0, 0, 0 | 0xffff, ..]
                    | [0, 0, 0, 0, 0xffff, 0, ..]
                    | [0x64, 0xff9b, 0, 0, 0, 0, ..]
                    | [0x64, 0xff9b, 1, ..]
            );
            let [_, _, e, f, g, h, ..] = ip.octets();
            words[0] & 0xffc0 == 0xfe80
                || METADATA_6.contains(&ip)
                || (last && four(Ipv4Addr::new(a, b, c, d)))
                || (words[0] == 0x2002 && four(Ipv4Addr::new(e, f, g, h)))
        }
    }
}

/// Whether a host is this machine, by its very text.
#[must_use]
pub fn loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_goes_by_the_text() {
        for (host, expected) in
            [("localhost", true), ("127.0.0.2", true), ("::1", true), ("mail", false), ("localhost.evil", false)]
        {
            assert_eq!(loopback(host), expected, "{host}");
        }
    }
}
