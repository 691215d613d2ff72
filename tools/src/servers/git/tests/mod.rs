//! The server over real repositories in folders of their own, hostile ones among them.

mod breaks;
mod hostile;
mod looks;
mod reference;
mod reverts;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::config::{Author, Config, Declared, Revert};
use super::registry::all_tools;
use super::{Repositories, Result};

const COMMON: &str = "def check(rows):\n    return rows\n\n\ndef run(statement):\n    return statement\n";
const DAG: &str = "from etl_common import check, run\n\n\ndef catalog():\n    return check(run('SELECT 1'))\n";
const BROKEN_DAG: &str =
    "from etl_common import check, check_contract, run\n\n\ndef catalog():\n    return check(run('SELECT 1'))\n";
/// Of the people whose work is looked at.
const PEOPLE: [&str; 4] = ["-c", "user.name=ana", "-c", "user.email=ana@shop.example"];

/// One repository with two files, and the server over it.
struct World {
    folder: TempDir,
    all: Repositories,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Declared)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut declared = Declared {
            path: folder.path().join("dags"),
            branch: "main".to_owned(),
            environment: "production".to_owned(),
            revert: Revert::Allowed,
            paths: vec!["*.py".to_owned()],
            max_age_days: 7,
            max_commits: 3,
        };
        change(&mut declared);
        let author = Author { name: "bot".to_owned(), email: "bot@shop.example".to_owned() };
        let config = Config { repositories: [("dags".to_owned(), declared)].into(), author };
        let world = Self { folder, all: Repositories::new(config) };
        std::fs::create_dir(world.root()).unwrap();
        world.git(&["init", "-q", "-b", "main"]);
        world.write("etl_common.py", COMMON);
        world.write("catalog.py", DAG);
        world.commit("pipelines");
        world
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("dags")
    }

    /// As a person at the repository.
    fn git(&self, args: &[&str]) -> String {
        let out = self.git_with(args, &[]);
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    fn git_with(&self, args: &[&str], env: &[(&str, &str)]) -> std::process::Output {
        let mut command = Command::new("git");
        command.current_dir(self.root()).args(PEOPLE).args(args).envs(env.iter().copied());
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.root().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
        self.head()
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// A deploy that makes a file unusable.
    fn break_it(&self) -> String {
        self.write("catalog.py", BROKEN_DAG);
        self.commit("catalog: contract checks (DQ-118)")
    }

    async fn call(&self, tool: &str, args: Value) -> Result<Value> {
        self.call_with(tool, args, None).await
    }

    /// With the stable key that a runtime gives a call.
    async fn call_with(&self, tool: &str, args: Value, key: Option<&str>) -> Result<Value> {
        let spec = all_tools().iter().find(|spec| spec.name == tool).unwrap();
        (spec.run)(self.all.clone(), args, key.map(str::to_owned)).await
    }

    async fn revert(&self, commit: &str) -> Result<Value> {
        self.call("revert_commit", revert_args(commit, &self.head(), &["catalog.py"])).await
    }

    /// Everything that a careless act would change: refs, index, work tree, and what lies beside them.
    fn state(&self) -> String {
        let files = std::fs::read_dir(self.root()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
        files.sort();
        let texts: Vec<String> =
            files.iter().map(|file| format!("{file:?} {:?}", std::fs::read(file).unwrap())).collect();
        let of_git = [
            &["for-each-ref"][..],
            &["symbolic-ref", "-q", "HEAD"],
            &["ls-files", "-s"],
            &["status", "--porcelain", "-uall"],
        ];
        let of_git = of_git.map(|args| String::from_utf8(self.git_with(args, &[]).stdout).unwrap());
        format!("{}\n{}", of_git.join("\n"), texts.join("\n"))
    }
}

fn revert_args(commit: &str, expected_head: &str, files: &[&str]) -> Value {
    json!({ "repo": "dags", "commit": commit, "expected_head": expected_head, "files": files, "environment": "production" })
}

/// A program that leaves a mark where it is started.
fn trap(folder: &Path) -> (PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let (program, mark) = (folder.join("trap.sh"), folder.join("sprung"));
    std::fs::write(&program, format!("#!/bin/sh\ntouch '{}'\ncat\n", mark.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (program, mark)
}
