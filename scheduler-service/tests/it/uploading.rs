use std::time::Duration;

use jiff::SignedDuration;
use platform::database::Database;
use platform::test_kit::eventually;
use proto::scheduler::v1::upload_sms_recipients_request::Part;
use sea_orm::{ConnectionTrait, Statement};

use crate::harness::{PATIENCE, Service, answer, numbers, parts};

const FILE: &str = "\u{feff}name;to\r\nThandi;\"+27 82 123 4567\"\r\n\r\n\"A \"\"B\"\";\nC\";+27821234567\r\nBad;hello\r\nNobody;\r\nAsha;098765 43210";

/// Rows of messages and of unfinished uploads in the database.
pub(crate) async fn rows(service: &Service) -> (i64, i64) {
    let db = Database::connect(&service.config.database).await.unwrap();
    let mut counts = Vec::new();
    for table in ["sms_messages", "sms_uploads"] {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let statement = Statement::from_string(db.backend(), sql);
        let row = db.reader().query_one_raw(statement).await.unwrap().unwrap();
        counts.push(row.try_get_by_index(0).unwrap());
    }
    db.close().await;
    (counts[0], counts[1])
}

#[tokio::test]
async fn a_file_is_counted_right_however_it_is_cut() {
    let service = Service::start(|_| {}).await;
    let mut order = service.order::<&str>("a", &[]);
    let start = service.platform.clock().now() + SignedDuration::from_mins(5);
    order.run_at = Some(platform::time::to_proto(start));
    let id = service.create(order).await.unwrap().schedule.unwrap().id;
    assert_eq!(service.get(&id).await.unwrap().status, "draft");
    let whole = service.upload(&id, [FILE]).await.unwrap();
    assert_eq!(
        (whole.accepted, whole.duplicates, whole.rejected),
        (2, 1, 2)
    );
    let rejects: Vec<_> = whole
        .first_rejects
        .iter()
        .map(|r| (r.line, r.value.as_str(), r.reason.as_str()))
        .collect();
    assert_eq!(rejects, [(6, "hello", "not_a_number"), (7, "", "empty")]);
    for size in [1, 2, 7] {
        let again = service
            .upload(&id, FILE.as_bytes().chunks(size))
            .await
            .unwrap();
        assert_eq!(again, whole, "in pieces of {size}");
    }
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_mins(5));
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.total, 2);
    service.assert_sent_once(&["+27821234567", "+919876543210"]);
    eventually(PATIENCE, || async { rows(&service).await == (2, 0) }).await;
    service.stop().await;
}

#[tokio::test]
async fn a_later_file_replaces_an_earlier_one_as_a_whole() {
    let service = Service::start(|config| config.daily_recipients = 0).await;
    let mut order = service.order("a", &numbers(10));
    let start = service.platform.clock().now() + SignedDuration::from_mins(5);
    order.run_at = Some(platform::time::to_proto(start));
    let id = service.create(order).await.unwrap().schedule.unwrap().id;
    let many = numbers(3000)[500..].join("\n");
    let report = service
        .upload(&id, many.as_bytes().chunks(1000))
        .await
        .unwrap();
    assert_eq!(
        (report.accepted, report.duplicates, report.rejected),
        (2500, 0, 0)
    );
    let schedule = service.get(&id).await.unwrap();
    assert_eq!((schedule.recipients, schedule.version), (2500, 2));
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_mins(5));
    service.play_to_end(&id).await;
    service.assert_sent_once(&numbers(3000)[500..]);
    service.stop().await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_changes_nothing_and_is_swept() {
    let service = Service::start(|_| {}).await;
    let id = service.created::<&str>("a", &[]).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let request = service.ask(stream);
    let mut client = service.client();
    let call = tokio::task::spawn(async move { client.upload_sms_recipients(request).await });
    let text = numbers(2000).join("\n");
    let mut cut = parts(&id, [text.as_bytes()]);
    cut.pop();
    for part in cut {
        sender.send(part).await.unwrap();
    }
    eventually(PATIENCE, || async { rows(&service).await.0 > 0 }).await;
    assert_eq!(service.get(&id).await.unwrap().status, "draft");
    call.abort();
    drop(sender);
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_mins(16));
    eventually(PATIENCE, || async { rows(&service).await == (0, 0) }).await;
    let schedule = service.get(&id).await.unwrap();
    assert_eq!(
        (schedule.status.as_str(), schedule.recipients),
        ("draft", 0)
    );
    assert!(service.journal().is_empty());
    service.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_without_the_word_for_it_is_not_taken() {
    let service = Service::start(|_| {}).await;
    let mut order = service.order("a", &numbers(3));
    let start = service.platform.clock().now() + SignedDuration::from_mins(5);
    order.run_at = Some(platform::time::to_proto(start));
    let id = service.create(order).await.unwrap().schedule.unwrap().id;
    let file = numbers(2000).join("\n");
    for pieces in [vec![], vec![file.as_bytes()]] {
        let mut cut = parts(&id, pieces);
        cut.pop();
        let request = service.ask(tokio_stream::iter(cut));
        let error = answer(service.client().upload_sms_recipients(request).await).unwrap_err();
        assert_eq!(error.reason(), "upload_incomplete");
    }
    assert_eq!(service.get(&id).await.unwrap().recipients, 3);
    eventually(PATIENCE, || async { rows(&service).await == (3, 0) }).await;
    service.stop().await;
}

#[tokio::test]
async fn an_upload_that_falls_silent_is_given_up() {
    let service = Service::start(|config| config.upload_idle_s = 1).await;
    let id = service.created::<&str>("a", &[]).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let mut silent = parts(&id, ["+27821234567\n"]);
    silent.pop();
    for part in silent {
        sender.send(part).await.unwrap();
    }
    let request = service.ask(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut client = service.client();
    let call = client.upload_sms_recipients(request);
    let error = answer(
        tokio::time::timeout(Duration::from_secs(20), call)
            .await
            .unwrap(),
    );
    assert_eq!(error.unwrap_err().kind(), platform::Kind::Timeout);
    drop(sender);
    service.stop().await;
}

#[tokio::test]
async fn recipients_cannot_change_after_the_start() {
    let service = Service::start(|_| {}).await;
    let finished = service.created("a", &numbers(2)).await;
    service.play_to_end(&finished).await;
    let cancelled = service.created::<&str>("b", &[]).await;
    service.cancel(&cancelled).await.unwrap();
    for id in [finished, cancelled] {
        let error = service.upload(&id, ["+27821234567"]).await.unwrap_err();
        assert_eq!(error.reason(), "schedule_started");
    }
    service.stop().await;
}

#[tokio::test]
async fn hostile_uploads_are_refused_by_name() {
    let service = Service::start(|config| config.max_upload_rows = 100).await;
    let id = service.created::<&str>("a", &[]).await;
    let open_quote = format!("to\n\"{}", "+27821234567\n".repeat(10_000));
    let many_rows = "x\n".repeat(101);
    let big_chunk = "\n".repeat(1024 * 1024 + 1);
    let mut twice = parts(&id, ["+27821234567"]);
    twice.insert(1, twice[0].clone());
    let mut more = parts(&id, ["+27821234567"]);
    more.push(more[1].clone());
    let mut not_yet = parts(&id, ["+27821234567"]);
    not_yet[2].part = Some(Part::Complete(false));
    let none = vec![proto::scheduler::v1::UploadSmsRecipientsRequest { part: None }];
    for (stream, field) in [
        (parts(&id, [open_quote]), "csv"),
        (parts(&id, [many_rows]), "csv"),
        (parts(&id, ["to\n+27821234567\n+2782\u{0}1234568"]), "csv"),
        (parts(&id, [big_chunk]), "chunk"),
        (twice, "schedule_id"),
        (more, "complete"),
        (not_yet, "complete"),
        (none, "schedule_id"),
        (Vec::new(), "schedule_id"),
        (parts("no id", ["1"]), "schedule_id"),
    ] {
        let request = service.ask(tokio_stream::iter(stream));
        let error = answer(service.client().upload_sms_recipients(request).await).unwrap_err();
        assert_eq!(error.violations()[0].field, field, "{error}");
    }
    let stranger = uuid::Uuid::now_v7().to_string();
    let error = service.upload(&stranger, ["1"]).await.unwrap_err();
    assert_eq!(error.reason(), "not_found");
    assert_eq!(service.get(&id).await.unwrap().status, "draft");
    service.stop().await;
}

#[tokio::test]
async fn an_empty_file_makes_it_a_draft_again() {
    let service = Service::start(|_| {}).await;
    let mut order = service.order("a", &numbers(10));
    let start = service.platform.clock().now() + SignedDuration::from_mins(5);
    order.run_at = Some(platform::time::to_proto(start));
    let id = service.create(order).await.unwrap().schedule.unwrap().id;
    let report = service.upload::<&str>(&id, []).await.unwrap();
    assert_eq!((report.accepted, report.rejected), (0, 0));
    assert_eq!(service.get(&id).await.unwrap().status, "draft");
    service.stop().await;
}
