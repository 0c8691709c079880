//! DescribeUserScramCredentials (50) and AlterUserScramCredentials (51), v0: read from the source (mechanisms and
//! iterations only, as brokers tell them), altered on both: the same salted password serves both. An entry is a user.
//! Nothing of a credential is ever logged.

use std::collections::{HashMap, HashSet};

use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, RequestKind, ResponseKind,
};
use kafka_protocol::protocol::StrBytes;

use super::both::{Entries, Refusal};
use crate::error::code;
use crate::ids::Side;

pub struct AlterUserScramCredentials {
    request: AlterUserScramCredentialsRequest,
    /// In the order in which the request names them first.
    users: Vec<StrBytes>,
    /// Of these, the credentials to go.
    deletions: HashMap<StrBytes, usize>,
    upserted: HashSet<StrBytes>,
}

impl AlterUserScramCredentials {
    pub fn new(request: AlterUserScramCredentialsRequest) -> Self {
        let names = request.deletions.iter().map(|d| &d.name).chain(request.upsertions.iter().map(|u| &u.name));
        let mut seen = HashSet::new();
        let users = names.filter(|name| seen.insert((*name).clone())).cloned().collect();
        let mut deletions = HashMap::new();
        for deletion in &request.deletions {
            *deletions.entry(deletion.name.clone()).or_insert(0) += 1;
        }
        let upserted = request.upsertions.iter().map(|u| u.name.clone()).collect();
        Self { request, users, deletions, upserted }
    }
}

impl Entries for AlterUserScramCredentials {
    fn count(&self) -> usize {
        self.users.len()
    }

    fn refusal(&self, _: usize) -> Option<Refusal> {
        None
    }

    fn request(&mut self, _: Side, entries: &[usize]) -> Option<RequestKind> {
        let users: HashSet<&StrBytes> = entries.iter().filter_map(|i| self.users.get(*i)).collect();
        let deletions = self.request.deletions.iter().filter(|d| users.contains(&d.name)).cloned().collect();
        let upsertions = self.request.upsertions.iter().filter(|u| users.contains(&u.name)).cloned().collect();
        let request = AlterUserScramCredentialsRequest::default().with_deletions(deletions).with_upsertions(upsertions);
        Some(RequestKind::AlterUserScramCredentials(request))
    }

    fn said(&mut self, _: Side, entries: &[usize], answer: ResponseKind) -> (i32, Vec<Result<(), Refusal>>) {
        let ResponseKind::AlterUserScramCredentials(answer) = answer else { return (0, vec![]) };
        let said: HashMap<StrBytes, Result<(), Refusal>> =
            answer.results.into_iter().map(|r| (r.user, Refusal::said(r.error_code, r.error_message))).collect();
        let of = |i: &usize| self.users.get(*i).and_then(|user| said.get(user).cloned());
        let said = entries.iter().map(|i| of(i).unwrap_or_else(|| Err(Refusal::unanswered())));
        (answer.throttle_time_ms, said.collect())
    }

    /// One credential that is to go, and is not there. Of several nobody knows which were there.
    fn is_done(&self, entry: usize, refusal: &Refusal) -> bool {
        let one = |user: &StrBytes| self.deletions.get(user) == Some(&1) && !self.upserted.contains(user);
        refusal.error == code::RESOURCE_NOT_FOUND && self.users.get(entry).is_some_and(one)
    }

    fn answer(&mut self, outcomes: Vec<Result<(), Refusal>>, throttle_time_ms: i32) -> ResponseKind {
        let results = self.users.iter().zip(outcomes).map(|(user, outcome)| {
            let refusal = outcome.err();
            AlterUserScramCredentialsResult::default()
                .with_user(user.clone())
                .with_error_code(refusal.as_ref().map_or(0, |r| r.error))
                .with_error_message(refusal.and_then(|r| r.message))
        });
        let results = results.collect();
        let answer = AlterUserScramCredentialsResponse::default().with_throttle_time_ms(throttle_time_ms);
        ResponseKind::AlterUserScramCredentials(answer.with_results(results))
    }
}
