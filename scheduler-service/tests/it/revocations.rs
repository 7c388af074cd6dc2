use platform::test_kit::{Issuer, eventually};
use platform::{Error, Kind};
use proto::scheduler::v1 as pb;

use crate::harness::{PATIENCE, Service, answer, numbers, parts};

fn is_closed<T>(answered: &Result<T, Error>) -> bool {
    matches!(answered, Err(error) if error.kind() == Kind::Unavailable
        && error.reason() == "revocation_state_unknown"
        && error.retry_after().is_some())
}

#[tokio::test]
async fn without_news_of_revocations_reads_go_on_and_changes_wait() {
    let mut service = Service::prepare(|_| {}).await;
    let issuer = Issuer::new();
    let (authenticator, handles) = (service.platform.authenticator(), service.platform.handles());
    let stub = issuer.serve_identity(&authenticator, &handles.tasks).await;
    service.identity = Some((issuer, stub.clone()));
    service.launch_with_simulator().await;
    let mut draft = service.order::<&str>("draft", &[]);
    draft.name = "before".to_owned();
    let id = eventually(PATIENCE, || async {
        service.create(draft.clone()).await.ok()
    })
    .await
    .schedule
    .unwrap()
    .id;

    stub.set_silent(true);
    let order = service.order("later", &numbers(3));
    let nobodys = uuid::Uuid::now_v7().to_string();
    eventually(PATIENCE, || async {
        is_closed(&service.cancel(&nobodys).await)
    })
    .await;
    assert!(is_closed(&service.create(order.clone()).await));
    assert!(is_closed(&service.cancel(&id).await));
    let file = service.ask(tokio_stream::iter(parts(&id, ["+27821234567"])));
    assert!(is_closed(&answer(
        service.client().upload_sms_recipients(file).await
    )));
    assert_eq!(service.list().await.unwrap().schedules.len(), 1);
    let schedule = service.get(&id).await.unwrap();
    assert_eq!((&*schedule.name, &*schedule.status), ("before", "draft"));
    assert_eq!(service.progress(&id).await.total, 0);
    assert!(service.messages(&id, "").await.is_empty());

    stub.set_silent(false);
    let created: pb::CreateSmsScheduleResponse = eventually(PATIENCE, || async {
        service.create(order.clone()).await.ok()
    })
    .await;
    service.play_to_end(&created.schedule.unwrap().id).await;
    service.assert_sent_once(&numbers(3));
    service.stop().await;
}
