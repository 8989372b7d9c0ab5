//! May this caller do this operation? Pure, and the sole maker of [`Permit`].
//!
//! # Why
//! The engine takes a [`Permit`] and nothing else, and a permit owns the one operation that was judged: what was not
//! allowed cannot be asked of the engine, and a permit for one thing cannot be used for another.

mod permissions;
mod permit;
mod vault_policy;

use std::sync::Arc;

use crate::model::{
    Caller, DeleteOwned, EnsureGeneratedSecret, Kind, Operation, OperationName, VaultEntry, VaultId,
};

pub use permissions::{Permissions, SecretPermission, UnknownPermission};
pub use permit::{Permit, Rule};
pub use vault_policy::{Entry, Subject, VaultPolicy};

/// The compiled policies of every vault. Cheap to clone: persistent.
#[derive(Debug, Clone, Default)]
pub struct Index {
    vaults: imbl::HashMap<VaultId, Arc<VaultPolicy>>,
}

/// Why an operation was refused. The full reason is for the operator's eyes; callers get Azure's error and no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No entry of the vault's access policies gives the caller this permission.
    #[error("no access policy of vault {vault} gives {caller} the secrets permission '{permission}'")]
    NoPermission {
        /// The vault asked.
        vault: VaultId,
        /// Who asked, as `system:serviceaccount:<namespace>:<name>`.
        caller: String,
        /// The permission that an entry would have to give.
        permission: &'static str,
    },
    /// The caller's token is bound to no pod, and no entry that gives the permission says `allowUnbound`.
    #[error(
        "{caller} showed a token that is bound to no pod, and no access policy of vault {vault} allows that"
    )]
    Unbound {
        /// The vault asked.
        vault: VaultId,
        /// Who asked.
        caller: String,
    },
    /// The operation belongs to another process's closed list.
    #[error("{caller} may not do {operation:?}: it is on no list of this caller")]
    NotOnList {
        /// Who asked.
        caller: String,
        /// What was asked.
        operation: OperationName,
    },
    /// `operate` asked for a Vault resource, or in the name of a namespace, that `serve` does not see under that UID.
    #[error("vault {vault} is not the resource for which this was asked")]
    AnotherResource {
        /// The vault asked.
        vault: VaultId,
    },
}

impl Denial {
    /// Every denial is [`Kind::Denied`].
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Denied
    }

    /// The permission that was missing, where that is the reason.
    #[must_use]
    pub const fn permission(&self) -> Option<&'static str> {
        match self {
            Self::NoPermission { permission, .. } => Some(permission),
            Self::Unbound { .. } | Self::NotOnList { .. } | Self::AnotherResource { .. } => None,
        }
    }
}

/// How a caller is named in reasons and audit records.
#[must_use]
pub fn caller_name(caller: &Caller) -> String {
    match caller {
        Caller::ServiceAccount(account) => {
            format!("system:serviceaccount:{}:{}", account.namespace, account.name)
        }
        Caller::Operator => "strongroom:operate".to_owned(),
        Caller::Clock => "strongroom:clock".to_owned(),
    }
}

impl Index {
    /// Puts a vault's compiled policy in place of the one before.
    pub fn set(&mut self, vault: VaultId, policy: Arc<VaultPolicy>) {
        self.vaults.insert(vault, policy);
    }

    /// Forgets a vault's policy: nobody may do anything there.
    pub fn remove(&mut self, vault: &VaultId) {
        self.vaults.remove(vault);
    }

    /// The compiled policy of a vault.
    #[must_use]
    pub fn vault(&self, vault: &VaultId) -> Option<&Arc<VaultPolicy>> {
        self.vaults.get(vault)
    }

    /// Judges, and consumes the operation either way.
    ///
    /// # Errors
    /// [`Denial`] with its full reason.
    pub fn decide(
        &self,
        caller: &Arc<Caller>,
        vault: &Arc<VaultEntry>,
        operation: Operation,
        generation: u64,
    ) -> Result<Permit, Denial> {
        let rule = self.judge(caller, vault, &operation)?;
        Ok(Permit::new(
            Arc::clone(caller),
            Arc::clone(vault),
            operation,
            rule,
            generation,
        ))
    }

    /// What is said of a vault that gives the caller nothing; so a vault that does not exist can look like one.
    #[must_use]
    pub fn refuse(caller: &Caller, vault: &VaultId, operation: &Operation) -> Denial {
        match required(operation) {
            Required::Secrets(permission) => Denial::NoPermission {
                vault: vault.clone(),
                caller: caller_name(caller),
                permission: permission.as_str(),
            },
            Required::OperatorList | Required::ClockList => Denial::NotOnList {
                caller: caller_name(caller),
                operation: operation.name(),
            },
        }
    }

    fn judge(&self, caller: &Caller, vault: &VaultEntry, operation: &Operation) -> Result<Rule, Denial> {
        match (caller, required(operation)) {
            (Caller::ServiceAccount(account), Required::Secrets(permission)) => {
                let policy = self.vaults.get(&vault.id);
                policy.map_or_else(
                    || Err(Self::refuse(caller, &vault.id, operation)),
                    |policy| policy.judge(account, permission, &vault.id),
                )
            }
            (Caller::Operator, Required::OperatorList) => match operation {
                Operation::EnsureVault(ensure) if ensure.resource_uid != vault.uid => {
                    Err(Denial::AnotherResource {
                        vault: vault.id.clone(),
                    })
                }
                Operation::EnsureGeneratedSecret(EnsureGeneratedSecret { owner, .. })
                | Operation::DeleteOwned(DeleteOwned { owner, .. })
                    if owner.namespace_uid != vault.namespace_uid
                        || owner.namespace != vault.id.namespace =>
                {
                    Err(Denial::AnotherResource {
                        vault: vault.id.clone(),
                    })
                }
                _ => Ok(Rule::operator_list()),
            },
            (Caller::Clock, Required::ClockList) => Ok(Rule::clock_list()),
            (Caller::ServiceAccount(_), Required::OperatorList | Required::ClockList)
            | (Caller::Operator, Required::Secrets(_) | Required::ClockList)
            | (Caller::Clock, Required::Secrets(_) | Required::OperatorList) => Err(Denial::NotOnList {
                caller: caller_name(caller),
                operation: operation.name(),
            }),
        }
    }
}

enum Required {
    Secrets(SecretPermission),
    OperatorList,
    ClockList,
}

/// Azure's table of operations and permissions ("Assign a Key Vault access policy"); beside it the lists of `operate` and of the
/// clock.
const fn required(operation: &Operation) -> Required {
    match operation {
        Operation::SetSecret(_) | Operation::UpdateSecret(_) => Required::Secrets(SecretPermission::Set),
        Operation::GetSecret { .. } | Operation::GetDeletedSecret { .. } => {
            Required::Secrets(SecretPermission::Get)
        }
        Operation::DeleteSecret { .. } => Required::Secrets(SecretPermission::Delete),
        Operation::RecoverSecret { .. } => Required::Secrets(SecretPermission::Recover),
        Operation::PurgeSecret { .. } => Required::Secrets(SecretPermission::Purge),
        Operation::BackupSecret { .. } => Required::Secrets(SecretPermission::Backup),
        Operation::RestoreSecret { .. } => Required::Secrets(SecretPermission::Restore),
        Operation::ListSecrets(_)
        | Operation::ListSecretVersions { .. }
        | Operation::ListDeletedSecrets(_) => Required::Secrets(SecretPermission::List),
        Operation::EnsureVault(_) | Operation::EnsureGeneratedSecret(_) | Operation::DeleteOwned(_) => {
            Required::OperatorList
        }
        Operation::DeleteVault(_) | Operation::PurgeVault(_) | Operation::PurgeDueSecret { .. } => {
            Required::ClockList
        }
    }
}

#[cfg(test)]
mod tests;
