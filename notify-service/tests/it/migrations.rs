//! The schema, there and back.

use notify_service::{NotifyConfig, migrate};
use platform::database::Direction;
use platform::test_kit::TestPlatform;

#[tokio::test]
async fn migrations_go_up_down_and_up_again() {
    let platform = TestPlatform::start().await;
    let config = NotifyConfig {
        database: platform.database_config("notify"),
        ..NotifyConfig::default()
    };
    let pending = migrate(&config, Direction::Status).await.unwrap();
    assert!(
        pending.lines().count() >= 2 && !pending.contains("applied"),
        "{pending}"
    );
    let applied = migrate(&config, Direction::Up).await.unwrap();
    assert!(!applied.contains("pending"), "{applied}");
    for _ in 0..2 {
        migrate(&config, Direction::Down).await.unwrap();
    }
    assert_eq!(migrate(&config, Direction::Status).await.unwrap(), pending);
    assert_eq!(migrate(&config, Direction::Up).await.unwrap(), applied);
}
