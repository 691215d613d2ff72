//! What is masked, what is not, and that it comes back: tables of true values and of look-alikes, a corpus of a real estate's
//! texts that must pass unchanged, and properties over generated texts.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::incidents::some_incidents;
use crate::masking::{MaskKind, MaskRules, Masker, Vault};
use crate::request::{Message, ModelRequest, OutputSchema, Part, Role, System, Tool};

/// Texts of an estate of pipelines: its code, its warehouse, its runbooks, what its scheduler answers and its logs say.
const CORPUS: &[(&str, &str)] = &[
    ("api", include_str!("masking/api.json")),
    ("results", include_str!("masking/results.json")),
    ("incidents", include_str!("masking/incidents.jsonl")),
    ("dags", include_str!("masking/dags.txt")),
    ("runbooks", include_str!("masking/runbooks.txt")),
    ("truth", include_str!("masking/truth.txt")),
    ("warehouse", include_str!("masking/warehouse.txt")),
    ("estate", include_str!("../../../../examples/airflow/estate.yaml")),
    ("sql", include_str!("../../../../examples/airflow/sql.yaml")),
    ("readme", include_str!("../../../../examples/airflow/README.md")),
    ("remedies", include_str!("../../../../examples/airflow/remedies.yaml")),
    ("airflow", include_str!("../../../../examples/airflow/airflow.yaml")),
    ("causes", include_str!("../../../../examples/airflow/causes.yaml")),
    ("interlock", include_str!("../../../../examples/airflow/interlock.yaml")),
];

/// Kind, text, and what of it is masked.
const VALUES: &[(&str, &str, &str)] = &[
    // Cards: the issuers' own test numbers.
    ("card", "paid with 4111111111111111.", "4111111111111111"),
    ("card", "visa 4222222222222", "4222222222222"),
    ("card", "card=5555-5555-5555-4444;", "5555-5555-5555-4444"),
    ("card", "2223 0031 2200 3222", "2223 0031 2200 3222"),
    ("card", "amex 3782 822463 10005!", "3782 822463 10005"),
    ("card", "(371449635398431)", "371449635398431"),
    ("card", "diners 3056 930902 5904", "3056 930902 5904"),
    ("card", "6011111111111117,x", "6011111111111117"),
    ("card", "jcb:3530111333300000", "3530111333300000"),
    ("card", "unionpay 6200000000000005", "6200000000000005"),
    ("card", "maestro 6759649826438453", "6759649826438453"),
    ("card", "12 4111 1111 1111 1111 7 rows", "4111 1111 1111 1111"),
    ("card", "log\\n4242424242424242\\n", "4242424242424242"),
    ("card", "card-4000056655665556", "4000056655665556"),
    ("card", "4111.1111.1111.1111", "4111.1111.1111.1111"),
    ("card", "4111\u{a0}1111\u{a0}1111\u{a0}1111", "4111\u{a0}1111\u{a0}1111\u{a0}1111"),
    ("card", "卡号4111111111111111。", "4111111111111111"),
    // IBANs: the registry's examples.
    ("iban", "DE89370400440532013000", "DE89370400440532013000"),
    ("iban", "to GB29 NWBK 6016 1331 9268 19.", "GB29 NWBK 6016 1331 9268 19"),
    ("iban", "FR1420041010050500013M02606", "FR1420041010050500013M02606"),
    ("iban", "iban=NL91ABNA0417164300", "NL91ABNA0417164300"),
    ("iban", "ES91 2100 0418 4502 0005 1332", "ES91 2100 0418 4502 0005 1332"),
    ("iban", "IT60X0542811101000000123456", "IT60X0542811101000000123456"),
    ("iban", "\"CH9300762011623852957\"", "CH9300762011623852957"),
    ("iban", "BE68-5390-0754-7034", "BE68-5390-0754-7034"),
    ("iban", "NO9386011117947", "NO9386011117947"),
    ("iban", "MT84MALT011000012345MTLCAST001S", "MT84MALT011000012345MTLCAST001S"),
    ("iban", "pl61109010140000071219812874", "pl61109010140000071219812874"),
    ("iban", "SA03 8000 0000 6080 1016 7519 and more", "SA03 8000 0000 6080 1016 7519"),
    // Accounts.
    ("account", "routing number 021000021", "021000021"),
    ("account", "ABA: 011401533 (Boston)", "011401533"),
    ("account", "routing_number=121000358", "121000358"),
    ("account", "account number 000123456789", "000123456789"),
    ("account", "Acct. No.: 1234-5678-90", "1234-5678-90"),
    ("account", "account_no=99887766", "99887766"),
    // E-mails.
    ("email", "mail ann@example.org.", "ann@example.org"),
    ("email", "<Ann.Weber+etl@mail.example.co.uk>", "Ann.Weber+etl@mail.example.co.uk"),
    ("email", "Key (email)=(o'hara@example.ie) already exists", "o'hara@example.ie"),
    ("email", "mailto:a_b-c@ex-ample.museum?x", "a_b-c@ex-ample.museum"),
    ("email", "jörg@müller.example", "jörg@müller.example"),
    ("email", "{\\\"to\\\": \\\"x1@example.com\\\"}", "x1@example.com"),
    ("email", "line\\nnina@example.net", "nina@example.net"),
    ("email", "'quoted@example.com'", "quoted@example.com"),
    ("email", "a@b.io,", "a@b.io"),
    ("email", "user%x@example.com", "user%x@example.com"),
    ("email", "owner: 123@example.com", "123@example.com"),
    ("email", "customer ann@example.info/x", "ann@example.info"),
    // Phones.
    ("phone", "+14155552671", "+14155552671"),
    ("phone", "call +1 (415) 555-2671.", "+1 (415) 555-2671"),
    ("phone", "+49 30 901820", "+49 30 901820"),
    ("phone", "+44 (0)20 7946 0958", "+44 (0)20 7946 0958"),
    ("phone", "tel:+33-1-23-45-67-89", "+33-1-23-45-67-89"),
    ("phone", "+34612345678,", "+34612345678"),
    ("phone", "0044 20 7946 0958", "0044 20 7946 0958"),
    ("phone", "(212) 555-0142", "(212) 555-0142"),
    ("phone", "415-555-2671", "415-555-2671"),
    ("phone", "1-800-555-0199", "1-800-555-0199"),
    ("phone", "020 7946 0958", "020 7946 0958"),
    ("phone", "07700 900123", "07700 900123"),
    ("phone", "01 23 45 67 89", "01 23 45 67 89"),
    ("phone", "030/9018200", "030/9018200"),
    ("phone", "Tel.: 612 345 678", "612 345 678"),
    ("phone", "phone=4155552671", "4155552671"),
    ("phone", "\"mobile\": \"0171 1234567\"", "0171 1234567"),
    ("phone", "+1 415 555 2671 2026-03-31", "+1 415 555 2671"),
    // National ids.
    ("national_id", "ssn 123-45-6789", "123-45-6789"),
    ("national_id", "SSN: 219099999", "219099999"),
    ("national_id", "(536-90-4399)", "536-90-4399"),
    ("national_id", "NINO AB123456C", "AB123456C"),
    ("national_id", "JG 10 37 59 A", "JG 10 37 59 A"),
    ("national_id", "Steuer-ID 86095742719", "86095742719"),
    ("national_id", "IdNr. 47 036 892 816", "47 036 892 816"),
    ("national_id", "65929970489", "65929970489"),
    ("national_id", "DNI 12345678Z", "12345678Z"),
    ("national_id", "54362315-K", "54362315-K"),
    ("national_id", "NIE X1234567L", "X1234567L"),
    ("national_id", "Z-1234567-R", "Z-1234567-R"),
    ("national_id", "RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("national_id", "cf=mrtmtt25d09f205z", "mrtmtt25d09f205z"),
    ("national_id", "BSN 111222333", "111222333"),
    ("national_id", "bsn: 1234.56.782", "1234.56.782"),
];

/// Secrets, which must not stand in a file as they are: a scanner of repositories would take them for real. `~` is left out.
const SECRETS: &[(&str, &str)] = &[
    ("key AKIA~IOSFODNN7EXAMPLE here", "AKIA~IOSFODNN7EXAMPLE"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPx~RfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPx~RfiCYEXAMPLEKEY"),
    ("gh~p_abcdefghijklmnopqrstuvwxyz0123456789", "gh~p_abcdefghijklmnopqrstuvwxyz0123456789"),
    ("glpat~-abcdefghij0123456789", "glpat~-abcdefghij0123456789"),
    ("xox~b-123456789012-abcdefABCDEF", "xox~b-123456789012-abcdefABCDEF"),
    ("'sk~-ant-api03-abcdefghijklmnopqrst'", "sk~-ant-api03-abcdefghijklmnopqrst"),
    ("OPENAI=sk~-proj-AbCdEfGhIjKlMnOpQrSt12", "sk~-proj-AbCdEfGhIjKlMnOpQrSt12"),
    ("sk~_live_abcdefghij0123456789", "sk~_live_abcdefghij0123456789"),
    ("AIza~SyA1234567890abcdefghijklmnopqrstuv", "AIza~SyA1234567890abcdefghijklmnopqrstuv"),
    ("eyJ~hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl x", "eyJ~hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
    ("Authorization: Bearer abc123DEF456ghi", "abc123DEF456ghi"),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("postgresql://etl:s3cr3t~@db.example.com/w", "s3cr3t~"),
    ("redis://:p@ssw0rd~@cache:6379/0", "p@ssw0rd~"),
    ("password=hunter2 user=etl", "hunter2"),
    ("AIRFLOW_PASSWORD='correct horse battery'", "correct horse battery"),
    ("PGPASSWORD=swordfish! psql", "swordfish!"),
    ("export DB_PASS=Hunter22x", "Hunter22x"),
    ("{\"password\": \"tr0ub4dor&3\"}", "tr0ub4dor&3"),
    ("{\\\"password\\\": \\\"tr0ub4dor\\\", \\\"x\\\": 1}", "tr0ub4dor"),
    ("ALTER ROLE etl PASSWORD 'new-Pass1' VALID", "new-Pass1"),
    ("CREATE USER x IDENTIFIED BY 'Tiger.9'", "Tiger.9"),
    ("mysql --password Tiger.9 -u x", "Tiger.9"),
    ("x-api-key: 0fd84474fcf129ae", "0fd84474fcf129ae"),
    ("client_secret: \"aB3dE6gH9\"", "aB3dE6gH9"),
    ("AccountKey=Zm9vYmFyMTIzNDU2Nzg5MA==;End", "Zm9vYmFyMTIzNDU2Nzg5MA=="),
    ("\"token\": \"5b1c9f0e7a\"", "5b1c9f0e7a"),
    (
        "-----BEGIN RSA PRIVATE~ KEY-----\\nMIIEow\\n-----END RSA PRIVATE~ KEY----- x",
        "-----BEGIN RSA PRIVATE~ KEY-----\\nMIIEow\\n-----END RSA PRIVATE~ KEY-----",
    ),
    ("-----BEGIN PRIVATE~ KEY-----\nMIIEow\ncut", "-----BEGIN PRIVATE~ KEY-----\nMIIEow\ncut"),
];

/// What reads like a value and is none.
const LOOK_ALIKES: &[&str] = &[
    // Cards: wrong checksum, no issuer, times, amounts, parts of something longer.
    "4111111111111112",
    "5555 5555 5555 4445",
    "9111111111111111",
    "run prod__2026-03-31__1795240137018",
    "at 1795240137018392387 ns",
    "20260331054901",
    "observed=0.4111111111111111",
    "x4111111111111111",
    "4111111111111111f",
    "41111111111111110000000",
    "4111 1111-1111 1111",
    "2026-4111111111111111",
    "rows 4111 1111 1111 111",
    "event_id=6011000990139425",
    "378282246310006 bytes",
    "offset 3566002020360506 of 6250941006528598",
    // IBANs and accounts.
    "DE89370400440532013001",
    "DE8937040044053201300",
    "GB29NWBK60161331926819X",
    "XX89370400440532013000",
    "de89a7f4004405320130",
    "sha AB12CD34EF56AB12",
    "routing number 021000022",
    "database 021000021",
    "account 12345678",
    "accounts number few",
    "account id 99887766",
    "rows 021000021",
    // E-mails.
    "img@2x.png",
    "react@18.2.0",
    "git@github.com:org/repo.git",
    "celery@worker-1.prod.example.internal",
    "https://user@host.example/x",
    "@app.route",
    "ann@localhost",
    "dag@2026-03-31.csv",
    "postgres@14-main.service",
    "a @ b.com",
    "user@-x.com",
    "@example.com",
    // Phones.
    "2026-03-31T05:49:01+02:00",
    "2026-03-31 05:49:01.392387+0000",
    "delta +15000000 rows",
    "+4915112345 rows",
    "1e+14155552671",
    "padded 0014155552671",
    "0.2125550142",
    "123-456-7890",
    "222-33-4444-5",
    "phone null rate 0.1958123412",
    "mobile: 5321908",
    "phone 2026-03-31 05",
    "/data/0331/20260331/x",
    "batch 050/100, 05000/10000",
    "version 10.2.3.4567",
    "1,234,567.89 EUR and 12.345.678,90",
    "(0,7) to (12,4567)",
    // National ids.
    "000-12-3456",
    "666-12-3456",
    "912-34-5678",
    "123-00-6789",
    "123-45-0000",
    "2026-123-45-6789",
    "QQ123456C",
    "BG123456A",
    "86095742718",
    "12345678901",
    "12345678A",
    "X1234567M",
    "20260331T",
    "RSSMRA85T10A562T",
    "BSN 111222334",
    "id 111222333",
    // Secrets.
    "FATAL: password authentication failed for user \"etl\"",
    "Password: please rotate it",
    "password: ***",
    "password=${WAREHOUSE_PASSWORD}",
    "password = '[redacted]'",
    "{\"password\": \"\\u2026\"}",
    "Token::ParenOpen",
    "postgres://etl:[hidden]@db",
    "password=creds()[\"x\"]",
    "password: str | None",
    "password_env: AIRFLOW_READ_PASSWORD",
    "password = DB_PASSWORD",
    "postgresql://etl:${PW}@db/x",
    "postgresql://etl:***@db/x",
    "http://127.0.0.1:8080/api",
    "Bearer token authentication",
    "Basic authentication is required",
    "token: null",
    "\"continuation_token\": \"eyJ9abcdef12345\"",
    "secret: my-registry-credentials",
    "account_key: ACC-2026-00123",
    "sk-learn",
    "task-abcdefghijklmnopqrstuvwx",
    "AKIA and ASIA",
    "-----BEGIN CERTIFICATE-----",
    "PWD=/opt/airflow",
    "the secret of success",
    "max_tokens: 4096",
    // What a log is made of.
    "550e8400-e29b-41d4-a716-446655440000",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "SQLSTATE 42501, ORA-00942, HTTP 503",
    "39 of 897 rows (4.3%), 5321 rows in 30.123 s",
    "Fri, 27 Nov 2026 10:00:30 GMT",
    "10.0.3.7:5432 and [::1]:80",
    "[email-1] stays [email]",
];

fn masker() -> Masker {
    Masker::new(&MaskRules::default()).unwrap()
}

fn masked(text: &str) -> String {
    masker().mask_text(&mut Vault::default(), text).unwrap()
}

/// The secrets as they are.
fn secrets() -> impl Iterator<Item = (&'static str, String, String)> {
    SECRETS.iter().map(|(text, value)| ("secret", text.replace('~', ""), value.replace('~', "")))
}

fn values() -> impl Iterator<Item = (&'static str, String, String)> {
    VALUES.iter().map(|(kind, text, value)| (*kind, (*text).to_owned(), (*value).to_owned())).chain(secrets())
}

#[test]
fn every_value_is_masked_and_nothing_around_it() {
    let masker = masker();
    let mut wrong = Vec::new();
    for (kind, text, value) in values() {
        let expected = text.replacen(&value, &format!("[{kind}-1]"), 1);
        assert_ne!(expected, text, "the table names a value that is not in its text");
        let mut vault = Vault::default();
        let masked = masker.mask_text(&mut vault, &text).unwrap();
        if masked != expected {
            wrong.push(format!("{text} → {masked}"));
        }
        assert_eq!(vault.restore(&masked, &|_| true), text);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn mistaken(masker: &Masker) -> Vec<String> {
    let masked = |text: &&str| masker.mask_text(&mut Vault::default(), text).unwrap();
    LOOK_ALIKES.iter().filter(|text| masked(text) != **text).map(masked).collect()
}

#[test]
fn look_alikes_stay() {
    let mistaken = mistaken(&masker());
    assert!(mistaken.is_empty(), "{mistaken:#?}");
}

/// Weakened: without the checksum, numbers that only look like cards are masked.
#[test]
fn without_luhn_look_alikes_are_taken_for_cards() {
    let mistaken = mistaken(&masker().without_luhn());
    assert_eq!(
        mistaken,
        ["[card-1]", "[card-1]", "event_id=[card-1]", "[card-1] bytes", "offset [card-1] of [card-2]"]
    );
}

#[test]
fn the_texts_of_an_estate_pass_unchanged() {
    for (name, text) in CORPUS {
        for (line, other) in text.lines().zip(masked(text).lines()) {
            assert_eq!(other, line, "{name}");
        }
        assert_eq!(masked(text), *text, "{name}");
        if name.ends_with("api") {
            let value: Value = serde_json::from_str(text).unwrap();
            let request = called_with(value);
            assert_eq!(masker().mask(&mut Vault::default(), &request).unwrap(), request, "{name} as arguments");
        }
    }
    for request in some_incidents() {
        assert_eq!(masker().mask(&mut Vault::default(), &request).unwrap(), request);
    }
}

/// A request that calls a tool with a value, and says it in every other place as well.
fn called_with(arguments: Value) -> ModelRequest {
    let text = arguments.to_string();
    let call = Part::ToolCall { id: "c1".into(), name: "t".into(), arguments: arguments.clone(), malformed: false };
    let result = Part::ToolResult { call_id: "c1".into(), content: text.clone(), is_error: false };
    let mut request = ModelRequest::of_text(text.clone(), 10);
    request.system = System { text: text.clone(), cache: false };
    request.messages.push(Message { role: Role::Assistant, parts: vec![call], cache: false });
    request.messages.push(Message { role: Role::User, parts: vec![result], cache: false });
    let parameters = json!({"type": "object", "examples": [arguments]});
    request.tools =
        vec![Tool { name: "t".into(), description: text.clone(), parameters: parameters.clone(), strict: false }];
    request.output = Some(OutputSchema { name: "o".into(), schema: parameters });
    request.stop = vec![text];
    request
}

#[test]
fn a_conversation_keeps_its_placeholders_across_a_restart() {
    let first = ModelRequest::of_text("ann@x.org and bob@x.org, not [email-2] nor [card-1]", 10);
    let mut vault = Vault::default();
    let masked = masker().mask(&mut vault, &first).unwrap();
    assert_eq!(masked.messages[0], Message::user("[email-1] and [email-3], not [email-2] nor [card-1]"));
    let kept = serde_json::to_string(&vault).unwrap();
    let mut restarted: Vault = serde_json::from_str(&kept).unwrap();
    assert_eq!(masker().mask(&mut restarted, &first).unwrap(), masked);
    let second = ModelRequest::of_text("carl@x.org wrote to bob@x.org: 4111111111111111, [email-2]", 10);
    let masked = masker().mask(&mut restarted, &second).unwrap();
    assert_eq!(masked.messages[0], Message::user("[email-4] wrote to [email-3]: [card-2], [email-2]"));
    assert_eq!(format!("{restarted:?}"), "Vault { values: 4, .. }");
}

#[test]
fn arguments_are_masked_by_their_fields_and_come_back_as_they_were() {
    let arguments = json!({
        "password": "correct horse battery", "card": 4_111_111_111_111_111_u64, "rows": 4711,
        "ann@x.org": ["bob@x.org", {"phone": "612345678"}], "account_number": 99_887_766, "bsn": "111222333",
        "id": "111222333", "file_token": "eyJhbGciOiJIUzI1", "note": "password=[secret-9]",
    });
    let mut vault = Vault::default();
    let masked = masker().mask(&mut vault, &called_with(arguments.clone())).unwrap();
    let Part::ToolCall { arguments: found, .. } = &masked.messages[1].parts[0] else { panic!("no call") };
    for (pointer, kind) in
        [("/password", "secret"), ("/card", "card"), ("/account_number", "account"), ("/bsn", "national_id")]
    {
        let text = found.pointer(pointer).unwrap().as_str().unwrap();
        assert!(text.starts_with(&format!("[{kind}-")), "{pointer}: {text}");
    }
    for name in ["rows", "id", "file_token", "note"] {
        assert_eq!(found[name], arguments[name]);
    }
    assert_eq!(vault.restore_value(found, &|_| true), arguments);
    let without_secrets = vault.restore_value(found, &|kind| *kind != MaskKind::Secret);
    assert_eq!((&without_secrets["card"], &without_secrets["password"]), (&arguments["card"], &found["password"]));
    let collision = json!({"[email-1]": 1, "ann@x.org": 2});
    let mut vault = Vault::default();
    masker().mask_text(&mut vault, "ann@x.org").unwrap();
    assert!(masker().mask(&mut vault, &called_with(collision)).is_err());
}

#[test]
fn thoughts_go_back_unread() {
    let thought = Part::Thought { provider: "p".into(), model: "m".into(), data: json!({"x": "ann@x.org"}) };
    let mut request = ModelRequest::of_text("hello", 10);
    request.messages.push(Message { role: Role::Assistant, parts: vec![thought], cache: false });
    assert_eq!(masker().mask(&mut Vault::default(), &request).unwrap(), request);
}

#[test]
fn an_answer_is_looked_at_again() {
    let text = "ask [email-1] or ann@x.org about 4111111111111111";
    let found = masker().found_in(text);
    let places: Vec<(&str, &str)> = found.iter().map(|found| (found.kind.word(), &text[found.at.clone()])).collect();
    assert_eq!(places, [("email", "ann@x.org"), ("card", "4111111111111111")]);
    assert!(!format!("{found:?}").contains("ann"));
    assert_eq!(masker().redact(text), "ask [email-1] or [email] about [card]");
    assert_eq!(masker().redact("nothing"), "nothing");
}

#[test]
fn rules_choose_and_own_patterns_join_in() {
    let rules = |yaml: &str| serde_saphyr::from_str::<MaskRules>(yaml).unwrap();
    let with =
        |yaml: &str, text: &str| Masker::new(&rules(yaml)).unwrap().mask_text(&mut Vault::default(), text).unwrap();
    let text = "ann@x.org from 10.0.3.7 and 2001:db8::1, not 127.0.0.1, for CUST-0042 with [cust-1]";
    assert_eq!(with("kinds: [ip]", text), text.replace("10.0.3.7", "[ip-1]").replace("2001:db8::1", "[ip-2]"));
    assert_eq!(
        with("custom: {cust: 'CUST-[0-9]{4}'}", text),
        text.replace("ann@x.org", "[email-1]").replace("CUST-0042", "[cust-2]")
    );
    assert_eq!(with("{kinds: [], custom: {line: '^a.*$'}}", "a b\nb a\na"), "[line-1]\nb a\n[line-2]");
    assert_eq!(with("{kinds: [], custom: {n: '[0-9]+'}}", "[n-1] 7"), "[n-[n-2]] [n-3]");
}

#[test]
fn wrong_rules_are_refused_with_their_place() {
    assert!(serde_saphyr::from_str::<MaskRules>("kindz: []").is_err());
    let long = format!("custom: {{x: '{}'}}", "a".repeat(513));
    let many: String = (0..33).map(|n| format!("x{n}: a, ")).collect();
    for (yaml, expected) in [
        ("kinds: [cards]", "masking.kinds: there is no kind `cards`; there are: secret, iban, card"),
        ("custom: {X: a}", "masking.custom.X: a name is"),
        ("custom: {email: a}", "masking.custom.email: a name is"),
        ("custom: {x: '('}", "masking.custom.x: regex parse error"),
        ("custom: {x: 'a*'}", "matches a text of nothing"),
        ("custom: {x: '(\\w{900}){900}'}", "size limit"),
        (&long, "513 bytes, 512 are possible"),
        (&format!("custom: {{{many}}}"), "33 patterns, 32 are possible"),
    ] {
        let rules: MaskRules = serde_saphyr::from_str(yaml).unwrap();
        let problem = Masker::new(&rules).unwrap_err().to_string();
        assert!(problem.contains(expected), "{yaml}: {problem}");
    }
}

#[test]
fn a_conversation_with_too_many_values_is_not_sent() {
    let text: String = (0..5000).map(|n| format!("user{n}@x.org ")).collect();
    let problem = masker().mask(&mut Vault::default(), &ModelRequest::of_text(text, 10)).unwrap_err();
    assert!(problem.to_string().contains("nothing was sent"), "{problem}");
    assert!(!problem.to_string().contains("user"), "{problem}");
}

#[test]
fn a_long_secret_is_masked_to_its_end() {
    let long = "Ab1_".repeat(1500);
    for text in [format!("refresh_token={long}, x"), format!("{{\"refresh_token\": \"{long}\", \"x\": 1}}")] {
        assert_eq!(masked(&text), text.replace(&long, "[secret-1]"));
    }
}

/// Texts that make a search begin again and again. A search in the square of the length would pass the limit by far.
#[test]
fn a_long_text_takes_its_time_and_no_more() {
    const BYTES: usize = 256 * 1024;
    let log: String = some_incidents().iter().map(|request| serde_json::to_string(request).unwrap()).collect();
    let pieces = [
        &log,
        "1",
        "4111 ",
        "@a.b",
        "a",
        "password=\"",
        "password=",
        "password=$",
        "-----BEGIN PRIVATE KEY-----",
        "a://b:",
        "[email-1]",
        "+1 2 3 ",
        "eyJaaaaaaaaa.",
        "\\\"",
    ];
    for piece in pieces {
        let text: String = piece.chars().cycle().take(BYTES).collect();
        let begun = std::time::Instant::now();
        // Too many values are an error; what counts is the time.
        let length = masker_once().mask_text(&mut Vault::default(), &text).map(|masked| masked.len());
        let head: String = piece.chars().take(24).collect();
        eprintln!("{:?} for {head:?}…: {length:?}", begun.elapsed());
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{head:?}");
    }
}

fn with_luhn(head: &str, body: u64) -> String {
    let number = format!("{head}{:0width$}", body % 10_u64.pow(15 - head.len() as u32), width = 15 - head.len());
    let sum: u32 = number
        .bytes()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0') * if at % 2 == 0 { 2 } else { 1 };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    format!("{number}{}", (10 - sum % 10) % 10)
}

fn with_mod_97(body: u64) -> String {
    let body = format!("{:018}", body % 10_u64.pow(18));
    // D is 13, E is 14.
    let rest = format!("{body}131400").bytes().fold(0, |rest, digit| (rest * 10 + u32::from(digit - b'0')) % 97);
    format!("DE{:02}{body}", 98 - rest)
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        (prop_oneof![Just("4"), Just("51"), Just("2221"), Just("6011"), Just("3530")], any::<u64>())
            .prop_map(|(head, body)| with_luhn(head, body)),
        any::<u64>().prop_map(with_mod_97),
        "[a-z][a-z0-9.]{0,8}[a-z0-9]@[a-z]{2,8}\\.(org|com|example)",
    ]
}

/// Texts in which values, look-alikes, placeholders and anything else stand side by side.
fn text() -> impl Strategy<Value = String> {
    let all: Vec<String> =
        values().map(|(_, text, _)| text).chain(LOOK_ALIKES.iter().map(|&text| text.into())).collect();
    let piece = prop_oneof![
        4 => proptest::sample::select(all),
        2 => value(),
        2 => "\\[(email|card|secret|x)-[0-9]{1,3}\\]",
        2 => "[ \\\\nrt\"'.,:;@+/=()\\[\\]{}_-]{0,3}",
        1 => "[0-9 -]{1,12}",
        1 => "\\PC{0,6}",
        1 => "(password|token|phone|ssn|account number|Bearer|://a:)[ :=\"']{0,2}",
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_is_masked_comes_back_and_masking_twice_is_masking_once(text in text()) {
        let masker = masker_once();
        let mut vault = Vault::default();
        let once = masker.mask_text(&mut vault, &text).unwrap();
        prop_assert_eq!(vault.restore(&once, &|_| true), text.as_str());
        prop_assert_eq!(masker.mask_text(&mut vault, &once).unwrap(), once.as_str());
        let kept = serde_json::to_string(&vault).unwrap();
        let mut restarted: Vault = serde_json::from_str(&kept).unwrap();
        prop_assert_eq!(masker.mask_text(&mut restarted, &text).unwrap(), once);
    }

    #[test]
    fn no_value_is_in_what_is_sent(values in proptest::collection::vec(value(), 1..8), marks in "[ ,;|\"()]{8}") {
        let masker = masker_once();
        let line: String = values.iter().zip(marks.chars()).map(|(value, mark)| format!("{mark}{value}{mark}")).collect();
        let field = |(at, value): (usize, &String)| (format!("f{at}"), Value::String(value.clone()));
        let mut arguments = Value::Object(values.iter().enumerate().map(field).collect());
        arguments["line"] = json!(line);
        arguments[&values[0]] = json!([values.clone(), 7]);
        if let Ok(number) = values[0].parse::<u64>() {
            arguments["number"] = json!(number);
        }
        let request = called_with(arguments.clone());
        let mut vault = Vault::default();
        let masked = masker.mask(&mut vault, &request).unwrap();
        let sent = serde_json::to_string(&masked).unwrap();
        for value in &values {
            prop_assert!(!sent.contains(value), "{} in {}", value, sent);
        }
        prop_assert_eq!(masker.mask(&mut vault, &masked).unwrap(), masked.clone());
        let Part::ToolCall { arguments: found, .. } = &masked.messages[1].parts[0] else { panic!("no call") };
        prop_assert_eq!(vault.restore_value(found, &|_| true), arguments);
        let kept = serde_json::to_string(&vault).unwrap();
        let mut restarted: Vault = serde_json::from_str(&kept).unwrap();
        prop_assert_eq!(masker.mask(&mut restarted, &request).unwrap(), masked);
    }
}

/// Compiled once for all cases of a property.
fn masker_once() -> &'static Masker {
    static MASKER: std::sync::LazyLock<Masker> = std::sync::LazyLock::new(masker);
    &MASKER
}
