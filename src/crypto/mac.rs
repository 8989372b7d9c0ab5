//! Names that tell nothing, hashes, and comparison in constant time.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest, hmac};

use super::keyring::KeyBytes;

/// The HMAC-SHA-256 key from which the names of sealed records are made: the same parts always give the same name, and
/// nobody without the key can tell what a name stands for.
#[derive(Clone)]
pub struct NamingKey(Arc<hmac::Key>);

impl NamingKey {
    pub(super) fn new(key: &KeyBytes) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())))
    }

    /// 40 lower-case hexadecimal characters (160 bits of the HMAC). Each part goes in with its length in front, so
    /// `["ab", "c"]` and `["a", "bc"]` have different names.
    #[must_use]
    pub fn name(&self, parts: &[&[u8]]) -> String {
        let mut name = String::with_capacity(40);
        for byte in self.sign(parts).as_ref().iter().take(20) {
            // Writing to a String does not fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// 128 bits of the HMAC, of parts as for a name.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut tag = [0; 16];
        for (to, from) in tag.iter_mut().zip(self.sign(parts).as_ref()) {
            *to = *from;
        }
        tag
    }

    fn sign(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

impl std::fmt::Debug for NamingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NamingKey")
    }
}

/// Whether both are the same bytes, in a time that depends on their lengths alone.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// SHA-256.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, data);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::RootKey;
    use crate::model::SecretBytes;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn sha256_gives_the_published_digests() {
        for (data, digest) in [
            (
                &b"abc"[..],
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                b"",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
        ] {
            assert_eq!(hex(&sha256(data)), digest);
        }
    }

    #[test]
    fn equal_means_equal_bytes_and_equal_length() {
        for (a, b, equal) in [
            ("", "", true),
            ("ab", "ab", true),
            ("ab", "ac", false),
            ("ab", "abc", false),
            ("", "a", false),
        ] {
            assert_eq!(constant_time_eq(a.as_bytes(), b.as_bytes()), equal, "{a} {b}");
        }
    }

    /// A change of this value would make every stored record unfindable.
    #[test]
    fn a_name_never_changes() {
        let root = RootKey::from_bytes(&SecretBytes::new(vec![7; 32])).unwrap();
        assert_eq!(
            root.naming_key().name(&[b"vault", b"team"]),
            "c98e294c6d516722ee1687fd695a36b5f29b442b"
        );
    }

    proptest! {
        #[test]
        fn names_differ_when_parts_do(a in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..4),
                                      b in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..4)) {
            let key = RootKey::from_bytes(&SecretBytes::new(vec![7; 32])).unwrap().naming_key();
            let name = |parts: &[Vec<u8>]| key.name(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(a == b, name(&a) == name(&b));
            prop_assert!(name(&a).len() == 40 && name(&a).bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));
        }
    }
}
