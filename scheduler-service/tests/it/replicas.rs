//! Several replicas on one database, and on one journal of the simulator.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use jiff::SignedDuration;
use platform::database::Database;
use platform::grpc::is_replayed;
use platform::test_kit::eventually;
use platform::time;
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::harness::{PATIENCE, Service, answer, numbers, parts};
use crate::providers::Gated;
use crate::uploading::rows;

/// Lets as many calls pass as ever come.
const ALL: usize = usize::MAX >> 4;

async fn two(adapt: impl FnOnce(&mut scheduler_service::SchedulerConfig)) -> Option<Service> {
    let mut service = Service::prepare_for_replicas(|config| {
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
        adapt(config);
    })
    .await?;
    for _ in 0..2 {
        let simulator = Arc::new(service.simulator().await);
        service.join(simulator, service.platform.clock()).await;
    }
    Some(service)
}

#[tokio::test]
async fn a_list_is_worked_by_two_and_ended_by_the_one_that_lives() {
    let Some(mut service) = Service::prepare_for_replicas(|config| {
        config.sending.batch_size = 50;
        config.sending.concurrency = 4;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
    })
    .await
    else {
        return;
    };
    // Of the first one's calls six come to their end; then two stop before the provider has the messages and two after.
    let dying = Gated::new(service.simulator().await, 8, 6);
    let living = Gated::new(service.simulator().await, 6, ALL);
    service.join(dying.clone(), service.platform.clock()).await;
    service.join(living.clone(), service.platform.clock()).await;
    let numbers = numbers(2_500);
    let id = service.created("a", &numbers).await;
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_secs(1));
    eventually(PATIENCE, || async {
        dying.stopped(8, 6) == (2, 2) && living.stopped(6, ALL).0 == 4
    })
    .await;
    let progress = service.progress(&id).await;
    assert_eq!(
        (progress.by_state["SENDING"], progress.by_state["QUEUED"]),
        (8 * 50, 30 * 50),
        "{progress:?}"
    );
    service.kill_replica(0);
    living.before.add_permits(ALL / 2);
    // All but what the dead one had in its hands.
    service
        .pass_time_until(|| async {
            service.progress(&id).await.by_state.get("DELIVRD") == Some(&2_300)
        })
        .await;
    assert_eq!(service.progress(&id).await.by_state["SENDING"], 200);
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_secs(31));
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.by_state["DELIVRD"], 2_500, "{progress:?}");
    service.assert_sent_once(&numbers);
    for message in service.messages(&id, "").await {
        assert!(!message.provider_message_id.is_empty());
    }
    eventually(PATIENCE, || async {
        !service.finished.lock().unwrap().is_empty()
    })
    .await;
    service.stop_with_finished(1).await;
}

#[tokio::test]
async fn many_lists_are_shared_by_two_and_each_ends_once() {
    let Some(service) = two(|config| config.sending.batch_size = 50).await else {
        return;
    };
    let start = service.platform.clock().now() + SignedDuration::from_mins(1);
    let all = numbers(1_200);
    let orders = all.chunks(40).enumerate().map(|(n, some)| {
        let mut order = service.order(&format!("k{n}"), some);
        order.run_at = Some(time::to_proto(start));
        let mut client = service.client_of(n % 2);
        let request = service.ask(order);
        async move { answer(client.create_sms_schedule(request).await) }
    });
    let created = join_all(orders).await;
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_mins(1));
    for schedule in &created {
        let id = &schedule.as_ref().unwrap().schedule.as_ref().unwrap().id;
        let progress = service.play_to_end(id).await;
        assert_eq!(progress.by_state["DELIVRD"], 40);
    }
    service.assert_sent_once(&all);
    service.stop_with_finished(created.len()).await;
}

#[tokio::test]
async fn short_lists_are_held_up_neither_by_a_long_one_nor_by_who_has_locked_it() {
    let Some(service) = two(|config| {
        config.sending.batch_size = 50;
        config.sending.concurrency = 1;
    })
    .await
    else {
        return;
    };
    let start = service.platform.clock().now() + SignedDuration::from_mins(1);
    let all = numbers(2_100);
    let at_start = |key: &str, recipients: &[String]| {
        let mut order = service.order(key, recipients);
        order.run_at = Some(time::to_proto(start));
        order
    };
    let created = service.create(at_start("long", &all[..2_000])).await;
    let long = created.unwrap().schedule.unwrap().id;
    let mut short = Vec::new();
    for (n, few) in all[2_000..].chunks(10).enumerate() {
        let created = service.create(at_start(&format!("short-{n}"), few)).await;
        short.push(created.unwrap().schedule.unwrap().id);
    }
    // Some replica stands still in the middle of a claim from the long list.
    let db = Database::connect(&service.config.database).await.unwrap();
    let claim = db.reader().begin().await.unwrap();
    let lock = format!("SELECT id FROM sms_schedules WHERE id = '{long}' FOR UPDATE");
    claim.execute_unprepared(&lock).await.unwrap();
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_mins(1));
    for id in &short {
        assert_eq!(service.play_to_end(id).await.by_state["DELIVRD"], 10);
    }
    assert_eq!(service.progress(&long).await.by_state["QUEUED"], 2_000);
    claim.rollback().await.unwrap();
    db.close().await;
    service.play_to_end(&long).await;
    service.assert_sent_once(&all);
    service.stop_with_finished(short.len() + 1).await;
}

#[tokio::test]
async fn one_key_at_both_at_once_makes_one_schedule() {
    let Some(service) = two(|_| {}).await else {
        return;
    };
    let all = numbers(2_560);
    for (key, recipients) in [("short", &all[..60]), ("long", &all[60..])] {
        let order = service.order(key, recipients);
        let calls = (0..6).map(|n| {
            let mut client = service.client_of(n % 2);
            let request = service.ask(order.clone());
            async move { client.create_sms_schedule(request).await }
        });
        let answers = join_all(calls).await;
        let replayed = answers
            .iter()
            .filter(|answer| is_replayed(answer.as_ref().unwrap().metadata()))
            .count();
        assert_eq!(replayed, 5);
        let schedules: HashSet<String> = answers
            .into_iter()
            .map(|answer| answer.unwrap().into_inner().schedule.unwrap().id)
            .collect();
        assert_eq!(schedules.len(), 1);
        service.play_to_end(schedules.iter().next().unwrap()).await;
    }
    assert_eq!(service.list().await.unwrap().schedules.len(), 2);
    service.assert_sent_once(&all);
    eventually(PATIENCE, || async { rows(&service).await == (2_560, 0) }).await;
    service.stop_with_finished(2).await;
}

#[tokio::test]
async fn a_days_recipients_are_bounded_over_all_replicas() {
    let Some(service) = two(|config| config.daily_recipients = 100).await else {
        return;
    };
    let all = numbers(300);
    let calls = all.chunks(15).enumerate().map(|(n, some)| {
        let mut client = service.client_of(n % 2);
        let request = service.ask(service.order(&format!("k{n}"), some));
        async move { answer(client.create_sms_schedule(request).await) }
    });
    let answers = join_all(calls).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (6, 14));
    for refusal in refused {
        assert_eq!(
            refusal.unwrap_err().reason(),
            "daily_recipient_quota_exceeded"
        );
    }
    for schedule in taken {
        let id = schedule.unwrap().schedule.unwrap().id;
        service.play_to_end(&id).await;
    }
    assert_eq!(service.journal().len(), 90);
    service.stop_with_finished(6).await;
}

#[tokio::test]
async fn two_files_for_one_schedule_leave_one_of_them_whole() {
    let Some(service) = two(|_| {}).await else {
        return;
    };
    let start = service.platform.clock().now() + SignedDuration::from_mins(5);
    let mut order = service.order::<&str>("a", &[]);
    order.run_at = Some(time::to_proto(start));
    let id = service.create(order).await.unwrap().schedule.unwrap().id;
    let all = numbers(4_000);
    let uploads = [&all[..1_500], &all[1_500..]]
        .into_iter()
        .enumerate()
        .map(|(n, some)| {
            let file = some.join("\n");
            let mut client = service.client_of(n);
            let request = service.ask(tokio_stream::iter(parts(&id, [file])));
            async move { answer(client.upload_sms_recipients(request).await) }
        });
    for uploaded in join_all(uploads).await {
        uploaded.unwrap();
    }
    let total = service.progress(&id).await.total;
    let kept = if total == 1_500 {
        &all[..1_500]
    } else {
        &all[1_500..]
    };
    assert_eq!(total, kept.len() as i64);
    // The quota of the other file was given back: there is room for what is left of 10,000, and no more.
    let left = 10_000 - kept.len();
    let more: Vec<String> = (0..left).map(|n| format!("+2783{n:07}")).collect();
    let other = service.created("b", &more).await;
    let over = service.create(service.order("c", &["+27841234567"])).await;
    assert_eq!(over.unwrap_err().reason(), "daily_recipient_quota_exceeded");
    service.cancel(&other).await.unwrap();
    eventually(PATIENCE, || async { rows(&service).await == (10_000, 0) }).await;
    service.stop().await;
}

#[tokio::test]
async fn an_upload_to_a_replica_that_dies_is_swept_by_another() {
    let Some(mut service) = two(|_| {}).await else {
        return;
    };
    let id = service.created::<&str>("a", &[]).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let request = service.ask(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut client = service.client_of(0);
    let call = tokio::task::spawn(async move { client.upload_sms_recipients(request).await });
    let mut cut = parts(&id, [numbers(3_000).join("\n")]);
    cut.pop();
    for part in cut {
        sender.send(part).await.unwrap();
    }
    eventually(PATIENCE, || async { rows(&service).await.0 > 0 }).await;
    service.kill_replica(0);
    drop(sender);
    assert!(call.await.unwrap().is_err());
    assert_eq!(service.get(&id).await.unwrap().status, "draft");
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_mins(16));
    eventually(PATIENCE, || async { rows(&service).await == (0, 0) }).await;
    service.stop().await;
}

#[tokio::test]
async fn a_replica_finds_what_others_committed_within_a_second() {
    let Some(mut service) = Service::prepare_for_replicas(|config| {
        config.sending.concurrency = 1;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
    })
    .await
    else {
        return;
    };
    let other = Arc::new(service.simulator().await);
    service.join(other, service.platform.clock()).await;
    // The one that creates has no hand free for what comes after its first call.
    let busy = Gated::new(service.simulator().await, 0, ALL);
    service.join(busy.clone(), service.platform.clock()).await;
    service.created("a", &numbers(1)).await;
    eventually(PATIENCE, || async { busy.came.load(Ordering::SeqCst) == 1 }).await;
    service.created("b", &["+27831234567"]).await;
    let clock = service.platform.manual_clock();
    clock.advance(SignedDuration::from_secs(1));
    eventually(PATIENCE, || async { service.journal().len() == 1 }).await;
    busy.before.add_permits(1);
    eventually(PATIENCE, || async { service.journal().len() == 2 }).await;
    service.stop().await;
}
