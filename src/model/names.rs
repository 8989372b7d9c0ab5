//! Names and identifiers. Each is parsed once, at the edge; inside, a wrong one cannot exist.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Why a text is not a name. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Vault names: Azure Key Vault naming rules.
    #[error(
        "a vault name has 3 to 24 characters of a-z, 0-9 and '-', starts with a letter, does not end with '-' and has no '--'"
    )]
    Vault,
    /// Object names: `^[0-9a-zA-Z-]{1,127}$`.
    #[error("an object name has 1 to 127 characters of 0-9, a-z, A-Z and '-'")]
    Object,
    /// Versions: 32 hexadecimal characters.
    #[error("a version has 32 hexadecimal characters")]
    Version,
    /// Namespaces: RFC 1123 labels.
    #[error(
        "a namespace has 1 to 63 characters of a-z, 0-9 and '-', and starts and ends with a letter or digit"
    )]
    Namespace,
    /// UIDs and UUIDs.
    #[error("a vault's UUID has 32 hexadecimal characters")]
    Uuid,
}

/// A Kubernetes namespace (RFC 1123 label).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Parses a namespace's name, exactly as Kubernetes writes it.
    ///
    /// # Errors
    /// [`InvalidName::Namespace`].
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let good = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if good {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::Namespace)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The UID that the API server gave an object: opaque, never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Arc<str>);

impl Uid {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A vault's name: the first label of its host, and the name of its resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultName(Arc<str>);

impl VaultName {
    /// Parses a name; upper case (as in a Host header) is folded.
    ///
    /// # Errors
    /// [`InvalidName::Vault`].
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let good = (3..=24).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && !text.ends_with('-')
            && !text.contains("--");
        if good {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(InvalidName::Vault)
        }
    }

    /// The text, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VaultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which vault a request addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultId {
    /// The tenant's namespace.
    pub namespace: Namespace,
    /// The vault in it.
    pub name: VaultName,
}

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A vault's own identity: random, made with its head, never reused under a recycled name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultUuid(pub [u8; 16]);

impl fmt::Display for VaultUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

/// The name of a key, secret or certificate. Compared without case; shown as first written.
#[derive(Debug, Clone)]
pub struct ObjectName {
    written: Arc<str>,
    folded: Arc<str>,
}

impl ObjectName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidName::Object`].
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let good =
            (1..=127).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good {
            return Err(InvalidName::Object);
        }
        let written: Arc<str> = text.into();
        let folded = if text.bytes().any(|b| b.is_ascii_uppercase()) {
            text.to_ascii_lowercase().into()
        } else {
            Arc::clone(&written)
        };
        Ok(Self { written, folded })
    }

    /// As its user wrote it.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// In lower case: what names are compared and stored by.
    #[must_use]
    pub fn folded(&self) -> &str {
        &self.folded
    }
}

impl PartialEq for ObjectName {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl Eq for ObjectName {}

impl Hash for ObjectName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded.hash(state);
    }
}

impl Ord for ObjectName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.folded.cmp(&other.folded)
    }
}

impl PartialOrd for ObjectName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// One version of an object: 16 random bytes, written as 32 lower-case hexadecimal characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub [u8; 16]);

impl Version {
    /// Parses 32 hexadecimal characters of either case.
    ///
    /// # Errors
    /// [`InvalidName::Version`].
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        parse_hex(text).map(Self).ok_or(InvalidName::Version)
    }

    /// Its text, without the machinery of formatting.
    #[must_use]
    pub fn to_hex(self) -> Hex {
        Hex::of(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

/// 32 lower-case hexadecimal characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex([u8; 32]);

impl Hex {
    /// Of 16 bytes.
    #[must_use]
    pub fn of(bytes: &[u8; 16]) -> Self {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 0xf)).copied().unwrap_or(b'0');
        let mut text = [b'0'; 32];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(*byte)];
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits are text, whatever the bytes were.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn write_hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(Hex::of(bytes).as_str())
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vault_names_follow_azures_rules() {
        for good in ["abc", "demo", "a-b-c", "Demo1", "abcdefghijklmnopqrstuvwx"] {
            assert!(VaultName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "1ab",
            "-ab",
            "ab-",
            "a--b",
            "a_b",
            "a.b",
            "abcdefghijklmnopqrstuvwxy",
            "äbc",
        ] {
            assert_eq!(VaultName::parse(bad), Err(InvalidName::Vault), "{bad}");
        }
    }

    #[test]
    fn object_names_compare_without_case_and_show_as_written() {
        let (a, b) = (
            ObjectName::parse("Db-Password").unwrap(),
            ObjectName::parse("db-password").unwrap(),
        );
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "Db-Password");
    }

    proptest! {
        #[test]
        fn a_version_survives_its_text(bytes: [u8; 16]) {
            let version = Version(bytes);
            prop_assert_eq!(Version::parse(&version.to_string()), Ok(version));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,200}") {
            let _ = (VaultName::parse(&text), ObjectName::parse(&text), Version::parse(&text), Namespace::parse(&text));
        }
    }
}
