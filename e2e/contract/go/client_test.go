// Package clienttest tests a client that openapi-generator generates from openapi.yaml: it sends, reads and marks, with typed models
// and failures.
package clienttest

import (
	"context"
	"errors"
	"os"
	"testing"

	"clienttest/ehrchat"
)

func client() *ehrchat.APIClient {
	configuration := ehrchat.NewConfiguration()
	configuration.Servers = ehrchat.ServerConfigurations{{URL: os.Getenv("BASE_URL")}}
	return ehrchat.NewAPIClient(configuration)
}

func as(token string) context.Context {
	return context.WithValue(context.Background(), ehrchat.ContextAccessToken, os.Getenv(token))
}

func toPatient(content string) ehrchat.SendMessage {
	message := ehrchat.NewSendMessage("loc1", content)
	message.SetSenderUserId("doc123")
	message.SetReceiverContactId("pat456")
	return *message
}

func TestSentMessageIsReadBackAndMarked(t *testing.T) {
	doctor, patient := as("DOCTOR_TOKEN"), as("PATIENT_TOKEN")
	sent, answer, err := client().MessagesAPI.SendMessage(doctor).SendMessage(toPatient("Hello from Go")).Execute()
	if err != nil || answer.StatusCode != 201 {
		t.Fatal(answer, err)
	}
	if sent.Content != "Hello from Go" || sent.ReadAt.Get() != nil || sent.ClientMessageId.Get() != nil {
		t.Fatalf("%+v", sent)
	}

	history := client().MessagesAPI.GetHistory(patient).LocationId("loc1").UserId("doc123").ContactId("pat456")
	page, _, err := history.After(sent.Seq - 1).Execute()
	if err != nil || page.Messages[0].Id != sent.Id || !page.Messages[0].SentAt.Equal(sent.SentAt) {
		t.Fatal(page, err)
	}

	unknown := "0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c"
	marks := *ehrchat.NewMarkMessages([]string{sent.Id, unknown})
	marked, _, err := client().ReceiptsAPI.MarkRead(patient).MarkMessages(marks).Execute()
	if err != nil || marked.NotFound[0] != unknown || marked.Marked[0].ReadAt.Get() == nil {
		t.Fatal(marked, err)
	}
}

func TestFailureIsTypedProblem(t *testing.T) {
	_, answer, err := client().MessagesAPI.SendMessage(as("DOCTOR_TOKEN")).SendMessage(toPatient("")).Execute()
	var failure *ehrchat.GenericOpenAPIError
	if !errors.As(err, &failure) {
		t.Fatal(answer, err)
	}
	problem, ok := failure.Model().(ehrchat.Problem)
	if !ok || answer.StatusCode != 422 || problem.Status != 422 || problem.Errors[0].Pointer != "/content" {
		t.Fatalf("%d %+v", answer.StatusCode, failure.Model())
	}
}

func TestHealthNeedsNoToken(t *testing.T) {
	if health, _, err := client().HealthAPI.GetHealth(context.Background()).Execute(); err != nil || health.Status != "ok" {
		t.Fatal(health, err)
	}
}
