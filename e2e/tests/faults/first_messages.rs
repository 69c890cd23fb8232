//! What PostgreSQL is asked for the first message of a conversation.

use e2e::audit::AuditLog;

use crate::{test_env, until_true};

#[tokio::test]
async fn first_message_takes_one_attempt() {
    let test_env = test_env().await;
    let (stack, place) = (&test_env.stack, &test_env.place);
    let doctor = place.user("doc").at_one_service();
    let owner = AuditLog::open(&stack.env().database_url).await.client;
    for setting in ["log_statement = 'all'", "log_line_prefix = '%a: '"] {
        owner.batch_execute(&format!("alter system set {setting}")).await.unwrap();
    }
    owner.batch_execute("select pg_reload_conf()").await.unwrap();
    let log = stack.logs_dir().join("postgres.log");
    let statements = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.starts_with("api-service send: LOG:")).map(str::to_owned).collect::<Vec<_>>()
    };
    let known = place.contact("known");
    until_true("statements of sends are in the log", async || {
        doctor.send_ok(&known, "ordinary").await;
        statements().iter().any(|statement| statement.contains("with bumped as"))
    })
    .await;

    let before = statements().len();
    for number in 0..10 {
        doctor.send_ok(&place.contact(&format!("new{number}")), "the first").await;
        doctor.send_ok(&known, "ordinary").await;
    }
    let said = statements().split_off(before);
    let count = |word: &str| said.iter().filter(|statement| statement.contains(word)).count();
    assert_eq!((count("with bumped as"), count("insert into conversations")), (20, 10), "{said:#?}");
    assert_eq!(count("statement: begin") + count("statement: rollback"), 0, "{said:#?}");
    test_env.stack.stop().unwrap();
}
