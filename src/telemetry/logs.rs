//! One JSON line an event on standard error, through an allow-list.
//!
//! # Why
//! Dependencies log what they were handed: bodies that do not parse, headers, host names that strangers sent. So a
//! dependency that is not listed here does not log at all, none logs below info, and no environment variable changes that.

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What a dependency may say at most. kube-client logs bodies when parsing fails, at warn; its errors are its own words.
const DEPENDENCIES: [(&str, Level); 5] = [
    ("kube_client", Level::ERROR),
    ("kube_runtime", Level::INFO),
    ("kube_lease_manager", Level::INFO),
    ("tonic", Level::WARN),
    ("hyper_util", Level::WARN),
];

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// A level that is none.
    #[error("a log level is one of error, warn, info, debug and trace")]
    Level,
    /// Somebody else has done it before.
    #[error("logging was already started in this process")]
    AlreadyStarted,
}

/// Reads a level as the flag gives it.
///
/// # Errors
/// [`LogsError::Level`].
pub fn level(text: &str) -> Result<Level, LogsError> {
    match text {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err(LogsError::Level),
    }
}

/// Starts logging for this process: JSON lines on standard error, our own at `own`. A panic is logged by its place alone,
/// since its message may hold data.
///
/// # Errors
/// [`LogsError::AlreadyStarted`].
pub fn init(own: Level) -> Result<(), LogsError> {
    tracing_subscriber::registry()
        .with(lines(own, std::io::stderr))
        .try_init()
        .map_err(|_| LogsError::AlreadyStarted)?;
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic
            .location()
            .map_or(("", 0), |place| (place.file(), place.line()));
        tracing::error!(file, line, "a defect: a thread panicked");
    }));
    Ok(())
}

fn lines<S, W>(own: Level, to: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(to)
        .with_filter(
            filter_fn(move |metadata| is_allowed(own, metadata.target(), *metadata.level()))
                .with_max_level_hint(LevelFilter::from_level(own)),
        )
}

/// Whether an event of this target and level is written, when our own level is `own`.
fn is_allowed(own: Level, target: &str, level: Level) -> bool {
    let room = target.split("::").next().unwrap_or(target);
    let most = if room == env!("CARGO_CRATE_NAME") {
        own
    } else {
        match DEPENDENCIES.iter().find(|(name, _)| *name == room) {
            Some((_, most)) => own.min(*most),
            None => return false,
        }
    };
    level <= most
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[test]
    fn only_listed_targets_speak_and_dependencies_never_below_info() {
        let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        // (our level, target, what of `all` is written)
        for (own, target, written) in [
            (Level::INFO, "strongroom", 3),
            (Level::INFO, "strongroom::gate", 3),
            (Level::TRACE, "strongroom::gate", 5),
            (Level::ERROR, "strongroom::gate", 1),
            (Level::TRACE, "strongroom_other", 0),
            (Level::TRACE, "kube_client::client", 1),
            (Level::TRACE, "kube_runtime::controller", 3),
            (Level::WARN, "kube_runtime::controller", 2),
            (Level::ERROR, "kube_runtime::controller", 1),
            (Level::TRACE, "h2::codec", 0),
            (Level::TRACE, "hyper::proto", 0),
            (Level::TRACE, "rustls::msgs::handshake", 0),
            (Level::TRACE, "log", 0),
            (Level::TRACE, "", 0),
        ] {
            let got = all
                .iter()
                .filter(|level| is_allowed(own, target, **level))
                .count();
            assert_eq!(got, written, "{own} {target}");
        }
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn at_trace_level_a_line_is_one_json_object_and_dependencies_are_not_heard() {
        let written = Written::default();
        let to = written.clone();
        let subscriber = tracing_subscriber::registry().with(lines(Level::TRACE, move || to.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "h2::codec", header = "authorization: Bearer x", "received");
            tracing::warn!(target: "kube_client::client", body = "x", "failed to parse");
            tracing::info!(target: "rustls", "x");
            let span = tracing::info_span!(target: "strongroom::gate", "request", token = "x");
            span.in_scope(|| tracing::trace!(target: "strongroom::gate", vault = "a\n\"b", "looked at"));
            tracing::error!(target: "kube_client::client", "cannot connect");
        });
        let bytes = written.0.lock().unwrap().clone();
        let lines: Vec<serde_json::Value> = String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let messages: Vec<_> = lines
            .iter()
            .map(|line| line["message"].as_str().unwrap())
            .collect();
        assert_eq!(messages, ["looked at", "cannot connect"]);
        assert_eq!(lines[0]["vault"], "a\n\"b");
        assert_eq!(
            (&lines[0]["level"], &lines[0]["target"]),
            (&"TRACE".into(), &"strongroom::gate".into())
        );
        assert!(lines[0].get("span").is_none() && lines[0].get("token").is_none());
    }

    #[test]
    fn levels_have_five_names() {
        for name in ["error", "warn", "info", "debug", "trace"] {
            assert_eq!(level(name).unwrap().to_string().to_lowercase(), name);
        }
        for bad in ["", "INFO", "kube=trace", "off"] {
            assert!(level(bad).is_err(), "{bad}");
        }
    }
}
