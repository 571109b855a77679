//! How often somebody may try, because each try is a login at the provider, which locks mailboxes
//! and slows down whole networks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use pecsync::config::HostLimits;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Of an address from one network: as many at once, then one each so long.
const PAIR_TRIES: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
const PAIR_EACH: Duration = Duration::from_secs(5 * 60);
/// Of an address from anywhere: so much more that the networks of a stranger, each of which is held
/// back by the pair's, leave its owner's something; few enough that the provider locks nobody out.
const ADDRESS_TRIES: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
const ADDRESS_EACH: Duration = Duration::from_secs(60);
/// Per network: an office may enroll many mailboxes in an hour.
const NETWORK_TRIES: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
const NETWORK_EACH: Duration = Duration::from_secs(20);
/// Of a network: visits that begin. Twice as many as tries, since some are given up.
const ARRIVALS: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
const ARRIVAL_EACH: Duration = Duration::from_secs(10);
/// Over all networks the provider's logins a second are kept, with as much patience.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections to providers at once.
const CONNECTIONS_MAX: usize = 16;
/// Connections of a network to the page at once: what an office needs, and a small part of all.
const NETWORK_CONNECTIONS_MAX: usize = 64;

pub struct Limits {
    pairs: DefaultKeyedRateLimiter<(String, IpAddr)>,
    addresses: DefaultKeyedRateLimiter<String>,
    networks: DefaultKeyedRateLimiter<IpAddr>,
    logins: DefaultDirectRateLimiter,
    connections: Semaphore,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// This address or network has tried too often.
    TooOften,
    /// Too many others are trying now.
    TooMany,
}

impl Limits {
    pub fn new(host: &HostLimits) -> Limits {
        let each = Duration::from_secs_f64(1.0 / host.logins_per_second);
        Limits {
            pairs: RateLimiter::keyed(quota(PAIR_EACH, PAIR_TRIES)),
            addresses: RateLimiter::keyed(quota(ADDRESS_EACH, ADDRESS_TRIES)),
            networks: RateLimiter::keyed(quota(NETWORK_EACH, NETWORK_TRIES)),
            logins: RateLimiter::direct(quota(each, NonZeroU32::MIN)),
            connections: Semaphore::new(CONNECTIONS_MAX),
        }
    }

    /// Leave to try a password of that address once. The try counts whatever comes of it.
    pub async fn may_try(
        &self,
        address: &str,
        client: IpAddr,
    ) -> Result<SemaphorePermit<'_>, Refused> {
        let network = network(client);
        // The address comes last: who is over a limit of their own uses up nothing of others.
        if self.networks.check_key(&network).is_err()
            || self.pairs.check_key(&(address.to_owned(), network)).is_err()
            || self.addresses.check_key(&address.to_owned()).is_err()
        {
            return Err(Refused::TooOften);
        }
        let turn = async {
            let permit = self.connections.acquire().await.ok()?;
            self.logins.until_ready().await;
            Some(permit)
        };
        timeout(PATIENCE, turn).await.ok().flatten().ok_or(Refused::TooMany)
    }

    /// Forgets who has not come for a while.
    pub fn forget(&self) {
        self.pairs.retain_recent();
        self.pairs.shrink_to_fit();
        self.addresses.retain_recent();
        self.addresses.shrink_to_fit();
        self.networks.retain_recent();
        self.networks.shrink_to_fit();
    }
}

/// How often a network may begin a visit: each is kept in memory, and so is its captcha.
pub struct Arrivals(DefaultKeyedRateLimiter<IpAddr>);

impl Arrivals {
    pub fn new() -> Arrivals {
        Arrivals(RateLimiter::keyed(quota(ARRIVAL_EACH, ARRIVALS)))
    }

    /// The arrival counts whatever comes of it.
    pub fn may_begin(&self, client: IpAddr) -> Result<(), Refused> {
        self.0.check_key(&network(client)).map_err(|_| Refused::TooOften)
    }

    /// Forgets who has not come for a while.
    pub fn forget(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

/// How many connections a network has, where nobody stands before the page: one that takes all there
/// are would leave none to others.
pub struct Crowds {
    counts: Mutex<HashMap<IpAddr, usize>>,
    /// They come for everybody.
    proxies: Vec<IpAddr>,
}

/// One connection's, until it is dropped.
pub struct InCrowd(Arc<Crowds>, IpAddr);

impl Crowds {
    pub fn new(proxies: &[IpAddr]) -> Crowds {
        Crowds { counts: Mutex::default(), proxies: proxies.to_vec() }
    }

    /// `None` where the network has as many as it may.
    pub fn enter(self: &Arc<Crowds>, client: IpAddr) -> Option<InCrowd> {
        let network = network(client);
        let mut counts = self.counts.lock().expect("no panic while held");
        let count = counts.entry(network).or_default();
        let is_full = *count >= NETWORK_CONNECTIONS_MAX;
        if is_full && !self.proxies.contains(&client.to_canonical()) {
            return None;
        }
        *count += 1;
        Some(InCrowd(self.clone(), network))
    }
}

impl Drop for InCrowd {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock().expect("no panic while held");
        let Some(count) = counts.get_mut(&self.1) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.1);
        }
    }
}

fn quota(each: Duration, burst: NonZeroU32) -> Quota {
    Quota::with_period(each).expect("not zero").allow_burst(burst)
}

/// What one client can change its address within: an IPv4 /24, an IPv6 /48.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from(u32::from(address) & !0xff)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & (!0 << 80))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostLimits =
        HostLimits { logins_per_second: 10_000.0, connections: 1, sweeps_per_second: 1.0 };

    #[test]
    fn networks() {
        let check = |client: &str, expected: &str| {
            assert_eq!(network(client.parse().unwrap()), expected.parse::<IpAddr>().unwrap());
        };
        check("192.0.2.77", "192.0.2.0");
        check("::ffff:192.0.2.77", "192.0.2.0");
        check("2001:db8:1:2:3::4", "2001:db8:1::");
    }

    fn client(network: u8, last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, network, last))
    }

    #[tokio::test]
    async fn an_address_and_a_network_have_their_tries() {
        let limits = Limits::new(&HOST);
        for try_ in 0..PAIR_TRIES.get() {
            assert!(limits.may_try("a@x.it", client(2, try_ as u8)).await.is_ok());
        }
        let too_often = Some(Refused::TooOften);
        assert_eq!(limits.may_try("a@x.it", client(2, 1)).await.err(), too_often);
        for try_ in PAIR_TRIES.get() + 1..NETWORK_TRIES.get() {
            let address = format!("{try_}@x.it");
            assert!(limits.may_try(&address, client(2, try_ as u8)).await.is_ok());
        }
        assert_eq!(limits.may_try("b@x.it", client(2, 200)).await.err(), too_often);
        assert!(limits.may_try("b@x.it", client(3, 1)).await.is_ok());
    }

    #[test]
    fn a_network_begins_so_many_visits_and_others_none_the_fewer() {
        let arrivals = Arrivals::new();
        let from = |network| {
            let begun = (0..=255).filter(|last| arrivals.may_begin(client(network, *last)).is_ok());
            begun.count()
        };
        let burst = ARRIVALS.get() as usize;
        assert!((burst..256).contains(&from(2)));
        assert!((burst..256).contains(&from(3)));
    }

    #[test]
    fn a_network_has_so_many_connections_and_others_theirs() {
        let proxy = client(9, 1);
        let crowds = Arc::new(Crowds::new(&[proxy]));
        let enters = |network| crowds.enter(client(network, 7));
        let mut inside: Vec<_> = (0..NETWORK_CONNECTIONS_MAX).map(|_| enters(2).unwrap()).collect();
        assert!(enters(2).is_none() && crowds.enter(client(2, 200)).is_none());
        assert!(enters(3).is_some());
        inside.pop();
        inside.push(enters(2).unwrap());
        assert!(enters(2).is_none());
        let many: Vec<_> = (0..=NETWORK_CONNECTIONS_MAX).map(|_| crowds.enter(proxy)).collect();
        assert!(many.iter().all(Option::is_some));
        drop((inside, many));
        assert!(crowds.counts.lock().unwrap().is_empty(), "who has gone is forgotten");
    }

    #[tokio::test]
    async fn strangers_do_not_use_up_an_owners_tries() {
        let limits = Limits::new(&HOST);
        // Three networks, and each as often as it may and more.
        for network in 10..13 {
            for try_ in 0..NETWORK_TRIES.get() + 9 {
                let _ = limits.may_try("a@x.it", client(network, try_ as u8)).await;
            }
        }
        for _ in 0..PAIR_TRIES.get() {
            assert!(limits.may_try("a@x.it", client(1, 1)).await.is_ok());
        }
        // From however many networks: the provider locks mailboxes that are tried too often.
        let mut tried = 0;
        for network in 20..40 {
            tried += u32::from(limits.may_try("a@x.it", client(network, 1)).await.is_ok());
        }
        assert!(tried < 20, "{tried}");
    }
}
