//! Links the program so that less of it is read at start.

use std::env;
use std::process::Command;

/// The first version of glibc whose loader reads packed relocations.
const GLIBC_MIN: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    // A pointer of a constant is 24 bytes of relocation, all of them read at start: 1.5 MB, which packed are 60 KB.
    if is_native && target("OS") == "linux" && target("ENV") == "gnu" && glibc().is_some_and(|found| found >= GLIBC_MIN)
    {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The C library that programs of this machine are loaded with.
fn glibc() -> Option<(u32, u32)> {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
