//! Where money comes from.

mod sandbox;

use platform::Error;
use platform::work::RequestKey;

use crate::domain::Amount;

/// The funding sources of this deployment.
#[derive(Debug, Clone)]
pub(crate) struct Funding {
    default: FundingSource,
}

/// One source of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FundingSource {
    /// Play money.
    Sandbox,
}

impl Funding {
    /// With the source that is meant when none is named; `None` when there is no such source.
    pub(crate) fn new(default: &str) -> Option<Self> {
        Some(Self {
            default: FundingSource::named(default)?,
        })
    }

    /// The source of this name; empty means the configured one.
    ///
    /// # Errors
    /// `invalid_argument` that names `source`.
    pub(crate) fn source(&self, name: &str) -> Result<FundingSource, Error> {
        if name.is_empty() {
            return Ok(self.default);
        }
        FundingSource::named(name)
            .ok_or_else(|| Error::invalid_field("source", "is not a known funding source"))
    }
}

impl FundingSource {
    /// Stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sandbox => sandbox::NAME,
        }
    }

    /// Collects the money, once for each `reference`.
    pub(crate) async fn collect(self, reference: &RequestKey, amount: Amount) -> Result<(), Error> {
        match self {
            Self::Sandbox => sandbox::collect(reference, amount).await,
        }
    }

    fn named(name: &str) -> Option<Self> {
        (name == sandbox::NAME).then_some(Self::Sandbox)
    }
}
