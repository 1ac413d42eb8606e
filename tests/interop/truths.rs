//! What servers, clients and workers really do, beyond round trips.
