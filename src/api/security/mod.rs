//! Who may do what, and how much: ACLs, client quotas, SCRAM credentials. Read from the source, written to both
//! (PROTOCOL.md section 9). Delegation tokens belong to one cluster each and are not offered (rule 4).

pub mod acls;
pub mod both;
pub mod delete_acls;
pub mod quotas;
pub mod read;
pub mod scram;

pub use acls::CreateAcls;
pub use both::Both;
pub use delete_acls::DeleteAcls;
pub use quotas::AlterClientQuotas;
pub use read::Read;
pub use scram::AlterUserScramCredentials;
