//! The key of an issuer of our own: `dev` signs service-account tokens with one.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::{BASE64, SigningAlgorithm};
use crate::crypto::mac::sha256;
use crate::crypto::{CryptoError, pem};
use crate::model::SecretBytes;

/// A private key that signs tokens, with the algorithm that it signs with.
pub struct IssuerKey {
    algorithm: SigningAlgorithm,
    pair: Pair,
    kid: String,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl IssuerKey {
    /// Makes a new one; RSA keys have 2048 bits.
    ///
    /// # Errors
    /// [`CryptoError::GenerateKeyPair`].
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Self, CryptoError> {
        let failed = |_| CryptoError::GenerateKeyPair;
        let pair = match curve(algorithm) {
            Some(curve) => Pair::Ec(EcdsaKeyPair::generate(curve).map_err(failed)?),
            None => Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?)),
        };
        Self::of_pair(algorithm, pair)
    }

    /// Reads a PKCS#8 private key in PEM; P-256 signs with ES256, P-384 with ES384, RSA with RS256.
    ///
    /// # Errors
    /// [`CryptoError::NotAPrivateKey`].
    pub fn from_pem(pem: &SecretBytes) -> Result<Self, CryptoError> {
        let text = std::str::from_utf8(pem.expose()).map_err(|_| CryptoError::NotAPrivateKey)?;
        let mut parsed = rcgen::KeyPair::from_pem(text).map_err(|_| CryptoError::NotAPrivateKey)?;
        let der = Zeroizing::new(parsed.serialize_der());
        parsed.zeroize();
        for algorithm in [SigningAlgorithm::ES256, SigningAlgorithm::ES384] {
            let pair = curve(algorithm).map(|curve| EcdsaKeyPair::from_pkcs8(curve, &der));
            if let Some(Ok(pair)) = pair {
                return Self::of_pair(algorithm, Pair::Ec(pair));
            }
        }
        let pair = RsaKeyPair::from_pkcs8(&der).map_err(|_| CryptoError::NotAPrivateKey)?;
        Self::of_pair(SigningAlgorithm::RS256, Pair::Rsa(Box::new(pair)))
    }

    /// The key as PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`CryptoError::NotAPrivateKey`].
    pub fn to_pem(&self) -> Result<SecretBytes, CryptoError> {
        let der = match &self.pair {
            Pair::Ec(pair) => Zeroizing::new(
                pair.to_pkcs8v1()
                    .map_err(|_| CryptoError::NotAPrivateKey)?
                    .as_ref()
                    .to_vec(),
            ),
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| CryptoError::NotAPrivateKey)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
        };
        let mut text = pem::encode(pem::PRIVATE_KEY, &der);
        Ok(SecretBytes::new(std::mem::take(&mut *text).into_bytes()))
    }

    /// Id of the key, as Kubernetes makes it: the SHA-256 of the public key (SubjectPublicKeyInfo), in base64url.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A signed token with these claims.
    ///
    /// # Errors
    /// [`CryptoError::Sign`].
    pub fn sign(&self, claims: &Value) -> Result<String, CryptoError> {
        let header = json!({"alg": self.algorithm.as_str(), "kid": self.kid, "typ": "JWT"});
        let mut token = [
            BASE64.encode(header.to_string()),
            BASE64.encode(claims.to_string()),
        ]
        .join(".");
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ec(pair) => pair
                .sign(&random, token.as_bytes())
                .map_err(|_| CryptoError::Sign)?
                .as_ref()
                .to_vec(),
            Pair::Rsa(pair) => {
                let encoding = rsa_encoding(self.algorithm).ok_or(CryptoError::Sign)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, token.as_bytes(), &mut signature)
                    .map_err(|_| CryptoError::Sign)?;
                signature
            }
        };
        token.push('.');
        token.push_str(&BASE64.encode(signature));
        Ok(token)
    }

    /// The key set by which others verify: the public key alone, as JSON.
    #[must_use]
    pub fn jwks(&self) -> Vec<u8> {
        let (kid, alg) = (&self.kid, self.algorithm.as_str());
        let key = match &self.pair {
            Pair::Ec(pair) => {
                // An uncompressed point: 4, x, y.
                let coordinates = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                let crv = if self.algorithm == SigningAlgorithm::ES256 {
                    "P-256"
                } else {
                    "P-384"
                };
                let (x, y) = (BASE64.encode(x), BASE64.encode(y));
                json!({"use": "sig", "kid": kid, "alg": alg, "kty": "EC", "crv": crv, "x": x, "y": y})
            }
            Pair::Rsa(pair) => {
                let public: PublicKeyComponents<Vec<u8>> = pair.public_key().into();
                let (n, e) = (BASE64.encode(public.n), BASE64.encode(public.e));
                json!({"use": "sig", "kid": kid, "alg": alg, "kty": "RSA", "n": n, "e": e})
            }
        };
        json!({"keys": [key]}).to_string().into_bytes()
    }

    fn of_pair(algorithm: SigningAlgorithm, pair: Pair) -> Result<Self, CryptoError> {
        let public: PublicKeyX509Der<'_> = match &pair {
            Pair::Ec(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        }
        .map_err(|_| CryptoError::NotAPrivateKey)?;
        let kid = BASE64.encode(sha256(public.as_ref()));
        Ok(Self { algorithm, pair, kid })
    }
}

impl std::fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The curve on which an algorithm signs; none for RSA.
fn curve(algorithm: SigningAlgorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        SigningAlgorithm::ES256 => Some(&ECDSA_P256_SHA256_FIXED_SIGNING),
        SigningAlgorithm::ES384 => Some(&ECDSA_P384_SHA384_FIXED_SIGNING),
        SigningAlgorithm::RS256
        | SigningAlgorithm::RS384
        | SigningAlgorithm::RS512
        | SigningAlgorithm::PS256
        | SigningAlgorithm::PS384
        | SigningAlgorithm::PS512 => None,
    }
}

/// Padding and hash of an RSA algorithm; none for elliptic curves.
fn rsa_encoding(algorithm: SigningAlgorithm) -> Option<&'static dyn RsaEncoding> {
    match algorithm {
        SigningAlgorithm::RS256 => Some(&RSA_PKCS1_SHA256),
        SigningAlgorithm::RS384 => Some(&RSA_PKCS1_SHA384),
        SigningAlgorithm::RS512 => Some(&RSA_PKCS1_SHA512),
        SigningAlgorithm::PS256 => Some(&RSA_PSS_SHA256),
        SigningAlgorithm::PS384 => Some(&RSA_PSS_SHA384),
        SigningAlgorithm::PS512 => Some(&RSA_PSS_SHA512),
        SigningAlgorithm::ES256 | SigningAlgorithm::ES384 => None,
    }
}
