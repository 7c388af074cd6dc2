//! Record what a user is called.

use platform::Error;
use platform::work::UnitOfWork;

use crate::domain::movement::Person;
use crate::storage::recipients;

/// Records a user's handle, unless something newer is known.
pub(crate) async fn record_recipient(
    unit: &UnitOfWork,
    person: &Person,
    version: i64,
) -> Result<(), Error> {
    Ok(recipients::put(unit.tx(), person, version).await?)
}
