//! How it looks.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Paragraph, Row as TableRow, Table, Wrap};

use crate::model::{Model, Row, Server, Sort};

const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const DIM: Style = Style::new().fg(Color::DarkGray);

pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let rows = model.rows();
    let heads = u16::try_from(model.servers.len()).unwrap_or(u16::MAX).min(frame.area().height / 3).max(1);
    let areas = Layout::vertical([Constraint::Length(heads), Constraint::Fill(1), Constraint::Length(1)]);
    let [head, body, foot] = areas.areas(frame.area());
    let servers: Vec<_> = model.servers.iter().map(server).collect();
    frame.render_widget(Paragraph::new(servers), head);
    frame.render_widget(totals(&rows, model).alignment(Alignment::Right), Rect { height: 1, ..head });
    queues(frame, body, &rows, model);
    frame.render_widget(keys(model), foot);
}

fn server(server: &Server) -> Line<'_> {
    let (mark, said) = match (&server.trouble, &server.version) {
        (Some(trouble), _) => ("●".red(), Span::from(trouble.as_str()).red()),
        (None, Some(version)) => ("●".green(), Span::styled(version.as_str(), DIM)),
        (None, None) if server.known => ("●".green(), Span::default()),
        (None, None) => ("○".yellow(), Span::styled("connecting", DIM)),
    };
    // The name of a server stands in what is said of its trouble.
    let name = if server.trouble.is_some() { Span::default() } else { Span::from(format!("{}  ", server.name)).bold() };
    Line::from(vec![" ".into(), mark, " ".into(), name, said])
}

fn totals(rows: &[Row], model: &Model) -> Line<'static> {
    let sum = |value: fn(&Row) -> u64| rows.iter().map(value).sum::<u64>();
    let mut spans = Vec::new();
    for (number, word, color) in
        [(sum(|row| row.queued), "queued", Color::Yellow), (sum(|row| row.running), "running", Color::Green)]
    {
        spans.push(Span::styled(grouped(number), Style::new().fg(color).bold()));
        spans.push(Span::styled(format!(" {word}   "), DIM));
    }
    let watched = model.now().saturating_duration_since(model.since);
    spans.push(Span::styled(if model.paused { "paused ".into() } else { short(watched) + " " }, DIM));
    spans.into()
}

fn queues(frame: &mut Frame<'_>, area: Rect, rows: &[Row], model: &Model) {
    let block = Block::bordered().border_type(BorderType::Rounded).border_style(DIM);
    if rows.is_empty() {
        let anybody = model.servers.iter().any(|server| server.known && server.trouble.is_none());
        let text = if anybody { "no function is known, or none has jobs" } else { "no job server can be asked" };
        let inside = block.inner(area);
        frame.render_widget(block, area);
        frame.render_widget(Paragraph::new(text).style(DIM).centered().wrap(Wrap { trim: true }), inside);
        return;
    }
    let inside = block.inner(area);
    let wide = inside.width;
    let longest = rows.iter().map(|row| row.function.chars().count()).max().unwrap_or(0).clamp(8, 40);
    let name = u16::try_from(longest).unwrap_or(40).min(wide / 3).max(8);
    // What there is room for, the least needed dropped first.
    let (with_history, with_load, with_rate) = (wide >= 100, wide >= 80, wide >= 66);
    let fixed = name + 9 + 8 + 8 + if with_rate { 20 } else { 0 } + 6;
    let rest = wide.saturating_sub(fixed);
    let load = if with_load { 12 } else { 0 };
    let history = if with_history { rest.saturating_sub(load) * 2 / 5 } else { 0 };
    let bar = rest.saturating_sub(load + history).max(4);

    let mut titles = vec![title("FUNCTION", Sort::Name, model, false)];
    let mut widths = vec![Constraint::Length(name)];
    let mut column = |text, sort: Option<Sort>, width, right| {
        titles.push(match sort {
            Some(sort) => title(text, sort, model, right),
            None => Cell::from(Line::from(text).style(DIM)),
        });
        widths.push(Constraint::Length(width));
    };
    column("QUEUED", Some(Sort::Queued), 9, true);
    column("", None, bar, false);
    column("RUN", Some(Sort::Running), 8, true);
    column("WORKERS", Some(Sort::Workers), 8, true);
    if with_load {
        column(" BUSY", None, load, false);
    }
    if with_rate {
        column("CHANGE/S", Some(Sort::Rate), 11, true);
        column("EMPTY IN", None, 9, false);
    }
    if with_history {
        column("", None, history, false);
    }
    let most = rows.iter().map(|row| row.queued).max().unwrap_or(0).max(1);
    let room = usize::from(inside.height.saturating_sub(1));
    let offset = model.offset().min(rows.len().saturating_sub(room));
    let shown = rows.iter().skip(offset).map(|row| {
        let mut cells = vec![
            Cell::from(Span::styled(row.function.as_str(), name_style(row))),
            number(row.queued, Color::Yellow),
            Cell::from(queue_bar(row, most, bar)),
            number(row.running, Color::Green),
            number(row.workers, Color::Blue),
        ];
        if with_load {
            cells.push(Cell::from(load_bar(row, load.saturating_sub(1))));
        }
        if with_rate {
            cells.push(rate(row));
            cells.push(Cell::from(Span::styled(row.empty_in().map(short).unwrap_or_default(), DIM)));
        }
        if with_history {
            cells.push(Cell::from(Span::from(sparkline(&row.history, history)).cyan()));
        }
        TableRow::new(cells)
    });
    let position = format!(" {}–{} of {} ", offset + 1, (offset + room).min(rows.len()), rows.len());
    let block = if rows.len() > room { block.title_bottom(Line::from(position).right_aligned()) } else { block };
    let table = Table::new(shown, widths).header(TableRow::new(titles)).column_spacing(1).block(block);
    frame.render_widget(table, area);
}

fn title(text: &'static str, sort: Sort, model: &Model, right: bool) -> Cell<'static> {
    let chosen = model.sort == sort;
    let mark = match (chosen, model.reversed) {
        (true, false) => "▾",
        (true, true) => "▴",
        (false, _) => "",
    };
    let style = if chosen { Style::new().add_modifier(Modifier::BOLD) } else { DIM };
    let line = Line::from(format!("{text}{mark}")).style(style);
    Cell::from(if right { line.right_aligned() } else { line })
}

fn name_style(row: &Row) -> Style {
    match row {
        row if row.is_stuck() => Style::new().fg(Color::Red).bold(),
        row if row.queued + row.running == 0 => DIM,
        _ => Style::new(),
    }
}

fn number(number: u64, color: Color) -> Cell<'static> {
    let style = if number == 0 { DIM } else { Style::new().fg(color) };
    Cell::from(Line::from(grouped(number)).style(style).right_aligned())
}

/// A queue, against the longest one.
fn queue_bar(row: &Row, most: u64, width: u16) -> Line<'static> {
    if row.is_stuck() {
        let said = "nobody can run these";
        let bar = bar(row.queued as f64 / most as f64, width);
        let room = usize::from(width).saturating_sub(bar.chars().count() + 1);
        let said = if said.len() <= room { format!(" {said}") } else { String::new() };
        return Line::from(vec![bar.red(), said.red()]);
    }
    Line::from(bar(row.queued as f64 / most as f64, width).yellow())
}

/// How many of the workers have a job.
fn load_bar(row: &Row, width: u16) -> Line<'static> {
    if row.workers == 0 {
        return Line::default();
    }
    let load = (row.running as f64 / row.workers as f64).min(1.0);
    let full = bar(load, width);
    let rest = " ".repeat(usize::from(width).saturating_sub(full.chars().count()));
    let color = if load < 1.0 { Color::Green } else { Color::Magenta };
    Line::from(vec![" ".into(), Span::styled(full + &rest, Style::new().fg(color).bg(Color::Rgb(40, 40, 40)))])
}

fn rate(row: &Row) -> Cell<'static> {
    let (text, color) = match row.rate {
        rate if rate >= 0.05 => (format!("+{} ▲", decimal(rate)), Color::Red),
        rate if rate <= -0.05 => (format!("−{} ▼", decimal(-rate)), Color::Green),
        _ => ("0  ".into(), Color::DarkGray),
    };
    Cell::from(Line::from(text).style(Style::new().fg(color)).right_aligned())
}

fn keys(model: &Model) -> Line<'static> {
    let mut spans = Vec::new();
    let idle = if model.show_idle { "hide idle" } else { "show idle" };
    for (key, does) in
        [("q", "quit"), ("s", "sort"), ("r", "reverse"), ("i", idle), ("space", "pause"), ("↑↓", "scroll")]
    {
        spans.push(format!(" {key} ").reversed());
        spans.push(Span::styled(format!(" {does}  "), DIM));
    }
    spans.into()
}

/// A bar over `share` of `width`, to an eighth of a character; never nothing where there is something.
fn bar(share: f64, width: u16) -> String {
    let most = usize::from(width) * 8;
    let eighths = ((share * most as f64) as usize).clamp(usize::from(share > 0.0), most);
    EIGHTHS[8].repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// The last `width` values, against the largest of them.
fn sparkline(history: &[u64], width: u16) -> String {
    let shown = &history[history.len().saturating_sub(usize::from(width))..];
    let most = shown.iter().copied().max().unwrap_or(0).max(1);
    shown.iter().map(|&value| HEIGHTS[((value as f64 / most as f64) * 7.0).round() as usize]).collect()
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn decimal(number: f64) -> String {
    if number < 10.0 { format!("{number:.1}") } else { grouped(number as u64) }
}

fn short(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=5_999 => format!("{} min", seconds / 60),
        seconds @ 6_000..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use gearwheel::wire::admin::FunctionStatus;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::model::Sample;

    fn screen(width: u16, height: u16, model: &Model) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen of any size");
        terminal.draw(|frame| draw(frame, model)).expect("it draws");
        terminal.backend().to_string()
    }

    fn model() -> Model {
        let start = Instant::now();
        let mut model = Model::new(["127.0.0.1:4730".into()].into_iter(), start);
        for second in 0..10 {
            let at = start + Duration::from_secs(second);
            let rows = vec![
                FunctionStatus::new("resize".into(), 12_345 - 100 * second, 4, 4),
                FunctionStatus::new("orphan".into(), 7, 0, 0),
                FunctionStatus::new("idle".into(), 0, 0, 2),
            ];
            model.observe(Sample { server: 0, at, version: Some("1.1.20".into()), result: Ok(rows) });
            model.tick(at);
        }
        model
    }

    #[test]
    fn a_screen_tells_what_waits_runs_and_changes() {
        let screen = screen(120, 10, &model());
        for told in ["127.0.0.1:4730", "1.1.20", "resize", "11 441", "−100 ▼", "nobody can run these", "114"] {
            assert!(screen.contains(told), "{told} is missing:\n{screen}");
        }
    }

    #[test]
    fn every_size_is_drawn() {
        for width in [1, 5, 20, 49, 50, 76, 99, 100, 300] {
            for height in [1, 2, 3, 5, 40] {
                screen(width, height, &model());
            }
        }
        assert!(screen(40, 6, &model()).contains("resize"));
    }

    #[test]
    fn trouble_is_said() {
        let start = Instant::now();
        let mut model = Model::new(["a:4730".into()].into_iter(), start);
        assert!(screen(80, 8, &model).contains("connecting"));
        model.observe(Sample { server: 0, at: start, version: None, result: Err("connection refused".into()) });
        let screen = screen(80, 8, &model);
        assert!(screen.contains("connection refused") && screen.contains("no job server can be asked"), "{screen}");
    }

    #[test]
    fn bars_and_numbers_are_drawn_to_scale() {
        assert_eq!(
            (bar(0.0, 4), bar(0.001, 4), bar(0.5, 4), bar(1.0, 2)),
            ("".into(), "▏".into(), "██".into(), "██".into())
        );
        assert_eq!(sparkline(&[9, 0, 1, 2, 4], 4), "▁▃▅█");
        assert_eq!((grouped(1), grouped(1_234), grouped(1_000_000)), ("1".into(), "1 234".into(), "1 000 000".into()));
    }
}
