//! What is said to a job server, step by step, and what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use gearwheel::wire::frame::{Magic, split};
use gearwheel::wire::{HEADER, PACKETS, PacketType};

/// A connection of a conversation, from 0; written as a letter.
pub(crate) type Conn = usize;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A packet with its arguments, right or wrong.
    Packet { conn: Conn, magic: Magic, kind: PacketType, arguments: Vec<Vec<u8>> },
    /// A line of the text protocol, its end included.
    Text { conn: Conn, line: Vec<u8> },
    /// Bytes, and the connection closed behind them at once.
    Close { conn: Conn, last: Vec<u8> },
    /// Time passes.
    Wait { millis: u64 },
}

impl Step {
    pub(crate) fn packet(conn: Conn, kind: PacketType, arguments: &[&[u8]]) -> Self {
        let arguments = arguments.iter().map(|argument| argument.to_vec()).collect();
        Self::Packet { conn, magic: Magic::Request, kind, arguments }
    }

    pub(crate) fn conn(&self) -> Option<Conn> {
        match *self {
            Self::Packet { conn, .. } | Self::Text { conn, .. } | Self::Close { conn, .. } => Some(conn),
            Self::Wait { .. } => None,
        }
    }

    /// The type of the packet that it is.
    pub(crate) fn kind(&self) -> Option<PacketType> {
        match *self {
            Self::Packet { kind, magic: Magic::Request, .. } => Some(kind),
            _ => None,
        }
    }

    pub(crate) fn argument(&self, index: usize) -> &[u8] {
        match self {
            Self::Packet { arguments, .. } => arguments.get(index).map(Vec::as_slice).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Packet { magic, kind, arguments, .. } => packet(*magic, *kind, &arguments.join(&0)),
            Self::Text { line, .. } => line.clone(),
            Self::Close { last, .. } => last.clone(),
            Self::Wait { .. } => Vec::new(),
        }
    }

    /// Reads a conversation: steps parted by `;`, or by `&` where they go out in one write. Each is of a connection, a packet's name and its arguments parted by `|`.
    ///
    /// Instead of a name: a number for a type without one; `RES` before a name for the other magic; `text LINE` and
    /// `lf LINE` for the text protocol; `close`, and `close NAME ARGUMENTS` for a packet that is followed at once by the
    /// end of the connection; `wait MILLISECONDS`. An argument `{N}` is N bytes, `{+N}` the wall time in N
    /// seconds.
    pub(crate) fn script(script: &str) -> Vec<Vec<Self>> {
        let groups = script.split(';').map(|group| group.split('&'));
        groups.map(|group| group.map(|step| Self::parse(step.trim())).collect()).collect()
    }

    fn parse(step: &str) -> Self {
        let (conn, rest) = step.split_once(' ').unwrap_or((step, ""));
        let conn = usize::from(conn.bytes().next().expect("a step begins with its connection") - b'a');
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "text" => Self::Text { conn, line: format!("{rest}\r\n").into() },
            "lf" => Self::Text { conn, line: format!("{rest}\n").into() },
            "wait" => Self::Wait { millis: rest.parse().expect("a number of milliseconds") },
            "close" if rest.is_empty() => Self::Close { conn, last: Vec::new() },
            "close" => Self::Close { conn, last: Self::parse(&format!("a {rest}")).bytes() },
            "RES" => match Self::parse(&format!("a {rest}")) {
                Self::Packet { kind, arguments, .. } => Self::Packet { conn, magic: Magic::Response, kind, arguments },
                other => panic!("{other:?} is no packet"),
            },
            name => {
                let info = PACKETS.iter().find(|info| info.name == name);
                let number =
                    info.map_or_else(|| name.parse().expect("a packet's name or number"), |info| info.kind.number());
                let arguments = if rest.is_empty() { Vec::new() } else { rest.split('|').map(filled).collect() };
                Self::Packet { conn, magic: Magic::Request, kind: PacketType::new(number), arguments }
            }
        }
    }
}

fn filled(argument: &str) -> Vec<u8> {
    match argument.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(later) if later.starts_with('+') => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
            let later: u64 = later.parse().expect("a number of seconds");
            (now.as_secs() + later).to_string().into()
        }
        Some(length) => vec![b'u'; length.parse().expect("a number of bytes")],
        None => argument.into(),
    }
}

/// A packet with any body.
pub(crate) fn packet(magic: Magic, kind: PacketType, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&magic.bytes());
    bytes.extend_from_slice(&kind.number().to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(body.len()).expect("small").to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet { conn, magic, kind, arguments } => {
                let response = if *magic == Magic::Response { "RES " } else { "" };
                let arguments: Vec<_> = arguments.iter().map(|argument| brief(argument)).collect();
                write!(f, "{} {response}{kind} {}", letter(*conn), arguments.join("|"))
            }
            Self::Text { conn, line } => write!(f, "{} text {}", letter(*conn), line.escape_ascii()),
            Self::Close { conn, last } => write!(f, "{} close {}", letter(*conn), last.escape_ascii()),
            Self::Wait { millis } => write!(f, "a wait {millis}"),
        }
    }
}

pub(crate) fn letter(conn: Conn) -> char {
    char::from(b'a' + u8::try_from(conn).expect("few connections"))
}

/// Bytes for people; a row of one letter by its length.
fn brief(bytes: &[u8]) -> String {
    match bytes {
        [first, rest @ ..] if rest.len() > 30 && rest.iter().all(|byte| byte == first) => {
            format!("{{{}}}", bytes.len())
        }
        bytes => bytes.escape_ascii().to_string(),
    }
}

/// What comes back on a connection.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Packet(PacketType, Bytes),
    Text(Vec<u8>),
    /// The server has closed the connection.
    Closed,
    /// The server lives and reads no more of this connection, or waits for more.
    Silence,
    /// There is no server any more.
    Gone,
}

impl Reply {
    /// The arguments of a packet of this kind.
    pub(crate) fn arguments(&self) -> Vec<&[u8]> {
        match self {
            Self::Packet(kind, body) => {
                let count = kind.info().map_or(1, |info| info.arguments.len()).max(1);
                body.splitn(count, |&byte| byte == 0).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn kind(&self) -> Option<PacketType> {
        match self {
            Self::Packet(kind, _) => Some(*kind),
            _ => None,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(kind, body) if body.is_empty() => write!(f, "{kind}"),
            Self::Packet(kind, _) => {
                let arguments: Vec<_> = self.arguments().into_iter().map(brief).collect();
                write!(f, "{kind} {}", arguments.join("|"))
            }
            Self::Text(text) => write!(f, "{}", text.escape_ascii()),
            Self::Closed => write!(f, "(closed)"),
            Self::Silence => write!(f, "(silence)"),
            Self::Gone => write!(f, "(the server is gone)"),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What came on each connection, in order.
pub(crate) type Replies = BTreeMap<Conn, Vec<Reply>>;

/// All that came, for people.
pub(crate) fn transcript(replies: &Replies) -> Vec<String> {
    let lines = replies.iter().flat_map(|(&conn, replies)| replies.iter().map(move |reply| (conn, reply)));
    lines.map(|(conn, reply)| format!("{} {reply}", letter(conn))).collect()
}

/// Splits off what has come whole: packets, and texts which end where a packet begins or the bytes do.
pub(crate) fn take(stream: &mut BytesMut) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Some(&first) = stream.first() {
        if first == 0 {
            match split(stream, usize::MAX).expect("a server sends packets") {
                Some(frame) => {
                    assert_eq!(frame.magic, Magic::Response, "a server answers with the magic of replies");
                    replies.push(Reply::Packet(frame.kind, frame.body));
                }
                None => return replies,
            }
        } else {
            let end = stream.iter().position(|&byte| byte == 0).unwrap_or(stream.len());
            replies.push(Reply::Text(stream.split_to(end).to_vec()));
        }
    }
    replies
}

/// One text for several in a row: it may have come in several reads.
pub(crate) fn joined(replies: Vec<Reply>) -> Vec<Reply> {
    let mut joined: Vec<Reply> = Vec::new();
    for reply in replies {
        match (joined.last_mut(), reply) {
            (Some(Reply::Text(before)), Reply::Text(more)) => before.extend(more),
            (_, reply) => joined.push(reply),
        }
    }
    joined
}
