//! Exchanges as captured from gearmand, byte for byte; malformed bytes; text lines.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::net::{Net, config};

fn wire() -> Value {
    serde_json::from_str(include_str!("../data/wire.json")).expect("JSON")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().expect("a list")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect("a text")
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = text(value, "bytes");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal")).collect()
}

/// Its client is another one than that of the others, which has set the option.
const WITHOUT_OPTION: &str = "exception, without the option: WORK_FAIL with a trailing NUL";

/// Where we mean to differ: gearmand ends this handle with a NUL.
fn intended(exchange: &str, mut expected: Vec<u8>) -> Vec<u8> {
    if exchange == WITHOUT_OPTION && expected[7] == 14 {
        assert_eq!(expected.pop(), Some(0));
        expected[11] -= 1;
    }
    expected
}

#[test]
fn every_exchange_with_gearmand_is_repeated_byte_for_byte() {
    let mut net = Net::new();
    let mut conns = BTreeMap::new();
    let mut got = BTreeMap::<String, Vec<u8>>::new();
    let wire = wire();
    for exchange in list(&wire, "exchanges") {
        let name = text(exchange, "name");
        if name == "queue full" {
            // There the function had been made known and limited before.
            let admin = net.connect();
            assert_eq!(net.text(admin, "create function full\nmaxqueue full 1\n"), "OK\r\nOK\r\n");
            net.close(admin);
        }
        for (step, index) in list(exchange, "steps").iter().zip(0..) {
            let at = format!("{name}, step {index}");
            let (from, to) = (text(step, "from"), text(step, "to"));
            let peer = match if from == "server" { to } else { from } {
                "client" if name == WITHOUT_OPTION => "another client",
                peer => peer,
            };
            let conn = *conns.entry(peer.to_owned()).or_insert_with(|| net.connect());
            if from == "server" {
                let expected = intended(name, bytes(step));
                let stream = got.entry(peer.to_owned()).or_default();
                stream.extend(net.take_bytes(conn));
                let rest = stream.split_off(expected.len().min(stream.len()));
                assert_eq!(*stream, expected, "{at}");
                *stream = rest;
            } else {
                net.send_bytes(conn, &bytes(step));
            }
        }
        for (peer, conn) in &conns {
            assert!(net.take_bytes(*conn).is_empty(), "{name}: {peer} got no more");
        }
    }
}

#[test]
fn malformed_bytes_are_answered_as_the_list_says() {
    for malformed in list(&wire(), "malformed") {
        let name = text(malformed, "name");
        let mut net = Net::with(config());
        let conn = net.connect();
        net.send_bytes(conn, &bytes(malformed));
        let answer = net.take(conn);
        let is_closed = net.disconnected == [conn];
        let closed = is_closed && answer.is_empty();
        let verdict = text(malformed, "verdict");
        match verdict {
            "bad magic" => assert!(closed, "{name}: {answer:?}"),
            "too large" => assert!(is_closed && answer[0].starts_with("ERROR ARGUMENT_TOO_LARGE"), "{name}"),
            "incomplete" => assert!(!is_closed && answer.is_empty(), "{name}: {answer:?}"),
            "a response" => assert_eq!(answer, ["ERROR INVALID_MAGIC|Request magic expected"], "{name}"),
            _ if verdict.starts_with("unknown type") => assert!(closed, "{name}: {answer:?}"),
            _ if verdict.contains(" ends before ") => {
                assert!(!is_closed && answer[0].starts_with("ERROR INVALID_ARGUMENTS"), "{name}");
            }
            other => panic!("{name}: a verdict of {other}"),
        }
    }
}

#[test]
fn every_text_line_is_answered_as_by_gearmand() {
    let mut config = config();
    config.version = "1.1.20+ds".into();
    let mut net = Net::with(config);
    let conn = net.connect();
    for line in list(&wire(), "lines") {
        assert_eq!(net.text(conn, text(line, "line")), text(line, "reply"));
    }
}
