//! The contracts of Coffer: every RPC and every event, compiled from the `.proto` files of this crate.
//!
//! The modules follow the protobuf packages. `docs` of a field stand in the `.proto` files and are carried over.

#![allow(
    missing_docs,
    clippy::all,
    reason = "generated from the .proto files, where the documentation stands"
)]

pub mod contracts;
pub mod subscriptions;

/// All contracts and what they import, as an encoded `google.protobuf.FileDescriptorSet`: for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("file_descriptor_set");

/// The envelope in which every fact travels.
pub mod events {
    pub mod v1 {
        tonic::include_proto!("events.v1");
    }
}

/// Who: accounts, sessions, tokens.
pub mod identity {
    pub mod v1 {
        tonic::include_proto!("identity.v1");
    }
}

/// Messages to one person.
pub mod notify {
    pub mod v1 {
        tonic::include_proto!("notify.v1");
    }
}

/// When: SMS schedules.
pub mod scheduler {
    pub mod v1 {
        tonic::include_proto!("scheduler.v1");
    }
}

/// Money.
pub mod wallet {
    pub mod v1 {
        tonic::include_proto!("wallet.v1");
    }
}
