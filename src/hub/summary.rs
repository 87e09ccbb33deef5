//! What can be told about the hub from outside.

/// Figures for `/healthz` and `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Sessions there are.
    pub sessions: usize,
    /// Clients connected.
    pub clients: usize,
    /// Permission requests waiting.
    pub permissions: usize,
    /// What has happened since the start.
    pub counts: Counts,
    /// Whether Claude Code takes messages.
    pub host_ready: bool,
    /// Its name and version, if it has introduced itself.
    pub host: Option<(String, String)>,
}

/// What has happened since the start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Messages taken from clients.
    pub messages: u64,
    /// Messages sent again, and not taken twice.
    pub resent: u64,
    /// Replies of Claude's.
    pub replies: u64,
    /// Verdicts given by clients.
    pub verdicts: u64,
    /// Client frames refused.
    pub refused: u64,
}
