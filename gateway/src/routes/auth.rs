//! Registering, signing in and out.

use axum::extract::State;
use http::StatusCode;
use proto::identity::v1 as pb;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::Failure;
use crate::extract::{AuthUser, Client, Created, Json};
use crate::views::identity::{Ended, Registered, SignedIn};

pub(super) fn public() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(verify_email))
}

pub(super) fn member() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(logout_all))
        .routes(routes!(resend_verification))
}

/// A new user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Registration {
    /// 1 to 100 characters.
    #[schema(example = "Asha")]
    first_name: String,
    /// 1 to 100 characters.
    #[schema(example = "Rao")]
    last_name: String,
    /// At most 254 bytes; unique regardless of case.
    #[schema(example = "asha@example.org")]
    email: String,
    /// 8 to 128 characters, not a common password.
    #[schema(example = "correct horse battery staple")]
    password: String,
}

/// Register.
///
/// Sends a mail with a token for `/v1/auth/email/verify`.
#[utoipa::path(post, path = "/v1/auth/register", tag = "identity", request_body = Registration,
    responses((status = 201, description = "Registered", body = Registered),
        (status = 409, description = "`email_taken`")))]
async fn register(
    State(app): State<App>,
    Client(client): Client,
    Json(body): Json<Registration>,
) -> Result<Created<Registered>, Failure> {
    let request = app.clients.edge(pb::RegisterRequest {
        first_name: body.first_name,
        last_name: body.last_name,
        email: body.email,
        password: body.password,
        client: Some(client),
    });
    let reply = app.clients.identity().register(request).await?.into_inner();
    let user = reply.user.unwrap_or_default().into();
    Ok(Created {
        body: Registered { user },
        replayed: false,
    })
}

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    #[schema(example = "asha@example.org")]
    email: String,
    #[schema(example = "correct horse battery staple")]
    password: String,
    /// Keep the session for 30 days instead of 7.
    #[serde(default)]
    remember_me: Option<bool>,
    /// What you call this device, at most 100 characters.
    #[serde(default)]
    device_name: Option<String>,
    /// How the tokens come back.
    #[serde(default)]
    token_delivery: Option<TokenDelivery>,
}

/// How tokens come back: in the body.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TokenDelivery {
    Body,
}

/// Sign in.
#[utoipa::path(post, path = "/v1/auth/login", tag = "identity", request_body = Credentials,
    responses((status = 200, description = "Signed in", body = SignedIn),
        (status = 401, description = "`invalid_credentials`")))]
async fn login(
    State(app): State<App>,
    Client(client): Client,
    Json(body): Json<Credentials>,
) -> Result<axum::Json<SignedIn>, Failure> {
    let (None | Some(TokenDelivery::Body)) = body.token_delivery;
    let request = app.clients.edge(pb::LoginRequest {
        email: body.email,
        password: body.password,
        remember_me: body.remember_me.unwrap_or_default(),
        device_name: body.device_name.unwrap_or_default(),
        client: Some(client),
    });
    let reply = app.clients.identity().login(request).await?.into_inner();
    Ok(axum::Json(SignedIn::new(reply.tokens, reply.user)))
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshToken {
    refresh_token: String,
}

/// Exchange a refresh token for new tokens.
///
/// A refresh token works once; one that comes a second time ends its session.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "identity", request_body = RefreshToken,
    responses((status = 200, description = "New tokens", body = SignedIn),
        (status = 401, description = "The refresh token is not valid any more")))]
async fn refresh(
    State(app): State<App>,
    Client(client): Client,
    Json(body): Json<RefreshToken>,
) -> Result<axum::Json<SignedIn>, Failure> {
    let request = app.clients.edge(pb::RefreshRequest {
        refresh_token: body.refresh_token,
        client: Some(client),
    });
    let reply = app.clients.identity().refresh(request).await?.into_inner();
    Ok(axum::Json(SignedIn::new(reply.tokens, reply.user)))
}

/// Sign out of the session of a refresh token.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "identity", request_body = RefreshToken,
    responses((status = 204, description = "Signed out, or the token was unknown")))]
async fn logout(
    State(app): State<App>,
    Json(body): Json<RefreshToken>,
) -> Result<StatusCode, Failure> {
    let request = app.clients.edge(pb::LogoutRequest {
        refresh_token: body.refresh_token,
    });
    app.clients.identity().logout(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sign out everywhere.
#[utoipa::path(post, path = "/v1/auth/logout-all", tag = "identity",
    responses((status = 200, description = "Every session was ended", body = Ended)))]
async fn logout_all(State(app): State<App>, user: AuthUser) -> Result<axum::Json<Ended>, Failure> {
    let request = user.request(pb::LogoutAllRequest {});
    let reply = app
        .clients
        .identity()
        .logout_all(request)
        .await?
        .into_inner();
    Ok(axum::Json(Ended { ended: reply.ended }))
}

/// The token of a verification mail.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MailToken {
    token: String,
}

/// Confirm an e-mail address.
#[utoipa::path(post, path = "/v1/auth/email/verify", tag = "identity", request_body = MailToken,
    responses((status = 204, description = "Confirmed")))]
async fn verify_email(
    State(app): State<App>,
    Json(body): Json<MailToken>,
) -> Result<StatusCode, Failure> {
    let request = app
        .clients
        .edge(pb::VerifyEmailRequest { token: body.token });
    app.clients.identity().verify_email(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send the verification mail once more.
#[utoipa::path(post, path = "/v1/auth/email/verify/resend", tag = "identity",
    responses((status = 202, description = "A mail is on its way"),
        (status = 409, description = "The address is confirmed already")))]
async fn resend_verification(
    State(app): State<App>,
    user: AuthUser,
) -> Result<StatusCode, Failure> {
    let request = user.request(pb::ResendVerificationRequest {});
    app.clients.identity().resend_verification(request).await?;
    Ok(StatusCode::ACCEPTED)
}
