//! Packets as real peers send them, the table against a second list, and what must hold for any bytes.

#[path = "wire/text.rs"]
mod text;

use bytes::{Buf, Bytes, BytesMut};
use gearwheel::wire::frame::FrameError;
use gearwheel::wire::{
    DecodeError, Frame, HEADER, Magic, NulInArgument, PACKETS, Packet, PacketType, Sender, split, table,
};
use proptest::prelude::*;
use serde_json::Value;

const LIMIT: usize = 1 << 20;

#[test]
fn packets_of_real_peers_are_decoded_and_encoded_byte_for_byte() {
    let golden = golden();
    let packets = list(&golden["packets"]);
    assert_eq!(packets.len(), 83);
    for entry in packets {
        let bytes = hex(&entry["bytes"]);
        let (magic, packet) = decode_one(&bytes);
        assert_eq!(magic, if text(&entry["magic"]) == "request" { Magic::Request } else { Magic::Response });
        assert_eq!(u64::from(packet.kind().number()), entry["number"], "{entry}");
        assert_eq!(packet.kind().name(), Some(text(&entry["name"])));
        let arguments: Vec<_> = list(&entry["arguments"]).iter().map(hex).collect();
        assert_eq!(packet.arguments().collect::<Vec<_>>(), arguments, "{entry}");
        let mut again = BytesMut::new();
        packet.encode(magic, &mut again);
        assert_eq!(again, bytes, "{entry}");
    }
}

#[test]
fn every_packet_type_has_an_example_from_a_real_peer() {
    let golden = golden();
    for info in PACKETS {
        let name = Some(info.name);
        assert!(list(&golden["packets"]).iter().any(|entry| entry["name"].as_str() == name), "{}", info.name);
    }
}

#[test]
fn every_split_of_a_packet_gives_the_same_packet() {
    let golden = golden();
    for entry in list(&golden["packets"]) {
        let bytes = hex(&entry["bytes"]);
        let whole = frames([&bytes[..]]);
        assert_eq!(whole.len(), 1);
        for at in 0..=bytes.len() {
            assert_eq!(frames([&bytes[..at], &bytes[at..]]), whole, "split at {at}: {entry}");
        }
        assert_eq!(frames(bytes.chunks(1)), whole, "byte by byte: {entry}");
    }
}

#[test]
fn every_split_of_a_conversation_gives_the_same_packets() {
    let golden = golden();
    for exchange in list(&golden["exchanges"]) {
        let steps = list(&exchange["steps"]);
        let names: Vec<_> = steps.iter().map(|step| text(&step["name"])).collect();
        let bytes: Vec<u8> = steps.iter().flat_map(|step| hex(&step["bytes"])).collect();
        let whole = frames([&bytes[..]]);
        assert_eq!(whole.iter().map(|frame| frame.kind.name().unwrap()).collect::<Vec<_>>(), names);
        for frame in &whole {
            assert!(Packet::decode(frame.kind, frame.body.clone()).is_ok());
        }
        for at in 0..=bytes.len() {
            assert_eq!(frames([&bytes[..at], &bytes[at..]]), whole, "{}, split at {at}", exchange["name"]);
        }
        for size in 1..40 {
            assert_eq!(frames(bytes.chunks(size)), whole, "{}, {size} bytes at a time", exchange["name"]);
        }
    }
}

#[test]
fn malformed_packets_are_refused_with_the_reason() {
    let golden = golden();
    for entry in list(&golden["malformed"]) {
        let bytes = hex(&entry["bytes"]);
        let verdict = match split(&mut BytesMut::from(&bytes[..]), LIMIT) {
            Ok(None) => "incomplete".into(),
            Err(FrameError::BadMagic(magic)) => {
                assert_eq!(magic, bytes[..4]);
                "bad magic".into()
            }
            Err(FrameError::TooLarge { kind, size, limit }) => {
                assert_eq!((kind, size, limit), (PacketType::SUBMIT_JOB, 0xffff_ffff, LIMIT));
                "too large".into()
            }
            Ok(Some(frame)) => match Packet::decode(frame.kind, frame.body) {
                Ok(_) if frame.magic == Magic::Response => "a response".into(),
                Err(DecodeError::UnknownType(number)) => format!("unknown type {number}"),
                Err(DecodeError::MissingArgument { kind, argument }) => format!("{kind} ends before {argument}"),
                other => format!("{other:?}"),
            },
            other => format!("{other:?}"),
        };
        assert_eq!(verdict, text(&entry["verdict"]), "{}", entry["name"]);
    }
}

#[test]
fn the_errors_name_the_packet_the_argument_and_the_limit() {
    let mut stream = BytesMut::from(&b"\0REQ\0\0\0\x07\xff\0\0\0"[..]);
    assert_eq!(
        split(&mut stream, 4096).unwrap_err().to_string(),
        "SUBMIT_JOB announces 4278190080 bytes; the limit is 4096"
    );
    let decode = |kind, body| Packet::decode(PacketType::new(kind), Bytes::from_static(body)).unwrap_err().to_string();
    assert_eq!(decode(7, b"f\0u"), "SUBMIT_JOB ends before its argument `payload`");
    assert_eq!(decode(12, b"h"), "WORK_STATUS ends before its argument `numerator`");
    assert_eq!(decode(99, b""), "unknown packet type 99");
    assert_eq!(PacketType::new(99).to_string(), "packet type 99");
}

#[test]
fn the_first_missing_argument_is_named_for_every_type() {
    for info in PACKETS {
        for left in 1..info.arguments.len() {
            let body = info.arguments[..left].join("\0");
            let missing = DecodeError::MissingArgument { kind: info.kind, argument: info.arguments[left] };
            assert_eq!(Packet::decode(info.kind, body.into()), Err(missing));
        }
        assert!(Packet::decode(info.kind, info.arguments.join("\0").into()).is_ok());
    }
}

#[test]
fn the_rows_are_numbered_from_1_to_42_in_order() {
    assert!(PACKETS.iter().map(|info| info.kind.number()).eq(1..=42));
}

#[test]
fn the_rows_agree_with_what_real_servers_count_as_arguments() {
    let golden = golden();
    let counts = golden["arguments"].as_object().expect("an object");
    assert_eq!(counts.len(), PACKETS.len());
    let opaque: Vec<_> = list(&golden["opaque"]).iter().map(text).collect();
    for info in PACKETS {
        assert_eq!(counts[info.name], info.arguments.len(), "{}", info.name);
        assert_eq!(opaque.contains(&info.name), info.opaque, "{}", info.name);
    }
}

/// The second list: written by hand beside the table, so that no slip in a row goes unseen.
macro_rules! second_list {
    ($($number:literal $NAME:ident $Type:ident [$($sender:ident)*] ($($argument:ident)* $(; $opaque:ident)?))+) => {
        const SECOND_LIST: &[(u32, &str, &[Sender], &[&str], bool)] = &[$((
            $number,
            stringify!($NAME),
            &[$(Sender::$sender),*],
            &[$(stringify!($argument),)* $(stringify!($opaque))?],
            false $(|| !stringify!($opaque).is_empty())?,
        ),)+];

        #[test]
        fn every_type_is_made_of_its_arguments_and_gives_them_back() {
            $({
                let packet = table::$Type::new(
                    $(stringify!($argument).as_bytes(),)*
                    $(concat!("\0", stringify!($opaque), "\0\0").as_bytes())?
                ).expect(stringify!($NAME));
                assert_eq!(table::$Type::KIND.number(), $number);
                $(assert_eq!(packet.$argument(), stringify!($argument).as_bytes());)*
                $(assert_eq!(packet.$opaque(), concat!("\0", stringify!($opaque), "\0\0").as_bytes());)?
                let mut bytes = BytesMut::new();
                packet.encode(Magic::Request, &mut bytes);
                assert_eq!(decode_one(&bytes), (Magic::Request, Packet::$Type(packet.clone())));
                $(assert_eq!(packet.into_payload(), concat!("\0", stringify!($opaque), "\0\0").as_bytes());)?
            })+
        }
    };
}

second_list! {
    1 CAN_DO CanDo [Worker] (function)
    2 CANT_DO CantDo [Worker] (function)
    3 RESET_ABILITIES ResetAbilities [Worker] ()
    4 PRE_SLEEP PreSleep [Worker] ()
    5 UNUSED Unused [] ()
    6 NOOP Noop [Server] ()
    7 SUBMIT_JOB SubmitJob [Client] (function unique; payload)
    8 JOB_CREATED JobCreated [Server] (handle)
    9 GRAB_JOB GrabJob [Worker] ()
    10 NO_JOB NoJob [Server] ()
    11 JOB_ASSIGN JobAssign [Server] (handle function; payload)
    12 WORK_STATUS WorkStatus [Worker Server] (handle numerator denominator)
    13 WORK_COMPLETE WorkComplete [Worker Server] (handle; payload)
    14 WORK_FAIL WorkFail [Worker Server] (handle)
    15 GET_STATUS GetStatus [Client] (handle)
    16 ECHO_REQ EchoReq [Client Worker] (; payload)
    17 ECHO_RES EchoRes [Server] (; payload)
    18 SUBMIT_JOB_BG SubmitJobBg [Client] (function unique; payload)
    19 ERROR Error [Server] (code text)
    20 STATUS_RES StatusRes [Server] (handle known running numerator denominator)
    21 SUBMIT_JOB_HIGH SubmitJobHigh [Client] (function unique; payload)
    22 SET_CLIENT_ID SetClientId [Worker] (id)
    23 CAN_DO_TIMEOUT CanDoTimeout [Worker] (function timeout)
    24 ALL_YOURS AllYours [Worker] ()
    25 WORK_EXCEPTION WorkException [Worker Server] (handle; payload)
    26 OPTION_REQ OptionReq [Client] (option)
    27 OPTION_RES OptionRes [Server] (option)
    28 WORK_DATA WorkData [Worker Server] (handle; payload)
    29 WORK_WARNING WorkWarning [Worker Server] (handle; payload)
    30 GRAB_JOB_UNIQ GrabJobUniq [Worker] ()
    31 JOB_ASSIGN_UNIQ JobAssignUniq [Server] (handle function unique; payload)
    32 SUBMIT_JOB_HIGH_BG SubmitJobHighBg [Client] (function unique; payload)
    33 SUBMIT_JOB_LOW SubmitJobLow [Client] (function unique; payload)
    34 SUBMIT_JOB_LOW_BG SubmitJobLowBg [Client] (function unique; payload)
    35 SUBMIT_JOB_SCHED SubmitJobSched [Client] (function unique minute hour day_of_month month day_of_week; payload)
    36 SUBMIT_JOB_EPOCH SubmitJobEpoch [Client] (function unique epoch; payload)
    37 SUBMIT_REDUCE_JOB SubmitReduceJob [Client] (function unique reducer aggregator; payload)
    38 SUBMIT_REDUCE_JOB_BACKGROUND SubmitReduceJobBackground [Client] (function unique reducer aggregator; payload)
    39 GRAB_JOB_ALL GrabJobAll [Worker] ()
    40 JOB_ASSIGN_ALL JobAssignAll [Server] (handle function unique reducer; payload)
    41 GET_STATUS_UNIQUE GetStatusUnique [Client] (unique)
    42 STATUS_RES_UNIQUE StatusResUnique [Server] (unique known running numerator denominator clients)
}

#[test]
fn the_table_agrees_with_the_second_list() {
    let rows: Vec<_> =
        PACKETS.iter().map(|info| (info.kind.number(), info.name, info.senders, info.arguments, info.opaque)).collect();
    assert_eq!(rows, SECOND_LIST);
    for (number, name, ..) in SECOND_LIST {
        let kind = PacketType::new(*number);
        assert_eq!(kind.name(), Some(*name));
        assert!(kind.info().is_some_and(|info| !info.doc.trim().is_empty()));
    }
    assert_eq!(PacketType::new(0).info().map(|info| info.name), None);
    assert_eq!(PacketType::new(43).info().map(|info| info.name), None);
}

#[test]
fn a_nul_in_a_name_is_refused_before_it_gets_on_the_wire() {
    let refused = table::SubmitJob::new(b"f", b"u\0", b"\0").unwrap_err();
    assert_eq!(refused, NulInArgument { kind: PacketType::SUBMIT_JOB, argument: "unique" });
    assert_eq!(refused.to_string(), "argument `unique` of SUBMIT_JOB holds a NUL byte");
    assert!(table::WorkComplete::new(b"h", b"\0\0").is_ok());
    assert!(table::WorkFail::new(b"the last argument may\0").is_ok());
}

#[test]
fn an_over_limit_packet_is_refused_from_its_header_before_room_is_made() {
    for limit in [0, 1, 16, 4096] {
        let mut stream = BytesMut::from(&header(7, limit + 1)[..]);
        let capacity = stream.capacity();
        assert!(matches!(split(&mut stream, limit), Err(FrameError::TooLarge { .. })));
        assert_eq!(stream.capacity(), capacity);
        let mut stream = BytesMut::from(&header(16, limit)[..]);
        stream.resize(HEADER + limit, b'x');
        assert_eq!(split(&mut stream, limit).expect("within the limit").expect("whole").body.len(), limit);
    }
}

#[test]
fn a_header_alone_claims_no_memory() {
    let mut stream = BytesMut::from(&header(7, 1 << 30)[..]);
    let capacity = stream.capacity();
    assert_eq!(split(&mut stream, 1 << 30), Ok(None));
    assert_eq!(stream.capacity(), capacity);
}

#[test]
fn an_unfinished_packet_claims_no_more_than_a_few_times_what_has_come_of_it() {
    let size = 8 << 20;
    let mut stream = BytesMut::from(&header(16, size)[..]);
    let piece = [b'x'; 1000];
    let mut grown = 0;
    while stream.len() < HEADER + size {
        assert_eq!(split(&mut stream, 1 << 30), Ok(None));
        assert!(stream.capacity() <= 5 * stream.len() + 4096, "{} for {}", stream.capacity(), stream.len());
        let capacity = stream.capacity();
        stream.extend_from_slice(&piece[..piece.len().min(HEADER + size - stream.len())]);
        grown += usize::from(stream.capacity() != capacity);
    }
    let body = split(&mut stream, 1 << 30).expect("good").expect("whole").body;
    assert_eq!(body.len(), size);
    assert!(grown < 20, "a large packet is not copied again and again: {grown} times");
}

#[test]
fn room_is_made_for_a_large_packet_so_that_the_driver_can_read_straight_into_it() {
    let mut stream = BytesMut::from(&header(16, 1 << 20)[..]);
    stream.resize(64 << 10, b'x');
    assert_eq!(split(&mut stream, 1 << 20), Ok(None));
    assert!(stream.capacity() >= 128 << 10);
}

#[test]
fn bodies_are_slices_of_the_stream() {
    let mut stream = BytesMut::new();
    table::EchoReq::new(&[7; 5000]).expect("opaque").encode(Magic::Request, &mut stream);
    let place = stream[HEADER..].as_ptr();
    let frame = split(&mut stream, LIMIT).expect("good").expect("whole");
    assert_eq!(frame.body.as_ptr(), place);
    let Packet::EchoReq(packet) = Packet::decode(frame.kind, frame.body).expect("opaque") else { panic!() };
    assert_eq!(packet.into_payload().as_ptr(), place);
}

fn bytes_of_names() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(1..=255u8, 0..80),
        1 => prop::collection::vec(1..=1u8, 0..40),
        1 => prop::collection::vec(prop_oneof![Just(0x80u8), Just(0xff), Just(1)], 0..40),
    ]
}

fn any_packet() -> impl Strategy<Value = (Magic, PacketType, Vec<Vec<u8>>)> {
    (any::<bool>(), 0..PACKETS.len()).prop_flat_map(|(request, row)| {
        let info = &PACKETS[row];
        let names = prop::collection::vec(bytes_of_names(), info.arguments.len());
        let payload = prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0)], 0..300);
        let magic = if request { Magic::Request } else { Magic::Response };
        (Just(magic), Just(info.kind), names, payload).prop_map(move |(magic, kind, mut arguments, payload)| {
            if info.opaque {
                arguments.pop();
                arguments.push(payload);
            }
            (magic, kind, arguments)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded_alike((magic, kind, arguments) in any_packet()) {
        let packet = Packet::decode(kind, arguments.join(&0).into()).expect("as many arguments as the row has");
        prop_assert_eq!(packet.arguments().collect::<Vec<_>>(), arguments);
        let mut bytes = BytesMut::new();
        packet.encode(magic, &mut bytes);
        prop_assert_eq!(decode_one(&bytes), (magic, packet));
    }

    #[test]
    fn any_chunking_gives_the_same_packets(
        packets in prop::collection::vec(any_packet(), 0..12),
        cuts in prop::collection::vec(1..200usize, 1..50),
    ) {
        let mut bytes = BytesMut::new();
        for (magic, kind, arguments) in &packets {
            Packet::decode(*kind, arguments.join(&0).into()).expect("good").encode(*magic, &mut bytes);
        }
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        let frames = frames(pieces);
        prop_assert_eq!(frames.len(), packets.len());
        for (frame, (magic, kind, arguments)) in frames.iter().zip(&packets) {
            prop_assert_eq!((frame.magic, frame.kind), (*magic, *kind));
            prop_assert_eq!(&frame.body[..], arguments.join(&0));
        }
    }

    #[test]
    fn any_bytes_are_packets_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
        if magic && bytes.len() >= HEADER {
            bytes[..8].copy_from_slice(b"\0REQ\0\0\0\x07");
            bytes[8..11].fill(0);
        }
        let mut stream = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = split(&mut stream, LIMIT) {
            let body = frame.body.clone();
            if let Ok(packet) = Packet::decode(frame.kind, frame.body) {
                prop_assert_eq!(packet.arguments().collect::<Vec<_>>().join(&0), body);
            }
        }
    }
}

fn golden() -> Value {
    serde_json::from_str(include_str!("data/wire.json")).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = text(value);
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal")).collect()
}

fn header(kind: u32, size: usize) -> Vec<u8> {
    [&b"\0REQ"[..], &kind.to_be_bytes(), &u32::try_from(size).expect("a size").to_be_bytes()].concat()
}

/// The one packet that `bytes` are.
fn decode_one(bytes: &[u8]) -> (Magic, Packet) {
    let mut stream = BytesMut::from(bytes);
    let frame = split(&mut stream, LIMIT).expect("a packet").expect("a whole packet");
    assert!(!stream.has_remaining());
    (frame.magic, Packet::decode(frame.kind, frame.body).expect("a packet of the table"))
}

/// The packets of a stream that comes in `pieces`, none of which may leave a rest.
fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut stream = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        stream.extend_from_slice(piece);
        while let Some(frame) = split(&mut stream, LIMIT).expect("packets") {
            frames.push(frame);
        }
    }
    assert!(!stream.has_remaining());
    frames
}

#[test]
fn a_small_packet_does_not_keep_the_buffer_of_a_large_one() {
    let mut stream = BytesMut::new();
    for size in [1 << 20, 5] {
        stream.extend_from_slice(&Magic::Response.bytes());
        stream.extend_from_slice(&PacketType::ECHO_RES.number().to_be_bytes());
        stream.extend_from_slice(&u32::to_be_bytes(size));
        stream.resize(stream.len() + size as usize, b'x');
    }
    let mut next = || split(&mut stream, 1 << 20).expect("packets").expect("a packet").body;
    let (large, small) = (next(), next());
    assert_eq!((large.len(), &small[..]), (1 << 20, &b"xxxxx"[..]));
    assert_ne!(small.as_ptr(), large.as_ptr_range().end.wrapping_add(12), "another buffer");
}
