//! The net below the net: a tiny shell that ends the servers when this process is killed outright.
//!
//! A parent-death signal reaches the direct child only, follows the *thread* that spawned it, and needs unsafe code. A
//! pipe does better: the shell reads the process groups to watch from its standard input, which the kernel closes when
//! we die in whatever way, and then kills each group that is still listed, grandchildren included.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use parking_lot::Mutex;

/// `+ pgid` watches a group, `- pgid` forgets it; the end of input kills what is left.
const SCRIPT: &str = r#"
groups=""
while read -r verb id; do
  rest=""
  for group in $groups; do [ "$group" = "$id" ] || rest="$rest $group"; done
  groups="$rest"
  [ "$verb" = "+" ] && groups="$groups $id"
done
for group in $groups; do kill -9 "-$group" 2>/dev/null; done
exit 0
"#;

/// Watches the process groups of one hub. Starts with the first group.
#[derive(Default)]
pub(super) struct Reaper(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Running(Child, ChildStdin),
    Unavailable,
}

impl Reaper {
    /// Kills the group `pgid` should this process end without [`Reaper::forget`].
    pub(super) fn watch(&self, pgid: u32) {
        let mut state = self.0.lock();
        if matches!(*state, State::Idle) {
            *state = start();
        }
        tell(&mut state, '+', pgid);
    }

    /// The group is gone.
    pub(super) fn forget(&self, pgid: u32) {
        tell(&mut self.0.lock(), '-', pgid);
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let State::Running(mut shell, input) = std::mem::take(&mut *self.0.lock()) {
            drop(input);
            // The shell ends with its input; waiting for it leaves no zombie behind.
            let _ = shell.wait();
        }
    }
}

fn start() -> State {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(SCRIPT).env_clear().current_dir("/");
    // A group of its own: a Ctrl-C meant for us must not end the net first.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = command.spawn().map(|mut shell| shell.stdin.take().map(|input| (shell, input)));
    match started {
        Ok(Some((shell, input))) => State::Running(shell, input),
        Ok(None) | Err(_) => {
            tracing::warn!("no /bin/sh: tool servers outlive this process if it is killed outright");
            State::Unavailable
        }
    }
}

fn tell(state: &mut State, verb: char, pgid: u32) {
    let State::Running(_, input) = state else { return };
    if let Err(error) = writeln!(input, "{verb} {pgid}").and_then(|()| input.flush()) {
        tracing::warn!(%error, "the process that watches tool servers is gone");
        *state = State::Unavailable;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn sleeper() -> Child {
        Command::new("/bin/sleep").arg("60").process_group(0).spawn().unwrap()
    }

    fn ended(child: &mut Child) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if child.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn the_end_of_input_ends_what_is_watched_and_nothing_else() {
        let (mut watched, mut forgotten) = (sleeper(), sleeper());
        let reaper = Reaper::default();
        reaper.watch(watched.id());
        reaper.watch(forgotten.id());
        reaper.forget(forgotten.id());
        assert!(watched.try_wait().unwrap().is_none());
        drop(reaper);
        assert!(ended(&mut watched), "the watched group lives on");
        assert!(forgotten.try_wait().unwrap().is_none(), "a forgotten group was killed");
        forgotten.kill().unwrap();
        forgotten.wait().unwrap();
    }
}
