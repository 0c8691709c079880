

pub mod marker;
pub mod record;
pub mod seed;
pub mod topics;
