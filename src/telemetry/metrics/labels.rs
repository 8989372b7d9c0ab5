//! Label values are closed enums: no name, address or text of a user can become one.

use crate::model::{Kind, OperationName};

/// A closed set of label values.
pub trait Label: Copy + Send + Sync + 'static {
    /// All of them, each at the place that [`Label::index`] says.
    const ALL: &'static [Self];

    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;

    /// The label's value.
    fn text(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

labels! {
    /// Why a token was not accepted.
    TokenRejection {
        /// There was none.
        Missing = "missing",
        /// No signed token of a listed algorithm.
        Malformed = "malformed",
        /// The key that it names is not published.
        UnknownKey = "unknown_key",
        /// The signature is wrong.
        BadSignature = "bad_signature",
        /// Another issuer.
        WrongIssuer = "wrong_issuer",
        /// Another audience, or more than ours.
        WrongAudience = "wrong_audience",
        /// Expired or not yet valid.
        OutsideValidity = "outside_validity",
        /// Claims are missing, contradict each other or name something that gives no access.
        Claims = "claims",
        /// Its pod or service account is gone.
        NotAlive = "not_alive",
        /// Sent from an address that is not its pod's.
        ForeignAddress = "foreign_address",
        /// Its pod runs on another node.
        ForeignNode = "foreign_node",
        /// It could not be checked.
        Unavailable = "unavailable",
    }
}

labels! {
    /// How a token's signature was known to be good.
    TokenCheck {
        /// It was the connection's last one.
        Connection = "connection",
        /// It was in the shared memory.
        Remembered = "remembered",
        /// It was verified.
        Verified = "verified",
    }
}

labels! {
    /// What became of asking the API server for one pod.
    PodAsked {
        /// It is there.
        Found = "found",
        /// It is not, or another holds its name.
        Gone = "gone",
        /// No answer, or the limit was reached.
        Unavailable = "unavailable",
    }
}

labels! {
    /// What the address check found where the address is not the pod's own.
    AddressFinding {
        /// It was refused.
        Refused = "refused",
        /// It belongs to no pod, or to several, and was let through (`Report`).
        Unconfirmed = "unconfirmed",
    }
}

labels! {
    /// Of what too much was asked for.
    Throttle {
        /// From one address.
        Address = "address",
        /// By one caller.
        Caller = "caller",
        /// Of one vault.
        Vault = "vault",
        /// Of one vault, new versions.
        VaultCreates = "vault_creates",
        /// By one caller, at once.
        UnderWay = "under_way",
    }
}

labels! {
    /// What happened to the audit log's file.
    AuditIncident {
        /// It was closed at its size, and the next begun.
        Rotated = "rotated",
        /// The oldest closed file was removed.
        Removed = "removed",
        /// It was deleted or replaced under us.
        Replaced = "replaced",
        /// Somebody cut it.
        Truncated = "truncated",
        /// Its last line was cut, by a crash or a full disk.
        TornLine = "torn_line",
        /// A write or a sync failed.
        Failed = "failed",
        /// It works again.
        Healed = "healed",
        /// An operation ended without telling its outcome.
        Abandoned = "abandoned",
    }
}

labels! {
    /// A write to the sealed store.
    StoreWrite {
        /// A record is made.
        Create = "create",
        /// A record is changed.
        Update = "update",
        /// A record is removed.
        Delete = "delete",
    }
}

labels! {
    /// A listener of the data plane.
    Listener {
        /// The vaults' one.
        Vaults = "vaults",
        /// The one of our own processes.
        Internal = "internal",
    }
}

labels! {
    /// What `operate` reconciles.
    Reconciled {
        /// `Vault`.
        Vault = "Vault",
        /// `AccessPolicy`.
        AccessPolicy = "AccessPolicy",
        /// `NetworkRule`.
        NetworkRule = "NetworkRule",
        /// `Secret` of ours.
        Secret = "Secret",
        /// `Namespace`: the trust bundle.
        Namespace = "Namespace",
    }
}

/// `success`, or the kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome(pub(super) Option<Kind>);

impl Label for Outcome {
    const ALL: &'static [Self] = &[
        Self(None),
        Self(Some(Kind::Unauthenticated)),
        Self(Some(Kind::Denied)),
        Self(Some(Kind::NotFound)),
        Self(Some(Kind::Conflict)),
        Self(Some(Kind::Invalid)),
        Self(Some(Kind::Throttled)),
        Self(Some(Kind::Unavailable)),
        Self(Some(Kind::Internal)),
    ];

    fn index(self) -> usize {
        self.0.map_or(0, |kind| kind as usize + 1)
    }

    fn text(self) -> &'static str {
        self.0.map_or("success", Kind::label)
    }
}

impl Label for OperationName {
    const ALL: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn text(self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_at_its_place<L: Label>() {
        for (place, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), place, "{}", label.text());
        }
        let mut texts: Vec<_> = L::ALL.iter().map(|label| label.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), L::ALL.len());
    }

    #[test]
    fn every_label_is_counted_in_its_own_cell() {
        each_at_its_place::<Outcome>();
        each_at_its_place::<OperationName>();
        each_at_its_place::<TokenRejection>();
        each_at_its_place::<TokenCheck>();
        each_at_its_place::<PodAsked>();
        each_at_its_place::<AddressFinding>();
        each_at_its_place::<AuditIncident>();
        each_at_its_place::<StoreWrite>();
        each_at_its_place::<Listener>();
        each_at_its_place::<Reconciled>();
        each_at_its_place::<Throttle>();
    }
}
