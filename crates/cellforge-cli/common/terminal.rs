//! What a verb shows: the log, lines of output, progress and errors.

use std::{fmt, io::Write, process::ExitCode, sync::OnceLock};

use anyhow::{Result, bail};
use cellforge::{assess, data, settings, study, train};

use super::{Globals, Told, is_silent};

/// Starts the log on the error stream: progress at the normal level, warnings only with `--quiet`.
pub fn start_log(globals: &Globals) {
    use tracing_subscriber::{EnvFilter, fmt};
    let level = match (globals.quiet || is_silent(), globals.verbose) {
        (true, _) => "error",
        (false, 0) => {
            "warn,cellforge=info,cellforge_data=info,cellforge_train=info,cellforge_assess=info,cellforge_study=info"
        }
        (false, 1) => {
            "info,cellforge=debug,cellforge_data=debug,cellforge_train=debug,cellforge_assess=debug,cellforge_study=debug"
        }
        (false, _) => "trace",
    };
    let filter = EnvFilter::new(level);
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().with_ansi(false);
    // An error stream that is gone must not end the work.
    let lines = lines.log_internal_errors(false);
    let started =
        if globals.verbose == 0 { lines.with_level(false).with_target(false).try_init() } else { lines.try_init() };
    drop(started);
}

/// The first failure of the output stream.
static OUTPUT: OnceLock<std::io::Error> = OnceLock::new();

/// Writes a line to the output stream. If it fails, work goes on without saying more, and [`output_failed`] tells at the end.
pub fn say(text: impl fmt::Display) {
    if OUTPUT.get().is_none()
        && let Err(error) = writeln!(std::io::stdout(), "{}", harmless(&text.to_string()))
    {
        let _ = OUTPUT.set(error);
    }
}

/// A text whose control characters, which a name may have, do nothing to a terminal.
fn harmless(text: &str) -> String {
    let shown = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(shown) {
        return text.to_owned();
    }
    text.chars().map(|c| if shown(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Says so if something could not be written to the output stream. A reader that went away (`| head`) is no failure.
pub fn output_failed() -> Result<()> {
    match OUTPUT.get() {
        Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            bail!("cannot write to the output stream: {error}")
        }
        _ => Ok(()),
    }
}

/// Work that was stopped on request; the message says how to go on.
#[derive(Debug)]
pub struct Interrupted(pub String);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Prints an error with its causes, unless that was done, and gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(match error.downcast_ref() {
        Some(Told { code }) => *code,
        None => show(error),
    })
}

/// Prints an error with its causes and gives the exit code.
pub(super) fn show(error: &anyhow::Error) -> u8 {
    let mut stderr = std::io::stderr().lock();
    let code = code_of(error);
    if code == STOPPED {
        let _ = writeln!(stderr, "{error}");
        return code;
    }
    let mut lines = messages(error).into_iter();
    let _ = writeln!(stderr, "error: {}", lines.next().unwrap_or_default());
    lines.for_each(|cause| _ = writeln!(stderr, "  because: {cause}"));
    if let Some(advice) = error.chain().find_map(data_error).and_then(advice) {
        let _ = writeln!(stderr, "  {advice}");
    }
    code
}

/// The exit code of work that was stopped on request.
const STOPPED: u8 = 130;

/// The exit code for an error.
pub(super) fn code_of(error: &anyhow::Error) -> u8 {
    let stopped = error.chain().any(|cause| {
        cause.is::<Interrupted>() || matches!(cause.downcast_ref(), Some(study::Error::Interrupted { .. }))
    });
    match stopped {
        true => STOPPED,
        false if error.chain().any(is_usage) => 2,
        false => 1,
    }
}

/// An error with its causes, for another process to print.
pub(super) fn in_one_line(error: &anyhow::Error) -> String {
    messages(error).join(", because: ")
}

/// The message of an error, and those of its causes that say more.
fn messages(error: &anyhow::Error) -> Vec<String> {
    let plain = |text: String| {
        text.lines().filter(|line| !is_backtrace(line)).collect::<Vec<_>>().join("\n").trim_end().to_owned()
    };
    let mut found = vec![plain(error.to_string())];
    for cause in error.chain().skip(1) {
        // Many messages already quote their cause; saying it twice helps nobody.
        let text = plain(cause.to_string());
        if !text.is_empty() && !found.last().is_some_and(|shown| shown.contains(&text)) {
            found.push(text);
        }
    }
    found
}

/// Where a setting stands that is named on the command line without a flag.
pub const ARGUMENT: &str = "KEY";

/// Whether the command line is to blame: a flag, what `--set` was given, or a key.
fn is_usage(cause: &(dyn std::error::Error + 'static)) -> bool {
    let settings = match cause.downcast_ref() {
        Some(study::Error::Settings(error)) => Some(error),
        _ => cause.downcast_ref::<settings::Error>(),
    };
    settings.is_some_and(|error| {
        let origin = error.origin();
        origin.starts_with("--") || origin == ARGUMENT || matches!(error, settings::Error::Assignment(_))
    })
}

/// The error of the images among those of the other libraries, which pass for it.
fn data_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a data::Error> {
    let of_train = |error: &'a train::Error| if let train::Error::Data(error) = error { Some(error) } else { None };
    let of_assess = |error: &'a assess::Error| match error {
        assess::Error::Data(error) => Some(error),
        assess::Error::Train(error) => of_train(error),
        _ => None,
    };
    if let Some(error) = cause.downcast_ref::<study::Error>() {
        return match error {
            study::Error::Data(error) => Some(error),
            study::Error::Train(error) => of_train(error),
            study::Error::Assess(error) => of_assess(error),
            _ => None,
        };
    }
    let direct = cause.downcast_ref::<data::Error>();
    direct.or_else(|| of_train(cause.downcast_ref()?)).or_else(|| of_assess(cause.downcast_ref()?))
}

/// What a flag can do about it.
fn advice(error: &data::Error) -> Option<&'static str> {
    Some(match error {
        data::Error::BadImage { .. } => "--skip-bad leaves out images that cannot be used, and lists them",
        data::Error::Layout { .. } => {
            "--layout says what each level of folders is, as in class/group; --skip-bad leaves out what is not beside the first, and lists it"
        }
        data::Error::Ambiguous { .. } => {
            "--layout says what each level of folders is: class/group or group/class (patients), part/class (train, test), */class"
        }
        data::Error::OneClass { .. } => {
            "put the images of each class into a folder of their own, or name a table of classes: --table FILE --label COL. \
             `train gan` takes images of one class"
        }
        data::Error::NoImages { .. } => "save the files in one of the formats that are read, or name another folder",
        data::Error::Columns { .. } => {
            "--table FILE --name COL --group COL reads a table of more columns; --label COL takes the classes from it"
        }
        data::Error::LoneImage(_) => "a folder of images is read as one class, or by its folders",
        data::Error::EmptyClass { .. } => "--skip-bad leaves out folders without an image, and lists them",
        data::Error::Offline { .. } => "every verb takes the file, once it is there, with --data",
        data::Error::NoVision(_) => "build the program with --features candle-datasets",
        _ => return None,
    })
}

/// Candle appends a backtrace to its messages when one is enabled.
fn is_backtrace(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("at ")
        || line.split_once(": ").is_some_and(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
