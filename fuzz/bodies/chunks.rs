//! The first bytes say how the rest is cut: any cut gives the same packets, then the same error.

use bytes::BytesMut;
use gearwheel::wire::frame::FrameError;
use gearwheel::wire::{Frame, split};

const LIMIT: usize = 4 << 10;

pub fn run(data: &[u8]) {
    let Some((cuts, stream)) = data.split_first_chunk::<8>() else { return };
    let mut rest = stream;
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((usize::from(*cut) + 1).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    assert_eq!(packets(&pieces), packets(&[stream]));
}

fn packets(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>, usize) {
    let mut stream = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        stream.extend_from_slice(piece);
        loop {
            match split(&mut stream, LIMIT) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                // What comes behind it is not looked at, so how much of it has come tells nothing.
                Err(error) => return (frames, Some(error), 0),
            }
        }
    }
    (frames, None, stream.len())
}
