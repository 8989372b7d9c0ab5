//! The judgement on claims: pure, so each rule stands in one table of tests.

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Moment, NodeCaller, Uid};

use super::claims::{Binding, Claims};
use super::{AddressOwner, Liveness, Phase, PodAddressCheck, PodFacts, Rejection, Settings};

/// How far clocks may differ, in seconds.
const LEEWAY: i64 = 10;

/// What the token is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Access to vaults.
    Workload,
    /// To be the node's process.
    Node,
    /// To be the operator's process.
    Operator,
}

/// Who shows it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shown<'a> {
    /// Whoever sends from this address.
    From(IpAddr),
    /// A node, for a pod of its own.
    By(&'a NodeCaller),
}

/// Claims that were found good.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    /// The pod that the token is bound to.
    pub(super) pod: Option<&'a Arc<PodFacts>>,
    /// What the address proves.
    pub(super) address: Address,
}

/// What the address that a token came from proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// It is the pod's own.
    Own,
    /// Nothing: it belongs to no pod, or to several.
    Unconfirmed,
    /// It was not to be looked at.
    NotChecked,
}

/// Why claims were not found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// They are not.
    Rejected(Rejection),
    /// The feed has not shown their pod: ask for it, and judge again.
    PodUnknown,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Judges verified claims by what the platform set, what lives, and who shows them.
pub(super) fn judge<'a>(
    claims: &Claims,
    purpose: Purpose,
    shown: Shown<'_>,
    settings: &Settings,
    liveness: &'a Liveness,
    now: Moment,
) -> Result<Judged<'a>, Refused> {
    issued_for_us(claims, purpose, settings)?;
    within_validity(claims, now)?;
    let (account_must_be, pod_is_needed) = match purpose {
        Purpose::Workload => (None, false),
        Purpose::Node => (Some(&settings.node_account), true),
        Purpose::Operator => (Some(&settings.operate_account), true),
    };
    if account_must_be.is_some_and(|account| *account != claims.account) {
        return Err(Rejection::ForeignAccount.into());
    }
    if liveness.account(&claims.account) != Some(&claims.account_uid) {
        return Err(Rejection::AccountGone.into());
    }
    let (name, uid) = match &claims.binding {
        Binding::Pod { name, uid } => (name, uid),
        Binding::Unbound if !pod_is_needed && matches!(shown, Shown::From(_)) => {
            return Ok(Judged {
                pod: None,
                address: Address::NotChecked,
            });
        }
        Binding::Unbound | Binding::Other => return Err(Rejection::Binding.into()),
    };
    let pod = liveness.pod(uid).ok_or(Refused::PodUnknown)?;
    if pod.phase == Phase::Terminal {
        return Err(Rejection::PodEnded.into());
    }
    let same = pod.namespace == claims.account.namespace
        && pod.name == *name
        && pod.service_account == claims.account.name;
    if !same {
        return Err(Rejection::Claims.into());
    }
    if claims.node.is_some() && claims.node != pod.node {
        return Err(Rejection::ForeignNode.into());
    }
    let address = match shown {
        Shown::From(peer) => address(settings.pod_address_check, pod, peer, liveness)?,
        Shown::By(node) => {
            runs_on(node, pod, liveness, now)?;
            Address::NotChecked
        }
    };
    Ok(Judged {
        pod: Some(pod),
        address,
    })
}

/// Whether a caller who was found good before still is, as far as that changes by itself: validity, account, pod.
pub(super) fn still_lives(
    account: &crate::model::ServiceAccountCaller,
    liveness: &Liveness,
    now: Moment,
) -> Result<(), Refused> {
    let reference = super::AccountRef {
        namespace: account.namespace.clone(),
        name: Arc::clone(&account.name),
    };
    if has_expired(account.expires, now) {
        return Err(Rejection::Expired.into());
    }
    if liveness.account(&reference) != Some(&account.uid) {
        return Err(Rejection::AccountGone.into());
    }
    match &account.pod {
        None => Ok(()),
        Some(pod) => match liveness.pod(&pod.uid) {
            None => Err(Refused::PodUnknown),
            Some(facts) if facts.phase == Phase::Terminal => Err(Rejection::PodEnded.into()),
            Some(_) => Ok(()),
        },
    }
}

fn issued_for_us(claims: &Claims, purpose: Purpose, settings: &Settings) -> Result<(), Rejection> {
    if !settings.issuers.contains(&claims.issuer) {
        return Err(Rejection::WrongIssuer);
    }
    let ours = match purpose {
        Purpose::Workload => &settings.audience,
        Purpose::Node | Purpose::Operator => &settings.internal_audience,
    };
    // A token that is also for somebody else is in somebody else's hands.
    match claims.audiences.as_slice() {
        [only] if only == ours => Ok(()),
        _ => Err(Rejection::WrongAudience),
    }
}

/// RFC 7519 sections 4.1.4 and 4.1.5: good from `nbf` on and before `exp`.
fn within_validity(claims: &Claims, now: Moment) -> Result<(), Rejection> {
    if has_expired(claims.expires, now) {
        return Err(Rejection::Expired);
    }
    match claims.not_before {
        Some(begin) if now.wall.plus(LEEWAY) < begin => Err(Rejection::NotYetValid),
        _ => Ok(()),
    }
}

fn has_expired(expires: crate::model::UnixSeconds, now: Moment) -> bool {
    now.wall >= expires.plus(LEEWAY)
}

/// A node asks for pods that run on it, while it is that node.
fn runs_on(node: &NodeCaller, pod: &PodFacts, liveness: &Liveness, now: Moment) -> Result<(), Rejection> {
    let here = |pod: &PodFacts| pod.node.as_ref() == Some(&node.node);
    let own = |uid: &Uid| {
        liveness
            .pod(uid)
            .filter(|own| own.phase != Phase::Terminal && here(own))
    };
    if own(&node.pod).is_none() || has_expired(node.expires, now) {
        return Err(Rejection::NodeCredentialEnded);
    }
    if here(pod) {
        Ok(())
    } else {
        Err(Rejection::ForeignNode)
    }
}

/// Which pod a call comes from.
#[derive(Debug, Clone, Copy)]
pub enum CallingPod<'a> {
    /// None, or not provably the one whose token is shown.
    None,
    /// This one.
    Known(&'a Arc<PodFacts>),
    /// The token's pod has not been seen yet, or has no address yet.
    NotYet,
}

/// Which pod a caller is who was found good: the token's, if the call comes from that pod's own address or addresses are not
/// to be looked at. `peer` is none where the pod's own node asks for it.
pub(super) fn calling_pod<'a>(
    account: &crate::model::ServiceAccountCaller,
    peer: Option<IpAddr>,
    check: PodAddressCheck,
    liveness: &'a Liveness,
) -> CallingPod<'a> {
    let Some(reference) = &account.pod else {
        return CallingPod::None;
    };
    let Some(pod) = liveness.pod(&reference.uid) else {
        return CallingPod::NotYet;
    };
    match peer {
        Some(peer) if check != PodAddressCheck::Off => match whose(peer, pod, liveness) {
            Whose::ThePods => CallingPod::Known(pod),
            Whose::Anothers | Whose::Nobodys if pod.addresses.is_empty() => CallingPod::NotYet,
            Whose::Anothers | Whose::Nobodys => CallingPod::None,
        },
        _ => CallingPod::Known(pod),
    }
}

/// Whether a call comes from the pod's own address.
pub(super) fn is_own(peer: IpAddr, pod: &PodFacts, liveness: &Liveness) -> bool {
    whose(peer, pod, liveness) == Whose::ThePods
}

/// Whose an address is, seen from a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Its own, or its node's where it uses the host's network.
    ThePods,
    /// Positively another pod's.
    Anothers,
    /// No pod's, or several pods'.
    Nobodys,
}

fn whose(peer: IpAddr, pod: &PodFacts, liveness: &Liveness) -> Whose {
    let peer = peer.to_canonical();
    let is_hosts = || {
        let mut hosts = pod.host_addresses.iter().chain(&pod.addresses);
        pod.host_network && hosts.any(|address| address.to_canonical() == peer)
    };
    match liveness.owner(peer) {
        AddressOwner::Pod(owner) if *owner == pod.uid => Whose::ThePods,
        AddressOwner::Pod(_) => Whose::Anothers,
        AddressOwner::Nobody if is_hosts() => Whose::ThePods,
        AddressOwner::Nobody => Whose::Nobodys,
    }
}

/// Whether the token came from its pod's own address.
fn address(
    check: PodAddressCheck,
    pod: &PodFacts,
    peer: IpAddr,
    liveness: &Liveness,
) -> Result<Address, Rejection> {
    if check == PodAddressCheck::Off {
        return Ok(Address::NotChecked);
    }
    match (check, whose(peer, pod, liveness)) {
        (_, Whose::ThePods) => Ok(Address::Own),
        (PodAddressCheck::Report, Whose::Nobodys) => Ok(Address::Unconfirmed),
        // The kubelet tells a pod's address a moment after its first container runs. A client that is told to try again
        // does; after a 401 it does not.
        _ if pod.addresses.is_empty() => Err(Rejection::Unavailable),
        _ => Err(Rejection::ForeignAddress),
    }
}

#[cfg(test)]
mod tests;
