//! The access policies of one vault, compiled for one look-up a decision.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Denial, Permissions, Rule, SecretPermission, caller_name};
use crate::model::{Caller, Namespace, ServiceAccountCaller, VaultId};

/// Whom an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Namespace of the service account.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
}

/// One subject of one AccessPolicy. Entries add up; none takes away.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name of the AccessPolicy.
    pub policy: String,
    /// Whom it is about.
    pub subject: Subject,
    /// What it gives.
    pub secrets: Permissions,
    /// Whether tokens count that are bound to no pod.
    pub allow_unbound: bool,
}

#[derive(Debug)]
struct Grant {
    secrets: Permissions,
    allow_unbound: bool,
    rule: Rule,
}

/// The compiled access policies of one vault.
#[derive(Debug, Default)]
pub struct VaultPolicy {
    grants: HashMap<Subject, Vec<Grant>>,
}

impl VaultPolicy {
    /// Compiles entries; their order changes nothing but which of several sufficient rules the audit names.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut grants: HashMap<Subject, Vec<Grant>> = HashMap::new();
        for entry in entries {
            grants.entry(entry.subject).or_default().push(Grant {
                secrets: entry.secrets,
                allow_unbound: entry.allow_unbound,
                rule: Rule::access_policy(&entry.policy),
            });
        }
        Self { grants }
    }

    pub(super) fn judge(
        &self,
        account: &ServiceAccountCaller,
        permission: SecretPermission,
        vault: &VaultId,
    ) -> Result<Rule, Denial> {
        let subject = Subject {
            namespace: account.namespace.clone(),
            name: Arc::clone(&account.name),
        };
        let mut giving = self
            .grants
            .get(&subject)
            .into_iter()
            .flatten()
            .filter(|grant| grant.secrets.contains(permission))
            .peekable();
        let name = || caller_name(&Caller::ServiceAccount(account.clone()));
        if giving.peek().is_none() {
            let permission = permission.as_str();
            return Err(Denial::NoPermission {
                vault: vault.clone(),
                caller: name(),
                permission,
            });
        }
        giving
            .find(|grant| account.pod.is_some() || grant.allow_unbound)
            .map(|grant| grant.rule.clone())
            .ok_or_else(|| Denial::Unbound {
                vault: vault.clone(),
                caller: name(),
            })
    }
}
