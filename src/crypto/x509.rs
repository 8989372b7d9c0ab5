//! The internal certificate authority: it signs the hosts of this installation and nothing else.
//!
//! It is never an issuer for tenants. Its certificate is name-constrained, so that a client that trusts it trusts it for
//! hosts inside the cluster alone, whoever may hold its key.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use minicbor::{Decode, Encode};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber, SignatureAlgorithm, SigningKey,
};
use zeroize::Zeroizing;

use crate::model::{SecretBytes, UnixSeconds};

use super::{CryptoError, pem, random};

#[cfg(test)]
mod tests;

/// Clocks may differ by this much: certificates are valid from so long before they are made, in seconds.
const BACKDATED: i64 = 5 * 60;
/// Life of a leaf, in seconds.
const LEAF: i64 = 24 * 60 * 60;
/// Life of an authority, in days.
const AUTHORITY_DAYS: u16 = 3653;
/// 9999-12-31T23:59:59Z, the last second that a certificate can name.
const LAST_SECOND: i64 = 253_402_300_799;
/// Longest common name (RFC 5280, upper bounds).
const LONGEST_COMMON_NAME: usize = 64;

/// A certificate authority with its key (ECDSA P-256).
pub struct CertificateAuthority {
    issuer: Issuer<'static, Signer>,
    certificate: Vec<u8>,
    pem: String,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
    permitted: Vec<String>,
}

/// A certificate for one host, and its key.
#[derive(Debug)]
pub struct Leaf {
    /// The chain as a TLS server sends it, each certificate in DER; the leaf first, the root left out.
    pub chain_der: Vec<Vec<u8>>,
    /// The private key, PKCS#8 in DER.
    pub key_der: SecretBytes,
    /// Last second of its validity.
    pub not_after: UnixSeconds,
}

/// What is kept of an authority. The numbers stand in stored data.
#[derive(Encode, Decode)]
struct Stored<'a> {
    #[n(0)]
    not_before: i64,
    #[n(1)]
    not_after: i64,
    #[n(2)]
    permitted: Vec<String>,
    #[cbor(b(3), with = "minicbor::bytes")]
    certificate: &'a [u8],
    #[cbor(b(4), with = "minicbor::bytes")]
    key: &'a [u8],
}

impl CertificateAuthority {
    /// Makes a new one, valid for ten years. `permitted` are the DNS subtrees (`svc` stands for itself and every name that ends
    /// in `.svc`) and IP addresses that it may sign; with an empty list it may sign every host.
    ///
    /// # Errors
    /// [`CryptoError::GenerateKeyPair`], [`CryptoError::NotAHost`] for an entry of `permitted` that is neither,
    /// [`CryptoError::IssueCertificate`], [`CryptoError::Random`].
    pub fn generate(now: UnixSeconds, permitted: &[&str]) -> Result<Self, CryptoError> {
        if !permitted.iter().all(|subtree| is_host(subtree)) {
            return Err(CryptoError::NotAHost);
        }
        let signer = Signer::generate()?;
        let (not_before, not_after) = (now.plus(-BACKDATED), now.plus_days(AUTHORITY_DAYS));
        let mut params = parameters(not_before, not_after)?;
        let [a, b, c, d] = random::bytes()?;
        let name = format!("Strongroom CA {a:02x}{b:02x}{c:02x}{d:02x}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = name_constraints(permitted);
        let certificate = params
            .self_signed(&signer)
            .map_err(|_| CryptoError::IssueCertificate)?
            .der()
            .to_vec();
        let permitted = permitted.iter().map(|subtree| (*subtree).to_owned()).collect();
        Self::assemble(signer, certificate, not_before, not_after, permitted)
    }

    /// Everything that must be kept of it, its key included: the payload of a sealed record.
    ///
    /// # Errors
    /// [`CryptoError::NotAnAuthority`].
    pub fn to_bytes(&self) -> Result<SecretBytes, CryptoError> {
        let key = self.issuer.key().to_pkcs8()?;
        let stored = Stored {
            not_before: self.not_before.0,
            not_after: self.not_after.0,
            permitted: self.permitted.clone(),
            certificate: &self.certificate,
            key: &key,
        };
        // Room for all of it at once, so that the buffer is not moved with a key in it.
        let names: usize = stored.permitted.iter().map(|subtree| subtree.len() + 9).sum();
        let mut bytes = Vec::with_capacity(128 + names + stored.certificate.len() + stored.key.len());
        minicbor::encode(&stored, &mut bytes).map_err(|_| CryptoError::NotAnAuthority)?;
        Ok(SecretBytes::new(bytes))
    }

    /// Reads what [`CertificateAuthority::to_bytes`] made.
    ///
    /// # Errors
    /// [`CryptoError::NotAnAuthority`].
    pub fn from_bytes(bytes: &SecretBytes) -> Result<Self, CryptoError> {
        let stored =
            minicbor::decode::<Stored<'_>>(bytes.expose()).map_err(|_| CryptoError::NotAnAuthority)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, stored.key)
            .map_err(|_| CryptoError::NotAnAuthority)?;
        let (not_before, not_after) = (UnixSeconds(stored.not_before), UnixSeconds(stored.not_after));
        Self::assemble(
            Signer(pair),
            stored.certificate.to_vec(),
            not_before,
            not_after,
            stored.permitted,
        )
    }

    /// Its certificate, which clients trust: one PEM block.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Whether it may sign certificates for this host.
    #[must_use]
    pub fn may_sign(&self, host: &str) -> bool {
        let address = host.parse::<IpAddr>().ok();
        let under = |subtree: &str| {
            host.strip_suffix(subtree)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let covers = |subtree: &String| match (address, subtree.parse::<IpAddr>().ok()) {
            (None, None) => under(subtree),
            (address, listed) => address == listed,
        };
        is_host(host) && (self.permitted.is_empty() || self.permitted.iter().any(covers))
    }

    /// Last second of its validity.
    #[must_use]
    pub const fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// Makes a certificate for one host (a DNS name or an IP address) with a key of its own, valid for 24 hours and never
    /// longer than the authority itself.
    ///
    /// # Errors
    /// [`CryptoError::NotAHost`] for a host that it may not sign, [`CryptoError::AuthorityNotValid`],
    /// [`CryptoError::GenerateKeyPair`], [`CryptoError::IssueCertificate`], [`CryptoError::Random`].
    pub fn issue_leaf(&self, host: &str, now: UnixSeconds) -> Result<Leaf, CryptoError> {
        if !self.may_sign(host) {
            return Err(CryptoError::NotAHost);
        }
        self.sign_leaf(host, now)
    }

    /// [`CertificateAuthority::issue_leaf`] for a host that it may not sign: what a thief of its key could make.
    ///
    /// # Errors
    /// As [`CertificateAuthority::issue_leaf`].
    #[cfg(test)]
    pub(crate) fn issue_any_leaf(&self, host: &str, now: UnixSeconds) -> Result<Leaf, CryptoError> {
        self.sign_leaf(host, now)
    }

    fn sign_leaf(&self, host: &str, now: UnixSeconds) -> Result<Leaf, CryptoError> {
        if now < self.not_before || now > self.not_after {
            return Err(CryptoError::AuthorityNotValid);
        }
        let failed = |_| CryptoError::IssueCertificate;
        let signer = Signer::generate()?;
        let not_after = now.plus(LEAF).min(self.not_after);
        let mut params = parameters(now.plus(-BACKDATED).max(self.not_before), not_after)?;
        params.subject_alt_names = CertificateParams::new([host.to_owned()])
            .map_err(failed)?
            .subject_alt_names;
        let (label, _) = host.split_once('.').unwrap_or((host, ""));
        let name = if host.len() <= LONGEST_COMMON_NAME {
            host
        } else {
            label
        };
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&signer, &self.issuer).map_err(failed)?;
        let mut key = signer.to_pkcs8()?;
        Ok(Leaf {
            chain_der: vec![certificate.der().to_vec()],
            key_der: SecretBytes::new(std::mem::take(&mut *key)),
            not_after,
        })
    }

    fn assemble(
        signer: Signer,
        certificate: Vec<u8>,
        not_before: UnixSeconds,
        not_after: UnixSeconds,
        permitted: Vec<String>,
    ) -> Result<Self, CryptoError> {
        let issuer = Issuer::from_ca_cert_der(&certificate.clone().into(), signer)
            .map_err(|_| CryptoError::NotAnAuthority)?;
        let pem = std::mem::take(&mut *pem::encode(pem::CERTIFICATE, &certificate));
        Ok(Self {
            issuer,
            certificate,
            pem,
            not_before,
            not_after,
            permitted,
        })
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A key pair that signs certificates. The library's own would keep a copy of the key that nothing wipes.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn generate() -> Result<Self, CryptoError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map(Self)
            .map_err(|_| CryptoError::GenerateKeyPair)
    }

    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let document = self.0.to_pkcs8v1().map_err(|_| CryptoError::GenerateKeyPair)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self
            .0
            .sign(&SystemRandom::new(), message)
            .map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// What all our certificates have in common: validity, a random serial number, our name.
fn parameters(not_before: UnixSeconds, not_after: UnixSeconds) -> Result<CertificateParams, CryptoError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let date = |at: UnixSeconds| {
        let seconds = u64::try_from(at.0)
            .ok()
            .filter(|_| at.0 <= LAST_SECOND)
            .ok_or(CryptoError::IssueCertificate)?;
        Ok(epoch + Duration::from_secs(seconds))
    };
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(not_before)?, date(not_after)?);
    params.serial_number = Some(SerialNumber::from_slice(&random::bytes::<16>()?));
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Strongroom");
    Ok(params)
}

/// Permits what is listed. A kind of name of which nothing is permitted would be unconstrained (RFC 5280 section 4.2.1.10), so
/// addresses that are not listed are excluded by family, and DNS names by a subtree that nothing is under.
fn name_constraints(permitted: &[&str]) -> Option<NameConstraints> {
    if permitted.is_empty() {
        return None;
    }
    let mut constraints = NameConstraints {
        permitted_subtrees: Vec::new(),
        excluded_subtrees: Vec::new(),
    };
    let (mut v4, mut v6, mut dns) = (false, false, false);
    for subtree in permitted {
        constraints
            .permitted_subtrees
            .push(match subtree.parse::<IpAddr>() {
                Ok(address) => {
                    (v4, v6) = (v4 || address.is_ipv4(), v6 || address.is_ipv6());
                    let whole = if address.is_ipv4() { 32 } else { 128 };
                    GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, whole))
                }
                Err(_) => {
                    dns = true;
                    GeneralSubtree::DnsName((*subtree).to_owned())
                }
            });
    }
    if !dns {
        constraints
            .permitted_subtrees
            .push(GeneralSubtree::DnsName("invalid".to_owned()));
    }
    if !v4 {
        constraints
            .excluded_subtrees
            .push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)));
    }
    if !v6 {
        constraints
            .excluded_subtrees
            .push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)));
    }
    Some(constraints)
}

/// An IP address, or a DNS name in lower case (RFC 1123, at most 253 characters).
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(is_label))
}
