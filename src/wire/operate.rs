//! The closed list of what `operate` may ask of `serve`. None of it returns a value of a vault.

use serde::{Deserialize, Serialize};

use super::framing::{Frame, InvalidFrame};
use super::text;
use crate::model::{
    Alphabet, Bypass, DefaultAction, DeleteOwned, EnsureGeneratedSecret, EnsureVault, Kind, Namespace,
    Nearest, NetworkAcls, ObjectName, Operation, OutsideValidity, OwnedSecret, Owner, QuotaOf, QuotaScope,
    RootKeyCare, Uid, UnixSeconds, VaultId, VaultName, VaultRules, VaultSummary, Version,
};

/// `POST` an [`EnsureVaultAction`] here.
pub const ENSURE_VAULT_PATH: &str = "/operate/ensure-vault";
/// `POST` an [`EnsureGeneratedSecretAction`] here.
pub const ENSURE_GENERATED_SECRET_PATH: &str = "/operate/ensure-generated-secret";
/// `POST` a [`DeleteOwnedAction`] here.
pub const DELETE_OWNED_PATH: &str = "/operate/delete-owned";
/// `GET` the stream of [`SummaryFrame`]s here.
pub const SUMMARIES_PATH: &str = "/operate/summaries";
/// Longest body of an action, and of its answer, in bytes.
pub const MAX_ACTION_BYTES: usize = 16 * 1024;

/// Why a body is not the action of its path. It never holds the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAction {
    /// There is no action of that path.
    #[error("there is no such action")]
    UnknownPath,
    /// Too long, not JSON, or not of the action's shape.
    #[error("the body is not what this action takes")]
    Body,
}

impl InvalidAction {
    /// [`Kind::NotFound`] or [`Kind::Invalid`].
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::UnknownPath => Kind::NotFound,
            Self::Body => Kind::Invalid,
        }
    }
}

/// One action, of one path each.
#[derive(Debug, Clone)]
pub enum Action {
    /// [`ENSURE_VAULT_PATH`].
    EnsureVault(EnsureVaultAction),
    /// [`ENSURE_GENERATED_SECRET_PATH`].
    EnsureGeneratedSecret(EnsureGeneratedSecretAction),
    /// [`DELETE_OWNED_PATH`].
    DeleteOwned(DeleteOwnedAction),
}

/// Make the head of a vault; obeyed only if `serve` itself sees that resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnsureVaultAction {
    /// Which vault.
    #[serde(with = "vault_id")]
    pub vault: VaultId,
    /// UID of the `Vault` resource.
    #[serde(with = "text::uid")]
    pub resource_uid: Uid,
}

/// Make a generated value, unless the name was ever used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnsureGeneratedSecretAction {
    /// Which vault.
    #[serde(with = "vault_id")]
    pub vault: VaultId,
    /// Which secret.
    #[serde(with = "text::object_name")]
    pub name: ObjectName,
    /// Characters of the value, 16 to 1024.
    pub length: u16,
    /// Its alphabet.
    #[serde(with = "AlphabetText")]
    pub alphabet: Alphabet,
    /// At most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The resource that makes it.
    #[serde(with = "OwnerText")]
    pub owner: Owner,
}

/// Soft-delete what that resource made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteOwnedAction {
    /// Which vault.
    #[serde(with = "vault_id")]
    pub vault: VaultId,
    /// Which secret.
    #[serde(with = "text::object_name")]
    pub name: ObjectName,
    /// The resource that made it.
    #[serde(with = "OwnerText")]
    pub owner: Owner,
}

impl Action {
    /// Where it is posted.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        match self {
            Self::EnsureVault(_) => ENSURE_VAULT_PATH,
            Self::EnsureGeneratedSecret(_) => ENSURE_GENERATED_SECRET_PATH,
            Self::DeleteOwned(_) => DELETE_OWNED_PATH,
        }
    }

    /// Its body, JSON.
    ///
    /// # Errors
    /// [`InvalidAction::Body`] if it is longer than [`MAX_ACTION_BYTES`].
    pub fn to_body(&self) -> Result<Vec<u8>, InvalidAction> {
        let body = match self {
            Self::EnsureVault(action) => serde_json::to_vec(action),
            Self::EnsureGeneratedSecret(action) => serde_json::to_vec(action),
            Self::DeleteOwned(action) => serde_json::to_vec(action),
        };
        body.ok()
            .filter(|body| body.len() <= MAX_ACTION_BYTES)
            .ok_or(InvalidAction::Body)
    }

    /// The action of a path and a body.
    ///
    /// # Errors
    /// [`InvalidAction`].
    pub fn parse(path: &str, body: &[u8]) -> Result<Self, InvalidAction> {
        fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, InvalidAction> {
            if body.len() > MAX_ACTION_BYTES {
                return Err(InvalidAction::Body);
            }
            serde_json::from_slice(body).map_err(|_| InvalidAction::Body)
        }
        match path {
            ENSURE_VAULT_PATH => read(body).map(Self::EnsureVault),
            ENSURE_GENERATED_SECRET_PATH => read(body).map(Self::EnsureGeneratedSecret),
            DELETE_OWNED_PATH => read(body).map(Self::DeleteOwned),
            _ => Err(InvalidAction::UnknownPath),
        }
    }

    /// As the gate takes it.
    #[must_use]
    pub fn into_operation(self) -> (VaultId, Operation) {
        match self {
            Self::EnsureVault(EnsureVaultAction { vault, resource_uid }) => {
                (vault, Operation::EnsureVault(EnsureVault { resource_uid }))
            }
            Self::EnsureGeneratedSecret(EnsureGeneratedSecretAction {
                vault,
                name,
                length,
                alphabet,
                content_type,
                owner,
            }) => {
                let ensure = EnsureGeneratedSecret {
                    name,
                    length,
                    alphabet,
                    content_type,
                    owner,
                };
                (vault, Operation::EnsureGeneratedSecret(ensure))
            }
            Self::DeleteOwned(DeleteOwnedAction { vault, name, owner }) => {
                (vault, Operation::DeleteOwned(DeleteOwned { name, owner }))
            }
        }
    }
}

/// The answer to an action that was carried out (status 200).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActionReply {
    /// The vault's head is there.
    VaultReady,
    /// What became of the resource's object.
    Owned(#[serde(with = "OwnedText")] OwnedSecret),
}

/// The answer to an action that was not (the kind's HTTP status).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionRefusal {
    /// What kind of failure.
    #[serde(with = "text::kind")]
    pub kind: Kind,
    /// For the person who reads the resource's condition.
    pub message: String,
}

/// What the stream of summaries says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SummaryFrame {
    /// A vault as it is now: once for each at the stream's start, then at most every 5 s where it changed.
    Vault(#[serde(with = "SummaryText")] VaultSummary),
    /// Every vault of the start has been told.
    Complete,
    /// Nothing new, every 10 s.
    Ping,
}

impl Frame for SummaryFrame {
    const MAX: usize = 4 * 1024 * 1024;

    fn size(&self) -> usize {
        match self {
            Self::Vault(summary) => 512 + summary.owned.len().saturating_mul(256),
            Self::Complete | Self::Ping => 16,
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), InvalidFrame> {
        serde_json::to_writer(out, self).map_err(|_| InvalidFrame::Malformed)
    }

    fn read(payload: &[u8]) -> Result<Self, InvalidFrame> {
        serde_json::from_slice(payload).map_err(|_| InvalidFrame::Malformed)
    }
}

// The words of `model` know no format; these say how they are written.

#[derive(Serialize, Deserialize)]
#[serde(remote = "Alphabet")]
enum AlphabetText {
    Alphanumeric,
    Hex,
    Ascii,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Owner", rename_all = "camelCase", deny_unknown_fields)]
struct OwnerText {
    #[serde(with = "text::namespace")]
    namespace: Namespace,
    #[serde(with = "text::uid")]
    namespace_uid: Uid,
    resource: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "OwnedSecret", rename_all = "camelCase")]
enum OwnedText {
    Live {
        #[serde(with = "text::version")]
        version: Version,
    },
    Deleted,
    Foreign,
    Absent,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RootKeyCare", rename_all = "camelCase")]
enum RootKeyCareText {
    Escrowed,
    NotEscrowed,
    Missing,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "VaultSummary", rename_all = "camelCase")]
struct SummaryText {
    #[serde(with = "vault_id")]
    vault: VaultId,
    secrets: u64,
    deleted_secrets: u64,
    #[serde(with = "optional_seconds")]
    next_expiry: Option<UnixSeconds>,
    #[serde(with = "owned_list")]
    owned: Vec<(Owner, OwnedSecret)>,
    // While an upgrade goes on, either end may be older than these: who does not know one leaves it out or passes it over.
    #[serde(default)]
    damaged: u64,
    #[serde(default)]
    refused: bool,
    #[serde(default, with = "optional_care")]
    root_key: Option<RootKeyCare>,
    #[serde(default, with = "optional_rules")]
    rules: Option<VaultRules>,
    #[serde(default, with = "optional_nearest")]
    nearest_quota: Option<Nearest>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "VaultRules", rename_all = "camelCase")]
struct RulesText {
    retention_days: u16,
    purge_protection: bool,
    #[serde(with = "OutsideText")]
    outside_validity: OutsideValidity,
    /// A release that does not tell lets everybody in.
    #[serde(default, with = "NetworkText")]
    network: NetworkAcls,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "OutsideValidity")]
enum OutsideText {
    Deny,
    Allow,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NetworkAcls", rename_all = "camelCase")]
struct NetworkText {
    #[serde(with = "DefaultActionText")]
    default_action: DefaultAction,
    #[serde(with = "BypassText")]
    bypass: Bypass,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DefaultAction")]
enum DefaultActionText {
    Allow,
    Deny,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Bypass")]
enum BypassText {
    None,
    Volumes,
}

/// The rules of a vault, written by themselves.
#[derive(Serialize, Deserialize)]
pub(super) struct Rules(#[serde(with = "RulesText")] pub(super) VaultRules);

pub(super) mod vault_id {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Namespace, VaultId, VaultName, text};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Text {
        #[serde(with = "text::namespace")]
        namespace: Namespace,
        #[serde(with = "text::vault_name")]
        name: VaultName,
    }

    pub(in crate::wire) fn serialize<S: Serializer>(id: &VaultId, s: S) -> Result<S::Ok, S::Error> {
        Text {
            namespace: id.namespace.clone(),
            name: id.name.clone(),
        }
        .serialize(s)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<VaultId, D::Error> {
        let Text { namespace, name } = Text::deserialize(d)?;
        Ok(VaultId { namespace, name })
    }
}

mod optional_seconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::UnixSeconds;

    pub(super) fn serialize<S: Serializer>(at: &Option<UnixSeconds>, s: S) -> Result<S::Ok, S::Error> {
        at.map(|at| at.0).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<UnixSeconds>, D::Error> {
        Ok(Option::<i64>::deserialize(d)?.map(UnixSeconds))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Nearest", rename_all = "camelCase")]
struct NearestText {
    #[serde(with = "ScopeText")]
    scope: QuotaScope,
    #[serde(with = "OfText")]
    of: QuotaOf,
    percent: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "QuotaScope")]
enum ScopeText {
    Vault,
    Namespace,
    Installation,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "QuotaOf")]
enum OfText {
    Bytes,
    Records,
}

/// What may be missing, as the text of what may not.
macro_rules! optional {
    ($module:ident: Option<$type:ident> as $text:literal) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            use super::$type;

            #[derive(Serialize, Deserialize)]
            struct Text(#[serde(with = $text)] $type);

            pub(super) fn serialize<S: Serializer>(value: &Option<$type>, s: S) -> Result<S::Ok, S::Error> {
                value.map(Text).serialize(s)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<$type>, D::Error> {
                Ok(Option::<Text>::deserialize(d)?.map(|Text(value)| value))
            }
        }
    };
}

pub(super) use optional;

optional!(optional_care: Option<RootKeyCare> as "super::RootKeyCareText");
optional!(optional_rules: Option<VaultRules> as "super::RulesText");
optional!(optional_nearest: Option<Nearest> as "super::NearestText");

mod owned_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{OwnedSecret, OwnedText, Owner, OwnerText};

    #[derive(Serialize, Deserialize)]
    struct Line {
        #[serde(with = "OwnerText")]
        owner: Owner,
        #[serde(with = "OwnedText")]
        object: OwnedSecret,
    }

    pub(super) fn serialize<S: Serializer>(lines: &[(Owner, OwnedSecret)], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(lines.iter().map(|(owner, object)| Line {
            owner: owner.clone(),
            object: object.clone(),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<(Owner, OwnedSecret)>, D::Error> {
        let lines = Vec::<Line>::deserialize(d)?;
        Ok(lines.into_iter().map(|line| (line.owner, line.object)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FrameDecoder, encode};
    use proptest::prelude::*;

    fn vault() -> VaultId {
        VaultId {
            namespace: Namespace::parse("team-a").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        }
    }

    fn owner() -> Owner {
        Owner {
            namespace: Namespace::parse("team-a").unwrap(),
            namespace_uid: Uid::new("1f2e"),
            resource: "db-password".into(),
        }
    }

    #[test]
    fn every_action_arrives_as_it_was_sent() {
        let actions = [
            Action::EnsureVault(EnsureVaultAction {
                vault: vault(),
                resource_uid: Uid::new("abc"),
            }),
            Action::EnsureGeneratedSecret(EnsureGeneratedSecretAction {
                vault: vault(),
                name: ObjectName::parse("Db-Password").unwrap(),
                length: 32,
                alphabet: Alphabet::Hex,
                content_type: Some("text/plain".into()),
                owner: owner(),
            }),
            Action::DeleteOwned(DeleteOwnedAction {
                vault: vault(),
                name: ObjectName::parse("db-password").unwrap(),
                owner: owner(),
            }),
        ];
        for action in actions {
            let got = Action::parse(action.path(), &action.to_body().unwrap()).unwrap();
            assert_eq!(format!("{got:?}"), format!("{action:?}"));
            let (id, operation) = got.into_operation();
            assert_eq!(id, vault());
            assert_eq!(operation.class(), crate::model::Class::Change);
        }
    }

    #[test]
    fn actions_outside_the_list_are_refused() {
        assert_eq!(
            Action::parse("/operate/tombstone", b"{}").unwrap_err(),
            InvalidAction::UnknownPath
        );
        for bad in [
            "",
            "null",
            "{}",
            r#"{"vault":{"namespace":"a","name":"demo"},"resourceUid":"u","value":"x"}"#,
            r#"{"vault":{"namespace":"A","name":"demo"},"resourceUid":"u"}"#,
            r#"{"vault":{"namespace":"a","name":"--"},"resourceUid":"u"}"#,
        ] {
            assert_eq!(
                Action::parse(ENSURE_VAULT_PATH, bad.as_bytes()).unwrap_err(),
                InvalidAction::Body,
                "{bad}"
            );
        }
        assert_eq!(
            Action::parse(DELETE_OWNED_PATH, &vec![b' '; MAX_ACTION_BYTES + 1]).unwrap_err(),
            InvalidAction::Body
        );
    }

    #[test]
    fn answers_and_summaries_arrive_as_they_were_sent() {
        let version = Version([7; 16]);
        for reply in [
            ActionReply::VaultReady,
            ActionReply::Owned(OwnedSecret::Live { version }),
            ActionReply::Owned(OwnedSecret::Foreign),
        ] {
            let text = serde_json::to_string(&reply).unwrap();
            assert_eq!(
                serde_json::from_str::<ActionReply>(&text).unwrap(),
                reply,
                "{text}"
            );
        }
        let refusal = ActionRefusal {
            kind: Kind::Unavailable,
            message: "try again".into(),
        };
        let text = serde_json::to_string(&refusal).unwrap();
        assert_eq!(text, r#"{"kind":"unavailable","message":"try again"}"#);
        assert_eq!(serde_json::from_str::<ActionRefusal>(&text).unwrap(), refusal);

        let summary = SummaryFrame::Vault(VaultSummary {
            vault: vault(),
            secrets: 3,
            deleted_secrets: 1,
            next_expiry: Some(UnixSeconds(1_800_000_000)),
            nearest_quota: Some(Nearest {
                scope: QuotaScope::Namespace,
                of: QuotaOf::Records,
                percent: 81,
            }),
            owned: vec![
                (owner(), OwnedSecret::Live { version }),
                (owner(), OwnedSecret::Deleted),
            ],
            damaged: 2,
            refused: true,
            root_key: Some(RootKeyCare::NotEscrowed),
            rules: Some(VaultRules {
                retention_days: 30,
                purge_protection: true,
                outside_validity: OutsideValidity::Allow,
                network: NetworkAcls {
                    default_action: DefaultAction::Deny,
                    bypass: Bypass::Volumes,
                },
            }),
        });
        let mut decoder = FrameDecoder::<SummaryFrame>::new();
        for frame in [&summary, &SummaryFrame::Complete, &SummaryFrame::Ping] {
            decoder.push(&encode(frame).unwrap());
            assert_eq!(&decoder.next_frame().unwrap().unwrap(), frame);
        }
    }

    #[test]
    fn a_summary_of_an_older_or_newer_release_is_understood() {
        let older = r#"{"vault":{"vault":{"namespace":"shop","name":"demo"},"secrets":3,"deletedSecrets":1,
            "nextExpiry":null,"owned":[]"#;
        for more in ["", r#","somethingNew":{"a":1}"#] {
            let SummaryFrame::Vault(summary) =
                SummaryFrame::read(format!("{older}{more}}}}}").as_bytes()).unwrap()
            else {
                panic!("another frame")
            };
            assert_eq!((summary.secrets, summary.damaged, summary.refused), (3, 0, false));
            assert_eq!(
                (summary.root_key, summary.rules, summary.nearest_quota),
                (None, None, None)
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, text in "[{}\\[\\]:,\"a-zA-Z0-9]{0,200}") {
            for path in [ENSURE_VAULT_PATH, ENSURE_GENERATED_SECRET_PATH, DELETE_OWNED_PATH] {
                let _ = (Action::parse(path, &bytes), Action::parse(path, text.as_bytes()));
            }
            let _ = (SummaryFrame::read(&bytes), SummaryFrame::read(text.as_bytes()));
        }
    }
}
