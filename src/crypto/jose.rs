//! Signed tokens and key sets (RFC 7515, 7517, 7518, 7519).
//!
//! Listed asymmetric algorithms only. `none` and HMAC are not among them by type, and a token is judged only by the
//! algorithm that fits the key: a public key can't be turned into an HMAC secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, DecodingKey, jwk};
use serde::Deserialize;
use serde_json::Value;

use super::CryptoError;

mod issuer;
#[cfg(test)]
mod tests;

pub use issuer::IssuerKey;

/// Longest token that is looked at. A projected service-account token has about 1 KiB.
pub const LONGEST_TOKEN: usize = 16 * 1024;
/// Longest key id that is looked at.
const LONGEST_KEY_ID: usize = 256;
/// Largest key set that is read.
const LARGEST_SET: usize = 1024 * 1024;

/// The accepted signature algorithms (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of RFC 7518")]
pub enum SigningAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
    ];

    /// Its name in headers and key sets.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    const fn family(self) -> Family {
        match self {
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => Family::Rsa,
            Self::ES256 => Family::P256,
            Self::ES384 => Family::P384,
        }
    }

    const fn of_library(self) -> Algorithm {
        match self {
            Self::RS256 => Algorithm::RS256,
            Self::RS384 => Algorithm::RS384,
            Self::RS512 => Algorithm::RS512,
            Self::PS256 => Algorithm::PS256,
            Self::PS384 => Algorithm::PS384,
            Self::PS512 => Algorithm::PS512,
            Self::ES256 => Algorithm::ES256,
            Self::ES384 => Algorithm::ES384,
        }
    }
}

/// What a key is; each algorithm works with exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    P384,
}

/// A public key of a key set.
pub struct VerificationKey {
    kid: String,
    family: Family,
    /// The one algorithm that the set restricts it to.
    only: Option<SigningAlgorithm>,
    key: DecodingKey,
}

impl VerificationKey {
    /// Its id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Reads one key; none where it can't verify a signature of ours: another kind, another use, no id, malformed.
    fn of_jwk(value: Value) -> Option<Self> {
        let restriction = match value.get("alg") {
            None => None,
            Some(name) => Some(SigningAlgorithm::parse(name.as_str()?)?),
        };
        let jwk: jwk::Jwk = serde_json::from_value(value).ok()?;
        let kid = jwk
            .common
            .key_id
            .as_ref()
            .filter(|kid| (1..=LONGEST_KEY_ID).contains(&kid.len()))?
            .clone();
        let for_signatures = jwk
            .common
            .public_key_use
            .as_ref()
            .is_none_or(|it| *it == jwk::PublicKeyUse::Signature);
        let may_verify = jwk
            .common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&jwk::KeyOperations::Verify));
        let (family, key) = match &jwk.algorithm {
            jwk::AlgorithmParameters::RSA(rsa) => {
                let (n, e) = (BASE64.decode(&rsa.n).ok()?, BASE64.decode(&rsa.e).ok()?);
                let bits = n.iter().skip_while(|byte| **byte == 0).count() * 8;
                (2048..=8192).contains(&bits).then_some(())?;
                (Family::Rsa, DecodingKey::from_rsa_raw_components(&n, &e))
            }
            jwk::AlgorithmParameters::EllipticCurve(ec) => {
                let (family, width) = match ec.curve {
                    jwk::EllipticCurve::P256 => (Family::P256, 32),
                    jwk::EllipticCurve::P384 => (Family::P384, 48),
                    _ => return None,
                };
                let right_width = |text: &str| BASE64.decode(text).is_ok_and(|bytes| bytes.len() == width);
                (right_width(&ec.x) && right_width(&ec.y)).then_some(())?;
                (family, DecodingKey::from_ec_components(&ec.x, &ec.y).ok()?)
            }
            _ => return None,
        };
        let fits = restriction.is_none_or(|algorithm| algorithm.family() == family);
        (for_signatures && may_verify && fits).then_some(Self {
            kid,
            family,
            only: restriction,
            key,
        })
    }

    fn fits(&self, header: &TokenHeader) -> bool {
        self.kid == header.kid
            && self.family == header.algorithm.family()
            && self.only.is_none_or(|algorithm| algorithm == header.algorithm)
    }
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerificationKey({:?})", self.family)
    }
}

/// The public keys of an issuer (RFC 7517), by id.
#[derive(Debug, Default)]
pub struct JwkSet(BTreeMap<String, Arc<VerificationKey>>);

impl JwkSet {
    /// Reads a key set of at most 1 MiB. Keys that can't verify a signature with a listed algorithm are left out, as RFC 7517
    /// section 5 asks; of two with the same id the first stays.
    ///
    /// # Errors
    /// [`CryptoError::NotAKeySet`].
    pub fn parse(json: &[u8]) -> Result<Self, CryptoError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if json.len() > LARGEST_SET {
            return Err(CryptoError::NotAKeySet);
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| CryptoError::NotAKeySet)?;
        let mut keys = BTreeMap::new();
        for key in set.keys.into_iter().filter_map(VerificationKey::of_jwk) {
            keys.entry(key.kid.clone()).or_insert_with(|| Arc::new(key));
        }
        Ok(Self(keys))
    }

    /// The key of that id.
    #[must_use]
    pub fn key(&self, kid: &str) -> Option<&Arc<VerificationKey>> {
        self.0.get(kid)
    }

    /// The ids of all keys, in order.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What a token says about its signature. Only [`verify`] makes it trustworthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHeader {
    /// Id of the key, 1 to 256 bytes.
    pub kid: String,
    /// Algorithm of the signature.
    pub algorithm: SigningAlgorithm,
}

/// Reads the header of a token of at most 16 KiB without verifying anything.
///
/// # Errors
/// [`CryptoError::NotAToken`] (also for a header with `crit`: nothing there is understood),
/// [`CryptoError::AlgorithmNotAccepted`], [`CryptoError::NoKeyId`].
pub fn header(token: &str) -> Result<TokenHeader, CryptoError> {
    Parts::split(token)?.header()
}

/// Verifies a token's signature and returns its claims. Who issued it, for whom and for how long is judged by the caller.
///
/// # Errors
/// As [`header`]; [`CryptoError::KeyMismatch`] where the token names another key, or an algorithm that is not this key's;
/// [`CryptoError::BadSignature`]; [`CryptoError::NotAToken`] where the claims are no JSON object.
pub fn verify(token: &str, key: &VerificationKey) -> Result<Value, CryptoError> {
    let parts = Parts::split(token)?;
    let header = parts.header()?;
    if !key.fits(&header) {
        return Err(CryptoError::KeyMismatch);
    }
    parts.check_signature(header.algorithm, key)?;
    match decode_json(parts.claims)? {
        claims @ Value::Object(_) => Ok(claims),
        _ => Err(CryptoError::NotAToken),
    }
}

/// A token in compact serialisation, cut at its two dots.
struct Parts<'a> {
    signed: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, CryptoError> {
        if token.len() > LONGEST_TOKEN {
            return Err(CryptoError::NotAToken);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(CryptoError::NotAToken)?;
        let (header, claims) = signed.split_once('.').ok_or(CryptoError::NotAToken)?;
        if claims.contains('.') {
            return Err(CryptoError::NotAToken);
        }
        Ok(Self {
            signed,
            header,
            claims,
            signature,
        })
    }

    fn header(&self) -> Result<TokenHeader, CryptoError> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: Option<String>,
            crit: Option<Value>,
        }
        let header: Header = decode_json(self.header)?;
        if header.crit.is_some() {
            return Err(CryptoError::NotAToken);
        }
        let algorithm = SigningAlgorithm::parse(&header.alg).ok_or(CryptoError::AlgorithmNotAccepted)?;
        let kid = header
            .kid
            .filter(|kid| (1..=LONGEST_KEY_ID).contains(&kid.len()))
            .ok_or(CryptoError::NoKeyId)?;
        Ok(TokenHeader { kid, algorithm })
    }

    fn check_signature(&self, algorithm: SigningAlgorithm, key: &VerificationKey) -> Result<(), CryptoError> {
        let algorithm = algorithm.of_library();
        match jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), &key.key, algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(CryptoError::BadSignature),
        }
    }
}

fn decode_json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, CryptoError> {
    let json = BASE64.decode(part).map_err(|_| CryptoError::NotAToken)?;
    serde_json::from_slice(&json).map_err(|_| CryptoError::NotAToken)
}
