//! What the kubelet asks for, parsed: which volume, where, for whom, what is in it.

use std::fmt;
use std::path::{Component, Path};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::proto::csi::{NodePublishVolumeRequest, VolumeCapability, volume_capability::AccessType};
use crate::model::{Kind, SecretBytes};
use crate::wire::{MAX_OBJECTS_BYTES, NodeFrame};

/// What the kubelet adds to a volume's attributes begins so (podInfoOnMount, tokenRequests).
const KUBELET_PREFIX: &str = "csi.storage.k8s.io/";
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
const POD_NAME: &str = "csi.storage.k8s.io/pod.name";
const POD_NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";
const POD_UID: &str = "csi.storage.k8s.io/pod.uid";
/// A vault of the pod's namespace.
const VAULT: &str = "vault";
/// What of it becomes files.
const OBJECTS: &str = "objects";

/// Why a call of the kubelet is refused for good: asking again with the same would be refused again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidRequest {
    #[error("the volume id is empty, too long, or not letters, digits, '.', '_' and '-'")]
    VolumeId,
    #[error(
        "the target path is not <kubelet folder>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount \
         (is the chart's kubelet folder that of this node?)"
    )]
    Target,
    #[error("only ephemeral volumes are served: declare it in the pod, under volumes[].csi")]
    NotEphemeral,
    #[error("only file volumes are served, not block volumes")]
    NotFiles,
    #[error("set readOnly: true on the volume (volumes[].csi.readOnly)")]
    NotReadOnly,
    #[error("the pod's fsGroup is not a group id")]
    Group,
    #[error("set the volume attribute vault to the name of a vault of the pod's namespace")]
    Vault,
    #[error(
        "set the volume attribute objects to a list of at most {MAX_OBJECTS_BYTES} bytes, as \"- secret: name\""
    )]
    Objects,
    #[error("the volume attributes are vault and objects; there is another")]
    Attribute,
    #[error(
        "the kubelet sent no token of the pod's service account: the CSIDriver object must ask for exactly one (tokenRequests)"
    )]
    Token,
}

impl InvalidRequest {
    /// Always [`Kind::Invalid`].
    pub(super) const fn kind(self) -> Kind {
        Kind::Invalid
    }
}

/// The kubelet's id of a volume: also the name of its record, so nothing but a plain file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct VolumeId(Arc<str>);

impl VolumeId {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidRequest> {
        let good = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && !text.starts_with('.');
        if good {
            Ok(Self(text.into()))
        } else {
            Err(InvalidRequest::VolumeId)
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the kubelet wants a volume: a folder of its own making below `pods/`, and in it `mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target(String);

impl Target {
    /// Name of the mount point in the folder that the kubelet makes.
    pub(super) const LEAF: &str = "mount";

    /// Takes a target path apart; `kubelet` is the kubelet's own folder.
    pub(super) fn parse(kubelet: &Path, text: &str) -> Result<Self, InvalidRequest> {
        let relative = Path::new(text)
            .strip_prefix(kubelet)
            .map_err(|_| InvalidRequest::Target)?;
        Self::below(relative.to_str().ok_or(InvalidRequest::Target)?)
    }

    /// The same from the path below the kubelet's folder, as records hold it.
    pub(super) fn below(relative: &str) -> Result<Self, InvalidRequest> {
        let word = |part: &str| {
            (1..=253).contains(&part.len())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
                && !part.starts_with('.')
        };
        let parts: Option<Vec<&str>> = Path::new(relative)
            .components()
            .map(|part| {
                if let Component::Normal(part) = part {
                    part.to_str()
                } else {
                    None
                }
            })
            .collect();
        match parts.as_deref() {
            Some(["pods", uid, "volumes", "kubernetes.io~csi", volume, Self::LEAF])
                if word(uid) && word(volume) =>
            {
                Ok(Self(format!("pods/{uid}/volumes/kubernetes.io~csi/{volume}")))
            }
            _ => Err(InvalidRequest::Target),
        }
    }

    /// The folder around the mount point, below the kubelet's.
    pub(super) fn folder(&self) -> &str {
        &self.0
    }

    /// The mount point, below the kubelet's folder.
    pub(super) fn relative(&self) -> String {
        format!("{}/{}", self.0, Self::LEAF)
    }
}

/// A pod as the kubelet names it, for log lines alone: who asks is what the token says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PodLabel {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// Everything about a volume that does not change while its pod lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) id: VolumeId,
    pub(super) target: Target,
    pub(super) vault: String,
    pub(super) objects: String,
    /// The pod's fsGroup.
    pub(super) group: Option<u32>,
    pub(super) pod: PodLabel,
}

/// Parses a publish call: the volume, and the pod's token.
pub(super) fn parse_publish(
    kubelet: &Path,
    request: &NodePublishVolumeRequest,
) -> Result<(Volume, SecretBytes), InvalidRequest> {
    let id = VolumeId::parse(&request.volume_id)?;
    let target = Target::parse(kubelet, &request.target_path)?;
    let group = parse_group(request.volume_capability.as_ref())?;
    if !request.readonly {
        return Err(InvalidRequest::NotReadOnly);
    }
    let context = &request.volume_context;
    if context.get(EPHEMERAL).map(String::as_str) != Some("true") {
        return Err(InvalidRequest::NotEphemeral);
    }
    let foreign = |name: &String| !name.starts_with(KUBELET_PREFIX) && name != VAULT && name != OBJECTS;
    if context.keys().any(foreign) {
        return Err(InvalidRequest::Attribute);
    }
    let vault = context
        .get(VAULT)
        .filter(|text| (1..=NodeFrame::MAX_VAULT).contains(&text.len()));
    let objects = context
        .get(OBJECTS)
        .filter(|text| (1..=MAX_OBJECTS_BYTES).contains(&text.len()));
    // Where the CSIDriver object says so (Kubernetes 1.35), the tokens come in `secrets`, which nobody logs.
    let tokens = request
        .secrets
        .get(TOKENS)
        .or_else(|| context.get(TOKENS))
        .ok_or(InvalidRequest::Token)?;
    let label = |name: &str| context.get(name).cloned().unwrap_or_default();
    let volume = Volume {
        id,
        target,
        vault: vault.ok_or(InvalidRequest::Vault)?.clone(),
        objects: objects.ok_or(InvalidRequest::Objects)?.clone(),
        group,
        pod: PodLabel {
            namespace: label(POD_NAMESPACE),
            name: label(POD_NAME),
            uid: label(POD_UID),
        },
    };
    Ok((volume, the_one_token(tokens)?))
}

fn parse_group(capability: Option<&VolumeCapability>) -> Result<Option<u32>, InvalidRequest> {
    match capability.and_then(|capability| capability.access_type.as_ref()) {
        Some(AccessType::Mount(mount)) if mount.volume_mount_group.is_empty() => Ok(None),
        Some(AccessType::Mount(mount)) => mount
            .volume_mount_group
            .parse()
            .ok()
            .filter(|group| *group != u32::MAX)
            .map(Some)
            .ok_or(InvalidRequest::Group),
        Some(AccessType::Block(_)) | None => Err(InvalidRequest::NotFiles),
    }
}

/// The token of `{"<audience>": {"token": "...", "expirationTimestamp": "..."}}`. Which audience it is for is `serve`'s to
/// judge.
fn the_one_token(json: &str) -> Result<SecretBytes, InvalidRequest> {
    #[derive(Deserialize)]
    struct Entry {
        token: SecretText,
    }
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Option<SecretText>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("tokens by audience")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let Some((_, entry)) = map.next_entry::<IgnoredAny, Entry>()? else {
                return Ok(None);
            };
            let more = map.next_entry::<IgnoredAny, Entry>()?.is_some();
            Ok((!more).then_some(entry.token))
        }
    }
    // A map with more entries is left unread, which the deserializer calls an error too.
    let mut reader = serde_json::Deserializer::from_str(json);
    let token =
        serde::Deserializer::deserialize_map(&mut reader, Entries).map_err(|_| InvalidRequest::Token)?;
    token
        .map(|SecretText(token)| token)
        .filter(|token| (1..=NodeFrame::MAX_TOKEN).contains(&token.len()))
        .ok_or(InvalidRequest::Token)
}

struct SecretText(SecretBytes);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretBytes::new(text.into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::node::proto::csi::volume_capability::{BlockVolume, MountVolume};
    use proptest::prelude::*;

    const KUBELET: &str = "/var/lib/kubelet";
    const PATH: &str = "/var/lib/kubelet/pods/6f1c/volumes/kubernetes.io~csi/vault/mount";

    fn mount(group: &str) -> Option<VolumeCapability> {
        let mount = MountVolume {
            volume_mount_group: group.into(),
        };
        Some(VolumeCapability {
            access_type: Some(AccessType::Mount(mount)),
        })
    }

    fn request() -> NodePublishVolumeRequest {
        let attributes = [
            (EPHEMERAL, "true"),
            (POD_NAME, "app-1"),
            (POD_NAMESPACE, "team-a"),
            (POD_UID, "6f1c"),
            ("csi.storage.k8s.io/serviceAccount.name", "app"),
            (
                TOKENS,
                r#"{"strongroom.dev":{"token":"from-context","expirationTimestamp":"2026-11-23T00:00:00Z"}}"#,
            ),
            (VAULT, "demo"),
            (OBJECTS, "- secret: db-password\n"),
        ];
        NodePublishVolumeRequest {
            volume_id: "csi-0123abcd".into(),
            target_path: PATH.into(),
            volume_capability: mount(""),
            readonly: true,
            secrets: BTreeMap::new(),
            volume_context: attributes.map(|(name, value)| (name.into(), value.into())).into(),
        }
    }

    fn parsed(request: &NodePublishVolumeRequest) -> Result<(Volume, SecretBytes), InvalidRequest> {
        parse_publish(Path::new(KUBELET), request)
    }

    #[test]
    fn a_publish_call_as_the_kubelet_makes_it() {
        let (volume, token) = parsed(&request()).unwrap();
        assert_eq!(volume.id.as_str(), "csi-0123abcd");
        assert_eq!(
            volume.target.relative(),
            "pods/6f1c/volumes/kubernetes.io~csi/vault/mount"
        );
        assert_eq!(
            (volume.vault.as_str(), volume.objects.as_str()),
            ("demo", "- secret: db-password\n")
        );
        assert_eq!(volume.group, None);
        assert_eq!(
            volume.pod,
            PodLabel {
                namespace: "team-a".into(),
                name: "app-1".into(),
                uid: "6f1c".into()
            }
        );
        assert_eq!(token.expose(), b"from-context");
    }

    #[test]
    fn tokens_are_taken_from_the_secrets_field_where_the_cluster_puts_them_there() {
        let mut request = request();
        request
            .secrets
            .insert(TOKENS.into(), r#"{"a":{"token":"from-secrets"}}"#.into());
        assert_eq!(parsed(&request).unwrap().1.expose(), b"from-secrets");
        request.volume_context.remove(TOKENS);
        assert_eq!(parsed(&request).unwrap().1.expose(), b"from-secrets");
    }

    #[test]
    fn the_groups_of_pods_are_numbers() {
        for (text, group) in [("", Ok(None)), ("0", Ok(Some(0))), ("2000", Ok(Some(2000)))] {
            let request = NodePublishVolumeRequest {
                volume_capability: mount(text),
                ..request()
            };
            assert_eq!(parsed(&request).map(|(volume, _)| volume.group), group, "{text}");
        }
        for bad in ["staff", "-1", "4294967295", "4294967296", "1 ", "0x1"] {
            let request = NodePublishVolumeRequest {
                volume_capability: mount(bad),
                ..request()
            };
            assert_eq!(parsed(&request).unwrap_err(), InvalidRequest::Group, "{bad}");
        }
    }

    #[test]
    fn what_can_never_be_served_is_refused_with_what_to_do() {
        let with = |change: fn(&mut NodePublishVolumeRequest)| {
            let mut request = request();
            change(&mut request);
            parsed(&request).map(|_| ()).unwrap_err()
        };
        let block = || {
            Some(VolumeCapability {
                access_type: Some(AccessType::Block(BlockVolume {})),
            })
        };
        assert_eq!(with(|r| r.volume_id = String::new()), InvalidRequest::VolumeId);
        assert_eq!(with(|r| r.volume_id = "../x".into()), InvalidRequest::VolumeId);
        assert_eq!(with(|r| r.target_path = "/etc".into()), InvalidRequest::Target);
        assert_eq!(with(|r| r.readonly = false), InvalidRequest::NotReadOnly);
        assert_eq!(with(|r| r.volume_capability = None), InvalidRequest::NotFiles);
        let mut blocks = request();
        blocks.volume_capability = block();
        assert_eq!(parsed(&blocks).map(|_| ()).unwrap_err(), InvalidRequest::NotFiles);
        assert_eq!(with(|r| r.volume_context.clear()), InvalidRequest::NotEphemeral);
        let set = |name: &'static str, value: &'static str| {
            let mut request = request();
            request.volume_context.insert(name.into(), value.into());
            parsed(&request).map(|_| ()).unwrap_err()
        };
        assert_eq!(set(EPHEMERAL, "false"), InvalidRequest::NotEphemeral);
        assert_eq!(set("object", "- secret: a"), InvalidRequest::Attribute);
        assert_eq!(set(VAULT, ""), InvalidRequest::Vault);
        assert_eq!(set(OBJECTS, ""), InvalidRequest::Objects);
        assert_eq!(
            with(|r| drop(r.volume_context.remove(VAULT))),
            InvalidRequest::Vault
        );
        assert_eq!(
            with(|r| drop(r.volume_context.remove(OBJECTS))),
            InvalidRequest::Objects
        );
        assert_eq!(
            with(|r| drop(r.volume_context.remove(TOKENS))),
            InvalidRequest::Token
        );
        for tokens in [
            "",
            "{}",
            "null",
            "[]",
            r#"{"a":{}}"#,
            r#"{"a":{"token":""}}"#,
            r#"{"a":{"token":7}}"#,
            r#"{"a":{"token":"x"},"b":{"token":"y"}}"#,
        ] {
            assert_eq!(set(TOKENS, tokens), InvalidRequest::Token, "{tokens}");
        }
    }

    #[test]
    fn targets_lie_where_the_kubelet_mounts_and_nowhere_else() {
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "pods/6f1c/volumes/kubernetes.io~csi/vault/mount",
            "/var/lib/kubelet",
            "/var/lib/kubelet2/pods/6f1c/volumes/kubernetes.io~csi/vault/mount",
            "/var/lib/kubelet/pods/../pods/6f1c/volumes/kubernetes.io~csi/vault/mount",
            "/var/lib/kubelet/pods/6f1c/volumes/kubernetes.io~csi/../vault/mount",
            "/var/lib/kubelet/pods/6f1c/volumes/kubernetes.io~csi/../mount",
            "/var/lib/kubelet/pods/../volumes/kubernetes.io~csi/vault/mount",
            "/var/lib/kubelet/pods/6f1c/volumes/kubernetes.io~csi/vault",
            "/var/lib/kubelet/pods/6f1c/volumes/kubernetes.io~csi/vault/mount/x",
            "/var/lib/kubelet/pods/6f1c/volumes/kubernetes.io~secret/vault/mount",
            "/var/lib/kubelet/plugins/csi.strongroom.dev/state",
            "/var/lib/kubelet/pods/6f1c/volumes/kubernetes.io~csi/a\0b/mount",
        ] {
            assert_eq!(
                Target::parse(Path::new(KUBELET), bad),
                Err(InvalidRequest::Target),
                "{bad:?}"
            );
        }
        let target = Target::parse(Path::new(KUBELET), PATH).unwrap();
        assert_eq!(Target::below(&target.relative()), Ok(target));
    }

    #[test]
    fn a_request_never_shows_its_tokens() {
        let mut request = request();
        request.secrets.insert(TOKENS.into(), "canary".into());
        let shown = format!("{request:?}");
        assert!(
            shown.contains("csi-0123abcd") && !shown.contains("canary") && !shown.contains("from-context")
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,200}") {
            let _ = (VolumeId::parse(&text), Target::parse(Path::new(KUBELET), &text), the_one_token(&text));
            let path = format!("{KUBELET}/pods/{text}/volumes/kubernetes.io~csi/{text}/mount");
            if let Ok(target) = Target::parse(Path::new(KUBELET), &path) {
                prop_assert!(!target.relative().contains(".."));
            }
        }
    }
}
