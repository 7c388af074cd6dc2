//! proto ⇄ domain, nothing else.

mod convert;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use platform::fanout::Fanout;
use platform::principal::{self, Principal};
use platform::revocation::Revocations;
use platform::work::Work;
use platform::{Error, Tasks, id};
use proto::notify::v1::notify_server::Notify;
use proto::notify::v1::{
    AcknowledgeRequest, AcknowledgeResponse, DeleteNotificationRequest, DeleteNotificationResponse,
    GetUnreadCountRequest, GetUnreadCountResponse, ListNotificationsRequest,
    ListNotificationsResponse, MarkAllReadRequest, MarkAllReadResponse, MarkNotificationRequest,
    MarkNotificationResponse, SendTestRequest, SendTestResponse, SubscribeRequest,
    SubscribeResponse,
};
use tonic::{Request, Response, Status};

use crate::pokes::Pokes;
use crate::{commands, queries};

/// Longest device id, in characters.
const MAX_DEVICE_ID: usize = 100;

/// The RPCs of `notify.v1.Notify`.
pub(crate) struct Service {
    pub(crate) work: Work,
    pub(crate) pokes: Arc<Pokes>,
    pub(crate) fanout: Arc<dyn Fanout>,
    pub(crate) revocations: Revocations,
    /// Most test notifications of one user in a minute.
    pub(crate) tests_per_minute: u32,
    /// Tells when the process shuts down.
    pub(crate) tasks: Tasks,
    /// First pause after which a quiet stream looks by itself.
    pub(crate) look_every: Duration,
}

#[tonic::async_trait]
impl Notify for Service {
    async fn list_notifications(
        &self,
        request: Request<ListNotificationsRequest>,
    ) -> Result<Response<ListNotificationsResponse>, Status> {
        let user = principal::user(&request)?;
        let ask = request.into_inner();
        let page = queries::list_notifications(
            &self.work,
            user.user_id,
            ask.limit,
            &ask.cursor,
            ask.unread,
        )
        .await?;
        Ok(Response::new(ListNotificationsResponse {
            notifications: page.items.into_iter().map(convert::notification).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn get_unread_count(
        &self,
        request: Request<GetUnreadCountRequest>,
    ) -> Result<Response<GetUnreadCountResponse>, Status> {
        let user = principal::user(&request)?;
        let unread = queries::unread_count(&self.work, user.user_id).await?;
        Ok(Response::new(GetUnreadCountResponse { unread }))
    }

    async fn mark_notification(
        &self,
        request: Request<MarkNotificationRequest>,
    ) -> Result<Response<MarkNotificationResponse>, Status> {
        let user = principal::fresh_user(&request)?.user_id;
        let ask = request.into_inner();
        let id = id::parse("notification_id", &ask.notification_id)?;
        let entry =
            commands::mark_notification::mark_notification(&self.work, user, id, ask.read).await?;
        let notification = Some(convert::notification(entry));
        Ok(Response::new(MarkNotificationResponse { notification }))
    }

    async fn mark_all_read(
        &self,
        request: Request<MarkAllReadRequest>,
    ) -> Result<Response<MarkAllReadResponse>, Status> {
        let user = principal::fresh_user(&request)?;
        let marked = commands::mark_all_read::mark_all_read(&self.work, user.user_id).await?;
        Ok(Response::new(MarkAllReadResponse { marked }))
    }

    async fn delete_notification(
        &self,
        request: Request<DeleteNotificationRequest>,
    ) -> Result<Response<DeleteNotificationResponse>, Status> {
        let user = principal::fresh_user(&request)?.user_id;
        let id = id::parse("notification_id", &request.into_inner().notification_id)?;
        commands::delete_notification::delete_notification(&self.work, user, id).await?;
        Ok(Response::new(DeleteNotificationResponse {}))
    }

    async fn send_test(
        &self,
        request: Request<SendTestRequest>,
    ) -> Result<Response<SendTestResponse>, Status> {
        let user = principal::fresh_user(&request)?;
        let entry = commands::send_test::send_test(
            &self.work,
            user.user_id,
            self.tests_per_minute,
            &self.pokes,
        )
        .await?;
        let notification = Some(convert::notification(entry));
        Ok(Response::new(SendTestResponse { notification }))
    }

    type SubscribeStream = BoxStream<'static, Result<SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let user = principal::fresh_user(&request)?;
        let ask = request.into_inner();
        let device = device(&user, &ask.device_id)?;
        let reader = stream::Reader::open(self, &user, &device, ask.after).await?;
        Ok(Response::new(reader.into_stream()))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        let user = principal::user(&request)?;
        let ask = request.into_inner();
        let device = device(&user, &ask.device_id)?;
        commands::acknowledge::acknowledge(&self.work, user.user_id, &device, ask.seq).await?;
        Ok(Response::new(AcknowledgeResponse {}))
    }
}

/// The name under which a device's acknowledgement is kept: the session, refined by what the client says.
fn device(user: &Principal, device_id: &str) -> Result<String, Error> {
    if device_id.chars().count() > MAX_DEVICE_ID || device_id.chars().any(char::is_control) {
        let rule =
            format!("must have at most {MAX_DEVICE_ID} characters and no control characters");
        return Err(Error::invalid_field("device_id", rule));
    }
    Ok(format!("{}/{device_id}", user.session_id))
}
