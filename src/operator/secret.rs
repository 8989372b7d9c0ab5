//! `Secret`: an object of a vault whose first value `serve` makes.
//!
//! # Why a finalizer, and how it ends
//! Only a resource with `deletionPolicy: Delete` has one: its object is soft-deleted before it goes. It never holds a
//! deletion up for long: it is taken off at once where the namespace is being deleted, the vault is gone or the data
//! plane says no, and after five minutes where the data plane does not answer; the object then stays in its vault, and
//! an event says so.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource};
use serde_json::json;

use super::conditions::{Reason, Standing, has_head, was_deleted, was_ready};
use super::context::{Context, Guarded, observed, write};
use super::report::{self, HasConditions};
use super::{Error, FIELD_MANAGER, FINALIZER};
use crate::compile::{self, OnDelete, Unusable, Wanted};
use crate::crd::{self, Condition, ConditionType, SecretStatus};
use crate::model::{Kind, OwnedSecret, UnixSeconds};
use crate::telemetry::metrics::Reconciled;
use crate::wire::{Action as Ask, ActionReply, DeleteOwnedAction, EnsureGeneratedSecretAction};

/// How long a deletion waits for a data plane that does not answer, in seconds.
const GIVE_UP_AFTER: i64 = 300;
/// How often an object that somebody else has is looked at again.
const CONFLICT_PERIOD: Duration = Duration::from_secs(600);

/// Makes one `Secret` true.
pub(super) async fn reconcile(
    object: Arc<Guarded<crd::Secret>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    observed(Reconciled::Secret, object.meta(), &context, async {
        let Some(seen) = gather(&object, &context).await? else {
            return Ok(Action::await_change());
        };
        let plan = plan(&seen);
        let done = apply(&context, &object, &seen, &plan).await;
        report(&context, &object, &seen, &plan, &done).await?;
        done.map(|_| plan.next)
    })
    .await
}

/// What there is.
#[derive(Debug)]
struct Seen {
    wanted: Result<Wanted, Unusable>,
    before: Option<SecretStatus>,
    generation: Option<i64>,
    /// Since when it is being deleted.
    deleting: Option<UnixSeconds>,
    finalizer: bool,
    terminating: bool,
    vault: Vault,
    /// What the stream of summaries says of its object.
    told: Option<OwnedSecret>,
    now: UnixSeconds,
}

/// What matters of a vault to a resource that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vault {
    /// It is not there, or about to go.
    Missing,
    /// It has no head yet.
    NotReady,
    /// It has one.
    Ready,
}

/// What is to be done. How the resource stands is known beforehand, or follows from what `serve` answers.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    steps: Vec<Step>,
    standing: Option<Standing>,
    next: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    SetFinalizer(bool),
    /// Ask `serve` for the object.
    Ensure,
    /// Ask `serve` to delete the object. Whether to go on where it doesn't answer.
    Delete {
        give_up: bool,
    },
}

async fn gather(object: &Guarded<crd::Secret>, context: &Context) -> Result<Option<Seen>, Error> {
    let metadata = object.meta();
    let Some(namespace) = metadata.namespace.as_deref() else {
        return Ok(None);
    };
    let finalizer = metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    let deleting = metadata
        .deletion_timestamp
        .as_ref()
        .map(|at| UnixSeconds(at.0.as_second()));
    // Whether the namespace is going decides what is deleted with it: that is not left to a watch that may lag.
    let home = if deleting.is_some() && finalizer {
        context.home_now(namespace).await?
    } else {
        context.home(namespace).await?
    };
    let Some(home) = home else { return Ok(None) };
    let (wanted, before) = match &object.0 {
        Ok(secret) => (compile::secret(secret, &home.uid), secret.status.clone()),
        Err(_) => (
            Err(Unusable::Value {
                field: "spec",
                allowed: "what its schema says",
            }),
            None,
        ),
    };
    let (mut vault, mut told) = (Vault::Missing, None);
    if let Ok(wanted) = &wanted {
        let reference = ObjectRef::new(wanted.vault.name.as_str()).within(namespace);
        vault = context
            .stores
            .vaults
            .get(&reference)
            .map_or(Vault::Missing, |found| state(&found));
        told = context.summaries.owned(&wanted.vault, &wanted.ensure.owner);
    }
    Ok(Some(Seen {
        wanted,
        before,
        generation: metadata.generation,
        deleting,
        finalizer,
        terminating: home.terminating,
        vault,
        told,
        now: context.clock.now().wall,
    }))
}

/// What matters of this vault.
pub(super) fn state(vault: &Guarded<crd::Vault>) -> Vault {
    match &vault.0 {
        Ok(vault) if vault.metadata.deletion_timestamp.is_some() => Vault::Missing,
        Ok(vault)
            if vault
                .status
                .as_ref()
                .is_some_and(|status| has_head(&status.conditions)) =>
        {
            Vault::Ready
        }
        Ok(_) | Err(_) => Vault::NotReady,
    }
}

fn plan(seen: &Seen) -> Plan {
    let still = |steps, standing| Plan {
        steps,
        standing,
        next: Action::await_change(),
    };
    if let Some(since) = seen.deleting {
        return still(farewell(seen, since), None);
    }
    let wanted = match &seen.wanted {
        Ok(wanted) => wanted,
        Err(why) => {
            return still(
                Vec::new(),
                Some(Standing::stalled(Reason::Invalid, why.to_string())),
            );
        }
    };
    // It goes with its namespace: nothing can be made there, and nobody reads its status.
    if seen.terminating {
        return still(Vec::new(), None);
    }
    let needs_finalizer = wanted.on_delete == OnDelete::Delete;
    let mut steps = Vec::new();
    if needs_finalizer != seen.finalizer {
        steps.push(Step::SetFinalizer(needs_finalizer));
    }
    let name = &wanted.vault.name;
    let waiting = match seen.vault {
        Vault::Missing => Some((
            Reason::VaultNotFound,
            format!("there is no vault '{name}' in this namespace yet"),
        )),
        Vault::NotReady => Some((Reason::VaultNotReady, format!("vault '{name}' is not ready yet"))),
        Vault::Ready => None,
    };
    let before = seen.before.as_ref().map_or(&[][..], |status| &status.conditions);
    let was_ready = was_ready(before, seen.generation);
    let was_deleted = was_deleted(before);
    match (&seen.told, waiting) {
        // A vault that is not ready for a while takes nothing away that is known of the object.
        (_, Some((reason, message))) if seen.vault == Vault::Missing || !(was_ready || was_deleted) => {
            still(steps, Some(Standing::waiting(reason, message)))
        }
        (Some(object), _) => {
            let standing = standing(wanted, object);
            Plan {
                steps,
                next: next(&standing),
                standing: Some(standing),
            }
        }
        (None, _) if was_ready => still(steps, None),
        // Nothing is told of what was purged since: then too it is not made again.
        (None, _) if was_deleted => still(steps, Some(standing(wanted, &OwnedSecret::Deleted))),
        (None, _) => {
            steps.push(Step::Ensure);
            still(steps, None)
        }
    }
}

/// What is done with a resource that is being deleted.
fn farewell(seen: &Seen, since: UnixSeconds) -> Vec<Step> {
    let mut steps = Vec::new();
    if seen.finalizer {
        let delete = seen
            .wanted
            .as_ref()
            .is_ok_and(|wanted| wanted.on_delete == OnDelete::Delete);
        if delete && !seen.terminating && seen.vault != Vault::Missing {
            steps.push(Step::Delete {
                give_up: seen.now >= since.plus(GIVE_UP_AFTER),
            });
        }
        steps.push(Step::SetFinalizer(false));
    }
    steps
}

fn standing(wanted: &Wanted, object: &OwnedSecret) -> Standing {
    let (name, vault) = (wanted.ensure.name.as_written(), &wanted.vault.name);
    match object {
        OwnedSecret::Live { .. } => Standing::ready(Reason::Made, format!("secret '{name}' is in vault '{vault}'")),
        OwnedSecret::Deleted => Standing::stalled(
            Reason::Deleted,
            format!(
                "secret '{name}' of vault '{vault}' was deleted and is not made again: recover it with a client of the \
                 vault; or purge it, delete this resource and apply it again, which makes a new value"
            ),
        )
        .and_so(ConditionType::Deleted),
        OwnedSecret::Foreign => Standing::stalled(
            Reason::Foreign,
            format!(
                "vault '{vault}' has a secret '{name}' that this resource did not make; it stays as it is: take another \
                 spec.objectName, or delete that secret"
            ),
        )
        .and_so(ConditionType::Conflict),
        OwnedSecret::Absent => {
            Standing::waiting(Reason::VaultNotReady, format!("vault '{vault}' has made no secret '{name}' yet"))
        }
    }
}

fn next(standing: &Standing) -> Action {
    match standing.reason {
        Reason::Foreign => Action::requeue(CONFLICT_PERIOD),
        _ => Action::await_change(),
    }
}

/// What `serve` said of the object, where it was asked.
type Answer = Option<OwnedSecret>;

async fn apply(
    context: &Context,
    object: &Guarded<crd::Secret>,
    seen: &Seen,
    plan: &Plan,
) -> Result<Answer, Error> {
    let mut answer = None;
    for step in &plan.steps {
        match (step, &seen.wanted) {
            (Step::SetFinalizer(wanted), _) => set_finalizer(context, object, *wanted).await?,
            (Step::Ensure, Ok(wanted)) => answer = Some(ensure(context, wanted).await?),
            (Step::Delete { give_up }, Ok(wanted)) => delete(context, object, wanted, *give_up).await?,
            (Step::Ensure | Step::Delete { .. }, Err(_)) => {}
        }
    }
    Ok(answer)
}

async fn set_finalizer(context: &Context, object: &Guarded<crd::Secret>, wanted: bool) -> Result<(), Error> {
    let metadata = object.meta();
    let (Some(namespace), Some(name)) = (metadata.namespace.as_deref(), metadata.name.as_deref()) else {
        return Ok(());
    };
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    // Of this revision alone, so that nobody else's finalizer is lost, and an object that is gone is not made again.
    let patch =
        json!({ "metadata": { "resourceVersion": metadata.resource_version, "finalizers": finalizers } });
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api = Api::<crd::Secret>::namespaced(context.cluster.clone(), namespace);
    match write(
        "the finalizer",
        api.patch_metadata(name, &parameters, &Patch::Merge(&patch)),
    )
    .await
    {
        Ok(_) => Ok(()),
        Err(error) if !wanted && error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn ensure(context: &Context, wanted: &Wanted) -> Result<OwnedSecret, Error> {
    let ask = wanted.ensure.clone();
    let ask = Ask::EnsureGeneratedSecret(EnsureGeneratedSecretAction {
        vault: wanted.vault.clone(),
        name: ask.name,
        length: ask.length,
        alphabet: ask.alphabet,
        content_type: ask.content_type,
        owner: ask.owner,
    });
    match context.serve.act(&ask).await {
        Ok(ActionReply::Owned(object)) => Ok(object),
        Ok(ActionReply::VaultReady) => Err(Error::Answer),
        Err(source) => Err(Error::Ask { source }),
    }
}

async fn delete(
    context: &Context,
    object: &Guarded<crd::Secret>,
    wanted: &Wanted,
    give_up: bool,
) -> Result<(), Error> {
    let ask = Ask::DeleteOwned(DeleteOwnedAction {
        vault: wanted.vault.clone(),
        name: wanted.ensure.name.clone(),
        owner: wanted.ensure.owner.clone(),
    });
    let Err(source) = context.serve.act(&ask).await else {
        return Ok(());
    };
    if is_worth_waiting(source.kind()) && !give_up {
        return Err(Error::Ask { source });
    }
    let message = format!(
        "secret '{}' stays in vault '{}': {source}",
        wanted.ensure.name.as_written(),
        wanted.vault.name
    );
    report::event(
        context,
        &object.object_ref(&()),
        EventType::Warning,
        "Retained",
        &message,
    )
    .await;
    Ok(())
}

/// Whether the same question may get another answer later.
const fn is_worth_waiting(kind: Kind) -> bool {
    match kind {
        Kind::Unavailable | Kind::Throttled | Kind::Internal | Kind::Unauthenticated => true,
        Kind::Denied | Kind::NotFound | Kind::Conflict | Kind::Invalid => false,
    }
}

async fn report(
    context: &Context,
    object: &Guarded<crd::Secret>,
    seen: &Seen,
    plan: &Plan,
    done: &Result<Answer, Error>,
) -> Result<(), Error> {
    let (standing, found) = match (done, &plan.standing, &seen.wanted) {
        // Also of one that is being deleted: it says what that waits for.
        (Err(error), ..) => (
            Standing::waiting(Reason::Failed(error.kind()), error.to_string()),
            None,
        ),
        (Ok(Some(answer)), _, Ok(wanted)) => (standing(wanted, answer), Some(answer)),
        (Ok(_), Some(standing), _) => (standing.clone(), seen.told.as_ref()),
        (Ok(_), None, _) => return Ok(()),
    };
    write_status(context, object, seen, &standing, found).await
}

async fn write_status(
    context: &Context,
    object: &Guarded<crd::Secret>,
    seen: &Seen,
    standing: &Standing,
    found: Option<&OwnedSecret>,
) -> Result<(), Error> {
    let before = seen.before.as_ref();
    let known = before.map_or(&[][..], |status| &status.conditions);
    let after = SecretStatus {
        observed_generation: seen.generation,
        id: seen.wanted.as_ref().ok().map(id),
        version: match found {
            Some(OwnedSecret::Live { version }) => Some(version.to_string()),
            Some(OwnedSecret::Deleted | OwnedSecret::Foreign | OwnedSecret::Absent) => None,
            None => before.and_then(|before| before.version.clone()),
        },
        conditions: standing.conditions(known, seen.generation, seen.now),
    };
    report::status::<crd::Secret, _>(context, &object.object_ref(&()), standing, before, &after).await
}

impl HasConditions for SecretStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

fn id(wanted: &Wanted) -> String {
    let (vault, name) = (&wanted.vault, wanted.ensure.name.as_written());
    format!("https://{}.{}.svc/secrets/{name}", vault.name, vault.namespace)
}

#[cfg(test)]
mod tests;
