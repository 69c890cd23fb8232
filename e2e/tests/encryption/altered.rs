//! Rows of the database are changed by hand.

use e2e::secret_text;

use crate::{place, sql, stack, until};

#[tokio::test]
async fn moved_text_is_not_shown() {
    let place = place().await;
    let (doctor, patient, other) = (place.user("doc"), place.contact("pat"), place.contact("other"));
    let env = stack().env();
    let secret = secret_text();
    let (to, from) = (doctor.send_ok(&patient, "a").await, doctor.send_ok(&other, &secret).await);
    let [to, from] = [&to, &from].map(|message| message["id"].as_str().unwrap().to_owned());
    sql(
        &env,
        &format!(
            "update messages m set content_sealed = o.content_sealed, content_key = o.content_key
         from messages o where m.id = '{to}' and o.id = '{from}'"
        ),
    );
    for answer in [
        doctor.get(&format!("/chat/history?{}", doctor.with(&patient))).await,
        patient.get(&format!("/chat/conversations?location_id={}", place.location)).await,
    ] {
        let problem = answer.expect_problem(500);
        assert!(!problem.to_string().contains(&secret), "{problem}");
    }
    assert_eq!(doctor.messages(&other).await[0]["content"], *secret, "whose text it is still has it");
    let admin = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut counted = 0;
    for url in env.admin_urls.iter().take(env.api_urls.len()) {
        let metrics = admin.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
        let metric = "ehr_chat_content_decrypt_failures_total{cause=\"refused\"} ";
        counted += metrics.lines().find_map(|line| line.strip_prefix(metric)).map_or(0, |value| value.parse().unwrap());
    }
    assert!(counted >= 2, "{counted}");

    // Were it to be published again, it is left out, and what stands behind it is not.
    let since = sql(&env, "select clock_timestamp()");
    sql(
        &env,
        &format!(
            "insert into outbox (kind, message_ids, created_at)
         select 'message', array[id]::uuid[], now() - interval '1 minute' from unnest(array['{to}', '{from}']) id"
        ),
    );
    until("the outbox is empty", async || {
        let waiting = format!(
            "select count(*) from outbox where published_at is null and failed_at is null and created_at < '{since}'"
        );
        sql(&env, &waiting) == "0"
    })
    .await;
    let aside =
        format!("select failed_reason from outbox where failed_at is not null and message_ids = array['{to}'::uuid]");
    assert_eq!(sql(&env, &aside), "content_refused", "it has failed, for an operator");
}

#[tokio::test]
async fn changed_sender_is_detected() {
    let place = place().await;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "it was me").await;
    sql(
        &stack().env(),
        &format!(
            "update messages set sender_user_id = null, sender_contact_id = receiver_contact_id,
                receiver_contact_id = null, receiver_user_id = sender_user_id where id = '{}'",
            sent["id"].as_str().unwrap()
        ),
    );
    let _problem = doctor.get(&format!("/chat/history?{}", doctor.with(&patient))).await.expect_problem(500);
}
