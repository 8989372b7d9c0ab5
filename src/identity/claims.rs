//! The claims of a Kubernetes service-account token, read once. Whether they are good is not decided here.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::{Namespace, Uid, UnixSeconds};

use super::{AccountRef, Rejection};

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) issuer: Arc<str>,
    /// Everyone that it is for; empty where it does not say.
    pub(super) audiences: Vec<Arc<str>>,
    pub(super) expires: UnixSeconds,
    pub(super) not_before: Option<UnixSeconds>,
    pub(super) account: AccountRef,
    pub(super) account_uid: Uid,
    pub(super) binding: Binding,
    /// The node that the API server wrote into it (`kubernetes.io`.`node`.`name`).
    pub(super) node: Option<Arc<str>>,
}

/// The object that a token lives and dies with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Binding {
    /// None: `kubectl create token`.
    Unbound,
    /// A pod.
    Pod { name: Arc<str>, uid: Uid },
    /// A Secret, a node alone, or something that this version does not know.
    Other,
}

impl Claims {
    /// Reads the claims of a token whose signature was verified. A claim that identity rests on must be there, of the right
    /// type and not empty; `sub` and the private claims must agree.
    pub(super) fn read(claims: &Value) -> Result<Self, Rejection> {
        Self::find(claims).ok_or(Rejection::Claims)
    }

    fn find(claims: &Value) -> Option<Self> {
        let claims = claims.as_object()?;
        let kubernetes = claims.get("kubernetes.io")?.as_object()?;
        let namespace = Namespace::parse(kubernetes.get("namespace")?.as_str()?).ok()?;
        let (account, account_uid) = reference(kubernetes.get("serviceaccount")?)?;
        let subject = claims
            .get("sub")?
            .as_str()?
            .strip_prefix("system:serviceaccount:")?;
        if subject.split_once(':') != Some((namespace.as_str(), &*account)) {
            return None;
        }
        Some(Self {
            issuer: text(claims.get("iss")?)?,
            audiences: audiences(claims.get("aud"))?,
            expires: UnixSeconds(claims.get("exp")?.as_i64()?),
            not_before: match claims.get("nbf") {
                None => None,
                Some(value) => Some(UnixSeconds(value.as_i64()?)),
            },
            account: AccountRef {
                namespace,
                name: account,
            },
            account_uid,
            binding: binding(kubernetes)?,
            node: match kubernetes.get("node") {
                None => None,
                Some(node) => Some(text(node.get("name")?)?),
            },
        })
    }
}

fn binding(kubernetes: &Map<String, Value>) -> Option<Binding> {
    if kubernetes.contains_key("secret") {
        return Some(Binding::Other);
    }
    if let Some(pod) = kubernetes.get("pod") {
        let (name, uid) = reference(pod)?;
        return Some(Binding::Pod { name, uid });
    }
    // An object with a UID beside the account is what a token is bound to, whatever later versions of Kubernetes name it.
    let bound = kubernetes
        .iter()
        .any(|(key, value)| key != "serviceaccount" && value.get("uid").is_some());
    Some(if bound || kubernetes.contains_key("node") {
        Binding::Other
    } else {
        Binding::Unbound
    })
}

fn reference(value: &Value) -> Option<(Arc<str>, Uid)> {
    let uid = text(value.get("uid")?)?;
    Some((text(value.get("name")?)?, Uid::new(&uid)))
}

fn text(value: &Value) -> Option<Arc<str>> {
    value.as_str().filter(|text| !text.is_empty()).map(Arc::from)
}

/// RFC 7519 section 4.1.3: one string, or a list of them.
fn audiences(value: Option<&Value>) -> Option<Vec<Arc<str>>> {
    match value {
        None => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(text).collect(),
        Some(one) => Some(vec![text(one)?]),
    }
}
