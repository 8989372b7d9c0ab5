//! Blocks of addresses, as people write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Its first address. An IPv4 address is never one of IPv6.
    first: IpAddr,
    /// How many leading bits its addresses share.
    prefix: u8,
}

/// Why a text is no block of addresses. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCidr {
    /// Not an address, or something behind it that is no length.
    #[error("it is no IPv4 or IPv6 address, with or without `/<length>`")]
    Malformed,
    /// A length that the family does not have.
    #[error("the length of an IPv4 prefix is 0 to 32, of an IPv6 prefix 0 to 128")]
    Length,
    /// Bits beyond the prefix: the writer may have meant another block.
    #[error("the address has bits beyond the prefix: write the first address of the block")]
    HostBits,
}

impl Cidr {
    /// The first and the last address, both of one family.
    #[must_use]
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        let last = match self.first {
            IpAddr::V4(first) => {
                let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | host))
            }
            IpAddr::V6(first) => {
                let host = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() | host))
            }
        };
        (self.first, last)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    /// Reads an address or `<address>/<length>`. IPv4 written in IPv6 (`::ffff:a.b.c.d`) is IPv4, as are callers.
    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidCidr::Malformed)?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = length.map_or(Ok(bits), prefix_length)?;
        if prefix > bits {
            return Err(InvalidCidr::Length);
        }
        let (first, prefix) = match (address.to_canonical(), address) {
            // Of a block that is not within the mapped addresses, no address is IPv4.
            (IpAddr::V4(mapped), IpAddr::V6(_)) if prefix >= 96 => (IpAddr::V4(mapped), prefix - 96),
            _ => (address, prefix),
        };
        let cidr = Self { first, prefix };
        if cidr.has_host_bits() {
            return Err(InvalidCidr::HostBits);
        }
        Ok(cidr)
    }
}

impl Cidr {
    fn has_host_bits(&self) -> bool {
        match self.first {
            IpAddr::V4(first) => first.to_bits() & u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0) != 0,
            IpAddr::V6(first) => {
                first.to_bits() & u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0) != 0
            }
        }
    }
}

/// Decimal digits without a sign or a leading zero, which some read as octal.
fn prefix_length(text: &str) -> Result<u8, InvalidCidr> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain || text.is_empty() {
        return Err(InvalidCidr::Malformed);
    }
    text.parse().map_err(|_| InvalidCidr::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_reaches_from_its_first_address_to_its_last() {
        for (text, first, last) in [
            ("10.1.2.3", "10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.3"),
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("203.0.113.128/25", "203.0.113.128", "203.0.113.255"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::1"),
            (
                "2001:db8::/32",
                "2001:db8::",
                "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::ffff:10.1.2.3", "10.1.2.3", "10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.0.0.0", "10.255.255.255"),
            ("::ffff:0:0/96", "0.0.0.0", "255.255.255.255"),
        ] {
            let cidr: Cidr = text.parse().unwrap();
            let expected: (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(cidr.bounds(), expected, "{text}");
        }
    }

    #[test]
    fn what_could_mean_another_block_is_none() {
        for (text, why) in [
            ("", InvalidCidr::Malformed),
            ("/8", InvalidCidr::Malformed),
            ("10.0.0.0/", InvalidCidr::Malformed),
            ("10.0.0.0/+8", InvalidCidr::Malformed),
            ("10.0.0.0/08", InvalidCidr::Malformed),
            ("10.0.0.0/8/8", InvalidCidr::Malformed),
            ("10.0.0/8", InvalidCidr::Malformed),
            ("010.0.0.0/8", InvalidCidr::Malformed),
            ("10.0.0.0/255.0.0.0", InvalidCidr::Malformed),
            ("10.0.0.0-10.0.0.9", InvalidCidr::Malformed),
            (" 10.0.0.0/8", InvalidCidr::Malformed),
            ("*", InvalidCidr::Malformed),
            ("example.com", InvalidCidr::Malformed),
            ("[2001:db8::]/32", InvalidCidr::Malformed),
            ("fe80::1%eth0", InvalidCidr::Malformed),
            ("10.0.0.0/33", InvalidCidr::Length),
            ("10.0.0.0/999", InvalidCidr::Length),
            ("::/129", InvalidCidr::Length),
            ("10.0.0.1/8", InvalidCidr::HostBits),
            ("10.0.0.1/31", InvalidCidr::HostBits),
            ("0.0.0.1/0", InvalidCidr::HostBits),
            ("2001:db8::1/64", InvalidCidr::HostBits),
            ("::ffff:10.0.0.1/104", InvalidCidr::HostBits),
            ("::ffff:0:0/80", InvalidCidr::HostBits),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<Cidr>();
        }

        #[test]
        fn every_block_has_exactly_the_addresses_that_share_its_prefix(bits: u32, prefix in 0_u8..=32, other: u32) {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let first = Ipv4Addr::from_bits(bits & mask);
            let cidr: Cidr = format!("{first}/{prefix}").parse().unwrap();
            let (low, high) = cidr.bounds();
            let inside = (low..=high).contains(&IpAddr::V4(Ipv4Addr::from_bits(other)));
            prop_assert_eq!(inside, other & mask == bits & mask);
            let mapped: Cidr = format!("{}/{}", first.to_ipv6_mapped(), 96 + prefix).parse().unwrap();
            prop_assert_eq!(mapped, cidr);
        }

        #[test]
        fn the_same_holds_for_ipv6(bits: u128, prefix in 0_u8..=128, other: u128) {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            let first = Ipv6Addr::from_bits(bits & mask);
            prop_assume!(first.to_ipv4_mapped().is_none());
            let cidr: Cidr = format!("{first}/{prefix}").parse().unwrap();
            let (low, high) = cidr.bounds();
            let inside = (low..=high).contains(&IpAddr::V6(Ipv6Addr::from_bits(other)));
            prop_assert_eq!(inside, other & mask == bits & mask);
        }
    }
}
