//! Status and events. Nothing is written where nothing differs.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::conditions::{Standing, ready};
use super::context::{Context, write};
use super::{Error, STATUS_MANAGER};
use crate::crd::Condition;
use crate::model::Kind;

/// Longest note of an event (the API's limit is 1 kB).
const MAX_NOTE: usize = 1_000;

/// A status that has conditions.
pub(super) trait HasConditions {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
}

/// Writes the status of `object`, whose `standing` it says, if it differs from `before`; and an event if `Ready` does.
pub(super) async fn status<K, S>(
    context: &Context,
    object: &ObjectReference,
    standing: &Standing,
    before: Option<&S>,
    after: &S,
) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    S: HasConditions + Serialize + PartialEq,
{
    if before == Some(after) {
        return Ok(());
    }
    let (Some(namespace), Some(name)) = (object.namespace.as_deref(), object.name.as_deref()) else {
        return Ok(());
    };
    let api = Api::<K>::namespaced(context.cluster.clone(), namespace);
    let written = write_status(&api, name, object.uid.as_deref(), after).await;
    if let Err(error) = written {
        return if error.kind() == Kind::NotFound {
            Ok(())
        } else {
            Err(error)
        };
    }
    let known = before.and_then(|before| ready(before.conditions()));
    if let Some(now) = ready(after.conditions()) {
        let same = known.is_some_and(|known| known.status == now.status && known.reason == now.reason);
        if !same {
            let type_ = if standing.is_trouble() {
                EventType::Warning
            } else {
                EventType::Normal
            };
            event(context, object, type_, &now.reason, &now.message).await;
        }
    }
    Ok(())
}

/// Writes the status of the object of this name and UID: one that was made anew under this name is not the one that it is about.
pub(super) async fn write_status<K>(
    api: &Api<K>,
    name: &str,
    uid: Option<&str>,
    status: &impl Serialize,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "uid": uid },
        "status": status,
    });
    let parameters = PatchParams::apply(STATUS_MANAGER).force();
    write(
        "the status",
        api.patch_status(name, &parameters, &Patch::Apply(&patch)),
    )
    .await
    .map(drop)
}

/// Tells people. What can't be told is logged: it is no reason to fail.
pub(super) async fn event(
    context: &Context,
    object: &ObjectReference,
    type_: EventType,
    reason: &str,
    message: &str,
) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(
            message
                .chars()
                .scan(0, |length, letter| {
                    *length += letter.len_utf8();
                    (*length <= MAX_NOTE).then_some(letter)
                })
                .collect(),
        ),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    if let Err(error) = write("an event", context.recorder.publish(&event, object)).await {
        tracing::debug!(%error, "no event");
    }
}
