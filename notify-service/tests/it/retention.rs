//! What is not kept any more.

use jiff::SignedDuration;
use platform::test_kit::{DEADLINE, TestPlatform, eventually};

use crate::helpers::*;

/// Lets rounds of trimming pass until the condition holds. The clock moves on each time: it may have been moved in the
/// midst of a round, which then sleeps from there.
async fn trimmed(world: &World, condition: impl AsyncFn() -> bool) {
    eventually(DEADLINE, || async {
        world
            .platform
            .manual_clock()
            .advance(SignedDuration::from_secs(2));
        condition().await
    })
    .await;
}

async fn first_kept(world: &World, user: &User) -> i64 {
    let sql = "SELECT first_kept FROM stream_heads WHERE user_id = $1";
    world.number(sql, user.id).await.unwrap()
}

#[tokio::test]
async fn a_stream_that_is_too_long_loses_its_oldest_events() {
    let platform = TestPlatform::start_with_manual_clock().await;
    let world = World::start_on(platform, |config| config.stream.keep_events_per_user = 10).await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    for _ in 0..8 {
        world
            .platform
            .emit(asha.id, &world.deposit_event(&asha, 1))
            .await;
    }
    world
        .platform
        .emit(bola.id, &world.deposit_event(&bola, 1))
        .await;
    let token = world.token(&asha);
    world.acknowledge(&token, 3, "phone").await.unwrap();
    trimmed(&world, async || first_kept(&world, &asha).await == 15).await;
    assert_eq!(first_kept(&world, &bola).await, 1);

    let refused = world.subscribe(&token, Some(13), "").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(reason(&refused), "stream_position_lost");
    let refused = world.subscribe(&token, None, "phone").await.unwrap_err();
    assert_eq!(reason(&refused), "stream_position_lost");
    for after in [Some(14), Some(0)] {
        let mut listener = world.subscribe(&token, after, "").await.unwrap();
        let numbers: Vec<_> = listener
            .take(10)
            .await
            .iter()
            .map(|event| event.seq)
            .collect();
        assert_eq!(numbers, (15..=24).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn old_events_go_and_the_numbers_go_on() {
    let world = World::start_with_manual_clock().await;
    let asha = world.register("AS12").await;
    world
        .platform
        .emit(asha.id, &world.deposit_event(&asha, 1))
        .await;
    world
        .acknowledge(&world.token(&asha), 2, "phone")
        .await
        .unwrap();
    world
        .platform
        .manual_clock()
        .advance(SignedDuration::from_hours(31 * 24));
    trimmed(&world, async || first_kept(&world, &asha).await == 4).await;
    let sql = "SELECT COUNT(*) FROM stream_acknowledgements WHERE user_id = $1";
    trimmed(&world, async || world.number(sql, asha.id).await == Some(0)).await;

    let mut listener = world
        .subscribe(&world.token(&asha), None, "phone")
        .await
        .unwrap();
    assert_eq!(listener.ready, 3);
    assert!(listener.is_quiet().await);
    world
        .platform
        .emit(asha.id, &world.deposit_event(&asha, 1))
        .await;
    assert_eq!(listener.next().await.unwrap().seq, 4);
    // The inbox is not the stream: what it holds stays.
    assert_eq!(world.unread(&asha).await, 2);
}

#[tokio::test]
async fn the_acknowledgements_of_one_user_are_bounded() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    world
        .platform
        .emit(asha.id, &world.deposit_event(&asha, 1))
        .await;
    let token = world.token(&asha);
    for device in 0..120 {
        world
            .acknowledge(&token, 1, &device.to_string())
            .await
            .unwrap();
    }
    let sql = "SELECT COUNT(*) FROM stream_acknowledgements WHERE user_id = $1";
    assert_eq!(world.number(sql, asha.id).await, Some(100));
    let mut newest = world.subscribe(&token, None, "119").await.unwrap();
    assert_eq!(newest.next().await.unwrap().seq, 2);
}

async fn entries(world: &World, user: &User) -> (i64, i64, i64) {
    let count = |sql| world.number(sql, user.id);
    let kept = count("SELECT COUNT(*) FROM notifications WHERE user_id = $1").await;
    let noted = count("SELECT entries FROM stream_heads WHERE user_id = $1").await;
    (kept.unwrap(), noted.unwrap(), world.unread(user).await)
}

#[tokio::test]
async fn an_inbox_that_is_too_full_loses_its_oldest_entries() {
    let platform = TestPlatform::start_with_manual_clock().await;
    let world = World::start_on(platform, |config| config.inbox.keep_per_user = 3).await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    for user in [&asha, &asha, &asha, &asha, &asha, &bola] {
        world
            .platform
            .emit(user.id, &world.deposit_event(user, 1))
            .await;
    }
    assert_eq!(entries(&world, &asha).await, (5, 5, 5));
    trimmed(&world, async || entries(&world, &asha).await == (3, 3, 3)).await;
    assert_eq!(entries(&world, &bola).await, (1, 1, 1));
}

#[tokio::test]
async fn notifications_go_after_a_year() {
    let world = World::start_with_manual_clock().await;
    let asha = world.register("AS12").await;
    for days in [0, 364] {
        world
            .platform
            .manual_clock()
            .advance(SignedDuration::from_hours(days * 24));
        world
            .platform
            .emit(asha.id, &world.deposit_event(&asha, 1))
            .await;
    }
    assert_eq!(entries(&world, &asha).await, (2, 2, 2));
    world
        .platform
        .manual_clock()
        .advance(SignedDuration::from_hours(48));
    trimmed(&world, async || entries(&world, &asha).await == (1, 1, 1)).await;
}
