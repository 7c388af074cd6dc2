//! The demo, from outside, against the product in this process.

use launcher::demo::{self, DemoOptions, Mails};
use launcher::up;
use notify_service::{MailChannel, SmtpTls};
use platform::clock::SystemClock;

use crate::common::together;
use crate::support::product::Product;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_holds_twice_on_the_same_data() {
    let product = Product::start().await;
    let options = DemoOptions {
        url: product.api().base().to_owned(),
        mails: Mails::Folder(product.mail_dir()),
        recipients: 1_000,
        progress_bar: false,
    };
    for _ in 0..2 {
        let mut out = Vec::new();
        let held = demo::run(&options, &mut out)
            .await
            .expect("the report can be written");
        let report = String::from_utf8(out).expect("text");
        println!("{report}");
        assert!(held, "{report}");
        assert!(report.contains("checks held"), "{report}");
    }
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_takes_the_mails_of_a_product_that_sends_them_by_smtp() {
    let _machine = together().await;
    let folder = tempfile::tempdir().expect("a folder");
    // A port that was free a moment ago.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    drop(taken);
    let mut config = Product::config(folder.path());
    config.notify.mail.channel = MailChannel::Smtp;
    config.notify.mail.smtp.host = "127.0.0.1".to_owned();
    config.notify.mail.smtp.port = port;
    config.notify.mail.smtp.tls = SmtpTls::None;
    let running = up::start(config, SystemClock::shared())
        .await
        .expect("the product starts");
    let options = DemoOptions {
        url: running.url(),
        mails: Mails::Listen(format!("127.0.0.1:{port}")),
        recipients: 10,
        progress_bar: false,
    };
    let mut out = Vec::new();
    let held = demo::run(&options, &mut out)
        .await
        .expect("the report can be written");
    let report = String::from_utf8(out).expect("text");
    println!("{report}");
    assert!(held && report.contains("by SMTP to"), "{report}");
    let left = running.stop().await;
    assert!(left.is_empty(), "did not end: {left:?}");
}

#[tokio::test]
async fn the_demo_says_how_to_start_the_product_when_it_does_not_run() {
    let options = DemoOptions {
        url: "http://127.0.0.1:1".to_owned(),
        mails: Mails::Folder("/nowhere".into()),
        recipients: 1,
        progress_bar: false,
    };
    let mut out = Vec::new();
    let held = demo::run(&options, &mut out)
        .await
        .expect("the report can be written");
    let report = String::from_utf8(out).expect("text");
    assert!(!held);
    assert!(
        report.contains("nobody answers") && report.contains("cargo run"),
        "{report}"
    );
}
