//! Removal of what nobody needs any more, in small transactions so that no writer waits long.

use std::time::Duration;

use jiff::Timestamp;
use platform::Error;
use platform::maintenance::forget;
use platform::time::to_micros;
use platform::work::Work;

use super::{attempts, email_tokens, refresh_tokens, revocations, sessions};

/// Sessions are kept this long after their end, for their owner's list.
const SESSION_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Mailed tokens are kept this long after they were made: the hourly allowance counts them.
const TOKEN_KEPT: Duration = Duration::from_secs(86_400);

/// Removes expired tokens, revocations, counters and long-ended sessions. Returns how many rows went.
///
/// # Errors
/// As any query.
pub async fn run(work: &Work, now: Timestamp) -> Result<u64, Error> {
    use attempts::Column as Attempt;
    use email_tokens::Column as EmailToken;
    use refresh_tokens::Column as RefreshToken;
    use revocations::Column as Revocation;
    use sessions::Column as Session;
    let before = |age: Duration| now.checked_sub(age).map_or(i64::MIN, to_micros);

    let (key, expired) = ([Revocation::SessionId], before(Duration::ZERO));
    let mut gone = forget(work, revocations::Entity, &key, Revocation::Until, expired).await?;
    let (key, expired) = ([EmailToken::Hash], before(TOKEN_KEPT));
    gone += forget(
        work,
        email_tokens::Entity,
        &key,
        EmailToken::ExpiresAt,
        expired,
    )
    .await?;
    let (key, expired) = ([RefreshToken::Hash], before(Duration::ZERO));
    gone += forget(
        work,
        refresh_tokens::Entity,
        &key,
        RefreshToken::ExpiresAt,
        expired,
    )
    .await?;
    let (key, expired) = ([Attempt::Subject], attempts::forgettable(now));
    gone += forget(work, attempts::Entity, &key, Attempt::LastAt, expired).await?;
    let (key, expired) = ([Session::Id], before(SESSION_KEPT));
    gone += forget(work, sessions::Entity, &key, Session::ExpiresAt, expired).await?;
    Ok(gone)
}
