//! The inbox.

use platform::grpc::client::as_user;
use proto::notify::v1::{
    DeleteNotificationRequest, ListNotificationsRequest, ListNotificationsResponse,
    MarkAllReadRequest, MarkNotificationRequest, Notification,
};
use tonic::{Code, Status};

use crate::helpers::*;

async fn list(
    world: &World,
    user: &User,
    ask: ListNotificationsRequest,
) -> ListNotificationsResponse {
    let ask = as_user(ask, &world.token(user));
    world
        .client
        .clone()
        .list_notifications(ask)
        .await
        .unwrap()
        .into_inner()
}

async fn all(world: &World, user: &User, unread: Option<bool>) -> Vec<Notification> {
    let ask = ListNotificationsRequest {
        limit: 100,
        cursor: String::new(),
        unread,
    };
    list(world, user, ask).await.notifications
}

async fn mark(world: &World, user: &User, id: &str, read: bool) -> Result<Notification, Status> {
    let ask = MarkNotificationRequest {
        notification_id: id.to_owned(),
        read,
    };
    let token = world.token(user);
    let call = async || {
        let ask = as_user(ask.clone(), &token);
        world.client.clone().mark_notification(ask).await
    };
    let reply = once_fresh(call).await?;
    Ok(reply.into_inner().notification.unwrap())
}

async fn delete(world: &World, user: &User, id: &str) -> Result<(), Status> {
    let ask = DeleteNotificationRequest {
        notification_id: id.to_owned(),
    };
    let token = world.token(user);
    let call = async || {
        let ask = as_user(ask.clone(), &token);
        world.client.clone().delete_notification(ask).await
    };
    once_fresh(call).await.map(drop)
}

#[tokio::test]
async fn the_inbox_is_paged_newest_first() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    for amount in 1..=7 {
        world
            .platform
            .emit(asha.id, &world.deposit_event(&asha, amount))
            .await;
    }
    let (mut texts, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let ask = ListNotificationsRequest {
            limit: 3,
            cursor,
            unread: None,
        };
        let page = list(&world, &asha, ask).await;
        texts.extend(page.notifications.into_iter().map(|entry| entry.text));
        (cursor, pages) = (page.next_cursor, pages + 1);
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(pages, 3);
    let wanted: Vec<_> = (1..=7)
        .rev()
        .map(|n| format!("0.0{n} INR were added to your wallet."))
        .collect();
    assert_eq!(texts, wanted);
}

#[tokio::test]
async fn marking_and_deleting_keep_the_count_right() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    for amount in 1..=4 {
        world
            .platform
            .emit(asha.id, &world.deposit_event(&asha, amount))
            .await;
    }
    let entries = all(&world, &asha, None).await;
    for _ in 0..2 {
        assert!(
            mark(&world, &asha, &entries[0].id, true)
                .await
                .unwrap()
                .read
        );
        assert_eq!(world.unread(&asha).await, 3, "marking twice counts once");
    }
    assert_eq!(all(&world, &asha, Some(true)).await.len(), 3);
    assert_eq!(
        all(&world, &asha, Some(false)).await,
        [mark(&world, &asha, &entries[0].id, true).await.unwrap()]
    );
    mark(&world, &asha, &entries[0].id, false).await.unwrap();
    assert_eq!(world.unread(&asha).await, 4);

    delete(&world, &asha, &entries[1].id).await.unwrap();
    assert_eq!(world.unread(&asha).await, 3, "an unread one was deleted");
    assert_eq!(
        delete(&world, &asha, &entries[1].id)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );

    let ask = || as_user(MarkAllReadRequest {}, &world.token(&asha));
    assert_eq!(
        world
            .client
            .clone()
            .mark_all_read(ask())
            .await
            .unwrap()
            .into_inner()
            .marked,
        3
    );
    assert_eq!(
        world
            .client
            .clone()
            .mark_all_read(ask())
            .await
            .unwrap()
            .into_inner()
            .marked,
        0
    );
    assert_eq!(world.unread(&asha).await, 0);
    delete(&world, &asha, &entries[0].id).await.unwrap();
    assert_eq!(world.unread(&asha).await, 0, "a read one was deleted");
    assert_eq!(all(&world, &asha, None).await.len(), 2);
}

#[tokio::test]
async fn a_test_notification_reaches_inbox_and_stream() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    let mut listener = world
        .subscribe(&world.token(&asha), None, "")
        .await
        .unwrap();
    let sent = send_test(&world, &asha).await.unwrap();
    assert_eq!((sent.kind.as_str(), sent.read), ("general", false));
    let event = listener.next().await.unwrap();
    assert_eq!(data(&event)["id"], sent.id.as_str());
    assert_eq!(all(&world, &asha, None).await, [sent]);
}

#[tokio::test]
async fn notifications_of_others_cannot_be_reached() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    world
        .platform
        .emit(asha.id, &world.deposit_event(&asha, 1))
        .await;
    let entry = all(&world, &asha, None).await.remove(0);
    assert_eq!(all(&world, &bola, None).await, []);
    assert_eq!(
        mark(&world, &bola, &entry.id, true)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    assert_eq!(
        delete(&world, &bola, &entry.id).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(all(&world, &asha, Some(true)).await, [entry]);
    assert_eq!(
        (world.unread(&asha).await, world.unread(&bola).await),
        (1, 0)
    );
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    for id in ["", "1", "not-a-uuid"] {
        assert_eq!(
            field(&mark(&world, &asha, id, true).await.unwrap_err()),
            "notification_id"
        );
        assert_eq!(
            field(&delete(&world, &asha, id).await.unwrap_err()),
            "notification_id"
        );
    }
    for (limit, cursor, name) in [(101, "", "limit"), (-1, "", "limit"), (1, "??", "cursor")] {
        let ask = ListNotificationsRequest {
            limit,
            cursor: cursor.to_owned(),
            unread: None,
        };
        let ask = as_user(ask, &world.token(&asha));
        let refused = world
            .client
            .clone()
            .list_notifications(ask)
            .await
            .unwrap_err();
        assert_eq!(field(&refused), name);
    }
}

#[tokio::test]
async fn concurrent_marks_and_arrivals_keep_the_count_right() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    for amount in 1..=20 {
        world
            .platform
            .emit(asha.id, &world.deposit_event(&asha, amount))
            .await;
    }
    let entries = all(&world, &asha, None).await;
    let marks = futures::future::join_all(entries.iter().flat_map(|entry| {
        [
            mark(&world, &asha, &entry.id, true),
            mark(&world, &asha, &entry.id, true),
        ]
    }));
    let arrivals = futures::future::join_all((0..10).map(|_| async {
        world
            .platform
            .emit(asha.id, &world.deposit_event(&asha, 1))
            .await;
    }));
    tokio::join!(marks, arrivals);
    assert_eq!(world.unread(&asha).await, 10);
    assert_eq!(all(&world, &asha, Some(true)).await.len(), 10);
}

#[tokio::test]
async fn a_user_gets_ten_tests_a_minute_and_no_more_by_deleting_them() {
    let world = World::start_with_manual_clock().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let many = (0..15).map(|_| send_test(&world, &asha));
    let answers = futures::future::join_all(many).await;
    let sent: Vec<_> = answers.iter().flatten().collect();
    assert_eq!(sent.len(), 10);
    for entry in &sent {
        delete(&world, &asha, &entry.id).await.unwrap();
    }
    let refused = send_test(&world, &asha).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "too_many_tests");
    let wait = platform::Error::from_status(&refused).retry_after();
    assert_eq!(wait, Some(std::time::Duration::from_secs(6)));
    send_test(&world, &bola).await.unwrap();

    world
        .platform
        .manual_clock()
        .advance(jiff::SignedDuration::from_secs(6));
    send_test(&world, &asha).await.unwrap();
    assert!(send_test(&world, &asha).await.is_err());
}
