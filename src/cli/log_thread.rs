//! The thread that the log's order is kept on, beside those of requests: numbering some thousand entries a second is hashing and
//! reading without a pause, and the operating system shares processors out more fairly than turns in one queue would.

use tokio::runtime::{Builder, Handle, Runtime};

/// Whatever runs on it stops, at the latest, when this is dropped.
pub struct LogThread {
    handle: Handle,
    /// `None` while it is dropped.
    runtime: Option<Runtime>,
}

impl LogThread {
    pub fn start() -> std::io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("log").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// To spawn on.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for LogThread {
    /// Without waiting, which an asynchronous task must not.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
