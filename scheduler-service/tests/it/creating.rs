use futures::future::join_all;
use jiff::SignedDuration;
use platform::grpc::is_replayed;
use platform::test_kit::eventually;
use platform::{Kind, time};
use proto::scheduler::v1 as pb;

use crate::harness::{PATIENCE, Service, numbers};
use crate::uploading::rows;

#[tokio::test]
async fn recipients_are_normalised_counted_and_reported() {
    let service = Service::start(|_| {}).await;
    let order = service.order(
        "a",
        &[
            "+27 82 123 4567",
            "098765 43210",
            "hello",
            "+27821234567",
            "",
            "+27821",
        ],
    );
    let created = service.create(order).await.unwrap();
    let (schedule, report) = (created.schedule.unwrap(), created.report.unwrap());
    assert_eq!(
        (report.accepted, report.duplicates, report.rejected),
        (2, 1, 3)
    );
    let rejects: Vec<_> = report
        .first_rejects
        .iter()
        .map(|r| (r.line, r.value.as_str(), r.reason.as_str()))
        .collect();
    assert_eq!(
        rejects,
        [
            (3, "hello", "not_a_number"),
            (5, "", "empty"),
            (6, "+27821", "invalid_number")
        ]
    );
    assert_eq!(
        (schedule.recipients, schedule.status.as_str()),
        (2, "scheduled")
    );
    assert_eq!(schedule.provider, "simulator");
    let to: Vec<_> = service
        .messages(&schedule.id, "")
        .await
        .into_iter()
        .map(|m| m.to)
        .collect();
    assert_eq!(to, ["+27821234567", "+919876543210"]);
    service.play_to_end(&schedule.id).await;
    service.stop().await;
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_however_late() {
    let service = Service::start(|_| {}).await;
    let order = service.order("once", &numbers(5));
    let first = service.create(order.clone()).await.unwrap();
    let id = &first.schedule.as_ref().unwrap().id;
    service.play_to_end(id).await;
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_mins(10));
    let request = service.ask(order.clone());
    let again = service.client().create_sms_schedule(request).await.unwrap();
    assert!(is_replayed(again.metadata()));
    assert_eq!(again.into_inner(), first);

    let other = pb::CreateSmsScheduleRequest {
        message: "Other".to_owned(),
        ..order
    };
    assert_eq!(
        service.create(other).await.unwrap_err().kind(),
        Kind::KeyReused
    );
    assert_eq!(service.list().await.unwrap().schedules.len(), 1);
    service.assert_sent_once(&numbers(5));
    service.stop().await;
}

#[tokio::test]
async fn one_key_used_by_many_at_once_makes_one_schedule() {
    let service = Service::start(|_| {}).await;
    let order = service.order("once", &numbers(50));
    let answers = join_all((0..8).map(|_| service.create(order.clone()))).await;
    let first = answers[0].as_ref().unwrap();
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap() == first)
    );
    assert_eq!(service.list().await.unwrap().schedules.len(), 1);
    service
        .play_to_end(&first.schedule.as_ref().unwrap().id)
        .await;
    service.assert_sent_once(&numbers(50));
    service.stop().await;
}

#[tokio::test]
async fn every_wrong_field_is_named_and_burns_no_key() {
    let service = Service::start(|_| {}).await;
    let good = service.order("a", &numbers(1));
    let now = service.platform.clock().now();
    let at = |by| Some(time::to_proto(now + by));
    let cases = [
        (
            pb::CreateSmsScheduleRequest {
                idempotency_key: String::new(),
                ..good.clone()
            },
            vec!["Idempotency-Key"],
        ),
        (
            pb::CreateSmsScheduleRequest {
                message: "x".repeat(1601),
                name: "n".repeat(201),
                run_at: None,
                recipients: numbers(10_001),
                ..good.clone()
            },
            vec!["message", "name", "recipients", "run_at"],
        ),
        (
            pb::CreateSmsScheduleRequest {
                run_at: at(SignedDuration::from_secs(-61)),
                ..good.clone()
            },
            vec!["run_at"],
        ),
        (
            pb::CreateSmsScheduleRequest {
                run_at: at(SignedDuration::from_hours(24 * 400)),
                ..good.clone()
            },
            vec!["run_at"],
        ),
        (
            pb::CreateSmsScheduleRequest {
                run_at: Some(prost_types::Timestamp {
                    seconds: i64::MAX,
                    nanos: -5,
                }),
                ..good.clone()
            },
            vec!["run_at"],
        ),
        (
            pb::CreateSmsScheduleRequest {
                provider: "pigeon".to_owned(),
                ..good.clone()
            },
            vec!["provider"],
        ),
        (
            pb::CreateSmsScheduleRequest {
                message: "a\0b".to_owned(),
                name: "c\0".to_owned(),
                ..good.clone()
            },
            vec!["message", "name"],
        ),
        (
            pb::CreateSmsScheduleRequest {
                provider: "simulator\0".to_owned(),
                ..good.clone()
            },
            vec!["provider"],
        ),
    ];
    for (order, expected) in cases {
        let error = service.create(order).await.unwrap_err();
        let fields: Vec<_> = error
            .violations()
            .iter()
            .map(|v| v.field.as_str())
            .collect();
        assert_eq!(fields, expected, "{error}");
    }
    let late = pb::CreateSmsScheduleRequest {
        run_at: at(SignedDuration::from_secs(-60)),
        ..good
    };
    let schedule = service.create(late).await.unwrap().schedule.unwrap();
    assert_eq!(
        schedule.run_at,
        Some(time::to_proto(time::from_micros(time::to_micros(now))))
    );
    assert_eq!(
        service.get(&schedule.id).await.unwrap().run_at,
        schedule.run_at
    );
    service.play_to_end(&schedule.id).await;
    service.stop().await;
}

#[tokio::test]
async fn without_a_good_number_a_schedule_stays_a_draft() {
    let service = Service::start(|_| {}).await;
    let created = service
        .create(service.order("a", &["nobody"]))
        .await
        .unwrap();
    let schedule = created.schedule.unwrap();
    assert_eq!(
        (schedule.status.as_str(), schedule.recipients),
        ("draft", 0)
    );
    let progress = service.progress(&schedule.id).await;
    assert_eq!((progress.total, progress.by_state.len()), (0, 0));
    service.stop().await;
}

#[tokio::test]
async fn a_long_list_is_taken_once_and_as_a_whole() {
    let service = Service::start(|config| config.daily_recipients = 3_000).await;
    let order = service.order("long", &numbers(2_500));
    let both = join_all([service.create(order.clone()), service.create(order.clone())]).await;
    let first = both[0].as_ref().unwrap();
    assert_eq!(first, both[1].as_ref().unwrap());
    assert_eq!(first.report.as_ref().unwrap().accepted, 2_500);
    assert_eq!(service.list().await.unwrap().schedules.len(), 1);
    // The other set is swept, and what the quota has no room for leaves nothing behind.
    let refused = service.create(service.order("more", &numbers(2_501))).await;
    assert_eq!(
        refused.unwrap_err().reason(),
        "daily_recipient_quota_exceeded"
    );
    eventually(PATIENCE, || async { rows(&service).await == (2_500, 0) }).await;
    service
        .play_to_end(&first.schedule.as_ref().unwrap().id)
        .await;
    service.assert_sent_once(&numbers(2_500));
    service.stop().await;
}
