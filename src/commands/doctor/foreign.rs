//! What others say, made fit for the screen: whoever has the port may say anything, also
//! what moves a terminal's cursor or looks like a line of the report.

use crate::commands::text::excerpt;
use crate::health::probe::ProbeResult;
use crate::hub::HINT_CHANNEL_OFF;

/// An answer with no text but such lines, and our own.
pub fn answer(answer: ProbeResult) -> ProbeResult {
    let ProbeResult::Health(mut health) = answer else {
        return answer;
    };
    health.version = excerpt(&health.version);
    health.host.name = health.host.name.as_deref().map(excerpt);
    health.host.version = health.host.version.as_deref().map(excerpt);
    // A sentence that tells people what to do is no stranger's to write.
    health.channel.hint = (health.channel.proven == Some(false)).then_some(HINT_CHANNEL_OFF.into());
    ProbeResult::Health(health)
}
