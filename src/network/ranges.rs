//! Blocks of addresses, compiled for one binary search a question.

use std::net::IpAddr;

use super::Cidr;

/// Disjoint ranges in ascending order, one list a family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Ranges {
    /// Compiles blocks; their order changes nothing.
    pub(super) fn new(blocks: impl IntoIterator<Item = Cidr>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for block in blocks {
            match block.bounds() {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits())),
                // A block is of one family.
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
            }
        }
        Self {
            v4: disjoint(v4),
            v6: disjoint(v6),
        }
    }

    /// Whether the address is in any block. An IPv4 address is one however it is written.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => is_within(&self.v6, address.to_bits()),
        }
    }
}

/// Two blocks are disjoint or one is within the other, so ranges that overlap become the larger.
fn disjoint<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    ranges.dedup_by(|inner, outer| inner.1 <= outer.1);
    ranges.into()
}

fn is_within<T: Copy + Ord>(ranges: &[(T, T)], wanted: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= wanted);
    let candidate = after.checked_sub(1).and_then(|at| ranges.get(at));
    candidate.is_some_and(|(_, last)| wanted <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn ranges(blocks: &[&str]) -> Ranges {
        Ranges::new(blocks.iter().map(|block| block.parse().unwrap()))
    }

    #[test]
    fn an_address_is_in_the_blocks_or_it_is_not() {
        let some = ranges(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]);
        for (address, inside) in [
            ("10.0.0.0", true),
            ("10.1.2.3", true),
            ("10.255.255.255", true),
            ("::ffff:10.1.2.3", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("192.0.2.8", false),
            ("2001:db8::", true),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db9::", false),
            ("::", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(some.contain(address.parse().unwrap()), inside, "{address}");
        }
    }

    #[test]
    fn nothing_is_in_no_blocks_and_the_families_are_apart() {
        let everywhere: [IpAddr; 2] = ["10.1.2.3".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        for (blocks, inside) in [
            (&[][..], [false, false]),
            (&["0.0.0.0/0"], [true, false]),
            (&["::/0"], [false, true]),
            (&["0.0.0.0/0", "::/0"], [true, true]),
        ] {
            assert_eq!(
                everywhere.map(|address| ranges(blocks).contain(address)),
                inside,
                "{blocks:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_search_finds_what_looking_at_each_block_finds(
            blocks in prop::collection::vec((any::<u32>(), 0_u32..=32), 0..40),
            addresses in prop::collection::vec(any::<u32>(), 1..40),
            turn in 0_usize..40,
        ) {
            // Near each other, so that they overlap and meet.
            let near = |bits: u32| bits & 0x0000_0fff;
            let blocks: Vec<(u32, u32)> = blocks
                .into_iter()
                .map(|(bits, prefix)| {
                    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                    (near(bits) & mask, mask)
                })
                .collect();
            let mut cidrs: Vec<Cidr> = blocks
                .iter()
                .map(|(first, mask)| {
                    format!("{}/{}", Ipv4Addr::from_bits(*first), mask.count_ones()).parse().unwrap()
                })
                .collect();
            let straight = Ranges::new(cidrs.clone());
            let len = cidrs.len().max(1);
            cidrs.rotate_left(turn % len);
            prop_assert_eq!(&Ranges::new(cidrs), &straight);
            for address in addresses.into_iter().map(near) {
                let expected = blocks.iter().any(|(first, mask)| address & mask == *first);
                let found = straight.contain(IpAddr::V4(Ipv4Addr::from_bits(address)));
                prop_assert_eq!(found, expected);
            }
        }
    }
}
