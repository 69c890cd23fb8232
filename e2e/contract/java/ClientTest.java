import ehr.chat.ApiClient;
import ehr.chat.ApiException;
import ehr.chat.api.HealthApi;
import ehr.chat.api.MessagesApi;
import ehr.chat.api.ReceiptsApi;
import ehr.chat.model.History;
import ehr.chat.model.MarkMessages;
import ehr.chat.model.Marks;
import ehr.chat.model.Message;
import ehr.chat.model.Problem;
import ehr.chat.model.SendMessage;
import java.util.List;
import java.util.Objects;
import java.util.UUID;

/** A client that openapi-generator generates from openapi.yaml sends, reads and marks, with typed models and failures. */
public final class ClientTest {
    private interface Test {
        void run() throws Exception;
    }

    private static int passed;
    private static int failed;

    public static void main(String[] arguments) {
        run("a message that was sent is read back and marked", ClientTest::sendReadAndMark);
        run("a failure is a typed problem", ClientTest::failure);
        run("health needs no token", () -> expect("ok", new HealthApi(client(null)).getHealth().getStatus()));
        System.out.println("test-clients/java: " + passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    private static void run(String name, Test test) {
        try {
            test.run();
            passed++;
        } catch (Exception | AssertionError error) {
            failed++;
            System.out.println(name + ": " + error);
        }
    }

    private static ApiClient client(String token) {
        ApiClient client = new ApiClient();
        client.updateBaseUri(System.getenv("BASE_URL"));
        if (token != null) {
            client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + token));
        }
        return client;
    }

    private static ApiClient doctor() {
        return client(System.getenv("DOCTOR_TOKEN"));
    }

    private static ApiClient patient() {
        return client(System.getenv("PATIENT_TOKEN"));
    }

    private static SendMessage toPatient(String content) {
        return new SendMessage().locationId("loc1").senderUserId("doc123").receiverContactId("pat456").content(content);
    }

    private static void sendReadAndMark() throws ApiException {
        Message sent = new MessagesApi(doctor()).sendMessage(toPatient("Hello from Java"));
        expect(7, sent.getId().version());
        expect("Hello from Java", sent.getContent());
        expect(null, sent.getReadAt());
        expect(null, sent.getClientMessageId());

        MessagesApi messages = new MessagesApi(patient());
        History page = messages.getHistory("loc1", "doc123", "pat456", null, null, null, sent.getSeq() - 1);
        expect(sent.getId(), page.getMessages().get(0).getId());
        expect(sent.getSentAt(), page.getMessages().get(0).getSentAt());

        UUID unknown = UUID.randomUUID();
        Marks marks = new ReceiptsApi(patient()).markRead(new MarkMessages().messageIds(List.of(sent.getId(), unknown)));
        expect(List.of(unknown), marks.getNotFound());
        expect(true, marks.getMarked().get(0).getReadAt() != null);
    }

    private static void failure() throws Exception {
        ApiClient doctor = doctor();
        try {
            new MessagesApi(doctor).sendMessage(toPatient(""));
            throw new AssertionError("an empty message was sent");
        } catch (ApiException refused) {
            Problem problem = doctor.getObjectMapper().readValue(refused.getResponseBody(), Problem.class);
            expect(422, refused.getCode());
            expect(422, problem.getStatus());
            expect("/content", problem.getErrors().get(0).getPointer());
        }
    }

    private static void expect(Object expected, Object found) {
        if (!Objects.equals(expected, found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }
}
