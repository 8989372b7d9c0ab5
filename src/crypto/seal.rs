//! The envelope of every record at rest.
//!
//! ```text
//! format u8 = 1 | type u8 | vault [16] | incarnation [16] | term u32 | rev u64 | salt [32] | ciphertext | tag [16]
//! ```
//! Numbers are big-endian. Everything before the ciphertext is in clear and authenticated. Key and nonce come from
//! HKDF-SHA-256(sealing key, salt): the salt is fresh each time, so no pair of key and nonce occurs twice. The associated
//! data is a label, the installation's id, the header and the record's name: a record opens only as what it is and where it
//! belongs.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::model::{SecretBytes, VaultUuid};

use super::keyring::{InstallationId, SealingKey, hkdf_sha256};
use super::{CryptoError, random};

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 1 + 16 + 16 + 4 + 8;
const SALT: usize = 32;
const TAG: usize = 16;
const KEY: usize = 32;
const LABEL_AAD: &[u8] = b"strongroom/seal/v1";
const LABEL_KEY: &[u8] = b"strongroom/seal/v1/key";

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
    let (cipher, nonce) = record_key(key, &salt)?;

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
/// [`CryptoError::NotARecord`], [`CryptoError::OtherType`], [`CryptoError::OtherTerm`], [`CryptoError::DoesNotOpen`].
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
    if parts.header.term != key.term() {
        return Err(CryptoError::OtherTerm);
    }
    let aad = associated_data(installation, parts.clear, name);
    let (cipher, nonce) = record_key(key, parts.salt)?;
    let mut plaintext = Zeroizing::new(vec![0; parts.ciphertext.len()]);
    cipher
        .open_separate_gather(nonce, Aad::from(aad), parts.ciphertext, parts.tag, &mut plaintext)
        .map_err(|_| CryptoError::DoesNotOpen)?;
    Ok((parts.header, SecretBytes::new(std::mem::take(&mut *plaintext))))
}

/// An envelope, cut into its parts.
struct Parts<'a> {
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
        if format != FORMAT {
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

/// The key and the nonce of one record.
fn record_key(key: &SealingKey, salt: &[u8; SALT]) -> Result<(LessSafeKey, Nonce), CryptoError> {
    let mut derived = Zeroizing::new([0; KEY + NONCE_LEN]);
    hkdf_sha256(salt, key.secret(), LABEL_KEY, derived.as_mut_slice())?;
    let (secret, nonce) = derived.split_first_chunk::<KEY>().ok_or(CryptoError::Derive)?;
    let cipher = UnboundKey::new(&AES_256_GCM, secret).map_err(|_| CryptoError::Derive)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::Derive)?;
    Ok((LessSafeKey::new(cipher), nonce))
}
