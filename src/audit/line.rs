//! One record as one line of JSON, with the field names of Azure Key Vault's `AuditEvent` log and our own beside them.
//!
//! Every field's type is listed here: names that were parsed, numbers, fixed texts, and strangers' text through
//! [`Clean`].

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::json::{self, Key, Members, key, push_digits, push_hex};
use crate::model::{Caller, Moment, VaultEntry, VaultId};
use crate::policy::Rule;

use super::clean::Clean;
use super::{About, Asked, Outcome};

/// No line is longer. What a line is made of is bounded: three names of 253, a host of 260, a client of 256 and smaller ones.
pub(super) const LONGEST: usize = 4096;

/// Which record of an operation a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The only one.
    Complete,
    /// A change is about to begin.
    Intent,
    /// How a change ended.
    Outcome,
}

impl Stage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "Complete",
            Self::Intent => "Intent",
            Self::Outcome => "Outcome",
        }
    }
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

impl RecordId {
    /// Writes it: the process in 16 hexadecimal digits, a dash, the number.
    fn push_to(self, out: &mut Vec<u8>) {
        let process = self.process.to_be_bytes();
        process.into_iter().for_each(|byte| push_hex(out, byte));
        out.push(b'-');
        push_digits(out, self.number, 1);
    }
}

/// All that a line is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) id: RecordId,
    pub(super) stage: Stage,
    pub(super) at: Moment,
    pub(super) took: Option<Duration>,
    pub(super) about: &'a About<'a>,
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
        json::object(&mut line, |members| self.write(members));
        // What a line is made of is bounded; should that be wrong one day, the record still says that something was done,
        // and its intent finds its outcome.
        if line.len() >= LONGEST {
            line.clear();
            json::object(&mut line, |members| {
                members.word(key!("category"), "AuditEvent");
                members.word(key!("operationName"), self.asked.operation.as_str());
                members.word(key!("resultType"), "Unknown");
                members.plain(key!("recordId"), |out| self.id.push_to(out));
                members.word(key!("stage"), self.stage.as_str());
            });
        }
        line.push(b'\n');
        line
    }

    fn write(&self, line: &mut Members<'_>) {
        let about = self.about;
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
        let signature = status.and_then(|status| StatusCode::from_u16(status).ok()?.canonical_reason());
        let correlation = about.client_request_id.as_deref().or(about.request_id.as_deref());

        line.plain(key!("time"), |out| push_time(out, self.at));
        if let Some(vault) = self.vault {
            write_resource_id(line, vault);
        }
        line.word(key!("category"), "AuditEvent");
        line.word(key!("operationName"), self.asked.operation.as_str());
        write_clean(
            line,
            key!("operationVersion"),
            about.api_version.as_deref().map(Clean::version),
        );
        line.word(key!("resultType"), result_type);
        line.some_text(key!("resultSignature"), signature);
        line.some_text(
            key!("resultDescription"),
            description.filter(|text| !text.is_empty()),
        );
        line.some_thousandths(key!("durationMs"), self.took.map(micros));
        line.some_address(
            key!("callerIpAddress"),
            about.peer.map(|peer| peer.to_canonical()),
        );
        write_clean(line, key!("correlationId"), correlation.map(Clean::id));
        if let Some(caller) = self.caller {
            line.object(key!("identity"), |line| {
                line.object(key!("claim"), |line| write_claim(line, caller))
            });
        }
        line.object(key!("properties"), |line| {
            write_clean(
                line,
                key!("clientInfo"),
                about.user_agent.as_deref().map(Clean::client_info),
            );
            if let Some(vault) = self.vault {
                self.write_object_id(line, vault);
            }
            line.some_count(key!("httpStatusCode"), status.map(u64::from));
            line.some_truth(
                key!("isAccessPolicyMatch"),
                self.vault.map(|_| self.rule.is_some()),
            );
            line.some_truth(key!("isAddressAuthorized"), about.reached);
            line.some_count(key!("notShown"), self.not_shown);
        });
        line.plain(key!("recordId"), |out| self.id.push_to(out));
        line.word(key!("stage"), self.stage.as_str());
        if let Some(vault) = self.vault {
            line.text(key!("namespace"), &[vault.namespace.as_str()]);
            line.text(key!("vault"), &[vault.name.as_str()]);
        }
        if let Some(Caller::ServiceAccount(account)) = self.caller {
            line.text(
                key!("serviceAccount"),
                &[account.namespace.as_str(), "/", &account.name],
            );
            if let Some(pod) = &account.pod {
                line.text(key!("pod"), &[&pod.name]);
                line.text(key!("podUid"), &[pod.uid.as_str()]);
                line.some_text(key!("node"), pod.node.as_deref());
            }
        }
        line.some_text(key!("rule"), self.rule.map(Rule::as_str));
        line.some_count(key!("generation"), self.generation);
    }

    /// The object's URL, as the client would write it.
    fn write_object_id(&self, line: &mut Members<'_>, vault: &VaultId) {
        let (version, found) = match self.end {
            End::Known(outcome) => (outcome.version.or(self.asked.version), outcome.object.as_ref()),
            End::NotYet | End::NotBegun | End::Unknown => (self.asked.version, None),
        };
        let Some(object) = self.asked.object.as_ref().or(found) else {
            return;
        };
        let hex = version.map(|version| version.to_hex());
        let (slash, version) = hex.as_ref().map_or(("", ""), |hex| ("/", hex.as_str()));
        // Names that were parsed are plain.
        line.plain(key!("id"), |out| {
            out.extend_from_slice(b"https://");
            match self.about.host.as_deref().map(Clean::host) {
                Some(host) => host.push_to(out),
                None => [vault.name.as_str(), ".", vault.namespace.as_str(), ".svc"]
                    .iter()
                    .for_each(|part| out.extend_from_slice(part.as_bytes())),
            }
            ["/secrets/", object.as_written(), slash, version]
                .iter()
                .for_each(|part| out.extend_from_slice(part.as_bytes()));
        });
    }
}

/// In upper case, as Azure writes its own.
fn write_resource_id(line: &mut Members<'_>, vault: &VaultId) {
    let upper = |byte: &u8| byte.to_ascii_uppercase();
    // Names that were parsed are plain.
    line.plain(key!("resourceId"), |out| {
        out.extend_from_slice(b"/NAMESPACES/");
        out.extend(vault.namespace.as_str().as_bytes().iter().map(upper));
        out.extend_from_slice(b"/PROVIDERS/STRONGROOM.DEV/VAULTS/");
        out.extend(vault.name.as_str().as_bytes().iter().map(upper));
    });
}

fn write_claim(line: &mut Members<'_>, caller: &Caller) {
    match caller {
        Caller::ServiceAccount(account) => {
            line.text(key!("oid"), &[account.uid.as_str()]);
            let (namespace, name) = (account.namespace.as_str(), &*account.name);
            line.text(key!("appid"), &["system:serviceaccount:", namespace, ":", name]);
        }
        Caller::Operator => line.text(key!("appid"), &["strongroom:operate"]),
        Caller::Clock => line.text(key!("appid"), &["strongroom:clock"]),
    }
}

fn write_clean(line: &mut Members<'_>, key: Key, text: Option<Clean<'_>>) {
    if let Some(text) = text {
        line.plain(key, |out| text.push_to(out));
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// ISO 8601 with seven decimals, in UTC.
fn push_time(out: &mut Vec<u8>, at: Moment) {
    let Ok(second) = jiff::Timestamp::from_second(at.wall.0) else {
        return out.extend_from_slice(at.wall.0.to_string().as_bytes());
    };
    let time = jiff::tz::Offset::UTC.to_datetime(second);
    let mut part = |number: u64, least: usize, end: u8| {
        push_digits(out, number, least);
        out.push(end);
    };
    let small = |number: i8| u64::from(number.unsigned_abs());
    part(u64::from(time.year().unsigned_abs()), 4, b'-');
    part(small(time.month()), 2, b'-');
    part(small(time.day()), 2, b'T');
    part(small(time.hour()), 2, b':');
    part(small(time.minute()), 2, b':');
    part(small(time.second()), 2, b'.');
    part(u64::from(at.nanos.min(999_999_999) / 100), 7, b'Z');
}

#[cfg(test)]
mod tests;
