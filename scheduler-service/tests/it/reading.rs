use platform::Kind;
use platform::grpc::client::as_user;
use proto::scheduler::v1 as pb;
use uuid::Uuid;

use crate::harness::{Service, answer, numbers};

#[tokio::test]
async fn schedules_are_listed_newest_first_page_by_page() {
    let service = Service::start(|_| {}).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(service.created::<&str>(&format!("k{n}"), &[]).await);
    }
    service.cancel(&ids[2]).await.unwrap();
    ids.reverse();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let request = pb::ListSmsSchedulesRequest {
            limit: 2,
            cursor,
            status: String::new(),
        };
        let page = answer(
            service
                .client()
                .list_sms_schedules(service.ask(request))
                .await,
        )
        .unwrap();
        assert!(page.schedules.len() <= 2);
        seen.extend(page.schedules.into_iter().map(|schedule| schedule.id));
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let request = pb::ListSmsSchedulesRequest {
        status: "cancelled".to_owned(),
        ..Default::default()
    };
    let page = answer(
        service
            .client()
            .list_sms_schedules(service.ask(request))
            .await,
    )
    .unwrap();
    assert_eq!(page.schedules.len(), 1);
    assert_eq!(page.schedules[0].id, ids[2]);
    service.stop().await;
}

#[tokio::test]
async fn messages_are_listed_by_state_in_the_order_of_the_number() {
    let service = Service::start(|config| config.simulator.undeliverable = 0.3).await;
    let id = service.created("a", &numbers(250)).await;
    let progress = service.play_to_end(&id).await;
    let all = service.messages(&id, "").await;
    assert_eq!(
        all.iter().map(|m| m.to.clone()).collect::<Vec<_>>(),
        numbers(250)
    );
    let failed = service.messages(&id, "UNDELIV").await;
    assert_eq!(failed.len() as i64, progress.by_state["UNDELIV"]);
    assert!(
        failed
            .iter()
            .all(|m| m.state == "UNDELIV" && m.error == "simulated UNDELIV")
    );
    service.stop().await;
}

#[tokio::test]
async fn what_belongs_to_others_is_not_there() {
    let service = Service::start(|_| {}).await;
    let id = service.created("a", &numbers(1)).await;
    let token = service.platform.token(Uuid::now_v7());
    let schedule_id = id.clone();
    let mut client = service.client();
    let get = pb::GetSmsScheduleRequest {
        schedule_id: schedule_id.clone(),
    };
    let progress = pb::GetSmsProgressRequest {
        schedule_id: schedule_id.clone(),
    };
    let cancel = pb::CancelSmsScheduleRequest {
        schedule_id: schedule_id.clone(),
    };
    let messages = pb::ListSmsMessagesRequest {
        schedule_id,
        ..Default::default()
    };
    let errors = [
        answer(client.get_sms_schedule(as_user(get, &token)).await).unwrap_err(),
        answer(client.get_sms_progress(as_user(progress, &token)).await).unwrap_err(),
        answer(client.cancel_sms_schedule(as_user(cancel, &token)).await).unwrap_err(),
        answer(client.list_sms_messages(as_user(messages, &token)).await).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), Kind::NotFound);
    }
    let list = as_user(pb::ListSmsSchedulesRequest::default(), &token);
    assert!(
        answer(client.list_sms_schedules(list).await)
            .unwrap()
            .schedules
            .is_empty()
    );
    service.play_to_end(&id).await;
    service.stop().await;
}

#[tokio::test]
async fn wrong_filters_and_cursors_are_named() {
    let service = Service::start(|_| {}).await;
    let id = service.created::<&str>("a", &[]).await;
    let foreign = ["+27\0", "", "27821234567", "+2782123456789012"]
        .map(|text| platform::page::encode_cursor(&text));
    for (limit, cursor, state, field) in [
        (0, foreign[0].as_str(), "", "cursor"),
        (0, &foreign[1], "", "cursor"),
        (0, &foreign[2], "", "cursor"),
        (0, &foreign[3], "", "cursor"),
        (101, "", "", "limit"),
        (-1, "", "", "limit"),
        (0, "%%", "", "cursor"),
        (0, "", "delivrd", "state"),
    ] {
        let request = pb::ListSmsMessagesRequest {
            schedule_id: id.clone(),
            state: state.to_owned(),
            limit,
            cursor: cursor.to_owned(),
        };
        let error = answer(
            service
                .client()
                .list_sms_messages(service.ask(request))
                .await,
        );
        assert_eq!(error.unwrap_err().violations()[0].field, field);
    }
    let error = service
        .get("1; DROP TABLE sms_schedules")
        .await
        .unwrap_err();
    assert_eq!(error.violations()[0].field, "schedule_id");
    let request = pb::ListSmsSchedulesRequest {
        status: "done".to_owned(),
        ..Default::default()
    };
    let error = answer(
        service
            .client()
            .list_sms_schedules(service.ask(request))
            .await,
    );
    assert_eq!(error.unwrap_err().violations()[0].field, "status");
    service.stop().await;
}
