"""The token endpoint of an EHR, in Python. The chat page asks it for a token: `GET /my-chat-token` answers with a JWT as plain text.

    pip install "PyJWT==2.*"
    JWT_SECRET=… PORT=4000 python token_endpoint.py
"""

import os
import time
import uuid
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

LIFETIME_SECONDS = 600  # the page asks again before a token ends
SECRET = os.environ["JWT_SECRET"]  # what the chat services have as JWT_SECRET

# Replace this by the sessions of your EHR: who is signed in, and in which hospitals or clinics.
SESSIONS = {
    "demo-doctor": {"sub": "doc123", "role": "user", "locations": ["loc1"]},
    "demo-patient": {"sub": "pat456", "role": "contact", "locations": ["loc1"]},
}


def signed_in(cookie_header):
    """The person who is signed in, by the session cookie. Never by a parameter that the page can choose."""
    try:
        session = SimpleCookie(cookie_header).get("session")
    except CookieError:
        return None
    return SESSIONS.get(session.value) if session else None


def sign(person):
    """`jti` lets your EHR revoke this one token, `iat` lets it revoke all tokens of a person."""
    now = int(time.time())
    claims = {**person, "iat": now, "exp": now + LIFETIME_SECONDS, "jti": str(uuid.uuid4())}
    return jwt.encode(claims, SECRET, algorithm="HS256")


class TokenEndpoint(BaseHTTPRequestHandler):
    def do_GET(self):
        person = signed_in(self.headers.get("Cookie"))
        if self.path != "/my-chat-token":
            self.answer(404, "This path does not exist.")
        elif person is None:
            self.answer(401, "Sign in first.")
        else:
            self.answer(200, sign(person))

    def do_POST(self):
        self.answer(405, "Use GET.")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "4000"))), TokenEndpoint)
print(f"http://127.0.0.1:{server.server_port}/my-chat-token", flush=True)
server.serve_forever()
