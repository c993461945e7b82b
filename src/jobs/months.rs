//! Has the months of the log made ahead, and says when one is not there: then entries go where they cannot be dropped by the
//! month, and none is lost.

use std::sync::Arc;
use std::time::Duration;

use crate::service::{Alarm, Service};

const EVERY: Duration = Duration::from_hours(1);
/// Who reads a long stretch of the log holds it up for a while.
const AGAIN: Duration = Duration::from_mins(1);

/// Works until it is dropped.
pub async fn keep(service: Arc<Service>) {
    loop {
        let made = service.sequence().make_months().await;
        let pause = if matches!(made, Ok(0)) { EVERY } else { AGAIN };
        if let Ok(missing) = made {
            service.alarm_if(missing > 0, Alarm::LogMonthMissing).await;
        }
        tokio::time::sleep(pause).await;
    }
}
