//! Pages of our own: a program and a style in one document, under a policy that lets nothing else run.

use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use sha2::{Digest, Sha256};

/// A page that needs nothing from elsewhere.
pub(super) struct Page {
    html: String,
    policy: String,
}

impl Page {
    /// A page that `script` fills; all three come from our own source.
    pub(super) fn new(title: &str, style: &str, script: &str) -> Self {
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title><style>{style}</style></head>\
             <body><noscript>This page needs JavaScript.</noscript><script>{script}</script></body></html>"
        );
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(script),
            hash(style)
        );
        Self { html, policy }
    }

    /// The answer that shows it.
    pub(super) fn show(&'static self) -> Response {
        let headers = [
            (CONTENT_SECURITY_POLICY, self.policy.as_str()),
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, Html(self.html.as_str())).into_response()
    }
}
