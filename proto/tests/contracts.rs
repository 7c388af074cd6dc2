//! What was published holds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail as tests do"
)]

use std::path::{Path, PathBuf};

use proto::contracts::Contracts;
use protox::file::{File, FileResolver};
use protox::{Compiler, Error};

const PUBLISHED: &str = include_str!("../published.txt");
const RENEW: &str = "cargo run -p proto --example publish-contracts";

#[test]
fn nothing_that_was_published_is_broken() {
    let broken = Contracts::parse(PUBLISHED)
        .unwrap()
        .broken_by(&Contracts::current().unwrap());
    assert!(
        broken.is_empty(),
        "this breaks those who use the contracts:\n{}",
        broken.join("\n")
    );
}

#[test]
fn what_is_published_is_up_to_date() {
    let published = Contracts::parse(PUBLISHED).unwrap();
    let current = Contracts::current().unwrap();
    assert!(
        published == current && PUBLISHED == current.to_string(),
        "the contracts have changed: run `{RENEW}` and look at what it writes"
    );
}

#[test]
fn the_compiled_contracts_are_those_of_all_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|one| one == "proto") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 9, "{files:?}");
    let compiled = protox::compile(files, [root]).unwrap();
    assert_eq!(Contracts::of(&compiled), Contracts::current().unwrap());
}

/// A `.proto` file that is only a text.
struct Source(String);

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        File::from_source(name, &self.0)
    }
}

fn contracts(body: &str) -> Contracts {
    let source = format!("syntax = \"proto3\"; package t.v1; {body}");
    let mut compiler = Compiler::with_file_resolver(Source(source));
    compiler.open_file("t.proto").unwrap();
    Contracts::of(&compiler.file_descriptor_set())
}

fn broken(before: &str, now: &str) -> Vec<String> {
    contracts(before).broken_by(&contracts(now))
}

#[test]
fn every_kind_of_break_is_caught() {
    let cases = [
        // Messages and fields.
        ("message M {}", "", "message t.v1.M: is gone"),
        ("message M {}", "message N {}", "message t.v1.M: is gone"),
        (
            "message M {}",
            "enum M { A = 0; }",
            "message t.v1.M: is a enum now",
        ),
        (
            "message M { message I {} }",
            "message M {}",
            "message t.v1.M.I: is gone",
        ),
        (
            "message M { string a = 1; }",
            "message M { string b = 1; }",
            "message t.v1.M: field 1 `a` is called `b` now",
        ),
        (
            "message M { string a = 1; }",
            "message M { string a = 2; }",
            "message t.v1.M: field `a` had number 1 and has 2 now",
        ),
        (
            "message M { string a = 1; }",
            "message M { reserved 1; string a = 2; }",
            "message t.v1.M: field `a` had number 1 and has 2 now",
        ),
        (
            "message M { string a = 1; }",
            "message M { bytes a = 1; }",
            "message t.v1.M: field 1 `a` was `string` and is `bytes` now",
        ),
        (
            "message A {} message B {} message M { A a = 1; }",
            "message A {} message B {} message M { B a = 1; }",
            "message t.v1.M: field 1 `a` was `t.v1.A` and is `t.v1.B` now",
        ),
        (
            "enum E { X = 0; } message M { E a = 1; }",
            "enum E { X = 0; } message M { int32 a = 1; }",
            "message t.v1.M: field 1 `a` was `t.v1.E` and is `int32` now",
        ),
        (
            "message M { map<string, int64> a = 1; }",
            "message M { map<string, int32> a = 1; }",
            "message t.v1.M: field 1 `a` was `map<string, int64>` and is `map<string, int32>` now",
        ),
        (
            "message M { string a = 1; }",
            "message M { repeated string a = 1; }",
            "message t.v1.M: field 1 `a` was `string` and is `repeated string` now",
        ),
        (
            "message M { optional string a = 1; }",
            "message M { string a = 1; }",
            "message t.v1.M: field 1 `a` was `optional string` and is `string` now",
        ),
        (
            "message M { string a = 1; }",
            "message M { oneof o { string a = 1; } }",
            "message t.v1.M: field 1 `a` was in no oneof and is in oneof `o` now",
        ),
        (
            "message M { oneof o { string a = 1; string b = 2; } }",
            "message M { oneof o { string b = 2; } string a = 1; }",
            "message t.v1.M: field 1 `a` was in oneof `o` and is in no oneof now",
        ),
        (
            "message M { oneof o { string a = 1; } }",
            "message M { oneof p { string a = 1; } }",
            "message t.v1.M: field 1 `a` was in oneof `o` and is in oneof `p` now",
        ),
        (
            "message M { string a_b = 1; }",
            "message M { string a_b = 1 [json_name = \"ab\"]; }",
            "message t.v1.M: field 1 `a_b` is called `a_b[ab]` now",
        ),
        // Removals.
        (
            "message M { string a = 1; }",
            "message M { reserved \"a\"; }",
            "message t.v1.M: field 1 `a` is gone and 1 is not reserved",
        ),
        (
            "message M { string a = 1; }",
            "message M { reserved 1; }",
            "message t.v1.M: field 1 `a` is gone and \"a\" is not reserved",
        ),
        (
            "message M { reserved 1 to 3, 7; }",
            "message M { reserved 1 to 2, 7; }",
            "message t.v1.M: 1 to 3 is not reserved any more",
        ),
        (
            "message M { reserved \"a\"; }",
            "message M { string a = 1; }",
            "message t.v1.M: \"a\" is not reserved any more",
        ),
        // Enums.
        ("enum E { A = 0; }", "", "enum t.v1.E: is gone"),
        (
            "enum E { A = 0; B = 1; }",
            "enum E { A = 0; reserved \"B\"; }",
            "enum t.v1.E: value 1 `B` is gone and 1 is not reserved",
        ),
        (
            "enum E { A = 0; B = 1; }",
            "enum E { A = 0; B = 2; }",
            "enum t.v1.E: value `B` was 1 and is 2 now",
        ),
        (
            "enum E { A = 0; B = 1; }",
            "enum E { A = 0; C = 1; reserved \"B\"; }",
            "enum t.v1.E: value 1 `B` is gone and 1 is not reserved",
        ),
        (
            "message M { enum E { A = 0; } }",
            "message M {}",
            "enum t.v1.M.E: is gone",
        ),
        // Services.
        (
            "message M {} service S { rpc R(M) returns (M); }",
            "message M {}",
            "service t.v1.S: is gone",
        ),
        (
            "message M {} service S { rpc R(M) returns (M); }",
            "message M {} service S { rpc Q(M) returns (M); }",
            "service t.v1.S: `R` is gone",
        ),
        (
            "message M {} message N {} service S { rpc R(M) returns (M); }",
            "message M {} message N {} service S { rpc R(N) returns (M); }",
            "service t.v1.S: `R` was `(t.v1.M) returns (t.v1.M)` and is `(t.v1.N) returns (t.v1.M)` now",
        ),
        (
            "message M {} message N {} service S { rpc R(M) returns (M); }",
            "message M {} message N {} service S { rpc R(M) returns (N); }",
            "service t.v1.S: `R` was `(t.v1.M) returns (t.v1.M)` and is `(t.v1.M) returns (t.v1.N)` now",
        ),
        (
            "message M {} service S { rpc R(M) returns (M); }",
            "message M {} service S { rpc R(stream M) returns (M); }",
            "service t.v1.S: `R` was `(t.v1.M) returns (t.v1.M)` and is `(stream t.v1.M) returns (t.v1.M)` now",
        ),
        (
            "message M {} service S { rpc R(M) returns (stream M); }",
            "message M {} service S { rpc R(M) returns (M); }",
            "service t.v1.S: `R` was `(t.v1.M) returns (stream t.v1.M)` and is `(t.v1.M) returns (t.v1.M)` now",
        ),
    ];
    for (before, now, expected) in cases {
        assert_eq!(broken(before, now), [expected], "{before} -> {now}");
        assert!(broken(before, before).is_empty(), "{before}");
    }
    // Another package, another promise.
    let moved = contracts("message M {}").to_string();
    let moved = Contracts::parse(&moved.replace("t.v1.", "t.v2.")).unwrap();
    assert_eq!(moved.broken_by(&contracts("message M {}")).len(), 1);
}

#[test]
fn additions_and_removals_with_care_break_nothing() {
    for (before, now) in [
        ("", "message M {} enum E { A = 0; }"),
        (
            "message M { string a = 1; }",
            "message M { string a = 1; int64 b = 2; }",
        ),
        (
            "message M { oneof o { string a = 1; } }",
            "message M { oneof o { string a = 1; string b = 2; } optional string c = 3; }",
        ),
        ("enum E { A = 0; }", "enum E { A = 0; B = 1; }"),
        (
            "message M {} service S { rpc R(M) returns (M); }",
            "message M {} service S { rpc Q(M) returns (M); rpc R(M) returns (M); }",
        ),
        (
            "message M { string a = 1; }",
            "message M { reserved 1; reserved \"a\"; }",
        ),
        (
            "enum E { A = 0; B = 1; }",
            "enum E { A = 0; reserved 1; reserved \"B\"; }",
        ),
        (
            "message M { reserved 3 to 5; string a = 2; }",
            "message M { reserved 1 to 3, 4, 5 to 9; reserved \"a\"; }",
        ),
        (
            "message M { reserved 5 to max; }",
            "message M { reserved 4 to max; }",
        ),
        // Files and order are no promise.
        (
            "message M { string a = 1; string b = 2; } message N {}",
            "message N {} message M { string b = 2; string a = 1; }",
        ),
    ] {
        assert_eq!(broken(before, now), [""; 0], "{before} -> {now}");
    }
}

#[test]
fn the_text_holds_all_that_is_compared() {
    let all = contracts(
        "message M { string a = 1; optional int64 b = 2; repeated N c = 3; map<string, N> d = 4;
           oneof o { E e = 5; bytes in = 6; } reserved 7, 9 to max; reserved \"g\", \"to\"; message N { E x = 1; } }
         enum E { option allow_alias = true; A = 0; B = 1; C = 1; D = -1; reserved 5 to 6, 8 to max; reserved \"Z\"; }
         service S { rpc R(M) returns (M); rpc Q(stream M) returns (stream M.N); }",
    );
    assert_eq!(Contracts::parse(&all.to_string()).unwrap(), all);
    let real = Contracts::current().unwrap();
    assert_eq!(Contracts::parse(&real.to_string()).unwrap(), real);
}

#[test]
fn a_text_that_says_something_else_is_refused() {
    for bad in [
        "massage a.M",
        "message",
        "  1 string a",
        "message a.M\n  x string a",
        "message a.M\n  1 a",
        "message a.M\n  1 string a\n  1 string b",
        "message a.M\nmessage a.M",
        "enum a.E\n  A 0",
        "enum a.E\n  reserved 1 to x",
        "service a.S\n  R",
        "message a.M\n  reserved a\n  reserved a",
    ] {
        assert!(Contracts::parse(bad).is_err(), "{bad}");
    }
}
