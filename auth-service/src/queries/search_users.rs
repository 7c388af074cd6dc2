//! Find people to pay.

use std::time::Duration;

use platform::database::Database;
use platform::{Error, email, page};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::config::SearchConfig;
use crate::domain::handle::Handle;
use crate::domain::name;
use crate::error::Refusal;
use crate::storage::users::{self, Found, Wanted};

/// Fewest characters of the beginning of a name: one would list everybody.
const MIN_CHARS: usize = 2;
/// Most characters of a query; no address, name or handle is longer.
const MAX_CHARS: usize = 254;

/// A page of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The people.
    pub users: Vec<Found>,
    /// Where the next page begins; empty when there is none.
    pub next_cursor: String,
}

/// Finds people. Only a few searches are worked on at once, so that they never take all connections.
pub struct Search {
    db: Database,
    turns: Semaphore,
    deadline: Duration,
}

/// Where a page begins: whether it goes by family name, then behind which name and id.
type Place = (bool, String, Uuid);

impl Search {
    /// Searches in `db`.
    pub fn new(db: Database, config: &SearchConfig) -> Self {
        Self {
            db,
            turns: Semaphore::new(config.at_once),
            deadline: Duration::from_millis(config.queue_deadline_ms),
        }
    }

    /// People whose handle or address is the query, or whose name begins with it: first those whose whole name does,
    /// then those whose family name does. Never the one who searches.
    ///
    /// # Errors
    /// `invalid_argument` naming `query`, `limit` or `cursor`; `overloaded` when it is not our turn in time.
    pub async fn page(
        &self,
        searcher: Uuid,
        query: &str,
        limit: i32,
        cursor: &str,
    ) -> Result<Page, Error> {
        let wanted = read(query)?;
        let limit = page::limit(limit)?;
        let after = page::decode_cursor::<Place>(cursor)?;
        // Ours never holds one, and PostgreSQL takes none.
        if after
            .as_ref()
            .is_some_and(|(_, name, _)| name.chars().any(char::is_control))
        {
            return Err(Error::invalid_field(
                "cursor",
                "is not a cursor of this list",
            ));
        }
        let turn = tokio::time::timeout(self.deadline, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Refusal::Overloaded.into());
        };
        // One more than is shown tells whether there is a next page.
        let mut found = self.walk(searcher, wanted, after, limit + 1).await?;
        let more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next_cursor = match found.last() {
            Some((place, _)) if more => page::encode_cursor(place),
            _ => String::new(),
        };
        Ok(Page {
            users: found.into_iter().map(|(_, user)| user).collect(),
            next_cursor,
        })
    }

    async fn walk(
        &self,
        searcher: Uuid,
        wanted: Wanted,
        after: Option<Place>,
        most: u64,
    ) -> Result<Vec<(Place, Found)>, Error> {
        let walks = match wanted {
            Wanted::Name(start) => vec![Wanted::Name(start.clone()), Wanted::LastName(start)],
            exact => vec![exact],
        };
        let (begun, mut after) = match after {
            Some((by_last_name, name, id)) => (usize::from(by_last_name), Some((name, id))),
            None => (0, None),
        };
        let mut all = Vec::new();
        for walk in walks.into_iter().skip(begun) {
            let left = most.saturating_sub(all.len() as u64);
            if left == 0 {
                break;
            }
            let reader = self.db.reader();
            let found = users::search(reader, searcher, &walk, after.take(), left).await?;
            let by_last_name = matches!(walk, Wanted::LastName(_));
            all.extend(found.into_iter().map(|user| {
                let name = match by_last_name {
                    true => user.last_name_search.clone(),
                    false => user.name_search.clone(),
                };
                ((by_last_name, name, user.id), user)
            }));
        }
        Ok(all)
    }
}

fn read(query: &str) -> Result<Wanted, Error> {
    let text = query.trim();
    let chars = text.chars().count();
    if !(MIN_CHARS..=MAX_CHARS).contains(&chars) || text.chars().any(char::is_control) {
        return Err(Error::invalid_field(
            "query",
            "must have 2 to 254 characters",
        ));
    }
    if text.contains('@') {
        return Ok(Wanted::Email(email::normalise(text)));
    }
    if let Some(handle) = Handle::parse(text) {
        return Ok(Wanted::Handle(handle.as_str().to_owned()));
    }
    Ok(Wanted::Name(name::fold(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_an_address_a_handle_or_a_name() {
        let handle = Handle::draw(5).as_str().to_owned();
        assert_eq!(
            read(" Ana@Example.org ").unwrap(),
            Wanted::Email("ana@example.org".into())
        );
        assert_eq!(
            read(&handle.to_lowercase()).unwrap(),
            Wanted::Handle(handle)
        );
        assert_eq!(read("ÅS").unwrap(), Wanted::Name("ås".into()));
        assert_eq!(read("%%").unwrap(), Wanted::Name("%%".into()));
    }

    #[tokio::test]
    async fn who_cannot_search_in_time_is_told_so() {
        let platform = platform::test_kit::TestPlatform::start().await;
        let db = platform
            .database::<crate::storage::migrations::Migrator>("auth")
            .await;
        let config = SearchConfig {
            at_once: 1,
            queue_deadline_ms: 1,
        };
        let search = Search::new(db, &config);
        let busy = search.turns.acquire().await.unwrap();
        let error = search.page(Uuid::nil(), "ra", 0, "").await.unwrap_err();
        assert_eq!(error.reason(), "overloaded");
        assert!(error.retry_after().is_some());
        drop(busy);
        assert!(search.page(Uuid::nil(), "ra", 0, "").await.is_ok());
    }

    #[test]
    fn short_long_and_broken_queries_are_refused_by_name() {
        let long = "x".repeat(255);
        for query in ["", " ", "a", "  a  ", "a\0b", long.as_str()] {
            assert_eq!(
                read(query).unwrap_err().violations()[0].field,
                "query",
                "{query:?}"
            );
        }
    }
}
