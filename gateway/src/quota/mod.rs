//! How much a client may ask for in a minute: one budget per address without a key, one per key with
//! a limit, shared by all instances through leases.

mod address;
mod headers;
mod lease;
mod lessor;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::request::Parts;
use fred::prelude::Client as RedisClient;
use quick_cache::sync::Cache;
use uuid::Uuid;

pub use self::address::Networks;
use self::address::Place;
use self::lease::{Lease, Standing, Take};
use self::lessor::Lessor;
use crate::auth::{Caller, Identity};
use crate::config::QuotaConfig;
use crate::metrics::GatewayMetrics;
use crate::redis::Impatient;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Unit {
    Requests,
    /// A batch of n counts n; whatever brings no events counts one.
    Events,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Events => "events",
        }
    }
}

/// Whose budget a request goes against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payer {
    Address,
    Key,
}

impl Payer {
    /// The name of its policy, and the label in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "ip",
            Self::Key => "key",
        }
    }
}

/// One budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Place(Place),
    Key(Uuid),
}

impl Subject {
    fn payer(self) -> Payer {
        match self {
            Self::Place(_) => Payer::Address,
            Self::Key(_) => Payer::Key,
        }
    }

    fn redis_key(self) -> String {
        match self {
            Self::Place(Place::V4(address)) => format!("tm:quota:ip:{address}"),
            Self::Place(Place::V6(upper)) => {
                let network = Ipv6Addr::from_bits(u128::from(upper) << 64);
                format!("tm:quota:ip:{network}/64")
            }
            Self::Key(id) => format!("tm:quota:key:{}", id.simple()),
        }
    }
}

/// A request's account: made before its handler runs, read when its answer is ready.
#[derive(Debug, Clone)]
pub struct Meter(Arc<Account>);

#[derive(Debug)]
struct Account {
    client: IpAddr,
    bill: Mutex<Bill>,
}

#[derive(Debug, Clone, Copy)]
enum Bill {
    /// Nobody has said yet who pays.
    Open,
    /// There is no limit.
    Free,
    /// This budget pays once it is known how many units.
    Due(Subject, u32),
    Charged(Limited),
}

impl Meter {
    /// Of the request with this head; there is none where there are no limits.
    pub fn of(head: &Parts) -> Option<&Self> {
        head.extensions.get()
    }

    /// The client's address: the peer's, or what a trusted proxy says it is.
    pub fn client(&self) -> IpAddr {
        self.0.client
    }

    /// Tells the client how it stands.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        if let Bill::Charged(limited) = *self.bill() {
            headers::write(&limited, headers);
        }
    }

    fn bill(&self) -> MutexGuard<'_, Bill> {
        self.0.bill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A budget and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    payer: Payer,
    unit: Unit,
    standing: Standing,
}

impl Limited {
    fn resets_in_seconds(&self) -> u64 {
        self.standing.resets_in.as_millis().div_ceil(1_000) as u64
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaError {
    /// In a while there is room again.
    Exhausted(Limited),
    /// There never will be.
    Unaffordable { units: u32, budget: u32 },
}

impl QuotaError {
    /// Whole seconds until a new window begins; at least one.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Exhausted(limited) => Some(limited.resets_in_seconds().max(1)),
            Self::Unaffordable { .. } => None,
        }
    }
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limited = match self {
            Self::Exhausted(limited) => limited,
            Self::Unaffordable { units, budget } => {
                return write!(
                    f,
                    "the batch has {units} events, more than the {budget} a minute that are \
                     allowed here; send batches of {budget} at most"
                );
            }
        };
        let (budget, unit) = (limited.standing.budget, limited.unit.name());
        let seconds = limited.resets_in_seconds().max(1);
        match limited.payer {
            Payer::Address => write!(
                f,
                "without an API key {budget} {unit} a minute are taken from one address, and too \
                 few of them are left; send an API key, or the same again in {seconds} s"
            ),
            Payer::Key => write!(
                f,
                "this API key may send {budget} {unit} a minute, and too few of them are left; \
                 send the same again in {seconds} s"
            ),
        }
    }
}

impl std::error::Error for QuotaError {}

/// All budgets, as far as this instance knows them.
pub struct Quotas {
    per_address: u32,
    unit: Unit,
    proxies: Networks,
    buckets: Cache<Subject, Arc<Bucket>>,
    lessor: Lessor,
    metrics: GatewayMetrics,
}

struct Bucket {
    lease: Mutex<Lease>,
    /// One asks, the others wait for the same answer.
    asking: tokio::sync::Mutex<()>,
}

impl Quotas {
    pub fn new(config: &QuotaConfig, redis: RedisClient, metrics: &GatewayMetrics) -> Self {
        let clients_max = config.rate_limit_clients_max;
        let patience = Duration::from_millis(config.rate_limit_redis_ms_max);
        let leases = metrics.quota_leases_total.clone();
        Self {
            per_address: config.rate_limit_ip_per_min,
            unit: config.rate_limit_unit,
            proxies: config.trusted_proxies.clone(),
            buckets: Cache::new(clients_max),
            lessor: Lessor::new(Impatient::new(redis, patience), clients_max, leases),
            metrics: metrics.clone(),
        }
    }

    /// The account of a request from this peer.
    pub fn meter(&self, peer: SocketAddr, headers: &HeaderMap) -> Meter {
        let client = address::of_client(peer, headers, &self.proxies);
        Meter(Arc::new(Account { client, bill: Mutex::new(Bill::Open) }))
    }

    /// Charges one request, to the key or else to the address it comes from.
    pub async fn charge(&self, meter: &Meter, caller: &Caller) -> Result<(), QuotaError> {
        *meter.bill() = self.budget_of(meter, Some(caller));
        self.charge_due(meter, 1).await
    }

    /// Charges a request that brings events: by requests at once, by events not before it is known
    /// how many they are, but when nothing is left it is refused at once.
    pub async fn charge_bringer(&self, meter: &Meter, caller: &Caller) -> Result<(), QuotaError> {
        if self.unit == Unit::Requests {
            return self.charge(meter, caller).await;
        }
        let bill = self.budget_of(meter, Some(caller));
        *meter.bill() = bill;
        if self.is_exhausted(bill) { self.charge_due(meter, 1).await } else { Ok(()) }
    }

    /// Refuses a stranger's request whose address has nothing left; otherwise nobody is charged yet.
    pub async fn refuse_exhausted(&self, meter: &Meter) -> Result<(), QuotaError> {
        let bill = self.budget_of(meter, None);
        if !self.is_exhausted(bill) {
            return Ok(());
        }
        *meter.bill() = bill;
        self.charge_due(meter, 1).await
    }

    fn is_exhausted(&self, bill: Bill) -> bool {
        let Bill::Due(subject, budget) = bill else { return false };
        self.bucket(subject).lease().is_exhausted(Instant::now(), budget)
    }

    /// Charges for all events of a request or refuses it as a whole.
    pub async fn charge_events(&self, meter: &Meter, events: usize) -> Result<(), QuotaError> {
        let units = u32::try_from(events).unwrap_or(u32::MAX).max(1);
        let bill = *meter.bill();
        match bill {
            Bill::Due(_, budget) if units > budget => {
                Err(QuotaError::Unaffordable { units, budget })
            }
            _ => self.charge_due(meter, units).await,
        }
    }

    /// Charges a request that nobody has charged; a stranger's to the address it comes from.
    pub async fn charge_rest(&self, meter: &Meter, is_stranger: bool) -> Result<(), QuotaError> {
        let bill = *meter.bill();
        match bill {
            Bill::Open if is_stranger => {
                *meter.bill() = self.budget_of(meter, None);
                self.charge_due(meter, 1).await
            }
            Bill::Due(..) => {
                // It is answered already: the next one is refused.
                let _answered = self.charge_due(meter, 1).await;
                Ok(())
            }
            Bill::Open | Bill::Free | Bill::Charged(_) => Ok(()),
        }
    }

    fn budget_of(&self, meter: &Meter, caller: Option<&Caller>) -> Bill {
        let (subject, limit) = match caller.map(|caller| (caller.identity, caller.limit_per_min)) {
            Some((Identity::Key(id), limit)) => (Subject::Key(id), limit.unwrap_or(0)),
            _ => (Subject::Place(meter.client().into()), self.per_address),
        };
        if limit == 0 { Bill::Free } else { Bill::Due(subject, limit) }
    }

    async fn charge_due(&self, meter: &Meter, units: u32) -> Result<(), QuotaError> {
        let bill = *meter.bill();
        let Bill::Due(subject, budget) = bill else { return Ok(()) };
        // Apart: most requests have no limit, and their future should not carry this one.
        let taken = Box::pin(self.take(subject, budget, units)).await;
        let (Ok(standing) | Err(standing)) = taken;
        let limited = Limited { payer: subject.payer(), unit: self.unit, standing };
        *meter.bill() = Bill::Charged(limited);
        taken.map(drop).map_err(|_refused| self.exhausted(limited))
    }

    fn exhausted(&self, limited: Limited) -> QuotaError {
        self.metrics.requests_limited_total.with_label_values(&[limited.payer.name()]).inc();
        QuotaError::Exhausted(limited)
    }

    /// All of the units or none.
    async fn take(&self, subject: Subject, budget: u32, units: u32) -> Result<Standing, Standing> {
        let bucket = self.bucket(subject);
        let mut turn = None;
        loop {
            let request = match bucket.lease().take(Instant::now(), budget, units) {
                Take::Taken(standing) => return Ok(standing),
                Take::Refused(standing) => return Err(standing),
                Take::Ask(request) => request,
            };
            if turn.is_none() {
                // Whoever had the turn before may have brought enough for us too.
                turn = Some(bucket.asking.lock().await);
                continue;
            }
            let asked_at = Instant::now();
            let grant = self.lessor.lease(subject, request).await;
            let mut lease = bucket.lease();
            match grant {
                Some(grant) => lease.enter(asked_at, grant),
                None => lease.enter_unasked(asked_at, request),
            }
        }
    }

    fn bucket(&self, subject: Subject) -> Arc<Bucket> {
        let new = || {
            let lease = Mutex::new(Lease::new(Instant::now()));
            Ok::<_, std::convert::Infallible>(Arc::new(Bucket {
                lease,
                asking: Default::default(),
            }))
        };
        let Ok(bucket) = self.buckets.get_or_insert_with(&subject, new);
        bucket
    }
}

impl Bucket {
    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cli, Command};
    use clap::Parser;
    use prometheus::Registry;

    /// Without Redis.
    fn quotas(settings: &[&str]) -> Quotas {
        let cli = Cli::try_parse_from([&["gateway", "run"], settings].concat()).unwrap();
        let Command::Run(config) = &cli.command else { unreachable!("`run` was given") };
        let redis = common::redis::client(&cli.redis).unwrap();
        Quotas::new(&config.quota, redis, &GatewayMetrics::register(&Registry::new()).unwrap())
    }

    #[tokio::test]
    async fn a_flood_of_addresses_is_forgotten_again() {
        let quotas = quotas(&["--rate-limit-clients-max", "100", "--rate-limit-ip-per-min", "1"]);
        let meter = |address: u32| {
            let peer = SocketAddr::new(IpAddr::V4(address.into()), 1);
            quotas.meter(peer, &HeaderMap::new())
        };
        for address in 0..10_000 {
            assert_eq!(quotas.charge_rest(&meter(address), true).await, Ok(()));
        }
        assert!(quotas.buckets.len() <= 100, "{}", quotas.buckets.len());
        assert!(quotas.charge_rest(&meter(9_999), true).await.is_err());
    }
}
