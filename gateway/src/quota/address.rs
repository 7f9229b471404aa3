//! Whose request it is, by address: the peer, or whom the proxies we trust name (pure).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Addresses that one client can be expected to have for itself: limits go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    V4(Ipv4Addr),
    /// The upper half: a /64 is the least that a provider hands out, and its owner has all of it.
    V6(u64),
}

impl From<IpAddr> for Place {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The networks whose hosts may say on whose behalf they ask; an address alone is one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Networks {
    type Err = String;

    /// By comma; nothing between commas is no network.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let networks = text.split(',').map(str::trim).filter(|network| !network.is_empty());
        networks.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let host = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| host()).map_err(|_| {
        format!("{text:?} is no network; write it as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7")
    })
}

/// The client's address: the last hop that is not one of ours. What no trusted proxy vouches for is
/// not believed, and what cannot be read counts as not said.
pub fn of_client(peer: SocketAddr, headers: &HeaderMap, proxies: &Networks) -> IpAddr {
    let peer = peer.ip().to_canonical();
    if !proxies.contain(peer) {
        return peer;
    }
    let last_untrusted = |hops: Vec<Option<IpAddr>>| {
        let mut last = None;
        for hop in hops.into_iter().rev() {
            last = Some(hop?);
            if !hop.is_some_and(|hop| proxies.contain(hop)) {
                break;
            }
        }
        last
    };
    let x_forwarded_for = hops(headers, X_FORWARDED_FOR, x_forwarded_for);
    let forwarded = hops(headers, FORWARDED.as_str(), forwarded);
    match (x_forwarded_for, forwarded) {
        (Some(hops), None) | (None, Some(hops)) => last_untrusted(hops),
        // A proxy writes one of them and may pass the other on as the client invented it.
        (Some(one), Some(other)) => {
            let (one, other) = (last_untrusted(one), last_untrusted(other));
            one.filter(|_| one == other)
        }
        (None, None) => None,
    }
    .unwrap_or(peer)
}

/// All hops a header names, in its order; one that cannot be read is `None`.
fn hops(
    headers: &HeaderMap,
    name: &str,
    read: fn(&str) -> Vec<Option<IpAddr>>,
) -> Option<Vec<Option<IpAddr>>> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    Some(values.flat_map(|value| value.to_str().map_or_else(|_| vec![None], read)).collect())
}

fn x_forwarded_for(value: &str) -> Vec<Option<IpAddr>> {
    value.split(',').map(|hop| node(hop.trim())).collect()
}

/// RFC 7239: `for=192.0.2.60;proto=http, for="[2001:db8::17]:4711"`.
fn forwarded(value: &str) -> Vec<Option<IpAddr>> {
    let hop = |element: &str| {
        let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let (_, node_name) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
        let node_name = node_name.trim();
        node(node_name.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(node_name))
    };
    // A comma or semicolon inside quotes tears its element apart: no address has one.
    value.split(',').map(hop).collect()
}

/// An address with or without a port; IPv6 in brackets or bare.
fn node(text: &str) -> Option<IpAddr> {
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|it| it.ip());
    let address = text.parse().ok().or_else(in_brackets).or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let proxies = "10.0.0.0/8, fd00::/8,192.0.2.7".parse().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        of_client(SocketAddr::new(peer.parse().unwrap(), 9), &map, &proxies).to_string()
    }

    #[test]
    fn who_is_no_proxy_of_ours_is_not_believed() {
        for name in ["x-forwarded-for", "forwarded"] {
            let value = if name == "forwarded" { "for=203.0.113.5" } else { "203.0.113.5" };
            assert_eq!(client("198.51.100.9", &[(name, value)]), "198.51.100.9");
            assert_eq!(client("10.1.2.3", &[(name, value)]), "203.0.113.5");
            assert_eq!(client("::ffff:10.1.2.3", &[(name, value)]), "203.0.113.5");
        }
    }

    #[test]
    fn the_last_hop_that_is_not_ours_counts_whatever_stands_before_it() {
        let hops = [("x-forwarded-for", "9.9.9.9, nonsense, 203.0.113.5, 192.0.2.7")];
        assert_eq!(client("10.1.2.3", &hops), "203.0.113.5");
        let lines = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "203.0.113.5,10.0.0.1")];
        assert_eq!(client("10.1.2.3", &lines), "203.0.113.5");
        assert_eq!(client("10.1.2.3", &[("x-forwarded-for", "10.0.0.2,10.0.0.1")]), "10.0.0.2");
    }

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        for (name, value) in [
            ("x-forwarded-for", "2001:db8::17"),
            ("x-forwarded-for", "[2001:db8::17]"),
            ("x-forwarded-for", "[2001:db8::17]:4711"),
            ("forwarded", r#"proto=https;For="[2001:db8::17]:4711";by=10.0.0.1"#),
            ("forwarded", r#"for=9.9.9.9, for="[2001:db8::17]""#),
        ] {
            assert_eq!(client("fd00::1", &[(name, value)]), "2001:db8::17", "{value}");
        }
        assert_eq!(client("10.1.2.3", &[("x-forwarded-for", "203.0.113.5:80")]), "203.0.113.5");
    }

    #[test]
    fn what_cannot_be_read_or_contradicts_itself_counts_as_not_said() {
        for headers in [
            &[("x-forwarded-for", "")][..],
            &[("x-forwarded-for", "203.0.113.5, unknown")],
            &[("x-forwarded-for", "203.0.113.5,")],
            &[("forwarded", "for=_hidden")],
            &[("forwarded", "proto=https")],
            &[("forwarded", "for=\"203.0.113.5")],
            &[("x-forwarded-for", "203.0.113.5"), ("forwarded", "for=9.9.9.9")],
        ] {
            assert_eq!(client("10.1.2.3", headers), "10.1.2.3", "{headers:?}");
        }
        let agreed = [("x-forwarded-for", "203.0.113.5"), ("forwarded", "for=203.0.113.5")];
        assert_eq!(client("10.1.2.3", &agreed), "203.0.113.5");
    }

    #[test]
    fn one_half_of_an_ipv6_address_is_one_client() {
        let place = |text: &str| Place::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_ne!(place("203.0.113.5"), place("203.0.113.6"));
        assert_eq!(place("::ffff:203.0.113.5"), place("203.0.113.5"));
    }

    #[test]
    fn a_network_may_be_one_host_and_nonsense_is_refused_with_an_example() {
        let networks = |text: &str| text.parse::<Networks>();
        assert_eq!(networks("192.0.2.7"), networks("192.0.2.7/32"));
        assert_eq!(networks(""), Ok(Networks::default()));
        assert!(networks("10.0.0.0/8,proxy.local").unwrap_err().contains("\"proxy.local\""));
    }
}
