//! What the fuzz targets do with their input. The ordinary tests replay the corpus on it.

pub mod admin;
pub mod chunks;
pub mod client;
pub mod cursor;
pub mod packet;
pub mod pair;
pub mod server;
pub mod worker;

#[path = "../../tests/common/net/mod.rs"]
pub mod net;
#[path = "../../tests/common/session.rs"]
pub mod session;
#[path = "../../tests/common/simulation/mod.rs"]
pub mod simulation;
