//! What a listener allows its clients. One slow or hostile client never holds up another.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The limits of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections, in all.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_address: usize,
    /// Connections of one address that have not finished their TLS handshake.
    pub handshakes_per_address: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take, from its first byte.
    pub head: Duration,
    /// How long a request's body may take, in all.
    pub body: Duration,
    /// How long the gate may take, where the store behind it does not answer.
    pub answer: Duration,
    /// How long an answer is held back that says that somebody asks for too much: whoever asks anew at once, without waiting
    /// as told, asks that much less often.
    pub throttled: Duration,
    /// How long the client may leave an answer unread.
    pub unread: Duration,
    /// After how long a connection is cut that has requests under way and sees none of them end; none where they are meant to
    /// stay open.
    pub stuck: Option<Duration>,
    /// How long a connection may be idle on which nobody proved who they are.
    pub idle_unknown: Duration,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// Requests of one HTTP/2 connection at once.
    pub streams: u32,
    /// After this long, with up to half as much again at random, a connection is asked to go; none means never. Spreads
    /// long-lived connections over the replicas.
    pub age: Option<Duration>,
    /// How long requests under way have when the process ends.
    pub drain: Duration,
}

impl Limits {
    /// What the vaults' listener allows.
    #[must_use]
    pub const fn vaults() -> Self {
        Self {
            connections: 4_096,
            connections_per_address: 1_024,
            handshakes_per_address: 256,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            // Clients give up sooner or later, most not before 15 s.
            answer: Duration::from_secs(12),
            throttled: Duration::from_millis(250),
            unread: Duration::from_secs(30),
            stuck: Some(Duration::from_secs(90)),
            idle_unknown: Duration::from_secs(15),
            idle: Duration::from_secs(180),
            streams: 100,
            age: None,
            drain: Duration::from_secs(10),
        }
    }

    /// What the internal listener allows: one connection a node, a stream a mount.
    #[must_use]
    pub const fn internal() -> Self {
        Self {
            streams: 4_096,
            age: Some(Duration::from_secs(30 * 60)),
            drain: Duration::from_secs(3),
            answer: Duration::from_secs(25),
            stuck: None,
            ..Self::vaults()
        }
    }
}

/// Most bytes of any buffer of a connection.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Most bytes of a request's head: a token has at most 16 KiB.
pub(super) const HEAD_BYTES: usize = 32 * 1024;
/// The same, for HTTP/2.
pub(super) const HEAD_BYTES_HTTP2: u32 = 32 * 1024;

/// Most bytes of a request's body: a value of 25 KiB fits however it is escaped.
pub(super) const BODY_BYTES: usize = 256 * 1024;

/// Most bytes of a body that brings a backup: the largest that is ever made, as base64, and its JSON.
pub(super) const BACKUP_BODY_BYTES: usize = 20 * 1024 * 1024;
/// How long such a body may take, in all. Only who may restore has it read.
pub(super) const BACKUP_BODY_TIME: Duration = Duration::from_mins(1);

/// Counts connections per address.
#[derive(Debug, Clone, Default)]
pub(super) struct Census(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place that one connection holds.
#[derive(Debug)]
pub(super) struct Place {
    census: Census,
    address: IpAddr,
}

impl Census {
    /// A place for one more of this address, if it has fewer than `most`.
    pub(super) fn enter(&self, address: IpAddr, most: usize) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place {
            census: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let census = Census::default();
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held: Vec<_> = (0..3).map(|_| census.enter(one, 3).unwrap()).collect();
        assert!(census.enter(one, 3).is_none());
        assert!(census.enter(two, 3).is_some());
        drop(held);
        assert!(census.enter(one, 3).is_some());
        assert!(census.0.lock().unwrap().is_empty());
    }
}
