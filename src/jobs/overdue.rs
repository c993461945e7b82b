//! Counts what people or parts have not done in time, for whoever watches the service: broken glass that nobody has reviewed, and
//! erasures that were approved and do not come to their end.

use std::sync::Arc;
use std::time::Duration;

use crate::service::{Error, Service};

const EVERY: Duration = Duration::from_secs(5);

/// Looks every few seconds, first at the start.
pub async fn keep(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut reviews, mut erasures) = (Told::default(), Told::default());
    loop {
        ticks.tick().await;
        if let Some(overdue) = reviews.is_news("break_glass", service.count_overdue_reviews().await) {
            tracing::error!(overdue, "break_glass.not_reviewed");
        }
        if let Some(overdue) = erasures.is_news("erasures", service.count_overdue_erasures().await) {
            tracing::error!(overdue, "erasures.overdue");
        }
    }
}

/// What is in the log already.
#[derive(Default)]
struct Told {
    overdue: u64,
    is_failing: bool,
}

impl Told {
    /// The count, where it has grown. A failure is logged once, and the next round tries again.
    fn is_news(&mut self, what: &'static str, counted: Result<u64, Error>) -> Option<u64> {
        match counted {
            Ok(overdue) => {
                let is_more = overdue > self.overdue;
                *self = Self { overdue, is_failing: false };
                is_more.then_some(overdue)
            }
            Err(error) => {
                if !self.is_failing {
                    tracing::warn!(what, %error, "overdue.not_counted");
                }
                self.is_failing = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_told_once() {
        let mut told = Told::default();
        let mut told = |counted| told.is_news("erasures", counted);
        assert_eq!((told(Ok(0)), told(Ok(2)), told(Ok(2))), (None, Some(2), None));
        assert_eq!((told(Err(Error::NotFound)), told(Ok(2))), (None, None));
        assert_eq!((told(Ok(1)), told(Ok(2))), (None, Some(2)));
    }
}
