//! Messages to one person: the inbox, the numbered real-time stream, and mail.

mod channels;
mod commands;
mod config;
mod domain;
mod error;
mod events;
mod grpc;
mod pokes;
mod queries;
mod storage;
mod templates;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use platform::Handles;
use platform::config::Validate;
use platform::consumer::Consumer;
use platform::database::{self, Database, Direction};
use platform::grpc::server::Server;
use platform::principal::Authenticator;
use platform::work::Work;
use proto::notify::v1::notify_server::NotifyServer;
use proto::subscriptions::NOTIFY;
use sea_orm::DbBackend;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::service::Routes;

use crate::channels::{Channel, FolderChannel, SmtpChannel};
use crate::commands::send_mail::Mailer;
use crate::events::Facts;
use crate::pokes::Pokes;
use crate::storage::mails;
use crate::storage::migrations::Migrator;
use crate::templates::Templates;

pub use config::{
    InboxConfig, MailChannel, MailConfig, NotifyConfig, SmtpConfig, SmtpTls, StreamConfig,
};

/// Name of this service, in events, traces and tokens.
pub const NAME: &str = "notify-service";

/// Starts the service on `listener`: consumer, mail worker, housekeeping and gRPC server run as tasks of `handles`.
/// Returns once all is started.
///
/// # Errors
/// When the settings are wrong, or the database or the mail folder cannot be opened.
pub async fn run(
    config: NotifyConfig,
    listener: TcpListener,
    handles: Handles,
) -> anyhow::Result<()> {
    let db = open(&config).await?;
    let work = Work::new(NAME, db, handles.clock.clone());
    let tasks = &handles.tasks;

    let pokes = Arc::new(Pokes::default());
    pokes.run(Arc::clone(&handles.fanout), tasks);

    let mail = Arc::new(Notify::new());
    let mailer = mailer(&config, &work, &handles).await?;
    workers::send_mails(mailer, Arc::clone(&mail), tasks);

    let every = Duration::from_secs(config.stream.trim_every_s);
    workers::trim_old(work.clone(), config.retention(), every, tasks);
    platform::maintenance::spawn(work.clone(), tasks);

    let facts = Facts {
        pokes: Arc::clone(&pokes),
        keys: Arc::clone(&handles.keys),
        mail,
    };
    handles
        .bus
        .subscribe(
            Consumer::new(NOTIFY.consumer, work.clone(), Arc::new(facts)),
            tasks,
        )
        .await?;

    let authenticator = Authenticator::new(handles.clock.clone(), &handles.keys);
    platform::identity::follow(NAME, &authenticator, handles.identity.clone(), tasks);
    let db = work.db().clone();
    let service = grpc::Service {
        work,
        pokes,
        fanout: Arc::clone(&handles.fanout),
        revocations: authenticator.revocations.clone(),
        tasks: tasks.clone(),
        look_every: Duration::from_millis(config.stream.look_every_ms),
        tests_per_minute: config.inbox.tests_per_minute,
    };
    let routes = Routes::new(NotifyServer::new(service));
    Server::new(NAME, authenticator)
        .with_database(&db)
        .of_process(&handles)
        .serve(listener, routes, tasks);
    Ok(())
}

/// Migrates the database and tells what holds afterwards, one migration a line.
///
/// # Errors
/// When the database does not answer or a migration fails.
pub async fn migrate(config: &NotifyConfig, direction: Direction) -> anyhow::Result<String> {
    let db = Database::connect(&config.database).await?;
    let report = database::migrate::<Migrator>(&db, direction).await?;
    db.close().await;
    Ok(report)
}

/// Takes the dead letters up once more and queues the mails again that were given up and still make sense. Returns how
/// many of both came back. A service that runs at the same time sends the mails within half a minute.
///
/// # Errors
/// When the database does not answer.
pub async fn redrive(config: &NotifyConfig, handles: &Handles) -> anyhow::Result<u64> {
    let work = Work::new(NAME, open(config).await?, handles.clock.clone());
    let facts = Facts {
        pokes: Arc::default(),
        keys: Arc::clone(&handles.keys),
        mail: Arc::default(),
    };
    let letters = Consumer::new(NOTIFY.consumer, work.clone(), Arc::new(facts))
        .redrive()
        .await?;
    let unit = work.begin().await?;
    let requeued = mails::requeue_failed(unit.tx(), unit.now()).await?;
    unit.commit().await?;
    work.db().clone().close().await;
    Ok(letters + requeued)
}

async fn open(config: &NotifyConfig) -> anyhow::Result<Database> {
    let problems = config.validate();
    anyhow::ensure!(
        problems.is_empty(),
        "{NAME} is not configured well: {problems:?}"
    );
    let db = Database::connect(&config.database).await?;
    if config.database.migrate {
        database::migrate::<Migrator>(&db, Direction::Up).await?;
    }
    Ok(db)
}

async fn mailer(config: &NotifyConfig, work: &Work, handles: &Handles) -> anyhow::Result<Mailer> {
    // Alone on its database, the service holds no claim that its last life could still be working on.
    if work.db().backend() == DbBackend::Sqlite {
        let unit = work.begin().await?;
        mails::release_all(unit.tx(), unit.now()).await?;
        unit.commit().await?;
    }
    Ok(Mailer {
        work: work.clone(),
        keys: Arc::clone(&handles.keys),
        templates: Templates::load(&config.mail.public_url)?,
        channel: channel(&config.mail).await?,
        from: config.mail.sender()?,
        policy: config.mail.policy(),
    })
}

async fn channel(mail: &MailConfig) -> anyhow::Result<Arc<dyn Channel>> {
    Ok(match mail.channel {
        MailChannel::Folder => {
            let folder = &mail.folder;
            let channel = FolderChannel::open(folder)
                .await
                .with_context(|| format!("cannot open the mail folder {}", folder.display()))?;
            Arc::new(channel)
        }
        MailChannel::Smtp => Arc::new(SmtpChannel::new(mail).context("mail.smtp")?),
    })
}
