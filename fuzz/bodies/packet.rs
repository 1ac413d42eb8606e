//! Bytes as a stream of packets: what is decoded is encoded to the same bytes, and decoded again to the same packet.

use bytes::BytesMut;
use gearwheel::wire::{HEADER, Magic, Packet, PacketType, split};

const LIMIT: usize = 64 << 10;

pub fn run(data: &[u8]) {
    let mut stream = BytesMut::from(data);
    let mut taken = 0;
    while let Ok(Some(frame)) = split(&mut stream, LIMIT) {
        let bytes = &data[taken..][..HEADER + frame.body.len()];
        taken += bytes.len();
        assert_eq!(stream.len(), data.len() - taken, "a frame takes its own bytes and no more");
        if let Ok(packet) = Packet::decode(frame.kind, frame.body) {
            round_trip(frame.magic, frame.kind, &packet, bytes);
        }
    }
    assert!(stream.capacity() <= 4 * data.len() + LIMIT, "an unfinished packet claims little");
}

fn round_trip(magic: Magic, kind: PacketType, packet: &Packet, bytes: &[u8]) {
    let info = kind.info().expect("only types of the table are decoded");
    assert_eq!(packet.kind(), kind);
    let mut again = BytesMut::new();
    packet.encode(magic, &mut again);
    assert_eq!(again, bytes, "{packet:?}");
    let arguments: Vec<&[u8]> = packet.arguments().collect();
    assert_eq!(arguments.len(), info.arguments.len());
    if let Some((_, names)) = arguments.split_last() {
        assert!(names.iter().all(|name| !name.contains(&0)), "{packet:?}");
        assert_eq!(arguments.join(&0), bytes[HEADER..], "{packet:?}");
    }
    let frame = split(&mut again, LIMIT).expect("what was encoded").expect("whole");
    assert_eq!((frame.magic, frame.kind), (magic, kind));
    assert_eq!(Packet::decode(kind, frame.body).as_ref(), Ok(packet));
}
