//! `identity.v1.Identity`: protobuf to domain and back, and who may call what.

mod convert;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use platform::principal::{fresh_user, service, user};
use platform::{Error, Kind, Tasks};
use proto::identity::v1 as api;
use proto::identity::v1::identity_server::{Identity, IdentityServer};
use tonic::{Request, Response, Status};

use crate::commands::{Commands, Login, ProfileChange, Register};
use crate::queries;
use crate::queries::search_users::Search;

/// Calls for people who have no token yet.
const GATEWAY: &str = "gateway";
/// Those who verify access tokens.
const FOLLOWERS: [&str; 4] = [
    GATEWAY,
    "wallet-service",
    "notify-service",
    "scheduler-service",
];

/// The gRPC face of the service.
pub struct IdentityGrpc {
    commands: Arc<Commands>,
    search: Search,
    tasks: Tasks,
}

impl IdentityGrpc {
    /// Ready to be served.
    pub fn server(commands: Arc<Commands>, search: Search, tasks: Tasks) -> IdentityServer<Self> {
        IdentityServer::new(Self {
            commands,
            search,
            tasks,
        })
    }
}

/// Lets only services of these names through.
fn called_by<T>(request: &Request<T>, names: &[&str]) -> Result<(), Status> {
    let caller = service(request)?;
    if names.contains(&caller.as_str()) {
        return Ok(());
    }
    let message = format!("{caller} may not make this call");
    Err(Error::new(Kind::PermissionDenied, "service_not_allowed", message).into())
}

type Watched = Pin<Box<dyn Stream<Item = Result<api::WatchRevocationsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Identity for IdentityGrpc {
    async fn register(
        &self,
        request: Request<api::RegisterRequest>,
    ) -> Result<Response<api::RegisterResponse>, Status> {
        called_by(&request, &[GATEWAY])?;
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
        called_by(&request, &[GATEWAY])?;
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
        called_by(&request, &[GATEWAY])?;
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
        called_by(&request, &[GATEWAY])?;
        self.commands
            .logout(&request.into_inner().refresh_token)
            .await?;
        Ok(Response::new(api::LogoutResponse {}))
    }

    async fn logout_all(
        &self,
        request: Request<api::LogoutAllRequest>,
    ) -> Result<Response<api::LogoutAllResponse>, Status> {
        let caller = fresh_user(&request)?;
        let ended = self.commands.logout_all(caller.user_id).await?;
        let ended = i64::try_from(ended).map_err(Error::internal)?;
        Ok(Response::new(api::LogoutAllResponse { ended }))
    }

    async fn verify_email(
        &self,
        request: Request<api::VerifyEmailRequest>,
    ) -> Result<Response<api::VerifyEmailResponse>, Status> {
        called_by(&request, &[GATEWAY])?;
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
        let caller = fresh_user(&request)?;
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
        let caller = fresh_user(&request)?;
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
        let page = self
            .search
            .page(
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
        called_by(&request, &FOLLOWERS)?;
        let jwks_json = self.commands.signer.jwks().to_owned();
        Ok(Response::new(api::GetJwksResponse { jwks_json }))
    }

    type WatchRevocationsStream = Watched;

    async fn watch_revocations(
        &self,
        request: Request<api::WatchRevocationsRequest>,
    ) -> Result<Response<Watched>, Status> {
        called_by(&request, &FOLLOWERS)?;
        let stream = watch::stream(self.commands.feed.clone(), &self.tasks);
        Ok(Response::new(Box::pin(stream)))
    }
}
