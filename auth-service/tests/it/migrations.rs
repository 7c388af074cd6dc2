use auth_service::AuthConfig;
use platform::database::Direction;
use platform::test_kit::TestPlatform;

#[tokio::test]
async fn the_schema_goes_up_down_and_up_again() {
    let platform = TestPlatform::start().await;
    let config = AuthConfig {
        database: platform.database_config("auth"),
        ..Default::default()
    };
    let newest = |told: &str| told.lines().last().unwrap().to_owned();
    for _ in 0..2 {
        let up = auth_service::migrate(&config, Direction::Up).await.unwrap();
        assert!(up.lines().all(|line| line.starts_with("applied")), "{up}");
        let down = auth_service::migrate(&config, Direction::Down)
            .await
            .unwrap();
        assert!(newest(&down).starts_with("pending"), "{down}");
        let status = auth_service::migrate(&config, Direction::Status)
            .await
            .unwrap();
        assert_eq!(status, down, "looking changes nothing");
    }
}
