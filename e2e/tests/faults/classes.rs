//! Work of one class meets a slow database, and the others do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::audit::AuditLog;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::test_env;

/// Freezes the server's processes that read pages, whenever they are idle: they hold nothing that others need. Thaws them when asked.
async fn freeze_reads(database: String, over: Arc<AtomicBool>) {
    let client = AuditLog::open(&database).await.client;
    let mut frozen = std::collections::BTreeSet::new();
    let idle = "select pid from pg_stat_activity where application_name = 'api-service read' and state = 'idle'";
    while !over.load(Ordering::Relaxed) {
        for row in client.query(idle, &[]).await.unwrap() {
            let pid: i32 = row.get(0);
            if frozen.insert(pid) {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for pid in frozen {
        let _gone = kill(Pid::from_raw(pid), Signal::SIGCONT);
    }
}

#[tokio::test]
async fn hanging_reads_do_not_delay_sends_or_readiness() {
    let test_env = test_env().await;
    let (doctor, patient) = (test_env.place.user("doc").at_one_service(), test_env.place.contact("pat"));
    let api = test_env.place.with_base_url(&test_env.stack.env().api_urls[0]);
    doctor.send_ok(&patient, "before").await;
    futures_util::future::join_all((0..8).map(|_| doctor.history(&patient, ""))).await;
    let over = Arc::new(AtomicBool::new(false));
    let freezing = tokio::spawn(freeze_reads(test_env.stack.env().database_url, over.clone()));
    let history = format!("/chat/history?{}", doctor.with(&patient));
    let readers: Vec<_> = (0..64)
        .map(|_| {
            let (doctor, history, over) = (doctor.clone(), history.clone(), over.clone());
            tokio::spawn(async move {
                let mut refused = 0;
                while !over.load(Ordering::Relaxed) {
                    refused += usize::from(doctor.get(&history).await.status == 503);
                }
                refused
            })
        })
        .collect();
    // Long enough that all connections for reads hang, and that what waits for one gives up.
    let began = std::time::Instant::now();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(8) {
        let asked = std::time::Instant::now();
        doctor.send_ok(&patient, "beside them").await;
        assert!(asked.elapsed() < Duration::from_secs(2), "a send waits for no reader");
        assert_eq!(api.get("/readyz").await.status, 200);
        sent += 1;
    }
    over.store(true, Ordering::Relaxed);
    freezing.await.unwrap();
    let mut refused = 0;
    for reader in readers {
        refused += reader.await.unwrap();
    }
    assert!(refused >= 64, "reads hung: {refused}");
    assert!(sent >= 20, "{sent}");
    test_env.stack.stop().unwrap();
}
