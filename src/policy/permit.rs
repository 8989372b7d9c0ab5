//! What the engine obeys.

use std::sync::Arc;

use crate::model::{Caller, Operation, VaultEntry};

/// Which rule allowed it, for the audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(Arc<str>);

impl Rule {
    pub(super) fn access_policy(name: &str) -> Self {
        Self(format!("AccessPolicy/{name}").into())
    }

    pub(super) fn operator_list() -> Self {
        Self("operate".into())
    }

    pub(super) fn clock_list() -> Self {
        Self("clock".into())
    }

    /// `AccessPolicy/<name>`, or the process whose closed list it is.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Leave to do one operation, once. It owns the operation, cannot be made outside this room, cannot be cloned.
#[derive(Debug)]
pub struct Permit {
    caller: Arc<Caller>,
    vault: Arc<VaultEntry>,
    operation: Operation,
    rule: Rule,
    generation: u64,
}

impl Permit {
    pub(super) const fn new(
        caller: Arc<Caller>,
        vault: Arc<VaultEntry>,
        operation: Operation,
        rule: Rule,
        generation: u64,
    ) -> Self {
        Self {
            caller,
            vault,
            operation,
            rule,
            generation,
        }
    }

    /// Who may.
    #[must_use]
    pub const fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// In which vault.
    #[must_use]
    pub const fn vault(&self) -> &Arc<VaultEntry> {
        &self.vault
    }

    /// What.
    #[must_use]
    pub const fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Why.
    #[must_use]
    pub const fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The generation of the world that was judged by.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Uses the permit up.
    #[must_use]
    pub fn into_parts(self) -> (Arc<Caller>, Arc<VaultEntry>, Operation) {
        (self.caller, self.vault, self.operation)
    }
}
