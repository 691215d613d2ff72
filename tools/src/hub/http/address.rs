//! Where a server may be: `https`, or this machine; private addresses only where the operator grants them.
//!
//! Names are judged by what they resolve to, at every connection: a name that was public when it was looked at may be
//! private when it is dialled.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Class of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Public,
    Loopback,
    Private,
    /// Link-local (where clouds keep their credentials), multicast, unspecified, reserved.
    Never,
}

fn place(address: IpAddr) -> Place {
    match address {
        IpAddr::V4(v4) => place_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => place_v4(v4),
            None if v6.is_loopback() => Place::Loopback,
            None if v6.is_unique_local() => Place::Private,
            None if v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified() => Place::Never,
            // 6to4 and NAT64 carry an IPv4 address that could be any of the above.
            None if matches!(v6.segments(), [0x2002, ..] | [0x64, 0xff9b, ..]) => Place::Never,
            None => Place::Public,
        },
    }
}

fn place_v4(address: Ipv4Addr) -> Place {
    let [a, b, ..] = address.octets();
    match address {
        _ if address.is_loopback() => Place::Loopback,
        _ if address.is_private() || (a == 100 && (64..128).contains(&b)) => Place::Private,
        _ if address.is_link_local() || address.is_multicast() || a == 0 || a >= 240 => Place::Never,
        _ => Place::Public,
    }
}

fn is_local_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost")
}

/// What an operator allowed for one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Addresses of private networks, and plain `http` to them.
    pub(crate) private: bool,
}

impl Reach {
    /// Whether an address may be dialled for this host.
    fn allows(self, host: &str, address: IpAddr) -> bool {
        match place(address) {
            Place::Public => true,
            Place::Loopback => is_local_name(host) || host.parse::<IpAddr>().is_ok(),
            Place::Private => self.private,
            Place::Never => false,
        }
    }

    /// Reads an address and judges what its text alone says.
    ///
    /// # Errors
    /// What is wrong with it and what to write.
    pub(crate) fn read(self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
        let host = url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned());
        let Some(host) = host.filter(|host| !host.is_empty()) else { return Err(format!("`{text}` names no host")) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a user or password in an address ends in logs: put it into `headers`".to_owned());
        }
        let literal = host.parse::<IpAddr>().ok();
        if literal.is_some_and(|address| !self.allows(&host, address)) {
            return Err(format!(
                "{host} is a private or reserved address: `private_network: true` grants private ones"
            ));
        }
        let local = is_local_name(&host) || literal.is_some_and(|address| place(address) == Place::Loopback);
        match url.scheme() {
            "https" => Ok(url),
            "http" if local || self.private => Ok(url),
            "http" => Err(format!("plain http to {host}: use https, or `private_network: true` for a private network")),
            other => Err(format!("addresses of scheme `{other}` are not dialled: use https")),
        }
    }
}

/// Resolves names and drops every address that may not be dialled.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| reach.allows(&host, address.ip())).take(ADDRESSES_MAX).collect();
            if allowed.is_empty() {
                return Err(Refused(host).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// A name that resolves only to addresses that may not be dialled.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} resolves to private or reserved addresses only; `private_network: true` grants private ones",
            self.0
        )
    }
}

impl std::error::Error for Refused {}

/// Whether two addresses have one scheme, host and port.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Reach = Reach { private: false };
    const GRANTED: Reach = Reach { private: true };

    #[test]
    fn only_https_or_this_machine_unless_granted() {
        for (url, strict, granted) in [
            ("https://example.test/mcp", true, true),
            ("http://example.test/mcp", false, true),
            ("http://localhost:3000/mcp", true, true),
            ("http://127.0.0.1:3000/mcp", true, true),
            ("http://[::1]:3000/mcp", true, true),
            ("http://10.0.0.9/mcp", false, true),
            ("https://192.168.1.1/mcp", false, true),
            ("http://169.254.169.254/latest", false, false),
            ("https://[::ffff:169.254.169.254]/", false, false),
            ("https://[fd00::1]/", false, true),
            ("https://0.0.0.0/", false, false),
            ("https://2130706433/", true, true), // 127.0.0.1 written as a number is still this machine.
            ("file:///etc/passwd", false, false),
            ("javascript:alert(1)", false, false),
            ("https://user:pass@example.test/", false, false),
        ] {
            assert_eq!(STRICT.read(url).is_ok(), strict, "{url} strict");
            assert_eq!(GRANTED.read(url).is_ok(), granted, "{url} granted");
        }
    }

    /// The second answer of a name that rebinds is judged like the first.
    #[test]
    fn a_name_may_not_resolve_to_this_machine_or_to_the_metadata_service() {
        let public: IpAddr = "93.184.216.34".parse().unwrap();
        let inside: IpAddr = "127.0.0.1".parse().unwrap();
        let metadata: IpAddr = "169.254.169.254".parse().unwrap();
        let private: IpAddr = "10.1.2.3".parse().unwrap();
        assert!(STRICT.allows("rebind.test", public));
        assert!(!STRICT.allows("rebind.test", inside) && !GRANTED.allows("rebind.test", inside));
        assert!(!GRANTED.allows("rebind.test", metadata));
        assert!(!STRICT.allows("rebind.test", private) && GRANTED.allows("rebind.test", private));
        assert!(STRICT.allows("localhost", inside));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let url = |text| Url::parse(text).unwrap();
        assert!(same_origin(&url("https://a.test/x"), &url("https://a.test:443/y")));
        assert!(!same_origin(&url("http://a.test/x"), &url("https://a.test/x")));
        assert!(!same_origin(&url("http://a.test:1/x"), &url("http://a.test:2/x")));
    }
}
