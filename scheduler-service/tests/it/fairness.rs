use platform::test_kit::eventually;

use crate::harness::{PATIENCE, Service, numbers};

#[tokio::test]
async fn short_lists_are_not_held_up_by_a_long_one() {
    let service = Service::start(|config| {
        config.sending.batch_size = 50;
        config.sending.concurrency = 1;
    })
    .await;
    let start = service.platform.clock().now() + jiff::SignedDuration::from_mins(1);
    let at_the_same_time = |key: &str, recipients: &[String]| {
        let mut order = service.order(key, recipients);
        order.run_at = Some(platform::time::to_proto(start));
        order
    };
    let all = numbers(2200);
    let mut ids = Vec::new();
    let long = service
        .create(at_the_same_time("long", &all[..2000]))
        .await
        .unwrap();
    ids.push(long.schedule.unwrap().id);
    for (n, few) in all[2000..].chunks(10).enumerate() {
        let short = service
            .create(at_the_same_time(&format!("short-{n}"), few))
            .await
            .unwrap();
        ids.push(short.schedule.unwrap().id);
    }
    service
        .platform
        .manual_clock()
        .advance(jiff::SignedDuration::from_mins(1));
    for id in &ids {
        service.play_to_end(id).await;
    }
    service.assert_sent_once(&all);
    let journal = service.journal();
    let last_short = journal
        .iter()
        .rposition(|record| all[2000..].contains(&record.to))
        .unwrap();
    assert!(
        last_short < 700,
        "the last of 200 short ones was number {last_short} of 2200"
    );
    eventually(PATIENCE, || async {
        service.finished.lock().unwrap().len() == ids.len()
    })
    .await;
    service.stop().await;
}
