//! One record as one line of JSON, with the field names of Azure Key Vault's `AuditEvent` log and our own beside them.
//!
//! Every field's type is listed here: names that were parsed, numbers, fixed texts, and strangers' text through
//! [`Clean`].

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Serialize, Serializer};

use crate::model::{Caller, Moment, ServiceAccountCaller, VaultEntry, VaultId, Version};
use crate::policy::Rule;

use super::clean::Clean;
use super::{About, Asked, Outcome};

/// No line is longer. What a line is made of is bounded: three names of 253, a host of 260, a client of 256 and smaller ones.
pub(super) const LONGEST: usize = 4096;

/// Which record of an operation a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Stage {
    /// The only one.
    Complete,
    /// A change is about to begin.
    Intent,
    /// How a change ended.
    Outcome,
}

/// How an operation ended, as a record says it.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<'a> {
    /// It has not begun.
    NotYet,
    /// So.
    Known(&'a Outcome),
    /// Its record was given up before the effect was begun: nothing was done.
    NotBegun,
    /// Nobody told.
    Unknown,
}

/// What allowed it.
#[derive(Debug, Clone)]
pub(super) struct Allowed {
    pub(super) vault: Arc<VaultEntry>,
    pub(super) caller: Arc<Caller>,
    pub(super) rule: Rule,
    pub(super) generation: u64,
}

/// Id of a record: this process's random part, and a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordId {
    pub(super) process: u64,
    pub(super) number: u64,
}

impl Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}", self.process, self.number)
    }
}

/// All that a line is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) id: RecordId,
    pub(super) stage: Stage,
    pub(super) at: Moment,
    pub(super) took: Option<Duration>,
    pub(super) about: &'a About,
    pub(super) caller: Option<&'a Caller>,
    pub(super) vault: Option<&'a VaultId>,
    pub(super) asked: &'a Asked,
    pub(super) rule: Option<&'a Rule>,
    pub(super) generation: Option<u64>,
    pub(super) end: End<'a>,
    /// How many more were like this one and are not on record.
    pub(super) not_shown: Option<u64>,
}

impl Record<'_> {
    /// The line, its end included.
    pub(super) fn to_line(self) -> Vec<u8> {
        let mut line = Vec::with_capacity(1024);
        // Writing to memory does not fail, and what a line is made of is bounded; should either be wrong one day, the
        // record still says that something was done, and its intent finds its outcome.
        if serde_json::to_writer(&mut line, &self.fields()).is_err() || line.len() >= LONGEST {
            let (id, operation) = (self.id, self.asked.operation.as_str());
            let short = format!(
                r#"{{"category":"AuditEvent","operationName":"{operation}","resultType":"Unknown","recordId":"{id}","stage":"{:?}"}}"#,
                self.stage
            );
            line.clear();
            line.extend_from_slice(short.as_bytes());
        }
        line.push(b'\n');
        line
    }

    fn fields(&self) -> impl Serialize {
        let account = self.caller.and_then(|caller| match caller {
            Caller::ServiceAccount(account) => Some(account),
            Caller::Operator => None,
        });
        let pod = account.and_then(|account| account.pod.as_ref());
        let (result_type, status, description) = match self.end {
            End::NotYet => ("Intent", None, None),
            End::Known(outcome) if outcome.kind.is_none() => ("Success", Some(outcome.status), None),
            End::Known(outcome) => ("Failure", Some(outcome.status), Some(outcome.code)),
            End::NotBegun => (
                "Failure",
                Some(503),
                Some("Abandoned before it began: nothing was done"),
            ),
            End::Unknown => ("Unknown", None, Some("Abandoned: its outcome was not told")),
        };
        let about = self.about;
        let correlation = about.client_request_id.as_deref().or(about.request_id.as_deref());
        Fields {
            time: Shown(Time(self.at)),
            resource_id: self.vault.map(|vault| Shown(ResourceId(vault))),
            category: "AuditEvent",
            operation_name: self.asked.operation.as_str(),
            operation_version: about.api_version.as_deref().map(Clean::version),
            result_type,
            result_signature: status.and_then(|status| StatusCode::from_u16(status).ok()?.canonical_reason()),
            result_description: description.filter(|text| !text.is_empty()),
            duration_ms: self.took.map(|took| took.as_micros() as f64 / 1000.0),
            caller_ip_address: about.peer.map(|peer| peer.to_canonical()),
            correlation_id: correlation.map(Clean::id),
            identity: self.caller.map(Identity::of),
            properties: Properties {
                client_info: about.user_agent.as_deref().map(Clean::client_info),
                id: self.vault.and_then(|vault| self.object_id(vault)),
                http_status_code: status,
                is_access_policy_match: self.vault.map(|_| self.rule.is_some()),
                not_shown: self.not_shown,
            },
            record_id: Shown(self.id),
            stage: self.stage,
            namespace: self.vault.map(|vault| vault.namespace.as_str()),
            vault: self.vault.map(|vault| vault.name.as_str()),
            service_account: account.map(|account| Shown(AccountName(account))),
            pod: pod.map(|pod| &*pod.name),
            pod_uid: pod.map(|pod| pod.uid.as_str()),
            node: pod.and_then(|pod| pod.node.as_deref()),
            rule: self.rule.map(Rule::as_str),
            generation: self.generation,
        }
    }

    fn object_id<'b>(&'b self, vault: &'b VaultId) -> Option<Shown<ObjectId<'b>>> {
        let version = match self.end {
            End::Known(outcome) => outcome.version.or(self.asked.version),
            End::NotYet | End::NotBegun | End::Unknown => self.asked.version,
        };
        Some(Shown(ObjectId {
            host: self.about.host.as_deref(),
            vault,
            object: self.asked.object.as_ref()?.as_written(),
            version,
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    time: Shown<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<Shown<ResourceId<'a>>>,
    category: &'static str,
    operation_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_version: Option<Clean<'a>>,
    result_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_signature: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_description: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_ip_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Clean<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity<'a>>,
    properties: Properties<'a>,
    record_id: Shown<RecordId>,
    stage: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vault: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<Shown<AccountName<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_info: Option<Clean<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Shown<ObjectId<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_access_policy_match: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_shown: Option<u64>,
}

#[derive(Serialize)]
struct Identity<'a> {
    claim: Claim<'a>,
}

#[derive(Serialize)]
struct Claim<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<&'a str>,
    appid: Shown<AppId<'a>>,
}

impl<'a> Identity<'a> {
    fn of(caller: &'a Caller) -> Self {
        let oid = match caller {
            Caller::ServiceAccount(account) => Some(account.uid.as_str()),
            Caller::Operator => None,
        };
        Self {
            claim: Claim {
                oid,
                appid: Shown(AppId(caller)),
            },
        }
    }
}

/// Serialised as it is displayed.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// ISO 8601 with seven decimals, in UTC.
struct Time(Moment);

impl Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nanos = self.0.nanos.min(999_999_999);
        match jiff::Timestamp::from_second(self.0.wall.0) {
            Ok(second) => write!(f, "{}.{:07}Z", second.strftime("%Y-%m-%dT%H:%M:%S"), nanos / 100),
            Err(_) => write!(f, "{}", self.0.wall.0),
        }
    }
}

/// In upper case, as Azure writes its own.
struct ResourceId<'a>(&'a VaultId);

impl Display for ResourceId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        f.write_str("/NAMESPACES/")?;
        let mut upper = |text: &str| {
            text.chars()
                .try_for_each(|c| f.write_char(c.to_ascii_uppercase()))
        };
        upper(self.0.namespace.as_str())?;
        upper("/providers/strongroom.dev/vaults/")?;
        upper(self.0.name.as_str())
    }
}

struct ObjectId<'a> {
    host: Option<&'a str>,
    vault: &'a VaultId,
    object: &'a str,
    version: Option<Version>,
}

impl Display for ObjectId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host {
            Some(host) => write!(f, "https://{}/secrets/{}", Clean::host(host), self.object)?,
            None => write!(
                f,
                "https://{}.{}.svc/secrets/{}",
                self.vault.name, self.vault.namespace, self.object
            )?,
        }
        self.version.map_or(Ok(()), |version| write!(f, "/{version}"))
    }
}

struct AccountName<'a>(&'a ServiceAccountCaller);

impl Display for AccountName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.namespace, self.0.name)
    }
}

struct AppId<'a>(&'a Caller);

impl Display for AppId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Caller::ServiceAccount(account) => {
                write!(f, "system:serviceaccount:{}:{}", account.namespace, account.name)
            }
            Caller::Operator => f.write_str("strongroom:operate"),
        }
    }
}

#[cfg(test)]
mod tests;
