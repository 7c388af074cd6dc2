//! `identity.v1.Identity`: protobuf to domain and back, and who may call what.

mod convert;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use platform::principal::{service, user};
use platform::{Error, Tasks};
use proto::identity::v1 as api;
use proto::identity::v1::identity_server::{Identity, IdentityServer};
use tonic::{Request, Response, Status};

use crate::commands::{Commands, Login, ProfileChange, Register};
use crate::queries;

/// The gRPC face of the service.
pub struct IdentityGrpc {
    commands: Arc<Commands>,
    tasks: Tasks,
}

impl IdentityGrpc {
    /// Ready to be served.
    pub fn server(commands: Arc<Commands>, tasks: Tasks) -> IdentityServer<Self> {
        IdentityServer::new(Self { commands, tasks })
    }
}

type Watched = Pin<Box<dyn Stream<Item = Result<api::WatchRevocationsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Identity for IdentityGrpc {
    async fn register(
        &self,
        request: Request<api::RegisterRequest>,
    ) -> Result<Response<api::RegisterResponse>, Status> {
        service(&request)?;
        let request = request.into_inner();
        let user = self
            .commands
            .register(Register {
                first_name: request.first_name,
                last_name: request.last_name,
                email: request.email,
                password: request.password,
                client: convert::client(request.client),
            })
            .await?;
        Ok(Response::new(api::RegisterResponse {
            user: Some(convert::user(user)),
        }))
    }

    async fn login(
        &self,
        request: Request<api::LoginRequest>,
    ) -> Result<Response<api::LoginResponse>, Status> {
        service(&request)?;
        let request = request.into_inner();
        let signed_in = self
            .commands
            .login(Login {
                email: request.email,
                password: request.password,
                remember_me: request.remember_me,
                device_name: request.device_name,
                client: convert::client(request.client),
            })
            .await?;
        let (tokens, user) = convert::signed_in(signed_in);
        Ok(Response::new(api::LoginResponse { tokens, user }))
    }

    async fn refresh(
        &self,
        request: Request<api::RefreshRequest>,
    ) -> Result<Response<api::RefreshResponse>, Status> {
        service(&request)?;
        let request = request.into_inner();
        let client = convert::client(request.client);
        let signed_in = self
            .commands
            .refresh(&request.refresh_token, client)
            .await?;
        let (tokens, user) = convert::signed_in(signed_in);
        Ok(Response::new(api::RefreshResponse { tokens, user }))
    }

    async fn logout(
        &self,
        request: Request<api::LogoutRequest>,
    ) -> Result<Response<api::LogoutResponse>, Status> {
        service(&request)?;
        self.commands
            .logout(&request.into_inner().refresh_token)
            .await?;
        Ok(Response::new(api::LogoutResponse {}))
    }

    async fn logout_all(
        &self,
        request: Request<api::LogoutAllRequest>,
    ) -> Result<Response<api::LogoutAllResponse>, Status> {
        let caller = user(&request)?;
        let ended = self.commands.logout_all(caller.user_id).await?;
        let ended = i64::try_from(ended).map_err(Error::internal)?;
        Ok(Response::new(api::LogoutAllResponse { ended }))
    }

    async fn verify_email(
        &self,
        request: Request<api::VerifyEmailRequest>,
    ) -> Result<Response<api::VerifyEmailResponse>, Status> {
        service(&request)?;
        let user = self
            .commands
            .verify_email(&request.into_inner().token)
            .await?;
        Ok(Response::new(api::VerifyEmailResponse {
            user: Some(convert::user(user)),
        }))
    }

    async fn resend_verification(
        &self,
        request: Request<api::ResendVerificationRequest>,
    ) -> Result<Response<api::ResendVerificationResponse>, Status> {
        let caller = user(&request)?;
        self.commands.resend_verification(caller.user_id).await?;
        Ok(Response::new(api::ResendVerificationResponse {}))
    }

    async fn get_profile(
        &self,
        request: Request<api::GetProfileRequest>,
    ) -> Result<Response<api::GetProfileResponse>, Status> {
        let caller = user(&request)?;
        let user = queries::profile::get(self.commands.work.db(), caller.user_id).await?;
        Ok(Response::new(api::GetProfileResponse {
            user: Some(convert::user(user)),
        }))
    }

    async fn update_profile(
        &self,
        request: Request<api::UpdateProfileRequest>,
    ) -> Result<Response<api::UpdateProfileResponse>, Status> {
        let caller = user(&request)?;
        let request = request.into_inner();
        let change = ProfileChange {
            first_name: request.first_name,
            last_name: request.last_name,
            time_zone: request.time_zone,
            locale: request.locale,
            expected_version: request.expected_version,
        };
        let user = self.commands.update_profile(caller.user_id, change).await?;
        Ok(Response::new(api::UpdateProfileResponse {
            user: Some(convert::user(user)),
        }))
    }

    async fn search_users(
        &self,
        request: Request<api::SearchUsersRequest>,
    ) -> Result<Response<api::SearchUsersResponse>, Status> {
        let caller = user(&request)?;
        let request = request.into_inner();
        let page = queries::search_users::search(
            self.commands.work.db(),
            caller.user_id,
            &request.query,
            request.limit,
            &request.cursor,
        )
        .await?;
        Ok(Response::new(api::SearchUsersResponse {
            users: page.users.into_iter().map(convert::found).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn get_jwks(
        &self,
        request: Request<api::GetJwksRequest>,
    ) -> Result<Response<api::GetJwksResponse>, Status> {
        service(&request)?;
        let jwks_json = self.commands.signer.jwks().to_owned();
        Ok(Response::new(api::GetJwksResponse { jwks_json }))
    }

    type WatchRevocationsStream = Watched;

    async fn watch_revocations(
        &self,
        request: Request<api::WatchRevocationsRequest>,
    ) -> Result<Response<Watched>, Status> {
        service(&request)?;
        let stream = watch::stream(self.commands.feed.clone(), &self.tasks);
        Ok(Response::new(Box::pin(stream)))
    }
}
