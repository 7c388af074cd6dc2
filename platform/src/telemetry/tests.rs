use std::io;
use std::sync::{Arc, Mutex};

use tracing::Dispatch;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A subscriber of this test alone, whose JSON lines are kept.
fn captured(run: impl FnOnce()) -> Vec<serde_json::Value> {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let provider = provider_of("test").build();
    let subscriber = tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")))
        .with(
            tracing_subscriber::fmt::layer()
                .event_format(json::JsonLines)
                .with_writer(move || writer.clone()),
        );
    tracing::dispatcher::with_default(&Dispatch::new(subscriber), run);
    let bytes = lines.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn outside_of_a_span_there_is_no_trace() {
    assert_eq!(current_traceparent(), None);
    assert_eq!(current_trace_id(), None);
}

#[test]
fn a_span_has_a_trace_although_spans_go_nowhere() {
    captured(|| {
        let span = tracing::info_span!("one");
        let _entered = span.enter();
        let first = current_traceparent().unwrap();
        assert_eq!((first.len(), &first[..3]), (55, "00-"));
        let inner = tracing::info_span!("two");
        let _entered = inner.enter();
        let second = current_traceparent().unwrap();
        assert_eq!(first[3..35], second[3..35], "the same trace");
        assert_ne!(first[36..52], second[36..52], "another span");
        assert_eq!(current_trace_id().unwrap(), first[3..35]);
    });
}

#[test]
fn a_trace_is_continued_and_nonsense_is_passed_over() {
    captured(|| {
        let span = tracing::info_span!("continued");
        set_parent(&span, PARENT);
        assert_eq!(
            span.in_scope(current_traceparent).unwrap()[3..35],
            PARENT[3..35]
        );
        for nonsense in [
            "",
            "x",
            "00-0-0-00",
            &PARENT.to_uppercase(),
            &"0".repeat(10_000),
        ] {
            let span = tracing::info_span!("fresh");
            set_parent(&span, nonsense);
            assert_ne!(
                span.in_scope(current_traceparent).unwrap()[3..35],
                PARENT[3..35]
            );
        }
    });
}

#[test]
fn json_lines_tell_their_trace() {
    let lines = captured(|| {
        let span = tracing::info_span!("work");
        set_parent(&span, PARENT);
        let _entered = span.enter();
        tracing::warn!(
            account.id = 7,
            level = "forged",
            trace_id = "forged",
            "it is\n\"odd\""
        );
    });
    let [line] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(line["message"], "it is\n\"odd\"");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["account.id"], 7);
    assert_eq!(line["span"], "work");
    assert_eq!(line["trace_id"], PARENT[3..35]);
}

#[test]
fn one_level_is_for_our_own_crates() {
    let filter = log_filter("info").unwrap().to_string();
    assert!(
        filter.contains("wallet_service=info") && filter.contains("warn"),
        "{filter}"
    );
    assert!(
        log_filter("off")
            .unwrap()
            .to_string()
            .contains("platform=off")
    );
    assert!(log_filter("warn,sqlx=debug").is_ok());
    assert!(log_filter("a=b=c").is_err());
}

#[test]
fn wrong_settings_are_named() {
    let config = TelemetryConfig {
        level: "inof".into(),
        otlp_endpoint: Some("localhost".into()),
        ..TelemetryConfig::default()
    };
    let keys: Vec<_> = config
        .validate()
        .into_iter()
        .map(|problem| problem.key)
        .collect();
    assert_eq!(keys, ["level", "otlp_endpoint"]);
    assert!(TelemetryConfig::default().validate().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_sent_where_the_configuration_says() {
    use opentelemetry::trace::{Span, Tracer};
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let config = TelemetryConfig {
        otlp_endpoint: Some(endpoint),
        ..TelemetryConfig::default()
    };
    let provider = provider(&config, "test").unwrap();
    provider.tracer("test").start("one").end();
    let flushed = tokio::task::spawn_blocking(move || provider.force_flush());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut preface = [0; 16];
    stream.read_exact(&mut preface).await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n");
    drop((stream, listener));
    let _ = flushed.await.unwrap();
}
