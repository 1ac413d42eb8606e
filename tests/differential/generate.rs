//! Random conversations: what clients and workers say, mostly right, sometimes a little wrong.

use gearwheel::wire::frame::Magic;
use gearwheel::wire::{PACKETS, PacketType};

use crate::dice::Dice;
use crate::model::{FAR, Model};
use crate::sides::Options;
use crate::talk::{Conn, Step};

const CONNS: usize = 5;
const FUNCTIONS: [&[u8]; 5] = [b"f", b"g", b"two words", b"\xc3\xa9t\xc3\xa9\t", b""];
const PAYLOADS: [&[u8]; 6] = [b"", b"x", b"a\0b\0", b"\0", b"\0REQ\0\0\0\x07", b"line\r\n"];

/// How a conversation goes. gearmand 1.1 and ours differ in which of several functions comes first, so that either each
/// worker has one function at a time, or all jobs are of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    OneFunctionEach,
    OnePriority,
}

pub(crate) struct Generator {
    dice: Dice,
    style: Style,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> (Self, Options) {
        let mut dice = Dice::new(seed);
        let style = if dice.chance(500) { Style::OneFunctionEach } else { Style::OnePriority };
        let options = Options {
            round_robin: style == Style::OnePriority,
            job_retries: dice.chance(250).then(|| u32::try_from(dice.range(1, 3)).expect("small")),
            exceptions: dice.chance(100),
        };
        (Self { dice, style }, options)
    }

    /// How many steps go out in one write.
    pub(crate) fn group(&mut self) -> usize {
        if self.dice.chance(150) { self.dice.range(2, 5) as usize } else { 1 }
    }

    /// The next step, of `conn` if it must be.
    pub(crate) fn step(&mut self, model: &Model, conn: Option<Conn>) -> Option<Step> {
        let conn = match conn {
            Some(conn) => conn,
            None => self.conn(model)?,
        };
        let held = model.held_by(conn);
        Some(match self.dice.range(0, 99) {
            0..26 => self.submission(conn),
            26..36 => self.registration(model, conn),
            36..52 => {
                let forms = [PacketType::GRAB_JOB, PacketType::GRAB_JOB_UNIQ, PacketType::GRAB_JOB_ALL];
                Step::packet(conn, self.pick(&forms), &[])
            }
            52..59 => Step::packet(conn, PacketType::PRE_SLEEP, &[]),
            59..78 => self.work(model, conn, &held),
            78..86 => self.question(model, conn),
            86..92 => self.text(model, conn),
            92..96 => self.small_talk(conn),
            96..98 => self.mistake(conn),
            _ if self.dice.chance(300) => {
                let last = Step::packet(conn, PacketType::SUBMIT_JOB_BG, &[&self.function(), &self.unique(), b"last"]);
                Step::Close { conn, last: last.bytes() }
            }
            _ => Step::Close { conn, last: Vec::new() },
        })
    }

    /// One that is open, or a new one.
    fn conn(&mut self, model: &Model) -> Option<Conn> {
        let open: Vec<Conn> = (0..CONNS * 3).filter(|&conn| !model.line(conn).is_closed).take(CONNS).collect();
        (!open.is_empty()).then(|| self.pick(&open))
    }

    fn submission(&mut self, conn: Conn) -> Step {
        let mut function = self.function();
        if self.dice.chance(10) {
            function = vec![b'F'; 500];
        }
        let unique = self.unique();
        let payload = self.payload();
        let kind = match (self.dice.range(0, 11), self.style) {
            (0, _) => return self.epoch(conn, &function, &unique, &payload),
            (1, _) => {
                let unique = if unique.len() > 63 { Vec::new() } else { unique };
                let kind = self.pick(&[PacketType::SUBMIT_REDUCE_JOB, PacketType::SUBMIT_REDUCE_JOB_BACKGROUND]);
                return Step::packet(conn, kind, &[&function, &unique, b"reducer", b"", &payload]);
            }
            (2..4, Style::OneFunctionEach) => PacketType::SUBMIT_JOB_HIGH,
            (4..6, Style::OneFunctionEach) => PacketType::SUBMIT_JOB_LOW,
            (6, Style::OneFunctionEach) => PacketType::SUBMIT_JOB_HIGH_BG,
            (7, Style::OneFunctionEach) => PacketType::SUBMIT_JOB_LOW_BG,
            (2..8, _) => PacketType::SUBMIT_JOB,
            (8..10, _) => PacketType::SUBMIT_JOB_BG,
            _ => PacketType::SUBMIT_JOB,
        };
        Step::packet(conn, kind, &[&function, &unique, &payload])
    }

    /// Past or without sense, which is at once; or so far away that it does not come up, if no LOW jobs do: there it keeps
    /// them back.
    fn epoch(&mut self, conn: Conn, function: &[u8], unique: &[u8], payload: &[u8]) -> Step {
        let far: &[u8] = if self.style == Style::OnePriority { FAR } else { b"1" };
        let when: &[u8] = self.pick(&[&b"0"[..], b"1000", b"never", b"", b"-5", far]);
        Step::packet(conn, PacketType::SUBMIT_JOB_EPOCH, &[function, unique, when, payload])
    }

    fn registration(&mut self, model: &Model, conn: Conn) -> Step {
        let abilities = model.line(conn).abilities;
        let choice = self.dice.range(0, 9);
        if choice == 0 {
            return Step::packet(conn, PacketType::RESET_ABILITIES, &[]);
        }
        let is_full = self.style == Style::OneFunctionEach && !abilities.is_empty();
        if choice < 3 || is_full {
            let function = if self.dice.chance(800) { abilities.first().cloned() } else { None };
            let function = function.unwrap_or_else(|| self.function());
            return Step::packet(conn, PacketType::CANT_DO, &[&function]);
        }
        let function = self.function();
        if choice == 3 {
            let limit: &[u8] = self.pick(&[&b"3600000"[..], b"0", b"soon", b"-1", b""]);
            return Step::packet(conn, PacketType::CAN_DO_TIMEOUT, &[&function, limit]);
        }
        Step::packet(conn, PacketType::CAN_DO, &[&function])
    }

    fn work(&mut self, model: &Model, conn: Conn, held: &[Vec<u8>]) -> Step {
        let mut handle = if held.is_empty() || self.dice.chance(60) { self.handle(model) } else { self.pick(held) };
        let payload = self.payload();
        match self.dice.range(0, 9) {
            0..4 => Step::packet(conn, PacketType::WORK_COMPLETE, &[&handle, &payload]),
            4 => Step::packet(conn, PacketType::WORK_DATA, &[&handle, &payload]),
            5 => Step::packet(conn, PacketType::WORK_WARNING, &[&handle, &payload]),
            6 => Step::packet(conn, PacketType::WORK_EXCEPTION, &[&handle, &payload]),
            7 => {
                if self.dice.chance(100) {
                    handle.push(0);
                }
                Step::packet(conn, PacketType::WORK_FAIL, &[&handle])
            }
            _ => {
                let numbers: [&[u8]; 8] = [b"99999999999999", b"0", b"1", b"7", b"", b"0.5", b"-1", b"4294967299"];
                let (numerator, denominator) = (self.pick(&numbers), self.pick(&numbers[1..]));
                Step::packet(conn, PacketType::WORK_STATUS, &[&handle, numerator, denominator])
            }
        }
    }

    fn question(&mut self, model: &Model, conn: Conn) -> Step {
        if self.dice.chance(500) {
            let mut handle = self.handle(model);
            if self.dice.chance(100) {
                handle.push(0);
            }
            return Step::packet(conn, PacketType::GET_STATUS, &[&handle]);
        }
        let mut unique = self.unique();
        unique.truncate(63);
        Step::packet(conn, PacketType::GET_STATUS_UNIQUE, &[&unique])
    }

    fn text(&mut self, model: &Model, conn: Conn) -> Step {
        let function = self.pick(&["f", "g", "unheard"]);
        let line = match self.dice.range(0, 19) {
            0..4 => "status".into(),
            4..6 => "prioritystatus".into(),
            6..9 => "workers".into(),
            9..11 => "show jobs".into(),
            11..13 => "show unique jobs".into(),
            13 => format!("maxqueue {function} {}", self.pick(&["2", "0", "-1", "three", "2 3 4", "1 2", ""])),
            14 => format!("create function {function}"),
            15 => format!("drop function {function}"),
            16 => format!("cancel job {}", String::from_utf8_lossy(&self.handle(model))),
            17 => self.pick(&["show nothing", "cancel", "cancel a b", "priority status", "maxqueue", "STATUS"]).into(),
            18 => self.pick(&["no_such_word at all", "verbose", " status", "drop function", "Show Jobs"]).into(),
            _ => self.pick(&["shutdown", "create", "drop", "show", "one two three four five"]).into(),
        };
        let end = if line.starts_with("create") || self.dice.chance(700) { "\r\n" } else { "\n" };
        Step::Text { conn, line: format!("{line}{end}").into() }
    }

    fn small_talk(&mut self, conn: Conn) -> Step {
        match self.dice.range(0, 3) {
            0 => {
                Step::packet(conn, PacketType::SET_CLIENT_ID, &[self.pick(&[&b"name"[..], b"other-name", b"\xc3\xa9"])])
            }
            1 => Step::packet(conn, PacketType::OPTION_REQ, &[self.pick(&[&b"exceptions"[..], b"nothing", b""])]),
            _ => {
                let payload = self.payload();
                Step::packet(conn, PacketType::ECHO_REQ, &[&payload])
            }
        }
    }

    /// A packet that no server wants; all its arguments are there.
    fn mistake(&mut self, conn: Conn) -> Step {
        if self.dice.chance(100) {
            let kind = PacketType::new(self.pick(&[0, 43, 99, 0x7fff_ffff]));
            return Step::packet(conn, kind, &[]);
        }
        let place = self.dice.below(PACKETS.len());
        let info = &PACKETS[place];
        let arguments = vec![b"7".to_vec(); info.arguments.len()];
        let unwanted = [5, 6, 8, 10, 11, 17, 19, 20, 24, 27, 31, 35, 40, 42];
        let magic = if unwanted.contains(&info.kind.number()) { Magic::Request } else { Magic::Response };
        Step::Packet { conn, magic, kind: info.kind, arguments }
    }

    fn function(&mut self) -> Vec<u8> {
        let most = if self.dice.chance(200) { FUNCTIONS.len() } else { 2 };
        FUNCTIONS[self.dice.below(most)].to_vec()
    }

    fn unique(&mut self) -> Vec<u8> {
        match self.dice.range(0, 9) {
            0..3 => Vec::new(),
            3..5 => b"-".to_vec(),
            5..7 => b"u1".to_vec(),
            7 => b"u2".to_vec(),
            8 => vec![b'u'; 63],
            _ if self.dice.chance(200) => vec![b'u'; 65],
            _ => format!("u{}", self.dice.range(3, 9)).into(),
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        if self.dice.chance(30) {
            return vec![b'p'; self.dice.range(2_000, 70_000) as usize];
        }
        self.pick(&PAYLOADS).to_vec()
    }

    fn handle(&mut self, model: &Model) -> Vec<u8> {
        if model.handles.is_empty() || self.dice.chance(50) {
            return self.pick(&[&b"H:t:4711"[..], b"H:other:1", b"", b"H:t:0", b"H:t:01", b"H:t:1x"]).to_vec();
        }
        // The newer ones are more likely to live.
        let newest = model.handles.len() - 1;
        let back = self.dice.below(newest.min(6) + 1);
        model.handles[newest - back].clone()
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.dice.below(among.len())].clone()
    }
}
