//! Background jobs in a file: a line of JSON each. Bytes are text there, one character of U+0000 to U+00FF for each.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gearwheel::server::QueuedJob;
use gearwheel::{Handle, Priority};
use serde_json::{Value, json};

/// The jobs in `file`; none when there is no such file.
pub(crate) fn load(file: &Path) -> io::Result<Vec<QueuedJob>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| named("read", file, &error))?,
    };
    let job = |(number, line): (usize, &str)| {
        let bad =
            || io::Error::new(ErrorKind::InvalidData, format!("line {} of {} is no job", number + 1, file.display()));
        serde_json::from_str(line).ok().and_then(|value| from_json(&value)).ok_or_else(bad)
    };
    text.lines().enumerate().map(job).collect()
}

/// Whether there is a place to write `file` to: at the end it would be too late to hear that there is not.
pub(crate) fn probe(file: &Path) -> io::Result<()> {
    let partial = partial(file);
    File::create(&partial).and_then(|_| fs::remove_file(&partial)).map_err(|error| named("write", &partial, &error))
}

/// Writes `jobs` to `file`, all or nothing.
pub(crate) fn save(file: &Path, jobs: &[QueuedJob]) -> io::Result<()> {
    let partial = partial(file);
    write(&partial, jobs).and_then(|()| fs::rename(&partial, file)).inspect_err(|_| drop(fs::remove_file(&partial)))
}

/// Removes `file`, if it is there.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| named("remove", file, &error)),
    }
}

fn write(file: &Path, jobs: &[QueuedJob]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    for job in jobs {
        writeln!(out, "{}", to_json(job))?;
    }
    out.into_inner()?.sync_all()
}

/// Where `file` is written, before it takes the place of the last one.
fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn named(what: &str, file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", file.display()))
}

fn to_json(job: &QueuedJob) -> Value {
    let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    json!({
        "handle": job.handle.as_ref().map(|handle| text(handle.as_bytes())),
        "function": text(&job.function),
        "unique": text(&job.unique),
        "reducer": job.reducer.as_deref().map(text),
        "payload": text(&job.payload),
        "priority": match job.priority { Priority::High => "high", Priority::Low => "low", _ => "normal" },
        "not_before": job.not_before.map(|time| time.as_secs()),
    })
}

fn from_json(value: &Value) -> Option<QueuedJob> {
    let bytes = |name: &str| {
        let text = value.get(name)?.as_str()?;
        text.chars().map(|character| u8::try_from(character).ok()).collect::<Option<Vec<u8>>>()
    };
    let mut job = QueuedJob::new(bytes("function")?, bytes("payload")?);
    job.handle = bytes("handle").map(|handle| Handle::from_wire(&handle));
    job.unique = bytes("unique")?.into();
    job.reducer = bytes("reducer").map(Into::into);
    job.priority = match value.get("priority")?.as_str()? {
        "high" => Priority::High,
        "low" => Priority::Low,
        _ => Priority::Normal,
    };
    job.not_before = value.get("not_before")?.as_u64().map(Duration::from_secs);
    Some(job)
}
