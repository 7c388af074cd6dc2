use std::sync::Arc;

use platform::event_bus::InProcessBus;
use platform::test_kit::event_bus_suite;

#[tokio::test(flavor = "multi_thread")]
async fn the_in_process_bus_keeps_every_promise() {
    event_bus_suite::run(|| Arc::new(InProcessBus::default())).await;
}
