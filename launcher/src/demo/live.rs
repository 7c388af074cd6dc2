use std::collections::BTreeSet;

use anyhow::{Context, ensure};

use super::money::{TRANSFER_MINOR, fresh_key};
use super::report::{Held, held};
use super::{PATIENCE, money};
use crate::client::{EventStream, Money, Session, StreamEvent, Transaction};

/// What each side of a movement is told.
const TOLD: [&str; 3] = [
    "balance.updated",
    "notification.created",
    "transaction.created",
];

/// The live streams of both people.
pub(super) struct Live {
    asha: EventStream,
    brian: Option<EventStream>,
    /// Number of the last event that each has seen.
    asha_seen: i64,
    brian_seen: i64,
}

impl Live {
    pub(super) async fn connect(asha: &Session, brian: &Session) -> Held<Self> {
        let asha = open(asha, Some(0)).await?;
        let brian = open(brian, Some(0)).await?;
        held(
            Self {
                asha,
                brian: Some(brian),
                asha_seen: 0,
                brian_seen: 0,
            },
            "",
        )
    }

    pub(super) async fn expect_first_movements(
        &mut self,
        deposit: &Transaction,
        transfer: &Transaction,
    ) -> Held<()> {
        let both = [deposit.id.as_str(), transfer.id.as_str()];
        self.asha_seen = expect(&mut self.asha, self.asha_seen, &both)
            .await
            .context("Asha")?;
        let brian = self.brian.as_mut().context("Brian is not connected")?;
        self.brian_seen = expect(brian, self.brian_seen, &both[1..])
            .await
            .context("Brian")?;
        held(
            (),
            format!(
                "Asha 1 to {}, Brian 1 to {}",
                self.asha_seen, self.brian_seen
            ),
        )
    }

    /// Brian goes away, is paid meanwhile, and comes back.
    pub(super) async fn miss_one_and_catch_up(
        &mut self,
        asha: &Session,
        brian: &Session,
    ) -> Held<()> {
        let mut stream = self.brian.take().context("Brian is not connected")?;
        stream.acknowledge(self.brian_seen).await?;
        stream.close().await;

        let amount = Money::inr(TRANSFER_MINOR / 2);
        let handle = &brian.user().handle;
        let missed = asha
            .transfer(&money::fresh_key(), handle, &amount, "Coffee")
            .await?
            .body;
        let missed_id = [missed.id.as_str()];
        self.asha_seen = expect(&mut self.asha, self.asha_seen, &missed_id)
            .await
            .context("Asha")?;

        let mut stream = open(brian, Some(self.brian_seen)).await?;
        let first_missed = self.brian_seen + 1;
        self.brian_seen = expect(&mut stream, self.brian_seen, &missed_id)
            .await
            .context("Brian")?;
        let last_missed = self.brian_seen;

        // The next thing on the stream must be the next thing that happens: nothing came twice.
        let next = asha
            .transfer(&fresh_key(), handle, &amount, "And cake")
            .await?
            .body;
        let next_id = [next.id.as_str()];
        self.brian_seen = expect(&mut stream, self.brian_seen, &next_id)
            .await
            .context("Brian, live again")?;
        self.asha_seen = expect(&mut self.asha, self.asha_seen, &next_id)
            .await
            .context("Asha")?;
        stream.close().await;
        held(
            (),
            format!("Brian caught up on {first_missed} to {last_missed}, then live again"),
        )
    }
}

async fn open(session: &Session, after: Option<i64>) -> anyhow::Result<EventStream> {
    let stream = EventStream::open(session.api(), &session.tokens.access_token, after).await;
    stream.with_context(|| format!("opening the stream of {}", session.user().first_name))
}

/// Reads what these movements must tell, in any order among themselves but numbered one after the other.
/// Gives the last number.
async fn expect(stream: &mut EventStream, seen: i64, transactions: &[&str]) -> anyhow::Result<i64> {
    let events = stream
        .take(transactions.len() * TOLD.len(), PATIENCE)
        .await?;
    let mut last = seen;
    for event in &events {
        ensure!(event.seq == last + 1, "number {} follows {last}", event.seq);
        last = event.seq;
    }
    for kind in TOLD {
        let told: Vec<&StreamEvent> = events.iter().filter(|event| event.event == kind).collect();
        ensure!(
            told.len() == transactions.len(),
            "{kind} was told {} times",
            told.len()
        );
        // A balance is told by itself; the others name what they are about.
        let named: BTreeSet<&str> = told.iter().filter_map(|event| about(event)).collect();
        let wanted = BTreeSet::from_iter(transactions.iter().copied());
        ensure!(
            kind == "balance.updated" || named == wanted,
            "{kind} is about {named:?}"
        );
    }
    Ok(last)
}

/// The transaction that an event is about.
fn about(event: &StreamEvent) -> Option<&str> {
    ["transaction_id", "entity_id"]
        .iter()
        .find_map(|name| event.data[*name].as_str())
}
