//! SMS schedules.

use std::fmt;

use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use jiff::Timestamp;
use proto::scheduler::v1 as pb;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::limit;
use crate::app::App;
use crate::clients::{keyed, read};
use crate::error::Failure;
use crate::extract::{AuthUser, Created, Id, IdempotencyKey, Json, Query, require_content_type};
use crate::upload;
use crate::views::Page;
use crate::views::scheduler::{CreatedSchedule, Message, Progress, RecipientReport, Schedule};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(show))
        .routes(routes!(progress))
        .routes(routes!(messages))
        .routes(routes!(cancel))
}

pub(super) fn upload_routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(upload_recipients))
}

/// A new schedule.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSchedule {
    /// When to start; up to 60 s in the past means now.
    #[schema(value_type = String, format = DateTime)]
    run_at: Timestamp,
    /// 1 to 1,600 characters.
    #[schema(example = "Happy Diwali!")]
    message: String,
    /// Up to 10,000 numbers; more are uploaded as CSV.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["+27821234567"]))]
    recipients: Vec<Recipient>,
    /// What you call it, at most 200 characters.
    #[schema(example = "Diwali greetings")]
    name: Option<String>,
    /// Provider that sends it.
    #[schema(example = "simulator")]
    provider: Option<String>,
}

/// A number, written as `"+27821234567"` or as `{"to": "+27821234567"}`.
struct Recipient(String);

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Recipient;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number as text, or an object with `to`")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Recipient, E> {
                Err(E::invalid_type(de::Unexpected::Unit, &self))
            }

            fn visit_str<E>(self, number: &str) -> Result<Recipient, E> {
                Ok(Recipient(number.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Recipient, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Addressed {
                    to: String,
                }
                Addressed::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|addressed| Recipient(addressed.to))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Schedule a text to many numbers.
///
/// Without recipients it stays a draft until they are uploaded.
#[utoipa::path(post, path = "/v1/sms/schedules", tag = "schedules", request_body = NewSchedule,
    params(("Idempotency-Key" = String, Header)),
    responses((status = 201, description = "The schedule", body = CreatedSchedule)))]
async fn create(
    State(app): State<App>,
    user: AuthUser,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    Json(body): Json<NewSchedule>,
) -> Result<Created<CreatedSchedule>, Failure> {
    let message = pb::CreateSmsScheduleRequest {
        idempotency_key,
        run_at: Some(platform::time::to_proto(body.run_at)),
        message: body.message,
        recipients: body
            .recipients
            .into_iter()
            .map(|recipient| recipient.0)
            .collect(),
        name: body.name.unwrap_or_default(),
        provider: body.provider.unwrap_or_default(),
    };
    let reply = keyed(&user, message, |request| async {
        app.clients.scheduler().create_sms_schedule(request).await
    })
    .await?;
    Ok(Created::from_reply(reply, CreatedSchedule::from))
}

/// Replace the recipients of a schedule that has not started by those of a CSV file.
///
/// The first column holds the number, with or without a header line. Takes effect as a whole at the end of the file.
#[utoipa::path(put, path = "/v1/sms/schedules/{id}/recipients", tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule")),
    request_body(content = String, content_type = "text/csv", example = "to\n+27821234567\n"),
    responses((status = 200, description = "What became of them", body = RecipientReport),
        (status = 409, description = "The schedule has started or was cancelled")))]
async fn upload_recipients(
    State(app): State<App>,
    user: AuthUser,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<axum::Json<RecipientReport>, Failure> {
    require_content_type(&headers, "text/csv")?;
    let report = upload::recipients(&app, &user, id, body).await?;
    Ok(axum::Json(report.into()))
}

/// Which schedules to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// `draft`, `scheduled`, `running`, `finished` or `cancelled`.
    #[param(example = "running")]
    status: Option<String>,
}

/// Your schedules, newest first.
#[utoipa::path(get, path = "/v1/sms/schedules", tag = "schedules", params(Filter),
    responses((status = 200, description = "The schedules", body = Page<Schedule>)))]
async fn list(
    State(app): State<App>,
    user: AuthUser,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<Page<Schedule>>, Failure> {
    let message = pb::ListSmsSchedulesRequest {
        limit: limit(filter.limit)?,
        cursor: filter.cursor.unwrap_or_default(),
        status: filter.status.unwrap_or_default(),
    };
    let reply = read(&user, message, |request| {
        let mut scheduler = app.clients.scheduler();
        async move { scheduler.list_sms_schedules(request).await }
    })
    .await?;
    Ok(axum::Json(Page::new(
        reply.schedules,
        reply.next_cursor,
        Schedule::from,
    )))
}

/// One of your schedules.
#[utoipa::path(get, path = "/v1/sms/schedules/{id}", tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule")),
    responses((status = 200, description = "The schedule", body = Schedule)))]
async fn show(
    State(app): State<App>,
    user: AuthUser,
    Id(schedule_id): Id,
) -> Result<axum::Json<Schedule>, Failure> {
    let reply = read(
        &user,
        pb::GetSmsScheduleRequest { schedule_id },
        |request| {
            let mut scheduler = app.clients.scheduler();
            async move { scheduler.get_sms_schedule(request).await }
        },
    )
    .await?;
    Ok(axum::Json(reply.schedule.into()))
}

/// How far a schedule has come.
#[utoipa::path(get, path = "/v1/sms/schedules/{id}/progress", tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule")),
    responses((status = 200, description = "The progress", body = Progress)))]
async fn progress(
    State(app): State<App>,
    user: AuthUser,
    Id(schedule_id): Id,
) -> Result<axum::Json<Progress>, Failure> {
    let reply = read(
        &user,
        pb::GetSmsProgressRequest { schedule_id },
        |request| {
            let mut scheduler = app.clients.scheduler();
            async move { scheduler.get_sms_progress(request).await }
        },
    )
    .await?;
    Ok(axum::Json(reply.into()))
}

/// Which messages to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MessageFilter {
    /// One state only, as in the progress.
    #[param(example = "DELIVRD")]
    state: Option<String>,
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The messages of a schedule, in order of the number.
#[utoipa::path(get, path = "/v1/sms/schedules/{id}/messages", tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule"), MessageFilter),
    responses((status = 200, description = "The messages", body = Page<Message>)))]
async fn messages(
    State(app): State<App>,
    user: AuthUser,
    Id(schedule_id): Id,
    Query(filter): Query<MessageFilter>,
) -> Result<axum::Json<Page<Message>>, Failure> {
    let message = pb::ListSmsMessagesRequest {
        schedule_id,
        state: filter.state.unwrap_or_default(),
        limit: limit(filter.limit)?,
        cursor: filter.cursor.unwrap_or_default(),
    };
    let reply = read(&user, message, |request| {
        let mut scheduler = app.clients.scheduler();
        async move { scheduler.list_sms_messages(request).await }
    })
    .await?;
    Ok(axum::Json(Page::new(
        reply.messages,
        reply.next_cursor,
        Message::from,
    )))
}

/// Stop a schedule.
///
/// Messages that the provider does not have yet are not sent any more.
#[utoipa::path(post, path = "/v1/sms/schedules/{id}/cancel", tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule")),
    responses((status = 200, description = "The schedule", body = Schedule),
        (status = 409, description = "The schedule has finished")))]
async fn cancel(
    State(app): State<App>,
    user: AuthUser,
    Id(schedule_id): Id,
) -> Result<axum::Json<Schedule>, Failure> {
    let request = user.request(pb::CancelSmsScheduleRequest { schedule_id });
    let reply = app
        .clients
        .scheduler()
        .cancel_sms_schedule(request)
        .await?
        .into_inner();
    Ok(axum::Json(reply.schedule.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_texts_or_objects() {
        let body = |list: &str| {
            format!(r#"{{"run_at":"2026-11-20T10:00:00Z","message":"x","recipients":{list}}}"#)
        };
        let read = |list: &str| crate::decode::json::<NewSchedule>(body(list).as_bytes());
        let schedule = read(r#"["+1", {"to": "+2"}]"#).unwrap();
        let numbers: Vec<_> = schedule
            .recipients
            .iter()
            .map(|one| one.0.as_str())
            .collect();
        assert_eq!(numbers, ["+1", "+2"]);
        let error = read(r#"["+1", 5, {"to": "+2", "variables": {}}, {}, null]"#)
            .err()
            .unwrap();
        let fields: Vec<_> = error
            .violations()
            .iter()
            .map(|one| one.field.as_str())
            .collect();
        assert_eq!(
            fields,
            [
                "recipients[1]",
                "recipients[2].variables",
                "recipients[3].to",
                "recipients[4]"
            ]
        );
    }
}
