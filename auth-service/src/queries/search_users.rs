//! Find people to pay.

use platform::database::Database;
use platform::{Error, email, page};
use uuid::Uuid;

use crate::domain::handle::Handle;
use crate::domain::name;
use crate::storage::users::{self, Found, Wanted};

/// Fewest characters of a part of a name: one would list everybody.
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

/// People whose handle or address is the query, or whose name holds it; never the one who searches.
///
/// # Errors
/// `invalid_argument` naming `query`, `limit` or `cursor`.
pub async fn search(
    db: &Database,
    searcher: Uuid,
    query: &str,
    limit: i32,
    cursor: &str,
) -> Result<Page, Error> {
    let wanted = read(query)?;
    let limit = page::limit(limit)?;
    let after = page::decode_cursor::<(String, Uuid)>(cursor)?;
    // Ours never holds one, and PostgreSQL takes none.
    if after
        .as_ref()
        .is_some_and(|(name, _)| name.chars().any(char::is_control))
    {
        return Err(Error::invalid_field(
            "cursor",
            "is not a cursor of this list",
        ));
    }
    // One more than is shown tells whether there is a next page.
    let mut found = users::search(db.reader(), searcher, &wanted, after, limit + 1).await?;
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = match found.last() {
        Some(last) if more => page::encode_cursor(&(&last.name_search, last.id)),
        _ => String::new(),
    };
    Ok(Page {
        users: found,
        next_cursor,
    })
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
