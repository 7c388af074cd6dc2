//! The demo, from outside, against the product in this process.

use launcher::demo::{self, DemoOptions};

use crate::support::product::Product;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_holds_twice_on_the_same_data() {
    let product = Product::start().await;
    let options = DemoOptions {
        url: product.api().base().to_owned(),
        mail_dir: product.mail_dir(),
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

#[tokio::test]
async fn the_demo_says_how_to_start_the_product_when_it_does_not_run() {
    let options = DemoOptions {
        url: "http://127.0.0.1:1".to_owned(),
        mail_dir: "/nowhere".into(),
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
