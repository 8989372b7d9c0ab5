//! How much one address, one caller and one vault may ask for, and how much one caller may have under way.
//!
//! # Why
//! - An address has its share before any signature is looked at, so that a flood of bad tokens costs no mathematics.
//! - A caller has a share of his own, and a vault's share is spent by those alone who may do something there: nobody can
//!   use up what is another's.
//! - What one caller has under way holds places in the audit log and turns at an object. He may hold some, never all.
//! - All of it is a fixed number of atomics, whoever comes: no lock, no memory that strangers can make grow.
//!
//! Each replica counts for itself.

mod buckets;
mod drawn;
mod under_way;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::model::{OperationName, ServiceAccountCaller, VaultId};
use crate::telemetry::metrics::Throttle;

use buckets::Buckets;
use drawn::Seed;
use under_way::UnderWay;

pub(super) use drawn::Drawn;
pub(super) use under_way::Held;

/// Requests in ten seconds. Zero means as many as come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// From one address, before it is known who asks.
    pub address: u32,
    /// Of one service account.
    pub caller: u32,
    /// To one vault, but for those that make new versions.
    pub vault: u32,
    /// To one vault, those that make new versions.
    pub vault_creates: u32,
}

impl Rates {
    /// What nobody reaches who goes about his business, and a replica bears beside its other callers: a read costs it some
    /// 50 µs, and the store takes some hundreds of changes a second. Well above Azure Key Vault's limits of a vault ("Azure
    /// Key Vault service limits": 4,000 secret transactions in 10 s, 300 that create), so that whoever keeps those is never
    /// held up. An address may ask for twice what a caller may: several pods may share one where addresses are rewritten.
    pub const DEFAULT: Self = Self {
        address: 20_000,
        caller: 10_000,
        vault: 20_000,
        vault_creates: 1_000,
    };

    /// As many as come.
    pub const NONE: Self = Self {
        address: 0,
        caller: 0,
        vault: 0,
        vault_creates: 0,
    };
}

/// Places of each table: 128 KiB of buckets, 64 KiB of counts.
const PLACES: usize = 16_384;
/// What one caller may have under way at once, in all.
const REQUESTS_UNDER_WAY: u32 = 512;
/// And of changes, which go on when their client is gone.
const CHANGES_UNDER_WAY: u32 = 128;

/// Too much was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch {
    /// By which measure.
    pub(super) of: Throttle,
    /// When there may be room again.
    pub(super) wait: Duration,
}

/// Which listener a connection came to. They are counted apart, so that nobody at the vaults' door can use up what our own
/// processes need, where they share an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Vaults,
    Internal,
}

/// All that is counted.
#[derive(Debug)]
pub(super) struct Limits {
    seed: Seed,
    addresses: Buckets,
    internal_addresses: Buckets,
    callers: Buckets,
    vaults: Buckets,
    vault_creates: Buckets,
    requests: UnderWay,
    changes: UnderWay,
}

impl Limits {
    /// Nobody has asked for anything. `base` is any instant before the first question.
    pub(super) fn new(rates: Rates, base: Instant) -> Self {
        let buckets = |limit| Buckets::new(limit, PLACES, base);
        Self {
            seed: Seed::default(),
            addresses: buckets(rates.address),
            internal_addresses: buckets(rates.address),
            callers: buckets(rates.caller),
            vaults: buckets(rates.vault),
            vault_creates: buckets(rates.vault_creates),
            requests: UnderWay::new(REQUESTS_UNDER_WAY, PLACES),
            changes: UnderWay::new(CHANGES_UNDER_WAY, PLACES),
        }
    }

    /// Where an address is counted.
    pub(super) fn draw_address(&self, address: IpAddr) -> Drawn {
        self.seed.draw(&address.to_canonical())
    }

    /// Where a caller is counted.
    pub(super) fn draw_caller(&self, caller: &ServiceAccountCaller) -> Drawn {
        self.seed.draw(&caller.uid)
    }

    /// A request from an address.
    pub(super) fn address(&self, door: Door, address: Drawn, now: Instant) -> Result<(), TooMuch> {
        let buckets = match door {
            Door::Vaults => &self.addresses,
            Door::Internal => &self.internal_addresses,
        };
        let of = Throttle::Address;
        buckets.take(address, now).map_err(|wait| TooMuch { of, wait })
    }

    /// A request of a caller who proved who they are.
    pub(super) fn caller(&self, caller: Drawn, now: Instant) -> Result<(), TooMuch> {
        let of = Throttle::Caller;
        self.callers
            .take(caller, now)
            .map_err(|wait| TooMuch { of, wait })
    }

    /// A request to a vault that may be done.
    pub(super) fn vault(
        &self,
        vault: &VaultId,
        operation: OperationName,
        now: Instant,
    ) -> Result<(), TooMuch> {
        let (buckets, of) = if creates(operation) {
            (&self.vault_creates, Throttle::VaultCreates)
        } else {
            (&self.vaults, Throttle::Vault)
        };
        buckets
            .take(self.seed.draw(vault), now)
            .map_err(|wait| TooMuch { of, wait })
    }

    /// A request of a caller begins; it ends when what is handed back is dropped.
    pub(super) fn begin_request(&self, caller: Drawn) -> Result<Held, TooMuch> {
        self.requests.begin(caller).ok_or(UNDER_WAY)
    }

    /// And so a change.
    pub(super) fn begin_change(&self, caller: Drawn) -> Result<Held, TooMuch> {
        self.changes.begin(caller).ok_or(UNDER_WAY)
    }
}

const UNDER_WAY: TooMuch = TooMuch {
    of: Throttle::UnderWay,
    wait: Duration::from_secs(1),
};

/// Whether an operation makes a new version (Azure's class of transactions that create).
const fn creates(operation: OperationName) -> bool {
    match operation {
        OperationName::SecretSet | OperationName::SecretRestore => true,
        OperationName::Authentication
        | OperationName::SecretGet
        | OperationName::SecretUpdate
        | OperationName::SecretDelete
        | OperationName::SecretList
        | OperationName::SecretListVersions
        | OperationName::SecretListDeleted
        | OperationName::SecretGetDeleted
        | OperationName::SecretRecover
        | OperationName::SecretPurge
        | OperationName::SecretBackup
        | OperationName::VaultPut
        | OperationName::VaultDelete
        | OperationName::VaultPurge
        | OperationName::StoreAccept => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Namespace, Uid, UnixSeconds, VaultName};

    fn account(name: &str) -> ServiceAccountCaller {
        ServiceAccountCaller {
            namespace: Namespace::parse("shop").unwrap(),
            name: name.into(),
            uid: Uid::new(name),
            pod: None,
            expires: UnixSeconds(0),
            address: None,
        }
    }

    fn vault(name: &str) -> VaultId {
        VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse(name).unwrap(),
        }
    }

    const SMALL: Rates = Rates {
        address: 5,
        caller: 4,
        vault: 3,
        vault_creates: 2,
    };

    #[test]
    fn each_measure_is_its_own() {
        let now = Instant::now();
        let limits = Limits::new(SMALL, now);
        let address = limits.draw_address("10.0.0.7".parse().unwrap());
        assert_eq!(address, limits.draw_address("::ffff:10.0.0.7".parse().unwrap()));
        let caller = limits.draw_caller(&account("web"));
        let asked = |ask: &dyn Fn() -> Result<(), TooMuch>| {
            let through = (0..100).filter(|_| ask().is_ok()).count();
            (through, ask().unwrap_err().of)
        };
        assert_eq!(
            asked(&|| limits.address(Door::Vaults, address, now)),
            (5, Throttle::Address)
        );
        assert_eq!(
            asked(&|| limits.address(Door::Internal, address, now)),
            (5, Throttle::Address),
            "the doors are counted apart"
        );
        assert_eq!(asked(&|| limits.caller(caller, now)), (4, Throttle::Caller));
        let get = OperationName::SecretGet;
        let set = OperationName::SecretSet;
        assert_eq!(
            asked(&|| limits.vault(&vault("demo"), get, now)),
            (3, Throttle::Vault)
        );
        assert_eq!(
            asked(&|| limits.vault(&vault("demo"), set, now)),
            (2, Throttle::VaultCreates)
        );
        assert_eq!(limits.vault(&vault("other"), get, now), Ok(()));
        assert_eq!(limits.caller(limits.draw_caller(&account("db")), now), Ok(()));
    }

    /// Somebody's requests: how many, how far apart, from how many addresses in turn.
    struct Use {
        what: &'static str,
        door: Door,
        addresses: u32,
        requests: u32,
        apart: Duration,
        operation: OperationName,
    }

    #[test]
    fn nobody_is_held_up_who_goes_about_his_business() {
        use OperationName::{SecretGet, SecretSet};
        let asks = |what, addresses, requests, micros, operation| Use {
            what,
            door: Door::Vaults,
            addresses,
            requests,
            apart: Duration::from_micros(micros),
            operation,
        };
        let all = [
            asks(
                "an application that reads a secret for each of its requests",
                1,
                60_000,
                1_000,
                SecretGet,
            ),
            asks(
                "200 pods of one account that start at once, 40 secrets each",
                200,
                8_000,
                0,
                SecretGet,
            ),
            asks(
                "an operator that reads 5,000 secrets of a vault anew",
                1,
                5_000,
                200,
                SecretGet,
            ),
            asks("a pipeline that fills a vault", 1, 1_000, 500, SecretSet),
            asks("200 pods that write when they start", 200, 200, 0, SecretSet),
            Use {
                door: Door::Internal,
                ..asks(
                    "a node whose 300 pods mount ten volumes each at once",
                    1,
                    3_000,
                    0,
                    SecretGet,
                )
            },
        ];
        for Use {
            what,
            door,
            addresses,
            requests,
            apart,
            operation,
        } in all
        {
            let start = Instant::now();
            let limits = Limits::new(Rates::DEFAULT, start);
            let caller = limits.draw_caller(&account("web"));
            for number in 0..requests {
                let now = start + apart * number;
                let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number % addresses);
                let asked = limits.address(door, limits.draw_address(address.into()), now);
                assert_eq!(asked, Ok(()), "{what}: {number}");
                if door == Door::Vaults {
                    let asked = limits
                        .caller(caller, now)
                        .and_then(|()| limits.vault(&vault("demo"), operation, now));
                    assert_eq!(asked, Ok(()), "{what}: {number}");
                }
            }
        }
    }

    #[test]
    fn zero_switches_each_off() {
        let now = Instant::now();
        let limits = Limits::new(Rates::NONE, now);
        let address = limits.draw_address("10.0.0.7".parse().unwrap());
        let caller = limits.draw_caller(&account("web"));
        for _ in 0..10_000 {
            assert_eq!(limits.address(Door::Vaults, address, now), Ok(()));
            assert_eq!(limits.caller(caller, now), Ok(()));
            assert_eq!(
                limits.vault(&vault("demo"), OperationName::SecretSet, now),
                Ok(())
            );
        }
    }

    #[test]
    fn a_caller_has_so_much_under_way_and_fewer_changes() {
        let limits = Limits::new(Rates::NONE, Instant::now());
        let (web, db) = (
            limits.draw_caller(&account("web")),
            limits.draw_caller(&account("db")),
        );
        let requests: Vec<_> = std::iter::from_fn(|| limits.begin_request(web).ok())
            .take(1_000)
            .collect();
        let changes: Vec<_> = std::iter::from_fn(|| limits.begin_change(web).ok())
            .take(1_000)
            .collect();
        assert_eq!(
            (requests.len(), changes.len()),
            (REQUESTS_UNDER_WAY as usize, CHANGES_UNDER_WAY as usize)
        );
        assert_eq!(limits.begin_request(web).unwrap_err().of, Throttle::UnderWay);
        assert!(limits.begin_request(db).is_ok() && limits.begin_change(db).is_ok());
        drop((requests, changes));
        assert!(limits.begin_request(web).is_ok() && limits.begin_change(web).is_ok());
    }
}
