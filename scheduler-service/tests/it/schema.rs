use platform::database::Direction;
use platform::test_kit::TestPlatform;
use scheduler_service::SchedulerConfig;

#[tokio::test]
async fn the_schema_goes_up_and_down_and_up_again() {
    let platform = TestPlatform::start().await;
    let config = SchedulerConfig {
        database: platform.database_config("schema"),
        ..Default::default()
    };
    let migrate = |direction| scheduler_service::migrate(&config, direction);
    let up = migrate(Direction::Up).await.unwrap();
    assert!(up.lines().all(|line| line.starts_with("applied")), "{up}");
    for _ in up.lines() {
        migrate(Direction::Down).await.unwrap();
    }
    let down = migrate(Direction::Status).await.unwrap();
    assert!(
        down.lines().all(|line| line.starts_with("pending")),
        "{down}"
    );
    assert_eq!(migrate(Direction::Up).await.unwrap(), up);
}
