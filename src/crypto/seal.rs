//! The envelope of every record at rest.
//!
//! ```text
//! format u8 = 2 | type u8 | vault [16] | incarnation [16] | term u32 | rev u64 | salt [32] | ciphertext | tag [16]
//! ```
//! Numbers are big-endian. Everything before the ciphertext is in clear and authenticated. Each record has a key of its own,
//! HKDF-Expand with SHA-256 (RFC 5869, section 2.3; section 3.3 for why a sealing key, which is uniformly random, needs no
//! extraction) of the sealing key over a label and the salt. The salt is fresh each time, so no key seals twice, and the nonce
//! is zero. In format 1, which is read for ever, key and nonce come from HKDF-SHA-256(salt, sealing key). The associated
//! data is a label, the installation's id, the header and the record's name: a record opens only as what it is and where it
//! belongs.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::model::{SecretBytes, VaultUuid};

use super::keyring::{InstallationId, SealingKey, hkdf_expand_sha256, hkdf_sha256};
use super::{CryptoError, random};

const FORMAT: u8 = 2;
const FIRST_FORMAT: u8 = 1;
const HEADER: usize = 1 + 1 + 16 + 16 + 4 + 8;
const SALT: usize = 32;
const TAG: usize = 16;
const KEY: usize = 32;
const LABEL_AAD: &[u8] = b"strongroom/seal/v1";
const LABEL_KEY: &[u8] = b"strongroom/seal/v2/key";
const FIRST_LABEL_KEY: &[u8] = b"strongroom/seal/v1/key";

/// How many bytes an envelope has beyond its plaintext.
pub const OVERHEAD: usize = HEADER + SALT + TAG;

/// What a sealed record is. The numbers stand in stored data and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordType {
    /// Proves that a root key is the right one.
    Sentinel = 1,
    /// The installation's own facts.
    Installation = 2,
    /// The internal certificate authority.
    CertificateAuthority = 3,
    /// The head of a vault.
    Vault = 4,
    /// The head of an object.
    Object = 5,
    /// The value of one version.
    Body = 6,
    /// Where a list continues; never stored.
    SkipToken = 7,
    /// A vault's key, inside the vault's head.
    VaultKey = 8,
    /// An object with all its versions, in its owner's hands; never stored.
    Backup = 9,
    /// The sealed value of one version, as a record of its own.
    Value = 10,
    /// Older versions of an object.
    Page = 11,
    /// What outlives a version of the root key.
    Heritage = 12,
}

impl RecordType {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Sentinel,
            2 => Self::Installation,
            3 => Self::CertificateAuthority,
            4 => Self::Vault,
            5 => Self::Object,
            6 => Self::Body,
            7 => Self::SkipToken,
            8 => Self::VaultKey,
            9 => Self::Backup,
            10 => Self::Value,
            11 => Self::Page,
            12 => Self::Heritage,
            _ => return None,
        })
    }
}

/// What an envelope says about itself in clear. Only [`open`] makes it trustworthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub record_type: RecordType,
    /// Whose it is; zeros for records of the installation.
    pub vault: VaultUuid,
    /// Which life of its name; zeros where a record has no lives.
    pub incarnation: [u8; 16],
    /// Term of the key that sealed it.
    pub term: u32,
    /// Counts its changes, from 1.
    pub rev: u64,
}

impl Header {
    /// Reads the header of an envelope without opening it.
    ///
    /// # Errors
    /// [`CryptoError::NotARecord`].
    pub fn peek(envelope: &[u8]) -> Result<Self, CryptoError> {
        Parts::split(envelope).map(|parts| parts.header)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.push(self.record_type as u8);
        out.extend_from_slice(&self.vault.0);
        out.extend_from_slice(&self.incarnation);
        out.extend_from_slice(&self.term.to_be_bytes());
        out.extend_from_slice(&self.rev.to_be_bytes());
    }
}

/// Seals `plaintext` as the record that `header` and `name` describe. The result is [`OVERHEAD`] bytes longer.
///
/// # Errors
/// [`CryptoError::OtherTerm`] where the header names another term than the key's; [`CryptoError::Random`],
/// [`CryptoError::Derive`], [`CryptoError::Seal`].
pub fn seal(
    key: &SealingKey,
    installation: &InstallationId,
    header: &Header,
    name: &str,
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    if header.term != key.term() {
        return Err(CryptoError::OtherTerm);
    }
    let salt = random::bytes::<SALT>()?;
    let mut envelope = Vec::with_capacity(plaintext.len() + OVERHEAD);
    header.write(&mut envelope);
    envelope.extend_from_slice(&salt);
    let aad = associated_data(installation, &envelope, name);
    let (cipher, nonce) = record_key(key.secret(), &salt)?;

    let start = envelope.len();
    envelope.resize(start + plaintext.len() + TAG, 0);
    let (_, body) = envelope.split_at_mut_checked(start).ok_or(CryptoError::Seal)?;
    let (ciphertext, tag) = body
        .split_at_mut_checked(plaintext.len())
        .ok_or(CryptoError::Seal)?;
    cipher
        .seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], tag)
        .map_err(|_| CryptoError::Seal)?;
    Ok(envelope)
}

/// Opens an envelope as a record of this type and name.
///
/// # Errors
/// [`CryptoError::NotARecord`], [`CryptoError::OtherType`], [`CryptoError::OtherTerm`] where the key does not know the term
/// that the header names, [`CryptoError::DoesNotOpen`].
pub fn open(
    key: &SealingKey,
    installation: &InstallationId,
    expected_type: RecordType,
    name: &str,
    envelope: &[u8],
) -> Result<(Header, SecretBytes), CryptoError> {
    let parts = Parts::split(envelope)?;
    if parts.header.record_type != expected_type {
        return Err(CryptoError::OtherType);
    }
    let secret = key.secret_of(parts.header.term).ok_or(CryptoError::OtherTerm)?;
    let aad = associated_data(installation, parts.clear, name);
    let (cipher, nonce) = match parts.format {
        FIRST_FORMAT => first_record_key(secret, parts.salt)?,
        _ => record_key(secret, parts.salt)?,
    };
    let mut plaintext = Zeroizing::new(vec![0; parts.ciphertext.len()]);
    cipher
        .open_separate_gather(nonce, Aad::from(aad), parts.ciphertext, parts.tag, &mut plaintext)
        .map_err(|_| CryptoError::DoesNotOpen)?;
    Ok((parts.header, SecretBytes::new(std::mem::take(&mut *plaintext))))
}

/// An envelope, cut into its parts.
struct Parts<'a> {
    format: u8,
    header: Header,
    /// Header and salt: everything that is authenticated in clear.
    clear: &'a [u8],
    salt: &'a [u8; SALT],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG],
}

impl<'a> Parts<'a> {
    fn split(envelope: &'a [u8]) -> Result<Self, CryptoError> {
        Self::cut(envelope).ok_or(CryptoError::NotARecord)
    }

    fn cut(envelope: &'a [u8]) -> Option<Self> {
        let (clear, body) = envelope.split_at_checked(HEADER + SALT)?;
        let (ciphertext, tag) = body.split_last_chunk::<TAG>()?;
        let (&format, rest) = clear.split_first()?;
        let (&record_type, rest) = rest.split_first()?;
        let (vault, rest) = rest.split_first_chunk::<16>()?;
        let (incarnation, rest) = rest.split_first_chunk::<16>()?;
        let (term, rest) = rest.split_first_chunk::<4>()?;
        let (rev, salt) = rest.split_first_chunk::<8>()?;
        if !matches!(format, FIRST_FORMAT | FORMAT) {
            return None;
        }
        let header = Header {
            record_type: RecordType::of(record_type)?,
            vault: VaultUuid(*vault),
            incarnation: *incarnation,
            term: u32::from_be_bytes(*term),
            rev: u64::from_be_bytes(*rev),
        };
        Some(Self {
            format,
            header,
            clear,
            salt: salt.first_chunk::<SALT>()?,
            ciphertext,
            tag,
        })
    }
}

/// Label, installation and clear part have fixed lengths, so the name at the end needs none.
fn associated_data(installation: &InstallationId, clear: &[u8], name: &str) -> Vec<u8> {
    [LABEL_AAD, &installation.0, clear, name.as_bytes()].concat()
}

/// The key of one record, and the nonce of its only use.
fn record_key(sealing: &[u8], salt: &[u8; SALT]) -> Result<(LessSafeKey, Nonce), CryptoError> {
    let mut secret = Zeroizing::new([0; KEY]);
    hkdf_expand_sha256(sealing, &[LABEL_KEY, salt], secret.as_mut_slice())?;
    let cipher = UnboundKey::new(&AES_256_GCM, secret.as_slice()).map_err(|_| CryptoError::Derive)?;
    Ok((
        LessSafeKey::new(cipher),
        Nonce::assume_unique_for_key([0; NONCE_LEN]),
    ))
}

/// The same of format 1.
fn first_record_key(sealing: &[u8], salt: &[u8; SALT]) -> Result<(LessSafeKey, Nonce), CryptoError> {
    let mut derived = Zeroizing::new([0; KEY + NONCE_LEN]);
    hkdf_sha256(salt, sealing, FIRST_LABEL_KEY, derived.as_mut_slice())?;
    let (secret, nonce) = derived.split_first_chunk::<KEY>().ok_or(CryptoError::Derive)?;
    let cipher = UnboundKey::new(&AES_256_GCM, secret).map_err(|_| CryptoError::Derive)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::Derive)?;
    Ok((LessSafeKey::new(cipher), nonce))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::RootKey;
    use proptest::prelude::*;

    const HERE: InstallationId = InstallationId([0x11; 16]);
    const NAME: &str = "0123456789abcdef0123456789abcdef01234567";

    fn key() -> SealingKey {
        RootKey::from_bytes(&SecretBytes::new((0..32).collect()))
            .unwrap()
            .sealing_key()
    }

    fn head() -> Header {
        Header {
            record_type: RecordType::Object,
            vault: VaultUuid([0x22; 16]),
            incarnation: [0x33; 16],
            term: 1,
            rev: 42,
        }
    }

    fn refusal(result: Result<(Header, SecretBytes), CryptoError>) -> Option<CryptoError> {
        result.err()
    }

    /// Made by another implementation (Python: hmac, hashlib, cryptography) from the formats at the head of this file. If this
    /// fails, records of earlier versions can't be read any more.
    #[test]
    fn an_envelope_of_each_format_opens_for_ever() {
        for envelope in [FIRST_ENVELOPE, ENVELOPE] {
            let envelope: Vec<u8> = envelope
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            let (header, plaintext) = open(&key(), &HERE, RecordType::Object, NAME, &envelope).unwrap();
            assert_eq!(header, head());
            assert_eq!(plaintext.expose(), b"the value of a secret");
        }
    }

    const FIRST_ENVELOPE: &str = concat!(
        "0105222222222222222222222222222222223333333333333333333333333333333300000001000000000000002a44444444444444444444",
        "444444444444444444444444444444444444444444440dec62e352c8f219b272b089bc4d137043792726e6f475c6573e2b3619273b037cf8",
        "6b598f"
    );
    const ENVELOPE: &str = concat!(
        "0205222222222222222222222222222222223333333333333333333333333333333300000001000000000000002a44444444444444444444",
        "4444444444444444444444444444444444444444444493b72d6582e7a4008cb7b245d722d06d0ba32222d90bd9df5c74ed33d3236abf2f952807f0"
    );

    #[test]
    fn the_same_record_sealed_twice_shows_nothing_in_common_after_its_header() {
        let one = seal(&key(), &HERE, &head(), NAME, &[0; 64]).unwrap();
        let two = seal(&key(), &HERE, &head(), NAME, &[0; 64]).unwrap();
        assert_eq!(one[..HEADER], two[..HEADER]);
        assert_ne!(one[HEADER..HEADER + SALT], two[HEADER..HEADER + SALT]);
        assert_ne!(one[HEADER + SALT..], two[HEADER + SALT..]);
    }

    #[test]
    fn a_record_opens_only_as_what_it_is_and_where_it_belongs() {
        let envelope = seal(&key(), &HERE, &head(), NAME, b"value").unwrap();
        let opened = |key: &SealingKey, at: InstallationId, as_type, name: &str| {
            refusal(open(key, &at, as_type, name, &envelope))
        };
        let other_key = RootKey::generate().unwrap().sealing_key();
        let same = RecordType::Object;
        assert_eq!(opened(&key(), HERE, same, NAME), None);
        for (what, refused, why) in [
            (
                "another key",
                opened(&other_key, HERE, same, NAME),
                CryptoError::DoesNotOpen,
            ),
            (
                "another installation",
                opened(&key(), InstallationId([0x12; 16]), same, NAME),
                CryptoError::DoesNotOpen,
            ),
            (
                "another type",
                opened(&key(), HERE, RecordType::Body, NAME),
                CryptoError::OtherType,
            ),
            (
                "another name",
                opened(&key(), HERE, same, "0123456789abcdef"),
                CryptoError::DoesNotOpen,
            ),
            (
                "no name",
                opened(&key(), HERE, same, ""),
                CryptoError::DoesNotOpen,
            ),
        ] {
            assert_eq!(refused, Some(why), "{what}");
        }
    }

    #[test]
    fn a_record_of_another_term_is_told_from_a_damaged_one() {
        let header = Header { term: 2, ..head() };
        assert_eq!(
            seal(&key(), &HERE, &header, NAME, b"value").err(),
            Some(CryptoError::OtherTerm)
        );
        let mut envelope = seal(&key(), &HERE, &head(), NAME, b"value").unwrap();
        envelope[37] = 2;
        assert_eq!(Header::peek(&envelope).unwrap().term, 2);
        assert_eq!(
            refusal(open(&key(), &HERE, RecordType::Object, NAME, &envelope)),
            Some(CryptoError::OtherTerm)
        );
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let envelope = seal(&key(), &HERE, &head(), NAME, b"a value").unwrap();
        for bit in 0..envelope.len() * 8 {
            let mut changed = envelope.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                open(&key(), &HERE, RecordType::Object, NAME, &changed).is_err(),
                "bit {bit}"
            );
        }
        for length in 0..envelope.len() {
            assert!(
                open(&key(), &HERE, RecordType::Object, NAME, &envelope[..length]).is_err(),
                "{length} bytes"
            );
        }
        let longer = [&envelope[..], &[0]].concat();
        assert!(open(&key(), &HERE, RecordType::Object, NAME, &longer).is_err());
    }

    #[test]
    fn every_type_has_the_number_that_stands_in_stored_data() {
        for (number, record_type) in [
            (1, RecordType::Sentinel),
            (2, RecordType::Installation),
            (3, RecordType::CertificateAuthority),
            (4, RecordType::Vault),
            (5, RecordType::Object),
            (6, RecordType::Body),
            (7, RecordType::SkipToken),
            (8, RecordType::VaultKey),
            (9, RecordType::Backup),
            (10, RecordType::Value),
            (11, RecordType::Page),
            (12, RecordType::Heritage),
        ] {
            assert_eq!(
                (record_type as u8, RecordType::of(number)),
                (number, Some(record_type))
            );
        }
        assert!(
            [0, 13, 255]
                .into_iter()
                .all(|number| RecordType::of(number).is_none())
        );
    }

    fn any_header() -> impl Strategy<Value = Header> {
        (1..=12_u8, any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u64>()).prop_map(
            |(number, vault, incarnation, rev)| Header {
                record_type: RecordType::of(number).unwrap(),
                vault: VaultUuid(vault),
                incarnation,
                term: 1,
                rev,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_unchanged(header in any_header(), name in ".{0,80}", installation: [u8; 16],
                                          plaintext in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let installation = InstallationId(installation);
            let envelope = seal(&key(), &installation, &header, &name, &plaintext).unwrap();
            prop_assert_eq!(envelope.len(), plaintext.len() + OVERHEAD);
            prop_assert_eq!(Header::peek(&envelope).unwrap(), header);
            let (opened, text) = open(&key(), &installation, header.record_type, &name, &envelope).unwrap();
            prop_assert_eq!(opened, header);
            prop_assert_eq!(text.expose(), plaintext);
        }

        #[test]
        fn a_record_under_any_other_name_does_not_open(name in ".{0,40}", other in ".{0,40}") {
            let envelope = seal(&key(), &HERE, &head(), &name, b"value").unwrap();
            prop_assert_eq!(open(&key(), &HERE, RecordType::Object, &other, &envelope).is_ok(), name == other);
        }

        #[test]
        fn no_bytes_make_peek_or_open_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), plausible: bool) {
            let mut bytes = bytes;
            if let (true, [first, second, ..]) = (plausible, bytes.as_mut_slice()) {
                (*first, *second) = (FORMAT, RecordType::Object as u8);
            }
            let _ = Header::peek(&bytes);
            prop_assert!(open(&key(), &HERE, RecordType::Object, NAME, &bytes).is_err());
        }
    }
}
