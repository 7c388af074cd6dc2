use std::time::Duration;

use launcher::client::{Api, Mailbox, Money, NewPerson, NewSmsSchedule, Session};
use uuid::Uuid;

use super::{PATIENCE, eventually};

/// Registers a person, confirms the address and signs in.
pub(crate) async fn arrive(api: &Api, mailbox: &mut Mailbox, name: &str) -> Session {
    let person = NewPerson {
        first_name: name.to_owned(),
        last_name: "Tester".to_owned(),
        email: format!(
            "{}.{}@example.com",
            name.to_lowercase(),
            Uuid::now_v7().simple()
        ),
        password: "correct horse battery".to_owned(),
    };
    let user = api.register(&person).await.expect("registers");
    let token = mailbox
        .token_for(&user.email, PATIENCE)
        .await
        .expect("a mail comes");
    api.verify_email(&token).await.expect("confirms");
    let session = api
        .login(&person.email, &person.password)
        .await
        .expect("signs in");
    eventually("the account opens", PATIENCE, || async {
        let accounts = session.accounts().await.expect("accounts are read");
        (!accounts.is_empty()).then_some(())
    })
    .await;
    session
}

/// As [`arrive`], with money.
pub(crate) async fn arrive_with(
    api: &Api,
    mailbox: &mut Mailbox,
    name: &str,
    amount_minor: i64,
) -> Session {
    let session = arrive(api, mailbox, name).await;
    session
        .deposit(&key(), &Money::inr(amount_minor))
        .await
        .expect("a deposit is posted");
    session
}

/// Several people with money.
pub(crate) async fn arrive_all(
    api: &Api,
    mailbox: &mut Mailbox,
    count: usize,
    amount_minor: i64,
) -> Vec<Session> {
    let mut people = Vec::new();
    for number in 0..count {
        people.push(arrive_with(api, mailbox, &format!("Person{number}"), amount_minor).await);
    }
    people
}

/// Texts that many numbers, now. Gives the schedule's id.
pub(crate) async fn create_schedule(owner: &Session, messages: usize) -> String {
    let schedule = NewSmsSchedule {
        run_at: jiff::Timestamp::now().to_string(),
        message: "Survive this".to_owned(),
        recipients: (0..messages).map(|n| format!("+2782{n:07}")).collect(),
        name: "Under fire".to_owned(),
    };
    let created = owner
        .create_sms_schedule(&key(), &schedule)
        .await
        .expect("it is created");
    created.body.id
}

/// A key that no request has used before.
pub(crate) fn key() -> String {
    Uuid::now_v7().to_string()
}

/// The posted balance of the only account, in minor units.
pub(crate) async fn balance(session: &Session) -> i64 {
    let accounts = session.accounts().await.expect("accounts are read");
    assert_eq!(accounts.len(), 1, "one account");
    accounts[0].posted.amount_minor
}

/// Longest wait for one event of a stream.
pub(crate) const EVENT_PATIENCE: Duration = Duration::from_secs(20);
