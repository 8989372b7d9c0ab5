//! The words of the domain: names, versions, attributes, operations, replies, callers, kinds of error.
//!
//! No I/O, no clock, no async: every other room speaks in these types.

mod attributes;
mod caller;
mod care;
mod kind;
mod labels;
mod lifecycle;
mod names;
mod network;
mod operation;
mod quota;
mod reply;
mod secret_bytes;
mod time;
mod vault;

pub use attributes::{Attributes, AttributesChange, RecoveryLevel, Tags};
pub use caller::{Caller, NodeCaller, PodRef, RefusedVolume, ServiceAccountCaller};
pub use care::{RootKeyCare, SourceAddresses};
pub use kind::Kind;
pub use labels::Labels;
pub use lifecycle::{DeclaredVaults, Deletion, Lifecycle, StoredVault, deletions_left};
pub use names::{Hex, InvalidName, Namespace, ObjectName, Uid, VaultId, VaultName, VaultUuid, Version};
pub use network::{Bypass, DefaultAction, NetworkAcls, NetworkSettings};
pub use operation::{
    Alphabet, Backup, Class, DeleteOwned, EnsureGeneratedSecret, EnsureVault, Operation, OperationName,
    Owner, PageRequest, PurgeVault, SetSecret, UpdateSecret,
};
pub use quota::{Nearest, QuotaOf, QuotaScope};
pub use reply::{DeletedItem, DeletedSecret, OwnedSecret, Page, Reply, Secret, SecretItem, VaultSummary};
pub use secret_bytes::SecretBytes;
pub use time::{Clock, Moment, UnixSeconds};
pub use vault::{OutsideValidity, VaultEntry, VaultRules, VaultSettings};
