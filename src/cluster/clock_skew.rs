//! Whether this replica's clock may be trusted: it is compared with the API server's.
//!
//! Tokens are judged by our clock, so one that runs wrong would let dead tokens in or keep live ones out. The API server's
//! `Date` header is the time that its tokens are made by.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use jiff::fmt::rfc2822;
use tokio::time::sleep;

use crate::model::{Clock, UnixSeconds};
use crate::world::Shared;

use super::api::{Api, ApiError, Ask};

/// How far apart the clocks may be.
const MAX_SKEW_SECONDS: i64 = 30;
const LOOK_EVERY: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Keeps `world.standing` told whether our clock is off, until dropped. While the API server does not answer, the last
/// verdict holds.
pub async fn watch_clock(api: Api, clock: Clock, world: Arc<Shared>) {
    let mut was_off = false;
    loop {
        let pause = match clock_off(&api, &clock).await {
            Ok(off) => {
                world.standing.clock_off(off);
                if off && !was_off {
                    tracing::error!(
                        "this machine's clock and the API server's differ by more than 30 s: tokens are refused until \
                         they agree"
                    );
                }
                was_off = off;
                LOOK_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "the API server's time could not be read");
                AGAIN_AFTER
            }
        };
        sleep(pause).await;
    }
}

/// Whether our clock and the API server's differ too much. To be asked once before serving.
///
/// # Errors
/// [`ApiError`] when the API server does not tell its time.
pub async fn clock_off(api: &Api, clock: &Clock) -> Result<bool, ApiError> {
    let asked = clock.now().wall;
    let theirs = server_time(api).await?;
    let answered = clock.now().wall;
    Ok(skew(theirs, asked, answered) > MAX_SKEW_SECONDS)
}

/// What time it is by the API server's clock.
///
/// # Errors
/// [`ApiError`] when it does not tell.
pub(super) async fn server_time(api: &Api) -> Result<UnixSeconds, ApiError> {
    let headers = api.headers(Ask::get("/version")).await?;
    headers
        .get(header::DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(parse_date)
        .ok_or(ApiError::Malformed)
}

/// An HTTP date (RFC 9110, section 5.6.7; the form that is still written).
fn parse_date(text: &str) -> Option<UnixSeconds> {
    let zoned = rfc2822::parse(text).ok()?;
    Some(UnixSeconds(zoned.timestamp().as_second()))
}

/// By how many seconds the clocks differ at least: theirs showed `theirs` at some time between our `asked` and `answered`,
/// each cut to whole seconds.
fn skew(theirs: UnixSeconds, asked: UnixSeconds, answered: UnixSeconds) -> i64 {
    // A clock of ours that was set back meanwhile makes answered < asked.
    let (first, last) = (asked.0.min(answered.0), asked.0.max(answered.0));
    let behind = theirs.0.saturating_sub(last).saturating_sub(1);
    let ahead = first.saturating_sub(theirs.0).saturating_sub(1);
    behind.max(ahead).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_date_is_read() {
        assert_eq!(
            parse_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(UnixSeconds(784_111_777))
        );
        assert_eq!(parse_date("yesterday"), None);
    }

    #[test]
    fn the_time_that_an_answer_takes_is_no_skew() {
        let table = [
            (100, 100, 100, 0),
            (101, 100, 103, 0),
            (100, 101, 101, 0),
            (100, 131, 131, 30),
            (100, 132, 133, 31),
            (131, 99, 100, 30),
            (132, 99, 100, 31),
            (i64::MAX, i64::MIN, i64::MIN, i64::MAX - 1),
        ];
        for (theirs, asked, answered, expected) in table {
            let found = skew(UnixSeconds(theirs), UnixSeconds(asked), UnixSeconds(answered));
            assert_eq!(found, expected, "{theirs} {asked} {answered}");
        }
    }
}
