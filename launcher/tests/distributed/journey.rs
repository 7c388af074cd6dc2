//! The demo, from outside, against every process.

use launcher::demo::{self, DemoOptions, Mails};

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_holds_against_two_replicas_of_everything() {
    let cluster = Cluster::shared().await;
    let options = DemoOptions {
        url: cluster.api().base().to_owned(),
        mails: Mails::Folder(cluster.mail_dir()),
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
    }
}
