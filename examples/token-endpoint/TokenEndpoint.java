// The token endpoint of an EHR, in Java 17, with nothing but the JDK. The chat page asks it for a token:
// `GET /my-chat-token` answers with a JWT as plain text.
//
//   JWT_SECRET=… PORT=4000 java TokenEndpoint.java

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.time.Instant;
import java.util.Arrays;
import java.util.Base64;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class TokenEndpoint {
    /** The page asks again before a token ends. */
    private static final long LIFETIME_SECONDS = 600;

    /** What the chat services have as JWT_SECRET. */
    private static final byte[] SECRET = System.getenv("JWT_SECRET").getBytes(StandardCharsets.UTF_8);

    private record Person(String id, String role, String location) {}

    /** Replace this by the sessions of your EHR: who is signed in, and in which hospital or clinic. */
    private static final Map<String, Person> SESSIONS = Map.of(
            "demo-doctor", new Person("doc123", "user", "loc1"),
            "demo-patient", new Person("pat456", "contact", "loc1"));

    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "4000"));
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        server.createContext("/", TokenEndpoint::handle);
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
        System.out.println("http://127.0.0.1:" + server.getAddress().getPort() + "/my-chat-token");
    }

    private static void handle(HttpExchange exchange) throws IOException {
        try (exchange) {
            Optional<Person> person = signedIn(exchange);
            if (!exchange.getRequestURI().getPath().equals("/my-chat-token")) {
                answer(exchange, 404, "This path does not exist.");
            } else if (!exchange.getRequestMethod().equals("GET")) {
                answer(exchange, 405, "Use GET.");
            } else if (person.isEmpty()) {
                answer(exchange, 401, "Sign in first.");
            } else {
                answer(exchange, 200, sign(person.get()));
            }
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException("every JDK has HmacSHA256", error);
        }
    }

    /** The person who is signed in, by the session cookie. Never by a parameter that the page can choose. */
    private static Optional<Person> signedIn(HttpExchange exchange) {
        String cookies = Optional.ofNullable(exchange.getRequestHeaders().getFirst("Cookie")).orElse("");
        return Arrays.stream(cookies.split("; "))
                .filter(cookie -> cookie.startsWith("session="))
                .map(cookie -> cookie.substring("session=".length()))
                .findFirst()
                .map(SESSIONS::get);
    }

    /**
     * A JWT by RFC 7519, section 3.1. The identifiers of your EHR need no escapes in JSON: the chat allows letters, digits
     * and `. _ ~ -` only. `jti` lets your EHR revoke this one token, `iat` lets it revoke all tokens of a person.
     */
    private static String sign(Person person) throws GeneralSecurityException {
        long now = Instant.now().getEpochSecond();
        String claims = """
                {"sub":"%s","role":"%s","locations":["%s"],"iat":%d,"exp":%d,"jti":"%s"}"""
                .formatted(person.id(), person.role(), person.location(), now, now + LIFETIME_SECONDS, UUID.randomUUID());
        String signed = base64url("{\"alg\":\"HS256\",\"typ\":\"JWT\"}".getBytes(StandardCharsets.UTF_8))
                + "." + base64url(claims.getBytes(StandardCharsets.UTF_8));
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(SECRET, "HmacSHA256"));
        return signed + "." + base64url(mac.doFinal(signed.getBytes(StandardCharsets.US_ASCII)));
    }

    private static String base64url(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    private static void answer(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "text/plain");
        exchange.getResponseHeaders().set("Cache-Control", "no-store");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
    }
}
