//! The only public door: HTTP, WebSocket, rate limits, token checks, OpenAPI. No business rule, no storage.

mod app;
mod clients;
mod config;
mod decode;
mod edge;
mod error;
mod extract;
mod linger;
mod openapi;
mod routes;
mod seats;
mod server;
mod stream;
mod upload;
mod views;
mod write_limit;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use platform::Handles;
use platform::identity::{self, Authenticator};
use platform::rate_limit::RateLimitStore;
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::limit::RequestBodyLimitLayer;
use utoipa_axum::router::OpenApiRouter;

use app::App;
pub use clients::Upstreams;
use clients::{Clients, SELF};
pub use config::{GatewayConfig, HealthConfig, QuotaConfig, RateLimitConfig, StreamConfig};
use edge::door::{Class, admit};
pub use openapi::openapi;
use routes::Groups;

/// Answers below this size, in bytes, gain nothing from compression.
const COMPRESS_ABOVE: u64 = 1024;

/// Starts the gateway on `listener`; returns once it is started. It runs until the tasks of `handles` are told to end.
///
/// # Errors
/// When the configuration is not valid.
pub async fn run(
    config: GatewayConfig,
    listener: TcpListener,
    upstreams: Upstreams,
    limits: Arc<dyn RateLimitStore>,
    handles: Handles,
) -> anyhow::Result<()> {
    let problems = platform::config::Validate::validate(&config);
    if let Some(problem) = problems.first() {
        anyhow::bail!("{}: {}", problem.key, problem.message);
    }
    let authenticator = Authenticator::new(handles.clock.clone(), &handles.keys);
    identity::follow(
        SELF,
        &authenticator,
        handles.identity.clone(),
        &handles.tasks,
    );

    let tokens = authenticator.service_tokens().clone();
    let clients = Clients::new(&upstreams, tokens, handles.clock.clone(), &handles.tasks);
    let app = App::new(
        config.clone(),
        clients,
        authenticator,
        limits,
        handles.tasks.clone(),
        handles.health.clone(),
    );
    let server = server::serve(listener, router(&app), config, handles.tasks.clone());
    handles.tasks.spawn_critical("gateway", server);
    Ok(())
}

/// The routes with everything that stands before them; what is added last is met first.
fn router(app: &App) -> Router {
    let config = &app.config;
    let limit = Duration::from_millis(config.request_timeout_ms);
    let small = RequestBodyLimitLayer::new(config.body_limit_bytes);
    let time_limit = || from_fn_with_state(limit, edge::time_limit);
    let door = |class| from_fn_with_state((app.clone(), class), admit);
    let compression = || CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_ABOVE));

    let Groups {
        public,
        member,
        account,
        upload,
        stream,
        open,
    } = routes::groups();
    // Tokens are never compressed together with text that somebody else may have chosen.
    let public = plain(public)
        .layer(time_limit())
        .layer(small)
        .layer(door(Class::Public));
    let token = |group, class| {
        plain(group)
            .layer(time_limit())
            .layer(small)
            .layer(door(class))
            .layer(compression())
    };
    let member = token(member, Class::Member);
    let account = token(account, Class::Account);
    let upload = plain(upload)
        .layer(RequestBodyLimitLayer::new(config.upload_limit_bytes))
        .layer(door(Class::Member));
    let stream = plain(stream).layer(door(Class::Stream));
    let open = plain(open)
        .layer(time_limit())
        .layer(small)
        .layer(compression());

    let quick = Router::new()
        .merge(public)
        .merge(member)
        .merge(account)
        .merge(stream)
        .merge(open)
        .layer(from_fn_with_state(app.clone(), edge::shed));
    // Uploads take minutes and have places of their own: `upload.rs`. What is merged last answers for unknown routes.
    let mut router = Router::new()
        .merge(upload)
        .merge(quick)
        .layer(from_fn_with_state(app.clone(), edge::refuse_odd_parameters));
    if !config.cors_allowed_origins.is_empty() {
        router = router.layer(edge::cors(&config.cors_allowed_origins));
    }
    router
        .layer(from_fn_with_state(app.clone(), edge::outermost))
        .with_state(app.clone())
}

fn plain(group: OpenApiRouter<App>) -> Router<App> {
    group.split_for_parts().0
}
