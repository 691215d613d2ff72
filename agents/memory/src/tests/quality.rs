//! How good retrieval is, measured: error texts as Airflow and PostgreSQL really write them, and what people ask, over a
//! folder of runbooks with a deprecated one in it.

use std::path::Path;

use jiff::civil::date;

use crate::library::Shelf;
use crate::words::Names;
use crate::{Library, Query, read_folder};

/// Of a question's first three hits one is the right one this often.
const RECALL_AT_3_MIN: f64 = 0.95;
/// Mean of 1 / rank of the right one.
const MRR_MIN: f64 = 0.90;

/// What is asked, and the runbook that answers it.
const QUESTIONS: &[(&str, &str)] = &[
    ("fetch_rates: TimeoutError: timed out", "RB-001"),
    ("fetch_rates: HTTPError: HTTP Error 503: Service Unavailable", "RB-001"),
    ("fetch_rates: HTTPError: HTTP Error 504: Gateway Time-out", "RB-001"),
    ("fx_rates_etl: the upstream API is slow and does not answer", "RB-001"),
    ("load_fact_sales: InsufficientPrivilege: permission denied for table fact_sales", "RB-002"),
    ("psycopg.errors.InsufficientPrivilege: permission denied for table fact_orders", "RB-002"),
    ("etl_writer lost INSERT on dw.fact_sales, which grant is missing", "RB-002"),
    ("quick fix for permission denied", "RB-002"),
    ("extract_customers: UndefinedColumn: column \"email\" does not exist", "RB-003"),
    ("extract_products: SyntaxError: INSERT has more expressions than target columns", "RB-003"),
    ("DatatypeMismatch: column \"price\" is of type numeric but expression is of type text", "RB-003"),
    ("customers_dim_etl: a source column was renamed, ops.column_map still names the old one", "RB-003"),
    ("NumericValueOutOfRange: integer out of range in product_catalog_etl", "RB-003"),
    (
        "check_orders: DataQualityError: DQ check failed: null_rate(customer_id) observed=0.1958 threshold=0.02 business_date=2026-03-31",
        "RB-004",
    ),
    ("sessionize: ValueError: event_id=13000113: bad revenue '12,5O EUR'", "RB-004"),
    (
        "load_fact_payments: UniqueViolation: duplicate key value violates unique constraint \"fact_payments_pkey\"",
        "RB-004",
    ),
    ("how do I quarantine records without loosening the threshold", "RB-004"),
    ("cannot parse event 13000113", "RB-004"),
    ("sales_etl: row count drop, EU-WEST is missing", "RB-005"),
    ("volume_drop: fewer rows than on the same weekday; delivery_manifest says late", "RB-005"),
    ("inventory_snapshot_etl: max_source_ts too old, stale", "RB-005"),
    ("rollup: LockNotAvailable: canceling statement due to lock timeout", "RB-006"),
    ("OperationalError: FATAL: too many connections for role \"etl_writer\"", "RB-006"),
    ("idle in transaction session holds a lock, may I pg_terminate_backend it", "RB-006"),
    (
        "sessionize: Process terminated by signal. Likely out of memory error (OOM). Task exited with return code -9",
        "RB-007",
    ),
    ("task killed with SIGKILL, exit code -9", "RB-007"),
    ("MemoryError in sessionize, web_sessions_chunk_rows", "RB-007"),
    (
        "extract_payments: OperationalError: connection failed: FATAL:  password authentication failed for user \"etl_finance\"",
        "RB-008",
    ),
    ("FATAL: role \"etl_finance\" is not permitted to log in", "RB-008"),
    ("expired password, rolvaliduntil in pg_roles", "RB-008"),
    ("ImportError: cannot import name 'check_contract' from 'etl_common'", "RB-009"),
    ("product_catalog_etl import error, no run fails, the run of the day is missing", "RB-009"),
    ("which commit broke the dag, git revert", "RB-009"),
    ("finance_daily_rollup: task stays scheduled, pool finance_pool has 0 open_slots", "RB-010"),
    ("run hangs in queued state for hours", "RB-010"),
    (
        "rollup: DeadlockDetected: deadlock detected\nDETAIL:  Process 4711 waits for ShareLock on transaction 99",
        "RB-012",
    ),
    ("database error, SQLSTATE 40001 after 8211 rows", "RB-012"),
    ("rollup: ConfigurationLimitExceeded: temporary file size exceeds temp_file_limit (512kB)", "RB-013"),
    ("OSError: [Errno 28] No space left on device", "RB-013"),
    ("fetch_rates: HTTPError: HTTP Error 429: Too Many Requests", "RB-014"),
    ("drift: PSI of amount is 3.2 for channel mobile", "RB-015"),
    ("unit changed, cents instead of euros, factor 100", "RB-015"),
    ("fetch_rates: HTTPError: 401 Unauthorized: token expired", "RB-016"),
    (
        "ForeignKeyViolation: insert violates foreign key constraint, key is not present in table \"customers\"",
        "RB-017",
    ),
    ("who owns dw.fact_sales and what is net_amount", "dw.fact_sales"),
    // Causes as the agents name them, and kinds of failure as the estate names them.
    ("upstream-not-answering", "RB-001"),
    ("api_timeout_transient", "RB-001"),
    ("permission_revoked", "RB-002"),
    ("privilege-revoked run_failed", "RB-002"),
    ("schema_drift column-renamed", "RB-003"),
    ("records-not-whole null_burst", "RB-004"),
    ("web_sessions_etl poison_record", "RB-004"),
    ("row_count_drop", "RB-005"),
    ("stale: part-not-delivered, feed late", "RB-005"),
    ("blocked-by-a-session", "RB-006"),
    ("psycopg.errors.LockNotAvailable", "RB-006"),
    ("oom_kill: out-of-memory", "RB-007"),
    ("sessionize: MemoryError", "RB-007"),
    ("credential-refused: database.login", "RB-008"),
    ("dag_import_error", "RB-009"),
    ("run-does-not-get-on: stuck_run, pool_slots", "RB-010"),
    ("psycopg.errors.DeadlockDetected", "RB-012"),
    ("psycopg.errors.SerializationFailure", "RB-012"),
    ("quota-or-disk, disk_full", "RB-013"),
    ("rate-limited", "RB-014"),
    ("distribution_drift", "RB-015"),
    ("rejected_api_key", "RB-016"),
    ("psycopg.errors.ForeignKeyViolation", "RB-017"),
    ("shop.fact_sales.net_amount", "dw.fact_sales"),
];

/// What no runbook is about. A hit for these is noise.
const NOT_COVERED: &[&str] = &[
    "reconcile: LedgerSealError: seal mismatch for 2026-03-31: code=LS-0x3F segment=7 ours=0fd84474fcf129ae theirs=9f00c1d2aa57e310",
    "E7731 epoch 41 behind 42, quorum witness mute",
    "Kafka consumer group rebalance storm",
    "TLS certificate of the reverse proxy",
];

fn library(shelf: Shelf, names: Names) -> Library {
    let folder = read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/runbooks")).unwrap();
    assert!(folder.broken.is_empty(), "{:?}", folder.broken);
    Library::of(folder.documents, shelf, names)
}

/// Ids of the hits, each document once.
fn found(library: &Library, question: &str) -> Vec<String> {
    let hits = library.search(Query { text: question, kinds: &[], today: date(2026, 3, 31), limit: 10 });
    let mut ids: Vec<String> = hits.into_iter().map(|hit| hit.citation.id).collect();
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids
}

/// Recall at 3, mean reciprocal rank, and what was missed.
fn measured(library: &Library) -> (f64, f64, Vec<String>) {
    let (mut in_three, mut reciprocal, mut missed) = (0.0, 0.0, Vec::new());
    for (question, right) in QUESTIONS {
        let ids = found(library, question);
        let rank = ids.iter().position(|id| id == right);
        reciprocal += rank.map_or(0.0, |rank| 1.0 / (rank as f64 + 1.0));
        if rank.is_some_and(|rank| rank < 3) {
            in_three += 1.0;
        }
        if rank != Some(0) {
            missed.push(format!("{question}: {right} is at {rank:?} of {ids:?}"));
        }
    }
    let n = QUESTIONS.len() as f64;
    (in_three / n, reciprocal / n, missed)
}

#[test]
fn the_right_runbook_is_found() {
    assert!(QUESTIONS.len() >= 40);
    let (recall, mrr, missed) = measured(&library(Shelf::InUse, Names::Split));
    println!("questions={} recall@3={recall:.3} mrr={mrr:.3}", QUESTIONS.len());
    assert!(recall >= RECALL_AT_3_MIN && mrr >= MRR_MIN, "recall@3 {recall:.3}, MRR {mrr:.3}\n{}", missed.join("\n"));
}

/// The weakened variant: names are not taken apart.
#[test]
fn without_the_parts_of_names_it_is_worse() {
    let (recall, mrr, _) = measured(&library(Shelf::InUse, Names::Split));
    let (weak_recall, weak_mrr, _) = measured(&library(Shelf::InUse, Names::Whole));
    println!("whole names: recall@3={weak_recall:.3} mrr={weak_mrr:.3}");
    assert!(
        weak_recall < recall - 0.1 && weak_mrr < mrr - 0.1,
        "{weak_recall:.3} {weak_mrr:.3} against {recall:.3} {mrr:.3}"
    );
}

#[test]
fn the_deprecated_runbook_is_never_cited() {
    let (in_use, all) = (library(Shelf::InUse, Names::Split), library(Shelf::All, Names::Split));
    let asked =
        |library: &Library| QUESTIONS.iter().filter(|(q, _)| found(library, q).iter().any(|id| id == "RB-011")).count();
    assert_eq!(asked(&in_use), 0);
    assert!(asked(&all) > 0, "a variant that has it on the shelf finds it");
}

#[test]
fn what_no_runbook_is_about_finds_little() {
    let library = library(Shelf::InUse, Names::Split);
    let noise: Vec<_> = NOT_COVERED.iter().map(|question| (question, found(&library, question))).collect();
    println!("{noise:?}");
    // The kit's unknown error above all: a runbook that is cited for it sends people the wrong way.
    assert!(noise[0].1.is_empty() && noise[1].1.is_empty(), "{noise:?}");
    assert!(noise.iter().map(|(_, ids)| ids.len()).sum::<usize>() <= 3, "{noise:?}");
}
