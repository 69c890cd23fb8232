//! One location of a running system, empty when a test gets it, and who acts there.

use std::fmt::{self, Display};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use stack::{Stack, StackEnv};
use uuid::Uuid;

use crate::http_response::HttpResponse;
use crate::socket::Socket;
use crate::token;

/// What a token says its bearer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Staff.
    User,
    /// A patient.
    Contact,
    /// A trusted backend.
    Service,
}

impl Role {
    /// As the claim has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Contact => "contact",
            Self::Service => "service",
        }
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A location. Each test has its own, so that all of them run at once on one system.
#[derive(Debug, Clone)]
pub struct TestLocation {
    /// Its identifier.
    pub location: String,
    /// The system it is in.
    pub env: StackEnv,
    /// Where its people send requests to.
    pub base_url: String,
    /// Where their sockets go.
    pub ws_url: String,
    http: reqwest::Client,
}

impl TestLocation {
    /// A location in which nothing has happened yet.
    #[must_use]
    pub fn new(stack: &Stack) -> Self {
        Self::named(stack, &format!("loc-{}", Uuid::now_v7().simple()))
    }

    /// A location of that name.
    #[must_use]
    pub fn named(stack: &Stack, location: &str) -> Self {
        let env = stack.env();
        let http = reqwest::Client::builder().no_proxy().timeout(crate::WAIT_TIMEOUT * 2).build().unwrap();
        let (base_url, ws_url) = (env.base_url.clone(), env.ws_url.clone());
        Self { location: location.to_owned(), env, base_url, ws_url, http }
    }

    /// Another location, for the same client.
    #[must_use]
    pub fn other_location(&self) -> Self {
        Self { location: format!("loc-{}", Uuid::now_v7().simple()), ..self.clone() }
    }

    /// The same location, asked at another address.
    #[must_use]
    pub fn with_base_url(&self, base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), ..self.clone() }
    }

    /// A member of staff.
    #[must_use]
    pub fn user(&self, id: &str) -> TestUser {
        self.person(Role::User, id)
    }

    /// A patient.
    #[must_use]
    pub fn contact(&self, id: &str) -> TestUser {
        self.person(Role::Contact, id)
    }

    /// A trusted backend.
    #[must_use]
    pub fn service(&self) -> TestUser {
        self.person(Role::Service, "ehr-backend")
    }

    fn person(&self, role: Role, id: &str) -> TestUser {
        let token = self.sign(&token::claims(id, role.as_str(), &[&self.location]));
        TestUser { place: self.clone(), role, id: id.to_owned(), token }
    }

    /// A token of any claims that this system believes.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        token::sign(&self.env.jwt_secret, claims)
    }

    /// A request without a token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base_url))
    }

    /// `GET` without a token; 503 while no server listens yet.
    pub async fn try_get(&self, path: &str) -> HttpResponse {
        match self.request(Method::GET, path).send().await {
            Ok(response) => HttpResponse::read(response).await,
            Err(_) => HttpResponse { status: 503, headers: reqwest::header::HeaderMap::new(), text: "{}".to_owned() },
        }
    }

    /// `GET` without a token.
    pub async fn get(&self, path: &str) -> HttpResponse {
        answer(self.request(Method::GET, path)).await
    }
}

/// Sends a request.
async fn answer(request: RequestBuilder) -> HttpResponse {
    HttpResponse::read(request.send().await.expect("an answer comes")).await
}

impl TestLocation {
    /// A request of any shape, answered.
    pub async fn ask(&self, request: RequestBuilder) -> HttpResponse {
        answer(request).await
    }
}

/// Who acts: a participant, or a service.
#[derive(Debug, Clone)]
pub struct TestUser {
    /// Where.
    pub place: TestLocation,
    /// As what.
    pub role: Role,
    /// Its identifier.
    pub id: String,
    /// What it shows.
    pub token: String,
}

impl TestUser {
    /// The same person with another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    /// The same person, whose requests and sockets go past the load balancer.
    #[must_use]
    pub fn at(&self, base_url: &str, ws_url: &str) -> Self {
        let place = TestLocation { base_url: base_url.to_owned(), ws_url: ws_url.to_owned(), ..self.place.clone() };
        Self { place, ..self.clone() }
    }

    /// The same person, all of whose requests go to one API service, past the load balancer.
    #[must_use]
    pub fn at_one_service(&self) -> Self {
        self.at(&self.place.env.api_urls[0], &self.place.ws_url)
    }

    /// A request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.place.request(method, path).bearer_auth(&self.token)
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> HttpResponse {
        answer(self.request(Method::GET, path)).await
    }

    /// `POST /chat/send` of any body.
    pub async fn send(&self, body: &Value) -> HttpResponse {
        answer(self.request(Method::POST, "/chat/send").json(body)).await
    }

    /// The same, when the connection may end without an answer.
    ///
    /// # Errors
    /// When it does.
    pub async fn try_send(&self, body: &Value) -> Result<HttpResponse, reqwest::Error> {
        Ok(HttpResponse::read(self.request(Method::POST, "/chat/send").json(body).send().await?).await)
    }

    /// `PUT` of any body.
    pub async fn put(&self, path: &str, body: &Value) -> HttpResponse {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    /// The body of a message from this person.
    #[must_use]
    pub fn message_to(&self, to: &Self, content: &str) -> Value {
        let (from, receiver) = (format!("sender_{}_id", self.role), format!("receiver_{}_id", to.role));
        json!({"location_id": self.place.location, from: self.id, receiver: to.id, "content": content})
    }

    /// Sends a message, which succeeds.
    pub async fn send_ok(&self, to: &Self, content: &str) -> Value {
        self.send(&self.message_to(to, content)).await.expect_status(201)
    }

    /// The query that names the conversation with another participant.
    #[must_use]
    pub fn with(&self, other: &Self) -> String {
        let pair = match (self.role, other.role) {
            (Role::Contact, _) => format!("user_id={}&contact_id={}", other.id, self.id),
            (_, Role::Contact) => format!("user_id={}&contact_id={}", self.id, other.id),
            _ => format!("user_id={}&peer_user_id={}", self.id, other.id),
        };
        format!("location_id={}&{pair}", self.place.location)
    }

    /// A page of the conversation; `more` begins with `&`, or is empty.
    pub async fn history(&self, other: &Self, more: &str) -> Value {
        self.get(&format!("/chat/history?{}{more}", self.with(other))).await.expect_status(200)
    }

    /// All messages of a conversation that fits a page.
    pub async fn messages(&self, other: &Self) -> Vec<Value> {
        let page = self.history(other, "&limit=200").await;
        assert_eq!(page["has_more"], false);
        page["messages"].as_array().unwrap().clone()
    }

    /// A page of the inbox; `more` begins with `&`, or is empty.
    pub async fn inbox(&self, more: &str) -> Value {
        self.get(&format!("/chat/conversations?location_id={}{more}", self.place.location)).await.expect_status(200)
    }

    /// Marks messages as read, or as delivered.
    pub async fn mark(&self, what: &str, ids: &[&Value]) -> HttpResponse {
        self.put(&format!("/chat/{what}"), &json!({"message_ids": ids})).await
    }

    /// A socket on the conversation with another participant, past its `ready`.
    pub async fn open(&self, other: &Self) -> Socket {
        let mut socket = self.open_at(&self.with(other)).await;
        let ready = socket.next().await;
        assert_eq!((&ready["type"], &ready["resumed"]), (&json!("ready"), &Value::Null), "{ready}");
        socket
    }

    /// A socket on the conversation with another participant that resumes where an earlier one ended.
    pub async fn resume(&self, other: &Self, cursor: &Value) -> Socket {
        self.open_at(&format!("{}&cursor={}", self.with(other), cursor.as_str().expect("a cursor"))).await
    }

    /// The query that names this person's inbox.
    #[must_use]
    pub fn inbox_query(&self) -> String {
        format!("location_id={}&{}_id={}", self.place.location, self.role, self.id)
    }

    /// A socket on this person's inbox, past its `ready`.
    pub async fn open_inbox(&self) -> Socket {
        self.watch_inbox(self).await
    }

    /// A socket on a participant's inbox, past its `ready`.
    pub async fn watch_inbox(&self, of: &Self) -> Socket {
        let mut socket = self.open_at(&of.inbox_query()).await;
        let nothing = json!({"type": "ready", "conversation_id": null, "cursor": null, "resumed": null});
        assert_eq!(socket.next().await, nothing);
        socket
    }

    /// A socket on anything, which has not said a word yet.
    pub async fn open_at(&self, query: &str) -> Socket {
        Socket::connect(&format!("{}?{query}", self.place.ws_url), &self.token).await
    }
}
