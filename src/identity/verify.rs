//! From a token to a caller: the shell around the judgement.

use std::net::IpAddr;
use std::sync::Arc;

use crate::crypto::{CryptoError, jose, mac};
use crate::model::{Caller, Moment, NodeCaller, PodRef, ServiceAccountCaller, SourceAddresses, Uid};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{AddressFinding, PodAsked, TokenCheck};
use crate::telemetry::sampler::Sampler;

use super::claims::{Binding, Claims};
use super::judge::{self, Address, CallingPod, Judged, Purpose, Refused, Shown};
use super::memory::{ConnectionMemory, Recent, Verified};
use super::self_test::SelfTest;
use super::{KeySets, Liveness, PodAddressCheck, PodFacts, PodLookup, Rejection, Settings};

/// Tokens whose signature is remembered.
const REMEMBERED_TOKENS: usize = 16_384;
/// Pods that are known to be gone for good.
const REMEMBERED_DEAD: usize = 16_384;

/// What a caller shows.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// A token, straight to the data plane.
    Bearer {
        /// What follows `Bearer `.
        token: &'a str,
        /// Where it comes from.
        peer: IpAddr,
        /// What its connection remembers.
        memory: &'a ConnectionMemory,
    },
    /// A workload pod's token that the pod's node shows for it.
    Delivery {
        /// The pod's token.
        token: &'a str,
        /// The node.
        node: &'a NodeCaller,
    },
}

impl std::fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bearer { .. } => "Proof::Bearer",
            Self::Delivery { .. } => "Proof::Delivery",
        })
    }
}

/// Makes callers of proofs.
pub struct Identity {
    settings: Settings,
    keys: Arc<dyn KeySets>,
    pods: Arc<dyn PodLookup>,
    metrics: Arc<Metrics>,
    tokens: Recent<[u8; 32], Arc<Verified>>,
    /// UIDs are never used again, so who is gone stays gone.
    dead: Recent<Uid, ()>,
    foreign_addresses: Sampler,
    self_test: SelfTest,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Judges by these settings, with these keys, and asks `pods` for what the feed has not shown.
    #[must_use]
    pub fn new(
        settings: Settings,
        keys: Arc<dyn KeySets>,
        pods: Arc<dyn PodLookup>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            settings,
            keys,
            pods,
            metrics,
            tokens: Recent::new(REMEMBERED_TOKENS),
            dead: Recent::new(REMEMBERED_DEAD),
            foreign_addresses: Sampler::default(),
            self_test: SelfTest::default(),
        }
    }

    /// The workload that shows this proof, where its connection's memory and this world suffice to judge it. None:
    /// [`Identity::caller`] then.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn recall(
        &self,
        proof: &Proof<'_>,
        liveness: &Liveness,
        now: Moment,
    ) -> Option<Result<Arc<Caller>, Rejection>> {
        let Proof::Bearer { token, peer, memory } = *proof else {
            return None;
        };
        let last = memory.get(token, self.keys.generation())?;
        let shown = Shown::From(peer);
        let claims = &last.verified.claims;
        let result = match judge::judge(claims, Purpose::Workload, shown, &self.settings, liveness, now) {
            Ok(judged) => {
                let pod = judged.pod.map(|pod| &**pod);
                if !fits(&last.caller, pod, Some(peer.to_canonical())) {
                    return None;
                }
                self.note(&judged, shown, now);
                Ok(Arc::clone(&last.caller))
            }
            Err(Refused::Rejected(rejection)) => Err(self.noted_foreign(rejection)),
            Err(Refused::PodUnknown) => return None,
        };
        self.metrics.token_checked(TokenCheck::Connection);
        Some(self.counted(result))
    }

    /// The workload that shows this proof.
    ///
    /// Touches memory alone, but for two cases: a key id that is not known asks for the keys (with a cooldown), and a pod
    /// that is not known is asked for once.
    ///
    /// # Errors
    /// [`Rejection`].
    pub async fn caller(
        &self,
        proof: &Proof<'_>,
        liveness: &Liveness,
        now: Moment,
    ) -> Result<Arc<Caller>, Rejection> {
        let result = match *proof {
            Proof::Bearer { token, peer, memory } => {
                self.workload(token, Shown::From(peer), Some(memory), liveness, now)
                    .await
            }
            Proof::Delivery { token, node } => {
                self.workload(token, Shown::By(node), None, liveness, now).await
            }
        };
        self.counted(result)
    }

    /// The `node` process that shows this token on the internal listener.
    ///
    /// # Errors
    /// [`Rejection`].
    pub async fn node(
        &self,
        token: &str,
        peer: IpAddr,
        liveness: &Liveness,
        now: Moment,
    ) -> Result<NodeCaller, Rejection> {
        let result = self.own_process(token, Purpose::Node, peer, liveness, now).await;
        self.counted(result.and_then(|(claims, pod)| {
            Ok(NodeCaller {
                node: pod.node.clone().ok_or(Rejection::ForeignNode)?,
                pod: pod.uid.clone(),
                expires: claims.claims.expires,
            })
        }))
    }

    /// The `operate` process that shows this token on the internal listener.
    ///
    /// # Errors
    /// [`Rejection`].
    pub async fn operator(
        &self,
        token: &str,
        peer: IpAddr,
        liveness: &Liveness,
        now: Moment,
    ) -> Result<Arc<Caller>, Rejection> {
        let result = self
            .own_process(token, Purpose::Operator, peer, liveness, now)
            .await;
        self.learn_from_operator(&result, peer, liveness);
        self.counted(result.map(|_| Arc::new(Caller::Operator)))
    }

    /// Whether the addresses of pods come through as they are, as far as the operator's calls showed.
    #[must_use]
    pub fn source_addresses(&self) -> Option<SourceAddresses> {
        self.self_test.finding()
    }

    fn learn_from_operator(
        &self,
        judged: &Result<(Arc<Verified>, Arc<PodFacts>), Rejection>,
        peer: IpAddr,
        liveness: &Liveness,
    ) {
        let check = self.settings.pod_address_check;
        let own = match judged {
            Ok((_, pod)) if check != PodAddressCheck::Off && !pod.addresses.is_empty() => {
                judge::is_own(peer, pod, liveness)
            }
            Err(Rejection::ForeignAddress) => false,
            Ok(_) | Err(_) => return,
        };
        self.metrics.pod_addresses_rewritten(!own);
        if !self.self_test.saw(own) {
            return;
        }
        if own {
            tracing::info!("pods' addresses come through as they are: the operator called from its own");
        } else {
            tracing::warn!(
                address = %peer.to_canonical(),
                ?check,
                "our own operator called from an address that is not its pod's (SourceAddressesRewritten): something between \
                 pods and us rewrites addresses. Rules of addresses then judge that, stolen tokens can't be told from their \
                 owners', and podAddressCheck: Enforce refuses everybody, the operator too"
            );
        }
    }

    /// Whether a caller who was admitted under an earlier world still may be. Asks nobody.
    ///
    /// # Errors
    /// [`Rejection`]; [`Rejection::Unavailable`] where the pod is not in this world: admit the caller anew.
    pub fn still_lives(&self, caller: &Caller, liveness: &Liveness, now: Moment) -> Result<(), Rejection> {
        let Caller::ServiceAccount(account) = caller else {
            return Ok(());
        };
        let result = judge::still_lives(account, liveness, now).map_err(|refused| match refused {
            Refused::Rejected(rejection) => rejection,
            Refused::PodUnknown => Rejection::Unavailable,
        });
        self.counted(result)
    }

    /// Which pod an admitted caller is, for rules about pods. `peer` is none where the pod's own node asks for it.
    #[must_use]
    pub fn calling_pod<'a>(
        &self,
        account: &ServiceAccountCaller,
        peer: Option<IpAddr>,
        liveness: &'a Liveness,
    ) -> CallingPod<'a> {
        judge::calling_pod(account, peer, self.settings.pod_address_check, liveness)
    }

    async fn workload(
        &self,
        token: &str,
        shown: Shown<'_>,
        memory: Option<&ConnectionMemory>,
        liveness: &Liveness,
        now: Moment,
    ) -> Result<Arc<Caller>, Rejection> {
        let generation = self.keys.generation();
        let last = memory.and_then(|memory| memory.get(token, generation));
        let verified = match &last {
            Some(last) => {
                self.metrics.token_checked(TokenCheck::Connection);
                Arc::clone(&last.verified)
            }
            None => self.verified(token, generation).await?,
        };
        let pod = self
            .judge(&verified.claims, Purpose::Workload, shown, liveness, now)
            .await?;
        let address = match shown {
            Shown::From(peer) => Some(peer.to_canonical()),
            Shown::By(_) => None,
        };
        if let Some(last) = last
            && fits(&last.caller, pod.as_deref(), address)
        {
            return Ok(Arc::clone(&last.caller));
        }
        let caller = Arc::new(caller(&verified.claims, pod.as_deref(), address));
        if let Some(memory) = memory {
            memory.set(token, verified, Arc::clone(&caller));
        }
        Ok(caller)
    }

    async fn own_process(
        &self,
        token: &str,
        purpose: Purpose,
        peer: IpAddr,
        liveness: &Liveness,
        now: Moment,
    ) -> Result<(Arc<Verified>, Arc<PodFacts>), Rejection> {
        let verified = self.verified(token, self.keys.generation()).await?;
        let pod = self
            .judge(&verified.claims, purpose, Shown::From(peer), liveness, now)
            .await?;
        Ok((verified, pod.ok_or(Rejection::Binding)?))
    }

    /// The claims of a token whose signature is good.
    async fn verified(&self, token: &str, generation: u64) -> Result<Arc<Verified>, Rejection> {
        let hash = mac::sha256(token.as_bytes());
        if let Some(verified) = self.tokens.get(&hash, generation) {
            self.metrics.token_checked(TokenCheck::Remembered);
            return Ok(verified);
        }
        let header = jose::header(token).map_err(of_crypto)?;
        let claims = match self.verify(token, &header.kid) {
            Err(Rejection::UnknownKey) => {
                self.keys.refresh().await.map_err(|_| Rejection::Unavailable)?;
                self.verify(token, &header.kid)?
            }
            other => other?,
        };
        self.metrics.token_checked(TokenCheck::Verified);
        let verified = Arc::new(Verified { generation, claims });
        self.tokens.put(hash, Arc::clone(&verified), generation);
        Ok(verified)
    }

    /// Tries the key of that id of each issuer; the token must then name that issuer.
    fn verify(&self, token: &str, kid: &str) -> Result<Claims, Rejection> {
        let mut why = Rejection::UnknownKey;
        for issuer in &self.settings.issuers {
            let Some(key) = self.keys.find(issuer, kid) else {
                continue;
            };
            match jose::verify(token, &key) {
                Ok(claims) => {
                    let claims = Claims::read(&claims)?;
                    if claims.issuer == *issuer {
                        return Ok(claims);
                    }
                    why = Rejection::WrongIssuer;
                }
                Err(error) if why == Rejection::UnknownKey => why = of_crypto(error),
                Err(_) => {}
            }
        }
        Err(why)
    }

    /// Judges, and asks once for a pod that the feed has not shown.
    async fn judge(
        &self,
        claims: &Claims,
        purpose: Purpose,
        shown: Shown<'_>,
        liveness: &Liveness,
        now: Moment,
    ) -> Result<Option<Arc<PodFacts>>, Rejection> {
        match judge::judge(claims, purpose, shown, &self.settings, liveness, now) {
            Ok(judged) => Ok(self.noted(&judged, shown, now)),
            Err(Refused::Rejected(rejection)) => Err(self.noted_foreign(rejection)),
            Err(Refused::PodUnknown) => {
                let mut liveness = liveness.clone();
                liveness.upsert_pod(self.ask(claims).await?);
                match judge::judge(claims, purpose, shown, &self.settings, &liveness, now) {
                    Ok(judged) => Ok(self.noted(&judged, shown, now)),
                    Err(Refused::Rejected(rejection)) => Err(self.noted_foreign(rejection)),
                    Err(Refused::PodUnknown) => Err(Rejection::PodGone),
                }
            }
        }
    }

    /// Asks for the pod of these claims; whoever has another UID is not it.
    async fn ask(&self, claims: &Claims) -> Result<PodFacts, Rejection> {
        let Binding::Pod { name, uid } = &claims.binding else {
            return Err(Rejection::Binding);
        };
        if self.dead.get(uid, 0).is_some() {
            return Err(Rejection::PodGone);
        }
        let answer = self.pods.pod(&claims.account.namespace, name).await;
        match answer {
            Ok(Some(pod)) if pod.uid == *uid => {
                self.metrics.pod_asked(PodAsked::Found);
                Ok(pod)
            }
            Ok(_) => {
                self.metrics.pod_asked(PodAsked::Gone);
                self.dead.put(uid.clone(), (), 0);
                Err(Rejection::PodGone)
            }
            Err(_) => {
                self.metrics.pod_asked(PodAsked::Unavailable);
                Err(Rejection::Unavailable)
            }
        }
    }

    fn noted(&self, judged: &Judged<'_>, shown: Shown<'_>, now: Moment) -> Option<Arc<PodFacts>> {
        self.note(judged, shown, now);
        judged.pod.cloned()
    }

    fn note(&self, judged: &Judged<'_>, shown: Shown<'_>, now: Moment) {
        if judged.address == Address::Unconfirmed {
            self.metrics.foreign_address(AddressFinding::Unconfirmed);
            if let (Some(pod), Shown::From(peer)) = (judged.pod, shown)
                && self.foreign_addresses.takes(now)
            {
                tracing::warn!(
                    namespace = %pod.namespace, pod = %pod.name, address = %peer.to_canonical(),
                    "a pod's token came from an address that no pod is known by (podAddressCheck: Report)"
                );
            }
        }
    }

    fn noted_foreign(&self, rejection: Rejection) -> Rejection {
        if rejection == Rejection::ForeignAddress {
            self.metrics.foreign_address(AddressFinding::Refused);
        }
        rejection
    }

    fn counted<T>(&self, result: Result<T, Rejection>) -> Result<T, Rejection> {
        if let Err(rejection) = &result {
            self.metrics.token_rejected(rejection.label());
        }
        result
    }
}

fn of_crypto(error: CryptoError) -> Rejection {
    match error {
        CryptoError::BadSignature => Rejection::BadSignature,
        _ => Rejection::Malformed,
    }
}

fn caller(claims: &Claims, pod: Option<&PodFacts>, address: Option<IpAddr>) -> Caller {
    Caller::ServiceAccount(ServiceAccountCaller {
        namespace: claims.account.namespace.clone(),
        name: Arc::clone(&claims.account.name),
        uid: claims.account_uid.clone(),
        pod: pod.map(|pod| PodRef {
            name: Arc::clone(&pod.name),
            uid: pod.uid.clone(),
            node: pod.node.clone(),
        }),
        expires: claims.expires,
        address,
    })
}

/// Whether the caller that was made of the same token before is still exact.
fn fits(caller: &Caller, pod: Option<&PodFacts>, address: Option<IpAddr>) -> bool {
    let Caller::ServiceAccount(account) = caller else {
        return false;
    };
    let node = account.pod.as_ref().and_then(|pod| pod.node.as_ref());
    account.address == address && node == pod.and_then(|pod| pod.node.as_ref())
}

#[cfg(test)]
mod tests;
