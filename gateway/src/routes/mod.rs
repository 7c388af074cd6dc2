//! The routes, by resource. Each file names its requests, makes one call and shows the answer.

mod accounts;
mod auth;
mod categories;
mod deposits;
mod docs;
pub(crate) mod health;
mod me;
mod notifications;
mod page;
mod sms_schedules;
mod stream;
mod transactions;
mod transfers;
mod users;
mod verify_email;
pub(crate) mod well_known;

use platform::Error;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::error::Failure;

/// Most entries on a page.
const MAX_LIMIT: i32 = 100;

/// All routes, by what is asked of those who come.
pub(crate) struct Groups {
    /// No token; counted by address.
    pub(crate) public: OpenApiRouter<App>,
    /// An access token; counted by user.
    pub(crate) member: OpenApiRouter<App>,
    /// As `member`; counted even while the store of counters is away.
    pub(crate) account: OpenApiRouter<App>,
    /// An access token; large bodies that take their time.
    pub(crate) upload: OpenApiRouter<App>,
    /// The token comes in the first frame.
    pub(crate) stream: OpenApiRouter<App>,
    /// Open to all and not counted.
    pub(crate) open: OpenApiRouter<App>,
}

/// Every route that there is.
pub(crate) fn groups() -> Groups {
    Groups {
        public: OpenApiRouter::default().merge(auth::public()),
        member: OpenApiRouter::default()
            .merge(me::routes())
            .merge(accounts::routes())
            .merge(deposits::routes())
            .merge(transfers::routes())
            .merge(transactions::routes())
            .merge(categories::routes())
            .merge(notifications::routes())
            .merge(sms_schedules::routes()),
        account: OpenApiRouter::default()
            .merge(auth::member())
            .merge(users::routes()),
        upload: sms_schedules::upload_routes(),
        stream: stream::routes(),
        open: OpenApiRouter::default()
            .merge(health::routes())
            .merge(well_known::routes())
            .merge(docs::routes())
            .merge(verify_email::routes()),
    }
}

/// The size of a page that was asked for; 0 leaves it to the service.
///
/// # Errors
/// `invalid_argument` that names `limit` outside 1 to [`MAX_LIMIT`].
fn limit(asked: Option<i32>) -> Result<i32, Failure> {
    match asked {
        None => Ok(0),
        Some(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        Some(_) => {
            Err(Error::invalid_field("limit", format!("must be between 1 and {MAX_LIMIT}")).into())
        }
    }
}
