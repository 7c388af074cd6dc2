//! The calls of `scheduler.v1.Scheduler`: convert, call, convert.

mod convert;

use futures::StreamExt;
use platform::work::RequestKey;
use platform::{Error, grpc, id, page, principal};
use prost::Message;
use proto::scheduler::v1 as pb;
use proto::scheduler::v1::scheduler_server::{Scheduler, SchedulerServer};
use proto::scheduler::v1::upload_sms_recipients_request::Part;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::commands::{
    Piece, Sms, cancel_sms_schedule, create_sms_schedule, upload_sms_recipients,
};
use crate::queries;

/// Most bytes of one chunk of an upload.
const MAX_CHUNK_BYTES: usize = 1024 * 1024;

/// The routes of the service.
pub(crate) fn routes(sms: Sms) -> Routes {
    Routes::new(SchedulerServer::new(SchedulerGrpc { sms }))
}

struct SchedulerGrpc {
    sms: Sms,
}

#[tonic::async_trait]
impl Scheduler for SchedulerGrpc {
    async fn create_sms_schedule(
        &self,
        request: Request<pb::CreateSmsScheduleRequest>,
    ) -> Result<Response<pb::CreateSmsScheduleResponse>, Status> {
        let user = principal::fresh_user(&request)?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let key = RequestKey::parse(user.user_id, "create_sms_schedule", &key, &request)?;
        let command = convert::create_command(user, request)?;
        let (answer, replayed) =
            create_sms_schedule(&self.sms, &key, command, |schedule, report| {
                pb::CreateSmsScheduleResponse {
                    schedule: Some(convert::schedule(schedule)),
                    report: Some(convert::report(report)),
                }
                .encode_to_vec()
            })
            .await?;
        let response = answer.map_err(Status::from).and_then(|bytes| {
            let reply = pb::CreateSmsScheduleResponse::decode(bytes.as_slice());
            reply
                .map(Response::new)
                .map_err(|error| Error::internal(error).into())
        });
        if !replayed {
            return response;
        }
        response.map(grpc::replayed).map_err(grpc::replayed_status)
    }

    async fn upload_sms_recipients(
        &self,
        request: Request<Streaming<pb::UploadSmsRecipientsRequest>>,
    ) -> Result<Response<pb::UploadSmsRecipientsResponse>, Status> {
        let user = principal::fresh_user(&request)?;
        let mut parts = request.into_inner();
        let first = parts
            .next()
            .await
            .transpose()?
            .and_then(|message| message.part);
        let Some(Part::ScheduleId(schedule_id)) = first else {
            return Err(Error::invalid_field("schedule_id", "must come first").into());
        };
        let schedule_id = id::parse("schedule_id", &schedule_id)?;
        let parts = parts.map(|message| piece(message.map_err(|s| Error::from_status(&s))?));
        let report = upload_sms_recipients(&self.sms, &user, schedule_id, parts).await?;
        Ok(Response::new(pb::UploadSmsRecipientsResponse {
            report: Some(convert::report(&report)),
        }))
    }

    async fn list_sms_schedules(
        &self,
        request: Request<pb::ListSmsSchedulesRequest>,
    ) -> Result<Response<pb::ListSmsSchedulesResponse>, Status> {
        let user = principal::user(&request)?;
        let request = request.into_inner();
        let limit = page::limit(request.limit)?;
        let before = page::decode_cursor(&request.cursor)?;
        let status = convert::status_filter(&request.status)?;
        let page = queries::list_schedules(&self.sms, user.user_id, status, before, limit).await?;
        Ok(Response::new(pb::ListSmsSchedulesResponse {
            schedules: page.items.iter().map(convert::schedule).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn get_sms_schedule(
        &self,
        request: Request<pb::GetSmsScheduleRequest>,
    ) -> Result<Response<pb::GetSmsScheduleResponse>, Status> {
        let user = principal::user(&request)?;
        let schedule_id = id::parse("schedule_id", &request.get_ref().schedule_id)?;
        let schedule = queries::get_schedule(&self.sms, user.user_id, schedule_id).await?;
        Ok(Response::new(pb::GetSmsScheduleResponse {
            schedule: Some(convert::schedule(&schedule)),
        }))
    }

    async fn get_sms_progress(
        &self,
        request: Request<pb::GetSmsProgressRequest>,
    ) -> Result<Response<pb::GetSmsProgressResponse>, Status> {
        let user = principal::user(&request)?;
        let schedule_id = id::parse("schedule_id", &request.get_ref().schedule_id)?;
        let schedule = queries::get_schedule(&self.sms, user.user_id, schedule_id).await?;
        Ok(Response::new(convert::progress(&schedule)))
    }

    async fn list_sms_messages(
        &self,
        request: Request<pb::ListSmsMessagesRequest>,
    ) -> Result<Response<pb::ListSmsMessagesResponse>, Status> {
        let user = principal::user(&request)?;
        let request = request.into_inner();
        let schedule_id = id::parse("schedule_id", &request.schedule_id)?;
        let limit = page::limit(request.limit)?;
        let after = convert::number_cursor(&request.cursor)?;
        let state = convert::state_filter(&request.state)?;
        let page =
            queries::list_messages(&self.sms, user.user_id, schedule_id, state, after, limit)
                .await?;
        Ok(Response::new(pb::ListSmsMessagesResponse {
            messages: page.items.into_iter().map(convert::message).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn cancel_sms_schedule(
        &self,
        request: Request<pb::CancelSmsScheduleRequest>,
    ) -> Result<Response<pb::CancelSmsScheduleResponse>, Status> {
        let user = principal::fresh_user(&request)?;
        let schedule_id = id::parse("schedule_id", &request.get_ref().schedule_id)?;
        let schedule = cancel_sms_schedule(&self.sms, user.user_id, schedule_id).await?;
        Ok(Response::new(pb::CancelSmsScheduleResponse {
            schedule: Some(convert::schedule(&schedule)),
        }))
    }
}

/// One message of an upload after the first.
fn piece(message: pb::UploadSmsRecipientsRequest) -> Result<Piece, Error> {
    match message.part {
        Some(Part::Chunk(bytes)) if bytes.len() <= MAX_CHUNK_BYTES => {
            Ok(Piece::Bytes(bytes.into()))
        }
        Some(Part::Complete(true)) => Ok(Piece::End),
        Some(Part::Complete(false)) => Err(Error::invalid_field("complete", "must be true")),
        Some(Part::Chunk(_)) => Err(Error::invalid_field("chunk", "must have at most 1 MiB")),
        Some(Part::ScheduleId(_)) => {
            Err(Error::invalid_field("schedule_id", "must come once, first"))
        }
        None => Err(Error::invalid_field("chunk", "is missing")),
    }
}
