//! What can fail in this room. No variant holds a key, a token or anything that a caller sent.

use crate::model::Kind;

/// Why a cryptographic operation was refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The system gave no random bytes.
    #[error("the system's source of randomness failed")]
    Random,
    /// A symmetric key of another length.
    #[error("a key has exactly 32 bytes")]
    KeyLength,
    /// HKDF failed.
    #[error("a key could not be derived")]
    Derive,
    /// AES-256-GCM failed to seal.
    #[error("a record could not be sealed")]
    Seal,
    /// Bytes that are no sealed record of a format that this version knows.
    #[error("these bytes are not a sealed record of a known format")]
    NotARecord,
    /// A sealed record of another type than the one expected here.
    #[error("the sealed record is of another type than expected")]
    OtherType,
    /// A sealed record under another term of the key.
    #[error("the sealed record names another term of its key")]
    OtherTerm,
    /// Two keys of one installation that claim to be the same version.
    #[error("two root keys have the same version")]
    SameVersion,
    /// Authentication failed: another key, another place, or changed bytes.
    #[error("the sealed record does not open: it was changed, moved or sealed under another key")]
    DoesNotOpen,
    /// A JWK set that can't be read.
    #[error("this is not a JWK set")]
    NotAKeySet,
    /// A text that is no signed token (RFC 7515 compact serialisation, RFC 7519 claims).
    #[error("this is not a signed token")]
    NotAToken,
    /// A token without the id of its key.
    #[error("the token does not name its key")]
    NoKeyId,
    /// `none`, a symmetric algorithm, or one that is not listed.
    #[error("the token's algorithm is not accepted")]
    AlgorithmNotAccepted,
    /// A token whose algorithm or key id does not fit the key.
    #[error("the token's algorithm or key id does not fit the key")]
    KeyMismatch,
    /// A signature that is not this key's.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// A token could not be signed.
    #[error("a token could not be signed")]
    Sign,
    /// Bytes that are no private key of a kind that we use.
    #[error("this is not a private key of a known kind")]
    NotAPrivateKey,
    /// A key pair could not be generated.
    #[error("a key pair could not be generated")]
    GenerateKeyPair,
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    IssueCertificate,
    /// A host for which no certificate is made.
    #[error("this is not a host for which a certificate can be made")]
    NotAHost,
    /// Bytes that are no certificate authority of ours.
    #[error("this is not a certificate authority")]
    NotAnAuthority,
    /// A certificate authority outside its validity.
    #[error("the certificate authority is not valid at this time")]
    AuthorityNotValid,
}

impl CryptoError {
    /// What kind of failure it is. What strangers send is theirs; everything else is a defect or damaged data.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::NotAToken
            | Self::NoKeyId
            | Self::AlgorithmNotAccepted
            | Self::KeyMismatch
            | Self::BadSignature => Kind::Unauthenticated,
            Self::NotAKeySet | Self::AuthorityNotValid => Kind::Unavailable,
            Self::NotAHost => Kind::Invalid,
            Self::Random
            | Self::KeyLength
            | Self::Derive
            | Self::Seal
            | Self::NotARecord
            | Self::OtherType
            | Self::OtherTerm
            | Self::SameVersion
            | Self::DoesNotOpen
            | Self::Sign
            | Self::NotAPrivateKey
            | Self::GenerateKeyPair
            | Self::IssueCertificate
            | Self::NotAnAuthority => Kind::Internal,
        }
    }
}
