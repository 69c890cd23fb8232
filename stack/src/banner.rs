//! What a person reads when the system is up: where it is, and lines to paste.

use std::fmt::Write;

use crate::services::ServiceEnv;
use crate::stack_env::StackEnv;

const DAY_SECONDS: u32 = 86_400;

/// The whole text.
pub(crate) fn banner(env: &StackEnv, service_env: &ServiceEnv) -> String {
    let StackEnv { base_url, ws_url, jwt_secret, .. } = env;
    let token = |sub, role| {
        service_env.token(sub, role, "loc1", DAY_SECONDS).unwrap_or_else(|error| format!("(no token: {error:#})"))
    };
    let (doctor, patient) = (token("doc123", "user"), token("pat456", "contact"));
    let mut text = String::new();
    let _ = write!(
        text,
        "
  Console      {base_url}/
  Swagger UI   {base_url}/docs
  WebSocket    {ws_url}

  Tokens for location loc1, good for a day
  doc123 (user)
{doctor}
  pat456 (contact)
{patient}
  JWT_SECRET, to sign others (make token, jwt.io); for development only
{jwt_secret}

  Send a message as doc123:
curl -sS {base_url}/chat/send -H 'Authorization: Bearer {doctor}' -H 'Content-Type: application/json' -d '{{\"location_id\":\"loc1\",\"sender_user_id\":\"doc123\",\"receiver_contact_id\":\"pat456\",\"content\":\"Hello patient!\"}}'

  Receive it as pat456:
npx wscat -c '{ws_url}?location_id=loc1&user_id=doc123&contact_id=pat456' -H 'Authorization: Bearer {patient}'

  Ctrl-C stops everything; data stay.
"
    );
    text
}
