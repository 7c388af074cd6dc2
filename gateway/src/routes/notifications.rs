//! The inbox.

use axum::extract::State;
use http::StatusCode;
use proto::notify::v1 as pb;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::limit;
use crate::app::App;
use crate::clients::read;
use crate::error::Failure;
use crate::extract::{AuthUser, Created, Id, Json, Query};
use crate::views::Page;
use crate::views::notify::{Marked, Notification, Unread};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(unread_count))
        .routes(routes!(mark, delete))
        .routes(routes!(read_all))
        .routes(routes!(test))
}

/// Which notifications to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only unread (`true`) or only read (`false`) ones.
    unread: Option<bool>,
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Your notifications, newest first.
#[utoipa::path(get, path = "/v1/notifications", tag = "notifications", params(Filter),
    responses((status = 200, description = "The notifications", body = Page<Notification>)))]
async fn list(
    State(app): State<App>,
    user: AuthUser,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<Page<Notification>>, Failure> {
    let message = pb::ListNotificationsRequest {
        limit: limit(filter.limit)?,
        cursor: filter.cursor.unwrap_or_default(),
        unread: filter.unread,
    };
    let reply = read(&user, message, |request| {
        let mut notify = app.clients.notify();
        async move { notify.list_notifications(request).await }
    })
    .await?;
    Ok(axum::Json(Page::new(
        reply.notifications,
        reply.next_cursor,
        Notification::from,
    )))
}

/// How many of your notifications are unread.
#[utoipa::path(get, path = "/v1/notifications/unread-count", tag = "notifications",
    responses((status = 200, description = "The number", body = Unread)))]
async fn unread_count(
    State(app): State<App>,
    user: AuthUser,
) -> Result<axum::Json<Unread>, Failure> {
    let reply = read(&user, pb::GetUnreadCountRequest {}, |request| {
        let mut notify = app.clients.notify();
        async move { notify.get_unread_count(request).await }
    })
    .await?;
    Ok(axum::Json(Unread {
        unread: reply.unread,
    }))
}

/// Whether a notification was read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Mark {
    #[schema(example = true)]
    read: bool,
}

/// Mark a notification as read or unread.
#[utoipa::path(patch, path = "/v1/notifications/{id}", tag = "notifications", request_body = Mark,
    params(("id" = Uuid, Path, description = "Id of the notification")),
    responses((status = 200, description = "The notification", body = Notification)))]
async fn mark(
    State(app): State<App>,
    user: AuthUser,
    Id(notification_id): Id,
    Json(body): Json<Mark>,
) -> Result<axum::Json<Notification>, Failure> {
    let request = user.request(pb::MarkNotificationRequest {
        notification_id,
        read: body.read,
    });
    let reply = app
        .clients
        .notify()
        .mark_notification(request)
        .await?
        .into_inner();
    Ok(axum::Json(reply.notification.unwrap_or_default().into()))
}

/// Delete a notification.
#[utoipa::path(delete, path = "/v1/notifications/{id}", tag = "notifications",
    params(("id" = Uuid, Path, description = "Id of the notification")),
    responses((status = 204, description = "Deleted")))]
async fn delete(
    State(app): State<App>,
    user: AuthUser,
    Id(notification_id): Id,
) -> Result<StatusCode, Failure> {
    let request = user.request(pb::DeleteNotificationRequest { notification_id });
    app.clients.notify().delete_notification(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Mark all of your notifications as read.
#[utoipa::path(post, path = "/v1/notifications/read-all", tag = "notifications",
    responses((status = 200, description = "How many were unread", body = Marked)))]
async fn read_all(State(app): State<App>, user: AuthUser) -> Result<axum::Json<Marked>, Failure> {
    let request = user.request(pb::MarkAllReadRequest {});
    let reply = app
        .clients
        .notify()
        .mark_all_read(request)
        .await?
        .into_inner();
    Ok(axum::Json(Marked {
        marked: reply.marked,
    }))
}

/// Send yourself a notification.
#[utoipa::path(post, path = "/v1/notifications/test", tag = "notifications",
    responses((status = 201, description = "The notification", body = Notification)))]
async fn test(State(app): State<App>, user: AuthUser) -> Result<Created<Notification>, Failure> {
    let request = user.request(pb::SendTestRequest {});
    let reply = app.clients.notify().send_test(request).await?.into_inner();
    let body = reply.notification.unwrap_or_default().into();
    Ok(Created {
        body,
        replayed: false,
    })
}
