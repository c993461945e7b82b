//! The place of one server's process: what PostgreSQL and the Vault API server have in common as programs.

use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Mutex;

use super::error::DevStackError;
use super::keeper::Kept;
use super::processes::signal_family;

const STOP_LIMIT: Duration = Duration::from_mins(1);

/// At most one process, and one change to it at a time.
pub(super) struct Slot {
    name: &'static str,
    kept: Mutex<Option<Kept>>,
}

impl Slot {
    pub(super) fn new(name: &'static str, kept: Kept) -> Self {
        Self { name, kept: Mutex::new(Some(kept)) }
    }

    /// `None` while it is stopped.
    pub(super) async fn process_id(&self) -> Option<u32> {
        let mut kept = self.kept.lock().await;
        running(&mut kept).map(|kept| kept.id())
    }

    pub(super) async fn start(
        &self,
        launch: impl Future<Output = Result<Kept, DevStackError>>,
    ) -> Result<(), DevStackError> {
        let mut kept = self.kept.lock().await;
        if running(&mut kept).is_some() {
            return Err(DevStackError::Running(self.name));
        }
        *kept = Some(launch.await?);
        Ok(())
    }

    /// Asks with `signal`, and waits until it has ended. One that does not run is left so.
    pub(super) async fn stop(&self, signal: Signal) {
        if let Some(mut kept) = self.kept.lock().await.take() {
            end(&mut kept, signal).await;
        }
    }

    /// SIGSTOP or SIGCONT for the whole family.
    pub(super) async fn signal(&self, signal: Signal) -> Result<(), DevStackError> {
        self.with(async |kept| {
            signal_family(kept.pid(), signal);
            Ok(())
        })
        .await
    }

    pub(super) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut Kept) -> Result<T, DevStackError>,
    ) -> Result<T, DevStackError> {
        let mut kept = self.kept.lock().await;
        work(running(&mut kept).ok_or(DevStackError::Stopped(self.name))?).await
    }
}

/// Asks with `signal`, lets a paused family go on so that it can, and waits; after a minute, by force.
pub(super) async fn end(kept: &mut Kept, signal: Signal) {
    if kept.ended().is_some() {
        return;
    }
    if signal != Signal::KILL {
        kept.signal(signal);
        signal_family(kept.pid(), Signal::CONT);
        if kept.wait(STOP_LIMIT).await.is_some() {
            return;
        }
    }
    signal_family(kept.pid(), Signal::KILL);
    kept.wait(STOP_LIMIT).await;
}

fn running(kept: &mut Option<Kept>) -> Option<&mut Kept> {
    let kept = kept.as_mut()?;
    kept.ended().is_none().then_some(kept)
}
