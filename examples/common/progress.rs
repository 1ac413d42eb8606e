//! How far jobs are: bars where somebody looks at stderr, lines where it goes elsewhere.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::common::say;

/// The progress of the jobs of one program.
pub(crate) struct Progress {
    /// Where it is shown, if somebody looks.
    screen: Option<MultiProgress>,
    /// All jobs, where there are several.
    all: Option<ProgressBar>,
    /// The job that is waited for, once it has said how far it is.
    job: Option<ProgressBar>,
}

impl Progress {
    /// Of so many jobs.
    pub(crate) fn of(jobs: usize) -> Self {
        let screen = io::stderr().is_terminal().then(MultiProgress::new);
        let several = screen.as_ref().filter(|_| jobs > 1);
        let all = several.map(|screen| {
            let bar =
                ProgressBar::new(jobs as u64).with_style(style("jobs {wide_bar:.blue} {pos}/{len} {per_sec} {eta}"));
            screen.add(bar)
        });
        Self { screen, all, job: None }
    }

    /// The job that is waited for is so far.
    pub(crate) fn job(&mut self, numerator: u64, denominator: u64) {
        let Some(screen) = &self.screen else { return say!("progress: {numerator}/{denominator}") };
        let bar = self.job.get_or_insert_with(|| {
            let bar = ProgressBar::new(denominator).with_style(style("job  {wide_bar:.green} {pos}/{len} {eta}"));
            screen.insert(0, bar)
        });
        bar.set_length(denominator);
        bar.set_position(numerator.min(denominator));
    }

    /// Says something on stderr.
    pub(crate) fn say(&self, text: &str) {
        match &self.screen {
            Some(screen) => screen.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    /// The job that was waited for has ended, and `write` writes what came of it.
    pub(crate) fn end_of_job<W: Write>(
        &mut self,
        out: &mut W,
        write: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        self.job.take().iter().for_each(ProgressBar::finish_and_clear);
        self.all.iter().for_each(|all| all.inc(1));
        match &self.screen {
            // On the same terminal a result must not come into the middle of a bar.
            Some(screen) if io::stdout().is_terminal() => screen.suspend(|| write(out).and_then(|()| out.flush())),
            _ => write(out),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.all.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is ours").progress_chars("━╸─")
}
