//! Rules of tokens: making, revoking, dropping old ones.

use std::sync::Arc;

use super::{Applied, State, rules};
use crate::command::{Outcome, Refusal};
use crate::record::{EventKind, TokenRecord, TokenRole};

/// Tokens at once. Chosen.
pub const TOKENS_MAX: usize = 10_000;

/// Longest life of a token, milliseconds: 24 hours, and one for clocks that disagree.
pub const TOKEN_LIFE_MS_MAX: u64 = 25 * 3_600_000;

/// How long a token is kept for people to look at once it expired, milliseconds. Only when room is needed is
/// it dropped then.
pub const TOKEN_KEPT_AFTER_MS: u64 = 24 * 3_600_000;

/// From so many tokens on, old ones are dropped.
const TOKENS_NEARLY: usize = TOKENS_MAX / 10 * 9;

impl State {
    pub(super) fn create_token(&mut self, token: TokenRecord) -> Applied {
        rules::check_jti(&token.jti)?;
        rules::check_name(&token.name)?;
        rules::check_labels(&token.labels)?;
        rules::check_allowed(&token.labels_allowed)?;
        if !(1..=rules::USES_MAX_LIMIT).contains(&token.uses_max) {
            let why = format!("1 to {}, got {}", rules::USES_MAX_LIMIT, token.uses_max);
            return Err(rules::invalid("uses_max", why));
        }
        let life_ms = token.expires_ms.0.saturating_sub(self.now.0);
        if !(1..=TOKEN_LIFE_MS_MAX).contains(&life_ms) {
            return Err(rules::invalid("expires_ms", "must lie ahead, by at most 24 hours"));
        }
        if self.tokens.contains_key(&token.jti) {
            return Err(Refusal::TokenExists { jti: token.jti });
        }
        let old = self.tokens_to_drop();
        if self.tokens.len() - old.len() >= TOKENS_MAX {
            return Err(Refusal::LimitReached { what: "tokens".into(), limit: TOKENS_MAX as u64 });
        }
        for jti in old {
            self.digest.fold(&jti);
            self.tokens.remove(&jti);
        }
        let detail = if token.name.is_empty() { token.jti.clone() } else { token.name.clone() };
        self.note(EventKind::TokenCreated, None, None, &detail);
        self.digest.fold(&token);
        self.tokens.insert(token.jti.clone(), Arc::new(token));
        Ok(Outcome::Done)
    }

    /// A token that admits machines of this role now.
    ///
    /// # Errors
    /// [`Refusal::TokenInvalid`], whatever is wrong with it.
    pub(super) fn open_token(&self, jti: &str, role: TokenRole) -> Result<&TokenRecord, Refusal> {
        let token = self.tokens.get(jti).filter(|token| {
            // The stamp decides, which is the same on every server and never goes back.
            !token.revoked && self.now < token.expires_ms && token.role == role
        });
        token.map(AsRef::as_ref).ok_or(Refusal::TokenInvalid)
    }

    /// Tokens that expired long ago, when room is needed.
    fn tokens_to_drop(&self) -> Vec<String> {
        if self.tokens.len() < TOKENS_NEARLY {
            return Vec::new();
        }
        let is_old = |token: &&Arc<TokenRecord>| {
            token.expires_ms.0.saturating_add(TOKEN_KEPT_AFTER_MS) <= self.now.0
        };
        self.tokens.values().filter(is_old).map(|token| token.jti.clone()).collect()
    }

    pub(super) fn revoke_token(&mut self, jti: &str) -> Applied {
        let Some(token) = self.tokens.get_mut(jti) else {
            return Err(Refusal::TokenNotFound { jti: rules::cut(jti, 64).to_owned() });
        };
        if token.revoked {
            return Ok(Outcome::Done);
        }
        let token = Arc::make_mut(token);
        token.revoked = true;
        self.digest.fold(&(&token.jti, token.revoked));
        let detail = if token.name.is_empty() { jti.to_owned() } else { token.name.clone() };
        self.note(EventKind::TokenRevoked, None, None, &detail);
        Ok(Outcome::Done)
    }
}
