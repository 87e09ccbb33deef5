//! Verdicts: which permission requests were decided, how, and by whom.

use std::iter::once;

use super::answers::fitting;
use super::opening::Purpose;
use super::stored::{Change, Query, Verdict};
use super::{AgentId, Effects, Hub, Now, PermissionRequest};
use crate::json;
use crate::protocol::{ConnId, MAX_LIMIT, ServerMessage, VerdictItem};

impl Hub {
    /// Keeps a verdict. In memory are the last [`MAX_LIMIT`] of an agent.
    pub(super) fn note_verdict(
        &mut self,
        now: Now,
        agent: AgentId,
        request: &PermissionRequest,
        allowed: bool,
        by: &str,
    ) {
        let verdict = Verdict {
            request_id: request.request_id.as_str().into(),
            tool_name: request.tool_name.as_str().into(),
            description: request.description.as_str().into(),
            allowed,
            by: by.into(),
            ts: now.timestamp(),
        };
        let agent = &mut self.agents[agent];
        if self.journal.is_kept() {
            self.journal.push(Change::Verdict {
                agent: agent.label.clone(),
                verdict: verdict.clone(),
            });
        }
        if agent.verdicts.len() == MAX_LIMIT {
            agent.verdicts.pop_front();
        }
        agent.verdicts.push_back(verdict);
    }

    /// Sends an operator the last verdicts.
    pub(super) fn fetch_verdicts(&mut self, client: ConnId, limit: usize, out: &mut impl Effects) {
        let agent = &self.agents[self.default_agent];
        if self.journal.is_open() && agent.verdicts.len() < limit {
            let query = Query::Verdicts {
                agent: agent.label.clone(),
                limit,
            };
            return self.ask_for(client, Purpose::Verdicts(client, limit), query);
        }
        self.send_verdicts(client, limit, Vec::new(), out);
    }

    /// Sends an operator the last verdicts: those in memory, and before them those that the store has besides.
    pub(super) fn send_verdicts(
        &mut self,
        client: ConnId,
        limit: usize,
        mut verdicts: Vec<Verdict>,
        out: &mut impl Effects,
    ) {
        let latest = &self.agents[self.default_agent].verdicts;
        verdicts.retain(|stored| !latest.contains(stored));
        verdicts.extend(latest.iter().cloned());
        verdicts.drain(..verdicts.len().saturating_sub(limit));
        let items: Vec<_> = verdicts.iter().map(item).collect();
        let frame = |verdicts, more| ServerMessage::Verdicts { verdicts, more };
        let room = self.limits.max_frame - json::len(&frame(Vec::new(), true));
        let mut rest = &items[..];
        loop {
            let fits = fitting(rest.iter().map(json::len), room).min(rest.len());
            let (first, others) = rest.split_at(fits);
            out.send(once(client), &frame(first.to_vec(), !others.is_empty()));
            rest = others;
            if rest.is_empty() {
                return;
            }
        }
    }
}

fn item(verdict: &Verdict) -> VerdictItem<&str> {
    VerdictItem {
        request_id: &verdict.request_id,
        tool_name: &verdict.tool_name,
        description: &verdict.description,
        allowed: verdict.allowed,
        by: &verdict.by,
        ts: &verdict.ts,
    }
}
