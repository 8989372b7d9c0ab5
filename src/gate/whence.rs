//! From where a caller calls, as far as the vault's rules ask.

use std::slice;

use super::{Admitted, Refusal};
use crate::engine::{self, Engine};
use crate::identity::{CallingPod, Identity};
use crate::model::{Caller, Labels, VaultEntry};
use crate::network::{From, Way, WhichPod};
use crate::world::World;

/// Whether the vault may be called from there. Our own processes are the management plane, to which no rule applies: none
/// of what they may do gives a value.
pub(super) fn reaches(
    world: &World,
    identity: &Identity,
    engine: &Engine,
    admitted: &Admitted,
    vault: &VaultEntry,
) -> Result<(), Refusal> {
    let account = match &*admitted.caller {
        Caller::ServiceAccount(account) => account,
        Caller::Operator | Caller::Clock => return Ok(()),
    };
    let acls = vault.settings.network.over(engine.network(vault));
    let acls = acls.ok_or_else(|| engine::Error::VaultNotReady {
        vault: vault.id.clone(),
    })?;
    if !acls.denies() {
        return Ok(());
    }
    let calling = identity.calling_pod(account, admitted.peer, &world.liveness);
    let addresses = match (&admitted.peer, calling) {
        (Some(peer), _) => slice::from_ref(peer),
        (None, CallingPod::Known(pod)) => &pod.addresses,
        (None, CallingPod::None | CallingPod::NotYet) => &[],
    };
    let pod =
        match calling {
            CallingPod::None => WhichPod::None,
            CallingPod::NotYet => WhichPod::NotYet,
            CallingPod::Known(pod) => world.network.namespace(&pod.namespace).map_or(
                WhichPod::NotYet,
                |namespace_labels: &Labels| WhichPod::Known {
                    namespace: &pod.namespace,
                    namespace_labels,
                    labels: &pod.labels,
                },
            ),
        };
    let way = if admitted.peer.is_some() {
        Way::Connection
    } else {
        Way::Volume
    };
    let from = From { way, addresses, pod };
    world
        .network
        .admit(&vault.id, acls, &from)
        .map_err(|refused| Refusal::network(refused, &admitted.caller, &vault.id, admitted.peer))
}
