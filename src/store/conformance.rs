//! The one suite that admits a backend. It panics nowhere and needs no test harness, so that a backend on a real cluster is
//! held to the same rules as the one in memory.

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::BoxStream;

use super::{MAX_ENVELOPE, Record, RecordName, SealedStore, Stamp, StoreError, StoreEvent};

/// A rule that a backend breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store breaks the rule: {rule}{}", error.map(|e| format!(" ({e})")).unwrap_or_default())]
pub struct Violation {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// What the store answered, where that was an error.
    pub error: Option<StoreError>,
}

/// Holds `store` to every rule, under names that begin with `prefix` (lower-case letters and digits, at most 20), which
/// nobody else uses; other records may be there and may change meanwhile. Hands back the rules that were checked. Its records are
/// removed again if all rules hold.
///
/// # Errors
/// The first [`Violation`].
pub async fn check(store: &dyn SealedStore, prefix: &str) -> Result<Vec<&'static str>, Violation> {
    let mut suite = Suite {
        store,
        prefix,
        rules: Vec::new(),
    };
    suite.create_and_read().await?;
    suite.update().await?;
    suite.delete().await?;
    suite.races().await?;
    suite.sizes().await?;
    suite.list().await?;
    suite.watch().await?;
    Ok(suite.rules)
}

struct Suite<'a> {
    store: &'a dyn SealedStore,
    prefix: &'a str,
    rules: Vec<&'static str>,
}

type Checked = Result<(), Violation>;

impl Suite<'_> {
    fn hold(&mut self, rule: &'static str, kept: bool) -> Checked {
        if !kept {
            return Err(Violation { rule, error: None });
        }
        self.rules.push(rule);
        Ok(())
    }

    fn name(&self, suffix: &str) -> Result<RecordName, Violation> {
        RecordName::parse(&format!("{}-{suffix}", self.prefix)).map_err(|_| Violation {
            rule: "the prefix given to the suite makes a record name",
            error: None,
        })
    }

    async fn made(&self, name: &RecordName, content: &'static [u8]) -> Result<Stamp, Violation> {
        let made = self.store.create(name, Bytes::from_static(content)).await;
        expect("a record can be made", made)
    }

    async fn read(&self, name: &RecordName) -> Result<Option<Record>, Violation> {
        expect("a record can be read", self.store.get(name).await)
    }

    async fn removed(&self, name: &RecordName, stamp: &Stamp) -> Checked {
        expect("a record can be removed", self.store.delete(name, stamp).await)
    }

    async fn create_and_read(&mut self) -> Checked {
        let name = self.name("create")?;
        let before = self.read(&name).await?;
        self.hold("a name that was never made reads as nothing", before.is_none())?;
        // Every byte value, to catch a backend that treats envelopes as text.
        let content: Bytes = (0..=u8::MAX).cycle().take(1000).collect();
        let stamp = expect(
            "a record can be made",
            self.store.create(&name, content.clone()).await,
        )?;
        let expected = Record {
            name: name.clone(),
            stamp: stamp.clone(),
            envelope: content,
        };
        let found = self.read(&name).await?;
        self.hold(
            "a record reads back as it was made, under its stamp",
            found.as_ref() == Some(&expected),
        )?;
        let again = self.store.create(&name, Bytes::from_static(b"other")).await;
        self.hold(
            "a name that exists cannot be made",
            again == Err(StoreError::AlreadyExists),
        )?;
        let found = self.read(&name).await?;
        self.hold("a refused creation changes nothing", found == Some(expected))?;
        self.removed(&name, &stamp).await
    }

    async fn update(&mut self) -> Checked {
        let name = self.name("update")?;
        let first = self.made(&name, b"one").await?;
        let second = self.store.update(&name, &first, Bytes::from_static(b"two")).await;
        let second = expect("a record can be updated under its stamp", second)?;
        self.hold("an update keeps the UID", first.uid == second.uid)?;
        self.hold("an update raises the revision", second.revision > first.revision)?;
        let stale = self
            .store
            .update(&name, &first, Bytes::from_static(b"three"))
            .await;
        self.hold(
            "an update under an old stamp is a conflict",
            stale == Err(StoreError::Conflict),
        )?;
        let found = self.read(&name).await?;
        let kept = found.is_some_and(|r| r.envelope == "two" && r.stamp == second);
        self.hold("a refused update changes nothing", kept)?;
        let absent = self
            .store
            .update(&self.name("absent")?, &second, Bytes::from_static(b"x"))
            .await;
        self.hold(
            "an update of nothing is not found",
            absent == Err(StoreError::NotFound),
        )?;
        self.removed(&name, &second).await
    }

    async fn delete(&mut self) -> Checked {
        let name = self.name("delete")?;
        let first = self.made(&name, b"one").await?;
        let second = self.store.update(&name, &first, Bytes::from_static(b"two")).await;
        let second = expect("a record can be updated under its stamp", second)?;
        let stale = self.store.delete(&name, &first).await;
        self.hold(
            "a removal under an old stamp is a conflict",
            stale == Err(StoreError::Conflict),
        )?;
        self.removed(&name, &second).await?;
        let found = self.read(&name).await?;
        self.hold("a removed record reads as nothing", found.is_none())?;
        let again = self.store.delete(&name, &second).await;
        self.hold(
            "a removal of nothing is not found",
            again == Err(StoreError::NotFound),
        )?;
        let anew = self.made(&name, b"anew").await?;
        self.hold("a name made anew has another UID", anew.uid != second.uid)?;
        self.hold(
            "a name made anew has a later revision",
            anew.revision > second.revision,
        )?;
        let reborn = Stamp {
            uid: second.uid,
            revision: anew.revision,
        };
        let update = self.store.update(&name, &reborn, Bytes::from_static(b"x")).await;
        self.hold(
            "an update under the UID of a former record is a conflict",
            update == Err(StoreError::Conflict),
        )?;
        let delete = self.store.delete(&name, &reborn).await;
        self.hold(
            "a removal under the UID of a former record is a conflict",
            delete == Err(StoreError::Conflict),
        )?;
        self.removed(&name, &anew).await
    }

    async fn races(&mut self) -> Checked {
        let name = self.name("race")?;
        let attempts: Vec<_> = (0..8_u8)
            .map(|i| self.store.create(&name, Bytes::from(vec![i])))
            .collect();
        let made: Vec<Stamp> = join_all(attempts)
            .await
            .into_iter()
            .filter_map(Result::ok)
            .collect();
        self.hold("of creations that race one succeeds", made.len() == 1)?;
        let Some(stamp) = made.into_iter().next() else {
            return Ok(());
        };
        let attempts: Vec<_> = (0..8_u8)
            .map(|i| self.store.update(&name, &stamp, Bytes::from(vec![i])))
            .collect();
        let won: Vec<Stamp> = join_all(attempts)
            .await
            .into_iter()
            .filter_map(Result::ok)
            .collect();
        self.hold("of updates that race one succeeds", won.len() == 1)?;
        let Some(stamp) = won.into_iter().next() else {
            return Ok(());
        };
        self.removed(&name, &stamp).await
    }

    async fn sizes(&mut self) -> Checked {
        let name = self.name("size")?;
        let huge = self
            .store
            .create(&name, Bytes::from(vec![0_u8; 4 * MAX_ENVELOPE]))
            .await;
        self.hold(
            "an envelope of four times the limit is too large",
            huge == Err(StoreError::TooLarge),
        )?;
        let full = Bytes::from(vec![0x5a_u8; MAX_ENVELOPE]);
        let stamp = expect(
            "an envelope at the limit can be made",
            self.store.create(&name, full.clone()).await,
        )?;
        let found = self.read(&name).await?;
        self.hold(
            "an envelope at the limit reads back",
            found.is_some_and(|r| r.envelope == full),
        )?;
        self.removed(&name, &stamp).await
    }

    async fn list(&mut self) -> Checked {
        let mut expected = Vec::new();
        for i in 0..30 {
            let name = self.name(&format!("list-{i:02}"))?;
            expected.push((name.clone(), self.made(&name, b"listed").await?));
        }
        let (records, revision) = expect("records can be listed", self.store.list().await)?;
        let mut found: Vec<_> = records
            .into_iter()
            .filter(|r| self.is_ours(&r.name))
            .map(|r| (r.name, r.stamp))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        self.hold("a list has every record once", found == expected)?;
        let newest = expected.iter().map(|(_, stamp)| stamp.revision).max();
        self.hold(
            "a list's revision covers all that it holds",
            Some(revision) >= newest,
        )?;
        for (name, stamp) in &expected {
            self.removed(name, stamp).await?;
        }
        let (records, _) = expect("records can be listed", self.store.list().await)?;
        self.hold(
            "a list has no removed record",
            !records.iter().any(|r| self.is_ours(&r.name)),
        )
    }

    async fn watch(&mut self) -> Checked {
        let name = self.name("watch")?;
        let before = self.made(&name, b"before").await?;
        let (_, from) = expect("records can be listed", self.store.list().await)?;
        let second = self
            .store
            .update(&name, &before, Bytes::from_static(b"second"))
            .await;
        let second = expect("a record can be updated under its stamp", second)?;
        let mut events = self.store.watch(from);
        let put = Record {
            name: name.clone(),
            stamp: second.clone(),
            envelope: Bytes::from_static(b"second"),
        };
        let event = self.next_of_ours(&mut events).await?;
        self.hold(
            "a watch begins right after its revision",
            event == StoreEvent::Put(put),
        )?;
        self.removed(&name, &second).await?;
        let anew = self.made(&name, b"anew").await?;
        let gone = self.next_of_ours(&mut events).await?;
        let told = matches!(&gone, StoreEvent::Deleted { name: n, stamp }
            if *n == name && stamp.uid == second.uid && stamp.revision > second.revision);
        self.hold("a watch tells of a removal under its own revision", told)?;
        let put = Record {
            name: name.clone(),
            stamp: anew.clone(),
            envelope: Bytes::from_static(b"anew"),
        };
        let event = self.next_of_ours(&mut events).await?;
        self.hold(
            "a watch tells each change once, in order, while it runs",
            event == StoreEvent::Put(put),
        )?;
        let mut later = self.store.watch(gone.revision());
        let event = self.next_of_ours(&mut later).await?;
        self.hold(
            "a watch can go on from the revision of a removal",
            event.revision() == anew.revision,
        )?;
        self.removed(&name, &anew).await
    }

    fn is_ours(&self, name: &RecordName) -> bool {
        name.as_str()
            .strip_prefix(self.prefix)
            .is_some_and(|rest| rest.starts_with('-'))
    }

    async fn next_of_ours(
        &self,
        events: &mut BoxStream<'static, Result<StoreEvent, StoreError>>,
    ) -> Result<StoreEvent, Violation> {
        const RULE: &str = "a watch tells of every change";
        loop {
            let event = events.next().await.ok_or(Violation {
                rule: RULE,
                error: None,
            })?;
            match expect(RULE, event)? {
                StoreEvent::Bookmark(_) => {}
                StoreEvent::Put(record) if !self.is_ours(&record.name) => {}
                StoreEvent::Deleted { name, .. } if !self.is_ours(&name) => {}
                event => return Ok(event),
            }
        }
    }
}

fn expect<T>(rule: &'static str, answer: Result<T, StoreError>) -> Result<T, Violation> {
    answer.map_err(|error| Violation {
        rule,
        error: Some(error),
    })
}
