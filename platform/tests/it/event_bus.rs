use platform::test_kit::{TestBus, event_bus_suite};

#[tokio::test(flavor = "multi_thread")]
async fn the_in_process_bus_keeps_every_promise() {
    event_bus_suite::run(TestBus::in_process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_keeps_every_promise() {
    event_bus_suite::run_on_rabbitmq().await;
}
