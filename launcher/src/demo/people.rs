use anyhow::ensure;

use super::PATIENCE;
use super::report::{Held, Report, Stopped, held};
use crate::client::{Api, Mailbox, NewPerson, Session};

/// Two people whom nobody has seen before, so that the demo can be repeated on the same data.
pub(super) struct Couple {
    people: [NewPerson; 2],
    mailbox: Mailbox,
}

impl Couple {
    pub(super) fn new(mailbox: Mailbox) -> Self {
        let run = rand::random::<u64>();
        let person = |first_name: &str, last_name: &str| NewPerson {
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            email: format!("{}.{run:016x}@demo.example.com", first_name.to_lowercase()),
            password: format!("demo-{:032x}", rand::random::<u128>()),
        };
        let people = [person("Asha", "Rao"), person("Brian", "Mokoena")];
        Self { people, mailbox }
    }

    /// From unknown to signed in, in the order of the people.
    pub(super) async fn arrive(
        &mut self,
        api: &Api,
        report: &mut Report<'_>,
    ) -> Result<[Session; 2], Stopped> {
        report
            .step("two people register", self.register(api))
            .await?;
        let tokens = report
            .step("each gets a verification mail", self.read_mails())
            .await?;
        report
            .step("both confirm their address", confirm(api, &tokens))
            .await?;
        report.step("both sign in", self.sign_in(api)).await
    }

    async fn register(&self, api: &Api) -> Held<()> {
        let mut handles = Vec::new();
        for person in &self.people {
            let user = api.register(person).await?;
            ensure!(
                !user.email_verified,
                "{} is verified without a mail",
                user.email
            );
            handles.push(format!("{} is {}", user.first_name, user.handle));
        }
        held((), handles.join(", "))
    }

    async fn read_mails(&mut self) -> Held<[String; 2]> {
        let first = self
            .mailbox
            .token_for(&self.people[0].email, PATIENCE)
            .await?;
        let second = self
            .mailbox
            .token_for(&self.people[1].email, PATIENCE)
            .await?;
        held([first, second], self.mailbox.to_string())
    }

    async fn sign_in(&self, api: &Api) -> Held<[Session; 2]> {
        let [first, second] = &self.people;
        let asha = api.login(&first.email, &first.password).await?;
        let brian = api.login(&second.email, &second.password).await?;
        for session in [&asha, &brian] {
            ensure!(
                session.user().email_verified,
                "{} is not verified",
                session.user().email
            );
        }
        held([asha, brian], "")
    }
}

async fn confirm(api: &Api, tokens: &[String; 2]) -> Held<()> {
    for token in tokens {
        api.verify_email(token).await?;
    }
    held((), "")
}
