//! Addresses that messages never go to: link-local ones and metadata services of clouds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata of Alibaba Cloud, and of Amazon by IPv6.
const METADATA: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(100, 100, 100, 200), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));

/// Whether messages never go to an address. Loopback and private ones are allowed.
#[must_use]
pub fn never_told(address: IpAddr) -> bool {
    let four = |ip: Ipv4Addr| ip.is_link_local() || ip == METADATA.0;
    match address {
        IpAddr::V4(ip) => four(ip),
        IpAddr::V6(ip) => {
            let words = ip.segments();
            let [.., a, b, c, d] = ip.octets();
            // IPv4 within IPv6: mapped, compatible, and by NAT64; and by 6to4.
            let last = matches!(words, [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..]);
            let [_, _, e, f, g, h, ..] = ip.octets();
            words[0] & 0xffc0 == 0xfe80
                || ip == METADATA.1
                || (last && four(Ipv4Addr::new(a, b, c, d)))
                || (words[0] == 0x2002 && four(Ipv4Addr::new(e, f, g, h)))
        }
    }
}
