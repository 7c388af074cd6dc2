//! Spreads calls over the replicas of a service.
//!
//! Names are looked up again and again, so replicas may come and go. Each replica is watched by the health service of
//! gRPC (`grpc.health.v1`): one that dies, drains or has lost its database gets no new calls, as long as there is
//! another. Of those left the less busy of two drawn at random is taken.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::CONNECTION_WINDOW;
use super::upstream::{Place, Upstream};
use crate::Tasks;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A replica that does not answer a ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How often names are looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(5);
/// A replica that does not serve and that no name stands for is forgotten after this, while names cannot be looked up.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// Pause before a replica that did not answer is asked again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The replicas of one service.
#[derive(Debug)]
pub(super) struct Balancer {
    replicas: Arc<Replicas>,
    /// Ends the watching when the last channel goes.
    _watching: DropGuard,
}

#[derive(Debug, Default)]
struct Replicas {
    all: RwLock<Arc<[Arc<Replica>]>>,
}

/// One replica.
#[derive(Debug)]
pub(super) struct Replica {
    channel: Channel,
    serves: AtomicBool,
    busy: AtomicUsize,
    /// Ends the watching when the replica is not listed any more.
    _watching: Option<DropGuard>,
}

/// A call on its way to a replica.
#[derive(Debug)]
pub(super) struct Call(Arc<Replica>);

impl Call {
    pub(super) fn channel(&self) -> Channel {
        self.0.channel.clone()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Balancer {
    /// For a single fixed address: there is nothing to choose from, so nothing is watched.
    pub(super) fn of_one(upstream: &Upstream) -> Self {
        let replicas = Arc::new(Replicas::default());
        let fixed = upstream.places().iter().take(1);
        let one = fixed
            .filter_map(|place| replica(upstream, place, place.address()?, None))
            .collect();
        replicas.set(one);
        Self {
            replicas,
            _watching: CancellationToken::new().drop_guard(),
        }
    }

    pub(super) fn start(upstream: &Upstream, tasks: &Tasks) -> Self {
        let is_fixed = |place: &Place| place.address().is_some();
        if upstream.places().len() <= 1 && upstream.places().iter().all(is_fixed) {
            return Self::of_one(upstream);
        }
        let replicas = Arc::new(Replicas::default());
        let watching = tasks.token().child_token();
        let finder = Finder {
            upstream: upstream.clone(),
            replicas: Arc::clone(&replicas),
            tasks: tasks.clone(),
            token: watching.clone(),
            found: HashMap::new(),
        };
        let token = watching.clone();
        tasks.spawn("grpc-replicas", async move {
            token.run_until_cancelled_owned(finder.run()).await;
        });
        Self {
            replicas,
            _watching: watching.drop_guard(),
        }
    }

    /// The replica for a call; `None` while none is known.
    pub(super) fn pick(&self) -> Option<Call> {
        let all = self.replicas.get();
        let serving: Vec<&Arc<Replica>> = all
            .iter()
            .filter(|replica| replica.serves.load(Ordering::Relaxed))
            .collect();
        // Where nobody says that he serves, somebody may do it all the same.
        let choice: Vec<&Arc<Replica>> = if serving.is_empty() {
            all.iter().collect()
        } else {
            serving
        };
        let first = rand::random_range(0..choice.len().max(1));
        // Two different ones, where there are two.
        let second = match choice.len() {
            0 | 1 => first,
            count => (first + rand::random_range(1..count)) % count,
        };
        let (one, other) = (choice.get(first)?, choice.get(second)?);
        let chosen = if other.busy.load(Ordering::Relaxed) < one.busy.load(Ordering::Relaxed) {
            other
        } else {
            one
        };
        chosen.busy.fetch_add(1, Ordering::Relaxed);
        Some(Call(Arc::clone(chosen)))
    }
}

impl Replicas {
    fn get(&self) -> Arc<[Arc<Replica>]> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, replicas: Vec<Arc<Replica>>) {
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = replicas.into();
    }
}

impl Place {
    /// The address, where it is one and no name.
    fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

/// Keeps the list of replicas.
struct Finder {
    upstream: Upstream,
    replicas: Arc<Replicas>,
    tasks: Tasks,
    token: CancellationToken,
    found: HashMap<SocketAddr, Found>,
}

/// A replica and when a name last stood for its address.
struct Found {
    replica: Arc<Replica>,
    named: Instant,
}

impl Finder {
    async fn run(mut self) {
        loop {
            let (now, complete) = self.look_up().await;
            for (place, address) in now {
                self.add(&place, address);
            }
            // A name server that is away must not cost us replicas that serve, nor leave us with those long gone.
            let is_current = |one: &Found| {
                one.named.elapsed()
                    < if complete {
                        LOOK_UP_EVERY
                    } else {
                        FORGET_AFTER
                    }
                    || (!complete && one.replica.serves.load(Ordering::Relaxed))
            };
            self.found.retain(|_, one| is_current(one));
            let known = self.found.values();
            self.replicas
                .set(known.map(|one| Arc::clone(&one.replica)).collect());
            tokio::time::sleep(LOOK_UP_EVERY).await;
        }
    }

    /// The addresses that names stand for, and whether every name was answered.
    async fn look_up(&self) -> (Vec<(Place, SocketAddr)>, bool) {
        let (mut found, mut complete) = (Vec::new(), true);
        for place in self.upstream.places() {
            let looked_up = tokio::net::lookup_host((place.host.as_str(), place.port));
            match tokio::time::timeout(LOOK_UP_PATIENCE, looked_up).await {
                Ok(Ok(addresses)) => {
                    found.extend(addresses.map(|address| (place.clone(), address)));
                }
                outcome => {
                    complete = false;
                    let error = outcome.err().map(|_| "no answer in time");
                    tracing::debug!(host = place.host, error, "a name cannot be looked up");
                }
            }
        }
        (found, complete)
    }

    fn add(&mut self, place: &Place, address: SocketAddr) {
        if let Some(known) = self.found.get_mut(&address) {
            known.named = Instant::now();
            return;
        }
        let token = self.token.child_token();
        let Some(one) = replica(
            &self.upstream,
            place,
            address,
            Some(token.clone().drop_guard()),
        ) else {
            return;
        };
        let watched = Arc::downgrade(&one);
        let channel = one.channel.clone();
        self.tasks.spawn("grpc-replica-health", async move {
            let tell = move |serves: bool| {
                if let Some(replica) = watched.upgrade()
                    && replica.serves.swap(serves, Ordering::Relaxed) != serves
                {
                    tracing::debug!(%address, serves, "a replica changed its state");
                }
            };
            token.run_until_cancelled_owned(watch(channel, tell)).await;
        });
        let named = Instant::now();
        self.found.insert(
            address,
            Found {
                replica: one,
                named,
            },
        );
    }
}

/// Tells whether a replica serves, from its own mouth.
async fn watch(channel: Channel, tell: impl Fn(bool)) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let asked = HealthClient::new(channel.clone())
            .watch(HealthCheckRequest::default())
            .await;
        if let Ok(answers) = asked {
            let mut answers = answers.into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                pause = SHORTEST_PAUSE;
                tell(answer.status() == ServingStatus::Serving);
            }
        }
        tell(false);
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn replica(
    upstream: &Upstream,
    place: &Place,
    address: SocketAddr,
    watching: Option<DropGuard>,
) -> Option<Arc<Replica>> {
    let uri = |authority: String| {
        Uri::builder()
            .scheme(place.scheme.clone())
            .authority(authority)
            .path_and_query("/")
            .build()
    };
    let mut endpoint = Endpoint::from(uri(address.to_string()).ok()?)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    if let Some(tls) = upstream.tls() {
        // The certificate bears the name under which the service is known, not the address of the replica.
        endpoint = match endpoint.tls_config(tls.client(&place.host)) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::error!(%error, "TLS between services cannot be used");
                return None;
            }
        };
    }
    Some(Arc::new(Replica {
        channel: endpoint.connect_lazy(),
        serves: AtomicBool::new(watching.is_none()),
        busy: AtomicUsize::new(0),
        _watching: watching,
    }))
}
