//! Custom resources become what requests are judged by. Pure: `serve` compiles what it watches, `operate` compiles the
//! same objects to say in their status what `serve` decides, `dev` compiles a file.
//!
//! Whatever is not understood grants nothing: names that are not written exactly as the guards compare them, fields of a
//! newer schema, objects that are being deleted.

mod access_policy;
mod documents;
mod network_rule;
mod secret;
mod vault;

pub use access_policy::{Compiled, Finding, MAX_ENTRIES, policies, vault_of};
pub use documents::{Documents, InvalidDocuments, documents};
pub use network_rule::{
    CompiledNetwork, MAX_CIDRS, MAX_POD_SELECTIONS, NetworkFinding, network_rules, ruled_vault,
};
pub use secret::{OnDelete, Wanted, secret};
pub use vault::vault;

use crate::model::{Kind, Namespace, VaultName};

/// Why a resource is of no effect. Sentences for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is being deleted.
    #[error("it is being deleted")]
    Deleting,
    /// The API server always sets these, so this object never was in one.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A name that breaks Azure's or Kubernetes' rules.
    #[error("{field}: {reason}")]
    Name {
        /// Where it stands.
        field: &'static str,
        /// The rule.
        reason: &'static str,
    },
    /// A value that this version does not know or allow.
    #[error("{field} must be {allowed}")]
    Value {
        /// Where it stands.
        field: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
}

impl Unusable {
    /// The kind of failure, for condition reasons.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Deleting => Kind::Conflict,
            Self::Missing(_) | Self::Name { .. } | Self::Value { .. } => Kind::Invalid,
        }
    }
}

fn namespace(text: Option<&str>) -> Result<Namespace, Unusable> {
    let text = text.ok_or(Unusable::Missing("metadata.namespace"))?;
    Namespace::parse(text).map_err(|_| Unusable::Name {
        field: "metadata.namespace",
        reason: "it is no name of a namespace",
    })
}

/// The name exactly as written: guards ask for the verb `grant` on the text in the resource, so what is folded here
/// would be a way past them.
fn exact_vault_name(field: &'static str, text: &str) -> Result<VaultName, Unusable> {
    VaultName::parse(text).ok().filter(|name| name.as_str() == text).ok_or(Unusable::Name {
        field,
        reason: "a vault's name has 3 to 24 characters of a-z, 0-9 and '-', starts with a letter, does not end with '-' \
                 and has no '--'",
    })
}
