//! What the fuzz targets do with their input. The ordinary tests replay the corpus on it.

pub mod chunks;
pub mod packet;
