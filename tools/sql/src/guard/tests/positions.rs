//! A forbidden function or table is found wherever it stands.

use proptest::prelude::*;

use super::super::{Environment, Verdict};
use super::verdict;

/// Positions of an expression; `?` is the place. Each is allowed to the engineer in staging with something harmless there.
const POSITIONS: &[&str] = &[
    "SELECT ?",
    "SELECT ? AS x FROM orders",
    "SELECT DISTINCT ON (?) id FROM orders",
    "SELECT id FROM orders WHERE ? = 1",
    "SELECT id FROM orders WHERE NOT ? = 1",
    "SELECT id FROM orders WHERE id = 1 AND (status = 'x' OR ? = 1)",
    "SELECT id FROM orders ORDER BY ?",
    "SELECT id FROM orders ORDER BY ? USING <",
    "SELECT id FROM orders LIMIT ?",
    "SELECT id FROM orders OFFSET ?",
    "SELECT id FROM orders FETCH FIRST (?) ROWS ONLY",
    "SELECT id FROM orders GROUP BY id, ?",
    "SELECT count(*) FROM orders GROUP BY ROLLUP (?)",
    "SELECT count(*) FROM orders GROUP BY CUBE (id, ?)",
    "SELECT count(*) FROM orders GROUP BY GROUPING SETS ((?), ())",
    "SELECT grouping(?) FROM orders GROUP BY status",
    "SELECT status FROM orders GROUP BY status HAVING ? = 1",
    "SELECT count(*) FILTER (WHERE ? = 1) FROM orders",
    "SELECT array_agg(id ORDER BY ?) FROM orders",
    "SELECT count(DISTINCT ?) FROM orders",
    "SELECT percentile_cont(?) WITHIN GROUP (ORDER BY id) FROM orders",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ?) FROM orders",
    "SELECT sum(id) OVER (PARTITION BY ?) FROM orders",
    "SELECT sum(id) OVER (ORDER BY ?) FROM orders",
    "SELECT sum(id) OVER (ORDER BY id ROWS ? PRECEDING) FROM orders",
    "SELECT sum(id) OVER (ORDER BY id RANGE BETWEEN CURRENT ROW AND ? FOLLOWING) FROM orders",
    "SELECT sum(id) OVER w FROM orders WINDOW w AS (PARTITION BY ?)",
    "SELECT id FROM orders TABLESAMPLE system (?)",
    "SELECT id FROM orders TABLESAMPLE system (1) REPEATABLE (?)",
    "SELECT ARRAY[1, ?]",
    "SELECT ARRAY[[1], [?]]",
    "SELECT ARRAY(SELECT ?)",
    "SELECT ROW(1, ?)",
    "SELECT (1, ?)",
    "SELECT (ARRAY[1, 2])[?]",
    "SELECT (ARRAY[1, 2])[1:?]",
    "SELECT ? COLLATE \"C\"",
    "SELECT ?::text",
    "SELECT CAST(? AS text)",
    "SELECT ? AT TIME ZONE 'UTC'",
    "SELECT extract(day FROM ?)",
    "SELECT substring(? FROM 1 FOR 2)",
    "SELECT trim(both ? from 'x')",
    "SELECT overlay('abc' placing ? from 1)",
    "SELECT position(? in 'x')",
    "SELECT normalize(?)",
    "SELECT ? IS NULL",
    "SELECT (? = 1) IS NOT TRUE",
    "SELECT ? IS DISTINCT FROM 1",
    "SELECT ? BETWEEN 1 AND 2",
    "SELECT 1 BETWEEN SYMMETRIC ? AND 2",
    "SELECT ? IN (1, 2)",
    "SELECT 1 IN (2, ?)",
    "SELECT 1 NOT IN (SELECT ?)",
    "SELECT ? LIKE 'a' ESCAPE 'b'",
    "SELECT 'a' SIMILAR TO ?",
    "SELECT 1 = ANY (ARRAY[?])",
    "SELECT 1 < ALL (SELECT ?)",
    "SELECT (1, 2) = (?, 3)",
    "SELECT NULLIF(?, 1)",
    "SELECT COALESCE(NULL, ?)",
    "SELECT GREATEST(1, ?)",
    "SELECT LEAST(?, 1)",
    "SELECT CASE ? WHEN 1 THEN 2 END",
    "SELECT CASE WHEN ? = 1 THEN 2 END",
    "SELECT CASE WHEN true THEN ? END",
    "SELECT CASE WHEN true THEN 1 ELSE ? END",
    "SELECT length(?)",
    "SELECT make_interval(days => ?)",
    "SELECT concat(VARIADIC ARRAY[?])",
    "SELECT EXISTS (SELECT 1 WHERE ? = 1)",
    "SELECT (SELECT ?)",
    "SELECT x FROM (SELECT ? AS x) t",
    "SELECT id FROM orders o, LATERAL (SELECT ? AS x) t",
    "SELECT o.id FROM orders o JOIN events e ON e.id = o.event_id AND ? = 1",
    "SELECT g FROM generate_series(1, ?) g",
    "SELECT * FROM ROWS FROM (generate_series(1, ?), generate_series(1, 2)) AS t(a, b)",
    "SELECT * FROM jsonb_to_recordset(?) AS t(a int)",
    "VALUES (1, ?)",
    "SELECT * FROM (VALUES (?)) v(x)",
    "SELECT 1 UNION SELECT ?",
    "(SELECT 1) UNION ALL (SELECT 2 ORDER BY ?)",
    "WITH w AS (SELECT ?) SELECT 1",
    "WITH w AS MATERIALIZED (SELECT 1) SELECT ? FROM w",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + ? FROM r WHERE n < 3) SELECT n FROM r",
    "SELECT xmlelement(name a, xmlattributes(? AS b), 'c')",
    "SELECT xmlelement(name a, ?)",
    "SELECT xmlforest(? AS a)",
    "SELECT xmlconcat(?, NULL)",
    "SELECT xmlpi(name a, ?)",
    "SELECT xmlroot(?, version no value)",
    "SELECT xmlparse(content ?)",
    "SELECT xmlserialize(content ? AS text)",
    "SELECT ? IS DOCUMENT",
    "SELECT xmlexists('/a' PASSING ?)",
    "SELECT x FROM xmltable('/a' PASSING ? COLUMNS x text PATH 'b')",
    "SELECT x FROM xmltable('/a' PASSING (xmlparse(content '<a/>')) COLUMNS x text PATH 'b' DEFAULT ?)",
    "SELECT json_object('a': ?)",
    "SELECT json_object(? VALUE 1)",
    "SELECT json_array(1, ?)",
    "SELECT json_array(SELECT ?)",
    "SELECT json_objectagg('a': ?) FROM orders",
    "SELECT json_arrayagg(?) FROM orders",
    "SELECT json_arrayagg(id ORDER BY ?) FROM orders",
    "SELECT json_scalar(?)",
    "SELECT json_serialize(?)",
    "SELECT json(?)",
    "SELECT ? IS JSON OBJECT",
    "SELECT json_value(?, '$.a')",
    "SELECT json_value('{}', '$.a' PASSING ? AS x)",
    "SELECT json_value('{}', '$.a' DEFAULT ? ON EMPTY)",
    "SELECT json_query('{}', '$.a' DEFAULT ? ON ERROR)",
    "SELECT json_exists(?, '$.a')",
    "SELECT x FROM json_table(?, '$[*]' COLUMNS (x int PATH '$')) t",
    "SELECT x FROM json_table('[]', '$[*]' PASSING ? AS p COLUMNS (x int PATH '$')) t",
    "SELECT x FROM json_table('[]', '$[*]' COLUMNS (x int PATH '$' DEFAULT ? ON EMPTY)) t",
    "INSERT INTO orders (status) VALUES (?)",
    "INSERT INTO orders (status) SELECT ?",
    "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET amount = ?",
    "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET amount = 1 WHERE ? = 1",
    "INSERT INTO orders (id) VALUES (1) ON CONFLICT ((id + ?)) DO NOTHING",
    "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) WHERE ? = 1 DO NOTHING",
    "INSERT INTO orders (id) VALUES (1) RETURNING ?",
    "UPDATE orders SET status = ? WHERE id = 1",
    "UPDATE orders SET (status, amount) = (?, 1) WHERE id = 1",
    "UPDATE orders SET (status, amount) = (SELECT ?, 1) WHERE id = 1",
    "UPDATE orders SET status = 'x' WHERE id = ?",
    "UPDATE orders SET status = 'x' WHERE id = 1 RETURNING ?",
    "DELETE FROM orders WHERE id = ?",
    "DELETE FROM orders USING events e WHERE orders.event_id = e.id AND ? = 1",
    "MERGE INTO orders o USING events e ON o.event_id = e.id AND ? = 1 WHEN MATCHED THEN DO NOTHING",
    "MERGE INTO orders o USING events e ON o.event_id = e.id WHEN MATCHED AND ? = 1 THEN DELETE",
    "MERGE INTO orders o USING events e ON o.event_id = e.id WHEN MATCHED THEN UPDATE SET status = ?",
    "MERGE INTO orders o USING events e ON o.event_id = e.id WHEN NOT MATCHED THEN INSERT (status) VALUES (?)",
    "MERGE INTO orders o USING (SELECT ? AS id) e ON o.event_id = e.id WHEN MATCHED THEN DO NOTHING",
    "CREATE TABLE t AS SELECT ?",
    "CREATE TABLE t (a text DEFAULT ?)",
    "CREATE TABLE t (a text CHECK (a = ?))",
    "CREATE TABLE t (a text GENERATED ALWAYS AS (?) STORED)",
    "CREATE TABLE t (a text, CHECK (a = ?))",
    "CREATE TABLE t (a int) PARTITION BY RANGE ((a + ?))",
    "CREATE INDEX ON orders ((id + ?))",
    "CREATE INDEX ON orders (id) WHERE id = ?",
    "CREATE VIEW v AS SELECT ?",
    "CREATE MATERIALIZED VIEW v AS SELECT ?",
    "SELECT ? AS x INTO TEMP scratch",
    "EXPLAIN SELECT ?",
    "EXPLAIN ANALYZE SELECT ?",
];

/// Nothing that is known to be harmless.
const FORBIDDEN: &[&str] = &[
    "pg_read_file('x')",
    "public.side_effect_fn()",
    "(SELECT rolpassword FROM pg_authid LIMIT 1)",
    "(SELECT salary FROM payroll LIMIT 1)",
    "(1 OPERATOR(public.@@@) 2)",
];

fn engineer(sql: &str) -> (Verdict, &'static str) {
    let decision = verdict(sql, "data_engineer", Environment::Staging);
    (decision.verdict, decision.rule)
}

#[test]
fn forbidden_things_are_found_at_every_position() {
    for position in POSITIONS {
        let harmless = position.replace('?', "length('x')");
        assert_eq!(engineer(&harmless).0, Verdict::Allow, "{harmless}: {:?}", engineer(&harmless));
        for forbidden in FORBIDDEN {
            let sql = position.replace('?', forbidden);
            let (verdict, rule) = engineer(&sql);
            assert_eq!(verdict, Verdict::Deny, "{sql}");
            assert_ne!(rule, "syntax", "{sql}");
        }
    }
}

/// Expressions around an expression.
fn wrappers() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "(? + 1)",
        "length(?::text)",
        "coalesce(NULL, ?)",
        "(SELECT ?)",
        "ARRAY[?]",
        "CASE WHEN true THEN ? END",
        "(CASE ? WHEN 1 THEN 2 ELSE 3 END)",
        "(? IS NULL)",
        "(NOT (? = 1))",
        "(1 IN (2, ?))",
        "(ROW(1, ?))",
        "greatest(?, 1)",
        "(ARRAY[1])[?]",
        "(SELECT max(id) FROM orders WHERE id = ?)",
        "json_array(?)",
        "xmlelement(name a, ?)",
        "(EXISTS (SELECT 1 FROM events WHERE id = ?))",
        "nullif(?, 2)",
        "(? || 'x')",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn forbidden_things_are_found_in_any_nesting(
        around in proptest::collection::vec(wrappers(), 0..5),
        position in proptest::sample::select(POSITIONS),
        forbidden in proptest::sample::select(FORBIDDEN),
    ) {
        let wrap = |core: &str| around.iter().fold(core.to_owned(), |inner, wrapper| wrapper.replace('?', &inner));
        let bad = position.replace('?', &wrap(forbidden));
        prop_assert_eq!(engineer(&bad).0, Verdict::Deny, "{}", bad);
        let good = position.replace('?', &wrap("length('x')"));
        prop_assert_eq!(engineer(&good).0, Verdict::Allow, "{}", good);
    }

    #[test]
    fn no_text_makes_the_guard_panic(text in "\\PC{0,200}") {
        let decision = verdict(&text, "data_analyst", Environment::Production);
        prop_assert!(decision.verdict != Verdict::NeedsApproval);
    }
}

/// Why the tree is walked: the parser's own list of functions does not see all of them.
#[test]
fn the_parsers_list_of_functions_would_miss_many() {
    let misses = |position: &&&str| {
        let sql = position.replace('?', "pg_read_file('x')");
        let parsed = pg_query::parse(&sql, pg_query::ParserOptions::DEFAULT).unwrap();
        !parsed.functions().iter().any(|name| name == "pg_read_file")
    };
    let missed = POSITIONS.iter().filter(misses).count();
    assert!(missed > 20, "{missed} of {}", POSITIONS.len());
}
