//! How the installation's root key is cared for.

/// Whether the root key would survive the loss of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootKeyCare {
    /// Somebody said that a copy is kept elsewhere, or it comes from elsewhere.
    Escrowed,
    /// Nobody said so.
    NotEscrowed,
    /// What it was read from is gone or holds another one: only the memory of running replicas has it.
    Missing,
}

/// Whether the addresses of pods come through to the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceAddresses {
    /// As they are.
    Kept,
    /// Something on the way puts its own in their place.
    Rewritten,
}
