use std::time::Duration;

use auth_service::storage::sweep;
use platform::work::Work;
use sea_orm::{ConnectionTrait, Statement};

use crate::world::World;

const DAY: Duration = Duration::from_secs(86_400);

async fn rows(world: &World, table: &str) -> i64 {
    let sql = format!("SELECT count(*) AS n FROM {table}");
    let query = Statement::from_string(world.db.backend(), sql);
    world
        .db
        .reader()
        .query_one_raw(query)
        .await
        .unwrap()
        .unwrap()
        .try_get("", "n")
        .unwrap()
}

#[tokio::test]
async fn what_has_expired_goes_and_what_lives_stays() {
    let world = World::start().await;
    let (_, ended) = world.member("asha@example.org").await;
    world.logout(&ended.refresh_token).await.unwrap();
    let mut wrong = crate::world::sign_in("asha@example.org");
    wrong.password = "wrong horse battery".to_owned();
    world.login_with(wrong).await.unwrap_err();
    let work = Work::new("test", world.db.clone(), world.platform.clock());

    sweep::run(&work, work.now()).await.unwrap();
    let tables = [
        "users",
        "sessions",
        "refresh_tokens",
        "email_tokens",
        "revocations",
        "attempts",
    ];
    let mut left = Vec::new();
    for table in tables {
        left.push(rows(&world, table).await);
    }
    assert_eq!(left, [1, 1, 1, 1, 1, 2], "nothing has expired yet");

    world.advance(DAY * 8);
    let fresh = world
        .login("asha@example.org")
        .await
        .unwrap()
        .tokens
        .unwrap();
    assert_eq!(sweep::run(&work, work.now()).await.unwrap(), 5);
    assert_eq!(
        rows(&world, "sessions").await,
        2,
        "ended ones are kept for their owner's list"
    );
    world.refresh(&fresh.refresh_token).await.unwrap();

    world.advance(DAY * 30);
    sweep::run(&work, work.now()).await.unwrap();
    assert_eq!(rows(&world, "sessions").await, 1);
    assert_eq!(rows(&world, "users").await, 1);
    world.end().await;
}
