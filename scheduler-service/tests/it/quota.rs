use jiff::SignedDuration;
use platform::Kind;
use platform::grpc::is_replayed;

use crate::harness::{Service, answer, numbers};

#[tokio::test]
async fn a_days_recipients_are_bounded_and_nothing_is_half_taken() {
    let service = Service::start(|config| config.daily_recipients = 10).await;
    service.created("a", &numbers(6)).await;
    let order = service.order("b", &numbers(5));
    let error = service.create(order.clone()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::Conflict, "daily_recipient_quota_exceeded")
    );
    let again = service
        .client()
        .create_sms_schedule(service.ask(order))
        .await
        .unwrap_err();
    assert!(
        is_replayed(again.metadata()),
        "a refusal by a rule is stored"
    );
    assert_eq!(service.list().await.unwrap().schedules.len(), 1);

    let id = service.created::<&str>("c", &[]).await;
    let error = service
        .upload(&id, [numbers(5).join("\n")])
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "daily_recipient_quota_exceeded");
    let schedule = service.get(&id).await.unwrap();
    assert_eq!(
        (schedule.status.as_str(), schedule.recipients),
        ("draft", 0)
    );
    service.created("d", &numbers(4)).await;
    assert!(
        service
            .create(service.order("e", &numbers(1)))
            .await
            .is_err()
    );
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_hours(24));
    service.created("f", &numbers(10)).await;
    service.stop().await;
}

#[tokio::test]
async fn a_replaced_file_gives_its_share_of_the_quota_back() {
    let service = Service::start(|config| config.daily_recipients = 10).await;
    let mut order = service.order::<&str>("a", &[]);
    let start = service.platform.clock().now() + SignedDuration::from_mins(5);
    order.run_at = Some(platform::time::to_proto(start));
    let id = service.create(order).await.unwrap().schedule.unwrap().id;
    let first = service.upload(&id, [numbers(8).join("\n")]).await.unwrap();
    let again = service.upload(&id, [numbers(8).join("\n")]).await.unwrap();
    assert_eq!(first, again);
    service.upload(&id, [numbers(3).join("\n")]).await.unwrap();
    service.created("b", &numbers(7)).await;
    assert!(
        service
            .create(service.order("c", &numbers(1)))
            .await
            .is_err()
    );
    service.stop().await;
}

#[tokio::test]
async fn staff_has_a_limit_of_its_own() {
    let service = Service::start(|config| config.daily_recipients = 1).await;
    let request = service.ask_as_staff(service.order("a", &numbers(20)));
    let created = answer(service.client().create_sms_schedule(request).await).unwrap();
    assert_eq!(created.report.unwrap().accepted, 20);
    service.stop().await;
}
