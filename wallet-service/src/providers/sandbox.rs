//! Play money: every request is approved at once.

use platform::Error;
use platform::work::RequestKey;

use crate::domain::Amount;

/// Name of this source.
pub(super) const NAME: &str = "sandbox";

/// Approves. There is no outside party to charge, so asking again for the same reference is harmless.
pub(super) async fn collect(reference: &RequestKey, amount: Amount) -> Result<(), Error> {
    tracing::debug!(
        request.scope = reference.scope(),
        amount_minor = amount.minor(),
        currency = amount.currency().code(),
        "sandbox deposit approved"
    );
    Ok(())
}
