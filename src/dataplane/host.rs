//! The host that a request addresses: from its Host header or `:authority`, held against the TLS server name.

use std::fmt;

use http::{HeaderMap, Uri, header};

/// A host as the client wrote it, folded to lower case, with its port where it is not 443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// `host[:port]`.
    text: String,
    /// Where the host ends in it.
    host_end: usize,
}

/// Why a request's host is refused. Never what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHost {
    /// None, several that differ, or none of a host's form.
    Malformed,
    /// Not the name for which the TLS connection was opened.
    Misdirected,
}

impl Address {
    /// Reads the host of a request and holds it against the server name of its connection.
    ///
    /// # Errors
    /// [`BadHost`].
    pub(super) fn of_request(
        uri: &Uri,
        headers: &HeaderMap,
        server_name: Option<&str>,
    ) -> Result<Self, BadHost> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let header = match (hosts.next(), hosts.next()) {
            (_, Some(_)) => return Err(BadHost::Malformed),
            (Some(host), None) => Some(Self::parse(host.to_str().map_err(|_| BadHost::Malformed)?)?),
            (None, None) => None,
        };
        let authority = uri
            .authority()
            .map(|authority| Self::parse(authority.as_str()))
            .transpose()?;
        let address = match (header, authority) {
            (Some(header), Some(authority)) if header != authority => return Err(BadHost::Malformed),
            (Some(address), _) | (None, Some(address)) => address,
            (None, None) => return Err(BadHost::Malformed),
        };
        if server_name.is_none_or(|name| !name.eq_ignore_ascii_case(address.host())) {
            return Err(BadHost::Misdirected);
        }
        Ok(address)
    }

    /// Reads `host[:port]`: a DNS name of at most 253 characters, one trailing dot dropped.
    pub(super) fn parse(text: &str) -> Result<Self, BadHost> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
                (host, Some(port.parse::<u16>().map_err(|_| BadHost::Malformed)?))
            }
            Some(_) => return Err(BadHost::Malformed),
            None => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let good_label = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if host.len() > 253 || port == Some(0) || !host.split('.').all(good_label) {
            return Err(BadHost::Malformed);
        }
        let mut text = host.to_ascii_lowercase();
        let host_end = text.len();
        if let Some(port) = port.filter(|port| *port != 443) {
            text.push(':');
            text.push_str(&port.to_string());
        }
        Ok(Self { text, host_end })
    }

    /// `host[:port]`, as ids and links have it.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    fn host(&self) -> &str {
        self.text.get(..self.host_end).unwrap_or_default()
    }

    /// The domain that the host is a child of, with the port where it is not 443 (two SDKs compare it).
    pub(super) fn parent(&self) -> Self {
        let label = self.host().find('.').map_or(self.host_end, |dot| dot + 1);
        Self {
            text: self.text.get(label..).unwrap_or_default().to_owned(),
            host_end: self.host_end - label,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn address(uri: &str, hosts: &[&str], server_name: Option<&str>) -> Result<(String, String), BadHost> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        Address::of_request(&uri.parse().unwrap(), &headers, server_name)
            .map(|address| (address.to_string(), address.parent().to_string()))
    }

    #[test]
    fn ids_carry_the_host_and_port_that_the_client_used() {
        let name = Some("demo.team.svc");
        for (hosts, whole, parent) in [
            (["demo.team.svc"], "demo.team.svc", "team.svc"),
            (["Demo.Team.SVC:443"], "demo.team.svc", "team.svc"),
            (["demo.team.svc.:443"], "demo.team.svc", "team.svc"),
            (["demo.team.svc:8443"], "demo.team.svc:8443", "team.svc:8443"),
        ] {
            assert_eq!(
                address("/secrets", &hosts, name),
                Ok((whole.to_owned(), parent.to_owned()))
            );
        }
        assert!(address("https://demo.team.svc:8443/secrets", &[], name).is_ok());
        assert!(
            address(
                "https://demo.team.svc/secrets",
                &["demo.team.svc"],
                Some("DEMO.team.svc")
            )
            .is_ok()
        );
    }

    #[test]
    fn a_request_for_another_name_than_the_connections_is_misdirected() {
        for (host, name) in [
            ("other.team.svc", Some("demo.team.svc")),
            ("demo.team.svc", None),
            ("demo", Some("demo.team")),
        ] {
            assert_eq!(address("/", &[host], name), Err(BadHost::Misdirected));
        }
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        let name = Some("demo.team.svc");
        for hosts in [
            &[][..],
            &["demo.team.svc", "demo.team.svc"],
            &[""],
            &["demo..svc"],
            &["demo.team.svc:0"],
            &["demo.team.svc:"],
            &["demo.team.svc:65536"],
            &["demo.team.svc:+443"],
            &["user@demo.team.svc"],
            &["[::1]"],
            &["demo.team.svc/x"],
            &["demo.team.svc\""],
            &["d\u{e4}mo.team.svc"],
        ] {
            assert_eq!(address("/", hosts, name), Err(BadHost::Malformed), "{hosts:?}");
        }
        assert_eq!(
            address("https://a.team.svc/", &["b.team.svc"], Some("a.team.svc")),
            Err(BadHost::Malformed)
        );
        assert_eq!(
            address("https://u:p@demo.team.svc/", &[], name),
            Err(BadHost::Malformed)
        );
    }

    proptest! {
        #[test]
        fn no_host_makes_the_reader_panic(text in ".{0,300}") {
            let _ = Address::parse(&text);
        }
    }
}
