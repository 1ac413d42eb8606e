//! The job server machine, in memory and on virtual time.

#[path = "server/admin.rs"]
mod admin;
#[path = "server/edges.rs"]
mod edges;
#[path = "server/faults.rs"]
mod faults;
#[path = "server/gather.rs"]
mod gather;
#[path = "server/jobs.rs"]
mod jobs;
#[path = "server/lifecycle.rs"]
mod lifecycle;
#[path = "server/limits.rs"]
mod limits;
#[path = "server/net.rs"]
mod net;
#[path = "server/order.rs"]
mod order;
#[path = "server/patience.rs"]
mod patience;
#[path = "server/random.rs"]
mod random;
#[path = "server/vectors.rs"]
mod vectors;
