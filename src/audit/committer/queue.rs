//! What was accepted and is in no batch yet, in order.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::CommitError;
use crate::audit::encode::Encoded;
use crate::audit::receipt::Receipt;

/// The entries of one request, and whom to tell.
pub(super) struct Job {
    pub entries: Vec<Encoded>,
    pub reply: Option<oneshot::Sender<Result<Receipt, CommitError>>>,
}

#[derive(Default)]
pub(super) struct Queue {
    pub waiting: VecDeque<Job>,
    /// Jobs of batches that are being committed.
    pub in_flight: usize,
    pub is_closed: bool,
}

/// What an engine without a batch is to do.
pub(super) enum Work {
    Now,
    Later,
    NoMore,
}

impl Queue {
    pub fn put(&mut self, job: Job) -> Result<(), CommitError> {
        if self.is_closed {
            return Err(CommitError::Stopped);
        }
        self.waiting.push_back(job);
        Ok(())
    }

    /// A second batch goes out beside one that is in flight when it is worth a commit of its own: at least half as large.
    /// Smaller ones wait for the end of the first, as they would with one chain; under load the batches come out about
    /// equal, and commits, which are what costs, as few as they can be.
    pub fn work(&self) -> Work {
        match self.waiting.len() {
            0 if self.is_closed => Work::NoMore,
            0 => Work::Later,
            waiting if self.is_closed || waiting * 2 >= self.in_flight => Work::Now,
            _ => Work::Later,
        }
    }

    /// Whole requests, in order, as many as fit. Counts them as in flight.
    pub fn take(&mut self, most_entries: usize) -> Vec<Job> {
        let mut room = most_entries;
        let mut batch = Vec::new();
        while let Some(left) = self.waiting.front().and_then(|job| room.checked_sub(job.entries.len())) {
            room = left;
            batch.extend(self.waiting.pop_front());
        }
        self.in_flight += batch.len();
        batch
    }
}
