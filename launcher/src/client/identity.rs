use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, ApiError, Reply};

/// A person who is about to register.
#[derive(Debug, Clone, Serialize)]
pub struct NewPerson {
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Address; unique regardless of case.
    pub email: String,
    /// 8 to 128 characters.
    pub password: String,
}

/// A user as seen by that user.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// UUIDv7.
    pub id: String,
    /// What others pay to.
    pub handle: String,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Address as the user wrote it.
    pub email: String,
    /// Whether the address was confirmed.
    pub email_verified: bool,
    /// `user` or higher.
    pub role: String,
}

/// What signing in gives.
#[derive(Debug, Clone, Deserialize)]
pub struct Tokens {
    /// `authenticated`.
    pub status: String,
    /// Bearer token.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds until the access token expires.
    pub expires_in: i64,
    /// Works once.
    pub refresh_token: String,
    /// Who signed in.
    pub user: User,
}

#[derive(Deserialize)]
struct Registered {
    user: User,
}

impl Api {
    /// Registers a person; the verification mail follows.
    ///
    /// # Errors
    /// 409 `email_taken`, 400 with the fields that are wrong.
    pub async fn register(&self, person: &NewPerson) -> Result<User, ApiError> {
        let request = self.request(Method::POST, "/v1/auth/register").json(person);
        Ok(self.call::<Registered>(request).await?.body.user)
    }

    /// Confirms the address that the token was mailed to.
    ///
    /// # Errors
    /// When the token is unknown, used or expired.
    pub async fn verify_email(&self, token: &str) -> Result<(), ApiError> {
        let request = self
            .request(Method::POST, "/v1/auth/email/verify")
            .json(&json!({ "token": token }));
        self.send(request).await.map(drop)
    }

    /// Signs in with a password.
    ///
    /// # Errors
    /// 401 when address and password do not belong together.
    pub async fn login(&self, email: &str, password: &str) -> Result<Session, ApiError> {
        let body = json!({ "email": email, "password": password, "device_name": "coffer client" });
        let request = self.request(Method::POST, "/v1/auth/login").json(&body);
        let tokens = self.call::<Tokens>(request).await?.body;
        Ok(Session {
            api: self.clone(),
            tokens,
        })
    }

    /// Exchanges a refresh token for a new pair.
    ///
    /// # Errors
    /// 401 when the token is unknown, expired or was exchanged before.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Session, ApiError> {
        let request = self
            .request(Method::POST, "/v1/auth/refresh")
            .json(&json!({ "refresh_token": refresh_token }));
        let body = self.send(request).await?.body;
        let status = "authenticated".to_owned();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let user = User::deserialize(&body["user"])
            .map_err(|error| ApiError::Unexpected(format!("refresh without a user: {error}")))?;
        let tokens = Tokens {
            status,
            access_token: text("access_token"),
            token_type: text("token_type"),
            expires_in: body["expires_in"].as_i64().unwrap_or_default(),
            refresh_token: text("refresh_token"),
            user,
        };
        Ok(Session {
            api: self.clone(),
            tokens,
        })
    }
}

/// A user who is signed in.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) api: Api,
    /// What signing in gave.
    pub tokens: Tokens,
}

impl Session {
    /// The product that this session belongs to.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The same session at another address of the product.
    pub fn moved_to(&self, api: &Api) -> Self {
        Self {
            api: api.clone(),
            tokens: self.tokens.clone(),
        }
    }

    /// Who is signed in.
    pub fn user(&self) -> &User {
        &self.tokens.user
    }

    /// A request on behalf of the user.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.api
            .request(method, path)
            .bearer_auth(&self.tokens.access_token)
    }

    /// A request with a JSON body under an idempotency key.
    pub fn keyed(&self, path: &str, key: &str, body: &impl Serialize) -> RequestBuilder {
        self.request(Method::POST, path)
            .header("Idempotency-Key", key)
            .json(body)
    }

    /// The user's own profile.
    ///
    /// # Errors
    /// 401 when the session has ended.
    pub async fn me(&self) -> Result<Reply<Value>, ApiError> {
        self.api.send(self.request(Method::GET, "/v1/me")).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When the product does not answer.
    pub async fn logout(&self) -> Result<(), ApiError> {
        let body = json!({ "refresh_token": self.tokens.refresh_token });
        self.api
            .send(self.request(Method::POST, "/v1/auth/logout").json(&body))
            .await
            .map(drop)
    }

    /// Sends the user a notification of kind `general`.
    ///
    /// # Errors
    /// 401 when the session has ended.
    pub async fn send_test_notification(&self) -> Result<Reply<Value>, ApiError> {
        self.api
            .send(self.request(Method::POST, "/v1/notifications/test"))
            .await
    }
}
