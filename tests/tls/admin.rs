//! The admin commands over TLS, on every runtime.

use gearwheel::blocking::Server;

use crate::secured::{client_tls, server_tls};

fn server() -> Server {
    Server::builder().tls(server_tls()).bind("127.0.0.1:0").expect("a port")
}

#[test]
fn blocking() {
    let server = server();
    let admin = gearwheel::blocking::Admin::builder().server(server.local_addr()).tls(client_tls());
    let admin = admin.connect().expect("it listens");
    admin.create_function("f").expect("done");
    assert_eq!(admin.status().expect("an answer").len(), 1);
    let plain = gearwheel::blocking::Admin::builder().server(server.local_addr());
    plain.connect().map(|admin| admin.version().expect_err("it wants TLS")).expect("TCP alone stands");
}

#[cfg(feature = "mio")]
#[test]
fn mio() {
    let server = server();
    let admin = gearwheel::mio::Admin::builder().server(server.local_addr()).tls(client_tls());
    let admin = admin.connect().expect("it listens");
    admin.create_function("f").expect("done");
    assert_eq!(admin.status().expect("an answer").len(), 1);
}

#[cfg(feature = "smol")]
#[test]
fn smol() {
    let server = server();
    async_io::block_on(async {
        let admin = gearwheel::smol::Admin::builder().server(server.local_addr()).tls(client_tls());
        let admin = admin.connect().await.expect("it listens");
        let ask = async {
            admin.create_function("f").await.expect("done");
            assert_eq!(admin.status().await.expect("an answer").len(), 1);
        };
        futures_lite::future::or(ask, async {
            admin.run().await;
            panic!("it has a handle");
        })
        .await;
    });
}

#[cfg(feature = "tokio")]
#[test]
fn tokio() {
    let server = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let admin = gearwheel::tokio::Admin::builder().server(server.local_addr()).tls(client_tls());
        let admin = admin.connect().await.expect("it listens");
        tokio::spawn(admin.run());
        admin.create_function("f").await.expect("done");
        assert_eq!(admin.status().await.expect("an answer").len(), 1);
    });
}
