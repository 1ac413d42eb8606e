//! The hash that libgearman puts in the place of a unique `#`.

/// MurmurHash3_x86_32 of a payload, seeded with its length as libhashkit does.
pub(crate) fn payload_hash(payload: &[u8]) -> u32 {
    // Payloads have less than 4 GiB on the wire.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut hash = length.wrapping_mul(0xdead_beef);
    let (blocks, tail) = payload.as_chunks();
    for block in blocks {
        hash ^= scrambled(u32::from_le_bytes(*block));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let last = tail.iter().rev().fold(0, |last, &byte| last << 8 | u32::from(byte));
    hash ^= scrambled(last);
    hash ^= length;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn scrambled(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::payload_hash;

    #[test]
    fn hashes_are_libhashkits() {
        for (payload, hash) in [
            ("", 0),
            ("test", 3_766_773_432),
            ("hello world!", 1_840_336_538),
            // One, two and three bytes behind the last block of four.
            ("a", 2_289_228_744),
            ("ab", 2_181_799_184),
            ("abc", 634_628_250),
            ("abcde", 1_054_115_107),
        ] {
            assert_eq!(payload_hash(payload.as_bytes()), hash, "{payload:?}");
        }
    }
}
