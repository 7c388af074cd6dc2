use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use platform::fanout::{Fanout, FanoutReceiver, Lagged, MemoryFanout, RedisFanout};
use platform::redis_client::{RedisClient, RedisConfig};
use platform::test_kit::tcp_proxy::{TcpProxy, authority};
use platform::test_kit::{DEADLINE, eventually, fanout_suite, redis_client, redis_config};
use platform::{Kind, Tasks};

use crate::redis_server::Server;

const MANY: usize = 10_000;

#[tokio::test]
async fn the_memory_fanout_keeps_every_promise() {
    let fanout = Arc::new(MemoryFanout::default());
    fanout_suite::run(fanout.clone(), fanout).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redis_fanout_keeps_every_promise() {
    let (Some(server), Some(config)) = (Server::connect().await, redis_config()) else {
        return;
    };
    let tasks = Tasks::new();
    let (here, there) = (
        connected(&config, &tasks).await,
        connected(&config, &tasks).await,
    );
    fanout_suite::run(here, there).await;
    eventually(DEADLINE, || async {
        server.channels(&config.prefix).await == 0
    })
    .await;
}

/// A fan-out as a process has it, with Redis there.
async fn connected(config: &RedisConfig, tasks: &Tasks) -> Arc<RedisFanout> {
    let client = redis_client(config, tasks).await;
    let fanout = Arc::new(RedisFanout::start(client, tasks));
    eventually(DEADLINE, || async { fanout.is_connected() }).await;
    fanout
}

async fn next(receiver: &mut FanoutReceiver) -> Result<Bytes, Lagged> {
    tokio::time::timeout(DEADLINE, receiver.recv())
        .await
        .unwrap()
}

/// A fan-out behind a proxy, and another one that is not.
struct Scene {
    proxy: TcpProxy,
    config: RedisConfig,
    there: Arc<RedisFanout>,
    server: Server,
    tasks: Tasks,
}

impl Scene {
    async fn new() -> Option<Self> {
        let (server, config) = (Server::connect().await?, redis_config()?);
        let tasks = Tasks::new();
        let there = connected(&config, &tasks).await;
        let proxy = TcpProxy::start(authority(&config.url), &tasks).await;
        let config = RedisConfig {
            url: proxy.url(&config.url),
            timeout_ms: 1_000,
            ..config
        };
        Some(Self {
            proxy,
            config,
            there,
            server,
            tasks,
        })
    }

    fn channel(&self, topic: &str) -> String {
        format!("{}:fanout:{topic}", self.config.prefix)
    }

    /// A poke from the other process arrives.
    async fn is_live(&self, topic: &str, receiver: &mut FanoutReceiver) {
        let payload = Bytes::from_static(b"live");
        self.there.publish(topic, payload.clone()).await.unwrap();
        assert_eq!(next(receiver).await.unwrap(), payload);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_forgets_a_topic_with_its_last_listener() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let here = connected(&scene.config, &scene.tasks).await;
    let channel = scene.channel("a");
    let (one, two) = (here.subscribe("a").await, here.subscribe("a").await);
    let far = scene.there.subscribe("a").await;
    assert_eq!(scene.server.listeners(&channel).await, 2);
    drop((one, far));
    eventually(DEADLINE, || async {
        scene.server.listeners(&channel).await == 1
    })
    .await;
    drop(two);
    eventually(DEADLINE, || async {
        scene.server.listeners(&channel).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_topics_share_one_connection() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let here = connected(&scene.config, &scene.tasks).await;
    let connections = scene.proxy.accepted();
    let topics: Vec<String> = (0..MANY).map(|number| format!("t/{number}")).collect();
    let listeners: Vec<_> = stream::iter(&topics)
        .map(|topic| here.subscribe(topic))
        .buffered(256)
        .collect()
        .await;
    let there = &scene.there;
    stream::iter(&topics)
        .for_each_concurrent(64, |topic| async move {
            there.publish(topic, Bytes::new()).await.unwrap();
        })
        .await;
    let mut listeners: Vec<_> = listeners.into_iter().map(Result::unwrap).collect();
    for listener in &mut listeners {
        assert!(next(listener).await.is_ok());
    }
    assert_eq!(scene.proxy.accepted(), connections);

    // All of them again, after the connection was lost.
    scene.proxy.cut();
    eventually(DEADLINE, || async { !here.is_connected() }).await;
    scene.proxy.restore();
    for listener in &mut listeners {
        assert_eq!(next(listener).await, Err(Lagged));
    }
    scene.is_live("t/7", &mut listeners[7]).await;
    drop(listeners);
    eventually(DEADLINE, || async {
        scene.server.channels(&scene.config.prefix).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_every_listener_is_told_once_and_hears_again() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let here = connected(&scene.config, &scene.tasks).await;
    let mut one = here.subscribe("a").await.unwrap();
    let mut two = here.subscribe("a").await.unwrap();
    let mut other = here.subscribe("b").await.unwrap();
    scene.proxy.cut();
    eventually(DEADLINE, || async { !here.is_connected() }).await;
    // Lost for us.
    scene.there.publish("a", Bytes::new()).await.unwrap();
    scene.proxy.restore();
    for listener in [&mut one, &mut two, &mut other] {
        assert_eq!(next(listener).await, Err(Lagged));
    }
    scene.is_live("b", &mut other).await;
    scene
        .there
        .publish("a", Bytes::from_static(b"2"))
        .await
        .unwrap();
    for listener in [&mut one, &mut two] {
        assert_eq!(next(listener).await.unwrap(), "2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_is_given_up() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let here = connected(&scene.config, &scene.tasks).await;
    let mut listener = here.subscribe("a").await.unwrap();
    scene.proxy.black_hole();
    eventually(DEADLINE, || async { !here.is_connected() }).await;
    scene.proxy.restore();
    assert_eq!(next(&mut listener).await, Err(Lagged));
    scene.is_live("a", &mut listener).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_while_redis_is_away_hears_once_it_is_there() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    scene.proxy.cut();
    let client = RedisClient::start(&scene.config, &scene.tasks).unwrap();
    let here = RedisFanout::start(client, &scene.tasks);
    let start = Instant::now();
    let mut listeners = Vec::new();
    for number in 0..100 {
        listeners.push(here.subscribe(&number.to_string()).await.unwrap());
    }
    let gone = here.subscribe("gone").await.unwrap();
    drop(gone);
    let error = here.publish("1", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "somebody waited for Redis"
    );
    scene.proxy.restore();
    for listener in &mut listeners {
        assert_eq!(next(listener).await, Err(Lagged));
    }
    scene.is_live("42", &mut listeners[42]).await;
    assert_eq!(scene.server.listeners(&scene.channel("gone")).await, 0);
    // Who comes now is not told of what was before.
    let mut late = here.subscribe("late").await.unwrap();
    scene.is_live("late", &mut late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_does_not_wait_for_redis_leaves_nothing_behind() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let here = connected(&scene.config, &scene.tasks).await;
    scene.proxy.black_hole();
    let wait = tokio::time::timeout(Duration::from_millis(20), here.subscribe("impatient"));
    assert!(wait.await.is_err());
    // Redis does not answer in time: the listener comes alive later.
    let mut patient = here.subscribe("patient").await.unwrap();
    scene.proxy.restore();
    assert_eq!(next(&mut patient).await, Err(Lagged));
    scene.is_live("patient", &mut patient).await;
    let impatient = scene.channel("impatient");
    eventually(DEADLINE, || async {
        scene.server.listeners(&impatient).await == 0
    })
    .await;
}
