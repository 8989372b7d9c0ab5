//! Whether the guards that the chart installed are there, and say what it says.
//!
//! # Why
//! The API server exempts admission policies from each other, so no guard can keep an administrator from deleting or
//! changing one. It is noticed instead: here by every look, for people by an event, a metric and a condition of every
//! vault. What a guard must say comes from the chart, which hands it to the guard and to us alike.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::events::EventType;
use kube::{Api, Resource};
use serde_json::{Value, json};

use super::context::{Context, read};
use super::{Error, report};

/// A guard that is missing is told after the second look: within a minute, also where the first was unlucky.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// The chart's ConfigMap of what the guards must say, by their names.
const LIST: &str = "strongroom-guards";
/// Where people look for our own troubles.
const DEPLOYMENT: &str = "strongroom-operate";

/// What is wrong with a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NoList,
    NoPolicy,
    OtherPolicy,
    NoBinding,
    OtherBinding,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoList => "the ConfigMap with what the guards must say is missing",
            Self::NoPolicy => "the ValidatingAdmissionPolicy is missing",
            Self::OtherPolicy => "the ValidatingAdmissionPolicy says something else than the chart",
            Self::NoBinding => "the ValidatingAdmissionPolicyBinding is missing",
            Self::OtherBinding => "the ValidatingAdmissionPolicyBinding says something else than the chart",
        })
    }
}

/// Every guard by its name, and what is wrong with it.
type Look = BTreeMap<String, Option<Fault>>;

/// The guards that are not as they must be.
pub(super) type Faults = BTreeMap<String, Fault>;

/// What to do about them, for people.
pub(super) fn advice(faults: &Faults) -> String {
    let each = faults.iter().map(|(guard, fault)| format!("{guard}: {fault}"));
    format!(
        "what guards of this cluster forbid is not forbidden now ({}). A cluster administrator deletes what is left of \
         the guard and puts it back: helm upgrade, with the values of the release",
        each.collect::<Vec<_>>().join("; ")
    )
}

/// Looks again and again, and tells what changed.
pub(super) async fn follow(context: &Context) {
    let mut before: Option<Look> = None;
    loop {
        match look(context).await {
            Ok(now) => {
                tell(context, &now, confirmed(before.as_ref(), &now)).await;
                before = Some(now);
            }
            Err(error) => tracing::info!(%error, "whether the guards are in place can't be told"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is wrong for the second time, or at the very first look: an upgrade of the chart changes guards and what they must
/// say one after the other, and a look may fall between.
fn confirmed(before: Option<&Look>, now: &Look) -> Faults {
    now.iter()
        .filter(|(guard, _)| before.is_none_or(|before| before.get(*guard).is_some_and(Option::is_some)))
        .filter_map(|(guard, fault)| Some((guard.clone(), (*fault)?)))
        .collect()
}

async fn look(context: &Context) -> Result<Look, Error> {
    let lists = Api::<ConfigMap>::namespaced(context.cluster.clone(), &context.installation.namespace);
    let Some(list) = read("the list of guards", lists.get_opt(LIST)).await? else {
        return Ok(Look::from([(LIST.to_owned(), Some(Fault::NoList))]));
    };
    let policies = dynamic::<ValidatingAdmissionPolicy>(context);
    let bindings = dynamic::<ValidatingAdmissionPolicyBinding>(context);
    let mut look = Look::new();
    for (guard, expected) in list.data.unwrap_or_default() {
        let expected = serde_json::from_str(&expected).unwrap_or(Value::Null);
        let policy = read("a guard", policies.get_opt(&guard)).await?;
        let binding = read("a guard's binding", bindings.get_opt(&guard)).await?;
        let fault = judge(&guard, &expected, spec(policy.as_ref()), spec(binding.as_ref()));
        look.insert(guard, fault);
    }
    Ok(look)
}

/// As it is, with fields that this release does not know.
fn dynamic<K: Resource<DynamicType = ()>>(context: &Context) -> Api<DynamicObject> {
    Api::all_with(context.cluster.clone(), &ApiResource::erase::<K>(&()))
}

fn spec(object: Option<&DynamicObject>) -> Option<&Value> {
    object.and_then(|object| object.data.get("spec"))
}

fn judge(guard: &str, expected: &Value, policy: Option<&Value>, binding: Option<&Value>) -> Option<Fault> {
    let bound = json!({ "policyName": guard, "validationActions": ["Deny"] });
    match (policy, binding) {
        (None, _) => Some(Fault::NoPolicy),
        (Some(policy), _) if !says(expected, policy) => Some(Fault::OtherPolicy),
        (_, None) => Some(Fault::NoBinding),
        (_, Some(binding)) if !says(&bound, binding) => Some(Fault::OtherBinding),
        _ => None,
    }
}

/// Whether it says that and nothing more, but for what the API server adds where nothing is said.
fn says(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            let all_there = expected
                .iter()
                .all(|(key, value)| actual.get(key).is_some_and(|found| says(value, found)));
            let no_more = actual
                .iter()
                .all(|(key, value)| expected.contains_key(key) || is_default(key, value));
            all_there && no_more
        }
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len() && expected.iter().zip(actual).all(|(e, a)| says(e, a))
        }
        (expected, actual) => expected == actual,
    }
}

fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "namespaceSelector" | "objectSelector" => value.as_object().is_some_and(serde_json::Map::is_empty),
        "scope" => value == "*",
        "matchPolicy" => value == "Equivalent",
        _ => false,
    }
}

async fn tell(context: &Context, look: &Look, faults: Faults) {
    for guard in look.keys() {
        context.metrics.guard_missing(guard, faults.contains_key(guard));
    }
    let before = context.concerns.guards(faults.clone());
    if before.as_ref() == Some(&faults) {
        return;
    }
    context.triggers.vaults.those(&context.stores.vaults.state());
    let before = before.unwrap_or_default();
    let reference = deployment(context).await;
    for (guard, fault) in &faults {
        if before.get(guard) != Some(fault) {
            tracing::error!(guard, %fault, "a guard is not in place (GuardMissing)");
            let message = advice(&Faults::from([(guard.clone(), *fault)]));
            report::event(context, &reference, EventType::Warning, "GuardMissing", &message).await;
        }
    }
    for guard in before.keys().filter(|guard| !faults.contains_key(*guard)) {
        let message = format!("the guard {guard} is in place again");
        report::event(context, &reference, EventType::Normal, "GuardInPlace", &message).await;
    }
}

/// Our own Deployment, so that `kubectl describe` shows its events.
async fn deployment(context: &Context) -> ObjectReference {
    let namespace = &context.installation.namespace;
    let api = Api::<Deployment>::namespaced(context.cluster.clone(), namespace);
    let found = read("the operator's Deployment", api.get_metadata_opt(DEPLOYMENT)).await;
    ObjectReference {
        api_version: Some("apps/v1".to_owned()),
        kind: Some("Deployment".to_owned()),
        name: Some(DEPLOYMENT.to_owned()),
        namespace: Some(namespace.clone()),
        uid: found.ok().flatten().and_then(|found| found.metadata.uid),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Value {
        json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "resources": ["secrets"], "operations": ["DELETE"]}]},
            "validations": [{"expression": "false"}],
        })
    }

    /// As the API server shows it.
    fn shown() -> Value {
        let mut spec = expected();
        let matches = &mut spec["matchConstraints"];
        matches["matchPolicy"] = json!("Equivalent");
        matches["namespaceSelector"] = json!({});
        matches["objectSelector"] = json!({});
        matches["resourceRules"][0]["scope"] = json!("*");
        spec
    }

    fn binding() -> Value {
        json!({"policyName": "g", "validationActions": ["Deny"]})
    }

    #[test]
    fn a_guard_is_in_place_as_the_api_server_shows_it() {
        assert_eq!(judge("g", &expected(), Some(&shown()), Some(&binding())), None);
    }

    #[test]
    fn whatever_weakens_a_guard_is_seen() {
        let changed = |change: fn(&mut Value)| {
            let mut spec = shown();
            change(&mut spec);
            judge("g", &expected(), Some(&spec), Some(&binding()))
        };
        let changes: [fn(&mut Value); 8] = [
            |spec| spec["failurePolicy"] = json!("Ignore"),
            |spec| spec["validations"][0]["expression"] = json!("true"),
            |spec| spec["validations"] = json!([]),
            |spec| spec["matchConditions"] = json!([{"name": "never", "expression": "false"}]),
            |spec| spec["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"a": "b"}}),
            |spec| spec["matchConstraints"]["excludeResourceRules"] = json!([{"resources": ["*"]}]),
            |spec| spec["matchConstraints"]["resourceRules"][0]["scope"] = json!("Cluster"),
            |spec| spec["somethingNew"] = json!(true),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_eq!(changed(change), Some(Fault::OtherPolicy), "{number}");
        }
        let bound = |binding: Option<Value>| judge("g", &expected(), Some(&shown()), binding.as_ref());
        assert_eq!(bound(None), Some(Fault::NoBinding));
        for (key, value) in [
            ("validationActions", json!(["Warn"])),
            ("policyName", json!("other")),
            (
                "matchResources",
                json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}),
            ),
        ] {
            let mut changed = binding();
            changed[key] = value;
            assert_eq!(bound(Some(changed)), Some(Fault::OtherBinding), "{key}");
        }
        assert_eq!(
            judge("g", &expected(), None, Some(&binding())),
            Some(Fault::NoPolicy)
        );
        assert_eq!(
            judge("g", &Value::Null, Some(&shown()), Some(&binding())),
            Some(Fault::OtherPolicy)
        );
    }

    #[test]
    fn a_fault_counts_at_the_first_look_of_all_and_later_at_its_second() {
        let look = |fault| Look::from([("g".to_owned(), fault)]);
        let (good, bad) = (look(None), look(Some(Fault::NoPolicy)));
        assert_eq!(confirmed(None, &bad).len(), 1);
        assert_eq!(confirmed(Some(&good), &bad).len(), 0);
        assert_eq!(confirmed(Some(&bad), &bad).len(), 1);
        assert_eq!(
            confirmed(Some(&bad), &good).len(),
            0,
            "what is healed is healed at once"
        );
        let other = Look::from([("other".to_owned(), Some(Fault::NoList))]);
        assert_eq!(confirmed(Some(&bad), &other).len(), 0);
    }
}
